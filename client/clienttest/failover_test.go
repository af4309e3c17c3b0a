package clienttest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// strikes are what happens to a node, and how that ends. Both are called once.
var strikes = []struct {
	name        string
	strike, end func(w *world, n *clienttest.Node)
}{
	{"crashes", func(_ *world, n *clienttest.Node) { n.Crash() }, func(_ *world, n *clienttest.Node) { n.Start() }},
	{"stops", func(_ *world, n *clienttest.Node) { n.Stop() }, func(_ *world, n *clienttest.Node) { n.Start() }},
	{"hangs", func(_ *world, n *clienttest.Node) { n.Pause() }, func(_ *world, n *clienttest.Node) { n.Resume() }},
	{"is cut off", func(w *world, n *clienttest.Node) { w.Isolate(n) }, func(w *world, _ *clienttest.Node) { w.Heal() }},
	{"hands over", func(_ *world, n *clienttest.Node) { n.HandOver() }, func(*world, *clienttest.Node) {}},
}

// moments are places in the life of a transaction, as calls that are held there.
var moments = []struct {
	name  string
	fault clienttest.Fault
}{
	{"as the records arrive", clienttest.Fault{Method: "AppendStream"}},
	{"before the records are acknowledged", clienttest.Fault{Method: "AppendStream", Answer: true}},
	{"as it is enlisted", clienttest.Fault{Method: "Enlist"}},
	{"as the commit arrives", clienttest.Fault{Method: "EndTransaction"}},
	{"before the commit is answered", clienttest.Fault{Method: "EndTransaction", Answer: true}},
	{"as a marker arrives", clienttest.Fault{Method: "WriteMarkers"}},
	{"before a marker is acknowledged", clienttest.Fault{Method: "WriteMarkers", Answer: true}},
}

// A leader that is lost at any moment of a transaction costs time and nothing
// else, and when it comes back it does no harm.
func TestLeaderIsLostInTheMiddle(t *testing.T) {
	for _, victim := range []string{"coordinator", "partition"} {
		for _, s := range strikes {
			for _, m := range moments {
				t.Run(fmt.Sprintf("%s leader %s %s", victim, s.name, m.name), func(t *testing.T) {
					bubble(t, three, func(w *world) {
						leader := w.Leader("t", 0)
						if victim == "coordinator" {
							leader = w.CoordinatorLeader()
						}
						m.fault.Hold, m.fault.Times = true, 1
						held := w.Inject(m.fault)
						p := w.producer(w.Client(), "id")
						tx := w.begin(p)
						done := later(func() error {
							if err := tx.Send(w.patient(), record(0, "1"), record(1, "1"), record(2, "1")); err != nil {
								return err
							}
							if m.fault.Method == "Enlist" {
								<-time.After(time.Second) // else the commit makes it needless
							}
							return tx.Commit(w.patient())
						})
						held.Await()
						s.strike(w, leader)
						pass(3 * time.Second) // there is a new leader
						held.Remove()
						w.must(<-done)
						s.end(w, leader)
						w.write(p, "2")
						w.shows("1", "2")
					})
				})
			}
		}
	}
}

// While nodes come and go, everything that is committed is there once, in order,
// and nothing else.
func TestTransactionsWhileNodesAreLost(t *testing.T) {
	for _, s := range strikes {
		t.Run("a node "+s.name, func(t *testing.T) {
			bubble(t, three, func(w *world) {
				var writers sync.WaitGroup
				const each = 30
				for _, id := range []string{"a", "b"} {
					p := w.producer(w.Client(), id)
					writers.Go(func() {
						for i := range each {
							err := p.Transact(w.within(10*time.Minute), func(tx *client.Tx) error {
								v := fmt.Sprintf("%s%d", id, i)
								return tx.Send(tx.Context(), record(0, v), record(1, v), record(2, v))
							})
							if err != nil {
								w.t.Errorf("transaction %d of %s: %v", i, id, err)
								return
							}
							<-time.After(200 * time.Millisecond)
						}
					})
				}
				for i := range 3 {
					for _, nodes := range [][]*clienttest.Node{w.Coordinators(), w.Nodes()} {
						s.strike(w, nodes[i])
						pass(time.Second)
						s.end(w, nodes[i])
						pass(500 * time.Millisecond)
					}
				}
				writers.Wait()
				w.showsInterleaved(each, "a", "b")
			})
		})
	}
}

// showsInterleaved fails the test unless every partition has the values 0 to n-1 of
// every writer, each once and in its order.
func (w *world) showsInterleaved(n int, writers ...string) {
	w.t.Helper()
	next := map[string]int{}
	total := 0
	for _, r := range w.Records("t") {
		id := string(r.Value[:1])
		key := fmt.Sprint(id, r.Partition)
		if want := fmt.Sprintf("%s%d", id, next[key]); string(r.Value) != want {
			w.t.Fatalf("partition %d has %s at %d, want %s", r.Partition, r.Value, r.Offset, want)
		}
		next[key]++
		total++
	}
	if want := 3 * n * len(writers); total != want {
		w.t.Errorf("%d records, want %d", total, want)
	}
}

// The coordinator is down for a while: records are accepted meanwhile, and the
// commit waits.
func TestCoordinatorIsDownForAWhile(t *testing.T) {
	for _, down := range []time.Duration{time.Second, 30 * time.Second, 10 * time.Minute} {
		t.Run(down.String(), func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				p := w.producer(c, "id")
				w.write(p, "1")
				coordinator := w.Coordinators()[0]
				coordinator.Crash()
				tx := w.begin(p)
				w.stored(tx, "2")
				done := later(func() error { return tx.Commit(w.within(time.Hour)) })
				pass(down)
				w.pending("commit without a coordinator", done)
				coordinator.Start()
				w.must(<-done) // whoever could not commit is given the time
				w.write(p, "3")
				w.shows("1", "2", "3")
			})
		})
	}
}

// A partition node is restarted again and again under a producer and a consumer.
func TestPartitionNodeIsRestarted(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		in, err := c.Consume(w.patient(), "g", []string{"t"}, client.WithManualAssignment())
		w.must(err)
		p := w.producer(c, "id")
		node := w.Nodes()[0]
		var want []string
		for i := range 4 {
			v := fmt.Sprint(i)
			tx := w.begin(p)
			w.stored(tx, v)
			if i%2 == 0 {
				node.Crash()
			} else {
				node.Stop()
			}
			w.send(tx, v+"b") // while it is down
			done := later(func() error { return tx.Commit(w.patient()) })
			pass(time.Second)
			w.pending("commit while the node is down", done)
			node.Start()
			w.must(<-done)
			want = append(want, v, v+"b")
			for n := 0; n < 6; {
				b, err := in.Poll(w.patient())
				w.must(err)
				w.must(in.Commit(w.patient(), b))
				n += b.Len()
			}
		}
		w.shows(want...)
	})
}

// Everything loses power at once, again and again.
func TestWholeClusterLosesPower(t *testing.T) {
	bubble(t, three, func(w *world) {
		p := w.producer(w.Client(), "id")
		var want []string
		for i := range 3 {
			v := fmt.Sprint(i)
			tx := w.begin(p)
			w.stored(tx, v)
			all := append(w.Coordinators(), w.Nodes()...)
			for _, n := range all {
				n.Crash()
			}
			for _, n := range all {
				n.Start()
			}
			w.must(tx.Commit(w.patient()))
			want = append(want, v)
		}
		w.shows(want...)
	})
}
