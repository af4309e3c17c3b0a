package history

import (
	"slices"
	"strings"
	"testing"
)

// TestToyHistoriesPass: what does no wrong is not blamed, whatever was lost,
// fenced and taken over.
func TestToyHistoriesPass(t *testing.T) {
	t.Parallel()
	seeds := uint64(120)
	if testing.Short() {
		seeds = 20
	}
	var sum Stats
	for seed := range seeds {
		size := 6
		if seed%40 == 0 {
			size = 60 // so that calls of one id are checked in parts, with others under way
		}
		h := newToy(seed, "").everything(size)
		report := Check(h)
		for _, v := range report.Violations {
			t.Errorf("seed %d: %v", seed, v)
		}
		if t.Failed() {
			t.FailNow()
		}
		s := report.Stats
		sum.Committed += s.Committed
		sum.Aborted += s.Aborted
		sum.Resolved += s.Resolved
		sum.Unresolved += s.Unresolved
		sum.CoordinatorCalls += s.CoordinatorCalls
		sum.Moves += s.Moves
		sum.Interleaved += s.Interleaved
		sum.Visible += s.Visible
	}
	t.Logf("%+v", sum)
	if sum.Committed == 0 || sum.Aborted == 0 || sum.Resolved == 0 || sum.Moves == 0 || sum.Interleaved == 0 || sum.Visible == 0 {
		t.Errorf("something was never checked: %+v", sum)
	}
}

// plantedBugs names, for each bug of the toy cluster, a violation that must be
// among those reported.
var plantedBugs = map[string]string{
	"aborted record shown":              "I3 G1a",
	"committed record hidden":           "I4 torn",
	"acknowledged before it is durable": "I2 lost-write",
	"appended twice":                    "I1 duplicate",
	"two records in the wrong order":    "I1 int-nonmonotonic-send",
	"epoch handed out twice":            "I9",
	"nothing is fenced":                 "I6",
	"the last word counts":              "I5",
	"offsets moved by an abort":         "I7 lost-update",
	"a group that does not check":       "I7 lost-update",
	"offsets left behind":               "I7 lost-update",
	"the LSO is ignored":                "I3 precommitted-read",
	"a record left out":                 "I2 lost-write",
	"position goes back":                "I1 nonmonotonic-poll",
	"the LSO goes back":                 "I8",
	"replicas differ":                   "I10",
	"nobody times out":                  "I11",
	"a marker is never sent":            "I11",
	"commit said before it is decided":  "I13",
	"an input passed over":              "I7 lost-write",
	"an outcome is told wrong":          "I5",
}

// TestPlantedBugsAreFound: what does wrong is blamed for it, within a few seeds.
func TestPlantedBugsAreFound(t *testing.T) {
	t.Parallel()
	const seeds = 40
	for _, bug := range sortedKeys(plantedBugs) {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			missed, others := 0, map[string]int{}
			for seed := range uint64(seeds) {
				toy := newToy(seed, bug)
				found := kinds(Check(toy.everything(6)))
				if toy.hits > 0 && len(found) == 0 {
					missed++
				}
				if slices.Contains(found, plantedBugs[bug]) {
					t.Logf("seed %d: %s; before that %d runs without effect that shows, and %v", seed, strings.Join(found, ", "), missed, others)
					return
				}
				for _, kind := range found {
					others[kind]++
				}
			}
			t.Errorf("not reported as %q within %d seeds; found %v, and %d runs passed although the bug had struck",
				plantedBugs[bug], seeds, others, missed)
		})
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// kinds returns the invariants and anomalies of a report, each once.
func kinds(r Report) []string {
	var out []string
	for _, v := range r.Violations {
		kind := string(v.Invariant)
		if v.Anomaly != "" {
			kind += " " + v.Anomaly
		}
		out = append(out, kind)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
