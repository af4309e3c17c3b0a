package sim

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime/debug"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// watchedBatch shows the checkpoints that are written. It implements
// raftstore.LogBatch.
type watchedBatch struct {
	raftstore.LogBatch
	seen func(g raftstore.GroupID, s raftstore.Snapshot)
}

// SetSnapshot implements raftstore.LogBatch.
func (b watchedBatch) SetSnapshot(g raftstore.GroupID, s raftstore.Snapshot) {
	b.LogBatch.SetSnapshot(g, s)
	b.seen(g, s)
}

// damages is how many damaged copies of a checkpoint are read.
const damages = 2

// checkpoint keeps the log up to what a node writes as its state, holds that against
// the invariants of the cores, and has damaged copies of it read: they may be refused,
// or be states that keep the invariants, and must do no harm.
func (s *simulation) checkpoint(n *node, g raftstore.GroupID, snap raftstore.Snapshot) {
	if err := s.cluster.keep(n, g, snap); err != nil {
		s.complain("I10 replay", fmt.Sprintf("%s group %d, checkpoint at %d: %v", n.proc.name, g, snap.Index, err))
	}
	data := snap.Data
	if err := n.read(data); err != nil {
		s.complain("state", fmt.Sprintf("%s writes a checkpoint of group %d: %v", n.proc.name, g, err))
	}
	sum := fnv.New64a()
	_, _ = sum.Write(data)
	r := rand.New(rand.NewPCG(sum.Sum64(), 5))
	for range damages {
		s.readDamaged(n, damage(r, data, where(r, len(data))))
	}
}

// where picks what is to be damaged of a checkpoint: some of what is small in it stands
// at its ends, and the large parts between are hit anyway.
func where(r *rand.Rand, size int) int {
	switch r.IntN(3) {
	case 0:
		return r.IntN(max(min(size, 600), 1))
	case 1:
		return size - 1 - r.IntN(max(min(size, 160), 1))
	default:
		return r.IntN(max(size, 1))
	}
}

// read reads a checkpoint as a node of this kind does.
func (n *node) read(data []byte) error {
	if n.kind == "c" {
		return coordinator.CheckSnapshot(n.c.sizes.rules(), data)
	}
	return partition.CheckSnapshot(data)
}

func (s *simulation) readDamaged(n *node, data []byte) {
	defer func() {
		if cause := recover(); cause != nil {
			s.complain("panic", fmt.Sprintf("reading a damaged checkpoint of %s: %v\n%s", n.proc.name, cause, debug.Stack()))
		}
	}()
	if n.read(data) != nil {
		s.reach.hit(damageRefused)
	}
}

// damage returns a copy with something wrong at a place.
func damage(r *rand.Rand, data []byte, at int) []byte {
	out := bytes.Clone(data)
	if len(out) == 0 {
		return out
	}
	switch r.IntN(6) {
	case 0:
		return out[:at]
	case 1:
		out[at] ^= 1 << r.IntN(8)
	case 2:
		out[at]++
	case 3:
		out[at] = byte(r.Uint32())
	case 4: // a part of it twice
		end := min(len(out), at+1+r.IntN(20))
		return slices.Insert(out, at, data[at:end]...)
	case 5: // a part of it missing
		return slices.Delete(out, at, min(len(out), at+1+r.IntN(20)))
	}
	return out
}

// replayLogs carries out the log of every group from its first entry on, also what
// nobody has any more, and compares the state and the rows with what the node has
// come to by checkpoints and restarts (I10).
func (s *simulation) replayLogs() {
	done := map[groupKey]bool{}
	for _, n := range s.cluster.nodes() {
		groups, err := n.disk.log.Groups()
		if err != nil {
			s.complain("I10 replay", err.Error())
			return
		}
		for _, g := range groups {
			key := groupKey{n.kind, uint64(g)}
			log, found, err := n.disk.log.Load(g)
			if done[key] || err != nil || !found {
				continue
			}
			have, err := n.disk.log.Snapshot(g)
			if err != nil || have.Index == 0 || have.Index < log.Hard.Commit {
				continue // of a shard that was removed, and did not run in the end
			}
			done[key] = true
			if err := s.replayLog(n, g, have); err != nil {
				s.complain("I10 replay", fmt.Sprintf("%s group %d: %v", n.proc.name, g, err))
			}
		}
	}
}

func (s *simulation) replayLog(n *node, g raftstore.GroupID, have raftstore.Snapshot) error {
	raw, ok := s.cluster.applied[groupKey{n.kind, uint64(g)}].upTo(have.Index)
	if !ok {
		return fmt.Errorf("an entry up to %d was never seen below a checkpoint", have.Index)
	}
	scratch := memlog.New(nil)
	batch := scratch.NewBatch()
	m := s.offline(n, batch.Rows(g))
	entries := commands(raw)
	for _, e := range entries {
		if err := m.Apply(e); err != nil {
			return err
		}
	}
	state, err := m.Snapshot()
	if err != nil {
		return err
	}
	s.reach.hit(logReplayed)
	if !bytes.Equal(state, have.Data) {
		return fmt.Errorf("the whole log leads to another state than checkpoint and rest did, at %d", have.Index)
	}
	if err := scratch.Commit(batch, true); err != nil {
		return err
	}
	if !slices.Equal(rowsOf(scratch, g), rowsOf(n.disk.log, g)) {
		return fmt.Errorf("the whole log leads to other rows than checkpoint and rest did, at %d", have.Index)
	}
	return s.applyDamaged(n, m, entries)
}

// offline is the state machine of a group without its node.
type offline interface {
	Apply(e raftstore.Entry) error
	Snapshot() ([]byte, error)
}

func (s *simulation) offline(n *node, rows raftstore.RowWriter) offline {
	if n.kind == "c" {
		return coordinator.NewOffline(n.c.sizes.rules(), func(core, answer string) { s.reach.hit(core + ": " + answer) })
	}
	return partition.NewOffline(n.c.sizes.Limits.Shard, rows, func(answer string) { s.reach.hit("shard: " + answer) })
}

// damagedEntries is how many entries are damaged and carried out at the end of a
// log.
const damagedEntries = 40

// byKind puts entries together that are commands of one kind, in the order in which the
// kinds come first: most of a log is of few. The first head bytes of a command name it.
func byKind(entries []raftstore.Entry, head int) (kinds [][]raftstore.Entry) {
	at := map[string]int{}
	for _, e := range entries {
		kind := string(e.Data[:min(len(e.Data), head)])
		i, known := at[kind]
		if !known {
			i = len(kinds)
			at[kind] = i
			kinds = append(kinds, nil)
		}
		kinds[i] = append(kinds[i], e)
	}
	return kinds
}

// applyDamaged has a machine carry out damaged entries: each may be refused as such,
// or be some command, and whatever that does the invariants hold.
func (s *simulation) applyDamaged(n *node, m offline, entries []raftstore.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(s.plan.Seed, uint64(len(entries))))
	kinds := byKind(entries, 2) // version and kind
	if n.kind == "c" {
		kinds = byKind(entries, 3) // behind the core
	}
	for range damagedEntries {
		e := pick(r, pick(r, kinds...)...)
		e.Index, e.Data = entries[len(entries)-1].Index+1, damage(r, e.Data, r.IntN(len(e.Data)))
		switch err := m.Apply(e); {
		case errors.Is(err, codec.ErrVersion):
			s.reach.hit(damageRefused)
		case err != nil && n.kind == "c":
			return err // what it cannot read it skips: this is a breach
		case err != nil:
			s.reach.hit(damageRefused)
		}
	}
	state, err := m.Snapshot()
	if err == nil {
		err = n.read(state)
	}
	if err != nil {
		return fmt.Errorf("after damaged entries: %w", err)
	}
	return nil
}

// commands are the entries that a machine is given.
func commands(raw []*raftpb.Entry) (out []raftstore.Entry) {
	for _, e := range raw {
		if len(e.GetData()) > 0 && e.GetType() == raftpb.EntryNormal {
			out = append(out, raftstore.Entry{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()})
		}
	}
	return out
}

func rowsOf(log *memlog.Store, g raftstore.GroupID) (out []string) {
	_ = log.Rows(g).Scan(nil, nil, func(k, v []byte) bool {
		out = append(out, string(k)+"="+string(v))
		return true
	})
	return out
}
