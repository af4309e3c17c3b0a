package raftstore

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// createGroup opens or bootstraps a group. It runs in the loop.
func (l *loop) createGroup(cfg GroupConfig, store *Store) (*Group, error) {
	if l.failed != nil {
		return nil, ErrStopped
	}
	if l.replicas[cfg.ID] != nil {
		return nil, fmt.Errorf("group %d: %w", cfg.ID, ErrGroupExists)
	}
	st, ok, err := l.cfg.Log.Load(cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("open group %d: %w", cfg.ID, err)
	}
	if ok && st.Life != cfg.Self.Life() {
		if st.Life > cfg.Self.Life() {
			return nil, fmt.Errorf("group %d: %w: %d, not %d", cfg.ID, ErrOtherLife, st.Life, cfg.Self.Life())
		}
		if err := l.deleteGroup(cfg.ID); err != nil {
			return nil, err
		}
		ok = false
	}
	if !ok {
		if st, err = l.bootstrap(cfg); err != nil {
			return nil, err
		}
	}
	if st.Staged { // of a snapshot that was being received when the node stopped
		batch := l.cfg.Log.NewBatch()
		batch.DiscardStaged(cfg.ID)
		if !l.commit(batch, false) {
			return nil, l.failed
		}
	}
	r := &replica{
		loop: l, cfg: cfg, self: cfg.Self, hard: st.Hard,
		log:             newGroupLog(cfg.ID, l.cfg.Log, st, l.cfg.TailCacheBytes),
		checkpointIndex: st.SnapshotIndex, applied: st.SnapshotIndex, trimWritten: st.Trim,
		members: st.Members,
	}
	var snap Snapshot
	if st.SnapshotIndex > 0 {
		if snap, err = l.cfg.Log.Snapshot(cfg.ID); err != nil {
			return nil, fmt.Errorf("open group %d: %w", cfg.ID, err)
		}
		r.appliedTerm, r.checkpointSize = snap.Term, uint64(len(snap.Data))
		r.log.checkpointed(snap.Index, snap.Term)
	}
	if err := cfg.Machine.Restore(snap.Index, snap.Data); err != nil {
		return nil, fmt.Errorf("open group %d: restore checkpoint at %d: %w", cfg.ID, snap.Index, err)
	}
	if st.Hard.Commit < snap.Index || st.LastIndex < snap.Index {
		return nil, fmt.Errorf("open group %d: %w: checkpoint at %d, but commit index %d and last entry %d",
			cfg.ID, ErrCorrupt, snap.Index, st.Hard.Commit, st.LastIndex)
	}
	if r.rn, err = raft.NewRawNode(l.raftConfig(r)); err != nil {
		return nil, fmt.Errorf("open group %d: %w", cfg.ID, err)
	}
	r.role = raft.StateFollower
	r.group = newGroup(store, r)
	r.group.setMembers(st.Members)
	r.group.Trim(st.Trim)
	l.insert(r)
	// A group of one leads at once. A new group is led first by a member that
	// depends on its id, without waiting for a timeout: many groups then start
	// with their leaders spread over the nodes.
	if voters := st.Members.GetVoters(); len(voters) > 0 { // a joiner knows none
		first := voters[uint64(cfg.ID)%uint64(len(voters))]
		if first == uint64(r.self) && (!ok || len(voters) == 1) {
			_ = r.rn.Campaign() // refused only if a configuration change is pending
		}
	}
	r.publish()
	r.touch()
	return r.group, nil
}

// bootstrap writes the initial state of a group: an empty log and its members
// at index 0, the same on every member, so that no entry has to add them.
func (l *loop) bootstrap(cfg GroupConfig) (LogState, error) {
	cs := &raftpb.ConfState{}
	for _, m := range cfg.Members {
		cs.Voters = append(cs.Voters, uint64(m))
	}
	batch := l.cfg.Log.NewBatch()
	batch.SetMembers(cfg.ID, cs)
	batch.SetHardState(cfg.ID, HardState{})
	if life := cfg.Self.Life(); life > 0 {
		batch.SetLife(cfg.ID, life)
	}
	if !l.commit(batch, true) {
		return LogState{}, l.failed
	}
	return LogState{Members: cs, Life: cfg.Self.Life()}, nil
}

func (l *loop) raftConfig(r *replica) *raft.Config {
	return &raft.Config{
		ID:            uint64(r.self),
		ElectionTick:  l.cfg.ElectionTicks,
		HeartbeatTick: l.cfg.HeartbeatTicks,
		Storage:       r.log,
		Applied:       r.applied,
		MaxSizePerMsg: l.cfg.MaxSizePerMsg,
		// Bounds what one pass applies for one group, and so how long the
		// other groups wait for it.
		MaxCommittedSizePerReady:  16 << 20,
		MaxUncommittedEntriesSize: l.cfg.MaxUncommittedBytes,
		MaxInflightMsgs:           l.cfg.MaxInflightMsgs,
		// Bounds what one step reads from disk for a follower that is behind,
		// and so how long the loop is away.
		MaxInflightBytes:          max(16<<20, l.cfg.MaxSizePerMsg),
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		Logger:                    &raftLogger{log: l.cfg.Logger.With(slog.Uint64("group", uint64(r.id())))},
	}
}

func (l *loop) insert(r *replica) {
	l.replicas[r.id()] = r
	i, _ := slices.BinarySearchFunc(l.order, r.id(), func(x *replica, id GroupID) int {
		return int(min(max(int64(x.id())-int64(id), -1), 1))
	})
	l.order = slices.Insert(l.order, i, r)
}

// removeGroup stops a group and deletes its data.
func (l *loop) removeGroup(id GroupID) error {
	r := l.replicas[id]
	if r == nil {
		return l.deleteClosedGroup(id)
	}
	delete(l.replicas, id)
	l.order = slices.DeleteFunc(l.order, func(x *replica) bool { return x == r })
	r.removed = true
	r.failAll(ErrGroupNotFound)
	r.role, r.leader = raft.StateFollower, 0
	r.publish()
	l.deliver()
	if l.failed != nil {
		return ErrStopped
	}
	return l.deleteGroup(id)
}

func (l *loop) deleteClosedGroup(id GroupID) error {
	if l.failed != nil {
		return ErrStopped
	}
	_, ok, err := l.cfg.Log.Load(id)
	switch {
	case err != nil:
		return fmt.Errorf("delete group %d: %w", id, err)
	case !ok:
		return ErrGroupNotFound
	}
	return l.deleteGroup(id)
}

// deleteGroup deletes the data of a group that is not open.
func (l *loop) deleteGroup(id GroupID) error {
	batch := l.cfg.Log.NewBatch()
	batch.DeleteGroup(id)
	if !l.commit(batch, true) {
		return l.failed
	}
	return nil
}

// startTransfer begins a leadership transfer; done is called with its end.
func (l *loop) startTransfer(r *replica, to NodeID, done func(error)) {
	switch {
	case l.failed != nil:
		done(ErrStopped)
	case r.removed:
		done(ErrGroupNotFound)
	case r.leader == uint64(to):
		done(nil)
	case r.role != raft.StateLeader:
		done(r.notLeader())
	default:
		if r.transfer != nil {
			r.transfer.done(ErrTransferFailed)
		}
		r.transfer = &transfer{to: uint64(to), ticksLeft: 2 * l.cfg.ElectionTicks, done: done}
		r.rn.TransferLeader(uint64(to))
		r.touch()
	}
}

// handOver transfers every group led here away and calls drained when none is
// left, which is at once if there was none.
func (l *loop) handOver(drained func()) {
	l.onDrained = drained
	for _, r := range l.order {
		if r.role != raft.StateLeader {
			continue
		}
		if to := r.bestSuccessor(); to != 0 {
			r.rn.TransferLeader(to)
			r.touch()
		}
	}
	l.checkDrained()
}

// checkDrained ends handOver once no group is led here that somebody else
// could lead.
func (l *loop) checkDrained() {
	if l.onDrained == nil {
		return
	}
	for _, r := range l.order {
		if r.role == raft.StateLeader && r.bestSuccessor() != 0 {
			return
		}
	}
	l.onDrained()
	l.onDrained = nil
}

// raftLogger passes raft's log lines on. Raft is chatty at info, so that is
// debug here.
type raftLogger struct{ log *slog.Logger }

func (l *raftLogger) Debug(...any)          {}
func (l *raftLogger) Debugf(string, ...any) {}
func (l *raftLogger) Info(v ...any)         { l.log.Debug(fmt.Sprint(v...)) }
func (l *raftLogger) Infof(f string, v ...any) {
	if l.log.Enabled(nil, slog.LevelDebug) { //nolint:staticcheck // handlers ignore it
		l.log.Debug(fmt.Sprintf(f, v...))
	}
}
func (l *raftLogger) Warning(v ...any) { l.log.Warn(fmt.Sprint(v...)) }
func (l *raftLogger) Warningf(f string, v ...any) {
	if strings.Contains(f, "uncommitted entry size limit") {
		return // once per refused proposal; its author gets ErrOverloaded
	}
	l.log.Warn(fmt.Sprintf(f, v...))
}
func (l *raftLogger) Error(v ...any)            { l.log.Error(fmt.Sprint(v...)) }
func (l *raftLogger) Errorf(f string, v ...any) { l.log.Error(fmt.Sprintf(f, v...)) }
