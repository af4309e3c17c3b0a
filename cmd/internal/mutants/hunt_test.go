package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for a victim.
func TestMain(m *testing.M) {
	if kind := os.Getenv("MUTANTS_TEST_VICTIM"); kind != "" {
		actAsVictim(kind)
	}
	os.Exit(m.Run())
}

// actAsVictim reports I3 for every tenth seed, and I11 for every third; seed 5 ends
// as the kind says.
func actAsVictim(kind string) {
	flags := flag.NewFlagSet("victim", flag.ExitOnError)
	start, seeds := flags.Uint64("start", 0, ""), flags.Uint64("seeds", 0, "")
	_ = flags.String("script", "", "")
	_ = flags.Parse(os.Args[1:])
	for seed := *start; seed < *start+*seeds; seed++ {
		violations := ""
		switch {
		case seed == 5 && kind == "crash":
			panic("out of order")
		case seed == 5 && kind == "runaway":
			fmt.Fprintln(os.Stdout, `{"seed":5,"violations":[{"Invariant":"runaway","Text":"it does not end"}]}`)
			os.Exit(1)
		case seed == 5 && kind == "garbage":
			fmt.Fprintln(os.Stdout, "hello")
		case seed%10 == 0:
			violations = `,"violations":[{"Invariant":"I11 liveness","Text":"stuck"},{"Invariant":"I3","Text":"aborted read"}]`
		case seed%3 == 0:
			violations = `,"violations":[{"Invariant":"I11 liveness","Text":"stuck"}]`
		}
		fmt.Fprintf(os.Stdout, `{"seed":%d%s}`+"\n", seed, violations)
	}
	os.Exit(0)
}

// hunted runs the stand-in; the code without the mutant is healthy, or another
// stand-in.
func hunted(t *testing.T, kind string, m *mutant, hits int) *result {
	t.Helper()
	t.Setenv("MUTANTS_TEST_VICTIM", kind)
	h := &hunter{start: 1, hits: hits, wall: time.Minute}
	h.healthyOnce.Do(func() {})
	h.healthyPath = "true" // says nothing
	if kind == "sick" {
		h.healthyPath = os.Args[0]
	}
	r := &result{mutant: m, other: map[string]int{}}
	h.search(t.Context(), os.Args[0], r)
	return r
}

func TestSeedsThatFailWithoutTheMutantDoNotCount(t *testing.T) {
	r := hunted(t, "sick", &mutant{expect: []string{"I3"}, seeds: 25}, 1)
	if r.killed() || r.tried != 25 || fmt.Sprint(r.sick) != "[10 20]" || r.ok() {
		t.Errorf("%+v", r)
	}
}

func TestHuntBeginsWithTheSeedsThatAreKnown(t *testing.T) {
	known := []uint64{33, 40, 50}
	r := hunted(t, "sick", &mutant{expect: []string{"I3"}, seeds: 25, seenAt: known}, 1)
	// All find it, but so they do without it; then come the seeds from 1 on.
	if r.tried != 25 || fmt.Sprint(r.sick) != "[40 50 10 20]" {
		t.Errorf("%+v", r)
	}
	r = hunted(t, "sick", &mutant{expect: []string{"I3"}, seeds: 25, seenAt: known}, 2)
	if fmt.Sprint(r.sick) != "[10 20]" {
		t.Errorf("a rate was measured with them: %+v", r)
	}
}

func TestVictimThatSaysNothingAboutASeedFailsTheHunt(t *testing.T) {
	if r := hunted(t, "well", &mutant{expect: []string{"I3"}, seeds: 25}, 1); r.failure == nil || r.killed() {
		t.Errorf("%+v", r)
	}
	if r := hunted(t, "garbage", &mutant{expect: []string{"I9"}, seeds: 6}, 1); r.other["crash"] != 1 || r.tried != 6 {
		t.Errorf("%+v", r)
	}
}

func TestHuntGoesOnBehindCrashes(t *testing.T) {
	for kind, want := range map[string]string{"crash": "seed 5: crash: exit status 2: panic: out of order", "runaway": "seed 5: runaway: it does not end"} {
		m := &mutant{expect: []string{"I9"}, seeds: 9}
		r := hunted(t, kind, m, 1)
		if r.killed() || r.tried != 9 || r.other[kind] != 1 || r.other["I11 liveness"] != 3 || len(r.other) != 2 {
			t.Errorf("%s: %+v", kind, r)
		}
		r = hunted(t, kind, &mutant{expect: []string{kind}, seeds: 5}, 1)
		if r.failure == nil { // found, and the healthy one is asked, which says nothing
			t.Errorf("%s is not found although it is expected: %+v", kind, r)
		}
		r = &result{mutant: m, other: map[string]int{}}
		h := &hunter{start: 5, hits: 1}
		h.run(t.Context(), os.Args[0], r, 5, 1)
		if !strings.HasPrefix(r.sample, want) {
			t.Errorf("%s: %q", kind, r.sample)
		}
	}
}

// TestVictimIsSmall: every mutant is linked anew, so what a victim links is paid
// for dozens of times.
func TestVictimIsSmall(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", victimOf(root)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, heavy := range []string{"github.com/cockroachdb/pebble", "github.com/spf13/cobra", "/raftstore/pebblelog", "/raftstore/rafttransport"} {
		if bytes.Contains(out, []byte(heavy)) {
			t.Errorf("the victim links %s", heavy)
		}
	}
}

func victimOf(root string) string { return root + strings.TrimPrefix(victim, ".") }

func TestTable(t *testing.T) {
	t.Parallel()
	all := []*mutant{{name: "a", bug: "reads too far", standsFor: "F1", expect: []string{"I3"}}, {name: "longer"}, {name: "c"}}
	killed := &result{mutant: all[0], hits: 1, first: hit{17, 12, violation{"I3", "offset 5"}}, tried: 12, took: 3 * time.Second}
	quick := &result{mutant: all[1], hits: 1, first: hit{2, 1, violation{"I1", "twice"}}, tried: 1, took: time.Second}
	for _, test := range []struct {
		last *result
		ok   bool
		want []string
	}{
		{quick, true, []string{"a       killed    I3                17      12     3.0\n", "mutants 2/2 killed, slowest a after 12 seeds, 5 s\n"}},
		{
			&result{mutant: all[2], tried: 1000, other: map[string]int{"panic": 3, "I11": 1}, sample: "seed 4: panic: index"}, false,
			[]string{"c       SURVIVED", "I11 in 1 seeds, panic in 3 seeds", "seed 4: panic: index", "mutants 1/2 killed"},
		},
		{&result{mutant: all[2], tried: 10, timeout: true}, false, []string{"c       TIMEOUT"}},
		{&result{mutant: all[2], failure: errors.New("stale: f.go")}, false, []string{"c       FAILED", "stale: f.go"}},
		{
			&result{mutant: all[2], hits: 1, first: hit{2, 1, violation{"I1", "twice"}}, tried: 1, sick: []uint64{9}}, false,
			[]string{"killed", "SICK", "[9]"},
		},
	} {
		var out strings.Builder
		tab := newTable(&out, all, 1, false)
		tab.row(killed)
		tab.row(test.last)
		if ok := tab.sum(5 * time.Second); ok != test.ok {
			t.Errorf("%v:\n%s", ok, out.String())
		}
		for _, w := range test.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%q is missing in\n%s", w, out.String())
			}
		}
	}
}
