package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

func TestRecordsAreWhatIsCommittedNow(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		a, b := w.producer(c, "a"), w.producer(c, "b")
		w.write(a, "1")
		aborted := w.begin(a)
		w.stored(aborted, "never")
		w.must(aborted.Abort(w.patient()))
		w.shows("1") // what is at the end is hidden, and nobody waits for it
		open := w.begin(a)
		w.stored(open, "2")
		w.write(b, "behind what is open")
		w.shows("1")
		w.must(open.Commit(w.patient()))
		w.shows("1", "2", "behind what is open")
	})
}

func TestRecordsWaitForWhatIsDecided(t *testing.T) {
	bubble(t, one, func(w *world) {
		late := w.Inject(clienttest.Fault{Method: "WriteMarkers", Delay: time.Second, Times: 1})
		w.write(w.producer(w.Client(), "id"), "1")
		w.shows("1")
		if late.Hits() != 1 {
			w.t.Error("no marker was late")
		}
	})
}

func TestExpireTransactionsTakesTheTimeout(t *testing.T) {
	bubble(t, one, func(w *world) {
		tx := w.begin(w.producer(w.Client(), "id", client.WithTransactionTimeout(2*time.Minute)))
		w.stored(tx, "forgotten")
		began := time.Now()
		w.ExpireTransactions()
		if took := time.Since(began); took < 110*time.Second || took > 130*time.Second {
			w.t.Errorf("it took %v", took)
		}
		w.shows()
	})
}

func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "id")
		for i := range 3 {
			w.write(p, fmt.Sprint(i))
			for _, n := range append(w.Coordinators(), w.Nodes()...) {
				n.Crash()
				if n.Running() {
					w.t.Errorf("%s runs", n.Name())
				}
				n.Start()
			}
		}
		w.shows("0", "1", "2")
	})
}

func TestStopAndCrashOfWhatDoesNotRunDoNothing(t *testing.T) {
	bubble(t, one, func(w *world) {
		n := w.Nodes()[0]
		n.Stop()
		n.Stop()
		n.Crash()
		n.Pause()
		n.Resume()
		n.HandOver()
		n.Start()
		n.Start()
		w.write(w.producer(w.Client(), "id"), "1")
		w.shows("1")
	})
}

func TestHandOverMovesLeadership(t *testing.T) {
	bubble(t, three, func(w *world) {
		before := w.CoordinatorLeader()
		before.HandOver()
		if w.CoordinatorLeader() == before {
			w.t.Error("the coordinator's leader stays")
		}
		leader := w.Leader("t", 0)
		leader.HandOver()
		if w.Leader("t", 0) == leader {
			w.t.Error("the partition's leader stays")
		}
		w.write(w.producer(w.Client(), "id"), "1")
		w.shows("1")
	})
}

func TestPauseHoldsEverythingBack(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "id")
		w.write(p, "before") // the client knows its way
		for _, n := range append(w.Coordinators(), w.Nodes()...) {
			n.Pause()
			tx := w.begin(p)
			w.send(tx, n.Name())
			done := later(func() error { return tx.Commit(w.patient()) })
			pass(30 * time.Second)
			w.pending("commit while "+n.Name()+" is paused", done)
			n.Resume()
			w.must(<-done)
		}
		w.shows("before", "coordinator-1", "node-1")
	})
}

func TestCrashOfAPausedNode(t *testing.T) {
	bubble(t, three, func(w *world) {
		leader := w.Leader("t", 0)
		leader.Pause()
		pass(time.Minute)
		leader.Crash()
		leader.Start()
		paused := w.Leader("t", 1)
		paused.Pause()
		paused.Stop()
		paused.Start()
		w.write(w.producer(w.Client(), "id"), "1")
		w.shows("1")
	})
}

func TestIsolateAndHeal(t *testing.T) {
	bubble(t, three, func(w *world) {
		p := w.producer(w.Client(), "id")
		cut := w.Leader("t", 0)
		w.Isolate(cut)
		w.write(p, "without it")
		if w.Leader("t", 0) == cut {
			w.t.Error("a node that is cut off leads")
		}
		w.Heal()
		w.write(p, "with it")
		w.shows("without it", "with it")
	})
}

func TestCutOfOneHostLeavesOthersAlone(t *testing.T) {
	bubble(t, one, func(w *world) {
		near, far := w.producer(w.Host("near").Client(), "near"), w.producer(w.Host("far").Client(), "far")
		w.Cut(w.Host("far"), w.Nodes()[0])
		w.write(near, "near")
		tx := w.begin(far)
		w.send(tx, "far")
		w.is("flush over a cut", tx.Flush(w.within(time.Minute)), context.DeadlineExceeded)
		w.Heal()
		w.must(tx.Commit(w.patient()))
		w.shows("near", "far")
	})
}

func TestFaultsChoose(t *testing.T) {
	bubble(t, one, func(w *world) {
		mine, other := w.Host("mine"), w.Host("other")
		admin := func(h *clienttest.Host) func(id string) error {
			c := h.Client()
			return func(id string) error {
				_, err := c.Admin().DescribeTransaction(w.within(time.Second), id)
				return err
			}
		}
		ask, askOther := admin(mine), admin(other)
		w.producer(mine.Client(), "a")
		w.producer(mine.Client(), "b")
		refused := errors.New("no")
		in := w.Inject(clienttest.Fault{
			Method: "DescribeTransaction", Node: w.Coordinators()[0], From: mine, Err: refused, Skip: 1, Times: 2,
			Match: func(m proto.Message) bool {
				return m.(*oncelogv1.DescribeTransactionRequest).GetTransactionalId() == "a"
			},
		})
		w.must(ask("b"))
		w.must(askOther("a"))
		w.must(ask("a")) // skipped
		if in.Hits() != 0 {
			w.t.Fatalf("%d hits", in.Hits())
		}
		w.must(ask("a")) // repeated by the client, after it was refused twice
		in.Await()
		if in.Hits() != 2 {
			w.t.Errorf("%d hits, want 2", in.Hits())
		}
		elsewhere := w.Inject(clienttest.Fault{Method: "DescribeTransaction", Node: w.Nodes()[0]})
		w.must(ask("a"))
		if elsewhere.Hits() != 0 {
			w.t.Error("a fault of another node hits")
		}
	})
}

func TestFaultsOfRequestsAndAnswers(t *testing.T) {
	created := func(w *world, name string) bool {
		_, err := w.Client().Admin().DescribeTopic(w.patient(), name)
		return err == nil
	}
	for _, x := range []struct {
		name     string
		fault    clienttest.Fault
		executed bool // although its caller gave up
	}{
		{"request refused", clienttest.Fault{}, false},
		{"request lost", clienttest.Fault{Silent: true}, false},
		{"request late", clienttest.Fault{Delay: time.Minute}, true},
		{"answer refused", clienttest.Fault{Answer: true}, true},
		{"answer lost", clienttest.Fault{Answer: true, Silent: true}, true},
		{"answer late", clienttest.Fault{Answer: true, Delay: time.Minute}, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				x.fault.Method = "CreateTopic"
				w.Inject(x.fault)
				_, err := w.Client().Admin().CreateTopic(w.within(time.Second), &oncelogv1.CreateTopicRequest{Name: "new"})
				w.is("create topic", err, context.DeadlineExceeded)
				pass(2 * time.Minute)
				if got := created(w, "new"); got != x.executed {
					w.t.Errorf("executed: %v, want %v", got, x.executed)
				}
			})
		})
	}
}

func TestHeldRequestIsExecutedWhenItIsReleased(t *testing.T) {
	bubble(t, one, func(w *world) {
		admin := w.Client().Admin()
		held := w.Inject(clienttest.Fault{Method: "CreateTopic", Hold: true, Times: 1})
		_, err := admin.CreateTopic(w.within(time.Second), &oncelogv1.CreateTopicRequest{Name: "new"})
		w.is("create topic", err, context.DeadlineExceeded)
		pass(time.Minute)
		if _, err := admin.DescribeTopic(w.patient(), "new"); err == nil {
			w.t.Fatal("what is held was executed")
		}
		held.Remove()
		held.Remove()
		pass(time.Second)
		_, err = admin.DescribeTopic(w.patient(), "new")
		w.must(err)
	})
}

func TestFaultsOfStreams(t *testing.T) {
	for _, x := range []struct {
		name  string
		fault clienttest.Fault
	}{
		{"requests break", clienttest.Fault{Times: 2}},
		{"requests are lost", clienttest.Fault{Silent: true, Times: 1}},
		{"requests are late", clienttest.Fault{Delay: 20 * time.Second, Times: 1}},
		{"answers break", clienttest.Fault{Answer: true, Times: 2}},
		{"answers are lost", clienttest.Fault{Answer: true, Silent: true, Times: 1}},
		{"answers are late", clienttest.Fault{Answer: true, Delay: 20 * time.Second, Times: 1}},
		{"answers are held and go with their node", clienttest.Fault{Answer: true, Hold: true, Times: 1}},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				x.fault.Method = "AppendStream"
				in := w.Inject(x.fault)
				p := w.producer(w.Client(), "id")
				tx := w.begin(p)
				w.send(tx, "1")
				if x.fault.Hold {
					in.Await()
					w.Nodes()[0].Crash()
					w.Nodes()[0].Start()
				}
				w.must(tx.Commit(w.patient()))
				w.write(p, "2")
				w.shows("1", "2")
				if in.Hits() != x.fault.Times {
					w.t.Errorf("%d hits", in.Hits())
				}
			})
		})
	}
}

// failing is a TB that notes failures.
type failing struct {
	*testing.T
	failed chan string
}

func (f failing) Fatal(args ...any) {
	f.failed <- fmt.Sprint(args...)
	runtime.Goexit()
}

func (f failing) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

func TestWaitsEndWithAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := failing{t, make(chan string, 1)}
		c := clienttest.Start(f)
		for _, x := range []struct {
			what string
			wait func()
		}{
			{"no coordinators", func() { clienttest.Start(f, clienttest.WithCoordinators(0)) }},
			{"a host like a node", func() { c.Host("node-1") }},
			{"no method", func() { c.Inject(clienttest.Fault{}) }},
			{"a topic twice", func() { c.CreateTopic("once", 1); c.CreateTopic("once", 1) }},
			{"no such topic", func() { c.Records("none") }},
			{"no topic to lead", func() { c.Leader("none", 0) }},
			{"no partition", func() { c.CreateTopic("small", 1); c.Leader("small", 1) }},
			{"no hit", func() { c.Inject(clienttest.Fault{Method: "Fetch"}).Await() }},
			{"no leader", func() { c.Coordinators()[0].Crash(); c.CoordinatorLeader() }},
		} {
			go x.wait()
			select {
			case <-f.failed:
			case <-time.After(10 * time.Minute):
				t.Errorf("%s: no failure", x.what)
			}
		}
	})
}
