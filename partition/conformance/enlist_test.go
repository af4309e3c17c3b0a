package conformance

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

const (
	accepted  = oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED
	decided   = oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED
	stray     = oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY
	throttled = oncelogv1.EnlistVerdict_ENLIST_VERDICT_THROTTLED
)

// answer is a row of the table of enlistments: what the coordinator says about
// T. An error fails the call.
type answer struct {
	name string
	give func(s *scene, e *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error)
}

func answers() []answer {
	says := func(v oncelogv1.EnlistVerdict) func(*scene, *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
		return func(*scene, *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			return &oncelogv1.EnlistAnswer{Verdict: v}, nil
		}
	}
	ended := func(m func(s *scene) *oncelogv1.Marker) func(*scene, *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
		return func(s *scene, _ *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			return &oncelogv1.EnlistAnswer{Verdict: decided, Marker: m(s)}, nil
		}
	}
	about := func(change func(a *oncelogv1.EnlistAnswer)) func(*scene, *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
		return func(_ *scene, e *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			a := &oncelogv1.EnlistAnswer{
				Txn: proto.Clone(e.GetTxn()).(*oncelogv1.TxnRef), ShardId: e.GetShardId(), OpenedAt: e.GetOpenedAt(), Verdict: stray,
			}
			change(a)
			return a, nil
		}
	}
	next := uint32(epoch + 1)
	return []answer{
		{"accepted", says(accepted)},
		{"committed, 4 records", ended(func(s *scene) *oncelogv1.Marker { return commit(s.t0(), s.a, held) })},
		{"committed, 3 records", ended(func(s *scene) *oncelogv1.Marker { return commit(s.t0(), s.a, held-1) })},
		{"committed, 6 records", ended(func(s *scene) *oncelogv1.Marker { return commit(s.t0(), s.a, held+2) })},
		{"aborted", ended(func(s *scene) *oncelogv1.Marker { return abort(s.t0(), oncelogv1.AbortReason_ABORT_REASON_TIMEOUT) })},
		{"decided, the marker of another", ended(func(s *scene) *oncelogv1.Marker { return abort(s.txn(epoch, number+1), client) })},
		{"decided, without a marker", says(decided)},
		{"stray", says(stray)},
		{"stray, the epoch is 2 now", func(*scene, *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			return &oncelogv1.EnlistAnswer{Verdict: stray, Fence: &next}, nil
		}},
		{"stray, never handed out", func(*scene, *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			return &oncelogv1.EnlistAnswer{Verdict: stray, Invalid: true}, nil
		}},
		{"stray, about an earlier open record", about(func(a *oncelogv1.EnlistAnswer) { a.OpenedAt-- })},
		{"stray, about another transaction", about(func(a *oncelogv1.EnlistAnswer) { a.Txn.TxnNumber++ })},
		{"stray, about another shard", about(func(a *oncelogv1.EnlistAnswer) { a.ShardId++ })},
		{"throttled", says(throttled)},
		{"no verdict", says(oncelogv1.EnlistVerdict_ENLIST_VERDICT_UNSPECIFIED)},
		{"no answer", func(*scene, *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			return nil, errors.New("nobody is there")
		}},
	}
}

// meanwhile is a column of the table of enlistments: what has become of T when
// the answer arrives.
type meanwhile struct {
	name string
	do   func(s *scene)
}

func meanwhiles() []meanwhile {
	return []meanwhile{
		{"T is open", func(*scene) {}},
		{"T was committed", func(s *scene) { s.end(commit(s.t0(), s.a, held)) }},
		{"T was aborted", func(s *scene) { s.end(abort(s.t0(), client)) }},
		{"T was overtaken", func(s *scene) { s.send(s.txn(epoch+1, 1), s.b, 0, 1) }},
	}
}

// TestEnlistments crosses the answers of the coordinator about a transaction
// with what has become of it in the meantime.
func TestEnlistments(t *testing.T) {
	g := &grid{name: "the coordinator's answer about T"}
	for _, m := range meanwhiles() {
		g.columns = append(g.columns, m.name)
	}
	for _, a := range answers() {
		g.rows = append(g.rows, row{a.name, make([]string, len(g.columns))})
	}
	t.Run("answers", func(t *testing.T) {
		for i, a := range answers() {
			t.Run(a.name, func(t *testing.T) {
				stage(t, state{reach: func(*scene) {}}, len(g.columns), func(scenes []*scene) {
					for j, m := range meanwhiles() {
						g.rows[i].cells[j] = scenes[j].enlist(a, m)
					}
				})
			})
		}
	})
	check(t, "enlist.txt", []*grid{g})
}

// enlist opens T, holds the coordinator's answer back until the rest has
// happened, and says what became of partition A, what the next record of T is
// told, and whether the coordinator is asked about T again.
func (s *scene) enlist(a answer, m meanwhile) string {
	s.t.Helper()
	asked, release := make(chan struct{}, 100), make(chan struct{})
	s.coord.with(func() {
		s.coord.verdict = func(e *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			if !proto.Equal(e.GetTxn(), wire(s.t0())) {
				return nil, nil
			}
			asked <- struct{}{}
			<-release
			return a.give(s, e)
		}
	})
	s.write()
	<-asked
	m.do(s)
	close(release)
	s.pass(10 * time.Millisecond)
	out := s.ends(s.a)
	before := s.coord.asked(wire(s.t0()))
	s.pass(4 * time.Second)
	again := s.coord.asked(wire(s.t0())) > before
	out = fmt.Sprintf("%s, %s", out, s.append(s.at, s.request(s.t0(), s.a, held, 1)))
	if again {
		out += ", asked again"
	}
	return out
}
