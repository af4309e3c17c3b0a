package coordinator

import (
	"context"
	"errors"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/trace"
)

// tracedDecisions is how many decisions are remembered for the spans of their
// markers, which follow within milliseconds unless a shard is down.
const tracedDecisions = 4096

func refAttributes(r txn.Ref, more ...trace.Attribute) []trace.Attribute {
	return append([]trace.Attribute{
		{Key: "oncelog.producer.id", Int: int64(r.ProducerID)},
		{Key: "oncelog.producer.epoch", Int: int64(r.Epoch)},
		{Key: "oncelog.transaction.number", Int: int64(r.Number)},
	}, more...)
}

// decide proposes the end of a transaction. Its span is remembered before that, for
// the markers may be on their way before the proposal returns.
func (s *transactionService) decide(ctx context.Context, cmd txn.EndTransaction) (endResult, error) {
	cause := s.cfg.Tracer.Of(ctx)
	if cause == (trace.Context{}) {
		return proposeTxn[endResult](ctx, s.Coordinator, cmd)
	}
	span, end := s.cfg.Tracer.Start(cause, "decide", refAttributes(cmd.Ref,
		trace.Attribute{Key: "oncelog.participants", Int: int64(len(cmd.Participants))})...)
	s.decisions.Put(cmd.Ref, span)
	res, err := proposeTxn[endResult](ctx, s.Coordinator, cmd)
	outcome := trace.Attribute{Key: "oncelog.transaction.outcome", Text: res.Outcome.String()}
	switch {
	case err != nil:
		end(err)
	case res.Code != txn.CodeOK:
		end(errors.New(res.Code.String()), outcome)
	default:
		end(nil, outcome)
	}
	return res, err
}

// traceMarker begins the span of a marker on its way to a shard, if the decision is
// traced, and writes it into the message. end may be nil.
func (s *markerSender) traceMarker(to *oncelogv1.Marker, m txn.Marker, shard uint64) (end trace.End) {
	cause := s.decisions.Get(m.Ref)
	if cause == (trace.Context{}) {
		return nil
	}
	span, end := s.cfg.Tracer.Start(cause, "write marker", refAttributes(m.Ref,
		trace.Attribute{Key: "oncelog.shard", Int: int64(shard)})...)
	to.Trace = span.Proto()
	return end
}
