// Package audit reads the final state of a cluster for the checkers of package
// history: every log on every read path, the coordinator's word about every
// transaction, and the positions of groups.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/internal/task"
)

// Config says what to read.
type Config struct {
	Client *client.Client
	// Dial connects to the client address of a node.
	Dial func(address string) (grpc.ClientConnInterface, error)
	// Runtime waits between two looks; nil: the machine.
	Runtime *task.Runtime
	Topics  []string
	Groups  []string
}

// retryPause lies between two looks at something that is not there yet.
const retryPause = 100 * time.Millisecond

// Settled waits until no transaction is open or incomplete anywhere and every
// partition's LSO is at its end. At the end of ctx it says what is not.
func Settled(ctx context.Context, cfg Config) error {
	for {
		err := unsettled(ctx, cfg)
		if err == nil || !cfg.Runtime.Sleep(retryPause, ctx.Done()) {
			return err
		}
	}
}

func unsettled(ctx context.Context, cfg Config) error {
	open, err := cfg.Client.Admin().ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{
		States: []oncelogv1.TransactionState{
			oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING,
			oncelogv1.TransactionState_TRANSACTION_STATE_PREPARE_COMMIT,
			oncelogv1.TransactionState_TRANSACTION_STATE_PREPARE_ABORT,
		},
		PageSize: 1000,
	})
	if err != nil {
		return err
	}
	if n := len(open.GetTransactions()); n > 0 {
		t := open.GetTransactions()[0]
		return fmt.Errorf("%d transactions are not over, the first is %v, %v", n, t.GetTxn(), t.GetState())
	}
	for _, topic := range cfg.Topics {
		parts, err := cfg.Client.Admin().DescribePartitions(ctx, topic)
		if err != nil {
			return err
		}
		for _, p := range parts {
			if p.GetOpenTransactions() > 0 || p.GetStableEnd() != p.GetAppliedEnd() {
				return fmt.Errorf("partition %d of %s: LSO %d, end %d, %d transactions open, blocked by %v", p.GetPartition().GetPartition(),
					topic, p.GetStableEnd(), p.GetAppliedEnd(), p.GetOpenTransactions(), p.GetBlockedBy())
			}
		}
	}
	return nil
}

// Collect reads everything. It repeats what fails for a while, until ctx ends.
func Collect(ctx context.Context, cfg Config) (*history.Audit, error) {
	a := &history.Audit{}
	for _, topic := range cfg.Topics {
		logs, err := again(ctx, cfg, func() ([]history.Log, error) { return readTopic(ctx, cfg, topic) })
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", topic, err)
		}
		a.Logs = append(a.Logs, logs...)
	}
	for _, group := range cfg.Groups {
		offsets, err := again(ctx, cfg, func() (client.Offsets, error) { return cfg.Client.Admin().GroupOffsets(ctx, group) })
		if err != nil {
			return nil, fmt.Errorf("positions of %s: %w", group, err)
		}
		for tp, at := range offsets {
			a.Offsets = append(a.Offsets, history.GroupPosition{
				Group: group, Partition: history.Partition{Topic: tp.Topic, Index: tp.Partition}, Offset: at,
			})
		}
	}
	slices.SortFunc(a.Offsets, func(x, y history.GroupPosition) int {
		if x.Group != y.Group {
			return compare(x.Group < y.Group)
		}
		return x.Partition.Compare(y.Partition)
	})
	var err error
	a.Outcomes, err = outcomes(ctx, cfg, a.Logs)
	return a, err
}

func compare(less bool) int {
	if less {
		return -1
	}
	return 1
}

// again repeats a call that fails.
func again[T any](ctx context.Context, cfg Config, call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err == nil || !cfg.Runtime.Sleep(retryPause, ctx.Done()) {
			return v, err
		}
	}
}

// outcomes asks about every transaction that left something in a log.
func outcomes(ctx context.Context, cfg Config, logs []history.Log) ([]history.TxOutcome, error) {
	seen := map[history.TxID]bool{}
	for _, l := range logs {
		for _, r := range l.Records {
			if r.TxID.Number > 0 {
				seen[r.TxID] = true
			}
		}
	}
	out := make([]history.TxOutcome, 0, len(seen))
	for _, id := range slices.SortedFunc(maps.Keys(seen), history.TxID.Compare) {
		told, err := again(ctx, cfg, func() (client.Outcome, error) {
			return cfg.Client.Outcome(ctx, client.TxID{ProducerID: id.Producer, Epoch: id.Epoch, Number: id.Number})
		})
		if err != nil {
			return nil, fmt.Errorf("outcome of %v: %w", id, err)
		}
		out = append(out, history.TxOutcome{TxID: id, Outcome: outcomeOf(told)})
	}
	return out, nil
}

func outcomeOf(o client.Outcome) history.Outcome {
	switch o {
	case client.OutcomeCommitted:
		return history.Committed
	case client.OutcomeAborted:
		return history.Aborted
	case client.OutcomeOpen:
		return history.Open
	case client.OutcomeForgotten:
		return history.Forgotten
	case client.OutcomeInvalid:
		return history.Invalid
	default:
		return history.Unknown
	}
}

// readTopic reads the partitions of a topic from their leaders.
func readTopic(ctx context.Context, cfg Config, topic string) ([]history.Log, error) {
	meta, err := cfg.Client.Admin().Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	if len(meta.GetTopics()) != 1 {
		return nil, errors.New("no such topic")
	}
	leaders, addresses := map[uint64]uint64{}, map[uint64]string{}
	for _, s := range meta.GetShards() {
		leaders[s.GetShardId()] = s.GetLeader()
	}
	for _, n := range meta.GetNodes() {
		addresses[n.GetNodeId()] = n.GetClientAddress()
	}
	ends, err := cfg.Client.Admin().DescribePartitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	t := meta.GetTopics()[0]
	var out []history.Log
	for _, p := range t.GetPartitions() {
		address := addresses[leaders[p.GetShardId()]]
		if address == "" {
			return nil, fmt.Errorf("nobody leads shard %d", p.GetShardId())
		}
		conn, err := cfg.Dial(address)
		if err != nil {
			return nil, err
		}
		ref := &oncelogv1.PartitionRef{Topic: topic, Partition: p.GetPartition(), PartitionId: p.GetPartitionId()}
		log := history.Partition{Topic: topic, Index: int32(p.GetPartition())}
		committed, err := readAll(ctx, conn, ref, oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED)
		if err != nil {
			return nil, err
		}
		uncommitted, err := readAll(ctx, conn, ref, oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED)
		if err != nil {
			return nil, err
		}
		// Retention may have gone on meanwhile: what counts is what both have read.
		after, err := cfg.Client.Admin().DescribePartitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		start := int64(after[p.GetPartition()].GetStartOffset())
		committed, uncommitted = from(committed, start), from(uncommitted, start)
		if p := t.GetConfig().GetCleanupPolicy(); p == oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT ||
			p == oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT_DELETE {
			committed = both(committed, uncommitted)
		}
		at := ends[p.GetPartition()]
		out = append(out, history.LogFromReads(log, history.Ends{
			Start: start, Stable: int64(at.GetStableEnd()), End: int64(at.GetAppliedEnd()),
		}, committed, uncommitted))
	}
	return out, nil
}

// from leaves out what is below the log start.
func from(records []history.LogRecord, start int64) []history.LogRecord {
	return slices.DeleteFunc(records, func(r history.LogRecord) bool { return r.Offset < start })
}

// both leaves out what compaction has removed between two reads.
func both(records, later []history.LogRecord) []history.LogRecord {
	left := make(map[int64]bool, len(later))
	for _, r := range later {
		left[r.Offset] = true
	}
	return slices.DeleteFunc(records, func(r history.LogRecord) bool { return !left[r.Offset] })
}

// readAll reads a partition from its start to the end that the isolation level
// shows.
func readAll(ctx context.Context, conn grpc.ClientConnInterface, ref *oncelogv1.PartitionRef, level oncelogv1.IsolationLevel) ([]history.LogRecord, error) {
	stream, err := oncelogv1.NewLogServiceClient(conn).Fetch(ctx, &oncelogv1.FetchRequest{
		Partition: ref, Start: oncelogv1.StartPosition_START_POSITION_EARLIEST, Isolation: level,
		Format: oncelogv1.FetchFormat_FETCH_FORMAT_RECORDS,
	})
	if err != nil {
		return nil, err
	}
	var out []history.LogRecord
	for {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, status.Convert(err).Err()
		}
		for _, r := range resp.GetRecords() {
			v, err := history.DecodeValue(r.GetRecord().GetValue())
			if err != nil {
				return nil, fmt.Errorf("record at %d: %w", r.GetOffset(), err)
			}
			txn := r.GetTxn()
			out = append(out, history.LogRecord{
				Offset: int64(r.GetOffset()), Value: v,
				TxID: history.TxID{Producer: txn.GetProducerId(), Epoch: txn.GetEpoch(), Number: txn.GetTxnNumber()},
			})
		}
	}
}
