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

var errUser = errors.New("the application's own")

func TestTransact(t *testing.T) {
	timeout := apierrors.New(v1.ErrorCode_ERROR_CODE_CONFLICT, "", apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "TIMEOUT")
	for name, c := range map[string]struct {
		fn       func(n int, tx *Tx) error
		end      func(n int, r *v1.EndTransactionRequest) fate
		opts     []TransactOption
		runs     int
		class    Class
		sentinel error
		holds    []string
	}{
		"success":   {runs: 1, holds: []string{"1"}},
		"own error": {fn: func(int, *Tx) error { return errUser }, runs: 1, sentinel: errUser},
		"abortable error is tried again": {fn: func(n int, _ *Tx) error {
			if n < 3 {
				return fmt.Errorf("wrapped: %w", &Error{Op: "send", Class: ClassAbortable})
			}
			return nil
		}, runs: 3, holds: []string{"3"}},
		"fatal error is not": {fn: func(int, *Tx) error {
			return &Error{Op: "send", Class: ClassFatal, Err: errUser}
		}, runs: 1, class: ClassFatal, sentinel: errUser},
		"abortable commit is tried again": {end: func(n int, r *v1.EndTransactionRequest) fate {
			if n == 1 && r.GetCommit() {
				return fate{refuse: timeout}
			}
			return fate{}
		}, runs: 2, holds: []string{"2"}},
		"attempts run out": {end: func(_ int, r *v1.EndTransactionRequest) fate {
			if r.GetCommit() {
				return fate{refuse: timeout}
			}
			return fate{}
		}, opts: []TransactOption{WithMaxAttempts(4)}, runs: 4, class: ClassAbortable, sentinel: ErrTxTimeout},
		"lost answer is not tried again": {end: func(n int, _ *v1.EndTransactionRequest) fate {
			return fate{swallow: n == 1}
		}, runs: 1, holds: []string{"1"}},
		"nested": {fn: func(_ int, tx *Tx) error {
			return tx.p.Transact(tx.Context(), func(*Tx) error { return nil })
		}, runs: 1, class: ClassFatal, sentinel: ErrTxOpen},
		"committed by the closure": {fn: func(_ int, tx *Tx) error {
			return tx.Commit(tx.Context())
		}, runs: 1, holds: []string{"1"}},
		"aborted by the closure": {fn: func(_ int, tx *Tx) error {
			return tx.Abort(tx.Context())
		}, runs: 1, class: ClassFatal, sentinel: ErrTxDone},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				topic := f.topic("t", 1)
				p := f.producer(f.dial())
				ends := 0
				f.onEnd = func(_ string, r *v1.EndTransactionRequest) fate {
					if c.end == nil {
						return fate{}
					}
					ends++
					return c.end(ends, r)
				}
				runs := 0
				err := p.Transact(within(t), func(tx *Tx) error {
					runs++
					if err := tx.Send(within(t), to(fmt.Sprint(runs))); err != nil {
						return err
					}
					if c.fn == nil {
						return nil
					}
					return c.fn(runs, tx)
				}, c.opts...)
				if runs != c.runs {
					t.Errorf("%d runs, want %d", runs, c.runs)
				}
				if ClassOf(err) != c.class || !errors.Is(err, c.sentinel) {
					t.Errorf("got %v, want class %v and %v", err, c.class, c.sentinel)
				}
				f.holds(topic.parts[0], c.holds...)
			})
		})
	}
}

func TestTransactPanics(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		func() {
			defer func() {
				if r := recover(); r != "a bug" {
					t.Errorf("recovered %v", r)
				}
			}()
			_ = p.Transact(within(t), func(tx *Tx) error {
				f.send(tx, "a")
				must(t, tx.Flush(within(t)))
				panic("a bug")
			})
		}()
		if ends := f.ended(); len(ends) != 1 || ends[0].GetCommit() {
			t.Errorf("sent %v", ends)
		}
		must(t, p.Transact(within(t), func(tx *Tx) error { return tx.Send(within(t), to("b")) }))
		f.holds(topic.parts[0], "b")
	})
}

// Unknown until ctx ends: neither run again nor aborted.
func TestTransactReturnsUnknown(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial())
		f.onEnd = func(string, *v1.EndTransactionRequest) fate { return fate{lose: true} }
		runs := 0
		err := p.Transact(soon(t, 5*time.Second), func(tx *Tx) error {
			runs++
			return tx.Send(within(t), to("a"))
		})
		expect(t, err, ClassRetriable, ErrOutcomeUnknown)
		if runs != 1 {
			t.Errorf("%d runs", runs)
		}
		for _, e := range f.ended() {
			if !e.GetCommit() {
				t.Error("aborted")
			}
		}
	})
}

// copyAll processes until all of n records are copied from t to u.
func copyAll(t *testing.T, f *fake, in *Consumer, out *Producer, n int,
	fn func(tx *Tx, b *Batch) error) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		done <- Process(ctx, in, out, func(tx *Tx, b *Batch) error {
			for r := range b.Records() {
				if err := tx.Send(ctx, (&Record{Topic: "u", Value: r.Value}).WithPartition(0)); err != nil {
					return err
				}
			}
			return fn(tx, b)
		})
	}()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Second):
			if len(f.committed(f.topics["u"].parts[0])) >= n {
				cancel()
				return <-done
			}
		}
	}
}

// fill writes records to topic t.
func (f *fake) fill(c *Client, values ...string) {
	f.t.Helper()
	p, err := c.IdempotentProducer(within(f.t), WithLinger(0), WithBatchSize(1))
	must(f.t, err)
	for _, v := range values {
		must(f.t, p.Send(within(f.t), to(v)))
	}
	must(f.t, p.Close())
}

// Every fault that a transaction can meet, and still each record once.
// Covers SY-06 of CONFORMANCE.md.
func TestProcessIsExactlyOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		u := f.topic("u", 1)
		c := f.dial()
		f.fill(c, numbers(50)...)
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(4))
		must(t, err)
		ends, appends := 0, 0
		f.onEnd = func(_ string, r *v1.EndTransactionRequest) fate {
			ends++
			switch {
			case ends%7 == 3:
				return fate{swallow: true}
			case ends%7 == 5:
				return fate{lose: true}
			case ends%7 == 6 && r.GetCommit():
				f.mu.Lock()
				defer f.mu.Unlock()
				if k := keyOf(r.GetTxn()); f.txns[k] == nil || f.txns[k].outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN {
					f.end(k, false, v1.AbortReason_ABORT_REASON_TIMEOUT)
				}
			}
			return fate{}
		}
		f.onAppend = func(string, *v1.AppendRequest) fate {
			appends++
			return fate{swallow: appends%5 == 2, lose: appends%5 == 4}
		}
		err = copyAll(t, f, in, f.producer(c), 50, func(*Tx, *Batch) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		f.holds(u.parts[0], numbers(50)...)
		if got := f.offsets["g/t/0"]; got != 50 {
			t.Errorf("committed position %d", got)
		}
	})
}

func TestProcessStops(t *testing.T) {
	for name, c := range map[string]struct {
		fn   func(f *fake, tx *Tx, b *Batch) error
		want error
	}{
		"on an error of its closure": {func(*fake, *Tx, *Batch) error { return errUser }, errUser},
		"when another member took over": {func(f *fake, _ *Tx, _ *Batch) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.owners["g/t/0"] = "another"
			return nil
		}, ErrStaleMember},
		"when it was fenced": {func(_ *fake, tx *Tx, _ *Batch) error {
			_, err := tx.p.c.InitTransactions(tx.Context(), "id")
			return err
		}, ErrFenced},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				f.topic("t", 1)
				u := f.topic("u", 1)
				client := f.dial()
				f.fill(client, "a", "b")
				in, err := client.Consume(within(t), "g", []string{"t"}, WithManualAssignment())
				must(t, err)
				err = copyAll(t, f, in, f.producer(client), 2, func(tx *Tx, b *Batch) error { return c.fn(f, tx, b) })
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				f.holds(u.parts[0])
				if _, moved := f.offsets["g/t/0"]; moved {
					t.Error("the position was committed")
				}
			})
		})
	}
}

// A batch that is kept over an abort counts as read again.
func TestTransactWithABatch(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, numbers(6)...)
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(2))
		must(t, err)
		p := f.producer(c)
		one, err := in.Poll(within(t))
		must(t, err)
		two, err := in.Poll(within(t))
		must(t, err)
		runs := 0
		must(t, p.Transact(within(t), func(tx *Tx) error {
			runs++
			must(t, tx.SendOffsets(within(t), one))
			must(t, tx.SendOffsets(within(t), two))
			if runs < 3 {
				return &Error{Class: ClassAbortable}
			}
			return nil
		}))
		read1and2 := one.Len() + two.Len() // a poll may bring fewer than it might
		if got := f.offsets["g/t/0"]; got != uint64(read1and2) {
			t.Errorf("committed position %d of %d", got, read1and2)
		}
		if got := read(within(t), t, in, 6-read1and2); !slices.Equal(got, numbers(6)[read1and2:]) {
			t.Errorf("read on with %v", got)
		}
		// The same batch again would do its work twice.
		tx := f.begin(p)
		expect(t, tx.SendOffsets(within(t), one), ClassFatal, nil)
		expect(t, tx.Commit(within(t)), ClassFatal, nil)
		must(t, tx.Abort(within(t)))
	})
}

// A batch from before an abort must not be committed once the consumer has read
// on from elsewhere.
func TestOldBatchIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		f.fill(c, numbers(6)...)
		in, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment(), WithMaxPollRecords(2))
		must(t, err)
		p := f.producer(c)
		old, err := in.Poll(within(t))
		must(t, err)
		tx := f.begin(p)
		must(t, tx.SendOffsets(within(t), old))
		must(t, tx.Abort(within(t)))
		again, err := in.Poll(within(t))
		must(t, err)
		if !slices.Equal(values(again), values(old)) {
			t.Errorf("read %v again as %v", values(old), values(again))
		}
		tx = f.begin(p)
		e := expect(t, tx.SendOffsets(within(t), old), ClassFatal, nil)
		if e.Code != codeStaleBatch {
			t.Errorf("code %s", e.Code)
		}
		must(t, tx.Abort(within(t)))
		tx = f.begin(p)
		must(t, tx.SendOffsets(within(t), again))
		must(t, tx.Commit(within(t)))
		synctest.Wait()
	})
}
