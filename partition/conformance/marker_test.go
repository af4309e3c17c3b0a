package conformance

import (
	"slices"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

// decision is a marker of the table of markers.
type decision struct {
	name   string
	marker func(s *scene, ref pstate.TxnRef) *oncelogv1.Marker
}

func decisions() []decision {
	covers := func(n uint64) func(s *scene, ref pstate.TxnRef) *oncelogv1.Marker {
		return func(s *scene, ref pstate.TxnRef) *oncelogv1.Marker { return commit(ref, s.a, n) }
	}
	return []decision{
		{"commit of 4 records", covers(held)},
		{"commit of 3 records", covers(held - 1)},
		{"commit of 6 records", covers(held + 2)},
		{"commit of no records", covers(0)},
		{"commit of a partition that was removed", func(_ *scene, ref pstate.TxnRef) *oncelogv1.Marker {
			return commit(ref, 1<<40, held)
		}},
		{"abort", func(_ *scene, ref pstate.TxnRef) *oncelogv1.Marker {
			return abort(ref, oncelogv1.AbortReason_ABORT_REASON_TIMEOUT)
		}},
	}
}

// TestMarkers crosses states, decisions and the transactions that they name. Each
// decision fills two grids: what the answer is, and what the named transaction's
// next record is told afterwards.
func TestMarkers(t *testing.T) {
	var answers, afterwards []*grid
	var columns []string
	for _, r := range relations() {
		columns = append(columns, r.name)
	}
	for _, d := range decisions() {
		a, b := &grid{name: d.name, columns: columns}, &grid{name: "the next record after: " + d.name, columns: columns}
		for _, st := range states() {
			a.rows = append(a.rows, row{st.name, make([]string, len(columns))})
			b.rows = append(b.rows, row{st.name, make([]string, len(columns))})
		}
		answers, afterwards = append(answers, a), append(afterwards, b)
	}
	t.Run("states", func(t *testing.T) {
		for r, st := range states() {
			t.Run(st.name, func(t *testing.T) {
				stage(t, st, len(decisions())*len(columns), func(scenes []*scene) {
					for i, d := range decisions() {
						for j, by := range relations() {
							s := scenes[i*len(columns)+j]
							answers[i].rows[r].cells[j], afterwards[i].rows[r].cells[j] = s.decide(d, by.of(s))
						}
					}
				})
			})
		}
	})
	check(t, "marker.txt", slices.Concat(answers, afterwards))
}

// decide writes a marker, twice, and then sends the next record of the
// transaction that it named.
func (s *scene) decide(d decision, ref pstate.TxnRef) (answer, next string) {
	s.t.Helper()
	ends, before := s.look(s.a)
	answer = s.mark(s.at, d.marker(s, ref))
	now, after := s.look(s.a)
	switch answer {
	case "ALREADY", "CONFLICT":
		equal(s.t, answer+": what is there", after, before)
	case "APPLIED", "MISSING_DATA":
		if s.rowOf(ref, s.a) != nil || s.rowOf(ref, s.b) != nil {
			s.t.Errorf("%v is open after its end", ref)
		}
	}
	again := s.mark(s.at, d.marker(s, ref))
	want := answer
	if answer == "APPLIED" {
		want = "ALREADY"
	}
	equal(s.t, "the same marker again", again, want)
	next = s.append(s.at, s.request(ref, s.a, held, 1))
	if _, all := s.look(s.a); !strings.HasPrefix(next, "APPENDED") {
		equal(s.t, "what is there after the repetition and "+next, all, after)
	}
	if now != ends {
		answer += " → " + now
	}
	return answer, next
}
