package coordinator

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/access"
)

const (
	// maxWatchers bounds the streams of WatchTransactions at a time: each costs a look
	// at every event.
	maxWatchers = 64
	// watchBatch is about how many events one response carries.
	watchBatch = 500
)

// WatchTransactions implements the contract. Nothing is held while a response is
// being sent: a reader that is slow finds, when it comes back, that the ring has gone
// on without it.
func (s *transactionService) WatchTransactions(req *oncelogv1.WatchTransactionsRequest, stream grpc.ServerStreamingServer[oncelogv1.WatchTransactionsResponse]) error {
	if err := checkName("id_prefix", req.GetIdPrefix(), false); err != nil {
		return err
	}
	if err := checkName("transactional_id", req.GetTransactionalId(), false); err != nil {
		return err
	}
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "this coordinator has as many watchers as it takes")
	}
	defer s.watchers.Add(-1)
	ctx := stream.Context()
	if err := s.current(ctx); err != nil {
		return err
	}
	log := s.state.events
	after := log.position()
	if req.AfterIndex != nil {
		after = req.GetAfterIndex()
	}
	who := access.From(ctx)
	for first := true; ; first = false {
		if s.cfg.Access.Enabled() && who.Over(s.rt.Wall()) {
			return access.TokenOver()
		}
		changed := log.changed.next()
		lead, moved := s.group.LeadershipChanged()
		if !lead.Ready {
			return s.notLeader(uint64(lead.Leader))
		}
		events, upTo, missed := log.read(after, watchBatch)
		res := &oncelogv1.WatchTransactionsResponse{Events: s.wanted(stream.Context(), req, events), Missed: missed, Index: upTo}
		if first || missed || len(res.GetEvents()) > 0 {
			if err := stream.Send(res); err != nil {
				return err
			}
		}
		after = upTo
		if len(events) >= watchBatch {
			continue // there may be more
		}
		if req.GetNoFollow() {
			return nil
		}
		switch s.waitUntilOver(who, changed, moved, ctx.Done(), s.closing) {
		case 2:
			return ctx.Err()
		case 3:
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node is stopping")
		}
	}
}

// waitUntilOver is Wait that also ends when the caller's token has expired.
func (s *transactionService) waitUntilOver(who access.Principal, chans ...<-chan struct{}) int {
	if !s.cfg.Access.Enabled() || who.Until.IsZero() {
		return s.rt.Wait(chans...)
	}
	return s.rt.WaitFor(max(who.Until.Sub(s.rt.Wall()), 0)+time.Millisecond, chans...)
}

// wanted converts the events that a request asks for, as far as the caller may see them
// now: a permission that was taken away ends what a stream shows.
func (s *transactionService) wanted(ctx context.Context, req *oncelogv1.WatchTransactionsRequest, events []indexedEvent) []*oncelogv1.TransactionEvent {
	var visible func(id string) bool
	s.state.read(func() { visible = s.visible(ctx, acl.TransactionalID) })
	var out []*oncelogv1.TransactionEvent
	for _, e := range events {
		if !visible(e.TransactionalID) {
			continue
		}
		if id := req.GetTransactionalId(); id != "" && e.TransactionalID != id || !strings.HasPrefix(e.TransactionalID, req.GetIdPrefix()) {
			continue
		}
		p := &oncelogv1.TransactionEvent{
			Index: e.index, AtMs: e.At, Kind: eventProto(e.Kind), TransactionalId: e.TransactionalID, Txn: refProto(e.Ref),
			ShardId: e.Shard, Reason: reasonProto(e.Reason), ClientId: e.ClientHost, Damaged: e.Damaged,
		}
		if e.Outcome != txn.Undecided {
			p.Outcome = outcomeProto(e.Outcome)
		}
		out = append(out, p)
	}
	return out
}

func eventProto(k txn.EventKind) oncelogv1.TransactionEventKind {
	switch k {
	case txn.EventInitialised:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_INITIALISED
	case txn.EventBegun:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_BEGUN
	case txn.EventEnlisted:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_ENLISTED
	case txn.EventDecided:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_DECIDED
	case txn.EventApplied:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_APPLIED
	case txn.EventCompleted:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_COMPLETED
	case txn.EventForgotten:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_FORGOTTEN
	case txn.EventPrepared:
		return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_PREPARED
	}
	return oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_UNSPECIFIED
}
