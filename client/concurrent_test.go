package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// A Commit that did not get its turn says that it does not know, and changes
// nothing: the one under way finds out for both.
func TestCommitBesideAnotherCommit(t *testing.T) {
	for name, c := range map[string]struct {
		refuse *apierrors.Error
		check  func(t *testing.T, f *fake, tx *Tx, err error)
	}{
		"that fails": {apierrors.New(v1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, ""), func(t *testing.T, f *fake, tx *Tx, err error) {
			expect(t, err, ClassAbortable, nil)
			expect(t, tx.Commit(within(t)), ClassAbortable, nil)
			must(t, tx.Abort(within(t)))
			must(t, f.begin(tx.p).Abort(within(t)))
			for _, e := range f.ended() {
				if e.GetCommit() || e.GetTxn() == nil {
					t.Errorf("sent %v", e)
				}
			}
		}},
		"that succeeds": {nil, func(t *testing.T, f *fake, tx *Tx, err error) {
			must(t, err)
			must(t, tx.Commit(within(t)))
			f.holds(f.topics["t"].parts[0], "a")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				f.topic("t", 1)
				p := f.producer(f.dial())
				hold := make(chan struct{})
				f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold, refuse: c.refuse} }
				tx := f.begin(p)
				f.send(tx, "a")
				first := make(chan error, 1)
				go func() { first <- tx.Commit(within(t)) }()
				synctest.Wait()
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				expect(t, tx.Commit(ended), ClassRetriable, ErrOutcomeUnknown)
				close(hold)
				c.check(t, f, tx, <-first)
			})
		})
	}
}

// Commit waits for a Send that is under way: a part of what it was given must
// not be committed while the Send fails.
func TestCommitWaitsForSends(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0), WithBufferMemory(1000))
		hold := make(chan struct{})
		f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
		tx := f.begin(p)
		large := strings.Repeat("x", 600)
		sent, committed := make(chan error, 1), make(chan error, 1)
		go func() { sent <- tx.Send(within(t), to(large), to(large)) }() // the second waits for space
		synctest.Wait()
		go func() { committed <- tx.Commit(within(t)) }()
		synctest.Wait()
		expect(t, tx.Send(within(t), to("late")), ClassFatal, ErrTxDone)
		close(hold)
		sendErr, commitErr := <-sent, <-committed
		if sendErr != nil && commitErr == nil {
			t.Errorf("Send failed with %v, and Commit did not", sendErr)
		}
		must(t, sendErr)
		f.holds(topic.parts[0], large, large)
		if n := p.mem.taken(); n != 0 {
			t.Errorf("%d bytes are still taken", n)
		}
	})
}

// A Commit whose context ends while it waits for a Send leaves the transaction
// as it is.
func TestCommitDoesNotWaitForSendsForEver(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0), WithBufferMemory(1000))
		hold := make(chan struct{})
		f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
		tx := f.begin(p)
		large := strings.Repeat("x", 600)
		sent := make(chan error, 1)
		go func() { sent <- tx.Send(within(t), to(large), to(large)) }()
		synctest.Wait()
		e := expect(t, tx.Commit(soon(t, time.Second)), ClassAbortable, context.DeadlineExceeded)
		if e.Outcome != OutcomeOpen {
			t.Errorf("outcome %v", e.Outcome)
		}
		close(hold)
		must(t, <-sent)
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], large, large)
	})
}

// Whoever waits for buffer space must not wait for records that linger in it.
func TestLingeringRecordsMakeRoom(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(time.Hour), WithBufferMemory(1000))
		tx := f.begin(p)
		began := time.Now()
		large := strings.Repeat("x", 600)
		f.send(tx, large, large, large)
		if waited := time.Since(began); waited > 0 {
			t.Errorf("Send waited %v", waited)
		}
		must(t, tx.Commit(within(t)))
	})
}

// A partitioner is the user's code: it may use the producer, and a panic in it
// costs no buffer space.
func TestPartitionersRunWithoutLocks(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		var tx *Tx
		panics := true
		p := f.producer(f.dial(), WithPartitioner(func(*Record, int) int {
			if panics {
				panic("partitioner")
			}
			must(t, tx.Flush(within(t)))
			return 0
		}))
		tx = f.begin(p)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was lost")
				}
			}()
			_ = tx.Send(within(t), &Record{Topic: "t"})
		}()
		if n := p.mem.taken(); n != 0 {
			t.Errorf("%d bytes are still taken", n)
		}
		// What was to be sent is missing.
		expect(t, tx.Commit(within(t)), ClassAbortable, nil)
		must(t, tx.Abort(within(t)))
		panics = false
		tx = f.begin(p)
		must(t, tx.Send(within(t), &Record{Topic: "t"}))
		must(t, tx.Commit(within(t)))
	})
}

// A commit without an answer, of a transactional id that was removed since:
// nobody knows any more, and repeating cannot help (MT-51).
func TestCommitOfARemovedID(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial())
		n := 0
		f.onEnd = func(string, *v1.EndTransactionRequest) fate {
			if n++; n == 1 {
				return fate{swallow: true}
			}
			if n > 100 {
				return fate{lose: true} // ends a loop without a pause
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			clear(f.txns)
			return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER, "")}
		}
		err := p.Transact(within(t), func(tx *Tx) error { return tx.Send(within(t), to("a")) })
		e := expect(t, err, ClassFatal, nil)
		if e.Outcome != OutcomeForgotten {
			t.Errorf("outcome %v in %v", e.Outcome, e)
		}
		if n > 3 {
			t.Errorf("%d EndTransactions", n)
		}
		if _, err := p.Begin(within(t)); ClassOf(err) != ClassFatal || errors.Is(err, ErrTxOpen) {
			t.Errorf("Begin: %v", err)
		}
	})
}
