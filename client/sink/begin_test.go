package sink_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
	"github.com/oncelog/oncelog/client/sink/sinktest"
)

func newMemory() *sinktest.Memory { return sinktest.NewMemory() }

// What StartLatest finds is stored at once: a restart before the first record misses
// nothing.
func TestStartLatestIsPinned(t *testing.T) {
	bubble(t, func(w *world) {
		w.send(5)
		pass(time.Second)
		w.sent = nil
		r := w.run("a", sink.WithStart(client.StartLatest))
		pass(time.Second)
		r.stop()
		w.is("the end", r.wait(), context.Canceled)
		w.send(5)
		w.run("a", sink.WithStart(client.StartLatest))
		w.taken()
	})
}

func TestStartNoneRefuses(t *testing.T) {
	bubble(t, func(w *world) {
		w.is("the sink", w.run("a", sink.WithStart(client.StartNone)).wait(), client.ErrNoOffset)
	})
}

func TestRemovedRecords(t *testing.T) {
	bubble(t, func(w *world) {
		w.send(5)
		r := w.run("a")
		w.taken()
		r.stop()
		w.is("the end", r.wait(), context.Canceled)
		before := w.sent
		w.send(5)
		pass(time.Second)
		ends := client.Offsets{}
		admin := w.Client().Admin()
		parts, err := admin.DescribePartitions(w.t.Context(), "t")
		w.must(err)
		for i, p := range parts {
			ends[client.TopicPartition{Topic: "t", Partition: int32(i)}] = int64(p.GetStableEnd())
		}
		_, err = admin.DeleteRecords(w.t.Context(), ends)
		w.must(err)
		err = w.run("a").wait()
		var e *client.Error
		if !errors.As(err, &e) || e.Code != "OFFSET_OUT_OF_RANGE" || !strings.Contains(err.Error(), "removed before they were taken") {
			w.t.Fatalf("the sink ended with %v", err)
		}
		w.sent = before
		w.run("a", sink.WithSkipRemoved())
		w.send(5)
		w.taken()
	})
}

func TestATopicThatWasCreatedAgain(t *testing.T) {
	bubble(t, func(w *world) {
		w.send(5)
		r := w.run("a")
		w.taken()
		r.stop()
		w.is("the end", r.wait(), context.Canceled)
		w.must(w.Client().Admin().DeleteTopic(w.t.Context(), "t"))
		w.CreateTopic("t", 3)
		var changed *sink.TopicChangedError
		if err := w.run("b").wait(); !errors.As(err, &changed) || changed.Stored == changed.Partition.ID {
			w.t.Errorf("the sink ended with %v", err)
		}
	})
}

func TestWhatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		topics []string
		opt    sink.Option
		want   string
	}{
		{"", []string{"t"}, nil, "name of 0 bytes"},
		{strings.Repeat("x", 250), []string{"t"}, nil, "name of 250 bytes"},
		{"s", nil, nil, "no topics"},
		{"s", []string{"t"}, sink.WithAttemptTimeout(time.Millisecond), "attempt timeout 1ms"},
		{"s", []string{"t"}, sink.WithRetryBackoff(2, 1), "retry backoff"},
		{"s", []string{"t"}, sink.WithReportInterval(-1), "report interval"},
		{"s", []string{"t"}, sink.WithStart(9), "start 9"},
		{"s", []string{"t"}, sink.WithLogger(nil), "logger is nil"},
		{"s", []string{"t"}, func() sink.Option { return sink.WithStart(0) }(), "no store"},
	} {
		var opts []sink.Option
		if c.opt != nil {
			opts = append(opts, c.opt)
		}
		err := sink.Run(t.Context(), nil, c.name, c.topics, nil, opts...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}

// rows is a Writer: a table with a key.
type rows struct {
	mu     sync.Mutex
	values map[string]string
	writes int
	err    func(n int) error
}

func (r *rows) Write(_ context.Context, records []*client.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes++
	for i, rec := range records {
		if err := r.err(r.writes); err != nil && i == len(records)/2 {
			return err // half of it is written
		}
		r.values[fmt.Sprintf("%s/%d/%d", rec.Topic, rec.Partition, rec.Offset)] = string(rec.Value)
	}
	return nil
}

func (r *rows) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.values)
}

func TestRunIdempotentWritesEverything(t *testing.T) {
	bubble(t, func(w *world) {
		table := &rows{values: map[string]string{}, err: func(n int) error {
			if n%2 == 0 {
				return sink.Retriable(errors.New("half of it is written"))
			}
			return nil
		}}
		start := func(host string) *running {
			c := w.Host(host).Client()
			return w.start(func(ctx context.Context) error {
				return sink.RunIdempotent(ctx, c, "copy", []string{"t"}, table, quick())
			})
		}
		a := start("a")
		w.send(20)
		pass(time.Second)
		start("b")
		w.send(20)
		pass(time.Second)
		a.stop()
		w.is("the end", a.wait(), context.Canceled)
		start("c")
		w.Host("b").Pause()
		defer w.Host("b").Resume()
		w.send(20)
		w.until("everything is written", func() bool { return table.count() == len(w.sent) })
		seen := map[string]bool{}
		for _, v := range table.values {
			seen[v] = true
		}
		if len(seen) != len(w.sent) {
			w.t.Errorf("%d values of %d", len(seen), len(w.sent))
		}
	})
}

func TestRunIdempotentEndsWithOtherErrors(t *testing.T) {
	bubble(t, func(w *world) {
		bad := errors.New("no")
		table := &rows{values: map[string]string{}, err: func(int) error { return bad }}
		c := w.Client()
		r := w.start(func(ctx context.Context) error { return sink.RunIdempotent(ctx, c, "copy", []string{"t"}, table) })
		w.send(1)
		w.is("the sink", r.wait(), bad)
	})
}
