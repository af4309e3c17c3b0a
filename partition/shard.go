package partition

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// shard is this node's copy of one shard.
type shard struct {
	node    *Node
	id      uint64
	machine *machine
	waiters *waiters
	group   *raftstore.Group
	index   *log.Index
	// assigned is what the coordinator last said about the shard.
	assigned atomic.Pointer[oncelogv1.ShardAssignment]
	// life is in which of its lives in the shard's group this node has it.
	life uint32
	// moving is what this node as the leader has to say of the shard's move; nil:
	// nothing.
	moving atomic.Pointer[moveReport]
	// reads is entered to read rows or entries: the data must not be deleted under a
	// reader, who would take what is gone for what is hidden.
	reads gate
	// gone is closed when the shard is dropped.
	gone chan struct{}
	// duty wakes the task of duties.
	duty chan struct{}
}

// openShard opens or creates the shard's Raft group.
func (n *Node) openShard(store *raftstore.Store, a *oncelogv1.ShardAssignment) (*shard, error) {
	w := newWaiters()
	s := &shard{
		node: n, id: a.GetShardId(), waiters: w, machine: newMachine(n.cfg.Shard, w),
		duty: make(chan struct{}, 1), life: a.GetLife(), gone: make(chan struct{}),
	}
	s.assigned.Store(a)
	cfg := raftstore.GroupConfig{
		ID: raftstore.GroupID(s.id), Self: raftstore.NodeID(n.cfg.NodeID).WithLife(s.life), Join: a.GetJoin(), Machine: s.machine,
		RetainLog: true, SnapshotEntries: n.cfg.SnapshotEntries,
		OnLeadership: func(raftstore.Leadership) { s.leadershipChanged() },
		OnRemoved:    func() { s.leadershipChanged() },
	}
	if !cfg.Join {
		for _, id := range a.GetReplicas() {
			cfg.Members = append(cfg.Members, raftstore.NodeID(id))
		}
	}
	group, err := store.CreateGroup(cfg)
	if err != nil {
		return nil, err
	}
	s.group = group
	s.index = log.NewIndex(group.Rows(), group, s.gaps)
	return s, nil
}

// leadershipChanged is called by the owner loop, also before openShard returns.
func (s *shard) leadershipChanged() {
	s.waiters.wakeAll()
	task.Signal(s.duty)
	task.Signal(s.node.beat)
	task.Signal(s.node.enlist.wake)
}

// serving refuses a request that this node cannot serve for the shard: it must
// lead and have applied an entry of its own term (E16).
func (s *shard) serving() *apierrors.Error {
	lead := s.group.Leadership()
	switch {
	case s.node.isClosing():
		return unavailable()
	case task.Closed(s.gone):
		return s.node.notLeader(0, 0)
	case lead.Ready:
		return nil
	case lead.IsLeader: // nobody else does, and this node not yet
		return s.node.notLeader(0, 0)
	}
	return s.node.notLeader(lead.Leader, lead.Term)
}

// reading lets fn read rows and entries of the shard, unless they are going away.
func (s *shard) reading(fn func() error) error {
	if !s.reads.enter() {
		return s.node.notLeader(0, 0)
	}
	defer s.reads.leave()
	return s.node.reading(fn)
}

// propose queues a command; see raftstore's Group.ProposeAsync. A term above 0
// is a condition. When done is called the entry's rows are visible.
func (s *shard) propose(term uint64, data []byte, done func(raftstore.ProposalResult)) {
	s.group.ProposeAsync(data, term, func(res raftstore.ProposalResult) {
		s.waiters.flush()
		if s.machine.opened.Swap(false) {
			task.Signal(s.node.enlist.wake)
		}
		done(res)
	})
}

// proposeWait proposes and waits for what Apply returned.
func (s *shard) proposeWait(ctx context.Context, term uint64, data []byte) (any, error) {
	res, stopped := task.Receive(s.node.run, s.proposeLater(term, data), ctx.Done())
	if stopped == 0 {
		return nil, ctx.Err()
	}
	return res.Value, res.Err
}

// proposeLater proposes and returns where the result will be, once.
func (s *shard) proposeLater(term uint64, data []byte) <-chan raftstore.ProposalResult {
	ch := make(chan raftstore.ProposalResult, 1)
	s.propose(term, data, func(res raftstore.ProposalResult) { ch <- res })
	return ch
}

// view is what may be seen of a partition at one log index.
type view struct {
	start   uint64 // first offset that is kept
	visible uint64 // end for the isolation level, exclusive
	stable  uint64 // end of read_committed, exclusive
	applied uint64 // end of what is stored, exclusive
	index   uint64 // of the state this was read from
	// compacted is the offset below which the aborted index may lack what is not
	// stored any more.
	compacted uint64
	// rewrites is how often batches were rewritten.
	rewrites uint64
}

// view reads a partition's bounds in one look. False: not hosted here.
func (s *shard) view(partition uint64, level pstate.Isolation) (v view, ok bool) {
	s.machine.read(func(st *pstate.State) {
		var end pstate.End
		if end, ok = st.VisibleEnd(partition, level); !ok {
			return
		}
		v = view{
			start: st.LogStart(partition), visible: uint64(end),
			stable: uint64(st.StableEnd(partition)), applied: uint64(st.AppliedEnd(partition)),
			index: st.Index(), compacted: st.CompactedTo(partition), rewrites: st.Rewrites(partition),
		}
	})
	return v, ok
}

// gaps is how far compaction may have left offsets of a partition without a record.
// The state is never older than the rows.
func (s *shard) gaps(partition uint64) (to uint64) {
	s.machine.read(func(st *pstate.State) { to = st.GapsTo(partition) })
	return to
}

// errCompacted says that since something of a partition was read compaction has
// changed what it meant: it is to be read again.
var errCompacted = errors.New("the partition has been compacted")

// read returns the bytes of a batch. Since its row was read the batch may have been
// relocated, and the entry that the row named be gone: then the row that is there
// now names another. If compaction has left less of the batch, it is errCompacted.
func (s *shard) read(partition uint64, b log.Batch) ([]byte, error) {
	for {
		data, err := s.index.Read(b)
		if err == nil {
			return data, nil
		}
		now, ok, lost := s.index.Find(partition, b.BaseOffset)
		same := ok && now.BaseOffset == b.BaseOffset && now.Count == b.Count
		switch {
		case lost != nil || ok && now.Index == b.Index:
			return nil, err
		case !same && b.BaseOffset < s.gaps(partition):
			return nil, errCompacted
		case !same:
			return nil, err
		}
		b = now
	}
}

// published waits until the rows of the entries up to index are visible. That
// takes no longer than a pass of the Raft loop. While this node leads, every
// entry it applies is a proposal of its own, whose answer flushes the waiters,
// or is followed by a change of leadership, which does too.
func (s *shard) published(ctx context.Context, index uint64) *apierrors.Error {
	for s.group.Applied() < index {
		next := s.waiters.publication()
		if s.group.Applied() >= index {
			return nil
		}
		if err := s.serving(); err != nil {
			return err
		}
		switch s.node.run.Wait(next, s.node.closing, ctx.Done()) {
		case 1:
			return unavailable()
		case 2:
			return s.node.proposalError(ctx.Err())
		}
	}
	return nil
}

// current returns once it is known that the state of this node is at least as
// new as the call. It costs a round of heartbeats. A leader that was deposed and
// does not know it yet gets no answer from the others, and an error here.
func (s *shard) current(ctx context.Context) *apierrors.Error {
	if _, err := s.group.ReadIndex(ctx); err != nil {
		return s.node.proposalError(err)
	}
	return nil
}

// find returns the shard that hosts a partition, if this node serves it and the caller may
// do the operation to its topic. What else is wrong is told to nobody who may not.
func (n *Node) find(who access.Principal, op acl.Operation, field string, ref *oncelogv1.PartitionRef) (*shard, *oncelogv1.PartitionRef, *apierrors.Error) {
	if err := checkRef(field, ref); err != nil {
		return nil, nil, err
	}
	if err := n.permits(who, op, ref); err != nil {
		return nil, nil, err
	}
	rt, ok := n.routing.get().find(ref)
	if !ok {
		return nil, nil, unknownPartition(ref)
	}
	s := n.shard(rt.shard)
	if s == nil {
		return nil, nil, unavailable()
	}
	if err := s.serving(); err != nil {
		return nil, nil, err
	}
	return s, rt.ref, nil
}
