package raftstore_test

import (
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

// sim drives three stores with several groups by hand. All randomness comes
// from one seed, raft's election timeouts included.
type sim struct {
	t      *testing.T
	rng    *rand.Rand
	queue  *memtransport.Queue
	flying []memtransport.Envelope
	nodes  [maxSimNodes]*simNode // by node id, from 1
	size   int                   // nodes; the first three found the groups, the others may join
	groups int
	cut    [maxSimNodes]bool // isolated nodes
	// breakWrite makes a node's next write fail, after the messages that may
	// leave before it have left.
	breakWrite [maxSimNodes]bool
	broken     [maxSimNodes]bool // the node's store stopped because of that

	nextCommand uint64
	acked       map[uint64]uint64 // command -> index, by group in the high bits
	refused     map[uint64]bool   // surely without effect
	applied     [8]map[uint64]uint64
	trimmed     [8]uint64 // the highest index that any node was told to trim
	reads       int
	restarts    int // of snapshots whose receiver forgot
	resent      int // chunks of snapshots
	chunks      map[[2]uint64]bool
	trims       uint64 // logs that are shorter in the end
	trace       uint64

	added                                                   [8][maxSimNodes]bool // learners that somebody tried to add
	changesAsked, changesAnswered, changesMade, changesLost int
	departures                                              int
}

const maxSimNodes = 9

type simNode struct {
	store  *raftstore.Store
	log    *memlog.Store
	groups []*raftstore.Group // nil: removed
	chains []*simMachine
	// removed are the groups that say that the node is no member any more.
	removed []int
}

// simMachine checks on every apply that all replicas, over all restarts,
// apply the same command at the same index.
type simMachine struct {
	chain
	sim   *sim
	group int
}

func (m *simMachine) Apply(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	id := binary.BigEndian.Uint64(e.Data)
	if was, ok := m.sim.applied[m.group][e.Index]; ok && was != id {
		m.sim.t.Fatalf("group %d: command %d at index %d, was %d", m.group, id, e.Index, was)
	}
	if m.sim.refused[id] {
		m.sim.t.Fatalf("command %d was refused and is applied at %d", id, e.Index)
	}
	m.sim.applied[m.group][e.Index] = id
	return m.chain.Apply(e, rows)
}

var errDisk = errors.New("disk broke")

// seededReader replaces crypto/rand.Reader.
type seededReader struct{ rng *rand.Rand }

func (r seededReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.rng.Uint32())
	}
	return len(b), nil
}

func newSim(t *testing.T, seed uint64, groups, size int) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), groups: groups, size: size,
		acked: map[uint64]uint64{}, refused: map[uint64]bool{},
		chunks: map[[2]uint64]bool{},
	}
	for g := range groups {
		s.applied[g] = map[uint64]uint64{}
	}
	old := crand.Reader
	crand.Reader = seededReader{rand.New(rand.NewPCG(seed, 2))}
	t.Cleanup(func() { crand.Reader = old })
	s.queue = memtransport.NewQueue(func(from, to raftstore.NodeID) bool { return s.cut[from] || s.cut[to] })
	for id := 1; id <= s.size; id++ {
		s.boot(id, memlog.New(func(bool) error {
			if s.breakWrite[id] {
				s.breakWrite[id] = false
				return errDisk
			}
			return nil
		}))
	}
	return s
}

func (s *sim) boot(id int, log *memlog.Store) {
	was := s.nodes[id]
	n := &simNode{log: log}
	s.nodes[id] = n
	var err error
	n.store, err = raftstore.Open(raftstore.Config{
		NodeID: raftstore.NodeID(id), Log: log, Transport: s.queue.Transport(raftstore.NodeID(id)),
		Manual: true, ElectionTicks: 10, HeartbeatTicks: 1, TailCacheBytes: 2000,
		SnapshotTimeout: 2 * time.Second, SnapshotChunkBytes: 150, SnapshotBytesPerSecond: 20_000,
		OnFatal: func(err error) {
			if s.broken[id] = errors.Is(err, errDisk); !s.broken[id] {
				s.t.Errorf("node %d: %v", id, err)
			}
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for g := range s.groups {
		m := &simMachine{sim: s, group: g}
		cfg := raftstore.GroupConfig{
			ID: raftstore.GroupID(g + 1), Members: []raftstore.NodeID{1, 2, 3}, Machine: m,
			RetainLog: g%2 == 0, SnapshotEntries: 20, TailEntries: 5,
			OnRemoved: func() { n.removed = append(n.removed, g) },
		}
		if id > 3 {
			cfg.Members, cfg.Join = nil, true
		}
		if was != nil && was.groups[g] == nil {
			n.groups, n.chains = append(n.groups, nil), append(n.chains, m)
			continue
		}
		group, err := n.store.CreateGroup(cfg)
		if err != nil {
			s.t.Fatal(err)
		}
		n.groups, n.chains = append(n.groups, group), append(n.chains, m)
	}
}

// crash cuts a node's power: of its unsynced batches a random prefix survives.
func (s *sim) crash(id int) {
	n := s.nodes[id]
	s.changesLost = s.changesAsked - s.changesAnswered
	before := make([]raftstore.LogState, s.groups)
	log := n.log.Crash(s.rng.IntN(n.log.Unsynced() + 1))
	for g := range s.groups {
		before[g], _, _ = log.Load(raftstore.GroupID(g + 1))
		if st := before[g]; st.CompactedIndex > st.SnapshotIndex || g%2 == 0 && st.CompactedIndex > max(s.trimmed[g], 1) {
			s.t.Fatalf("node %d group %d: the crash left %+v: entries are gone that nothing replaces", id, g, st)
		}
	}
	s.breakWrite[id] = false // at a write of the start the process would just end again
	s.boot(id, log)
	for g, st := range before {
		if s.nodes[id].groups[g] == nil {
			continue
		}
		if got := s.nodes[id].groups[g].Status(); got.Term < st.Hard.Term {
			s.t.Fatalf("node %d group %d: term %d after a restart, %d is durable", id, g, got.Term, st.Hard.Term)
		}
	}
}

func (s *sim) propose(id, g int) {
	s.nextCommand++
	command := s.nextCommand
	data := append(binary.BigEndian.AppendUint64(nil, command), make([]byte, s.rng.IntN(200))...)
	s.nodes[id].groups[g].ProposeAsync(data, 0, func(res raftstore.ProposalResult) {
		var notLeader *raftstore.NotLeaderError
		switch {
		case res.Err == nil:
			s.acked[command] = res.Index
			if s.applied[g][res.Index] != command {
				s.t.Errorf("command %d acknowledged at %d, where %d is", command, res.Index, s.applied[g][res.Index])
			}
		case errors.As(res.Err, &notLeader), errors.Is(res.Err, raftstore.ErrOverloaded):
			s.refused[command] = true
		case errors.Is(res.Err, raftstore.ErrUnknownResult):
		default:
			s.t.Errorf("command %d: %v", command, res.Err)
		}
	})
}

// read starts a linearizable read and checks that its index covers everything
// acknowledged before it began.
func (s *sim) read(id, g int) {
	var floor uint64
	for command, index := range s.acked {
		if s.applied[g][index] == command {
			floor = max(floor, index)
		}
	}
	group := s.nodes[id].groups[g]
	group.ReadIndexAsync(func(index uint64, err error) {
		if err != nil {
			return
		}
		s.reads++
		if index < floor || group.Applied() < index {
			s.t.Errorf("node %d group %d: read index %d, applied %d, acknowledged before: %d", id, g, index, group.Applied(), floor)
		}
	})
}

// trim lets go of entries, whether or not the other nodes have them.
func (s *sim) trim(id, g int) {
	if commit := s.nodes[id].groups[g].Status().Commit; commit > 0 {
		index := 1 + s.rng.Uint64N(commit)
		s.nodes[id].groups[g].Trim(index)
		s.trimmed[g] = max(s.trimmed[g], index)
	}
}

// turn lets a node work until it has nothing to do.
func (s *sim) turn(id int) {
	for s.nodes[id].store.Turn() {
	}
	s.dropRemoved(id)
	if s.broken[id] {
		s.broken[id] = false
		s.crash(id)
	}
	for _, e := range s.queue.Take() {
		if e.Chunk != nil {
			key := [2]uint64{e.Chunk.Stream, e.Chunk.Seq}
			if s.chunks[key] {
				s.resent++
			}
			s.chunks[key] = true
			s.trace = s.trace*31 + e.Chunk.Seq*7 + uint64(e.Chunk.Sum)
		}
		s.trace = s.trace*31 + uint64(e.From)*7 + uint64(e.To)*5 + uint64(e.Group)*3 + uint64(e.Raft.GetType()) + e.Raft.GetTerm()*11
		s.flying = append(s.flying, e)
	}
}

// deliver hands over one message, in or out of order.
func (s *sim) deliver(chaos bool) {
	if len(s.flying) == 0 {
		return
	}
	i := 0
	if chaos && s.rng.IntN(4) == 0 {
		i = s.rng.IntN(len(s.flying))
	}
	e := s.flying[i]
	drop := s.cut[e.From] || s.cut[e.To] || chaos && s.rng.IntN(20) == 0
	repeat := chaos && !drop && s.rng.IntN(30) == 0
	if !repeat {
		s.flying = slices.Delete(s.flying, i, i+1)
	}
	switch {
	case drop && e.Chunk != nil && s.rng.IntN(2) == 0: // sometimes the sender learns of it
		e.Done(raftstore.SnapshotAnswer{Err: raftstore.ErrUnreachable})
		s.turn(int(e.From))
		return
	case drop:
		return
	case e.Chunk != nil:
		if s.rng.IntN(4) == 0 {
			s.nodes[e.To].store.Tick() // in the same turn
		}
		s.nodes[e.To].store.DeliverChunk(*e.Chunk, func(a raftstore.SnapshotAnswer) {
			if e.Chunk.Seq > 0 && a.Next == 0 && a.Err == nil {
				s.restarts++
			}
			done := func(raftstore.SnapshotAnswer) { e.Done(a) }
			s.flying = append(s.flying, memtransport.Envelope{From: e.To, To: e.From, Group: e.Group, Done: done})
		})
	case e.Done != nil: // an answer
		e.Done(raftstore.SnapshotAnswer{})
	default:
		m := proto.Clone(e.Raft).(*raftpb.Message) // it may be delivered again
		s.nodes[e.To].store.Deliver(e.Group, m)
	}
	s.turn(int(e.To))
}

func (s *sim) step(chaos bool) {
	id := s.rng.IntN(s.size) + 1
	n, g := s.rng.IntN(100), s.rng.IntN(s.groups)
	if s.nodes[id].groups[g] == nil && n >= 12 && n <= 29 {
		return
	}
	switch {
	case n < 12:
		s.nodes[id].store.Tick()
		s.turn(id)
	case n < 22:
		for range s.rng.IntN(4) + 1 {
			s.propose(id, g)
		}
		s.turn(id)
	case n < 25:
		s.read(id, g)
		s.turn(id)
	case chaos && n == 29 && s.size > 3:
		s.changeMembers(id, g)
		s.turn(id)
	case n == 28:
		s.trim(id, g)
	case chaos && n == 25 && s.rng.IntN(8) == 0:
		s.crash(id)
		s.turn(id)
	case chaos && n == 26 && s.rng.IntN(8) == 0:
		s.cut[id] = !s.cut[id] && s.rng.IntN(2) == 0
	case chaos && n == 27 && s.rng.IntN(4) == 0:
		s.breakWrite[id] = true
	default:
		s.deliver(chaos)
	}
}

// heal stops the chaos and runs until all replicas agree.
func (s *sim) heal() {
	s.cut, s.breakWrite = [maxSimNodes]bool{}, [maxSimNodes]bool{}
	for round := range 20_000 {
		for id := 1; id <= s.size; id++ {
			s.nodes[id].store.Tick()
			s.turn(id)
		}
		for range 200 {
			s.deliver(false)
		}
		if round%50 == 0 && s.agreed() {
			return
		}
		if round == 40 { // the healed cluster must do work again
			for id := 1; id <= s.size; id++ {
				for g := range s.groups {
					if s.nodes[id].groups[g] != nil {
						s.propose(id, g)
					}
				}
			}
		}
	}
	for g := range s.groups {
		s.t.Logf("group %d: members %+v unaware %v", g, s.members(g), s.unaware(g, s.members(g)))
		for id := 1; id <= s.size; id++ {
			if group := s.nodes[id].groups[g]; group != nil {
				s.t.Logf("group %d: %+v", g, group.Status())
			}
		}
	}
	s.t.Fatal("the replicas do not agree")
}

func (s *sim) agreed() bool {
	for g := range s.groups {
		members := s.members(g)
		if len(members) == 0 {
			return false
		}
		if s.unaware(g, members) {
			return false
		}
		var first raftstore.Status
		for i, m := range members {
			group := s.nodes[m.ID].groups[g]
			if m.Leaving || group == nil {
				return false
			}
			st := group.Status()
			if i == 0 {
				first = st
			}
			if st.Applied != first.Applied || st.Applied != st.LastIndex || st.Leader != first.Leader {
				return false
			}
		}
	}
	return true
}

// check compares the replicas and looks for lost acknowledgements.
func (s *sim) check() {
	for g := range s.groups {
		members := s.members(g)
		hash, count := s.nodes[members[0].ID].chains[g].state()
		if count != uint64(len(s.applied[g])) {
			s.t.Errorf("group %d: %d commands applied, %d seen", g, count, len(s.applied[g]))
		}
		for _, member := range members {
			id := member.ID
			if h, n := s.nodes[id].chains[g].state(); h != hash || n != count {
				s.t.Errorf("group %d: node %d has (%x, %d), node %d (%x, %d)", g, id, h, n, members[0].ID, hash, count)
			}
			key := binary.BigEndian.AppendUint64(nil, count)
			row, ok, err := s.nodes[id].groups[g].Rows().Get(key)
			if err != nil || count > 0 && (!ok || binary.BigEndian.Uint64(row) != hash) {
				s.t.Errorf("group %d node %d: last row %x, %v, %v", g, id, row, ok, err)
			}
			group := s.nodes[id].groups[g]
			if g%2 == 1 {
				continue // its log is compacted by itself
			}
			if first := group.First(); first > max(s.trimmed[g], 1)+1 {
				s.t.Errorf("group %d node %d: log starts at %d, trimmed only to %d", g, id, first, s.trimmed[g])
			} else {
				s.trims += min(first-1, 1)
			}
			for index, command := range s.applied[g] {
				data, err := group.Entry(index)
				if gone := index < group.First(); gone != errors.Is(err, raftstore.ErrCompacted) || !gone && (err != nil || binary.BigEndian.Uint64(data) != command) {
					s.t.Fatalf("group %d node %d: entry %d of a log from %d on: %x, %v", g, id, index, group.First(), data, err)
				}
			}
		}
	}
}

// run goes through chaos, heals, and checks what came of it.
func (s *sim) run(steps int) {
	for range steps {
		s.step(true)
	}
	s.heal()
	s.check()
	if len(s.acked) == 0 || s.reads == 0 {
		s.t.Errorf("%d commands acknowledged, %d reads done", len(s.acked), s.reads)
	}
}

// snapshots is how many were received, by the present life of every node.
func (s *sim) snapshots() (n uint64) {
	for id := 1; id <= s.size; id++ {
		n += s.nodes[id].store.Metrics().SnapshotsReceived
	}
	return n
}

func runSim(t *testing.T, seed uint64, steps int) *sim {
	s := newSim(t, seed, 4, 3)
	s.run(steps)
	return s
}

// TestSimulation is not parallel: it replaces crypto/rand.Reader.
func TestSimulation(t *testing.T) {
	rounds, steps := 30, 20_000
	if testing.Short() { // for the race detector, which a single goroutine does not need
		rounds = 3
	}
	var snapshots, trims uint64
	var restarts, resent int
	start := rand.Uint64()
	for i := range uint64(rounds) {
		t.Run(fmt.Sprintf("seed=%d", start+i), func(t *testing.T) {
			s := runSim(t, start+i, steps)
			snaps := s.snapshots()
			snapshots += snaps
			trims += s.trims
			restarts += s.restarts
			resent += s.resent
			t.Logf("%d acknowledged, %d snapshots, %d chunks sent again, %d receivers forgot, %d logs trimmed",
				len(s.acked), snaps, s.resent, s.restarts, s.trims)
		})
	}
	for what, n := range map[string]int{
		"follower was ever caught up by a snapshot": int(snapshots), "log was ever trimmed": int(trims),
		"part of a snapshot was ever sent again": resent, "receiver of a snapshot was ever restarted": restarts,
	} {
		if n == 0 {
			t.Errorf("no %s", what)
		}
	}
}

// TestSimulationIsDeterministic runs one seed twice.
func TestSimulationIsDeterministic(t *testing.T) {
	a := runSim(t, 42, 3000)
	b := runSim(t, 42, 3000)
	if len(a.acked) != len(b.acked) || a.trace != b.trace {
		t.Errorf("the same seed gave %d acknowledgements with trace %x, then %d with %x", len(a.acked), a.trace, len(b.acked), b.trace)
	}
}
