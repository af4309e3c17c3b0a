package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// table prints what becomes of mutants, as it becomes known.
type table struct {
	out     io.Writer
	hits    int // that a mutant needs; 0: it is only built
	verbose bool
	width   int // of the longest name
	killed  int
	all     int
	failed  bool
	slowest *result
}

func newTable(out io.Writer, all []*mutant, hits int, verbose bool) *table {
	t := &table{out: out, hits: hits, verbose: verbose, width: len("mutant")}
	for _, m := range all {
		t.width = max(t.width, len(m.name))
	}
	fmt.Fprintf(out, "%-*s  %-9s %-12s %7s %7s %7s\n", t.width, "mutant", "", "killed by", "seed", "seeds", "seconds")
	return t
}

// row prints one mutant.
func (t *table) row(r *result) {
	t.all++
	state, by, seed, seeds := "SURVIVED", "", "", fmt.Sprint(r.tried)
	switch {
	case r.failure != nil:
		state = "FAILED"
	case r.built:
		state = "builds"
		t.killed++
	case r.killed():
		state, by, seed, seeds = "killed", r.first.Invariant, fmt.Sprint(r.first.seed), fmt.Sprint(r.first.tried)
		switch {
		case r.test != "":
			seed, seeds = "test", ""
		case t.hits > 1:
			seeds = fmt.Sprintf("%d/%d", r.hits, r.tried)
		}
		t.killed++
		if r.test == "" && (t.slowest == nil || r.first.tried > t.slowest.first.tried) {
			t.slowest = r
		}
	case r.timeout:
		state = "TIMEOUT"
	}
	fmt.Fprintf(t.out, "%-*s  %-9s %-12s %7s %7s %7.1f\n", t.width, r.name, state, by, seed, seeds, r.took.Seconds())
	t.failed = t.failed || !r.ok()
	t.details(r)
}

// details says more where something is wrong, or was asked for.
func (t *table) details(r *result) {
	say := func(what, text string) {
		if text != "" {
			fmt.Fprintf(t.out, "    %-12s%s\n", what, strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n                "))
		}
	}
	if t.verbose || !r.ok() {
		say("bug", r.bug+" ("+r.standsFor+")")
		say("expected", strings.Join(r.expect, ", "))
	}
	if r.failure != nil {
		say("failure", r.failure.Error())
	}
	if len(r.sick) > 0 {
		say("SICK", fmt.Sprintf("seeds that fail without the mutant, too: %d", r.sick))
	}
	if t.verbose && r.killed() {
		say("seen", head(r.first.Text))
	}
	if len(r.other) > 0 && (t.verbose || !r.ok()) {
		var others []string
		for _, name := range slices.Sorted(maps.Keys(r.other)) {
			others = append(others, fmt.Sprintf("%s in %d seeds", name, r.other[name]))
		}
		say("also", strings.Join(others, ", "))
		say("", r.sample)
	}
}

// sum prints the last line and reports whether everything is as it should be.
func (t *table) sum(took time.Duration) bool {
	switch {
	case t.hits == 0:
		fmt.Fprintf(t.out, "mutants %d/%d build, %.0f s\n", t.killed, t.all, took.Seconds())
	case t.slowest == nil:
		fmt.Fprintf(t.out, "mutants %d/%d killed, %.0f s\n", t.killed, t.all, took.Seconds())
	default:
		fmt.Fprintf(t.out, "mutants %d/%d killed, slowest %s after %d seeds, %.0f s\n",
			t.killed, t.all, t.slowest.name, t.slowest.first.tried, took.Seconds())
	}
	return !t.failed
}
