package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newTxnHistoryCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "history TRANSACTIONAL_ID",
		Short: "Show what happened to a transactional id, step by step",
		Long: `History shows the events of a transactional id that the coordinator still has in
memory, of the last 16,384 of the whole cluster: when it was given its epoch, when
the coordinator heard of a transaction and from which shards, when it was decided
and why, and when each shard had applied that. How the last 16 transactions ended
is kept with the id: 'oncelog txn describe'.`,
		Example: "  oncelog txn history orders-7",
		Args:    takes(1, 1),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		client, err := s.dial(ctx)
		if err != nil {
			return err
		}
		ctx, cancel := s.limit(ctx)
		defer cancel()
		all := &oncelogv1.WatchTransactionsResponse{}
		req := &oncelogv1.WatchTransactionsRequest{TransactionalId: args[0], AfterIndex: proto.Uint64(0), NoFollow: true}
		err = client.Admin().WatchTransactions(ctx, req, func(r *oncelogv1.WatchTransactionsResponse) error {
			all.Events = append(all.Events, r.GetEvents()...)
			all.Missed, all.Index = all.GetMissed() || r.GetMissed(), r.GetIndex()
			return nil
		})
		if err != nil {
			return about{"transactional id " + args[0], err}
		}
		return s.print(all, func(w io.Writer) error {
			t := output.NewTable("at", "event", "txn", "shard_id", "outcome", "client_id")
			for _, e := range all.GetEvents() {
				t.Row(eventCells(e)...)
			}
			if err := t.Write(w); err != nil {
				return err
			}
			if all.GetMissed() {
				s.note("what happened earlier is not in memory any more")
			}
			return nil
		})
	})
}

func newTxnWatchCommand(a *app) *cobra.Command {
	req := &oncelogv1.WatchTransactionsRequest{}
	var since bool
	c := &cobra.Command{
		Use:   "watch",
		Short: "Show what happens to transactions, as it happens",
		Long: `Watch prints a line per event until it is interrupted, and goes on when another
coordinator takes over. A transaction that is over within some 20 ms is decided
without having been begun. If events come faster than they are read, or were lost
with a leader, a line says that some are missing.

With -o json every line is an event.`,
		Example: `  oncelog txn watch --id-prefix orders-
  oncelog txn watch --from-start -o json`,
		Args: takes(0, 0),
	}
	c.Flags().StringVar(&req.IdPrefix, "id-prefix", "", "only ids that begin with this")
	c.Flags().BoolVar(&since, "from-start", false, "begin with the events that are in memory")
	c.Flags().BoolVar(&req.NoFollow, "no-follow", false, "end after those that are there, with --from-start")
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		if s.cfg.Output == config.OutputYAML {
			return &usageError{fmt.Errorf("-o yaml: a stream is printed as a table or as json")}
		}
		client, err := s.dial(ctx)
		if err != nil {
			return err
		}
		if since {
			req.AfterIndex = proto.Uint64(0)
		}
		err = client.Admin().WatchTransactions(ctx, req, func(r *oncelogv1.WatchTransactionsResponse) error {
			if r.GetMissed() {
				s.note("some events are missing: they came faster than they were read, or are not in memory any more")
			}
			for _, e := range r.GetEvents() {
				if err := s.printEvent(e); err != nil {
					return err
				}
			}
			return nil
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // interrupted, as it is meant to be
		}
		return err
	})
}

// printEvent prints an event on a line.
func (s *session) printEvent(e *oncelogv1.TransactionEvent) error {
	if s.cfg.Output == config.OutputJSON {
		line, err := output.Message(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "%s\n", line)
		return err
	}
	cells := eventCells(e)
	_, err := fmt.Fprintln(s.out, strings.TrimRight(fmt.Sprintf("%v  %-11v %-24s %-12v %v", cells[0], cells[1],
		output.Printable(e.GetTransactionalId()), cells[2], strings.TrimSpace(eventDetail(e))), " "))
	return err
}

// eventCells are what is shown of an event.
func eventCells(e *oncelogv1.TransactionEvent) []any {
	shard := any("")
	if e.GetShardId() != 0 {
		shard = e.GetShardId()
	}
	return []any{output.Time(e.GetAtMs()), eventName(e), txnName(e.GetTxn()), shard, eventOutcome(e), e.GetClientId()}
}

func eventName(e *oncelogv1.TransactionEvent) string {
	return output.Enum(e.GetKind(), "TRANSACTION_EVENT_KIND")
}

func eventOutcome(e *oncelogv1.TransactionEvent) string {
	if e.GetOutcome() == oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_UNSPECIFIED {
		return ""
	}
	text := verdict(e.GetOutcome(), e.GetReason())
	if e.GetDamaged() {
		text += ", damaged"
	}
	return text
}

func eventDetail(e *oncelogv1.TransactionEvent) string {
	text := ""
	if e.GetShardId() != 0 {
		text = fmt.Sprintf("shard %d ", e.GetShardId())
	}
	return text + eventOutcome(e)
}
