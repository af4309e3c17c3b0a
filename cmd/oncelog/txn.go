package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newTxnCommand(a *app) *cobra.Command {
	return parent("txn", "List, describe, watch, abort and complete transactions, and ask for outcomes",
		newTxnListCommand(a), newTxnDescribeCommand(a), newTxnHistoryCommand(a), newTxnWatchCommand(a), newTxnBlockingCommand(a),
		newTxnAbortCommand(a), newTxnCompleteCommand(a), newTxnOutcomeCommand(a))
}

// Prefixes of enums' values.
const (
	statePrefix   = "TRANSACTION_STATE"
	outcomePrefix = "TRANSACTION_OUTCOME"
	reasonPrefix  = "ABORT_REASON"
)

func newTxnListCommand(a *app) *cobra.Command {
	var states []string
	var contains string
	var olderThan time.Duration
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List transactional ids with their current or last transaction",
		Long: `List shows every transactional id with the state of its current or last
transaction, in Kafka's names: empty, ongoing, prepare-commit and prepare-abort
(decided, not yet applied by every shard), complete-commit, complete-abort. One
is not Kafka's: prepared, which is a transaction that waits for the word of
another system.

A transaction that stays ongoing holds back readers of its partitions; find such
ones with --older-than and end them with 'oncelog txn abort'. So does one that
stays prepared, and no timeout ends it: 'oncelog txn complete' does.`,
		Example: `  oncelog txn list --state ongoing --older-than 30s
  oncelog txn list --state prepared
  oncelog txn list --id orders- -o json`,
		Args: takes(0, 0),
	}
	c.Flags().StringSliceVar(&states, "state", nil, "only these states")
	c.Flags().StringVar(&contains, "id", "", "only ids that contain this")
	c.Flags().DurationVar(&olderThan, "older-than", 0, "only ids with a transaction that has been unfinished for at least this long")
	c.Flags().IntVar(&limit, "limit", 1000, "at most this many; 0: all")
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		wanted, err := parseStates(states)
		if err != nil {
			return &usageError{err}
		}
		listings, err := pages(limit, func(size uint32, token string) ([]*oncelogv1.TransactionListing, string, error) {
			resp, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListTransactionsResponse, error) {
				return a.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{
					States: wanted, IdContains: contains, OlderThanMs: olderThan.Milliseconds(), PageSize: size, PageToken: token,
				})
			})
			return resp.GetTransactions(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return s.print(&oncelogv1.ListTransactionsResponse{Transactions: listings}, func(w io.Writer) error {
			t := output.NewTable("transactional_id", "producer_id", "epoch", "txn_number", "state", "age", "completing", "client_id")
			for _, l := range listings {
				age := ""
				if l.GetAgeMs() > 0 {
					age = output.Millis(l.GetAgeMs())
				}
				t.Row(l.GetTransactionalId(), l.GetTxn().GetProducerId(), l.GetTxn().GetEpoch(), l.GetTxn().GetTxnNumber(),
					output.Enum(l.GetState(), statePrefix), age, l.GetCompleting(), l.GetClientId())
			}
			return t.Write(w)
		})
	})
}

func parseStates(names []string) ([]oncelogv1.TransactionState, error) {
	var states []oncelogv1.TransactionState
	var known []string
	for n := range int32(len(oncelogv1.TransactionState_name)) {
		if n > 0 {
			known = append(known, output.Enum(oncelogv1.TransactionState(n), statePrefix))
		}
	}
	for _, name := range names {
		i := slices.Index(known, strings.ToLower(strings.ReplaceAll(name, "_", "-")))
		if i < 0 {
			return nil, fmt.Errorf("no state %q: there are %s", name, strings.Join(known, ", "))
		}
		states = append(states, oncelogv1.TransactionState(i+1))
	}
	return states, nil
}

func newTxnDescribeCommand(a *app) *cobra.Command {
	var producerID uint64
	c := &cobra.Command{
		Use:   "describe TRANSACTIONAL_ID",
		Short: "Show all that is known about a transactional id",
		Example: `  oncelog txn describe orders-7
  oncelog txn describe --producer-id 4711`,
		Args: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == c.Flags().Changed("producer-id") {
				return errors.New("name either a transactional id or a --producer-id")
			}
			return takes(0, 1)(c, args)
		},
	}
	c.Flags().Uint64Var(&producerID, "producer-id", 0, "find the id by its producer id")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		what := fmt.Sprintf("producer id %d", producerID)
		if len(args) > 0 {
			what = "transactional id " + args[0]
		}
		resp, err := ask(ctx, s, what, func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeTransactionResponse, error) {
			if len(args) > 0 {
				return a.DescribeTransaction(ctx, args[0])
			}
			return a.DescribeProducer(ctx, producerID)
		})
		if err != nil {
			return unknownProducer(err)
		}
		return s.print(resp, func(w io.Writer) error { return describeTransaction(w, resp) })
	})
}

// unknownProducer gives advice for people: the table's is for programs.
func unknownProducer(err error) error {
	if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER {
		return &helpError{err, "Correct it; `oncelog txn list` shows the transactional ids."}
	}
	return err
}

func describeTransaction(w io.Writer, d *oncelogv1.DescribeTransactionResponse) error {
	fields := []any{
		"transactional_id", d.GetTransactionalId(), "producer_id", d.GetProducerId(), "epoch", d.GetEpoch(),
		"state", output.Enum(d.GetState(), statePrefix), "last_txn_number", d.GetLastTxnNumber(),
		"timeout", output.Millis(d.GetTimeoutMs()), "client_id", d.GetClientId(), "last_update", output.Time(d.GetLastUpdateMs()),
	}
	if o := d.GetOpen(); o != nil {
		fields = append(fields, "started_at", output.Time(o.GetStartedAtMs()), "deadline", output.Time(o.GetDeadlineMs()))
	}
	if p := d.GetPrepared(); p != nil {
		fields = append(fields, "started_at", output.Time(p.GetStartedAtMs()), "prepared_at", output.Time(p.GetPreparedAtMs()))
	}
	if err := output.Fields(w, fields...); err != nil {
		return err
	}
	if p := d.GetPrepared(); p != nil {
		fmt.Fprintf(w, "\nprepared %s, waits for the word of another system:\n", txnName(p.GetTxn()))
		if err := participants(w, p.GetParticipants()); err != nil {
			return err
		}
	}
	if o := d.GetOpen(); o != nil {
		fmt.Fprintf(w, "\nopen %s:\n", txnName(o.GetTxn()))
		if err := participants(w, o.GetParticipants()); err != nil {
			return err
		}
	}
	for _, c := range d.GetCompleting() {
		fmt.Fprintf(w, "\ncompleting %s (%s):\n", txnName(c.GetTxn()), verdict(c.GetOutcome(), c.GetReason()))
		if err := participants(w, c.GetParticipants()); err != nil {
			return err
		}
	}
	if len(d.GetOutcomes()) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\noutcomes:")
	t := output.NewTable("txn", "outcome", "reason", "decided_at", "damaged")
	for _, o := range d.GetOutcomes() {
		t.Row(txnName(o.GetTxn()), output.Enum(o.GetOutcome(), outcomePrefix), output.Enum(o.GetReason(), reasonPrefix),
			output.Time(o.GetDecidedAtMs()), o.GetDamaged())
	}
	return t.Write(w)
}

// participants prints the shards of a transaction, a row per partition.
func participants(w io.Writer, all []*oncelogv1.TransactionParticipant) error {
	t := output.NewTable("shard_id", "topic", "partition", "partition_id", "next_sequence", "applied")
	for _, p := range all {
		for _, progress := range p.GetPartitions() {
			ref := progress.GetPartition()
			t.Row(p.GetShardId(), ref.GetTopic(), ref.GetPartition(), ref.GetPartitionId(), progress.GetNextSequence(), p.GetApplied())
		}
		if len(p.GetPartitions()) == 0 {
			t.Row(p.GetShardId(), "", "", "", "", p.GetApplied())
		}
	}
	return t.Write(w)
}

// verdict is an outcome with its reason in words.
func verdict(o oncelogv1.TransactionOutcome, r oncelogv1.AbortReason) string {
	text := output.Enum(o, outcomePrefix)
	if r != oncelogv1.AbortReason_ABORT_REASON_UNSPECIFIED {
		text += ": " + output.Enum(r, reasonPrefix)
	}
	return text
}

func newTxnAbortCommand(a *app) *cobra.Command {
	var only string
	var wait, force bool
	c := &cobra.Command{
		Use:   "abort TRANSACTIONAL_ID",
		Short: "Abort the open transaction of a transactional id",
		Long: `Abort ends the open transaction of a transactional id for good. Its producer is
told CONFLICT with reason ADMIN and goes on with its next transaction. It is
always safe for the data: readers see all of a transaction or nothing.

A prepared transaction is refused. Another system, such as a database, has the
word about it: find it there, and carry it out with 'oncelog txn complete'. With
--force it is aborted without asking anybody. If the other system has committed
its part, or does so later, that stays without the records and positions of this
transaction, and nothing brings them back.`,
		Example: `  oncelog txn abort orders-7
  oncelog txn abort orders-7 --txn 4711/3/12   # this one, and no later one
  oncelog txn abort bank-1 --txn 4713/2/5 --force   # prepared, and its word is lost`,
		Args: takes(1, 1),
	}
	c.Flags().StringVar(&only, "txn", "", "abort only this transaction, PRODUCER_ID/EPOCH/TXN_NUMBER")
	c.Flags().BoolVar(&wait, "wait", true, "wait until every shard has applied the abort")
	c.Flags().BoolVar(&force, "force", false, "abort a prepared transaction, too, of which the other system may have committed its part")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		req := &oncelogv1.AbortTransactionRequest{TransactionalId: args[0], WaitApplied: wait, Force: force}
		if only != "" {
			txn, err := parseTxn(only)
			if err != nil {
				return &usageError{err}
			}
			req.Txn = txn
		}
		resp, err := ask(ctx, s, "transactional id "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.AbortTransactionResponse, error) {
			return a.AbortTransaction(ctx, req)
		})
		if err != nil {
			return unknownProducer(preparedExists(err))
		}
		return s.print(resp, func(w io.Writer) error {
			if resp.GetTxn() == nil {
				_, err = fmt.Fprintf(w, "%s has no open transaction\n", args[0])
			} else {
				_, err = fmt.Fprintf(w, "aborted %s\n", txnName(resp.GetTxn()))
			}
			return err
		})
	})
}

func newTxnOutcomeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "outcome PRODUCER_ID/EPOCH/TXN_NUMBER",
		Short: "Ask how a transaction ended",
		Long: `Outcome answers committed, aborted (with the reason), open, forgotten (the last 16
of a transactional id are remembered) or invalid (there was no such transaction).
It is what to ask when the answer to a commit was lost.`,
		Example: "  oncelog txn outcome 4711/3/12",
		Args:    takes(1, 1),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		txn, err := parseTxn(args[0])
		if err != nil {
			return &usageError{err}
		}
		resp, err := s.outcome(ctx, txn)
		if err != nil {
			return about{"transaction " + args[0], err}
		}
		return s.print(resp, func(w io.Writer) error {
			t := output.NewTable("txn", "outcome", "reason", "decided_at", "pending_shards", "damaged")
			t.Row(txnName(txn), output.Enum(resp.GetOutcome(), outcomePrefix), output.Enum(resp.GetReason(), reasonPrefix),
				output.Time(resp.GetDecidedAtMs()), joined(resp.GetPendingShards()), resp.GetDamaged())
			return t.Write(w)
		})
	})
}

// outcome asks how a transaction ended and, if it has ended, why and when.
func (s *session) outcome(ctx context.Context, txn *oncelogv1.TxnRef) (*oncelogv1.GetOutcomeResponse, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	outcome, err := c.Outcome(ctx, client.TxID{ProducerID: txn.GetProducerId(), Epoch: txn.GetEpoch(), Number: txn.GetTxnNumber()})
	if err != nil {
		return nil, err
	}
	resp := &oncelogv1.GetOutcomeResponse{Outcome: contractOutcomes[outcome]}
	if outcome != client.OutcomeCommitted && outcome != client.OutcomeAborted {
		return resp, nil
	}
	// Why and when is told only with the whole transactional id. If that is gone
	// by now, the outcome stands all the same.
	described, err := c.Admin().DescribeProducer(ctx, txn.GetProducerId())
	if err != nil {
		return resp, nil
	}
	for _, d := range slices.Concat(described.GetCompleting(), described.GetOutcomes()) {
		if txnName(d.GetTxn()) != txnName(txn) {
			continue
		}
		resp.Reason, resp.DecidedAtMs, resp.Damaged = d.GetReason(), d.GetDecidedAtMs(), d.GetDamaged()
		for _, p := range d.GetParticipants() {
			if !p.GetApplied() {
				resp.PendingShards = append(resp.PendingShards, p.GetShardId())
			}
		}
	}
	return resp, nil
}

// contractOutcomes are the SDK's outcomes in the contract's words.
var contractOutcomes = map[client.Outcome]oncelogv1.TransactionOutcome{
	client.OutcomeCommitted: oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED,
	client.OutcomeAborted:   oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED,
	client.OutcomeOpen:      oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN,
	client.OutcomeForgotten: oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_FORGOTTEN,
	client.OutcomeInvalid:   oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_INVALID,
	client.OutcomePrepared:  oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_PREPARED,
}

// txnName writes a transaction as commands take it.
func txnName(t *oncelogv1.TxnRef) string {
	return fmt.Sprintf("%d/%d/%d", t.GetProducerId(), t.GetEpoch(), t.GetTxnNumber())
}

// parseTxn reads a transaction as txnName writes it. What stands before a colon
// is left out: the SDK prints the transactional id there.
func parseTxn(text string) (*oncelogv1.TxnRef, error) {
	numbers := text[strings.LastIndex(text, ":")+1:]
	parts := strings.Split(numbers, "/")
	if len(parts) == 3 {
		producer, err1 := strconv.ParseUint(parts[0], 10, 64)
		epoch, err2 := strconv.ParseUint(parts[1], 10, 32)
		number, err3 := strconv.ParseUint(parts[2], 10, 64)
		if errors.Join(err1, err2, err3) == nil {
			return &oncelogv1.TxnRef{ProducerId: producer, Epoch: uint32(epoch), TxnNumber: number}, nil
		}
	}
	return nil, fmt.Errorf("%q is no transaction: it must be PRODUCER_ID/EPOCH/TXN_NUMBER, such as 4711/3/12", text)
}

// joined writes numbers with commas between them.
func joined(numbers []uint64) string {
	texts := make([]string, 0, len(numbers))
	for _, n := range numbers {
		texts = append(texts, strconv.FormatUint(n, 10))
	}
	return strings.Join(texts, ",")
}
