package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// groupOffset returns a group's committed position, -1 for none.
func (w *world) groupOffset(t *testing.T, group, topic string, index int) int64 {
	t.Helper()
	var res *oncelogv1.FetchOffsetsResponse
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		res, err = oncelogv1.NewGroupServiceClient(cc).FetchOffsets(ctx,
			&oncelogv1.FetchOffsetsRequest{GroupId: group, Partitions: []*oncelogv1.PartitionRef{partition(topic, index)}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := res.GetOffsets()[0]; o.Offset != nil {
		return int64(o.GetOffset())
	}
	return -1
}

// groupTotal returns the sum of a group's positions in a topic.
func (w *world) groupTotal(t *testing.T, group, topic string, partitions int) int64 {
	t.Helper()
	var sum int64
	for i := range partitions {
		sum += max(w.groupOffset(t, group, topic, i), 0)
	}
	return sum
}

// Kafka's testSendOffsetsWithGroupMetadata: 500 seeds are copied in small
// batches, every second transaction is aborted.
// Covers TX-04, TX-05, ST-01, CN-01 of CONFORMANCE.md.
func TestSeedsAreCopiedOnceAlthoughEverySecondTransactionAborts(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, group := w.topic(t, "in", 4), w.topic(t, "out", 3), unique(t, "group")
	seeds := numbered("seed", 500)
	produce(t, c, in, seeds...)
	ctx := withPatience(t)
	k, err := c.Consume(ctx, group, []string{in}, client.WithManualAssignment(), client.WithMaxPollRecords(20))
	if err != nil {
		t.Fatal(err)
	}
	p := producer(t, c, unique(t, "id"))
	copied, transactions := 0, 0
	for copied < len(seeds) {
		b, err := k.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tx := begin(t, p)
		transactions++
		for r := range b.Records() {
			if err := tx.Send(ctx, &client.Record{Topic: out, Key: r.Key, Value: r.Value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.SendOffsets(ctx, b); err != nil {
			t.Fatal(err)
		}
		if transactions%2 == 1 {
			abort(t, tx) // the consumer reads the batch again
			continue
		}
		commit(t, tx)
		copied += b.Len()
	}
	if transactions < 50 {
		t.Errorf("only %d transactions", transactions)
	}
	wantValues(t, "output", w.readCommitted(t, c, out), seeds...)
	if n := w.groupTotal(t, group, in, 4); n != 500 {
		t.Errorf("the group's positions add up to %d", n)
	}
	lag, err := k.Lag(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for tp, n := range lag {
		if n != 0 {
			t.Errorf("lag of %v is %d", tp, n)
		}
	}
}

// errStartOver is what makes Process start a transaction over.
var errStartOver = &client.Error{Op: "test", Code: "START_OVER", Class: client.ClassAbortable}

// copying runs Process until everything is copied; every second run of the
// closure fails after it has sent.
func copying(ctx context.Context, c *client.Client, id, group, in, out string, total int, opts ...client.ConsumerOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k, err := c.Consume(ctx, group, []string{in}, append(opts, client.WithManualAssignment(), client.WithMaxPollRecords(10))...)
	if err != nil {
		return err
	}
	p, err := c.InitTransactions(ctx, id)
	if err != nil {
		return err
	}
	runs, done := 0, 0
	last := 0
	err = client.Process(ctx, k, p, func(tx *client.Tx, b *client.Batch) error {
		// A run that follows another says that the one before was committed or has
		// been aborted.
		done += last
		last = 0
		runs++
		for r := range b.Records() {
			if err := tx.Send(ctx, &client.Record{Topic: out, Key: r.Key, Value: r.Value}); err != nil {
				return err
			}
		}
		if runs%2 == 1 {
			return errStartOver
		}
		last = b.Len()
		if done+last == total {
			// The last transaction: stop once it is committed.
			context.AfterFunc(tx.Context(), cancel)
		}
		return nil
	}, client.WithAttemptBackoff(1, 1))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Two instances with a partition set each, as with Kafka's manual assignment.
// Covers ST-05, SY-02 of CONFORMANCE.md.
func TestProcessWithTwoInstances(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, group := w.topic(t, "in", 4), w.topic(t, "out", 2), unique(t, "group")
	seeds := numbered("seed", 500)
	produce(t, c, in, seeds...)
	var of [2]int
	for _, r := range w.read(t, c, client.ReadCommitted, in) {
		of[r.Partition%2]++
	}
	ctx := withPatience(t)
	ids := []string{unique(t, "id"), unique(t, "id")}
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			errs[i] = copying(ctx, c, ids[i], group, in, out, of[i],
				client.WithPartitions(in, int32(i), int32(i+2)), client.WithMemberID(fmt.Sprint("member-", i)))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	wantValues(t, "output", w.readCommitted(t, c, out), seeds...)
	if n := w.groupTotal(t, group, in, 4); n != 500 {
		t.Errorf("the group's positions add up to %d", n)
	}
}

// KIP-447's zombie: a consumer that has lost its partitions commits nothing, and
// who has them now reads the right position (H13).
// Covers ST-10 of CONFORMANCE.md.
func TestZombieConsumerCannotCommit(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, group := w.topic(t, "in", 1), w.topic(t, "out", 1), unique(t, "group")
	produce(t, c, in, numbered("seed", 10)...)
	ctx := withPatience(t)
	consume := func(member string) *client.Consumer {
		k, err := c.Consume(ctx, group, []string{in}, client.WithManualAssignment(), client.WithMemberID(member), client.WithMaxPollRecords(4))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	next := func(k *client.Consumer) *client.Batch {
		b, err := k.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	copyTo := func(tx *client.Tx, b *client.Batch) {
		for r := range b.Records() {
			if err := tx.Send(ctx, &client.Record{Topic: out, Value: r.Value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.SendOffsets(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	zombie := consume("zombie")
	first := begin(t, producer(t, c, unique(t, "id")))
	copyTo(first, next(zombie))
	commit(t, first)
	p := producer(t, c, unique(t, "id"))
	second := begin(t, p)
	b := next(zombie)
	copyTo(second, b)

	heir := consume("heir")
	if got := heir.Position()[client.TopicPartition{Topic: in}]; got != 4 {
		t.Errorf("the new owner begins at %d", got)
	}
	wantError(t, "commit of the zombie", second.Commit(ctx), client.ErrStaleMember, client.ClassAbortable)
	abort(t, second)
	err := zombie.Commit(ctx, b)
	if !errors.Is(err, client.ErrStaleMember) {
		t.Errorf("plain commit of the zombie: %v", err)
	}
	if _, err := zombie.Poll(ctx); !errors.Is(err, client.ErrStaleMember) {
		t.Errorf("poll of the zombie: %v", err)
	}
	if o := w.groupOffset(t, group, in, 0); o != 4 {
		t.Errorf("the position is %d", o)
	}
	for copied := 4; copied < 10; {
		tx := begin(t, p)
		b := next(heir)
		copyTo(tx, b)
		commit(t, tx)
		copied += b.Len()
	}
	wantValues(t, "output", w.readCommitted(t, c, out), numbered("seed", 10)...)
}

// Process ends when another member takes over, and loses and repeats nothing.
// Covers ST-10 of CONFORMANCE.md.
func TestProcessEndsWhenAnotherMemberTakesOver(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, group := w.topic(t, "in", 2), w.topic(t, "out", 1), unique(t, "group")
	seeds := numbered("seed", 200)
	produce(t, c, in, seeds...)
	ctx := withPatience(t)
	k, err := c.Consume(ctx, group, []string{in}, client.WithManualAssignment(), client.WithMaxPollRecords(10))
	if err != nil {
		t.Fatal(err)
	}
	var heir *client.Consumer
	runs := 0
	pass := func(tx *client.Tx, b *client.Batch) error {
		for r := range b.Records() {
			if err := tx.Send(ctx, &client.Record{Topic: out, Value: r.Value}); err != nil {
				return err
			}
		}
		return nil
	}
	err = client.Process(ctx, k, producer(t, c, unique(t, "id")), func(tx *client.Tx, b *client.Batch) error {
		if runs++; runs == 5 {
			if heir, err = c.Consume(ctx, group, []string{in}, client.WithManualAssignment()); err != nil {
				return err
			}
		}
		return pass(tx, b)
	})
	if !errors.Is(err, client.ErrStaleMember) || runs != 5 {
		t.Fatalf("after %d runs Process ended with %v", runs, err)
	}
	rest, cancel := context.WithCancel(ctx)
	defer cancel()
	total := w.groupTotal(t, group, in, 2)
	err = client.Process(rest, heir, producer(t, c, unique(t, "id")), func(tx *client.Tx, b *client.Batch) error {
		if total += int64(b.Len()); total == int64(len(seeds)) {
			context.AfterFunc(tx.Context(), cancel)
		}
		return pass(tx, b)
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantValues(t, "output", w.readCommitted(t, c, out), seeds...)
}

// A position that somebody else has moved is not overwritten by who does not know
// of it, even under the same name.
func TestMovedPositionIsNoticed(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, group := w.topic(t, "in", 1), unique(t, "group")
	produce(t, c, in, numbered("seed", 10)...)
	ctx := withPatience(t)
	var twins [2]*client.Consumer
	var batches [2]*client.Batch
	for i := range twins {
		var err error
		if twins[i], err = c.Consume(ctx, group, []string{in}, client.WithManualAssignment(), client.WithMemberID("twin"), client.WithMaxPollRecords(5-i)); err != nil {
			t.Fatal(err)
		}
		if batches[i], err = twins[i].Poll(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := twins[1].Commit(ctx, batches[1]); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, producer(t, c, unique(t, "id")))
	if err := tx.SendOffsets(ctx, batches[0]); err != nil {
		t.Fatal(err)
	}
	wantError(t, "commit over a moved position", tx.Commit(ctx), client.ErrStaleMember, client.ClassAbortable)
	abort(t, tx)
	if o := w.groupOffset(t, group, in, 0); o != 4 {
		t.Errorf("the position is %d", o)
	}
}

// Positions move only with the commit, and an abort takes the consumer back.
func TestOffsetsMoveWithTheCommitOnly(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, group := w.topic(t, "in", 1), unique(t, "group")
	seeds := numbered("seed", 6)
	produce(t, c, in, seeds...)
	ctx := withPatience(t)
	k, err := c.Consume(ctx, group, []string{in}, client.WithManualAssignment(), client.WithMaxPollRecords(2))
	if err != nil {
		t.Fatal(err)
	}
	p := producer(t, c, unique(t, "id"))
	for _, step := range []struct {
		commit bool
		want   []string
		offset int64
	}{
		{false, seeds[:2], -1},
		{true, seeds[:2], 2},
		{false, seeds[2:4], 2},
		{true, seeds[2:4], 4},
	} {
		b, err := k.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for r := range b.Records() {
			got = append(got, string(r.Value))
		}
		if !slices.Equal(got, step.want) {
			t.Fatalf("polled %q, want %q", got, step.want)
		}
		tx := begin(t, p)
		if err := tx.SendOffsets(ctx, b); err != nil {
			t.Fatal(err)
		}
		if step.commit {
			commit(t, tx)
		} else {
			abort(t, tx)
		}
		if o := w.groupOffset(t, group, in, 0); o != step.offset {
			t.Errorf("the position is %d, want %d", o, step.offset)
		}
	}
}

// A worker that dies in the middle of a transaction is succeeded by one of the
// same name: what it had begun is undone, what it had committed is not done
// again.
// Covers ST-03, ST-08 of CONFORMANCE.md.
// Covers SY-02 of CONFORMANCE.md.
func TestProcessIsTakenOverAfterACrash(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, group, id := w.topic(t, "in", 3), w.topic(t, "out", 2), unique(t, "group"), unique(t, "id")
	seeds := numbered("seed", 300)
	produce(t, c, in, seeds...)
	ctx := withPatience(t)
	lives := 0
	// live runs one life, which ends in its dies-th transaction, after it has sent.
	live := func(dies int) error {
		lives++
		worker, err := client.Dial(ctx, w.Servers())
		if err != nil {
			return err
		}
		defer func() { _ = worker.Close() }()
		p, err := worker.InitTransactions(ctx, id)
		if err != nil {
			return err
		}
		k, err := worker.Consume(ctx, group, []string{in}, client.WithManualAssignment(), client.WithMemberID("worker"), client.WithMaxPollRecords(7))
		if err != nil {
			return err
		}
		for n := 1; ; n++ {
			left, err := k.Lag(ctx)
			if err != nil {
				return err
			}
			sum := int64(0)
			for _, l := range left {
				sum += l
			}
			if sum == 0 {
				return nil
			}
			b, err := k.Poll(ctx)
			if err != nil {
				return err
			}
			tx, err := p.Begin(ctx)
			if err != nil {
				return err
			}
			for r := range b.Records() {
				if err := tx.Send(ctx, &client.Record{Topic: out, Key: r.Key, Value: r.Value}); err != nil {
					return err
				}
			}
			if err := errors.Join(tx.SendOffsets(ctx, b), tx.Flush(ctx)); err != nil {
				return err
			}
			if n == dies {
				return errDied // Close sends no abort when the client goes at once
			}
			if err := tx.Commit(ctx); err != nil {
				return err
			}
		}
	}
	for {
		err := live(1 + lives%5)
		if err == nil {
			break
		}
		if !errors.Is(err, errDied) {
			t.Fatal(err)
		}
	}
	if lives < 10 {
		t.Errorf("only %d lives", lives)
	}
	wantValues(t, "output", w.readCommitted(t, c, out), seeds...)
}

var errDied = errors.New("died")
