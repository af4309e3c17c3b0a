package sink_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
)

func TestRunTakesEverythingOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.send(20)
		first := w.run("a", quick())
		w.taken()
		second := w.run("b", quick())
		w.send(20)
		w.taken()
		first.stop()
		w.is("the end", first.wait(), context.Canceled)
		w.send(20)
		w.taken()
		second.stop()
		w.is("the end", second.wait(), context.Canceled)
		offsets, err := w.Client().Admin().GroupOffsets(w.t.Context(), "copy")
		w.must(err)
		for tp, next := range offsets {
			if next != w.store.Position("copy", tp) {
				w.t.Errorf("the group was told %d of %v, the store has %d", next, tp, w.store.Position("copy", tp))
			}
		}
		if len(offsets) != 3 {
			w.t.Errorf("the group knows %v", offsets)
		}
	})
}

// The store fails before and after its commits, and sinks come and go, some without a
// word.
func TestFaultsOfTheStoreAreRiddenOut(t *testing.T) {
	bubble(t, func(w *world) {
		seed := rand.Uint64()
		w.t.Logf("seed %d", seed)
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(seed, 1))
		fails := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(3) == 0
		}
		w.store.Before = func(context.Context, []sink.Part) error {
			if fails() {
				return sink.Retriable(errors.New("connection refused"))
			}
			return nil
		}
		w.store.After = func(context.Context, []sink.Part) error {
			if fails() {
				return sink.Retriable(errors.New("the answer was lost"))
			}
			return nil
		}
		for _, host := range []string{"a", "b", "c"} {
			r := w.run(host, quick())
			w.send(30)
			pass(time.Second)
			switch host {
			case "a":
				r.stop()
			case "b":
				w.Host(host).Pause() // its group gives it up
				w.t.Cleanup(w.Host(host).Resume)
			}
		}
		w.taken()
	})
}

// zombie lets host a take the partitions and hang in the middle of an Apply, until
// host b has taken over. Time that has passed in the store is told by the claim.
func zombie(w *world) (a, b *running, wake func()) {
	w.t.Helper()
	hangs, wakes := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.store.Before = func(context.Context, []sink.Part) error {
		hang := false
		once.Do(func() { hang = true })
		if hang {
			close(hangs)
			<-wakes
		}
		return nil
	}
	a = w.run("a", quick())
	// The first Apply says where the partitions begin; the records come after.
	<-hangs
	w.Host("a").Pause()
	w.send(10)
	b = w.run("b", quick())
	w.taken()
	return a, b, func() {
		w.Host("a").Resume()
		close(wakes)
	}
}

func TestAZombieIsFencedAndTakesPartAgain(t *testing.T) {
	bubble(t, func(w *world) {
		_, b, wake := zombie(w)
		wake()
		w.send(10)
		w.taken()
		pass(time.Minute)
		b.stop() // now all of it is a's again
		w.is("the end", b.wait(), context.Canceled)
		w.send(10)
		w.taken()
	})
}

// Two groups, or two manual assignments, of one name: the store tells them apart. Who
// claimed first ends.
func TestWhoClaimsLastWins(t *testing.T) {
	bubble(t, func(w *world) {
		manual := sink.WithConsumer(client.WithManualAssignment())
		first := w.run("a", manual, sink.WithReportInterval(0))
		w.send(5)
		w.taken()
		second := w.run("b", manual, sink.WithReportInterval(0))
		w.until("the second has claimed", func() bool { w.send(1); return isDone(first) })
		err := first.wait()
		w.is("the first", err, sink.ErrFenced)
		var fenced *sink.FencedError
		if !errors.As(err, &fenced) || len(fenced.Partitions) == 0 || !strings.Contains(err.Error(), "t/") {
			w.t.Errorf("fenced: %v", err)
		}
		w.taken()
		if isDone(second) {
			w.t.Errorf("the second has ended: %v", second.wait())
		}
	})
}

// claimAll claims all partitions behind the group's back.
func (w *world) claimAll() {
	w.t.Helper()
	in, err := w.Client().Consume(w.t.Context(), "", []string{"t"})
	w.must(err)
	var all []sink.Partition
	for tp, id := range in.PartitionIDs() {
		all = append(all, sink.Partition{TopicPartition: tp, ID: id})
	}
	w.must(in.Close())
	_, err = w.store.Claim(w.t.Context(), "copy", all)
	w.must(err)
}

// A claim of a member that had lost the partitions already may come late. Their owner
// gets over it.
func TestALateClaimIsOvercome(t *testing.T) {
	bubble(t, func(w *world) {
		r := w.run("a", quick())
		w.send(5)
		w.taken()
		w.claimAll()
		w.send(5)
		w.taken()
		if isDone(r) {
			w.t.Errorf("the sink has ended: %v", r.err)
		}
	})
}

// Somebody who goes on to claim what the group has given to this sink has a right to
// it that the group does not know of: there are two groups of one name.
func TestClaimsBehindTheGroupsBackEndTheSink(t *testing.T) {
	bubble(t, func(w *world) {
		r := w.run("a", quick())
		w.send(5)
		w.taken()
		began := time.Now()
		for !isDone(r) {
			w.claimAll()
			w.send(1)
			pass(time.Second)
			if time.Since(began) > 2*time.Minute {
				w.t.Fatal("the sink goes on")
			}
		}
		w.is("the sink", r.wait(), sink.ErrFenced)
	})
}

// A member that could not reach the store, and has lost its partitions meanwhile, must
// not take them from their new owner when the store is back.
func TestAClaimOfWhatWasLostIsNotRepeated(t *testing.T) {
	bubble(t, func(w *world) {
		cut := &cutOff{Store: w.store}
		cut.on.Store(true)
		a := w.runTo("a", "copy", cut, sink.WithConsumer(client.WithMaxPollInterval(30*time.Second)))
		w.until("it has tried", func() bool { return cut.calls.Load() > 3 })
		b := w.run("b", quick())
		w.send(5)
		pass(2 * time.Minute) // a has left the group, and b has everything
		w.taken()
		epochs := w.store.Claims()
		cut.on.Store(false)
		w.send(5)
		w.taken()
		pass(time.Minute)
		w.send(5)
		w.taken()
		if isDone(a) || isDone(b) {
			w.t.Error("a sink has ended")
		}
		// a takes part again, with a share of its own: at most one claim each.
		if n := w.store.Claims() - epochs; n > 3 {
			w.t.Errorf("%d claims of 3 partitions", n)
		}
	})
}

// cutOff is a store that this sink cannot reach.
type cutOff struct {
	sink.Store
	on    atomic.Bool
	calls atomic.Int64
}

func (c *cutOff) Claim(ctx context.Context, name string, ps []sink.Partition) ([]sink.Claim, error) {
	if c.calls.Add(1); c.on.Load() {
		return nil, sink.Retriable(errors.New("no route to host"))
	}
	return c.Store.Claim(ctx, name, ps)
}

func isDone(r *running) bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Positions are the store's: what the group has is neither read nor needed.
func TestTheGroupsPositionsAreNotRead(t *testing.T) {
	bubble(t, func(w *world) {
		w.send(5)
		r := w.run("a")
		w.taken()
		r.stop()
		w.is("the end", r.wait(), context.Canceled)
		admin := w.Client().Admin()
		w.must(admin.ResetGroupOffsets(w.t.Context(), "copy", client.Offsets{{Topic: "t", Partition: 1}: 0}))
		w.send(5)
		w.must(admin.DeleteGroup(w.t.Context(), "copy"))
		w.run("a")
		w.taken()
	})
}

// A store that was restored from a backup is filled again.
func TestAnEmptyStoreIsFilledAgain(t *testing.T) {
	bubble(t, func(w *world) {
		w.send(5)
		r := w.run("a")
		w.taken()
		r.stop()
		w.is("the end", r.wait(), context.Canceled)
		w.store = newMemory()
		w.run("a")
		w.taken()
	})
}

func TestOtherErrorsEndTheSink(t *testing.T) {
	bubble(t, func(w *world) {
		bad := errors.New("the handler does not like it")
		w.store.Before = func(_ context.Context, parts []sink.Part) error {
			if len(parts[0].Records) > 0 {
				return bad
			}
			return nil
		}
		w.send(1)
		if err := w.run("a").wait(); err != bad { //nolint:errorlint // unchanged
			w.t.Errorf("the sink ended with %v", err)
		}
	})
}

// A call that hangs is given up after the attempt's timeout and made again.
func TestAHangingCallIsRepeated(t *testing.T) {
	bubble(t, func(w *world) {
		calls := 0
		w.store.Before = func(ctx context.Context, _ []sink.Part) error {
			if calls++; calls == 2 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		w.send(3)
		w.run("a", sink.WithAttemptTimeout(time.Second))
		w.taken()
	})
}

// A sink ends soon after it was told to, whether the cluster or the store answers or
// not.
func TestRunEndsWithItsContext(t *testing.T) {
	for name, gone := range map[string]func(w *world){
		"silent": func(w *world) {
			for _, n := range append(w.Coordinators(), w.Nodes()...) {
				n.Pause()
			}
		},
		"down": func(w *world) {
			for _, n := range append(w.Coordinators(), w.Nodes()...) {
				n.Crash()
			}
		},
	} {
		t.Run("cluster is "+name, func(t *testing.T) {
			bubble(t, func(w *world) {
				r := w.run("a", quick())
				w.send(10)
				w.taken()
				gone(w)
				pass(20 * time.Second)
				began := time.Now()
				r.stop()
				w.is("the end", r.wait(), context.Canceled)
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
