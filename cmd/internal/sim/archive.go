package sim

import (
	"fmt"
	"math"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// archive is the committed log of a group from its first entry on, also what nobody
// has any more. It grows by what the logs of nodes hold up to their checkpoints: that
// was applied, so it is committed, and a log lets go of nothing above its checkpoint.
//
// What was merely written says nothing. A leader of a later term may write at an
// index, alone and in vain, and the entry of an earlier term that others have there
// is committed after all, by a leader of a still later one.
type archive []*raftpb.Entry

// upTo returns the entries up to an index. False: one is missing.
func (a archive) upTo(index uint64) ([]*raftpb.Entry, bool) {
	if index > uint64(len(a)) {
		return nil, false
	}
	return a[:index], true
}

// holds reports whether the log has the entry.
func holds(log *memlog.Store, g raftstore.GroupID, index, term uint64) bool {
	have, err := log.Term(g, index)
	return err == nil && have == term
}

// keep takes what a node's log holds up to a checkpoint that it writes. An error says
// that the node has applied another entry than one that was kept before. By the log
// matching property of Raft it is enough to compare the last of those.
func (c *cluster) keep(n *node, g raftstore.GroupID, s raftstore.Snapshot) error {
	log := n.disk.log
	if !holds(log, g, s.Index, s.Term) {
		return nil // received: whoever sent it wrote it as a checkpoint before
	}
	key := groupKey{n.kind, uint64(g)}
	kept := c.applied[key]
	if last := min(s.Index, uint64(len(kept))); last > 0 {
		term, err := log.Term(g, last)
		if was := kept[last-1].GetTerm(); err == nil && term != was {
			return fmt.Errorf("entry %d of term %d was applied, where another node has applied that of term %d", last, term, was)
		}
	}
	if from := uint64(len(kept)) + 1; from <= s.Index {
		entries, err := log.Entries(g, from, s.Index+1, math.MaxUint64)
		if err != nil {
			return fmt.Errorf("the log has lost entries above its checkpoint: %w", err)
		}
		c.applied[key] = append(kept, entries...)
	}
	return nil
}
