package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestConsumerReadsWhatIsCommitted(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		p := f.producer(c)
		for i, v := range numbers(6) {
			tx := f.begin(p)
			f.send(tx, v, v+"'")
			if i%2 == 0 {
				must(t, tx.Commit(within(t)))
			} else {
				must(t, tx.Flush(within(t)))
				must(t, tx.Abort(within(t)))
			}
		}
		in, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		if got, want := read(within(t), t, in, 6), []string{"0", "0'", "2", "2'", "4", "4'"}; !slices.Equal(got, want) {
			t.Errorf("read %v, want %v", got, want)
		}
		dirty, err := c.Consume(within(t), "", []string{"t"}, WithIsolation(ReadUncommitted))
		must(t, err)
		if got := read(within(t), t, dirty, 12); len(got) != 12 {
			t.Errorf("read %v", got)
		}
		// The position moves over what is not shown.
		synctest.Wait()
		if got := in.Position()[TopicPartition{"t", 0}]; got != 12 {
			t.Errorf("position %d", got)
		}
		if _, err := in.Poll(soon(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Poll at the end: %v", err)
		}
		must(t, in.Close())
		_, err = in.Poll(within(t))
		expect(t, err, ClassFatal, ErrClosed)
	})
}

// A batch may be spread over several polls, and a position may be within one.
func TestPollLimitsAndPositionsWithinBatches(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		p := f.producer(c)
		tx := f.begin(p)
		f.send(tx, numbers(10)...)
		must(t, tx.Commit(within(t)))
		if n := len(f.seen()); n != 1 {
			t.Fatalf("%d batches", n)
		}
		in, err := c.Consume(within(t), "", []string{"t"}, WithMaxPollRecords(4))
		must(t, err)
		for _, want := range [][]string{{"0", "1", "2", "3"}, {"4", "5", "6", "7"}, {"8", "9"}} {
			b, err := in.Poll(within(t))
			must(t, err)
			if got := values(b); !slices.Equal(got, want) || b.Len() != len(want) {
				t.Errorf("polled %v, want %v", got, want)
			}
			var last *Record
			for r := range b.Records() {
				last = r
			}
			if b.Offsets()[TopicPartition{"t", 0}] != last.Offset+1 {
				t.Errorf("offsets %v after record at %d", b.Offsets(), last.Offset)
			}
		}
		in.Seek(Offsets{{"t", 0}: 7})
		if got := read(within(t), t, in, 3); !slices.Equal(got, []string{"7", "8", "9"}) {
			t.Errorf("read %v after Seek", got)
		}
	})
}

func TestPartitionsTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 3)
		c := f.dial()
		p := f.producer(c, WithLinger(0), WithBatchSize(1))
		tx := f.begin(p)
		for i := range 60 {
			must(t, tx.Send(within(t), (&Record{Topic: "t", Value: fmt.Append(nil, i)}).WithPartition(int32(i%3))))
		}
		must(t, tx.Commit(within(t)))
		in, err := c.Consume(within(t), "", []string{"t"}, WithMaxPollRecords(1))
		must(t, err)
		seen := make(map[int32]int)
		for range 12 {
			synctest.Wait()
			b, err := in.Poll(within(t))
			must(t, err)
			for r := range b.Records() {
				seen[r.Partition]++
			}
		}
		if seen[0] != 4 || seen[1] != 4 || seen[2] != 4 {
			t.Errorf("polled %v of each partition", seen)
		}
		only, err := c.Consume(within(t), "", nil, WithPartitions("t", 2), WithAssignment(map[string][]int32{"t": {2}}))
		must(t, err)
		if got := only.Partitions(); !slices.Equal(got, []TopicPartition{{"t", 2}}) {
			t.Errorf("assigned %v", got)
		}
		_, err = c.Consume(within(t), "", nil, WithPartitions("t", 3))
		expect(t, err, ClassFatal, nil)
		_, err = c.Consume(within(t), "", []string{"nowhere"})
		e := expect(t, err, ClassFatal, nil)
		if e.Code != "UNKNOWN_TOPIC" {
			t.Errorf("code %s", e.Code)
		}
	})
}

func TestConsumerFollowsTheLeader(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a", "b")
		in, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		read(within(t), t, in, 2)
		f.lead(topic.parts[0], "n2")
		f.fill(c, "c")
		if got := read(within(t), t, in, 1); got[0] != "c" {
			t.Errorf("read %v", got)
		}
		f.lead(topic.parts[0], "n3")
		f.kill("n2")
		f.fill(c, "d")
		if got := read(within(t), t, in, 1); got[0] != "d" {
			t.Errorf("read %v", got)
		}
	})
}

// The node that a stream comes from loses its leadership without saying so.
func TestConsumerLeavesASilentNode(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a")
		silent := make(chan struct{})
		defer close(silent)
		f.onFetch = func(node string, _ *v1.FetchRequest) fate {
			if node == "n1" {
				return fate{hold: silent}
			}
			return fate{}
		}
		in, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		synctest.Wait()
		f.lead(topic.parts[0], "n2")
		began := time.Now()
		if got := read(within(t), t, in, 1); got[0] != "a" {
			t.Errorf("read %v", got)
		}
		if waited := time.Since(began); waited > 2*leaderCheck {
			t.Errorf("took %v", waited)
		}
	})
}

func TestStartPositions(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a", "b")
		latest, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithStart(StartLatest))
		must(t, err)
		f.fill(c, "c") // after Consume has returned
		b, err := latest.Poll(within(t))
		must(t, err)
		if got := values(b); !slices.Equal(got, []string{"c"}) {
			t.Errorf("read %v from the end", got)
		}
		must(t, latest.Commit(within(t), b))
		must(t, latest.Close())
		if n := f.count("LeaveGroup"); n != 1 {
			t.Errorf("left %d times", n)
		}
		// With a committed position WithStart has no say.
		f.fill(c, "d")
		again, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithStart(StartEarliest))
		must(t, err)
		if got := read(within(t), t, again, 1); got[0] != "d" {
			t.Errorf("read %v after the committed position", got)
		}
	})
}

func TestCommitOfAStaleMember(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a", "b")
		first, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment())
		must(t, err)
		b, err := first.Poll(within(t))
		must(t, err)
		_, err = c.Consume(within(t), "g", []string{"t"}, WithManualAssignment())
		must(t, err)
		expect(t, first.Commit(within(t), b), ClassAbortable, ErrStaleMember)
		_, err = first.Poll(within(t))
		expect(t, err, ClassAbortable, ErrStaleMember)
	})
}

// A commit of positions whose answer was lost must not look stale when it is
// repeated.
func TestCommitWithLostAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a", "b", "c")
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(1))
		must(t, err)
		n := 0
		f.onCommit = func(string, *v1.CommitOffsetsRequest) fate {
			n++
			return fate{swallow: n == 1}
		}
		for range 3 {
			b, err := in.Poll(within(t))
			must(t, err)
			must(t, in.Commit(within(t), b))
		}
		if got := f.offsets["g/t/0"]; got != 3 {
			t.Errorf("committed position %d", got)
		}
	})
}

// Another member's commit of the same positions is no answer to one's own whose
// answer was lost before it took effect: both would be told that they consumed
// the records (simulator seed 66).
func TestCommitOfAnotherMemberIsNotMine(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a")
		mine, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment())
		must(t, err)
		b, err := mine.Poll(within(t))
		must(t, err)
		theirs, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment())
		must(t, err)
		theirBatch, err := theirs.Poll(within(t))
		must(t, err)
		must(t, theirs.Commit(within(t), theirBatch))
		n := 0
		f.onCommit = func(string, *v1.CommitOffsetsRequest) fate {
			n++
			return fate{lose: n == 1}
		}
		expect(t, mine.Commit(within(t), b), ClassAbortable, ErrStaleMember)
	})
}

func TestPollTellsErrorsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a")
		in, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		in.Seek(Offsets{{"t", 0}: 99})
		_, err = in.Poll(within(t))
		if e := expect(t, err, ClassFatal, nil); e.Code != "OFFSET_OUT_OF_RANGE" || e.Topic != "t" {
			t.Errorf("got %v", e)
		}
		in.Seek(Offsets{{"t", 0}: 0})
		if got := read(within(t), t, in, 1); got[0] != "a" {
			t.Errorf("read %v", got)
		}
		damage := func() { // in a copy: an answer with the old bytes may be on its way
			f.mu.Lock()
			defer f.mu.Unlock()
			raw := slices.Clone(topic.parts[0].log[0].raw)
			raw[42] ^= 1
			topic.parts[0].log[0].raw = raw
		}
		damage()
		in.Seek(Offsets{{"t", 0}: 0})
		_, err = in.Poll(within(t))
		if e := expect(t, err, ClassAbortable, nil); e.Code != "CORRUPT_BATCH" {
			t.Errorf("got %v", e)
		}
		damage() // undone
		if got := read(within(t), t, in, 1); got[0] != "a" {
			t.Errorf("read %v", got)
		}
		f.mu.Lock()
		delete(f.topics, "t")
		f.changed()
		f.mu.Unlock()
		_, err = in.Poll(soon(t, time.Minute))
		if e := expect(t, err, ClassRetriable, nil); e.Code != "UNKNOWN_PARTITION" {
			t.Errorf("got %v", e)
		}
	})
}

// Reading to the end waits for open transactions, passes over aborted ones, and
// does not wait for what is written later.
// Covers ST-13, CN-06 of CONFORMANCE.md.
func TestReadToEnd(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 2)
		c := f.dial()
		p := f.producer(c)
		commit := f.begin(p)
		f.send(commit, "a")
		must(t, commit.Commit(within(t)))
		open := f.begin(p)
		f.send(open, "b")
		must(t, open.Flush(within(t)))

		in, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		var got []string
		done := make(chan error)
		go func() {
			done <- in.ReadToEnd(within(t), func(b *Batch) error {
				got = append(got, values(b)...)
				return nil
			})
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("did not wait for the open transaction: %v, %v", got, err)
		default:
		}
		must(t, open.Abort(within(t)))
		must(t, <-done)
		if !slices.Equal(got, []string{"a"}) {
			t.Errorf("read %v", got)
		}
		ends, err := in.EndOffsets(within(t))
		must(t, err)
		if ends[TopicPartition{"t", 0}] != 2 || !in.Reached(ends) {
			t.Errorf("ends %v, position %v", ends, in.Position())
		}
		must(t, in.ReadToEnd(within(t), func(*Batch) error { return errUser })) // nothing to read
		f.fill(c, "c")
		lag, err := in.Lag(within(t))
		must(t, err)
		if lag[TopicPartition{"t", 0}] != 1 {
			t.Errorf("lag %v", lag)
		}
		if err := in.ReadToEnd(within(t), func(*Batch) error { return errUser }); !errors.Is(err, errUser) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAdmin(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 2)
		c := f.dial()
		if c.ClusterID() != "test" {
			t.Errorf("cluster %q", c.ClusterID())
		}
		a := c.Admin()
		d, err := a.DescribeTopic(within(t), "t")
		must(t, err)
		if d.GetTopicId() != topic.id || len(d.GetPartitions()) != 2 {
			t.Errorf("topic %v", d)
		}
		_, err = a.DescribeTopic(within(t), "nowhere")
		expect(t, err, ClassFatal, nil)
		must(t, a.ResetGroupOffsets(within(t), "g", Offsets{{"t", 1}: 5}))
		_, err = a.NodeStatus(within(t), "n9")
		expect(t, err, ClassRetriable, nil)
		err = a.ResetGroupOffsets(within(t), "g", Offsets{{"t", 9}: 5})
		expect(t, err, ClassFatal, nil)
	})
}

// An abort by an operator whose answer is lost does not hit the next transaction
// when it is repeated.
func TestAdminAbortsOneTransaction(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		p := f.producer(c)
		a := c.Admin()
		resp, err := a.AbortTransaction(within(t), &v1.AbortTransactionRequest{TransactionalId: "id"})
		must(t, err)
		if resp.GetTxn() != nil {
			t.Errorf("aborted %v", resp.GetTxn())
		}
		one := f.begin(p)
		f.send(one, "one")
		must(t, one.Flush(within(t)))
		var two *Tx
		f.onAbort = func(string, *v1.AbortTransactionRequest) fate {
			switch {
			case two != nil:
				return fate{}
			case one == nil: // the next transaction has begun by now
				two = f.begin(p)
				f.send(two, "two")
				must(t, two.Flush(within(t)))
				return fate{}
			}
			must(t, one.Abort(within(t)))
			one = nil
			return fate{swallow: true}
		}
		resp, err = a.AbortTransaction(within(t), &v1.AbortTransactionRequest{TransactionalId: "id", WaitApplied: true})
		must(t, err)
		if resp.GetTxn().GetTxnNumber() != 1 {
			t.Errorf("aborted %v", resp.GetTxn())
		}
		must(t, two.Commit(within(t)))
		f.holds(topic.parts[0], "two")
	})
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	fenced := apierrors.New(v1.ErrorCode_ERROR_CODE_CONFLICT, "", apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "FENCED")
	for _, c := range []struct {
		err      error
		class    Class
		code     string
		sentinel error
	}{
		{wrap("commit", fenced), ClassFatal, "CONFLICT", ErrFenced},
		{wrap("commit", fenced.GRPCStatus().Err()), ClassFatal, "CONFLICT", ErrFenced},
		{wrap("send", apierrors.New(v1.ErrorCode_ERROR_CODE_TXN_ENDED, "", apierrors.KeyReason, "TIMEOUT")), ClassAbortable, "TXN_ENDED", ErrTxTimeout},
		{wrap("send", apierrors.New(v1.ErrorCode_ERROR_CODE_TXN_ENDED, "", apierrors.KeyReason, "FENCED")), ClassFatal, "TXN_ENDED", ErrFenced},
		{wrap("poll", context.Canceled), ClassRetriable, codeContextEnded, context.Canceled},
		{wrap("poll", &endedError{ctx: context.Canceled, last: fenced}), ClassRetriable, codeContextEnded, context.Canceled},
		{wrap("poll", ErrClosed), ClassFatal, "CLOSED", ErrClosed},
		{fmt.Errorf("wrapped: %w", wrap("poll", ErrClosed)), ClassFatal, "CLOSED", ErrClosed},
	} {
		var e *Error
		if !errors.As(c.err, &e) || e.Code != c.code || ClassOf(c.err) != c.class || !errors.Is(c.err, c.sentinel) || c.err.Error() == "" {
			t.Errorf("%v: code %s, class %v", c.err, e.Code, ClassOf(c.err))
		}
	}
	for err, class := range map[error]Class{nil: 0, errUser: 0, ErrTxDone: ClassFatal, context.Canceled: ClassRetriable} {
		if ClassOf(err) != class {
			t.Errorf("class of %v is %v", err, ClassOf(err))
		}
	}
	full := &Error{Op: "send", Code: "FENCED", Class: ClassFatal, Topic: "t", Partition: 3, Err: ErrFenced,
		TxID: TxID{TransactionalID: "id", ProducerID: 7, Epoch: 1, Number: 2}}
	if got, want := full.Error(), "oncelog: send t/3 id:7/1/2: FENCED (fatal): "+ErrFenced.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
