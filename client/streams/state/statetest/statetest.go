// Package statetest is what every state.Backend has to do, as a test.
package statetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/client/streams/state"
)

// Run tests a backend. reopen returns it as it is after its process has ended
// properly and was started again; nil: it does not outlive its process.
func Run(t *testing.T, backend state.Backend, reopen func() state.Backend) {
	t.Helper()
	t.Run("one at a time", func(t *testing.T) { oneAtATime(t, backend) })
	t.Run("view", func(t *testing.T) { view(t, backend) })
	t.Run("neighbours", func(t *testing.T) { neighbours(t, backend) })
	t.Run("random", func(t *testing.T) { random(t, backend, reopen) }) // last: it opens the backend again
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, b state.Backend, id state.ID) state.State {
	t.Helper()
	s, err := b.Open(id)
	must(t, err)
	return s
}

// random compares a state with a map, change by change.
func random(t *testing.T, backend state.Backend, reopen func() state.Backend) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 1))
	id := state.ID{Application: "a", Store: "random", Partition: 3}
	s, want := open(t, backend, id), map[string]string{}
	key := func() []byte {
		b := make([]byte, rng.IntN(4))
		for i := range b {
			b[i] = []byte{0, 1, 'a', 'b', 0xfe, 0xff}[rng.IntN(6)]
		}
		return b
	}
	for step := range 300 {
		c := state.Changes{Clear: rng.IntN(40) == 0}
		if c.Clear {
			clear(want)
		}
		for range rng.IntN(30) {
			e := state.Entry{Key: key()}
			if rng.IntN(3) > 0 {
				e.Value = fmt.Appendf([]byte{}, "%d", rng.IntN(100))[:rng.IntN(2)]
				want[string(e.Key)] = string(e.Value)
			} else {
				delete(want, string(e.Key))
			}
			c.Entries = append(c.Entries, e)
		}
		if rng.IntN(20) == 0 {
			c.DropBefore = append(key(), 'a')
			maps.DeleteFunc(want, func(k, _ string) bool { return k < string(c.DropBefore) })
		}
		c.Checkpoint = state.Checkpoint{Topic: 9, Next: int64(step), StreamTime: -rng.Int64N(5)}
		must(t, s.Apply(c))
		if rng.IntN(10) == 0 {
			must(t, s.Close())
			if reopen != nil {
				backend = reopen()
			}
			s = open(t, backend, id)
		}
		check(t, s, want, c.Checkpoint, key(), key())
		if t.Failed() {
			t.Fatalf("seed %d, step %d", seed, step)
		}
	}
	must(t, s.Close())
}

// check compares a state with what it should be, all of it and a part.
func check(t *testing.T, s state.State, want map[string]string, at state.Checkpoint, from, to []byte) {
	t.Helper()
	if got := s.Checkpoint(); got != at {
		t.Errorf("checkpoint %+v, want %+v", got, at)
	}
	for _, part := range [][2][]byte{{nil, nil}, {from, to}, {from, nil}} {
		var got, wanted []string
		must(t, s.Scan(part[0], part[1], func(k, v []byte) bool {
			got = append(got, string(k)+"="+string(v))
			return true
		}))
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if k >= string(part[0]) && (part[1] == nil || k < string(part[1])) {
				wanted = append(wanted, k+"="+want[k])
			}
		}
		if !slices.Equal(got, wanted) {
			t.Errorf("scan from %q to %q: %q, want %q", part[0], part[1], got, wanted)
		}
	}
	for _, k := range [][]byte{from, to} {
		v, err := s.Get(k)
		must(t, err)
		if w, ok := want[string(k)]; (v != nil) != ok || string(v) != w {
			t.Errorf("get %q: %q, want %q, %v", k, v, w, ok)
		}
	}
}

// oneAtATime: a state has one user, and is there for the next one.
func oneAtATime(t *testing.T, backend state.Backend) {
	id := state.ID{Application: "a", Store: "single"}
	s := open(t, backend, id)
	if _, err := backend.Open(id); !errors.Is(err, state.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	must(t, s.Apply(state.Changes{Entries: []state.Entry{{Key: []byte("k"), Value: []byte("v")}}}))
	must(t, s.Close())
	s = open(t, backend, id)
	if v, err := s.Get([]byte("k")); err != nil || string(v) != "v" {
		t.Errorf("after it was opened again: %q, %v", v, err)
	}
	must(t, s.Close())
}

// view: a view does not see what comes after it, nor a part of a change.
func view(t *testing.T, backend state.Backend) {
	s := open(t, backend, state.ID{Application: "a", Store: "view"})
	set := func(n int64) {
		v := fmt.Appendf(nil, "%d", n)
		must(t, s.Apply(state.Changes{
			Entries:    []state.Entry{{Key: []byte("a"), Value: v}, {Key: []byte("b"), Value: v}},
			Checkpoint: state.Checkpoint{Topic: 1, Next: n},
		}))
	}
	set(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range int64(500) {
			set(n)
		}
	}()
	for range 200 {
		must(t, s.View(func(r state.Reader) error {
			a, err := r.Get([]byte("a"))
			must(t, err)
			b, err := r.Get([]byte("b"))
			must(t, err)
			if next := fmt.Sprint(r.Checkpoint().Next); !bytes.Equal(a, b) || next != string(a) {
				t.Errorf("a is %s, b is %s, at %s", a, b, next)
			}
			return nil
		}))
	}
	<-done
	if err := s.View(func(state.Reader) error { return errors.New("mine") }); err == nil || err.Error() != "mine" {
		t.Errorf("error of a view: %v", err)
	}
	must(t, s.Close())
}

// neighbours: states whose names are alike share nothing.
func neighbours(t *testing.T, backend state.Backend) {
	ids := []state.ID{
		{Application: "a", Store: "b", Partition: 1}, {Application: "ab", Store: "", Partition: 1},
		{Application: "a", Store: "b", Partition: 257}, {Application: "a", Store: "bb", Partition: 1},
		{Application: "", Store: "ab", Partition: 1},
	}
	var all []state.State
	for i, id := range ids {
		s := open(t, backend, id)
		all = append(all, s)
		for _, k := range []string{"", "k", "\xff\xff\xff"} {
			must(t, s.Apply(state.Changes{
				Entries:    []state.Entry{{Key: []byte(k), Value: []byte(fmt.Sprint(i))}},
				Checkpoint: state.Checkpoint{Next: int64(i)},
			}))
		}
	}
	must(t, all[1].Apply(state.Changes{Clear: true, DropBefore: []byte("\xff")}))
	for i, s := range all {
		var got strings.Builder
		must(t, s.Scan(nil, nil, func(_, v []byte) bool { got.Write(v); return true }))
		if want := strings.Repeat(fmt.Sprint(i), 3); i != 1 && got.String() != want || i == 1 && got.Len() > 0 {
			t.Errorf("state %d has %s", i, got.String())
		}
		must(t, s.Close())
	}
}
