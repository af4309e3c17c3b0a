package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newProducerCommand(a *app) *cobra.Command {
	return parent("producer", "Show the producers of a partition, fence one, and forget an id",
		newProducerDescribeCommand(a), newProducerFenceCommand(a), newProducerDeleteCommand(a))
}

func newProducerDescribeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "describe TOPIC PARTITION",
		Short: "Show what a partition remembers of its producers",
		Long: `Describe shows every producer that a partition remembers: its open transaction
there with its first offset, the next sequence, its last append, and the epoch
below which the partition's shard refuses it. Whose producer id it is says
'oncelog txn describe --producer-id'.`,
		Example: "  oncelog producer describe orders 0",
		Args:    takes(2, 2),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		n, err := strconv.ParseInt(args[1], 10, 32)
		if err != nil || n < 0 {
			return &usageError{fmt.Errorf("%q is no partition: it must be a number from 0", args[1])}
		}
		tp := client.TopicPartition{Topic: args[0], Partition: int32(n)}
		all, err := ask(ctx, s, "topic "+args[0], func(ctx context.Context, a *client.Admin) ([]*oncelogv1.ProducerState, error) {
			return a.DescribeProducers(ctx, tp)
		})
		if err != nil {
			return err
		}
		return s.print(&oncelogv1.DescribeProducersResponse{Producers: all}, func(w io.Writer) error {
			t := output.NewTable("producer_id", "epoch", "open_txn", "first_offset", "next_sequence", "last_append", "fence")
			for _, p := range all {
				open := ""
				if p.GetTxn().GetTxnNumber() != 0 {
					open = txnName(p.GetTxn())
				}
				t.Row(p.GetTxn().GetProducerId(), p.GetTxn().GetEpoch(), open, output.Optional(p.FirstOffset),
					p.GetNextSequence(), output.Time(p.GetLastAppendMs()), p.GetFence())
			}
			return t.Write(w)
		})
	})
}

func newProducerFenceCommand(a *app) *cobra.Command {
	var epoch uint32
	c := &cobra.Command{
		Use:   "fence TRANSACTIONAL_ID",
		Short: "Finish the current producer of a transactional id",
		Long: `Fence raises the epoch of a transactional id: whoever uses it now is told FENCED
and ends, and its open transaction is aborted. An instance that is started
afterwards works. With --epoch only who works under that one is meant: if somebody
has taken over since, nothing is done. To end one transaction only there is
'oncelog txn abort'.`,
		Example: `  oncelog producer fence orders-7
  oncelog producer fence orders-7 --epoch 3`,
		Args: takes(1, 1),
	}
	c.Flags().Uint32Var(&epoch, "epoch", 0, "the epoch that is to be finished (default: whichever is current)")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		if c.Flags().Changed("epoch") {
			return s.fenceEpoch(ctx, args[0], epoch)
		}
		resp, err := ask(ctx, s, "transactional id "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.FenceProducerResponse, error) {
			return a.FenceProducer(ctx, args[0])
		})
		if err != nil {
			return unknownProducer(err)
		}
		return s.print(resp, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "fenced %s: its epoch is %d now\n", output.Printable(args[0]), resp.GetEpoch())
			return err
		})
	})
}

// fenceEpoch finishes one epoch of an id, and nobody who has taken over since. The answer
// to a repetition is the same as that to a fence which hit nobody, so who is current is
// asked first; whoever comes between the two calls is not hit either.
func (s *session) fenceEpoch(ctx context.Context, id string, epoch uint32) error {
	what := "transactional id " + id
	now, err := ask(ctx, s, what, func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeTransactionResponse, error) {
		return a.DescribeTransaction(ctx, id)
	})
	if err != nil {
		return unknownProducer(err)
	}
	if now.GetEpoch() != epoch {
		return &helpError{
			fmt.Errorf("%s: nothing was done: it is at epoch %d, not %d", what, now.GetEpoch(), epoch),
			"Look at it again with `oncelog txn describe`; without --epoch whoever is current is fenced.",
		}
	}
	resp, err := ask(ctx, s, what, func(ctx context.Context, a *client.Admin) (*oncelogv1.FenceProducerResponse, error) {
		return a.FenceEpoch(ctx, id, epoch)
	})
	if err != nil {
		return unknownProducer(err)
	}
	return s.print(resp, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "fenced epoch %d of %s: its epoch is %d now\n", epoch, output.Printable(id), resp.GetEpoch())
		return err
	})
}

func newProducerDeleteCommand(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "delete TRANSACTIONAL_ID",
		Short: "Forget a transactional id",
		Long: `Delete makes the cluster forget a transactional id, for one that is used no more: by
itself that happens after transactional_id_expiration. An open transaction is
aborted first, and the command waits until its shards know. Outcomes of the id's
transactions can then no longer be asked for. A producer that still uses the id
ends; one that is started afterwards begins anew.`,
		Example: "  oncelog producer delete orders-7 --yes",
		Args:    takes(1, 1),
	}
	c.Flags().BoolVar(&yes, "yes", false, "really forget it")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		if !yes {
			return &usageError{fmt.Errorf("deleting %s aborts what it has open, and its outcomes cannot be asked for any more: say --yes", args[0])}
		}
		_, err := ask(ctx, s, "transactional id "+args[0], func(ctx context.Context, a *client.Admin) (struct{}, error) {
			return struct{}{}, a.DeleteTransactionalID(ctx, args[0])
		})
		if err != nil {
			return unknownProducer(err)
		}
		fmt.Fprintf(s.err, "transactional id %s is forgotten\n", output.Printable(args[0]))
		return nil
	})
}
