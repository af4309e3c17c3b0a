package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
)

// join subscribes to the topic in group "g".
func (w *world) join(c *client.Client, opts ...client.ConsumerOption) *client.Consumer {
	w.t.Helper()
	in, err := c.Consume(w.patient(), "g", []string{"t"}, opts...)
	w.must(err)
	return in
}

// settled waits until members have so many partitions each, all different.
func (w *world) settled(want []int, members ...*client.Consumer) {
	w.t.Helper()
	var got [][]client.TopicPartition
	for range 600 {
		got = nil
		seen, right := map[client.TopicPartition]bool{}, true
		for i, in := range members {
			p := in.Partitions()
			got = append(got, p)
			right = right && len(p) == want[i]
			for _, tp := range p {
				right = right && !seen[tp]
				seen[tp] = true
			}
		}
		if right {
			return
		}
		pass(100 * time.Millisecond)
	}
	w.t.Fatalf("members have %v, want %v of them", got, want)
}

// diary collects what callbacks tell.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) options() []client.ConsumerOption {
	note := func(what string) func(*client.Consumer, []client.TopicPartition) {
		return func(_ *client.Consumer, about []client.TopicPartition) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.lines = append(d.lines, fmt.Sprint(what, " ", len(about)))
		}
	}
	return []client.ConsumerOption{
		client.WithOnAssigned(note("assigned")), client.WithOnRevoked(note("revoked")), client.WithOnLost(note("lost")),
	}
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, ", ")
}

func (w *world) equal(what string, got, want any) {
	w.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Members share the partitions; who goes leaves them to the others at once, and
// everybody begins where the one before has committed.
func TestMembersShareATopic(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "feed")
		w.write(p, "1")
		var of, bf diary
		a := w.join(w.Client(), of.options()...)
		w.settled([]int{3}, a)
		for n := 0; n < 3; {
			b := w.poll(a)
			n += b.Len()
			w.must(a.Commit(w.patient(), b))
		}
		began := time.Now()
		b := w.join(w.Host("second").Client(), bf.options()...)
		w.settled([]int{2, 1}, a, b)
		if took := time.Since(began); took > time.Second {
			t.Errorf("the rebalance took %v", took)
		}
		w.write(p, "2")
		for _, in := range []*client.Consumer{a, b} {
			for n := 0; n < len(in.Partitions()); {
				got := w.poll(in)
				n += got.Len()
				for r := range got.Records() {
					w.equal("value", string(r.Value), "2")
				}
				w.must(in.Commit(w.patient(), got))
			}
		}
		w.must(b.Close())
		w.settled([]int{3}, a)
		w.equal("told to a", of.String(), "assigned 3, revoked 1, assigned 1")
		w.equal("told to b", bf.String(), "assigned 1, revoked 1")
		w.must(a.Close())
	})
}

// What was polled of a partition that is asked back cannot be committed, and its
// records go to the next owner; the other partitions are not disturbed.
func TestRevokedBatchIsStale(t *testing.T) {
	bubble(t, one, func(w *world) {
		w.output()
		c := w.Client()
		w.write(w.producer(c, "feed"), "1")
		a := w.join(c, client.WithMaxPollRecords(1))
		batches := []*client.Batch{w.poll(a), w.poll(a), w.poll(a)}
		tx := w.begin(w.producer(c, "copy"))
		for _, b := range batches {
			w.must(tx.SendOffsets(w.patient(), b))
			w.must(copied(w.patient(), tx, b))
		}
		b := w.join(w.Host("second").Client())
		w.settled([]int{2, 1}, a, b)
		err := tx.Commit(w.patient())
		w.is("commit", err, client.ErrStaleMember)
		w.equal("class", client.ClassOf(err), client.ClassAbortable)
		w.must(tx.Abort(w.patient()))
		stale := 0
		for _, batch := range batches {
			if err := a.Commit(w.patient(), batch); errors.Is(err, client.ErrStaleMember) {
				stale++
			}
		}
		if stale != 1 && stale != 3 { // after the refusal the member may ask for everything anew
			t.Errorf("%d of the batches are stale", stale)
		}
		seen := w.poll(b)
		w.equal("records of the next owner", seen.Len(), 1)
	})
}

// A rebalance in the middle of transactions costs retries only: members come, go,
// hang and are cut off, and every record is processed once.
func TestProcessThroughRebalances(t *testing.T) {
	bubble(t, three, func(w *world) {
		w.output()
		ctx, stop := context.WithCancel(w.patient())
		var wg sync.WaitGroup
		start := func(host string, until context.Context) {
			c := w.Host(host).Client(client.WithClientID(host))
			wg.Go(func() {
				in, err := c.Consume(until, "g", []string{"t"}, client.WithMaxPollRecords(2), client.WithSessionTimeout(3*time.Second))
				if err != nil {
					w.t.Errorf("%s: consume: %v", host, err)
					return
				}
				out, err := c.InitTransactions(until, host)
				if err != nil {
					w.t.Errorf("%s: init: %v", host, err)
					return
				}
				err = client.Process(until, in, out, func(tx *client.Tx, b *client.Batch) error {
					if err := copied(tx.Context(), tx, b); err != nil {
						return err
					}
					return waited(tx.Context(), 50*time.Millisecond)
				})
				if until.Err() == nil {
					w.t.Errorf("%s: process: %v", host, err)
				}
				_ = in.Close()
			})
		}
		feed := w.producer(w.Client(), "feed")
		write := func(n int) {
			for i := range n {
				w.write(feed, fmt.Sprint(i))
				pass(20 * time.Millisecond)
			}
		}
		start("a", ctx)
		write(10)
		start("b", ctx)
		write(20)
		brief, leave := context.WithCancel(ctx)
		start("c", brief)
		write(20)
		leave()
		write(10)
		w.Host("b").Pause()
		write(10)
		pass(6 * time.Second) // b is lost meanwhile
		w.Host("b").Resume()
		write(10)
		w.Isolate(w.CoordinatorLeader())
		write(20)
		w.Heal()
		w.caughtUp()
		stop()
		wg.Wait()
		w.copies()
	})
}

// A member that falls silent is lost; when it is heard of again its batches are
// stale, and it joins again.
func TestSilentMemberIsLostAndComesBack(t *testing.T) {
	bubble(t, one, func(w *world) {
		w.write(w.producer(w.Client(), "feed"), "1")
		var told diary
		far := w.Host("far")
		a := w.join(far.Client(), append(told.options(), client.WithSessionTimeout(3*time.Second))...)
		first := a.MemberID()
		batch := w.poll(a)
		b := w.join(w.Client())
		w.settled([]int{2, 1}, a, b)
		far.Pause()
		pass(5 * time.Second)
		w.settled([]int{3}, b)
		far.Resume()
		w.settled([]int{2, 1}, b, a)
		if a.MemberID() == first {
			t.Error("the next life has the name of the one before")
		}
		w.is("commit", a.Commit(w.patient(), batch), client.ErrStaleMember)
		if !strings.Contains(told.String(), "lost 2") {
			t.Errorf("told: %s", &told)
		}
	})
}

// A static member that restarts disturbs nobody; one that is started twice is
// fenced.
func TestStaticMemberRestarts(t *testing.T) {
	bubble(t, one, func(w *world) {
		var told diary
		static := client.WithGroupInstanceID("one")
		a := w.join(w.Host("first").Client(), static)
		b := w.join(w.Client(), told.options()...)
		w.settled([]int{2, 1}, a, b)
		had := a.Partitions()
		w.must(a.Close())
		pass(20 * time.Second)
		next := w.join(w.Host("second").Client(), static)
		w.settled([]int{2, 1}, next, b)
		w.equal("partitions of the next life", next.Partitions(), had)
		twin := w.join(w.Host("third").Client(), static)
		w.settled([]int{2, 1}, twin, b)
		_, err := next.Poll(w.patient())
		w.is("poll of the fenced one", err, client.ErrFencedInstance)
		w.equal("class", client.ClassOf(err), client.ClassFatal)
		w.equal("told to the other one", told.String(), "assigned 1")
	})
}

// Heartbeats go on while the application works, but not for ever: who does not
// poll leaves, and joins again with the next Poll.
func TestMaxPollInterval(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "feed")
		w.write(p, "1")
		var told diary
		a := w.join(w.Client(), append(told.options(),
			client.WithMaxPollInterval(30*time.Second), client.WithSessionTimeout(2*time.Second))...)
		batch := w.poll(a)
		pass(20 * time.Second)
		w.must(a.Commit(w.patient(), batch)) // after ten session timeouts
		pass(11 * time.Second)
		w.settled([]int{0}, a)
		b := w.join(w.Host("second").Client())
		w.settled([]int{3}, b)
		done := later(func() error { _, err := a.Poll(w.patient()); return err })
		for range 20 {
			w.write(p, "2")
			pass(100 * time.Millisecond)
		}
		w.must(<-done)
		w.settled([]int{1, 2}, a, b)
		w.equal("told", told.String(), "assigned 3, lost 3, assigned 1")
	})
}

// A Seek in OnAssigned comes before the first record; paused partitions are silent
// until they are resumed.
func TestSeekPauseResume(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "feed")
		w.write(p, "1")
		w.write(p, "2")
		in := w.join(w.Client(), client.WithOnAssigned(func(in *client.Consumer, about []client.TopicPartition) {
			in.Seek(client.Offsets{about[0]: 1, about[1]: 1, about[2]: 1})
		}))
		tp := client.TopicPartition{Topic: "t", Partition: 1}
		in.Pause(tp)
		w.equal("paused", in.Paused(), []client.TopicPartition{tp})
		for n := 0; n < 2; {
			b := w.poll(in)
			n += b.Len()
			for r := range b.Records() {
				if r.Partition == 1 || string(r.Value) != "2" {
					t.Errorf("a record of a paused partition, or from before the position: %v", r)
				}
			}
		}
		if _, err := in.Poll(w.within(5 * time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("poll of what is left: %v", err)
		}
		in.Resume(tp)
		w.equal("records of the resumed partition", w.poll(in).Len(), 1)
	})
}

// A member that begins at the end commits that it does: whoever takes over before
// its first commit does not pass over what came in between.
func TestLatestIsPinned(t *testing.T) {
	bubble(t, one, func(w *world) {
		p := w.producer(w.Client(), "feed")
		w.write(p, "old")
		pass(time.Second) // until its markers are there: the end is the last stable offset
		latest := client.WithStart(client.StartLatest)
		a := w.join(w.Client(), latest)
		w.settled([]int{3}, a)
		w.write(p, "new")
		w.must(a.Close())
		b := w.join(w.Host("second").Client(), latest)
		for n := 0; n < 3; {
			got := w.poll(b)
			n += got.Len()
			for r := range got.Records() {
				w.equal("value", string(r.Value), "new")
			}
		}
		_, err := w.Client().Consume(w.patient(), "other", []string{"t"}, client.WithStart(client.StartNone))
		w.is("consume without a position", err, client.ErrNoOffset)
	})
}

// In one group either all members subscribe or all name their partitions.
func TestMixedAssignmentIsRefused(t *testing.T) {
	bubble(t, one, func(w *world) {
		in := w.join(w.Client())
		_, err := w.Client().Consume(w.patient(), "g", []string{"t"}, client.WithManualAssignment())
		var e *client.Error
		if !errors.As(err, &e) || e.Code != "INCONSISTENT_GROUP_PROTOCOL" || e.Class != client.ClassFatal {
			t.Errorf("manual: %v", err)
		}
		w.must(in.Close())
		manual := w.consume(w.Client())
		_, err = w.Client().Consume(w.patient(), "g", []string{"t"})
		if !errors.As(err, &e) || e.Code != "INCONSISTENT_GROUP_PROTOCOL" {
			t.Errorf("subscribed: %v", err)
		}
		w.must(manual.Close())
	})
}
