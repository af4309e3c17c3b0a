package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// consume joins group "g".
func (w *world) consume(c *client.Client, opts ...client.ConsumerOption) *client.Consumer {
	w.t.Helper()
	in, err := c.Consume(w.patient(), "g", []string{"t"}, append(opts, client.WithManualAssignment())...)
	w.must(err)
	return in
}

func (w *world) poll(in *client.Consumer) *client.Batch {
	w.t.Helper()
	b, err := in.Poll(w.patient())
	w.must(err)
	return b
}

// output creates the topic that transactions write what they have read to.
func (w *world) output() { w.CreateTopic("out", 1) }

// copied sends a batch to the output.
func copied(ctx context.Context, tx *client.Tx, b *client.Batch) error {
	for r := range b.Records() {
		v := fmt.Sprintf("%d@%d", r.Partition, r.Offset)
		if err := tx.Send(ctx, (&client.Record{Topic: "out", Value: []byte(v)}).WithPartition(0)); err != nil {
			return err
		}
	}
	return nil
}

// copies fails the test unless the output has every record of the topic once.
func (w *world) copies() {
	w.t.Helper()
	var want, got []string
	for _, r := range w.Records("t") {
		want = append(want, fmt.Sprintf("%d@%d", r.Partition, r.Offset))
	}
	for _, r := range w.Records("out") {
		got = append(got, string(r.Value))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Errorf("the output has %d records %q, want %d: %q", len(got), got, len(want), want)
	}
}

// A consumer that another one has taken over from commits nothing, with a
// transaction or without, and neither do its transaction's records show.
func TestRebalancedConsumerCommits(t *testing.T) {
	bubble(t, one, func(w *world) {
		w.output()
		c := w.Client()
		p := w.producer(c, "feed")
		w.write(p, "1")

		old := w.consume(c, client.WithMaxPollRecords(1))
		b := w.poll(old)
		tx := w.begin(w.producer(c, "copy-old"))
		w.must(tx.SendOffsets(w.patient(), b))
		w.must(copied(w.patient(), tx, b))
		w.must(tx.Flush(w.patient()))
		plain := w.poll(old)

		successor := w.consume(w.Host("successor").Client())
		err := tx.Commit(w.patient())
		w.is("commit", err, client.ErrStaleMember)
		w.must(tx.Abort(w.patient()))
		w.outcome(c, tx, client.OutcomeAborted)
		if err := old.Commit(w.patient(), plain); !errors.Is(err, client.ErrStaleMember) {
			w.t.Errorf("commit without a transaction: %v", err)
		}
		if _, err := old.Poll(w.patient()); !errors.Is(err, client.ErrStaleMember) {
			w.t.Errorf("poll: %v", err)
		}

		out := w.producer(c, "copy-new")
		for n := 0; n < 3; {
			b := w.poll(successor)
			n += b.Len()
			w.must(out.Transact(w.patient(), func(tx *client.Tx) error {
				if err := tx.SendOffsets(w.patient(), b); err != nil {
					return err
				}
				return copied(w.patient(), tx, b)
			}))
		}
		w.copies()
	})
}

// The same with a consumer that hangs in the middle of its transaction, and with a
// commit that is under way.
func TestRebalanceMeetsCommit(t *testing.T) {
	for _, x := range []struct {
		name   string
		answer bool // the commit is decided before the takeover
	}{{"before it is decided", false}, {"after it is decided", true}} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				w.output()
				c := w.Client()
				w.write(w.producer(c, "feed"), "1")
				old := w.consume(c)
				held := w.Inject(clienttest.Fault{Method: "EndTransaction", Answer: x.answer, Hold: true, Match: clienttest.IsCommit})
				tx := w.begin(w.producer(c, "copy-old"))
				for n := 0; n < 3; {
					b := w.poll(old)
					n += b.Len()
					w.must(tx.SendOffsets(w.patient(), b))
					w.must(copied(w.patient(), tx, b))
				}
				done := later(func() error { return tx.Commit(w.patient()) })
				held.Await()
				successor := w.consume(w.Host("successor").Client())
				held.Remove()
				err := <-done
				if x.answer {
					w.must(err)
				} else {
					w.is("commit", err, client.ErrStaleMember)
					w.must(tx.Abort(w.patient()))
					out := w.producer(c, "copy-new")
					for n := 0; n < 3; {
						b := w.poll(successor)
						n += b.Len()
						w.must(out.Transact(w.patient(), func(tx *client.Tx) error {
							return errors.Join(tx.SendOffsets(w.patient(), b), copied(w.patient(), tx, b))
						}))
					}
				}
				if _, err := successor.Poll(w.within(10 * time.Second)); !errors.Is(err, context.DeadlineExceeded) {
					w.t.Errorf("the successor reads something twice: %v", err)
				}
				w.copies()
			})
		})
	}
}

// Consume, transform and produce while members take over from each other, nodes
// are lost and answers, too: everything comes out once.
func TestProcessExactlyOnce(t *testing.T) {
	for _, s := range strikes {
		t.Run("a node "+s.name, func(t *testing.T) {
			bubble(t, three, func(w *world) {
				w.output()
				ctx := w.within(time.Hour)
				stop, cancel := context.WithCancel(ctx)
				var workers sync.WaitGroup
				for _, name := range []string{"a", "b"} {
					c := w.Host(name).Client()
					workers.Go(func() { w.work(stop, c) })
				}
				feed := w.producer(w.Client(), "feed")
				w.Inject(clienttest.Fault{Method: "EndTransaction", Answer: true, Skip: 5, Times: 3})
				for i := range 3 {
					for _, nodes := range [][]*clienttest.Node{w.Coordinators(), w.Nodes()} {
						w.write(feed, fmt.Sprint(i))
						s.strike(w, nodes[i])
						pass(time.Second)
						w.write(feed, fmt.Sprint(i))
						s.end(w, nodes[i])
					}
				}
				w.caughtUp()
				cancel()
				workers.Wait()
				w.copies()
			})
		})
	}
}

// Transactions that fail on the way, because they time out before their commits
// arrive, are tried again with the same records.
func TestProcessAfterAborts(t *testing.T) {
	bubble(t, one, func(w *world) {
		w.output()
		c := w.Client()
		feed := w.producer(c, "feed")
		for i := range 5 {
			w.write(feed, fmt.Sprint(i))
		}
		lost := w.Inject(clienttest.Fault{Method: "EndTransaction", Match: clienttest.IsCommit, Silent: true, Skip: 2, Times: 3})
		in := w.consume(c, client.WithMaxPollRecords(2))
		out := w.producer(c, "copy", client.WithTransactionTimeout(time.Second))
		ctx, cancel := context.WithCancel(w.t.Context())
		done := later(func() error {
			return client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
				// Without this it might be over before anybody could time it.
				return errors.Join(copied(ctx, tx, b), tx.Flush(ctx), waited(ctx, 100*time.Millisecond))
			})
		})
		w.caughtUp()
		cancel()
		w.is("process", <-done, context.Canceled)
		if lost.Hits() != 3 {
			w.t.Errorf("%d commits lost", lost.Hits())
		}
		w.copies()
	})
}

// waited waits for d.
func waited(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work processes batches until ctx ends, as a service does: when another member has
// taken over it takes over again, after a while.
func (w *world) work(ctx context.Context, c *client.Client) {
	for ctx.Err() == nil {
		in, err := c.Consume(ctx, "g", []string{"t"}, client.WithManualAssignment(), client.WithMaxPollRecords(2))
		if err != nil {
			continue
		}
		out, err := c.InitTransactions(ctx, "copy-"+in.MemberID())
		if err == nil {
			err = client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error { return copied(tx.Context(), tx, b) })
			if !errors.Is(err, client.ErrStaleMember) && ctx.Err() == nil {
				w.t.Errorf("process: %v", err)
			}
		}
		_ = in.Close()
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

// caughtUp waits until the group's positions are behind every committed record.
func (w *world) caughtUp() {
	w.t.Helper()
	ends := client.Offsets{}
	for _, r := range w.Records("t") {
		ends[client.TopicPartition{Topic: "t", Partition: r.Partition}] = r.Offset + 1
	}
	admin := w.Client().Admin()
	var offsets client.Offsets
	for range 600 {
		var err error
		offsets, err = admin.GroupOffsets(w.patient(), "g")
		w.must(err)
		behind := false
		for tp, end := range ends {
			behind = behind || offsets[tp] < end
		}
		if !behind {
			return
		}
		pass(100 * time.Millisecond)
	}
	w.t.Fatalf("the group is at %v, not at %v", offsets, ends)
}

// The answer to a commit of positions is lost, and the consumer goes on.
func TestPositionsWhoseAnswerIsLost(t *testing.T) {
	for _, f := range []clienttest.Fault{{}, {Silent: true}, {Answer: true}, {Answer: true, Silent: true}} {
		t.Run(fmt.Sprintf("answer %v silent %v", f.Answer, f.Silent), func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				w.write(w.producer(c, "feed"), "1")
				in := w.consume(c, client.WithMaxPollRecords(1))
				f.Method, f.Times = "CommitOffsets", 1
				lost := w.Inject(f)
				for range 3 {
					w.must(in.Commit(w.patient(), w.poll(in)))
				}
				if lost.Hits() != 1 {
					w.t.Errorf("%d hits", lost.Hits())
				}
				offsets, err := c.Admin().GroupOffsets(w.patient(), "g")
				w.must(err)
				if len(offsets) != 3 {
					w.t.Errorf("positions %v", offsets)
				}
			})
		})
	}
}

// A stream that breaks, or falls silent, costs a consumer time and no record.
func TestConsumerOverBadStreams(t *testing.T) {
	for _, f := range []clienttest.Fault{
		{Answer: true, Skip: 2, Times: 3}, {Times: 2}, {Answer: true, Delay: 20 * time.Second, Times: 1},
	} {
		t.Run(fmt.Sprintf("answer %v delay %v", f.Answer, f.Delay), func(t *testing.T) {
			bubble(t, one, func(w *world) {
				c := w.Client()
				f.Method = "Fetch"
				bad := w.Inject(f)
				in := w.consume(c)
				p := w.producer(c, "feed")
				next := map[int32]int64{}
				for i := range 3 {
					w.write(p, fmt.Sprint(i))
					for n := 0; n < 3; {
						b := w.poll(in)
						n += b.Len()
						for r := range b.Records() {
							if string(r.Value) != fmt.Sprint(i) || r.Offset < next[r.Partition] {
								w.t.Errorf("%d@%d: %s", r.Partition, r.Offset, r.Value)
							}
							next[r.Partition] = r.Offset + 1
						}
					}
				}
				if bad.Hits() != f.Times {
					w.t.Errorf("%d hits", bad.Hits())
				}
			})
		})
	}
}
