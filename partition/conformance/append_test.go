package conformance

import (
	"fmt"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/partition/pstate"
)

// sends is a grid of the table of appends: which records are sent.
type sends struct {
	name      string
	sequence  uint64
	count     int
	elsewhere bool // to partition B
}

func appends() []sends {
	return []sends{
		{name: "the first batch (sequences 0 and 1)", sequence: 0, count: perBatch},
		{name: "the last stored batch (2 and 3)", sequence: held - perBatch, count: perBatch},
		{name: "stored records, cut into another batch (1 and 2)", sequence: 1, count: perBatch},
		{name: "the next batch (4 and 5)", sequence: held, count: perBatch},
		{name: "a stored record and a new one (3 and 4)", sequence: held - 1, count: perBatch},
		{name: "a batch behind a gap (6 and 7)", sequence: held + perBatch, count: perBatch},
		{name: "the first batch to partition B (0 and 1)", sequence: 0, count: perBatch, elsewhere: true},
	}
}

// sender is a column of the table of appends: in whose name it is sent.
type sender struct {
	relation
	forged bool // with a token that another key signed
}

func senders() []sender {
	var out []sender
	for _, r := range relations() {
		out = append(out, sender{relation: r})
	}
	t := relations()[0]
	return append(out, sender{relation{"T, token forged", t.of}, true})
}

func idempotentSenders() []sender {
	of := func(epoch uint32) func(*scene) pstate.TxnRef {
		return func(s *scene) pstate.TxnRef { return s.txn(epoch, 0) }
	}
	return []sender{
		{relation: relation{"P", of(epoch)}},
		{relation: relation{"older epoch", of(epoch - 1)}},
		{relation: relation{"next epoch", of(epoch + 1)}},
		{relation: relation{"in a transaction", func(s *scene) pstate.TxnRef { return s.txn(epoch, number+1) }}},
		{relation: relation{"another producer", func(s *scene) pstate.TxnRef {
			return pstate.TxnRef{ProducerID: s.stranger, Epoch: epoch}
		}}},
		{relation: relation{"P, token forged", of(epoch)}, forged: true},
	}
}

// transport is one of the two ways to append.
type transport struct {
	name string
	call func(c *cluster, m *node, req *oncelogv1.AppendRequest) string
}

func transports() []transport {
	return []transport{{"Append", (*cluster).append}, {"AppendStream", (*cluster).appendStream}}
}

// TestAppends crosses states, records and names, over both transports.
func TestAppends(t *testing.T) { crossAppends(t, "append.txt", states(), senders()) }

// TestIdempotentAppends does the same for producers without transactions.
func TestIdempotentAppends(t *testing.T) {
	crossAppends(t, "idempotent.txt", idempotentStates(), idempotentSenders())
}

func crossAppends(t *testing.T, file string, states []state, senders []sender) {
	t.Helper()
	grids := make([]*grid, len(appends()))
	for i, what := range appends() {
		grids[i] = &grid{name: what.name}
		for _, by := range senders {
			grids[i].columns = append(grids[i].columns, by.name)
		}
		for _, st := range states {
			grids[i].rows = append(grids[i].rows, row{st.name, make([]string, len(senders))})
		}
	}
	t.Run("states", func(t *testing.T) {
		for r, st := range states {
			t.Run(st.name, func(t *testing.T) {
				stage(t, st, len(appends())*len(senders)*len(transports()), func(scenes []*scene) {
					for i, what := range appends() {
						for j, by := range senders {
							grids[i].rows[r].cells[j] = appendCell(&scenes, what, by)
						}
					}
				})
			})
		}
	})
	check(t, file, grids)
}

// appendCell takes one scene per transport and returns what both say.
func appendCell(scenes *[]*scene, what sends, by sender) string {
	var cells []string
	for _, way := range transports() {
		s := (*scenes)[0]
		*scenes = (*scenes)[1:]
		cells = append(cells, s.appendOnce(what, by, way))
	}
	if cells[0] != cells[1] {
		return strings.Join(cells, " but over a stream ")
	}
	return cells[0]
}

// appendOnce sends and holds what became of the scene to the answer.
func (s *scene) appendOnce(what sends, by sender, way transport) string {
	s.t.Helper()
	ref, to := by.of(s), s.a
	if what.elsewhere {
		to = s.b
	}
	req := s.request(ref, to, what.sequence, what.count)
	if by.forged {
		var other token.Keyring
		other.Set([]token.Key{{ID: secret.ID, Secret: []byte(strings.Repeat("o", token.MinSecret))}})
		req.ProducerToken = other.Sign(ref.ProducerID, ref.Epoch)
	}
	_, before := s.look(to)
	opened, end := s.rowOf(ref, to), s.describe(s.at, to).GetAppliedEnd()
	answer := way.call(s.cluster, s.at, req)
	ends, after := s.look(to)
	if !strings.HasPrefix(answer, "APPENDED") {
		equal(s.t, answer+": what is there", after, before)
		return answer
	}
	s.appended(what, ref, to, end, opened)
	return answer + " → " + ends
}

// appended holds a partition to having taken the records, as a part of the
// transaction that they name and at the end of what was there.
func (s *scene) appended(what sends, ref pstate.TxnRef, to, end uint64, opened *oncelogv1.ProducerState) {
	s.t.Helper()
	for i := range uint64(what.count) {
		got := s.fetch(s.at, &oncelogv1.FetchRequest{
			Partition: byID(to), Isolation: uncommitted, Offset: end + i, MaxRecords: 1,
		})
		equal(s.t, "record", fmt.Sprint(got.values), fmt.Sprintf("[%s]", value(ref, what.sequence+i)))
	}
	row := s.rowOf(ref, to)
	if row == nil {
		s.t.Errorf("%v is not known after an append", ref)
		return
	}
	equal(s.t, "next sequence", row.GetNextSequence(), what.sequence+uint64(what.count))
	if ref.Number == 0 {
		equal(s.t, "a first offset without a transaction", row.FirstOffset == nil, true)
		return
	}
	first := end
	if opened != nil {
		first = opened.GetFirstOffset()
	}
	equal(s.t, "first offset", row.GetFirstOffset(), first)
}
