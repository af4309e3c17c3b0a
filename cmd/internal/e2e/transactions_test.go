package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

const (
	committed  = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	aborted    = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	undecided  = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN
	rawRead    = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
	rawReadAll = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
)

// Kafka's TransactionsTest.testBasicTransactions.
// Covers TX-01 of CONFORMANCE.md.
func TestCommitAndAbortOverTwoTopics(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	a, b := w.topic(t, "a", 3), w.topic(t, "b", 2)
	p := producer(t, c, unique(t, "id"))

	gone, stays := numbered("gone", 20), numbered("stays", 20)
	tx := begin(t, p)
	send(t, tx, a, gone[:10]...)
	send(t, tx, b, gone[10:]...)
	abort(t, tx)
	tx = begin(t, p)
	send(t, tx, a, stays[:10]...)
	send(t, tx, b, stays[10:]...)
	commit(t, tx)

	wantValues(t, "read_committed a", w.readCommitted(t, c, a), stays[:10]...)
	wantValues(t, "read_committed b", w.readCommitted(t, c, b), stays[10:]...)
	wantValues(t, "read_committed both", w.readCommitted(t, c, a, b), stays...)
	wantValues(t, "read_uncommitted both", w.readUncommitted(t, c, a, b), slices.Concat(gone, stays)...)
	// The same without the SDK.
	wantValues(t, "plain read_committed a", fetchedValues(w.visible(t, a, rawRead)), stays[:10]...)
	wantValues(t, "plain read_uncommitted a", fetchedValues(w.visible(t, a, rawReadAll)), slices.Concat(gone[:10], stays[:10])...)
}

// The order of a transaction's records within a partition is the order in which
// they were sent, whatever they are batched into.
// Covers TB-01 of CONFORMANCE.md.
func TestOrderWithinAPartitionIsTheOrderOfSending(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic := w.topic(t, "in", 1)
	p := producer(t, c, unique(t, "id"), client.WithLinger(0), client.WithBatchSize(200), client.WithMaxInFlight(16))
	want := numbered("n", 2000)
	ctx := withPatience(t)
	for at := 0; at < len(want); at += 500 {
		tx := begin(t, p)
		for _, v := range want[at : at+500] {
			if err := tx.Send(ctx, records(topic, v)...); err != nil {
				t.Fatal(err)
			}
		}
		commit(t, tx)
	}
	var got []string
	for _, r := range w.read(t, c, client.ReadCommitted, topic) {
		got = append(got, string(r.Value))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d records came out of order or not at all", len(got))
	}
}

// Kafka's TransactionsTest.testReadCommittedConsumerShouldNotSeeUndecidedData: what
// is undecided is hidden, and so is everything behind it, for every kind of
// question.
// Covers TX-02 of CONFORMANCE.md.
func TestUndecidedDataHoldsBackEverythingBehindIt(t *testing.T) {
	t.Parallel()
	for _, ending := range []string{"commit", "abort"} {
		t.Run(ending, func(t *testing.T) {
			t.Parallel()
			w := sharedCluster(t)
			c := w.client(t)
			topic := w.topic(t, "in", 1)
			at := func(seconds int64, value string) *client.Record {
				return &client.Record{Topic: topic, Value: []byte(value), Timestamp: time.Unix(seconds, 0)}
			}
			ctx := withPatience(t)
			before, err := c.IdempotentProducer(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(before.Send(ctx, at(1000, "before")), before.Flush(ctx)); err != nil {
				t.Fatal(err)
			}
			open := begin(t, producer(t, c, unique(t, "open")))
			if err := errors.Join(open.Send(ctx, at(2000, "open")), open.Flush(ctx)); err != nil {
				t.Fatal(err)
			}
			behind := begin(t, producer(t, c, unique(t, "behind")))
			if err := behind.Send(ctx, at(3000, "behind")); err != nil {
				t.Fatal(err)
			}
			commit(t, behind)
			w.awaitOutcome(t, behind.ID(), committed)
			if err := errors.Join(before.Send(ctx, at(4000, "plain")), before.Flush(ctx)); err != nil {
				t.Fatal(err)
			}

			follower, err := c.Consume(ctx, "", []string{topic})
			if err != nil {
				t.Fatal(err)
			}
			if got := poll(t, follower); !slices.Equal(got, []string{"before"}) {
				t.Errorf("a reader sees %q before the decision", got)
			}
			wantEnds(t, c, topic, client.ReadCommitted, 1)
			wantEnds(t, c, topic, client.ReadUncommitted, 4)
			wantOffsetAt(t, c, topic, client.ReadCommitted, map[int64]int64{1000: 0, 2000: -1, 3000: -1, 4000: -1})
			wantOffsetAt(t, c, topic, client.ReadUncommitted, map[int64]int64{1000: 0, 2000: 1, 3000: 2, 4000: 3})
			wantValues(t, "read_committed now", fetchedValues(w.visible(t, topic, rawRead)), "before")
			wantValues(t, "read_uncommitted now", fetchedValues(w.visible(t, topic, rawReadAll)), "before", "open", "behind", "plain")
			if st := w.status(t, topic, 0); st.GetBlockedBy().GetProducerId() != open.ID().ProducerID || st.GetOpenTransactions() != 1 {
				t.Errorf("the partition does not say what holds it back: %v", st)
			}

			want := []string{"behind", "plain"}
			offsets := map[int64]int64{2000: 2, 3000: 2, 4000: 3}
			if ending == "commit" {
				commit(t, open)
				want = []string{"open", "behind", "plain"}
				offsets[2000] = 1
			} else {
				abort(t, open)
			}
			var got []string
			for len(got) < len(want) {
				got = append(got, poll(t, follower)...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("after the decision the reader sees %q, want %q", got, want)
			}
			wantEnds(t, c, topic, client.ReadCommitted, 4)
			wantOffsetAt(t, c, topic, client.ReadCommitted, offsets)
		})
	}
}

// poll returns the values of one batch.
func poll(t *testing.T, k *client.Consumer) []string {
	t.Helper()
	b, err := k.Poll(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for r := range b.Records() {
		out = append(out, string(r.Value))
	}
	return out
}

// wantEnds checks the end of partition 0: asked for, and as a reader's start.
func wantEnds(t *testing.T, c *client.Client, topic string, isolation client.Isolation, want int64) {
	t.Helper()
	ctx := withPatience(t)
	in, err := c.Consume(ctx, "", []string{topic}, client.WithIsolation(isolation), client.WithStart(client.StartLatest))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	ends, err := in.EndOffsets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tp := client.TopicPartition{Topic: topic}
	if ends[tp] != want || in.Position()[tp] != want {
		t.Errorf("isolation %d: the end is %d and a reader from there begins at %d, want %d", isolation, ends[tp], in.Position()[tp], want)
	}
}

// wantOffsetAt checks offsets by time in seconds; -1 stands for none.
func wantOffsetAt(t *testing.T, c *client.Client, topic string, isolation client.Isolation, want map[int64]int64) {
	t.Helper()
	ctx := withPatience(t)
	in, err := c.Consume(ctx, "", []string{topic}, client.WithIsolation(isolation))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	for seconds, offset := range want {
		got, err := in.OffsetsAt(ctx, time.Unix(seconds, 0))
		if err != nil {
			t.Fatal(err)
		}
		found, ok := got[client.TopicPartition{Topic: topic}]
		if !ok {
			found = -1
		}
		if found != offset {
			t.Errorf("isolation %d: at %d s is offset %d, want %d", isolation, seconds, found, offset)
		}
	}
}

// Kafka's testFencingOnTransactionExpiration, with the better answer: who was too
// late is told so, keeps its epoch and goes on.
// Covers TX-15 of CONFORMANCE.md.
func TestTimeoutIsToldAsTimeoutAndTheProducerGoesOn(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{100 * time.Millisecond, time.Second} {
		t.Run(timeout.String(), func(t *testing.T) {
			t.Parallel()
			w := sharedCluster(t)
			c := w.client(t)
			topic := w.topic(t, "in", 2)
			ctx := withPatience(t)
			p := producer(t, c, unique(t, "id"), client.WithTransactionTimeout(timeout))

			late := begin(t, p)
			send(t, late, topic, "late")
			res := w.awaitOutcome(t, late.ID(), aborted)
			if res.GetReason() != oncelogv1.AbortReason_ABORT_REASON_TIMEOUT {
				t.Errorf("reason is %v", res.GetReason())
			}
			if late.Context().Err() == nil || !errors.Is(context.Cause(late.Context()), client.ErrTxTimeout) {
				t.Errorf("the transaction's context says %v", context.Cause(late.Context()))
			}
			err := late.Commit(ctx)
			wantError(t, "commit after the timeout", err, client.ErrTxTimeout, client.ClassAbortable)
			var e *client.Error
			if errors.As(err, &e) && e.Outcome != client.OutcomeAborted {
				t.Errorf("commit says the outcome is %v", e.Outcome)
			}
			abort(t, late)

			// A Send after the timeout fails the same way, at the latest with Commit.
			late = begin(t, p)
			send(t, late, topic, "late-too")
			w.awaitOutcome(t, late.ID(), aborted)
			err = late.Send(ctx, records(topic, "after-the-end")...)
			if err == nil {
				err = late.Flush(ctx)
			}
			wantError(t, "send after the timeout", err, client.ErrTxTimeout, client.ClassAbortable)
			wantError(t, "commit after that", late.Commit(ctx), client.ErrTxTimeout, client.ClassAbortable)
			abort(t, late)

			// The same producer, the same epoch.
			var in client.TxID
			if err := p.Transact(ctx, func(tx *client.Tx) error {
				in = tx.ID()
				return tx.Send(ctx, records(topic, "in-time")...)
			}); err != nil {
				t.Fatal(err)
			}
			if in.Epoch != late.ID().Epoch || in.Number <= late.ID().Number {
				t.Errorf("after the timeout of %v came %v", late.ID(), in)
			}
			wantValues(t, "read_committed", w.readCommitted(t, c, topic), "in-time")
			wantValues(t, "read_uncommitted", w.readUncommitted(t, c, topic), "late", "late-too", "in-time")
		})
	}
}

// Transact starts over what timed out.
func TestTransactStartsOverAfterATimeout(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic := w.topic(t, "in", 1)
	ctx := withPatience(t)
	p := producer(t, c, unique(t, "id"), client.WithTransactionTimeout(300*time.Millisecond))
	runs := 0
	err := p.Transact(ctx, func(tx *client.Tx) error {
		runs++
		if err := tx.Send(ctx, records(topic, fmt.Sprint("run-", runs))...); err != nil {
			return err
		}
		if runs > 1 {
			return nil
		}
		if err := tx.Flush(ctx); err != nil {
			return err
		}
		return await(ctx, func() error {
			o, err := c.Outcome(ctx, tx.ID())
			if err == nil && o != client.OutcomeAborted {
				err = errors.New(o.String())
			}
			return err
		})
	})
	if err != nil || runs != 2 {
		t.Fatalf("%d runs: %v", runs, err)
	}
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "run-2")
}

// Kafka's testEmptyAbortAfterCommit and KAFKA-18401.
// Covers TX-22, TX-23 of CONFORMANCE.md.
func TestEmptyCommitAndAbort(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic := w.topic(t, "in", 1)
	ctx := withPatience(t)
	id := unique(t, "id")
	p := producer(t, c, id)

	commit(t, begin(t, p))
	abort(t, begin(t, p))
	tx := begin(t, p)
	send(t, tx, topic, "one")
	commit(t, tx)
	abort(t, begin(t, p))
	commit(t, begin(t, p))
	tx = begin(t, p)
	send(t, tx, topic, "two")
	commit(t, tx)
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "one", "two")

	// The SDK does not ask anybody about an empty transaction; others do.
	init := w.initProducer(t, unique(t, "raw"))
	for _, c := range []struct {
		number uint64
		commit bool
		want   oncelogv1.TransactionOutcome
	}{{1, true, committed}, {7, false, aborted}} { // numbers may have gaps
		for range 3 {
			res, err := w.endTransaction(t, ctx, init.end(c.number, c.commit, nil, 0))
			if err != nil || res.GetOutcome() != c.want {
				t.Errorf("empty end of %d, commit %v: %v, %v", c.number, c.commit, res, err)
			}
		}
		_, err := w.endTransaction(t, ctx, init.end(c.number, !c.commit, nil, 0))
		wantCode(t, "the opposite", err, oncelogv1.ErrorCode_ERROR_CODE_CONFLICT)
	}
}

// Kafka's testConsecutivelyRunInitTransactions asks one producer twice; here every
// init makes a producer, and the second fences the first.
// Covers TX-17 of CONFORMANCE.md.
func TestSecondInitFencesTheFirst(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic := w.topic(t, "in", 1)
	id := unique(t, "id")
	first := producer(t, c, id)
	done := begin(t, first)
	send(t, done, topic, "done")
	commit(t, done)
	open := begin(t, first)
	send(t, open, topic, "open")

	second := producer(t, c, id)
	if prev, o := second.Previous(); prev.Epoch != open.ID().Epoch || o == client.OutcomeOpen {
		t.Errorf("the second producer is told of %v, %v", prev, o)
	}
	if n := len(second.IncompleteShards()); n != 0 {
		t.Errorf("init returned while %d shards were incomplete", n)
	}
	wantValues(t, "read_committed", fetchedValues(w.visible(t, topic, rawRead)), "done")
	wantError(t, "commit of the first", open.Commit(withPatience(t)), client.ErrFenced, client.ClassFatal)
	if _, err := first.Begin(t.Context()); !errors.Is(err, client.ErrFenced) {
		t.Errorf("a fenced producer begins: %v", err)
	}
	tx := begin(t, second)
	if tx.ID().ProducerID != open.ID().ProducerID || tx.ID().Epoch != open.ID().Epoch+1 {
		t.Errorf("after %v came %v", open.ID(), tx.ID())
	}
	send(t, tx, topic, "second")
	commit(t, tx)
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "done", "second")
}

// A repeated InitProducer with one request id raises the epoch once, and is told
// of the fence when somebody else came in between (B4, B15).
func TestRepeatedInitIsRecognised(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	id := unique(t, "id")
	first := w.initProducerAs(t, id, "request-1")
	again := w.initProducerAs(t, id, "request-1")
	if first.err != nil || again.err != nil || first.GetEpoch() != again.GetEpoch() || first.GetProducerId() != again.GetProducerId() {
		t.Fatalf("first %v, again %v", first, again)
	}
	other := w.initProducerAs(t, id, "request-2")
	if other.err != nil || other.GetEpoch() != first.GetEpoch()+1 {
		t.Fatalf("first %v, other %v", first, other)
	}
	late := w.initProducerAs(t, id, "request-1")
	wantCode(t, "late copy of the first", late.err, oncelogv1.ErrorCode_ERROR_CODE_FENCED)
	if e := w.describe(t, id).GetEpoch(); e != other.GetEpoch() {
		t.Errorf("the late copy moved the epoch to %d", e)
	}
}

// Kafka's testMultipleMarkersOneLeader.
// Covers TX-16, ST-04 of CONFORMANCE.md.
func TestTwentyPartitionsTenThousandRecordsAborted(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic := w.topic(t, "in", 20)
	p := producer(t, c, unique(t, "id"))
	tx := begin(t, p)
	send(t, tx, topic, numbered("gone", 10_000)...)
	abort(t, tx)
	stays := numbered("stays", 1_000)
	tx = begin(t, p)
	send(t, tx, topic, stays...)
	commit(t, tx)

	got := w.read(t, c, client.ReadCommitted, topic)
	wantValues(t, "read_committed", values(got), stays...)
	used := map[int32]bool{}
	for _, r := range got {
		used[r.Partition] = true
	}
	if len(used) != 20 {
		t.Errorf("only %d of 20 partitions were used", len(used))
	}
	if all := w.read(t, c, client.ReadUncommitted, topic); len(all) != 11_000 {
		t.Errorf("read_uncommitted shows %d records", len(all))
	}
}

// The next transaction does not wait for the markers of the last, so many of them
// are under way at once; none may touch another.
// Covers ST-07 of CONFORMANCE.md.
func TestTransactionsBackToBack(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic := w.topic(t, "in", 3)
	ctx := withPatience(t)
	p := producer(t, c, unique(t, "id"), client.WithLinger(0))
	var want []string
	for i := range 200 {
		tx := begin(t, p)
		var some []string
		for j := range 3 {
			some = append(some, fmt.Sprintf("%d-%d", i, j))
		}
		if err := tx.Send(ctx, records(topic, some...)...); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			abort(t, tx)
			continue
		}
		commit(t, tx)
		want = append(want, some...)
	}
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), want...)
}

// The outcomes of the last 16 transactions are remembered; of older ones it is
// said that they are not, and nothing is decided anew.
func TestOldOutcomesAreForgotten(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	init := w.initProducer(t, unique(t, "id"))
	const count = 20
	for n := range uint64(count) {
		if _, err := w.endTransaction(t, t.Context(), init.end(n+1, n%2 == 0, nil, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for n := uint64(1); n <= count; n++ {
		for _, commit := range []bool{true, false} {
			res, err := w.endTransaction(t, t.Context(), init.end(n, commit, nil, 0))
			what := fmt.Sprintf("end of %d, commit %v", n, commit)
			switch {
			case n <= count-16:
				wantCode(t, what, err, oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN)
			case commit == (n%2 == 1):
				if err != nil || (res.GetOutcome() == committed) != commit {
					t.Errorf("%s: %v, %v", what, res, err)
				}
			default:
				wantCode(t, what, err, oncelogv1.ErrorCode_ERROR_CODE_CONFLICT)
			}
		}
	}
}
