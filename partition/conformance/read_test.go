package conformance

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

// question is a column of the table of reads: what partition A is asked.
type question struct {
	name string
	ask  func(s *scene) string
}

// readStates are those of the other tables and one in which everything lies
// between everything else.
func readStates() []state {
	mixed := state{name: "mixed", reach: func(s *scene) {
		aborted := pstate.TxnRef{ProducerID: s.stranger, Epoch: 7, Number: 1}
		plain := pstate.TxnRef{ProducerID: 1 << 40}
		s.send(s.t0(), s.a, 0, 2)                     // 0 and 1
		s.send(aborted, s.a, 0, 2)                    // 2 and 3
		s.send(s.t0(), s.a, 2, 2)                     // 4 and 5
		s.send(plain, s.a, 0, 1)                      // 6
		s.send(s.txn(epoch, number+1), s.a, 0, 2)     // 7 and 8
		s.send(plain, s.a, 1, 1)                      // 9
		s.end(abort(aborted, client))                 // 2 and 3 are hidden
		s.end(commit(s.t0(), s.a, held))              // 0, 1, 4 and 5 are shown
		s.end(abort(s.txn(epoch, number+2), client))  // wrote nothing
		s.end(commit(s.txn(epoch, number+3), s.a, 0)) // wrote nothing
	}}
	return append(states(), mixed)
}

func questions() []question {
	fetch := func(level oncelogv1.IsolationLevel, from func(s *scene) uint64) func(*scene) string {
		return func(s *scene) string {
			req := &oncelogv1.FetchRequest{Partition: byID(s.a), Isolation: level, Offset: from(s)}
			got := s.fetch(s.at, req)
			req.Format = batches
			return sameShown(s, got, s.fetch(s.at, req))
		}
	}
	zero := func(*scene) uint64 { return 0 }
	offset := func(level oncelogv1.IsolationLevel, q func(s *scene) *oncelogv1.OffsetQuery) func(*scene) string {
		return func(s *scene) string { return s.offset(s.at, level, q(s)) }
	}
	position := func(where oncelogv1.StartPosition) func(*scene) *oncelogv1.OffsetQuery {
		return func(s *scene) *oncelogv1.OffsetQuery { return at(s.a, where) }
	}
	second := func(s *scene) *oncelogv1.OffsetQuery { return since(s.a, 2) }
	return []question{
		{"Fetch committed", fetch(committed, zero)},
		{"Fetch uncommitted", fetch(uncommitted, zero)},
		{"Fetch committed from 3", fetch(committed, func(*scene) uint64 { return 3 })},
		{"Fetch committed from the end", fetch(committed, func(s *scene) uint64 { return s.describe(s.at, s.a).GetAppliedEnd() })},
		{"Fetch behind the end", fetch(uncommitted, func(s *scene) uint64 { return s.describe(s.at, s.a).GetAppliedEnd() + 1 })},
		{"latest committed", offset(committed, position(latest))},
		{"latest uncommitted", offset(uncommitted, position(latest))},
		{"earliest", offset(committed, position(earliest))},
		{"by time, committed", offset(committed, second)},
		{"by time, uncommitted", offset(uncommitted, second)},
		{"DescribePartitions", (*scene).standing},
		{"DescribeProducers", (*scene).remembered},
	}
}

// sameShown prints what was shown: ranges of offsets and the next offset. Both
// formats must show the same.
func sameShown(s *scene, asRecords, asBatches shown) string {
	s.t.Helper()
	equal(s.t, "offsets as batches", fmt.Sprint(asBatches.offsets), fmt.Sprint(asRecords.offsets))
	equal(s.t, "end as batches", fmt.Sprint(asBatches.next, asBatches.err), fmt.Sprint(asRecords.next, asRecords.err))
	if asRecords.err != "" {
		return asRecords.err
	}
	return fmt.Sprintf("%s → %d", spans(asRecords.offsets), asRecords.next)
}

// spans shortens ascending offsets: "0-3 6".
func spans(offsets []uint64) string {
	var out []string
	for i := 0; i < len(offsets); {
		j := i
		for j+1 < len(offsets) && offsets[j+1] == offsets[j]+1 {
			j++
		}
		text := strconv.FormatUint(offsets[i], 10)
		if j > i {
			text += "-" + strconv.FormatUint(offsets[j], 10)
		}
		out = append(out, text)
		i = j + 1
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, " ")
}

// standing prints what DescribePartitions tells of partition A.
func (s *scene) standing() string {
	d := s.describe(s.at, s.a)
	out := fmt.Sprintf("%d/%d/%d", d.GetStartOffset(), d.GetStableEnd(), d.GetAppliedEnd())
	if n := d.GetOpenTransactions(); n > 0 {
		out += fmt.Sprintf(", %d open", n)
	}
	if by := d.GetBlockedBy(); by != nil {
		out += ", held by " + s.named(by)
	}
	return out
}

// remembered prints what DescribeProducers tells of partition A.
func (s *scene) remembered() string {
	var out []string
	for _, row := range s.producers(s.at, s.a) {
		text := fmt.Sprintf("%s next %d", s.named(row.GetTxn()), row.GetNextSequence())
		if row.FirstOffset != nil {
			text += fmt.Sprintf(" from %d", row.GetFirstOffset())
		}
		if row.GetFence() > 0 {
			text += fmt.Sprintf(" fence %d", row.GetFence())
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "nobody"
	}
	return strings.Join(out, ", ")
}

// named prints a transaction without the id of the scene's producer, which
// differs from scene to scene; another's is "plain".
func (s *scene) named(ref *oncelogv1.TxnRef) string {
	if ref.GetProducerId() != s.producer {
		return "plain"
	}
	return fmt.Sprintf("%d/%d", ref.GetEpoch(), ref.GetTxnNumber())
}

// TestReads asks everything that can be asked in every state.
func TestReads(t *testing.T) {
	g := &grid{name: "what partition A is asked"}
	for _, q := range questions() {
		g.columns = append(g.columns, q.name)
	}
	for _, st := range readStates() {
		g.rows = append(g.rows, row{st.name, make([]string, len(g.columns))})
	}
	t.Run("states", func(t *testing.T) {
		for r, st := range readStates() {
			t.Run(st.name, func(t *testing.T) {
				stage(t, st, 1, func(scenes []*scene) {
					for i, q := range questions() {
						g.rows[r].cells[i] = q.ask(scenes[0])
					}
				})
			})
		}
	})
	check(t, "read.txt", []*grid{g})
}
