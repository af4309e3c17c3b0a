package partition

import (
	"cmp"
	"context"
	"errors"
	"slices"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// WriteMarkers proposes the decisions of every shard, as one entry each as a
// rule, and answers when all are applied. A shard that fails says so in its
// own result.
func (p shardService) WriteMarkers(ctx context.Context, req *oncelogv1.WriteMarkersRequest) (*oncelogv1.WriteMarkersResponse, error) {
	if len(req.GetShards()) > MaxListElements {
		return nil, tooMuch("shards", MaxListElements)
	}
	resp := &oncelogv1.WriteMarkersResponse{Shards: make([]*oncelogv1.ShardMarkerResults, len(req.GetShards()))}
	waits := make([]func() *oncelogv1.ShardMarkerResults, len(req.GetShards()))
	ends := make([]func(*oncelogv1.ShardMarkerResults), len(req.GetShards()))
	for i, sm := range req.GetShards() {
		ends[i] = p.n.traceMarkers(sm)
		waits[i] = p.n.writeMarkers(ctx, sm)
	}
	for i, wait := range waits {
		resp.Shards[i] = wait()
		ends[i](resp.Shards[i])
	}
	return resp, nil
}

// writeMarkers proposes the markers of one shard and returns how to wait for
// the results.
func (n *Node) writeMarkers(ctx context.Context, sm *oncelogv1.ShardMarkers) (wait func() *oncelogv1.ShardMarkerResults) {
	entries, s, refused := n.prepareMarkers(sm)
	if refused != nil {
		out := &oncelogv1.ShardMarkerResults{ShardId: sm.GetShardId(), Error: refused.Proto()}
		return func() *oncelogv1.ShardMarkerResults { return out }
	}
	answers := make([]<-chan raftstore.ProposalResult, len(entries))
	for i, entry := range entries {
		answers[i] = s.proposeLater(0, entry)
	}
	return func() *oncelogv1.ShardMarkerResults {
		out := &oncelogv1.ShardMarkerResults{ShardId: sm.GetShardId()}
		for _, answer := range answers {
			res, stopped := task.Receive(n.run, answer, ctx.Done())
			if stopped == 0 {
				res.Err = ctx.Err()
			}
			results, ok := res.Value.([]pstate.MarkerResult)
			if res.Err == nil && !ok {
				res.Err = errors.New("markers were applied without results")
			}
			if res.Err != nil {
				// What was applied is found ALREADY applied next time.
				return &oncelogv1.ShardMarkerResults{ShardId: sm.GetShardId(), Error: n.proposalError(res.Err).Proto()}
			}
			n.alarm(s, results)
			for _, r := range results {
				out.Results = append(out.Results, markerResult(r.Code))
			}
		}
		return out
	}
}

// prepareMarkers checks the markers of one shard and encodes them.
func (n *Node) prepareMarkers(sm *oncelogv1.ShardMarkers) (entries [][]byte, s *shard, refused *apierrors.Error) {
	if len(sm.GetMarkers()) > MaxListElements {
		return nil, nil, tooMuch("markers", MaxListElements)
	}
	if s = n.shard(sm.GetShardId()); s == nil {
		if n.isClosing() {
			return nil, nil, unavailable()
		}
		return nil, nil, n.notLeader(0, 0)
	}
	if err := s.serving(); err != nil {
		return nil, nil, err
	}
	list := make([]pstate.Marker, 0, len(sm.GetMarkers()))
	for _, m := range sm.GetMarkers() {
		marker, err := markerOf(m)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, marker)
	}
	at := n.nowMillis()
	entries, err := splitEncode(list, func(part []pstate.Marker) ([]byte, error) {
		return pstate.EncodeMarkers(nil, pstate.Markers{At: at, List: part})
	})
	if err != nil {
		return nil, nil, apierrors.InvalidArgument("markers", err.Error())
	}
	return entries, s, nil
}

// splitEncode encodes a list into as few entries as keep to the limits.
func splitEncode[T any](list []T, encode func([]T) ([]byte, error)) (entries [][]byte, err error) {
	for part := range slices.Chunk(list, pstate.MaxMarkersPerEntry) {
		entry, err := encode(part)
		if err != nil {
			return nil, err
		}
		if len(entry) <= maxProposalBytes || len(part) == 1 {
			entries = append(entries, entry)
			continue
		}
		for half := range slices.Chunk(part, (len(part)+1)/2) {
			more, err := splitEncode(half, encode)
			if err != nil {
				return nil, err
			}
			entries = append(entries, more...)
		}
	}
	return entries, nil
}

// alarm counts results, and reports what must never happen.
func (n *Node) alarm(s *shard, results []pstate.MarkerResult) {
	for _, r := range results {
		n.counters.marker(r.Code)
		switch r.Code {
		case pstate.MarkerMissingData:
			n.log.Error("ALARM: a commit covers records that the shard does not hold", "shard", s.id, "txn", r.Ref.String(), "damage", r.Damage)
		case pstate.MarkerConflict:
			n.log.Error("ALARM: a decision contradicts an earlier one", "shard", s.id, "txn", r.Ref.String(), "remembered", r.Outcome.String())
		case pstate.MarkerApplied, pstate.MarkerRecorded, pstate.MarkerAlready,
			pstate.MarkerInvalid, pstate.MarkerDiscarded, pstate.MarkerDropped:
		}
	}
}

func markerResult(c pstate.MarkerCode) oncelogv1.MarkerResult {
	switch c {
	case pstate.MarkerApplied, pstate.MarkerRecorded:
		return oncelogv1.MarkerResult_MARKER_RESULT_APPLIED
	case pstate.MarkerAlready:
		return oncelogv1.MarkerResult_MARKER_RESULT_ALREADY
	case pstate.MarkerMissingData:
		return oncelogv1.MarkerResult_MARKER_RESULT_MISSING_DATA
	case pstate.MarkerConflict:
		return oncelogv1.MarkerResult_MARKER_RESULT_CONFLICT
	case pstate.MarkerInvalid, pstate.MarkerDiscarded, pstate.MarkerDropped:
	}
	return oncelogv1.MarkerResult_MARKER_RESULT_UNSPECIFIED
}

// markerOf reads a marker. Progress is put in order; a partition that is stated
// twice is refused.
func markerOf(m *oncelogv1.Marker) (pstate.Marker, *apierrors.Error) {
	out := pstate.Marker{Ref: refOf(m.GetTxn())}
	switch {
	case out.Ref.ProducerID == 0 || !out.Ref.Transactional():
		return out, apierrors.InvalidArgument("marker.txn", "names no transaction")
	case m.GetReason() < 0 || m.GetReason() > 255:
		return out, apierrors.InvalidArgument("marker.reason", "out of range")
	case len(m.GetProgress()) > pstate.MaxProgress:
		return out, tooMuch("marker.progress", pstate.MaxProgress)
	}
	out.Outcome, out.Reason = pstate.OutcomeAbort, pstate.Reason(m.GetReason())
	if m.GetCommit() {
		out.Outcome, out.Reason = pstate.OutcomeCommit, pstate.ReasonNone
	}
	if below := m.GetCompleteBelow(); below != nil {
		if below.GetProducerId() != out.Ref.ProducerID && below.GetProducerId() != 0 {
			return out, apierrors.InvalidArgument("marker.complete_below", "names another producer")
		}
		out.CompleteBelow = refOf(below).Point()
	}
	for _, p := range m.GetProgress() {
		out.Progress = append(out.Progress, pstate.Progress{Partition: p.GetPartitionId(), Next: p.GetNextSequence()})
	}
	slices.SortFunc(out.Progress, func(a, b pstate.Progress) int { return cmp.Compare(a.Partition, b.Partition) })
	for i := 1; i < len(out.Progress); i++ {
		if out.Progress[i].Partition == out.Progress[i-1].Partition {
			return out, apierrors.InvalidArgument("marker.progress", "states a partition twice")
		}
	}
	return out, nil
}

func refOf(t *oncelogv1.TxnRef) pstate.TxnRef {
	return pstate.TxnRef{ProducerID: t.GetProducerId(), Epoch: t.GetEpoch(), Number: t.GetTxnNumber()}
}

func protoRef(r pstate.TxnRef) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: r.ProducerID, Epoch: r.Epoch, TxnNumber: r.Number}
}
