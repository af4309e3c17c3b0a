package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Two producers share a consumer: the later batch must not be committed before
// the earlier one, whose transaction may be aborted.
func TestBatchesAreCommittedInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, numbers(4)...)
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(2))
		must(t, err)
		p := f.producer(c)
		q, err := c.InitTransactions(within(t), "another id")
		must(t, err)
		one, err := in.Poll(within(t))
		must(t, err)
		two, err := in.Poll(within(t))
		must(t, err)

		first, second := f.begin(p), f.begin(q)
		must(t, first.SendOffsets(within(t), one))
		e := expect(t, second.SendOffsets(within(t), two), ClassFatal, nil)
		if e.Code != codeStaleBatch {
			t.Errorf("code %s", e.Code)
		}
		expect(t, second.Commit(within(t)), ClassFatal, nil)
		must(t, second.Abort(within(t)))
		expect(t, in.Commit(within(t), two), ClassFatal, nil)
		must(t, first.Abort(within(t)))
		if got, moved := f.offsets["g/t/0"]; moved {
			t.Errorf("committed position %d after an abort", got)
		}
		if got := read(within(t), t, in, 4); !slices.Equal(got, numbers(4)) {
			t.Errorf("read %v", got)
		}

		// Once the earlier one has ended the way is free.
		in.Seek(Offsets{{"t", 0}: 0})
		one, err = in.Poll(within(t))
		must(t, err)
		first = f.begin(p)
		must(t, first.SendOffsets(within(t), one))
		must(t, first.Commit(within(t)))
		two, err = in.Poll(within(t))
		must(t, err)
		must(t, in.Commit(within(t), two))
		if got := f.offsets["g/t/0"]; got != 4 {
			t.Errorf("committed position %d", got)
		}
	})
}

// A commit of positions that was given up does not make the next one look stale.
func TestCommitAfterOneThatWasGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, numbers(3)...)
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(1))
		must(t, err)
		down := true
		f.onCommit = func(string, *v1.CommitOffsetsRequest) fate { return fate{swallow: down} }
		one, err := in.Poll(within(t))
		must(t, err)
		expect(t, in.Commit(soon(t, time.Second), one), ClassRetriable, context.DeadlineExceeded)
		down = false
		two, err := in.Poll(within(t))
		must(t, err)
		must(t, in.Commit(within(t), two))
		if got := f.offsets["g/t/0"]; got != 2 {
			t.Errorf("committed position %d", got)
		}
		// The same after a transaction, and by the repetition of the commit itself.
		down = true
		three, err := in.Poll(within(t))
		must(t, err)
		expect(t, in.Commit(soon(t, time.Second), three), ClassRetriable, context.DeadlineExceeded)
		down = false
		must(t, in.Commit(within(t), three))
	})
}

// Commits of one consumer take turns, so that each expects what the one before
// it left.
func TestCommitsTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, numbers(2)...)
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(1))
		must(t, err)
		hold := make(chan struct{})
		f.onCommit = func(string, *v1.CommitOffsetsRequest) fate { return fate{hold: hold} }
		done := make(chan error, 2)
		for range 2 {
			b, err := in.Poll(within(t))
			must(t, err)
			go func() { done <- in.Commit(within(t), b) }()
			synctest.Wait()
		}
		close(hold)
		must(t, errors.Join(<-done, <-done))
		if got := f.offsets["g/t/0"]; got != 2 {
			t.Errorf("committed position %d", got)
		}
	})
}

// Process gives a batch back that no transaction has taken: whoever goes on with
// the consumer must see it.
func TestProcessGivesBatchesBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		u := f.topic("u", 1)
		c := f.dial()
		f.fill(c, numbers(4)...)
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(2))
		must(t, err)
		gone := f.producer(c)
		must(t, gone.Close())
		err = Process(within(t), in, gone, func(*Tx, *Batch) error { return nil })
		expect(t, err, ClassFatal, ErrClosed)
		err = copyAll(t, f, in, f.producer(c), 4, func(*Tx, *Batch) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		f.holds(u.parts[0], numbers(4)...)
	})
}

// A position that moved over hidden records since a rewind still stands at the
// beginning of the batch.
func TestBatchIsReadAgainBehindHiddenRecords(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		p := f.producer(c)
		hidden := f.begin(p)
		f.send(hidden, "hidden")
		must(t, hidden.Flush(within(t)))
		must(t, hidden.Abort(within(t)))
		f.fill(c, "a", "b")
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(1))
		must(t, err)
		b, err := in.Poll(within(t))
		must(t, err)
		if b.parts[0].start != 0 || !slices.Equal(values(b), []string{"a"}) {
			t.Fatalf("read %v from %d", values(b), b.parts[0].start)
		}
		tx := f.begin(p)
		must(t, tx.SendOffsets(within(t), b))
		must(t, tx.Abort(within(t)))
		// The node now tells of the hidden records before it has found the others.
		r := in.readers[0]
		in.mu.Lock()
		r.position = int64(topic.parts[0].log[1].base)
		in.mu.Unlock()
		tx = f.begin(p)
		must(t, tx.SendOffsets(within(t), b))
		must(t, tx.Commit(within(t)))
		if got := read(within(t), t, in, 1); got[0] != "b" {
			t.Errorf("read on with %v", got)
		}
	})
}

// What comes before a damaged batch in the same response is handed out: a Seek
// over the damage must not lose it.
func TestRecordsBeforeDamageAreReturned(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a", "b", "c")
		log := topic.parts[0].log
		damaged := slices.Clone(log[1].raw)
		damaged[42] ^= 1
		resp := &v1.FetchResponse{NextOffset: 3}
		for i, raw := range [][]byte{log[0].raw, damaged, log[2].raw} {
			resp.Batches = append(resp.Batches, &v1.FetchedBatch{BaseOffset: uint64(i), VisibleRecords: 1, Batch: raw})
		}
		f.onFetch = func(_ string, r *v1.FetchRequest) fate {
			switch r.GetOffset() {
			case 0:
				return fate{respond: resp}
			case 1:
				return fate{respond: &v1.FetchResponse{NextOffset: 3, Batches: resp.Batches[1:]}}
			}
			return fate{}
		}
		in, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		if got := read(within(t), t, in, 1); got[0] != "a" {
			t.Errorf("read %v", got)
		}
		_, err = in.Poll(within(t))
		if e := expect(t, err, ClassAbortable, nil); e.Code != "CORRUPT_BATCH" {
			t.Errorf("got %v", e)
		}
		at := in.Position()
		if at[TopicPartition{"t", 0}] != 1 {
			t.Errorf("stands at %v", at)
		}
		in.Seek(Offsets{{"t", 0}: 2})
		if got := read(within(t), t, in, 1); got[0] != "c" {
			t.Errorf("read %v", got)
		}
	})
}

// A node that was left behind, and still takes itself for the leader, does not
// know offsets that have been read elsewhere. That is no reason to stop; only if
// it stays so are records gone.
func TestANodeLeftBehindIsNotBelieved(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		f.fill(c, "a", "b")
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment())
		must(t, err)
		b, err := in.Poll(within(t))
		must(t, err)
		for b.Offsets()[TopicPartition{"t", 0}] < 2 {
			b, err = in.Poll(within(t))
			must(t, err)
		}
		must(t, in.Commit(within(t), b))
		behind := time.Now().Add(3 * time.Second)
		f.onFetch = func(_ string, _ *v1.FetchRequest) fate {
			if time.Now().Before(behind) {
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE, "",
					apierrors.KeyStartOffset, "0", apierrors.KeyEndOffset, "1")}
			}
			return fate{}
		}
		again, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment()) // at a committed position
		must(t, err)
		in.Seek(Offsets{{"t", 0}: 2})
		f.fill(c, "c")
		for _, k := range []*Consumer{in, again} {
			if got := read(within(t), t, k, 1); got[0] != "c" {
				t.Errorf("read %v", got)
			}
		}
		behind = time.Now().Add(time.Hour)
		f.lead(topic.parts[0], "n2")
		_, err = again.Poll(soon(t, time.Minute))
		if e := expect(t, err, ClassFatal, nil); e.Code != "OFFSET_OUT_OF_RANGE" {
			t.Errorf("got %v", e)
		}
	})
}
