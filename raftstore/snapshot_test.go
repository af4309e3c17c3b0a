package raftstore_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// hands are stores that a test drives, and the parts of snapshots between them,
// which only the test delivers.
type hands struct {
	t      *testing.T
	queue  *memtransport.Queue
	stores map[raftstore.NodeID]*raftstore.Store
	groups map[raftstore.NodeID]*raftstore.Group
	chains map[raftstore.NodeID]*chain
	chunks []memtransport.Envelope
	fatal  error
	lost   func(e memtransport.Envelope) bool // nil: nothing is
}

func newHands(t *testing.T) *hands {
	return &hands{
		t: t, queue: memtransport.NewQueue(nil),
		stores: map[raftstore.NodeID]*raftstore.Store{},
		groups: map[raftstore.NodeID]*raftstore.Group{},
		chains: map[raftstore.NodeID]*chain{},
	}
}

func (h *hands) start(id raftstore.NodeID, log raftstore.LogStore, change func(*raftstore.Config, *raftstore.GroupConfig)) {
	h.t.Helper()
	cfg := raftstore.Config{
		NodeID: id, Log: log, Transport: h.queue.Transport(id), Manual: true, TailCacheBytes: 500, SnapshotChunkBytes: 500,
		OnFatal: func(err error) { h.fatal = err },
	}
	h.chains[id] = &chain{}
	group := raftstore.GroupConfig{
		// Node 1 campaigns as soon as it is there, see createGroup.
		ID: 3, Members: []raftstore.NodeID{1, 2, 3}, Machine: h.chains[id], RetainLog: true, SnapshotEntries: 20, TailEntries: 1,
	}
	if change != nil {
		change(&cfg, &group)
	}
	s, err := raftstore.Open(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	g, err := s.CreateGroup(group)
	if err != nil {
		h.t.Fatal(err)
	}
	h.stores[id], h.groups[id] = s, g
}

// settle runs everybody until there is nothing to do.
func (h *hands) settle() {
	for idle := 0; idle < 3; idle++ { // a turn may leave a call for the next one
		busy := false
		for id := raftstore.NodeID(1); id <= 5; id++ {
			for s := h.stores[id]; s != nil && s.Turn(); {
				busy = true
			}
		}
		for _, e := range h.queue.Take() {
			switch s := h.stores[e.To]; {
			case h.lost != nil && h.lost(e):
			case e.Chunk != nil:
				h.chunks = append(h.chunks, e)
			case s != nil:
				s.Deliver(e.Group, e.Raft)
				busy = true
			}
		}
		if busy {
			idle = 0
		}
	}
}

func (h *hands) tick(n int) {
	for range n {
		for id := raftstore.NodeID(1); id <= 5; id++ {
			if s := h.stores[id]; s != nil {
				s.Tick()
			}
		}
		h.settle()
	}
}

func (h *hands) propose(id raftstore.NodeID, n int) {
	h.t.Helper()
	for range n {
		h.groups[id].ProposeAsync(bytes.Repeat([]byte("x"), 50), 0, func(res raftstore.ProposalResult) {
			if res.Err != nil {
				h.t.Fatal(res.Err)
			}
		})
		h.settle()
	}
}

// take returns the one part that is under way.
func (h *hands) take() memtransport.Envelope {
	h.t.Helper()
	for range 30 {
		if len(h.chunks) > 0 {
			break
		}
		h.tick(1)
	}
	if len(h.chunks) != 1 {
		h.t.Fatalf("%d parts of snapshots are under way", len(h.chunks))
	}
	e := h.chunks[0]
	h.chunks = nil
	return e
}

// give has a node take a part and returns what it says.
func (h *hands) give(id raftstore.NodeID, c raftstore.SnapshotChunk) (a raftstore.SnapshotAnswer) {
	answers := 0
	h.stores[id].DeliverChunk(c, func(said raftstore.SnapshotAnswer) { a, answers = said, answers+1 })
	h.settle()
	if answers != 1 {
		h.t.Fatalf("%d answers", answers)
	}
	return a
}

// pass delivers a part and its answer.
func (h *hands) pass() (memtransport.Envelope, raftstore.SnapshotAnswer) {
	h.t.Helper()
	e := h.take()
	a := h.give(e.To, *e.Chunk)
	e.Done(a)
	h.settle()
	return e, a
}

// leaderOfTwo is a group of three whose third member was never started; the
// others have trimmed what it needs, and node 1 leads.
func leaderOfTwo(t *testing.T, log raftstore.LogStore) *hands {
	h := newHands(t)
	for id := raftstore.NodeID(1); id <= 2; id++ {
		l := raftstore.LogStore(memlog.New(nil))
		if id == 1 {
			l = log
		}
		h.start(id, l, nil)
	}
	h.settle()
	h.propose(1, 70)
	h.groups[1].Trim(30)
	h.tick(1)
	if st := h.groups[1].Status(); st.FirstIndex != 31 || !st.IsLeader {
		t.Fatalf("status %+v", st)
	}
	return h
}

func (h *hands) checkThird() {
	h.t.Helper()
	h.tick(5)
	hash, n := h.chains[1].state()
	if got, m := h.chains[3].state(); got != hash || n != m {
		h.t.Errorf("node 3 has (%x, %d), node 1 (%x, %d)", got, m, hash, n)
	}
	g := h.groups[3]
	if g.First() != 31 {
		h.t.Errorf("the log starts at %d", g.First())
	}
	for i := g.First(); i <= g.Applied(); i++ {
		want, err := h.groups[1].Entry(i)
		if errors.Is(err, raftstore.ErrCompacted) {
			continue
		}
		if got, err := g.Entry(i); err != nil || !bytes.Equal(got, want) {
			h.t.Errorf("entry %d: %q, %v", i, got, err)
		}
	}
	rows := func(id raftstore.NodeID) (keys []string) {
		_ = h.groups[id].Rows().Scan(nil, nil, func(k, v []byte) bool {
			keys = append(keys, string(k)+string(v))
			return true
		})
		return keys
	}
	if a, b := rows(1), rows(3); len(a) != len(b) || uint64(len(a)) != n {
		h.t.Errorf("node 3 has %d rows, node 1 %d, after %d commands", len(b), len(a), n)
	}
}

// A member that needs entries which are gone gets all that is left, part by part,
// on a disk as in memory, and still has it after a restart.
func TestSnapshotOfARetainedLog(t *testing.T) {
	t.Parallel()
	fs := map[raftstore.NodeID]vfs.FS{1: vfs.NewMem(), 3: vfs.NewMem()}
	pebble := func(id raftstore.NodeID) raftstore.LogStore {
		s, err := pebblelog.Open(pebblelog.Config{Dir: "db", FS: fs[id], MemTableBytes: 1 << 20, CacheBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, open := range map[string]func(raftstore.NodeID) raftstore.LogStore{
		"mem": memLogs(t), "pebble": pebble,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := leaderOfTwo(t, open(1))
			h.start(3, open(3), nil)
			parts := uint64(0)
			for parts < 100 {
				e, a := h.pass()
				if e.Chunk.Seq != parts || a.Err != nil || len(e.Chunk.Data) > 1000 {
					t.Fatalf("part %d of %d bytes instead of %d: %+v", e.Chunk.Seq, len(e.Chunk.Data), parts, a)
				}
				if parts++; a.Done {
					break
				}
				if parts == 4 { // the group goes on meanwhile
					h.propose(1, 30)
					h.groups[1].Trim(90)
					h.tick(1)
				}
			}
			if parts < 6 {
				t.Errorf("%d parts: nothing was cut up", parts)
			}
			if first := h.groups[1].First(); first > 61 {
				t.Errorf("the leader trimmed to %d while it sent a snapshot at 60", first)
			}
			h.groups[3].Trim(30)
			h.checkThird()
			if m := h.stores[3].Metrics(); m.SnapshotsReceived != 1 {
				t.Errorf("%d snapshots received", m.SnapshotsReceived)
			}
			if err := h.stores[3].Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.start(3, open(3), nil)
			h.checkThird()
			for id := raftstore.NodeID(1); id <= 3; id++ {
				if err := h.stores[id].Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A broken connection costs the part that was under way, and a receiver that was
// restarted costs the parts before it; nothing of those is left on its disk.
func TestSnapshotResumes(t *testing.T) {
	t.Parallel()
	h := leaderOfTwo(t, memlog.New(nil))
	log := memlog.New(nil)
	h.start(3, log, nil)
	for range 4 {
		h.pass()
	}
	e := h.take()
	e.Done(raftstore.SnapshotAnswer{Err: raftstore.ErrUnreachable})
	if again := h.take(); again.Chunk.Seq != 4 || again.Chunk.Stream != e.Chunk.Stream || again.Chunk.Sum != e.Chunk.Sum {
		t.Fatalf("part %d after part 4 was lost", again.Chunk.Seq)
	}
	// Without a word, and with an answer that comes late.
	for range 400 {
		if h.tick(1); len(h.chunks) > 0 {
			break
		}
	}
	if len(h.chunks) == 0 {
		t.Fatal("nothing was sent again")
	}
	if again := h.chunks[0]; again.Chunk.Seq != 4 {
		t.Fatalf("part %d after part 4 was not answered", again.Chunk.Seq)
	}
	first := h.give(3, *e.Chunk)
	if second := h.give(3, *e.Chunk); first.Next != 5 || second.Next != 5 {
		t.Errorf("the same part twice: %+v, %+v", first, second)
	}
	h.chunks[0].Done(first)
	h.chunks[0].Done(first) // twice: the second is for a part that is gone
	h.chunks = nil
	h.settle()
	if next := h.take(); next.Chunk.Seq != 5 {
		t.Fatalf("part %d after part 4", next.Chunk.Seq)
	} else {
		h.chunks = append(h.chunks, next)
	}
	if st, _, err := log.Load(3); err != nil || !st.Staged || st.LastIndex != 0 {
		t.Errorf("while it is received: %+v, %v", st, err)
	}
	h.start(3, log, nil)
	h.tick(1)
	if st, _, err := log.Load(3); err != nil || st.Staged {
		t.Errorf("after a restart: %+v, %v", st, err)
	}
	e, a := h.pass()
	if e.Chunk.Seq != 5 || a.Next != 0 || a.Err != nil {
		t.Fatalf("part %d to a receiver that forgot: %+v", e.Chunk.Seq, a)
	}
	for seq := range uint64(100) {
		e, a := h.pass()
		if e.Chunk.Seq != seq || a.Err != nil {
			t.Fatalf("part %d instead of %d: %+v", e.Chunk.Seq, seq, a)
		}
		if a.Done {
			break
		}
	}
	h.checkThird()
	if n := h.stores[1].Metrics().SnapshotsSent; n != 1 {
		t.Errorf("%d snapshots for one", n)
	}
}

// What is not what it should be is refused, and never installed.
func TestSnapshotRefusals(t *testing.T) {
	t.Parallel()
	h := leaderOfTwo(t, memlog.New(nil))
	h.start(3, memlog.New(nil), nil)
	var parts []raftstore.SnapshotChunk
	for len(parts) < 100 {
		e, a := h.pass()
		if parts = append(parts, *e.Chunk); a.Done {
			break
		}
	}
	h.checkThird()
	if a := h.give(3, parts[0]); !a.Done {
		t.Errorf("a snapshot of what it has: %+v", a)
	}
	low := &lowDisk{Store: memlog.New(nil)}
	low.free.Store(1 << 40)
	sum := func(c raftstore.SnapshotChunk) raftstore.SnapshotChunk {
		c.Sum = crc32.Checksum(c.Data, crc32.MakeTable(crc32.Castagnoli))
		return c
	}
	for name, c := range map[string]struct {
		after int // parts that were taken
		part  func() raftstore.SnapshotChunk
		want  error
		next  uint64
	}{
		"no header":  {0, func() raftstore.SnapshotChunk { c := parts[0]; c.Header = nil; return c }, raftstore.ErrBadSnapshot, 0},
		"no group":   {0, func() raftstore.SnapshotChunk { c := parts[0]; c.Group = 9; return c }, raftstore.ErrGroupNotFound, 0},
		"somebody":   {0, func() raftstore.SnapshotChunk { c := parts[0]; c.From = 2; return c }, raftstore.ErrBadSnapshot, 0},
		"unknown":    {0, func() raftstore.SnapshotChunk { return parts[3] }, nil, 0},
		"other":      {2, func() raftstore.SnapshotChunk { c := parts[2]; c.Stream++; return c }, nil, 0},
		"too early":  {2, func() raftstore.SnapshotChunk { return parts[3] }, nil, 2},
		"a bit":      {2, func() raftstore.SnapshotChunk { c := parts[2]; c.Sum ^= 4; return c }, raftstore.ErrBadSnapshot, 0},
		"garbage":    {2, func() raftstore.SnapshotChunk { c := parts[2]; c.Data = []byte("?"); return sum(c) }, raftstore.ErrBadSnapshot, 0},
		"more state": {2, func() raftstore.SnapshotChunk { c := parts[2]; c.Data = []byte("c\x01x"); return sum(c) }, raftstore.ErrBadSnapshot, 0},
		"a gap":      {2, func() raftstore.SnapshotChunk { c := parts[2]; c.Data = []byte("e\x01\x01\x00\x00"); return sum(c) }, raftstore.ErrBadSnapshot, 0},
		"cut short":  {2, func() raftstore.SnapshotChunk { c := parts[2]; c.Last = true; return c }, raftstore.ErrBadSnapshot, 0},
		"manifest": {0, func() raftstore.SnapshotChunk {
			c := parts[0]
			c.Header = proto.CloneOf(c.Header)
			c.Header.Snapshot.Data[0]++
			return c
		}, raftstore.ErrBadSnapshot, 0},
	} {
		h.start(3, memlog.New(nil), nil)
		for _, part := range parts[:c.after] {
			if a := h.give(3, part); a.Err != nil || a.Next != part.Seq+1 {
				t.Fatalf("%s: part %d: %+v", name, part.Seq, a)
			}
		}
		if a := h.give(3, c.part()); !errors.Is(a.Err, c.want) || c.want == nil && a.Err != nil || a.Next != c.next || a.Done {
			t.Errorf("%s: %+v, want part %d, %v", name, a, c.next, c.want)
		}
		if n := h.stores[3].Metrics().SnapshotsReceived; n != 0 || h.groups[3].Applied() != 0 {
			t.Errorf("%s: installed", name)
		}
	}
	delete(h.stores, 1) // it takes node 3 for one that has lost its log
	h.start(3, low, nil)
	low.free.Store(1)
	h.tick(1)
	if a := h.give(3, parts[0]); !errors.Is(a.Err, raftstore.ErrDiskLow) {
		t.Errorf("to a full disk: %+v", a)
	}
	if h.fatal != nil {
		t.Error(h.fatal)
	}
}

// A sender whose parts are not taken gives up, and Raft has it start over; a
// receiver whose sender went away keeps nothing.
func TestSnapshotTimeouts(t *testing.T) {
	t.Parallel()
	h := leaderOfTwo(t, memlog.New(nil))
	log := memlog.New(nil)
	brief := func(c *raftstore.Config, _ *raftstore.GroupConfig) { c.SnapshotTimeout = 2 * time.Second }
	h.start(3, log, brief)
	e, _ := h.pass()
	h.pass()
	for range 60*20 + 100 { // the default of its timeout, in ticks
		h.tick(1)
		for _, c := range h.chunks {
			if c.Chunk.Stream != e.Chunk.Stream {
				if st, _, _ := log.Load(3); st.Staged {
					t.Error("the receiver still waits")
				}
				if n := h.stores[1].Metrics().SnapshotsSent; n != 2 {
					t.Errorf("%d snapshots sent", n)
				}
				return
			}
			c.Done(raftstore.SnapshotAnswer{Err: raftstore.ErrUnreachable})
		}
		h.chunks = nil
	}
	t.Error("the sender never started over")
}

// A snapshot goes no faster than it may.
func TestSnapshotRate(t *testing.T) {
	t.Parallel()
	h := newHands(t)
	slow := func(c *raftstore.Config, _ *raftstore.GroupConfig) {
		c.SnapshotBytesPerSecond = 20_000 // 1,000 bytes a tick
	}
	h.start(1, memlog.New(nil), slow)
	h.start(2, memlog.New(nil), nil)
	h.settle()
	h.propose(1, 300)
	h.groups[1].Trim(10)
	h.tick(1)
	h.start(3, memlog.New(nil), nil)
	h.chunks = append(h.chunks, h.take())
	before := h.stores[1].Metrics().SnapshotBytesSent
	const ticks = 10
	for range ticks {
		for len(h.chunks) > 0 {
			h.pass()
		}
		h.tick(1)
	}
	sent := h.stores[1].Metrics().SnapshotBytesSent - before
	if sent < 8*1000 || sent > 12*1000 {
		t.Errorf("%d bytes in %d ticks of 1000", sent, ticks)
	}
}
