package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// prepared writes the value in a transaction that is prepared.
func (w *world) prepared(p *client.Producer, value string) *client.Tx {
	w.t.Helper()
	tx := w.begin(p)
	w.send(tx, value)
	w.must(tx.Prepare(w.patient()))
	return tx
}

// refused fails the test unless err is of class fatal and knows the outcome.
func (w *world) refused(what string, err error, want client.Outcome) {
	w.t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Class != client.ClassFatal || e.Outcome != want {
		w.t.Errorf("%s: %v, want class fatal and outcome %v", what, err, want)
	}
}

// A prepared transaction outlives its timeout, and neither a deferred Abort nor Close
// ends it: only the word does, from any process, and always with the same answer.
func TestPreparedTransactionWaitsForItsWord(t *testing.T) {
	for _, commit := range []bool{true, false} {
		for _, elsewhere := range []bool{true, false} {
			t.Run(fmt.Sprintf("commit %v, elsewhere %v", commit, elsewhere), func(t *testing.T) {
				bubble(t, one, func(w *world) {
					c := w.Client()
					p := w.producer(c, "id", client.WithTransactionTimeout(10*time.Second))
					tx := w.prepared(p, "1")
					w.must(tx.Prepare(w.patient()))
					pass(time.Minute)
					w.is("the cause of the context's end", context.Cause(tx.Context()), client.ErrTxPrepared)
					w.is("Send", tx.Send(w.patient(), record(0, "x")), client.ErrTxDone)
					w.is("Commit", tx.Commit(w.patient()), client.ErrTxPrepared)
					w.is("Abort", tx.Abort(w.patient()), client.ErrTxPrepared)
					_, err := p.Begin(w.patient())
					w.is("Begin", err, client.ErrTxPrepared)
					w.outcome(c, tx, client.OutcomePrepared)

					teller := c
					if elsewhere {
						teller = w.Client()
					}
					id, err := client.ParseTxID(tx.ID().String())
					w.must(err)
					for range 2 {
						w.must(teller.CompletePrepared(w.patient(), id, commit))
					}
					outcome, value := client.OutcomeAborted, []string{"2"}
					if commit {
						outcome, value = client.OutcomeCommitted, []string{"1", "2"}
					}
					w.refused("the opposite", teller.CompletePrepared(w.patient(), id, !commit), outcome)
					w.outcome(c, tx, outcome)
					// The process that prepared it learns of it when it says its word.
					w.must(c.CompletePrepared(w.patient(), id, commit))
					w.write(p, "2")
					w.shows(value...)
				})
			})
		}
	}
}

// After a crash the next life finds the transaction and carries out the word. Whoever
// does not ask for it is refused and fences nobody.
func TestPreparedTransactionIsTakenOver(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprintf("commit %v", commit), func(t *testing.T) {
			bubble(t, one, func(w *world) {
				old := w.producer(w.Client(), "id")
				tx := w.prepared(old, "1")
				w.must(old.Close())
				c := w.Client()
				_, err := c.InitTransactions(w.patient(), "id")
				w.is("InitTransactions", err, client.ErrTxPrepared)
				p := w.producer(c, "id", client.WithKeepPrepared())
				id, ok := p.Prepared()
				if !ok || id != tx.ID() {
					t.Fatalf("kept %v, want %v", id, tx.ID())
				}
				_, err = p.Begin(w.patient())
				w.is("Begin", err, client.ErrTxPrepared)
				w.must(c.CompletePrepared(w.patient(), id, commit))
				if id, ok := p.Prepared(); ok {
					t.Errorf("still prepared: %v", id)
				}
				w.write(p, "2")
				if commit {
					w.shows("1", "2")
				} else {
					w.shows("2")
				}
			})
		})
	}
}

// Nothing was prepared before InitTransactions asked to keep it.
func TestNothingToKeep(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "id", client.WithKeepPrepared())
		if id, ok := p.Prepared(); ok || id != (client.TxID{}) {
			t.Errorf("kept %v", id)
		}
		w.write(p, "1")
		w.shows("1")
	})
}

// A Prepare survives the loss of its request or answer.
func TestPrepareIsRepeatedUntilItIsAnswered(t *testing.T) {
	for name, fault := range map[string]clienttest.Fault{
		"request refused": {},
		"request lost":    {Silent: true},
		"answer broken":   {Answer: true},
		"answer lost":     {Answer: true, Silent: true},
	} {
		for _, method := range []string{"PrepareTransaction", "CompletePrepared"} {
			t.Run(method+" "+name, func(t *testing.T) {
				bubble(t, one, func(w *world) {
					c := w.Client()
					p := w.producer(c, "id")
					fault := fault // the cases run side by side
					fault.Method, fault.Times = method, 3
					in := w.Inject(fault)
					tx := w.prepared(p, "1")
					w.must(c.CompletePrepared(w.patient(), tx.ID(), true))
					if in.Hits() != 3 {
						t.Errorf("%d calls hit", in.Hits())
					}
					w.write(p, "2")
					w.shows("1", "2")
				})
			})
		}
	}
}

// Of a Prepare without an answer nobody knows whether it arrived. It can be repeated,
// and Abort ends the transaction in either case.
func TestPrepareWithoutAnAnswer(t *testing.T) {
	for name, fault := range map[string]clienttest.Fault{
		"arrived":       {Answer: true, Silent: true},
		"never arrived": {Silent: true},
		"late":          {Delay: 30 * time.Second},
	} {
		for _, again := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, again %v", name, again), func(t *testing.T) {
				bubble(t, one, func(w *world) {
					c := w.Client()
					p := w.producer(c, "id")
					fault := fault // the cases run side by side
					fault.Method = "PrepareTransaction"
					in := w.Inject(fault)
					tx := w.begin(p)
					w.send(tx, "1")
					err := tx.Prepare(w.within(5 * time.Second))
					var e *client.Error
					if !errors.As(err, &e) || e.Class != client.ClassRetriable || e.TxID != tx.ID() {
						t.Fatalf("%#v", err)
					}
					_, err = p.Begin(w.patient())
					w.is("Begin", err, client.ErrTxOpen)
					w.is("Commit", tx.Commit(w.patient()), client.ErrTxPrepared)
					in.Remove()
					if again {
						w.must(tx.Prepare(w.patient()))
						w.must(c.CompletePrepared(w.patient(), tx.ID(), true))
					} else {
						w.must(tx.Abort(w.patient()))
						w.outcome(c, tx, client.OutcomeAborted)
					}
					pass(time.Minute) // what is late arrives
					w.write(p, "2")
					if again {
						w.shows("1", "2")
					} else {
						w.shows("2")
					}
				})
			})
		}
	}
}

// An Abort after such a Prepare is called until it is confirmed: no timeout would end
// what is prepared, and nothing can be begun beside it.
func TestUnconfirmedAbortOfWhatMayBePrepared(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		p := w.producer(c, "id")
		lost := w.Inject(clienttest.Fault{Method: "PrepareTransaction", Answer: true, Silent: true})
		tx := w.begin(p)
		w.send(tx, "1")
		if err := tx.Prepare(w.within(5 * time.Second)); client.ClassOf(err) != client.ClassRetriable {
			t.Fatal(err)
		}
		lost.Remove()
		away := w.Inject(clienttest.Fault{Method: "CompletePrepared", Silent: true})
		w.is("Abort", tx.Abort(w.patient()), context.DeadlineExceeded)
		_, err := p.Begin(w.patient())
		w.is("Begin", err, client.ErrTxOpen)
		away.Remove()
		w.must(tx.Abort(w.patient()))
		w.outcome(c, tx, client.OutcomeAborted)
		w.write(p, "2")
		w.shows("2")
	})
}

// A Prepare with nothing in it is one, too: the other system's decision must find it.
func TestEmptyPrepare(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		p := w.producer(c, "id")
		tx := w.begin(p)
		w.must(tx.Prepare(w.patient()))
		w.must(c.CompletePrepared(w.patient(), tx.ID(), true))
		w.outcome(c, tx, client.OutcomeCommitted)
		w.write(p, "1")
		w.shows("1")
	})
}

// What ended before it was prepared cannot be prepared, and a word about what was never
// prepared is refused.
func TestPrepareOfWhatHasEnded(t *testing.T) {
	for _, x := range []struct {
		name string
		end  func(w *world, p *client.Producer, tx *client.Tx)
		want error
	}{
		{"committed", func(w *world, _ *client.Producer, tx *client.Tx) { w.must(tx.Commit(w.patient())) }, client.ErrTxDone},
		{"aborted", func(w *world, _ *client.Producer, tx *client.Tx) { w.must(tx.Abort(w.patient())) }, client.ErrTxDone},
		{"timed out", func(*world, *client.Producer, *client.Tx) { pass(2 * time.Minute) }, client.ErrTxTimeout},
		{"taken over", func(w *world, _ *client.Producer, _ *client.Tx) { w.producer(w.Client(), "id") }, client.ErrFenced},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				p := w.producer(c, "id")
				tx := w.begin(p)
				w.stored(tx, "1")
				x.end(w, p, tx)
				w.is("Prepare", tx.Prepare(w.patient()), x.want)
				_ = tx.Abort(w.patient())
				outcome, err := c.Outcome(w.patient(), tx.ID())
				w.must(err)
				if outcome == client.OutcomeAborted {
					w.refused("the word commit", c.CompletePrepared(w.patient(), tx.ID(), true), outcome)
				} else {
					w.refused("the word abort", c.CompletePrepared(w.patient(), tx.ID(), false), outcome)
				}
			})
		})
	}
}

// A word about a transaction that is open is refused, and does nothing to it.
func TestWordAboutAnOpenTransaction(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		p := w.producer(c, "id")
		tx := w.begin(p)
		w.stored(tx, "1")
		for _, commit := range []bool{true, false} {
			w.refused("the word", c.CompletePrepared(w.patient(), tx.ID(), commit), client.OutcomeOpen)
		}
		w.must(tx.Commit(w.patient()))
		w.shows("1")
	})
}

// An operator decides a prepared transaction by force: the word that comes later is
// told so, and the producer goes on.
func TestForcedAbortOfAPreparedTransaction(t *testing.T) {
	bubble(t, one, func(w *world) {
		var ended []client.TxEvent
		c := w.Client(client.WithHooks(client.Hooks{TxEnded: func(e client.TxEvent) { ended = append(ended, e) }}))
		p := w.producer(c, "id")
		tx := w.prepared(p, "1")
		_, err := c.Admin().AbortTransaction(w.patient(), &oncelogv1.AbortTransactionRequest{TransactionalId: "id", Force: true})
		w.must(err)
		if len(ended) != 0 {
			t.Errorf("ended: %v", ended)
		}
		w.refused("the word", c.CompletePrepared(w.patient(), tx.ID(), true), client.OutcomeAborted)
		if len(ended) != 1 || ended[0].Outcome != client.OutcomeAborted || ended[0].Reason != "CONFLICT" {
			t.Errorf("ended: %v", ended)
		}
		w.write(p, "2")
		w.shows("2")
	})
}

// Positions given to a prepared transaction move with its word. Until then another
// consumer that starts waits for them.
func TestPreparedPositions(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprintf("commit %v", commit), func(t *testing.T) {
			bubble(t, one, func(w *world) {
				w.output()
				c := w.Client()
				w.write(w.producer(c, "in"), "1")
				in := w.consume(c)
				p := w.producer(c, "id")
				tx := w.begin(p)
				for n := 0; n < 3; {
					b := w.poll(in)
					w.must(copied(w.patient(), tx, b))
					w.must(tx.SendOffsets(w.patient(), b))
					n += b.Len()
				}
				w.must(tx.Prepare(w.patient()))
				w.must(in.Close())

				next := w.Client()
				started := later(func() error {
					in, err := next.Consume(w.patient(), "g", []string{"t"}, client.WithManualAssignment())
					if err != nil {
						return err
					}
					read := 0
					b, err := in.Poll(w.within(time.Second))
					if err == nil {
						read = b.Len()
					}
					if commit == (read > 0) {
						return fmt.Errorf("read %d records: %w", read, err)
					}
					return in.Close()
				})
				pass(10 * time.Second)
				w.pending("a consumer of the same group", started)
				w.must(next.CompletePrepared(w.patient(), tx.ID(), commit))
				w.must(<-started)
			})
		})
	}
}

// A Prepare that is refused decides nothing, and dooms the transaction.
func TestRefusedPrepare(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		p := w.producer(c, "id")
		var sent int
		w.Inject(clienttest.Fault{Method: "EndTransaction", Match: func(proto.Message) bool { sent++; return false }})
		in := w.Inject(clienttest.Fault{
			Method: "PrepareTransaction", Err: apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS, ""),
		})
		tx := w.begin(p)
		w.stored(tx, "1")
		err := tx.Prepare(w.patient())
		if client.ClassOf(err) != client.ClassAbortable {
			t.Errorf("%v", err)
		}
		in.Remove()
		if err := tx.Prepare(w.patient()); client.ClassOf(err) != client.ClassAbortable {
			t.Errorf("the same again: %v", err)
		}
		w.must(tx.Abort(w.patient()))
		if sent != 1 {
			t.Errorf("%d ends were sent", sent)
		}
		w.write(p, "2")
		w.shows("2")
	})
}
