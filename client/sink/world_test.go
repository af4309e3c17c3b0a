package sink_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/sink"
	"github.com/oncelog/oncelog/client/sink/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cluster in a bubble with the topic "t" of three partitions, a store, and
// what was sent.
type world struct {
	*clienttest.Cluster
	t        *testing.T
	store    *sinktest.Memory
	producer *client.Producer

	sent []string
}

func bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Cluster: clienttest.Start(t), t: t, store: sinktest.NewMemory()}
		w.CreateTopic("t", 3)
		p, err := w.Client().InitTransactions(t.Context(), "source")
		w.must(err)
		w.producer = p
		test(w)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// send commits n records to each partition, and aborts some in between.
func (w *world) send(n int) {
	w.t.Helper()
	var values []string
	for _, commit := range []bool{false, true} {
		tx, err := w.producer.Begin(w.t.Context())
		w.must(err)
		for i := range n {
			for p := range int32(3) {
				value := fmt.Sprintf("%d/%d", p, len(w.sent)+i)
				w.must(tx.Send(w.t.Context(), (&client.Record{Topic: "t", Value: []byte(value)}).WithPartition(p)))
				if commit {
					values = append(values, value)
				}
			}
		}
		if commit {
			w.must(tx.Commit(w.t.Context()))
		} else {
			w.must(tx.Flush(w.t.Context()))
			w.must(tx.Abort(w.t.Context()))
		}
	}
	w.sent = append(w.sent, values...)
}

// running is a sink that runs.
type running struct {
	stop func()
	done chan struct{}
	err  error // when done is closed
}

// run runs a sink on a host of its own until stop or the end of the test.
func (w *world) run(host string, opts ...sink.Option) *running {
	return w.runTo(host, "copy", w.store, opts...)
}

func (w *world) runTo(host, name string, store sink.Store, opts ...sink.Option) *running {
	c := w.Host(host).Client()
	return w.start(func(ctx context.Context) error { return sink.Run(ctx, c, name, []string{"t"}, store, opts...) })
}

func (w *world) start(run func(ctx context.Context) error) *running {
	ctx, cancel := context.WithCancel(w.t.Context())
	r := &running{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = run(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

// wait returns why the sink has ended.
func (r *running) wait() error {
	<-r.done
	return r.err
}

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// until waits for a condition.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for range 6000 {
		if cond() {
			return
		}
		pass(100 * time.Millisecond)
	}
	w.t.Fatalf("did not happen in ten minutes: %s; taken %d of %d", what, len(w.store.Taken()), len(w.sent))
}

// taken waits until all is taken, and fails the test unless it was taken once and in
// order.
func (w *world) taken() {
	w.t.Helper()
	w.until("everything is taken", func() bool { return len(w.store.Taken()) >= len(w.sent) })
	w.once()
}

func (w *world) once() {
	w.t.Helper()
	var got []string
	last := map[int32]int64{}
	for _, r := range w.store.Taken() {
		got = append(got, string(r.Value))
		if before, some := last[r.Partition]; some && r.Offset <= before {
			w.t.Errorf("partition %d: offset %d after %d", r.Partition, r.Offset, before)
		}
		last[r.Partition] = r.Offset
	}
	want := slices.Clone(w.sent)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("taken:\n%q\nsent:\n%q", got, want)
	}
}

func (w *world) is(what string, err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

// quick are options of a consumer whose death is noticed soon.
func quick() sink.Option {
	return sink.WithConsumer(client.WithSessionTimeout(6*time.Second), client.WithMaxPollRecords(7))
}
