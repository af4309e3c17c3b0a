package clienttest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// wires are pairs of endpoints between which a network can break, in a cluster of
// one coordinator and one partition node.
var wires = []struct {
	name string
	ends func(w *world) (a, b clienttest.Endpoint)
}{
	{"client and coordinator", func(w *world) (a, b clienttest.Endpoint) { return w.Host("client"), w.Coordinators()[0] }},
	{"client and partition node", func(w *world) (a, b clienttest.Endpoint) { return w.Host("client"), w.Nodes()[0] }},
	{"coordinator and partition node", func(w *world) (a, b clienttest.Endpoint) { return w.Coordinators()[0], w.Nodes()[0] }},
}

// cuts are the ways in which a wire can be cut.
var cuts = []struct {
	name string
	cut  func(w *world, a, b clienttest.Endpoint)
}{
	{"both ways", func(w *world, a, b clienttest.Endpoint) { w.Cut(a, b) }},
	{"there", func(w *world, a, b clienttest.Endpoint) { w.CutOneWay(a, b) }},
	{"back", func(w *world, a, b clienttest.Endpoint) { w.CutOneWay(b, a) }},
}

// A connection that is cut, wholly or in one direction only, for a moment or until
// both ends have given it up, costs time and nothing else.
func TestCutWires(t *testing.T) {
	for _, wire := range wires {
		for _, x := range cuts {
			for _, long := range []time.Duration{time.Second, 40 * time.Second} {
				t.Run(fmt.Sprintf("%s %s for %v", wire.name, x.name, long), func(t *testing.T) {
					bubble(t, one, func(w *world) {
						c := w.Client()
						in := w.consume(c)
						p := w.producer(c, "id")
						w.write(p, "1")
						a, b := wire.ends(w)
						tx := w.begin(p)
						w.stored(tx, "2")
						x.cut(w, a, b)
						w.send(tx, "3")
						done := later(func() error { return tx.Commit(w.within(2 * time.Minute)) })
						pass(long)
						w.Heal()
						w.must(<-done)
						w.write(p, "4")
						for n := 0; n < 12; {
							b := w.poll(in)
							w.must(in.Commit(w.patient(), b))
							n += b.Len()
						}
						w.shows("1", "2", "3", "4")
					})
				})
			}
		}
	}
}

// Members of Raft groups that hear one direction only disturb nobody for long.
func TestOneWayCutsBetweenMembers(t *testing.T) {
	for _, x := range cuts[1:] {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, three, func(w *world) {
				p := w.producer(w.Client(), "id")
				var want []string
				for i, leader := range []*clienttest.Node{w.CoordinatorLeader(), w.Leader("t", 0)} {
					for _, n := range append(w.Coordinators(), w.Nodes()...) {
						if n != leader {
							x.cut(w, leader, n)
						}
					}
					for j := range 3 {
						v := fmt.Sprint(i, j)
						w.write(p, v)
						want = append(want, v)
						pass(2 * time.Second)
					}
					w.Heal()
				}
				w.shows(want...)
			})
		})
	}
}

// Connections that break all the time.
func TestBreakingConnections(t *testing.T) {
	bubble(t, three, func(w *world) {
		const n = 40
		p := w.producer(w.Client(), "id")
		end := make(chan struct{})
		var breaker sync.WaitGroup
		breaker.Go(func() {
			for {
				for _, node := range append(w.Coordinators(), w.Nodes()...) {
					w.Break(w.Host("client"), node)
					for _, peer := range append(w.Coordinators(), w.Nodes()...) {
						w.Break(node, peer)
					}
				}
				select {
				case <-end:
					return
				case <-time.After(30 * time.Millisecond):
				}
			}
		})
		for i := range n {
			v := fmt.Sprintf("a%d", i)
			w.must(p.Transact(w.patient(), func(tx *client.Tx) error {
				if err := tx.Send(tx.Context(), record(0, v), record(1, v), record(2, v)); err != nil {
					return err
				}
				<-time.After(11 * time.Millisecond)
				return nil
			}))
		}
		close(end)
		breaker.Wait()
		w.showsInterleaved(n, "a")
	})
}

// Messages between nodes that are lost or come late hold readers up for a while,
// and change nothing.
func TestLossBetweenNodes(t *testing.T) {
	for _, method := range []string{"WriteMarkers", "Enlist", "Heartbeat"} {
		for _, f := range []clienttest.Fault{
			{Times: 5}, {Silent: true, Times: 3}, {Answer: true, Times: 5}, {Answer: true, Silent: true, Times: 3}, {Delay: 15 * time.Second, Times: 3},
		} {
			t.Run(fmt.Sprintf("%s answer %v silent %v delay %v", method, f.Answer, f.Silent, f.Delay), func(t *testing.T) {
				bubble(t, one, func(w *world) {
					f.Method = method
					bad := w.Inject(f)
					p := w.producer(w.Client(), "id")
					tx := w.begin(p)
					w.stored(tx, "1")
					pass(10 * time.Second) // it is enlisted, and asked about again
					w.must(tx.Commit(w.patient()))
					tx = w.begin(p)
					w.stored(tx, "taken back")
					w.must(tx.Abort(w.patient()))
					w.write(p, "2")
					w.shows("1", "2")
					if bad.Hits() == 0 {
						w.t.Error("nothing was hit")
					}
				})
			})
		}
	}
}
