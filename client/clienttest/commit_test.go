package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// ends counts the requests that would end a transaction, and those of them that
// are commits.
func (w *world) ends() (all, commits *atomic.Int64) {
	all, commits = new(atomic.Int64), new(atomic.Int64)
	w.Inject(clienttest.Fault{Method: "EndTransaction", Match: func(m proto.Message) bool {
		all.Add(1)
		if clienttest.IsCommit(m) {
			commits.Add(1)
		}
		return false
	}})
	return all, commits
}

// A commit survives the loss of its request or answer, and happens once.
func TestCommitIsRepeatedUntilItIsAnswered(t *testing.T) {
	for _, x := range []struct {
		name  string
		fault clienttest.Fault
	}{
		{"request refused", clienttest.Fault{}},
		{"request lost", clienttest.Fault{Silent: true}},
		{"request late", clienttest.Fault{Delay: 30 * time.Second}},
		{"answer broken", clienttest.Fault{Answer: true}},
		{"answer lost", clienttest.Fault{Answer: true, Silent: true}},
		{"answer late", clienttest.Fault{Answer: true, Delay: 30 * time.Second}},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				p := w.producer(c, "id")
				_, commits := w.ends()
				x.fault.Method, x.fault.Times = "EndTransaction", 3
				in := w.Inject(x.fault)
				tx := w.begin(p)
				w.send(tx, "1")
				w.must(tx.Commit(w.patient()))
				if in.Hits() != 3 || commits.Load() != 4 {
					w.t.Errorf("%d of %d commits hit", in.Hits(), commits.Load())
				}
				w.outcome(c, tx, client.OutcomeCommitted)
				w.must(tx.Commit(w.patient()))
				w.write(p, "2")
				pass(time.Minute) // what is late arrives
				w.write(p, "3")
				w.shows("1", "2", "3")
			})
		})
	}
}

// unknown commits a transaction whose Commit ends without an answer, and returns
// what keeps the answers away.
func (w *world) unknown(p *client.Producer, value string, f clienttest.Fault) (*client.Tx, *clienttest.Injected) {
	w.t.Helper()
	f.Method = "EndTransaction"
	in := w.Inject(f)
	tx := w.begin(p)
	w.send(tx, value)
	err := tx.Commit(w.within(5 * time.Second))
	w.is("commit without an answer", err, client.ErrOutcomeUnknown)
	var e *client.Error
	if !errors.As(err, &e) || e.Class != client.ClassRetriable || e.Outcome != client.OutcomeUnknown || e.TxID != tx.ID() {
		w.t.Fatalf("%#v", e)
	}
	return tx, in
}

// The three ways to learn how a commit went, for one that was decided and one
// that never arrived.
func TestUnknownOutcomeIsFoundOut(t *testing.T) {
	decided := clienttest.Fault{Answer: true, Silent: true}
	never := clienttest.Fault{Silent: true}
	for _, x := range []struct {
		name    string
		fault   clienttest.Fault
		find    func(w *world, c *client.Client, p *client.Producer, tx *client.Tx)
		visible bool
	}{
		{"decided, Commit again", decided, func(w *world, _ *client.Client, _ *client.Producer, tx *client.Tx) {
			w.must(tx.Commit(w.patient()))
		}, true},
		{"decided, Outcome", decided, func(w *world, c *client.Client, _ *client.Producer, tx *client.Tx) {
			w.outcome(c, tx, client.OutcomeCommitted)
		}, true},
		{"decided, Previous", decided, func(w *world, c *client.Client, _ *client.Producer, tx *client.Tx) {
			id, o := w.producer(c, "id").Previous()
			if id != tx.ID() || o != client.OutcomeCommitted {
				w.t.Errorf("previous: %v %v", id, o)
			}
			w.must(tx.Commit(w.patient())) // the old producer is told the same
		}, true},
		{"never arrived, Commit again", never, func(w *world, _ *client.Client, _ *client.Producer, tx *client.Tx) {
			w.must(tx.Commit(w.patient()))
		}, true},
		{"never arrived, Outcome", never, func(w *world, c *client.Client, _ *client.Producer, tx *client.Tx) {
			w.outcome(c, tx, client.OutcomeOpen)
		}, false},
		{"never arrived, Previous", never, func(w *world, c *client.Client, _ *client.Producer, tx *client.Tx) {
			id, o := w.producer(c, "id").Previous()
			if id != tx.ID() || o != client.OutcomeAborted {
				w.t.Errorf("previous: %v %v", id, o)
			}
			w.is("commit by the old producer", tx.Commit(w.patient()), client.ErrFenced)
		}, false},
		{"never arrived, timed out", never, func(w *world, c *client.Client, _ *client.Producer, tx *client.Tx) {
			w.ExpireTransactions()
			err := tx.Commit(w.patient())
			w.is("commit after the timeout", err, client.ErrTxTimeout)
			if client.ClassOf(err) != client.ClassAbortable {
				w.t.Errorf("class %v", client.ClassOf(err))
			}
			w.outcome(c, tx, client.OutcomeAborted)
		}, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				p := w.producer(c, "id")
				tx, in := w.unknown(p, "1", x.fault)
				if _, err := p.Begin(w.patient()); !errors.Is(err, client.ErrTxOpen) {
					w.t.Errorf("begin while an outcome is unknown: %v", err)
				}
				w.is("abort while the outcome is unknown", tx.Abort(w.patient()), client.ErrOutcomeUnknown)
				in.Remove()
				x.find(w, c, p, tx)
				if x.visible {
					w.shows("1")
				} else {
					w.shows()
				}
			})
		})
	}
}

// A commit was decided, its answer lost, and then forgotten under many takeovers.
// Whoever asks so late is told that nobody knows, and never that it did not happen.
func TestCommitThatIsForgotten(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		tx, in := w.unknown(w.producer(c, "id"), "1", clienttest.Fault{Answer: true, Silent: true})
		in.Remove()
		want := []string{"1"}
		for i := range 20 {
			v := fmt.Sprint("later ", i)
			w.write(w.producer(c, "id"), v)
			want = append(want, v)
		}
		err := tx.Commit(w.patient())
		var e *client.Error
		if !errors.As(err, &e) || e.Class != client.ClassFatal || e.Outcome != client.OutcomeForgotten {
			w.t.Errorf("commit: %v", err)
		}
		w.outcome(c, tx, client.OutcomeForgotten)
		w.shows(want...)
	})
}

// A commit whose context ended before it could be sent has surely not happened.
func TestCommitThatWasNeverSentIsAbortable(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "id")
		w.write(p, "1")
		all, _ := w.ends()
		w.Cut(w.Host("client"), w.Nodes()[0])
		tx := w.begin(p)
		w.send(tx, "2")
		err := tx.Commit(w.within(5 * time.Second))
		w.is("commit", err, context.DeadlineExceeded)
		var e *client.Error
		if !errors.As(err, &e) || e.Class != client.ClassAbortable || e.Outcome != client.OutcomeOpen || errors.Is(err, client.ErrOutcomeUnknown) {
			w.t.Errorf("%#v", e)
		}
		if all.Load() != 0 {
			w.t.Error("something was sent")
		}
		w.must(tx.Abort(w.patient()))
		w.Heal()
		w.write(p, "3")
		w.shows("1", "3")
	})
}

// KAFKA-17754: what ends a transaction, and arrives after it has ended, does not
// end the next one.
func TestLateEndDoesNotHitTheNextTransaction(t *testing.T) {
	for _, commit := range []bool{true, false} {
		name := map[bool]string{true: "commit", false: "abort"}[commit]
		t.Run(name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				p := w.producer(w.Client(), "id")
				held := w.Inject(clienttest.Fault{Method: "EndTransaction", Hold: true, Times: 1})
				first := w.begin(p)
				w.stored(first, "first")
				if commit {
					w.must(first.Commit(w.patient()))
				} else {
					w.must(first.Abort(w.patient()))
				}
				next := w.begin(p)
				w.stored(next, "next")
				pass(time.Second) // the coordinator knows that it is open
				held.Remove()
				pass(time.Second)
				if commit {
					w.shows("first")
					w.must(next.Abort(w.patient()))
					w.shows("first")
				} else {
					w.shows()
					w.must(next.Commit(w.patient()))
					w.shows("next")
				}
			})
		})
	}
}

// An abort whose answer is lost, too, is repeated; and what an operator aborts is
// told to whoever commits.
func TestAbort(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		p := w.producer(c, "id")
		lost := w.Inject(clienttest.Fault{Method: "EndTransaction", Answer: true, Times: 2})
		tx := w.begin(p)
		w.stored(tx, "taken back")
		w.must(tx.Abort(w.patient()))
		if lost.Hits() != 2 {
			w.t.Errorf("%d answers lost", lost.Hits())
		}
		w.is("commit after abort", tx.Commit(w.patient()), client.ErrTxDone)
		w.outcome(c, tx, client.OutcomeAborted)

		tx = w.begin(p)
		w.stored(tx, "aborted by an operator")
		pass(time.Second) // the coordinator has heard of it
		_, err := c.Admin().AbortTransaction(w.patient(), &oncelogv1.AbortTransactionRequest{TransactionalId: "id", WaitApplied: true})
		w.must(err)
		if err := tx.Commit(w.patient()); client.ClassOf(err) != client.ClassAbortable {
			w.t.Errorf("commit of what was aborted: %v", err)
		}
		w.write(p, "1")
		w.shows("1")
	})
}

// A transaction that is open too long is aborted; its producer goes on.
func TestTransactionTimeout(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "id", client.WithTransactionTimeout(10*time.Second))
		tx := w.begin(p)
		w.stored(tx, "too late")
		<-tx.Context().Done()
		w.is("cause of the context's end", context.Cause(tx.Context()), client.ErrTxTimeout)
		w.ExpireTransactions()
		err := tx.Commit(w.patient())
		w.is("commit", err, client.ErrTxTimeout)
		if client.ClassOf(err) != client.ClassAbortable {
			w.t.Errorf("class %v: a timeout is no fencing", client.ClassOf(err))
		}
		w.must(tx.Abort(w.patient()))
		w.write(p, "1")
		w.shows("1")
	})
}

// Nobody may send for a transaction that timed out: a shard that learns of it
// late does not show what came behind.
func TestSendAfterTheTimeout(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "id", client.WithTransactionTimeout(10*time.Second))
		tx := w.begin(p)
		w.stored(tx, "in time")
		w.ExpireTransactions()
		err := tx.Send(w.patient(), record(0, "too late"))
		if err == nil {
			err = tx.Flush(w.patient())
		}
		if client.ClassOf(err) != client.ClassAbortable {
			w.t.Errorf("send: %v", err)
		}
		w.is("commit", tx.Commit(w.patient()), client.ErrTxTimeout)
		w.must(tx.Abort(w.patient()))
		w.write(p, "1")
		w.shows("1")
	})
}
