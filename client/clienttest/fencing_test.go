package clienttest_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// A producer that was taken over is a zombie: whatever it still says comes to
// nothing.
func TestZombieAfterTakeover(t *testing.T) {
	type zombie struct {
		host *clienttest.Host
		p    *client.Producer
		tx   *client.Tx
	}
	for _, x := range []struct {
		name string
		// before is what the zombie does before it hangs, after what it says when it
		// wakes up.
		before, after func(w *world, z zombie) error
	}{
		{
			"with stored records",
			func(w *world, z zombie) error { w.stored(z.tx, "zombie"); return nil },
			func(w *world, z zombie) error { return z.tx.Commit(w.patient()) },
		},
		{
			"with records under way",
			func(w *world, z zombie) error {
				z.host.Pause()
				return z.tx.Send(w.patient(), record(0, "zombie"), record(1, "zombie"), record(2, "zombie"))
			},
			func(w *world, z zombie) error { return z.tx.Commit(w.patient()) },
		},
		{
			"that sends on",
			func(w *world, z zombie) error { w.stored(z.tx, "zombie"); return nil },
			func(w *world, z zombie) error {
				for range 100 {
					if err := z.tx.Send(w.patient(), record(0, "zombie")); err != nil {
						return err
					}
					if err := z.tx.Flush(w.patient()); err != nil {
						return err
					}
				}
				return nil
			},
		},
		{
			"that begins anew",
			func(w *world, z zombie) error { w.stored(z.tx, "zombie"); return z.tx.Abort(w.patient()) },
			func(w *world, z zombie) error {
				return z.p.Transact(w.patient(), func(tx *client.Tx) error {
					return tx.Send(w.patient(), record(0, "zombie"), record(1, "zombie"), record(2, "zombie"))
				})
			},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				z := zombie{host: w.Host("zombie")}
				z.p = w.producer(z.host.Client(), "id")
				w.write(z.p, "1")
				z.tx = w.begin(z.p)
				w.must(x.before(w, z))
				z.host.Pause()
				successor := w.producer(w.Client(), "id")
				open := w.begin(successor)
				w.stored(open, "2")
				z.host.Resume()
				err := x.after(w, z)
				w.is("the zombie", err, client.ErrFenced)
				if client.ClassOf(err) != client.ClassFatal {
					w.t.Errorf("class %v", client.ClassOf(err))
				}
				if _, err := z.p.Begin(w.patient()); !errors.Is(err, client.ErrFenced) {
					w.t.Errorf("begin: %v", err)
				}
				w.must(open.Commit(w.patient()))
				w.write(successor, "3")
				w.shows("1", "2", "3")
			})
		})
	}
}

// A commit is under way while another producer takes over. Whoever is decided
// first has won, and both are told the same.
func TestTakeoverMeetsCommit(t *testing.T) {
	for _, x := range []struct {
		name    string
		known   bool // the coordinator has heard of the transaction before
		answer  bool // the commit is decided before the takeover
		outcome client.Outcome
	}{
		{"before anybody has heard of it", false, false, client.OutcomeAborted},
		{"before it is decided", true, false, client.OutcomeAborted},
		{"after it is decided", true, true, client.OutcomeCommitted},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				p := w.producer(c, "id")
				held := w.Inject(clienttest.Fault{Method: "EndTransaction", Answer: x.answer, Hold: true})
				tx := w.begin(p)
				w.stored(tx, "1")
				if x.known {
					pass(time.Second)
				}
				done := later(func() error { return tx.Commit(w.patient()) })
				held.Await()
				successor := w.producer(w.Host("successor").Client(), "id")
				if id, o := successor.Previous(); x.known && (id != tx.ID() || o != x.outcome) {
					w.t.Errorf("previous: %v %v, want %v %v", id, o, tx.ID(), x.outcome)
				}
				held.Remove()
				if err := <-done; x.answer {
					w.must(err)
				} else {
					w.is("commit", err, client.ErrFenced)
				}
				w.outcome(c, tx, x.outcome)
				w.write(successor, "2")
				if x.answer {
					w.shows("1", "2")
				} else {
					w.shows("2")
				}
			})
		})
	}
}

// Processes that believe to own an id take it from each other all the time. What
// they were told is committed is there once, and what they were told is not, is
// not.
func TestHijackedID(t *testing.T) {
	bubble(t, three, func(w *world) {
		var mu sync.Mutex
		var committed []string
		fenced := 0
		var processes sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			c := w.Host(name).Client()
			processes.Go(func() {
				for life := range 5 {
					p, err := c.InitTransactions(w.within(10*time.Minute), "id")
					if err != nil {
						w.t.Errorf("take over: %v", err)
						return
					}
					for i := 0; ; i++ {
						v := fmt.Sprintf("%s-%d-%d", name, life, i)
						err := p.Transact(w.within(10*time.Minute), func(tx *client.Tx) error {
							err := tx.Send(tx.Context(), record(0, v), record(1, v), record(2, v))
							<-time.After(time.Duration(i+1) * 7 * time.Millisecond)
							return err
						})
						mu.Lock()
						switch {
						case err == nil:
							committed = append(committed, v)
						case errors.Is(err, client.ErrFenced):
							fenced++
						default:
							w.t.Errorf("transaction %s: %v", v, err)
						}
						mu.Unlock()
						if err != nil || i == 20 {
							break
						}
					}
				}
			})
		}
		processes.Wait()
		if fenced == 0 || len(committed) == 0 {
			w.t.Fatalf("%d fenced, %d committed: nothing was tried", fenced, len(committed))
		}
		got := make([][]string, 3)
		for _, r := range w.Records("t") {
			got[r.Partition] = append(got[r.Partition], string(r.Value))
		}
		slices.Sort(committed)
		for p := range got {
			slices.Sort(got[p])
			if !slices.Equal(got[p], committed) {
				w.t.Errorf("partition %d has %d values %q, want %d: %q", p, len(got[p]), got[p], len(committed), committed)
			}
		}
	})
}

// A client hangs for longer than its transaction may be open.
func TestHangBeyondTheTimeout(t *testing.T) {
	for _, x := range []struct {
		name string
		hang func(w *world) (resume func())
	}{
		{"client", func(w *world) func() { w.Host("client").Pause(); return w.Host("client").Resume }},
		{"coordinator", func(w *world) func() { n := w.Coordinators()[0]; n.Pause(); return n.Resume }},
		{"partition node", func(w *world) func() { n := w.Nodes()[0]; n.Pause(); return n.Resume }},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				p := w.producer(c, "id", client.WithTransactionTimeout(10*time.Second))
				w.write(p, "1")
				tx := w.begin(p)
				w.stored(tx, "2")
				pass(time.Second) // the coordinator has heard of it
				resume := x.hang(w)
				pass(time.Minute)
				resume()
				err := tx.Commit(w.patient())
				if err != nil {
					w.is("commit", err, client.ErrTxTimeout)
					if client.ClassOf(err) != client.ClassAbortable {
						w.t.Errorf("class %v", client.ClassOf(err))
					}
					w.outcome(c, tx, client.OutcomeAborted)
				}
				if x.name != "coordinator" && err == nil {
					w.t.Error("the transaction outlived its timeout")
				}
				w.must(tx.Abort(w.patient()))
				w.write(p, "3")
				if err == nil { // the coordinator lets those in who could not reach it
					w.shows("1", "2", "3")
				} else {
					w.shows("1", "3")
				}
			})
		})
	}
}
