package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newTxnBlockingCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "blocking [TOPIC]",
		Short: "Show which transactions hold back readers, since when, and from which client",
		Long: `Blocking lists the partitions whose last stable offset an open transaction holds
back, with the records that readers do not see therefore, the transactional id, the
client that opened it, and since when. It is empty when nobody waits.`,
		Example: `  oncelog txn blocking
  oncelog txn blocking orders -o json`,
		Args: takes(0, 1),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		topics := args
		if len(args) == 0 {
			listed, err := pages(0, func(size uint32, token string) ([]*oncelogv1.Topic, string, error) {
				resp, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListTopicsResponse, error) {
					return a.ListTopics(ctx, size, token)
				})
				return resp.GetTopics(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			for _, t := range listed {
				topics = append(topics, t.GetName())
			}
		}
		v := blockingView{Blocked: []blockedPartition{}, now: s.now()}
		for _, topic := range topics {
			if err := v.add(ctx, s, topic); err != nil {
				return err
			}
		}
		return s.print(v, v.table)
	})
}

// blockingView are the partitions whose readers wait.
type blockingView struct {
	Blocked []blockedPartition `json:"blocked"`

	now time.Time
}

type blockedPartition struct {
	Topic           string `json:"topic"`
	Partition       uint32 `json:"partition"`
	Hidden          uint64 `json:"hidden,string"`
	SinceMs         int64  `json:"blocked_since_ms,string"`
	Txn             string `json:"txn"`
	TransactionalID string `json:"transactional_id"`
	ClientID        string `json:"client_id"`
}

func (v *blockingView) add(ctx context.Context, s *session, topic string) error {
	partitions, err := ask(ctx, s, "topic "+topic, func(ctx context.Context, a *client.Admin) ([]*oncelogv1.PartitionStatus, error) {
		return a.DescribePartitions(ctx, topic)
	})
	if err != nil {
		return err
	}
	for _, p := range partitions {
		if p.GetBlockedBy() == nil {
			continue
		}
		b := blockedPartition{
			Topic: topic, Partition: p.GetPartition().GetPartition(), Hidden: p.GetAppliedEnd() - p.GetStableEnd(),
			SinceMs: p.GetBlockedSinceMs(), Txn: txnName(p.GetBlockedBy()),
		}
		// If the id is gone, or nobody can be asked, what is known stands all the same.
		if who, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeTransactionResponse, error) {
			return a.DescribeProducer(ctx, p.GetBlockedBy().GetProducerId())
		}); err == nil {
			b.TransactionalID, b.ClientID = who.GetTransactionalId(), who.GetClientId()
		}
		v.Blocked = append(v.Blocked, b)
	}
	return nil
}

func (v *blockingView) table(w io.Writer) error {
	t := output.NewTable("topic", "partition", "hidden", "since", "for", "txn", "transactional_id", "client_id")
	for _, b := range v.Blocked {
		t.Row(b.Topic, b.Partition, output.Count(b.Hidden), output.Time(b.SinceMs),
			output.Duration(v.now.Sub(time.UnixMilli(b.SinceMs))), b.Txn, b.TransactionalID, b.ClientID)
	}
	return t.Write(w)
}
