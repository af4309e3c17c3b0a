package client

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestCommitMakesRecordsVisible(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 3)
		c := f.dial()
		p := f.producer(c)
		tx := f.begin(p)
		var rs []*Record
		for i, v := range numbers(30) {
			rs = append(rs, (&Record{Topic: "t", Value: []byte(v)}).WithPartition(int32(i%3)))
		}
		must(t, tx.Send(within(t), rs...))
		must(t, tx.Flush(within(t)))
		for i, r := range rs {
			if r.Partition != int32(i%3) || r.Offset != int64(i/3) {
				t.Errorf("record %d is at %d/%d", i, r.Partition, r.Offset)
			}
		}
		f.holds(topic.parts[0])
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], "0", "3", "6", "9", "12", "15", "18", "21", "24", "27")
		must(t, tx.Commit(within(t))) // the same answer again
		must(t, tx.Abort(within(t)))  // harmless
		expect(t, tx.Send(within(t), to("late")), ClassFatal, ErrTxDone)
		expect(t, tx.Flush(within(t)), ClassFatal, ErrTxDone)
		if o, err := c.Outcome(within(t), tx.ID()); err != nil || o != OutcomeCommitted {
			t.Errorf("outcome %v, %v", o, err)
		}
		if !errors.Is(context.Cause(tx.Context()), ErrTxDone) {
			t.Errorf("context ended by %v", context.Cause(tx.Context()))
		}
	})
}

func TestAbortHidesRecords(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, tx.Flush(within(t)))
		must(t, tx.Abort(within(t)))
		must(t, tx.Abort(within(t)))
		f.holds(topic.parts[0])
		expect(t, tx.Commit(within(t)), ClassFatal, ErrTxDone)
		ends := f.ended()
		if len(ends) != 1 || ends[0].GetCommit() || len(ends[0].GetPartitions()) != 1 || ends[0].GetPartitions()[0].GetNextSequence() != 1 {
			t.Errorf("sent %v", ends)
		}
	})
}

func TestEmptyTransactionsAskNobody(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		p := f.producer(f.dial())
		must(t, f.begin(p).Commit(within(t)))
		must(t, f.begin(p).Abort(within(t)))
		if n := f.count("EndTransaction"); n != 0 {
			t.Errorf("%d EndTransactions", n)
		}
		if id := f.begin(p).ID(); id.Number != 3 {
			t.Errorf("third transaction is %v", id)
		}
	})
}

func TestOneTransactionAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		p := f.producer(f.dial())
		tx := f.begin(p)
		_, err := p.Begin(within(t))
		expect(t, err, ClassFatal, ErrTxOpen)
		must(t, tx.Abort(within(t)))
		must(t, f.begin(p).Abort(within(t)))
	})
}

// A send that fails for good dooms its transaction, whatever the caller does
// (MT-04, MT-42, MT-57, MT-58, KP-04).
func TestFailedSendDoomsTheTransaction(t *testing.T) {
	for name, c := range map[string]struct {
		fail  func(t *testing.T, f *fake, tx *Tx) error
		class Class
	}{
		"too large": {func(t *testing.T, _ *fake, tx *Tx) error {
			return tx.Send(within(t), to(strings.Repeat("x", 2<<20)))
		}, ClassAbortable},
		"unknown topic": {func(t *testing.T, _ *fake, tx *Tx) error {
			return tx.Send(within(t), &Record{Topic: "nowhere"})
		}, ClassFatal},
		"no such partition": {func(t *testing.T, _ *fake, tx *Tx) error {
			return tx.Send(within(t), (&Record{Topic: "t"}).WithPartition(7))
		}, ClassFatal},
		"context ended": {func(t *testing.T, _ *fake, tx *Tx) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return tx.Send(ctx, &Record{Topic: "elsewhere"})
		}, ClassAbortable},
		"refused": {func(t *testing.T, f *fake, tx *Tx) error {
			f.onAppend = func(string, *v1.AppendRequest) fate {
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, "")}
			}
			f.send(tx, "b")
			return tx.Flush(within(t))
		}, ClassAbortable},
		"delivery timeout": {func(t *testing.T, f *fake, tx *Tx) error {
			f.onAppend = func(string, *v1.AppendRequest) fate {
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OVERLOADED, "")}
			}
			f.send(tx, "b")
			return tx.Flush(soon(t, time.Hour))
		}, ClassAbortable},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				topic := f.topic("t", 1)
				p := f.producer(f.dial())
				tx := f.begin(p)
				f.send(tx, "a")
				must(t, tx.Flush(within(t)))
				err := c.fail(t, f, tx)
				first := expect(t, err, c.class, nil)
				again := expect(t, tx.Send(within(t), to("c")), c.class, nil)
				commit := expect(t, tx.Commit(within(t)), c.class, nil)
				if again.Code != first.Code || commit.Code != first.Code {
					t.Errorf("failed with %q, then said %q and %q", first.Code, again.Code, commit.Code)
				}
				if tx.Context().Err() == nil {
					t.Error("the transaction's context goes on")
				}
				must(t, tx.Abort(within(t)))
				f.onAppend = nil
				next := f.begin(p)
				f.send(next, "d")
				must(t, next.Commit(within(t)))
				f.holds(topic.parts[0], "d")
			})
		})
	}
}

// The four endings of Commit.

// Among them a group that refuses the positions (MT-35).
func TestCommitEndsAbortable(t *testing.T) {
	for name, c := range map[string]struct {
		refuse   *apierrors.Error
		sentinel error
		outcome  Outcome
	}{
		"timed out": {apierrors.New(v1.ErrorCode_ERROR_CODE_CONFLICT, "", apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "TIMEOUT"),
			ErrTxTimeout, OutcomeAborted},
		"aborted by an operator": {apierrors.New(v1.ErrorCode_ERROR_CODE_CONFLICT, "", apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "ADMIN"),
			nil, OutcomeAborted},
		"unsettled":    {apierrors.New(v1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS, ""), nil, OutcomeOpen},
		"stale member": {apierrors.New(v1.ErrorCode_ERROR_CODE_STALE_MEMBER, ""), ErrStaleMember, OutcomeOpen},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				topic := f.topic("t", 1)
				p := f.producer(f.dial())
				tx := f.begin(p)
				f.send(tx, "a")
				f.onEnd = func(_ string, r *v1.EndTransactionRequest) fate {
					if r.GetCommit() {
						return fate{refuse: c.refuse}
					}
					return fate{}
				}
				e := expect(t, tx.Commit(within(t)), ClassAbortable, c.sentinel)
				if e.Outcome != c.outcome {
					t.Errorf("outcome %v, want %v", e.Outcome, c.outcome)
				}
				must(t, tx.Abort(within(t)))
				f.onEnd = nil
				next := f.begin(p) // the producer goes on
				f.send(next, "b")
				must(t, next.Commit(within(t)))
				f.holds(topic.parts[0], "b")
			})
		})
	}
}

func TestCommitEndsFatalWhenFenced(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		p := f.producer(c)
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, tx.Flush(within(t)))
		second := f.producer(c)
		e := expect(t, tx.Commit(within(t)), ClassFatal, ErrFenced)
		if e.Outcome != OutcomeAborted {
			t.Errorf("outcome %v", e.Outcome)
		}
		must(t, tx.Abort(within(t)))
		_, err := p.Begin(within(t))
		expect(t, err, ClassFatal, ErrFenced)
		id, outcome := second.Previous()
		if id != tx.ID() || outcome != OutcomeAborted {
			t.Errorf("previous is %v, %v", id, outcome)
		}
		f.holds(topic.parts[0])
	})
}

// An answer that is lost while the context goes on is asked for again, with the
// very same request.
func TestCommitIsRepeatedUnchanged(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		n := 0
		f.onEnd = func(string, *v1.EndTransactionRequest) fate {
			n++
			return fate{lose: n == 1, swallow: n == 2}
		}
		must(t, tx.Commit(within(t)))
		ends := f.ended()
		if len(ends) < 3 {
			t.Fatalf("%d EndTransactions", len(ends))
		}
		for _, e := range ends {
			if e.String() != ends[0].String() {
				t.Errorf("repeated as %v, first sent as %v", e, ends[0])
			}
		}
		f.holds(topic.parts[0], "a")
	})
}

// Covers TX-11 of CONFORMANCE.md.
func TestUnknownOutcomeIsSettledByCommit(t *testing.T) {
	for name, lost := range map[string]fate{"arrived": {swallow: true}, "never arrived": {lose: true}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				topic := f.topic("t", 1)
				c := f.dial()
				p := f.producer(c)
				tx := f.begin(p)
				f.send(tx, "a")
				f.onEnd = func(string, *v1.EndTransactionRequest) fate { return lost }
				e := expect(t, tx.Commit(soon(t, time.Second)), ClassRetriable, ErrOutcomeUnknown)
				if e.Outcome != OutcomeUnknown || e.TxID != tx.ID() {
					t.Errorf("error %+v", e)
				}
				asked := len(f.ended())
				expect(t, tx.Abort(within(t)), ClassRetriable, ErrOutcomeUnknown)
				if n := len(f.ended()); n != asked {
					t.Error("Abort sent something")
				}
				_, err := p.Begin(within(t))
				expect(t, err, ClassFatal, ErrTxOpen)
				f.onEnd = nil
				must(t, tx.Commit(within(t)))
				f.holds(topic.parts[0], "a")
				must(t, f.begin(p).Commit(within(t)))
			})
		})
	}
}

// withCopy runs a test twice: arrives says whether a copy of the commit, which something
// on the way has made, is carried out. The transaction has sent "a".
func withCopy(t *testing.T, run func(t *testing.T, f *fake, topic *fakeTopic, tx *Tx, arrives bool)) {
	for name, arrives := range map[string]bool{"a copy arrives": true, "none": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				topic := f.topic("t", 1)
				tx := f.begin(f.producer(f.dial()))
				f.send(tx, "a")
				run(t, f, topic, tx, arrives)
			})
		})
	}
}

// A commit that was refused for what passes may have been repeated on the way, and a
// copy arrive later, when it is accepted: nobody may call it not committed before an
// abort made it so.
func TestRepeatedRefusalOfCommitIsUnknown(t *testing.T) {
	withCopy(t, func(t *testing.T, f *fake, topic *fakeTopic, tx *Tx, arrives bool) {
		f.onEnd = func(string, *v1.EndTransactionRequest) fate {
			return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OVERLOADED, "")}
		}
		e := expect(t, tx.Commit(soon(t, time.Second)), ClassRetriable, ErrOutcomeUnknown)
		if !errors.Is(e, context.DeadlineExceeded) || !strings.Contains(e.Error(), "OVERLOADED") {
			t.Errorf("the error does not say what happened: %v", e)
		}
		f.onEnd = nil
		if arrives {
			f.mu.Lock()
			f.end(keyOf(tx.commit.GetTxn()), true, 0)
			f.mu.Unlock()
		}
		expect(t, tx.Abort(within(t)), ClassRetriable, ErrOutcomeUnknown)
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], "a")
	})
}

// What was refused for good after it had been refused for what passes is made certain
// by an abort, which a copy that arrived before it outruns.
func TestRefusalAfterRepetitionsIsMadeCertain(t *testing.T) {
	withCopy(t, func(t *testing.T, f *fake, topic *fakeTopic, tx *Tx, arrives bool) {
		n := 0
		f.onEnd = func(_ string, r *v1.EndTransactionRequest) fate {
			n++
			switch n {
			case 1:
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OVERLOADED, "")}
			case 2:
				if arrives {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.end(keyOf(r.GetTxn()), true, 0)
				}
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS, "")}
			}
			return fate{}
		}
		err := tx.Commit(within(t))
		if arrives {
			must(t, err)
			f.holds(topic.parts[0], "a")
			return
		}
		if e := expect(t, err, ClassAbortable, nil); e.Outcome != OutcomeAborted {
			t.Errorf("outcome %v", e.Outcome)
		}
		f.holds(topic.parts[0])
	})
}

// A commit that was never sent is surely not committed.
func TestCommitThatWasNeverSentIsNotUnknown(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		var busy atomic.Bool // the hook itself is not changed while sends go on
		busy.Store(true)
		f.onAppend = func(string, *v1.AppendRequest) fate {
			if busy.Load() {
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OVERLOADED, "")}
			}
			return fate{}
		}
		e := expect(t, tx.Commit(soon(t, time.Second)), ClassAbortable, context.DeadlineExceeded)
		if errors.Is(e, ErrOutcomeUnknown) || e.Outcome != OutcomeOpen {
			t.Errorf("the outcome is known: not committed, and not %v", e)
		}
		busy.Store(false)
		must(t, tx.Abort(within(t)))
		f.holds(topic.parts[0])
	})
}

// A commit may be delayed, its repetition refused, and then arrive and be
// accepted: the refusal must not be called certain before an abort made it so.
func TestRefusalAfterLostAnswerIsMadeCertain(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		n := 0
		f.onEnd = func(string, *v1.EndTransactionRequest) fate {
			n++
			switch n {
			case 1:
				return fate{lose: true}
			case 2:
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS, "")}
			}
			return fate{}
		}
		e := expect(t, tx.Commit(within(t)), ClassAbortable, nil)
		if e.Outcome != OutcomeAborted {
			t.Errorf("outcome %v", e.Outcome)
		}
		ends := f.ended()
		if len(ends) < 3 || ends[len(ends)-1].GetCommit() {
			t.Errorf("sent %v", ends)
		}
		f.holds(topic.parts[0])

		tx = f.begin(p)
		f.send(tx, "b")
		n = 0
		f.onEnd = func(_ string, r *v1.EndTransactionRequest) fate {
			n++
			switch n {
			case 1:
				return fate{lose: true}
			case 2: // the delayed one arrives just after this one was refused
				f.mu.Lock()
				defer f.mu.Unlock()
				f.end(keyOf(r.GetTxn()), true, 0)
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS, "")}
			}
			return fate{}
		}
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], "b")
	})
}

// Fenced after a lost answer: what became of the commit is asked, not guessed.
func TestFencedAfterLostAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		p := f.producer(c)
		tx := f.begin(p)
		f.send(tx, "a")
		f.onEnd = func(string, *v1.EndTransactionRequest) fate { return fate{lose: true} }
		expect(t, tx.Commit(soon(t, time.Second)), ClassRetriable, ErrOutcomeUnknown)
		f.mu.Lock()
		f.txns[keyOf(tx.ID().ref())] = &fakeTxn{outcome: v1.TransactionOutcome_TRANSACTION_OUTCOME_FORGOTTEN}
		f.mu.Unlock()
		f.onEnd = func(string, *v1.EndTransactionRequest) fate {
			return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_FENCED, "")}
		}
		e := expect(t, tx.Commit(within(t)), ClassFatal, ErrFenced)
		if e.Outcome != OutcomeForgotten {
			t.Errorf("outcome %v, but the commit may have succeeded", e.Outcome)
		}
		must(t, tx.Abort(within(t)))
	})
}

// Every attempt to commit was refused, and a copy of one was accepted: that the
// transaction is forgotten since does not mean that it was aborted.
func TestForgottenAfterRefusals(t *testing.T) {
	for _, outcome := range []v1.TransactionOutcome{
		v1.TransactionOutcome_TRANSACTION_OUTCOME_FORGOTTEN, v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED,
	} {
		t.Run(outcome.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				f.topic("t", 1)
				p := f.producer(f.dial())
				tx := f.begin(p)
				f.send(tx, "a")
				n := 0
				f.onEnd = func(string, *v1.EndTransactionRequest) fate {
					if n++; n < 3 {
						return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_THROTTLED, "")}
					}
					f.mu.Lock()
					defer f.mu.Unlock()
					f.txns[keyOf(tx.ID().ref())] = &fakeTxn{outcome: outcome}
					return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_FORGOTTEN, "")}
				}
				err := tx.Commit(within(t))
				if outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED {
					must(t, err)
					return
				}
				if e := expect(t, err, ClassFatal, nil); e.Outcome != OutcomeForgotten {
					t.Errorf("outcome %v, but a copy of the commit may have succeeded", e.Outcome)
				}
			})
		})
	}
}

func TestCommitHonoursItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		hold := make(chan struct{})
		f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
		began := time.Now()
		e := expect(t, tx.Commit(soon(t, time.Second)), ClassAbortable, context.DeadlineExceeded)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("took %v", waited)
		}
		if e.Outcome != OutcomeOpen || len(f.ended()) != 0 {
			t.Errorf("outcome %v after %v", e.Outcome, f.ended())
		}
		expect(t, tx.Send(within(t), to("more")), ClassFatal, ErrTxDone) // sealed
		close(hold)
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], "a")
	})
}

// A cancelled caller still cleans up.
func TestAbortOutlivesItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, tx.Flush(within(t)))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		must(t, tx.Abort(ctx))
		if ends := f.ended(); len(ends) != 1 || ends[0].GetCommit() {
			t.Errorf("sent %v", ends)
		}
	})
}

// An abort without an answer does not hold the producer up, takes no longer than
// its limit, and is never abortable.
// Covers TX-12 of CONFORMANCE.md.
func TestAbortWithoutAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, tx.Flush(within(t)))
		f.onEnd = func(string, *v1.EndTransactionRequest) fate { return fate{lose: true} }
		began := time.Now()
		expect(t, tx.Abort(t.Context()), ClassRetriable, nil)
		if waited := time.Since(began); waited > abortLimit+time.Second {
			t.Errorf("took %v", waited)
		}
		f.onEnd = nil
		next := f.begin(p)
		f.send(next, "b")
		must(t, next.Commit(within(t)))
		must(t, tx.Abort(within(t))) // again, and confirmed now
		f.holds(topic.parts[0], "b")
	})
}

// An abort names what may have arrived, acknowledged or not, and does not wait
// for it.
func TestAbortNamesUnacknowledgedSends(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0))
		tx := f.begin(p)
		hold := make(chan struct{})
		defer close(hold)
		f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
		f.send(tx, "a", "b")
		synctest.Wait()
		must(t, tx.Abort(within(t)))
		ends := f.ended()
		if len(ends) != 1 || len(ends[0].GetPartitions()) != 1 || ends[0].GetPartitions()[0].GetNextSequence() < 1 {
			t.Errorf("sent %v", ends)
		}
	})
}

func TestContextEndsAtTheTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial(), WithTransactionTimeout(5*time.Second))
		tx := f.begin(p)
		f.send(tx, "a")
		<-tx.Context().Done()
		if !errors.Is(context.Cause(tx.Context()), ErrTxTimeout) {
			t.Errorf("ended by %v", context.Cause(tx.Context()))
		}
		must(t, tx.Abort(within(t)))
	})
}

// Nothing of an earlier transaction reaches the next, even if it arrives late.
func TestTransactionsDoNotMix(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial())
		for i, v := range numbers(6) {
			tx := f.begin(p)
			f.send(tx, v)
			if i%2 == 0 {
				must(t, tx.Commit(within(t)))
			} else {
				must(t, tx.Abort(within(t)))
			}
		}
		f.holds(topic.parts[0], "0", "2", "4")
	})
}

func TestCloseAbortsTheOpenTransaction(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial())
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, tx.Flush(within(t)))
		must(t, p.Close())
		must(t, p.Close())
		if ends := f.ended(); len(ends) != 1 || ends[0].GetCommit() {
			t.Errorf("sent %v", ends)
		}
		_, err := p.Begin(within(t))
		expect(t, err, ClassFatal, ErrClosed)
	})
}

func TestClosedClient(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		c := f.dial()
		p := f.producer(c)
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, c.Close())
		expect(t, tx.Send(within(t), to("b")), ClassFatal, ErrClosed)
		expect(t, tx.Commit(within(t)), ClassFatal, ErrClosed)
		_, err := c.InitTransactions(within(t), "id")
		expect(t, err, ClassFatal, ErrClosed)
		_, err = c.Consume(within(t), "", []string{"t"})
		expect(t, err, ClassFatal, ErrClosed)
	})
}
