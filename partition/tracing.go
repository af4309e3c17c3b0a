package partition

import (
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/trace"
)

// txnAttributes name a transaction, or an idempotent producer.
func txnAttributes(t *oncelogv1.TxnRef, more ...trace.Attribute) []trace.Attribute {
	return append([]trace.Attribute{
		{Key: "oncelog.producer.id", Int: int64(t.GetProducerId())},
		{Key: "oncelog.producer.epoch", Int: int64(t.GetEpoch())},
		{Key: "oncelog.transaction.number", Int: int64(t.GetTxnNumber())},
	}, more...)
}

// traceAppend begins the span of a request: from its arrival until all its records
// are durable, or refused.
func (n *Node) traceAppend(req *oncelogv1.AppendRequest) trace.End {
	bytes := 0
	for _, p := range req.GetPartitions() {
		bytes += len(p.GetBatch())
	}
	_, end := n.cfg.Tracer.Start(trace.FromProto(req.GetTrace()), "append", txnAttributes(req.GetTxn(),
		trace.Attribute{Key: "oncelog.partitions", Int: int64(len(req.GetPartitions()))},
		trace.Attribute{Key: "oncelog.batch.bytes", Int: int64(bytes)})...)
	return end
}

// endTrace ends it with the first refusal, if there is one.
func (c *appendCall) endTrace() {
	if c.endSpan == nil {
		return
	}
	if _, err := answerUnary(c.resp); err != nil {
		c.endSpan(apierrors.From(err))
		return
	}
	c.endSpan(nil)
}

// traceMarkers begins a span for each marker of a transaction that is traced: until
// it is applied, or not.
func (n *Node) traceMarkers(sm *oncelogv1.ShardMarkers) (end func(*oncelogv1.ShardMarkerResults)) {
	var ends []trace.End
	for _, m := range sm.GetMarkers() {
		if m.GetTrace() == nil || trace.Check("marker.trace", m.GetTrace()) != nil {
			continue
		}
		_, e := n.cfg.Tracer.Start(trace.FromProto(m.GetTrace()), "apply marker", txnAttributes(m.GetTxn(),
			trace.Attribute{Key: "oncelog.shard", Int: int64(sm.GetShardId())})...)
		ends = append(ends, e)
	}
	return func(out *oncelogv1.ShardMarkerResults) {
		for _, e := range ends {
			if out.GetError() != nil {
				e(apierrors.FromProto(out.GetError()))
			} else {
				e(nil)
			}
		}
	}
}
