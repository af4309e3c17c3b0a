package partition

import (
	"context"

	"github.com/oncelog/oncelog/api/acl"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/pstate"
)

// DescribeProducers lists what a partition remembers of producers, at most
// 10,000 rows. A committed transaction that is remembered for its duplicates
// counts as its producer without an open one.
func (l logService) DescribeProducers(ctx context.Context, req *oncelogv1.DescribeProducersRequest) (*oncelogv1.DescribeProducersResponse, error) {
	s, ref, refused := l.n.find(access.From(ctx), acl.Read, "partition", req.GetPartition())
	if refused != nil {
		return nil, refused
	}
	resp := &oncelogv1.DescribeProducersResponse{}
	found := false
	s.machine.read(func(st *pstate.State) {
		var rows []pstate.ProducerStatus
		if rows, found = st.DescribeProducers(ref.GetPartitionId()); !found {
			return
		}
		for _, row := range newestCommitted(rows) {
			if len(resp.Producers) == MaxListElements {
				return
			}
			resp.Producers = append(resp.Producers, producerState(st, row))
		}
	})
	if !found {
		return nil, unknownPartition(ref)
	}
	return resp, nil
}

// newestCommitted keeps of a producer's committed transactions the newest, and
// none if it has anything else. Rows are in the order of their references.
func newestCommitted(rows []pstate.ProducerStatus) []pstate.ProducerStatus {
	other := map[uint64]bool{}
	for _, r := range rows {
		if r.State != pstate.ProducerCommitted {
			other[r.Ref.ProducerID] = true
		}
	}
	out := rows[:0]
	for i, r := range rows {
		if r.State == pstate.ProducerCommitted {
			newer := i+1 < len(rows) && rows[i+1].Ref.ProducerID == r.Ref.ProducerID
			if newer || other[r.Ref.ProducerID] {
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

func producerState(st *pstate.State, row pstate.ProducerStatus) *oncelogv1.ProducerState {
	out := &oncelogv1.ProducerState{
		Txn: protoRef(row.Ref), NextSequence: row.NextSequence, LastAppendMs: row.LastTimestamp,
	}
	switch row.State {
	case pstate.ProducerOpen:
		first := row.TxnStartOffset
		out.FirstOffset = &first
	case pstate.ProducerIdempotent, pstate.ProducerCommitted:
		out.Txn.TxnNumber = 0
	}
	if p, ok := st.Producer(row.Ref.ProducerID); ok {
		out.Fence = p.Fence
	}
	return out
}

// DescribePartitions tells ends, stable ends and what holds them back.
func (l logService) DescribePartitions(ctx context.Context, req *oncelogv1.DescribePartitionsRequest) (*oncelogv1.DescribePartitionsResponse, error) {
	if len(req.GetPartitions()) > MaxQueries {
		return nil, tooMuch("partitions", MaxQueries)
	}
	if len(req.GetPartitions()) == 0 {
		return l.n.describeLed(access.From(ctx))
	}
	resp := &oncelogv1.DescribePartitionsResponse{}
	for _, p := range req.GetPartitions() {
		s, ref, err := l.n.find(access.From(ctx), acl.Describe, "partitions", p)
		if err != nil {
			return nil, err
		}
		var status *oncelogv1.PartitionStatus
		s.machine.read(func(st *pstate.State) {
			if ps, ok := st.Partition(ref.GetPartitionId()); ok {
				status = partitionStatus(st, s.id, ps)
			}
		})
		if status == nil {
			return nil, unknownPartition(ref)
		}
		resp.Partitions = append(resp.Partitions, status)
	}
	return resp, nil
}

// describeLed lists the partitions of all shards that this node leads, of topics that
// the caller may see.
func (n *Node) describeLed(who access.Principal) (*oncelogv1.DescribePartitionsResponse, error) {
	if n.isClosing() {
		return nil, unavailable()
	}
	resp := &oncelogv1.DescribePartitionsResponse{}
	for _, s := range n.allShards() {
		if s.serving() != nil {
			continue
		}
		s.machine.read(func(st *pstate.State) {
			for _, ps := range st.Partitions() {
				if n.permits(who, acl.Describe, &oncelogv1.PartitionRef{Topic: ps.Topic}) != nil {
					continue
				}
				resp.Partitions = append(resp.Partitions, partitionStatus(st, s.id, ps))
			}
		})
	}
	return resp, nil
}

func partitionStatus(st *pstate.State, shard uint64, ps pstate.PartitionStatus) *oncelogv1.PartitionStatus {
	out := &oncelogv1.PartitionStatus{
		Partition: &oncelogv1.PartitionRef{Topic: ps.Topic, Partition: ps.Index, PartitionId: ps.ID},
		ShardId:   shard, StartOffset: ps.Start, SizeBytes: ps.Size,
		AppliedEnd: uint64(ps.Applied), StableEnd: uint64(ps.Stable), OpenTransactions: uint32(ps.OpenTxns),
		CompactedOffset: ps.Compacted, DeletedOffset: ps.Deleted,
	}
	if b, ok := st.Blocker(ps.ID); ok {
		out.BlockedBy, out.BlockedSinceMs = protoRef(b.Ref), b.OpenedTime
	}
	return out
}
