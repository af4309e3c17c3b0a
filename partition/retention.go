package partition

import (
	"context"
	"slices"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/pstate"
)

// retentionOf reads what the coordinator says of a partition. Nonsense keeps
// everything: it must not cost records.
func retentionOf(p *oncelogv1.AssignedPartition) pstate.Retention {
	var r pstate.Retention
	if v := p.GetRetentionMs(); v > 0 && v <= pstate.MaxRetention {
		r.Millis = v
	}
	if v := p.GetRetentionBytes(); v > 0 && v <= pstate.MaxRetention {
		r.Bytes = uint64(v)
	}
	return r
}

// retain moves log starts to where retention wants them by this leader's clock.
// Where they may not go says the state when the command is applied.
func (s *shard) retain(term uint64) {
	n := s.node
	ctx, cancel := n.run.WithTimeout(n.ctx, n.cfg.CallTimeout)
	defer cancel()
	for {
		now := n.nowMillis()
		var due []pstate.LogStart
		s.machine.read(func(st *pstate.State) { due = st.Expired(now, pstate.MaxLogStarts) })
		if len(due) == 0 {
			return
		}
		if _, err := s.advance(ctx, term, now, due); err != nil {
			n.log.Debug("retention failed", "shard", s.id, "error", err)
			return
		}
		n.counters.logStarts.Add(uint64(len(due)))
		n.log.Info("retention moved log starts", "shard", s.id, "partitions", len(due))
	}
}

// advance moves log starts and returns where they are then, in the same order. A
// term above 0 is a condition.
func (s *shard) advance(ctx context.Context, term uint64, now int64, to []pstate.LogStart) ([]pstate.LogStartResult, error) {
	data, err := pstate.EncodeAdvanceLogStarts(nil, pstate.AdvanceLogStarts{At: now, Starts: to})
	if err != nil {
		return nil, err
	}
	value, err := s.proposeWait(ctx, term, data)
	if err != nil {
		return nil, err
	}
	return value.([]pstate.LogStartResult), nil
}

// trim lets go of the entries of this replica's log in which no partition has
// records any more: nobody will read them, and what they did is in the state.
func (s *shard) trim() {
	var needed uint64
	s.machine.read(func(st *pstate.State) { needed = st.Needed() })
	s.group.Trim(needed - 1)
}

// DeleteRecords implements the contract.
func (l logService) DeleteRecords(ctx context.Context, req *oncelogv1.DeleteRecordsRequest) (*oncelogv1.DeleteRecordsResponse, error) {
	deletions := req.GetDeletions()
	if len(deletions) > MaxQueries {
		return nil, tooMuch("deletions", MaxQueries)
	}
	resp := &oncelogv1.DeleteRecordsResponse{Starts: make([]*oncelogv1.PartitionStart, len(deletions))}
	byShard := map[*shard][]int{}
	var order []*shard
	for i, d := range deletions {
		s, ref, refused := l.n.deletable(access.From(ctx), d)
		if refused != nil {
			return nil, refused
		}
		resp.Starts[i] = &oncelogv1.PartitionStart{Partition: ref}
		if byShard[s] == nil {
			order = append(order, s)
		}
		byShard[s] = append(byShard[s], i)
	}
	slices.SortFunc(order, func(a, b *shard) int { return int(a.id) - int(b.id) })
	for _, s := range order {
		to := make([]pstate.LogStart, 0, len(byShard[s]))
		for _, i := range byShard[s] {
			to = append(to, pstate.LogStart{
				Partition: resp.Starts[i].GetPartition().GetPartitionId(), Start: deletions[i].GetBeforeOffset(),
			})
		}
		results, err := s.advance(ctx, 0, l.n.nowMillis(), to)
		if err != nil {
			return nil, l.n.proposalError(err)
		}
		for n, i := range byShard[s] {
			if results[n].Code != pstate.SyncApplied {
				return nil, unknownPartition(resp.Starts[i].GetPartition())
			}
			resp.Starts[i].StartOffset = results[n].Start
		}
	}
	return resp, nil
}

// deletable checks one deletion and finds where it is done.
func (n *Node) deletable(who access.Principal, d *oncelogv1.RecordDeletion) (*shard, *oncelogv1.PartitionRef, *errors.Error) {
	const field = "deletions.partition"
	if d.GetPartition().GetPartitionId() == 0 {
		return nil, nil, errors.InvalidArgument(field, "name the partition by its id")
	}
	s, ref, refused := n.find(who, acl.Delete, field, d.GetPartition())
	if refused != nil {
		return nil, nil, refused
	}
	v, ok := s.view(ref.GetPartitionId(), pstate.ReadCommitted)
	switch {
	case !ok:
		return nil, nil, unknownPartition(ref)
	case d.GetBeforeOffset() > v.stable:
		return nil, nil, outOfRange(d.GetBeforeOffset(), v.start, v.stable)
	}
	return s, ref, nil
}
