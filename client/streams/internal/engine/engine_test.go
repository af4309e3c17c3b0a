package engine

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/state"
	"github.com/oncelog/oncelog/internal/golden"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWindowKeyFormat(t *testing.T) {
	t.Parallel()
	var samples []golden.Sample
	for _, start := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64} {
		b := WindowKey(start, []byte("key"))
		samples = append(samples, golden.Sample{Name: fmt.Sprint(start), Bytes: b})
		if s, k, err := SplitWindowKey(b); err != nil || s != start || string(k) != "key" {
			t.Errorf("%d became %d, %q, %v", start, s, k, err)
		}
	}
	golden.Check(t, "streams-window-key", windowKeyVersion, samples)
	if !slices.IsSortedFunc(samples, func(a, b golden.Sample) int { return bytes.Compare(a.Bytes, b.Bytes) }) {
		t.Error("keys are not in the order of their times")
	}
	for _, bad := range [][]byte{nil, []byte("\x01short"), []byte("\x02 a newer version")} {
		if _, _, err := SplitWindowKey(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzSplitWindowKey(f *testing.F) {
	f.Add(WindowKey(7, []byte("k")))
	f.Fuzz(func(t *testing.T, b []byte) {
		start, key, err := SplitWindowKey(b)
		if err == nil && !bytes.Equal(WindowKey(start, key), b) {
			t.Errorf("%x is read as %d, %x", b, start, key)
		}
	})
}

// puts is a group whose records are commands: a key is set to the value, or
// removed.
func puts(retention int64) *Group {
	g := &Group{Stores: []*StoreSpec{{Name: "s", Topic: "log", Window: retention > 0, Retention: retention}}}
	g.Sources = []*Source{{Topic: "in", Process: func(t *Task, r *client.Record) error {
		t.Store("s").Put(r.Key, r.Value)
		return nil
	}}}
	return g
}

func newTask(t *testing.T, g *Group, b state.Backend) *Task {
	t.Helper()
	var states []state.State
	for _, s := range g.Stores {
		st, err := b.Open(state.ID{Store: s.Name})
		must(t, err)
		states = append(states, st)
	}
	task, err := NewTask(ID{}, g, states, 0)
	must(t, err)
	return task
}

func content(t *testing.T, s *Store) (out []string) {
	t.Helper()
	must(t, s.Scan(nil, nil, func(k, v []byte) bool {
		out = append(out, string(k)+"="+string(v))
		return true
	}))
	return out
}

// TestRandomTransactions compares a store, below commits and rollbacks, with a map,
// and the state that its changelog gives with the state itself.
func TestRandomTransactions(t *testing.T) {
	t.Parallel()
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 1))
	backend := state.NewMemory()
	task := newTask(t, puts(0), backend)
	var log []*client.Record
	committed, now := map[string]string{}, map[string]string{}
	list := func(m map[string]string) (out []string) {
		for k, v := range m {
			out = append(out, k+"="+v)
		}
		slices.Sort(out)
		return out
	}
	for step := range 400 {
		for range rng.IntN(40) {
			r := &client.Record{Topic: "in", Key: fmt.Appendf(nil, "%03d", rng.IntN(500)), Timestamp: time.UnixMilli(int64(step))}
			delete(now, string(r.Key))
			if rng.IntN(3) > 0 {
				r.Value = fmt.Appendf(nil, "%d", step)
				now[string(r.Key)] = string(r.Value)
			}
			must(t, task.Process(r, 0, nil))
		}
		if got := content(t, task.Store("s")); !slices.Equal(got, list(now)) {
			t.Fatalf("seed %d, step %d: the store has %q, want %q", seed, step, got, list(now))
		}
		var sent []*client.Record
		must(t, task.Flush(func(r *client.Record) error {
			r.Offset = int64(len(log) + len(sent))
			sent = append(sent, r)
			return nil
		}))
		if rng.IntN(3) == 0 {
			task.Rollback()
			now = map[string]string{}
			for k, v := range committed {
				now[k] = v
			}
			continue
		}
		log = append(log, sent...)
		must(t, task.Commit(func(string) int64 { return 0 }))
		committed = map[string]string{}
		for k, v := range now {
			committed[k] = v
		}
	}
	at := task.stores[0].base.Checkpoint()
	if at.Next != int64(len(log)) {
		t.Errorf("the checkpoint is at %d, the changelog ends at %d", at.Next, len(log))
	}
	copied, err := state.NewMemory().Open(state.ID{})
	must(t, err)
	must(t, Restore(task.group.Stores[0], copied, at.Topic, int64(len(log)), log))
	again, err := NewTask(ID{}, task.group, []state.State{copied}, 0)
	must(t, err)
	if got := content(t, again.Store("s")); !slices.Equal(got, list(committed)) || again.StreamTime() != at.StreamTime {
		t.Errorf("restored %q at %d, want %q at %d", got, again.StreamTime(), list(committed), at.StreamTime)
	}
}

// A key that came and went within a transaction leaves no trace; one that changed
// often is written once.
func TestChangelogHasLastValues(t *testing.T) {
	t.Parallel()
	task := newTask(t, puts(0), state.NewMemory())
	put := func(key string, value []byte) {
		must(t, task.Process(&client.Record{Topic: "in", Key: []byte(key), Value: value, Timestamp: time.UnixMilli(5)}, 0, nil))
	}
	flush := func() (out []string) {
		must(t, task.Flush(func(r *client.Record) error {
			out = append(out, fmt.Sprintf("%s=%s@%d", r.Key, r.Value, r.Timestamp.UnixMilli()))
			return nil
		}))
		must(t, task.Commit(func(string) int64 { return 0 }))
		return out
	}
	put("a", []byte("1"))
	put("b", []byte("1"))
	put("a", []byte("2"))
	put("c", []byte("1"))
	put("c", nil)
	if got := fmt.Sprint(flush()); got != "[a=2@5 b=1@5]" {
		t.Errorf("changelog %s", got)
	}
	put("b", nil)
	if got := fmt.Sprint(flush()); got != "[b=@5]" {
		t.Errorf("changelog %s", got)
	}
}

// Of a window whose retention is over nothing can be read or written, before the
// commit that removes it and after; a rollback brings it back.
func TestWindowsExpire(t *testing.T) {
	t.Parallel()
	task := newTask(t, puts(100), state.NewMemory())
	put := func(start, at int64) {
		r := &client.Record{Topic: "in", Key: WindowKey(start, []byte("k")), Value: []byte("v"), Timestamp: time.UnixMilli(at)}
		must(t, task.Process(r, 0, nil))
	}
	commit := func() (sent int) {
		must(t, task.Flush(func(*client.Record) error { sent++; return nil }))
		must(t, task.Commit(func(string) int64 { return 0 }))
		return sent
	}
	count := func() int { return len(content(t, task.Store("s"))) }
	put(0, 0)
	put(50, 50)
	commit()
	put(60, 100) // the first one is over
	if count() != 2 {
		t.Errorf("%d windows, want 2", count())
	}
	if v, err := task.Store("s").Get(WindowKey(0, []byte("k"))); v != nil || err != nil {
		t.Errorf("read %q, %v of a window that is over", v, err)
	}
	task.Rollback()
	if count() != 2 || task.StreamTime() != 50 {
		t.Errorf("%d windows at %d after a rollback, want 2 at 50", count(), task.StreamTime())
	}
	put(60, 155)
	put(20, 155) // too late
	if sent := commit(); sent != 1 || count() != 1 {
		t.Errorf("%d changes and %d windows, want 1 and 1", sent, count())
	}
	rows := 0
	must(t, task.stores[0].base.Scan(nil, nil, func(_, _ []byte) bool { rows++; return true }))
	if rows != 1 {
		t.Errorf("the state has %d rows, want 1", rows)
	}
}

// Punctuators are called once per period that has begun, however many have passed,
// and again after a rollback.
func TestPunctuation(t *testing.T) {
	t.Parallel()
	var calls []string
	g := &Group{
		Sources: []*Source{{Topic: "in", Process: func(*Task, *client.Record) error { return nil }}},
		Punctuators: []*Punctuator{
			{Every: 10, Do: func(_ *Task, now int64) error { calls = append(calls, fmt.Sprint("stream ", now)); return nil }},
			{Every: 7, Wall: true, Do: func(_ *Task, now int64) error { calls = append(calls, fmt.Sprint("wall ", now)); return nil }},
		},
	}
	task, err := NewTask(ID{}, g, nil, 3)
	must(t, err)
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(calls, want) {
			t.Errorf("calls %q, want %q", calls, want)
		}
		calls = nil
	}
	at := func(ms int64) {
		must(t, task.Process(&client.Record{Topic: "in", Timestamp: time.UnixMilli(ms)}, 3, nil))
	}
	at(12)
	at(19)
	expect()
	at(20)
	at(20)
	at(5)
	at(59)
	expect("stream 20", "stream 59")
	must(t, task.Commit(func(string) int64 { return 0 }))
	at(60)
	task.Rollback()
	at(60)
	expect("stream 60", "stream 60")

	if next, ok := task.NextPunctuation(); !ok || next != 7 {
		t.Errorf("next at %d, %v", next, ok)
	}
	must(t, task.Punctuate(6, nil))
	expect()
	must(t, task.Punctuate(30, nil))
	must(t, task.Punctuate(30, nil))
	expect("wall 30")
	if next, ok := task.NextPunctuation(); !ok || next != 35 {
		t.Errorf("next at %d, %v", next, ok)
	}
}

// A position that the cluster no longer knows leaves the checkpoint behind.
func TestUnknownOffset(t *testing.T) {
	t.Parallel()
	task := newTask(t, puts(0), state.NewMemory())
	for _, offset := range []int64{4, -1, 9} {
		must(t, task.Process(&client.Record{Topic: "in", Key: []byte("k"), Value: []byte("v")}, 0, nil))
		must(t, task.Flush(func(r *client.Record) error { r.Offset = offset; return nil }))
		must(t, task.Commit(func(string) int64 { return 0 }))
	}
	if next := task.stores[0].base.Checkpoint().Next; next != 10 {
		t.Errorf("checkpoint at %d, want 10", next)
	}
}
