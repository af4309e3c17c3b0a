package raftstore

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// smallCheckpoint is how large a state may be that is written as often as
// GroupConfig says, in bytes.
const smallCheckpoint = 1 << 20

// checkpointDue reports whether enough was applied since the last checkpoint. One is
// the whole state, and everything waits while it is made: of a large state there is
// none before half as much was applied. So however large it grows, checkpoints write
// at most two bytes for one of the log, and a restart applies at most half of what it
// restores.
func (r *replica) checkpointDue() bool {
	if r.applied-r.checkpointIndex < r.cfg.SnapshotEntries && r.checkpointBytes < r.cfg.SnapshotBytes {
		return false
	}
	return r.checkpointSize <= smallCheckpoint || r.checkpointBytes >= r.checkpointSize/2
}

// maybeCheckpoint writes a checkpoint when it is due.
func (r *replica) maybeCheckpoint() error {
	if !r.checkpointDue() {
		return nil
	}
	batch := r.loop.cfg.Log.NewBatch()
	if err := r.checkpoint(batch); err != nil {
		return err
	}
	// Unsynced: checkpoint and compaction are one atomic batch behind the
	// entries and rows they cover, so a crash brings back either both or
	// neither.
	if !r.loop.commit(batch, false) {
		return r.loop.failed
	}
	r.compacted()
	return nil
}

// checkpoint adds the machine's state to the batch, and the removal of the log
// that it makes needless. compacted takes note of that once the batch is written.
func (r *replica) checkpoint(batch LogBatch) error {
	data, err := r.cfg.Machine.Snapshot()
	if err != nil {
		return fmt.Errorf("group %d: machine snapshot at %d: %w", r.id(), r.applied, err)
	}
	batch.SetSnapshot(r.id(), Snapshot{Index: r.applied, Term: r.appliedTerm, Data: data})
	// Raft refuses to start with an applied index above the commit index, so
	// the two are written together.
	r.writeHard(batch)
	r.checkpointIndex, r.checkpointBytes, r.checkpointSize = r.applied, 0, uint64(len(data))
	r.log.checkpointed(r.applied, r.appliedTerm)
	r.loop.counters.Checkpoints.Add(1)
	return r.compact(batch)
}

// trim does what Group.Trim asked for since the last tick. The checkpoint that
// bounds it is in an earlier batch: no crash takes that and leaves this.
func (r *replica) trim(batch LogBatch) error {
	r.trimDue = false
	if !r.cfg.RetainLog {
		return nil
	}
	return r.compact(batch)
}

// compact adds the removal of what is no longer needed of the log.
func (r *replica) compact(batch LogBatch) error {
	if mark := r.group.trim.Load(); r.cfg.RetainLog && mark > r.trimWritten {
		batch.SetTrim(r.id(), mark)
		r.trimWritten = mark
	}
	first, _ := r.log.bounds()
	through := r.compactionTarget()
	if through < first {
		return nil
	}
	term, err := r.log.Term(through)
	if err != nil {
		return fmt.Errorf("group %d: term of entry %d: %w", r.id(), through, err)
	}
	batch.Compact(r.id(), first, through, term)
	r.compacting, r.compactingTerm = through, term
	return nil
}

// compacted takes note that the batch is written.
func (r *replica) compacted() {
	if r.compacting > 0 {
		r.log.compactedTo(r.compacting, r.compactingTerm)
		r.compacting, r.compactingTerm = 0, 0
	}
}

// compactionTarget returns the last index to remove, 0 for none. A tail stays
// for followers that were briefly away, and a longer one for those that are
// catching up: compacting under a follower that is being served would make it
// start over with a snapshot, for ever if snapshots are slower than writes.
func (r *replica) compactionTarget() uint64 {
	tail := r.cfg.TailEntries
	var target uint64
	switch {
	case r.cfg.RetainLog:
		target = min(r.trimWritten, r.checkpointIndex)
	case r.applied > tail:
		target = r.applied - tail
	}
	for _, s := range r.sends {
		if s.source != nil {
			target = min(target, s.index)
		}
	}
	if r.rebased {
		target = max(target, 1)
	}
	if target == 0 || r.role != raft.StateLeader {
		return target
	}
	need := target
	r.rn.WithProgress(func(_ uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.RecentActive {
			need = min(need, max(pr.Match, pr.PendingSnapshot))
		}
	})
	longest := r.applied - min(r.applied, 4*tail)
	if target = min(target, max(need, longest)); r.rebased {
		target = max(target, 1)
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
		if err := r.checkpoint(batch); err != nil {
			return err
		}
	}
	if !l.commit(batch, true) {
		return l.failed
	}
	for _, r := range l.order {
		r.compacted()
	}
	return nil
}
