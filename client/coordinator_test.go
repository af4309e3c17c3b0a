package client

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// A leader that was given up is asked after all the others: a node that fell
// silent costs the limit of an attempt each time.
func TestAForgottenLeaderIsAskedLast(t *testing.T) {
	t.Parallel()
	for _, silent := range []string{"a", "b", "c"} {
		r := newCoordinator(nil, []string{"a", "b", "c"})
		r.learn(silent, 5)
		r.forget(silent)
		for i := range 3 {
			if got := r.target(); (got == silent) != (i == 2) {
				t.Errorf("%s was forgotten, and asked as number %d", silent, i+1)
			}
		}
	}
}

// A newer list of coordinators replaces an older one, except for what the client was
// given itself, and an older one changes nothing.
func TestListOfCoordinators(t *testing.T) {
	t.Parallel()
	r := newCoordinator(nil, []string{"seed"})
	want := func(nodes ...string) {
		t.Helper()
		if !slices.Equal(r.nodes, nodes) {
			t.Errorf("knows %v, want %v", r.nodes, nodes)
		}
	}
	r.suggest("", []string{"a", "b"}, 0) // of a cluster that has not begun
	want("seed", "a", "b")
	r.suggest("b", []string{"a", "b"}, 3)
	want("a", "b", "seed")
	r.learn("c", 7)
	want("a", "b", "seed", "c")
	r.suggest("b", []string{"b", "d"}, 5)
	want("b", "d", "seed", "c")
	r.suggest("b", []string{"a"}, 4)
	r.suggest("b", []string{"d"}, 5)
	want("b", "d", "seed", "c")
	if r.target() != "c" {
		t.Error("the leader is forgotten")
	}
}

// A client that needs no coordinator hears of new ones all the same.
func TestCoordinatorsAreFollowed(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		var asked atomic.Int64
		f.onMeta = func(_ string, r *v1.GetMetadataRequest) fate {
			if r.GetCoordinatorsOnly() {
				asked.Add(1)
			}
			return fate{}
		}
		f.dial()
		<-time.After(3*coordinatorsMaxAge + time.Second)
		if n := asked.Load(); n != 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

// The limit of an attempt grows when every node has been silent, and not because
// an election took several quick refusals.
func TestPausesAreNeverNegative(t *testing.T) {
	t.Parallel()
	for _, b := range []backoff{{}, {first: -1, longest: -1}, {first: -time.Second, longest: time.Second}} {
		for range 3 {
			if d := b.next(); d != 0 {
				t.Errorf("%v of %v", d, b)
			}
		}
	}
}

func TestClusterIDIsNotForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.dial()
		c.meta.apply(&v1.GetMetadataResponse{})
		if id := c.ClusterID(); id != "test" {
			t.Errorf("cluster %q", id)
		}
	})
}

func TestAttemptLimitGrowsWithSilenceOnly(t *testing.T) {
	t.Parallel()
	c := &Client{cfg: defaultConfig(), coord: newCoordinator(nil, []string{"a", "b", "c"})}
	for silences, want := range map[int]time.Duration{0: 2 * time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 6: 8 * time.Second, 99: 10 * time.Second} {
		if got := c.attemptLimit(call{}, c.coord.rounds(silences)); got != want {
			t.Errorf("after %d silences: %v, want %v", silences, got, want)
		}
	}
}
