package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// table collects what was measured.
type table struct {
	systems []system
	results map[string]map[load][]measurement // by the system's name
}

func newTable(systems []system) *table {
	t := &table{systems: systems, results: map[string]map[load][]measurement{}}
	for _, s := range systems {
		t.results[s.name()] = map[load][]measurement{}
	}
	return t
}

func (t *table) add(s system, l load, m measurement) {
	t.results[s.name()][l] = append(t.results[s.name()][l], m)
}

// median is the middle one; of an even number the lower.
func median[V cmp.Ordered](all []measurement, of func(measurement) V) V {
	var values []V
	for _, m := range all {
		values = append(values, of(m))
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

// write prints the medians as Markdown, and how many times the first system's
// throughput, and how much of its p50, the others have.
func (t *table) write(w io.Writer) error {
	for _, s := range t.systems {
		if _, err := fmt.Fprintf(w, "- %s: %s\n", s.name(), s.version()); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n| load | system | appends/s | MB/s | p50 | p99 | %[1]s does, times as many/s | %[1]s's p50, times |\n|---|---|---|---|---|---|---|---|\n",
		t.systems[0].name())
	if err != nil {
		return err
	}
	for _, l := range loads {
		rate := func(s system) float64 {
			return median(t.results[s.name()][l], func(m measurement) float64 { return m.rate })
		}
		p50 := func(s system) time.Duration {
			return median(t.results[s.name()][l], func(m measurement) time.Duration { return m.p50 })
		}
		for _, s := range t.systems {
			p99 := median(t.results[s.name()][l], func(m measurement) time.Duration { return m.p99 })
			first := t.systems[0]
			_, err := fmt.Fprintf(w, "| %s | %s | %.0f | %.1f | %s | %s | %.2f | %.2f |\n", l, s.name(), rate(s),
				rate(s)*float64(l.size)/1e6, p50(s).Round(10*time.Microsecond), p99.Round(10*time.Microsecond),
				rate(first)/rate(s), p50(first).Seconds()/p50(s).Seconds())
			if err != nil {
				return err
			}
		}
	}
	return nil
}
