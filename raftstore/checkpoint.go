package raftstore

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// maybeCheckpoint writes a checkpoint when enough was applied since the last.
func (r *replica) maybeCheckpoint() error {
	if r.applied-r.checkpointIndex < r.cfg.SnapshotEntries && r.checkpointBytes < r.cfg.SnapshotBytes {
		return nil
	}
	batch := r.loop.cfg.Log.NewBatch()
	compact, err := r.checkpoint(batch)
	if err != nil {
		return err
	}
	// Unsynced: checkpoint and compaction are one atomic batch behind the
	// entries and rows they cover, so a crash brings back either both or
	// neither.
	if !r.loop.commit(batch, false) {
		return r.loop.failed
	}
	compact()
	return nil
}

// checkpoint adds the machine's state to the batch and, unless the log is the
// data, the removal of the log it replaces. The returned function takes note
// of that once the batch is written.
func (r *replica) checkpoint(batch LogBatch) (compact func(), err error) {
	data, err := r.cfg.Machine.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("group %d: machine snapshot at %d: %w", r.id(), r.applied, err)
	}
	batch.SetSnapshot(r.id(), Snapshot{Index: r.applied, Term: r.appliedTerm, Data: data})
	// Raft refuses to start with an applied index above the commit index, so
	// the two are written together.
	r.writeHard(batch)
	r.checkpointIndex, r.checkpointBytes = r.applied, 0
	r.loop.counters.Checkpoints.Add(1)
	first, _ := r.log.bounds()
	through := r.compactionTarget()
	if through < first {
		return func() {}, nil
	}
	term, err := r.log.Term(through)
	if err != nil {
		return nil, fmt.Errorf("group %d: term of entry %d: %w", r.id(), through, err)
	}
	batch.Compact(r.id(), first, through, term)
	return func() { r.log.compactedTo(through, term) }, nil
}

// compactionTarget returns the last index to remove, 0 for none. A tail stays
// for followers that were briefly away, and a longer one for those that are
// catching up: compacting under a follower that is being served would make it
// start over with a snapshot, for ever if snapshots are slower than writes.
func (r *replica) compactionTarget() uint64 {
	tail := r.cfg.TailEntries
	if r.cfg.RetainLog || r.applied <= tail {
		return 0
	}
	target := r.applied - tail
	if r.role == raft.StateLeader {
		need := target
		r.rn.WithProgress(func(_ uint64, _ raft.ProgressType, pr tracker.Progress) {
			if pr.RecentActive {
				need = min(need, max(pr.Match, pr.PendingSnapshot))
			}
		})
		longest := r.applied - min(r.applied, 4*tail)
		target = max(need, longest)
	}
	return target
}

// checkpointAll writes a checkpoint of every group that applied something
// since its last one, in one synced batch. It is the end of a graceful stop.
func (l *loop) checkpointAll() error {
	if l.failed != nil {
		return l.failed
	}
	batch := l.cfg.Log.NewBatch()
	for _, r := range l.order {
		if r.applied == r.checkpointIndex {
			r.writeHard(batch)
			continue
		}
		compact, err := r.checkpoint(batch)
		if err != nil {
			return err
		}
		compact() // nobody reads the log after this
	}
	if !l.commit(batch, true) {
		return l.failed
	}
	return nil
}
