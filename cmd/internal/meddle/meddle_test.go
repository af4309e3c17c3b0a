package meddle

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/partition/pstate"
)

// scripted answers one request after the other with the errors of a list; the
// last one stays.
type scripted struct {
	grpc.ClientConnInterface
	answers []error
	asked   int
}

func (s *scripted) Invoke(_ context.Context, _ string, _, _ any, _ ...grpc.CallOption) error {
	err := s.answers[min(s.asked, len(s.answers)-1)]
	s.asked++
	return err
}

func refusal(a answer) error { return apierrors.New(oncelogv1.ErrorCode(a), "").GRPCStatus().Err() }

// meddlerOf returns a meddler whose requests are answered by a script.
func meddlerOf(t *testing.T, script *scripted) (m *meddler, violations *[]string) {
	t.Helper()
	violations = new([]string)
	return &meddler{
		Env: Env{
			Rand: rand.New(rand.NewPCG(1, 1)), Coordinators: []string{"c"}, CoordinatorPeers: []string{"c"},
			Dial: func(string) (grpc.ClientConnInterface, error) { return script, nil },
			Txn:  txn.DefaultConfig(), Shard: pstate.New(pstate.Config{}).Config(),
			Violation: func(text string) { *violations = append(*violations, text) },
			Reached:   func(string) {},
		},
		ctx: t.Context(), seats: map[place]string{}, conns: map[string]grpc.ClientConnInterface{}, act: "test",
	}, violations
}

// TestAnswersAreJudged: what may be answered ends a request, what everybody may say
// at any time repeats it, and anything else is a violation.
func TestAnswersAreJudged(t *testing.T) {
	t.Parallel()
	lost := status.Error(codes.Unavailable, "connection reset")
	for _, c := range []struct {
		name    string
		answers []error
		twins   bool
		may     []answer
		want    answer // of the request
		asked   int
		wrong   string // in the violation; empty: none
	}{
		{"as asked", []error{nil}, false, []answer{ok}, ok, 1, ""},
		{"one of two", []error{refusal(fenced)}, false, []answer{ok, fenced}, fenced, 1, ""},
		{"repeated", []error{lost, refusal(notLeader), refusal(overloaded), nil}, false, []answer{ok}, ok, 4, ""},
		{"for now", []error{refusal(throttled), nil}, false, []answer{ok, throttled | forNow}, ok, 2, ""},
		{"no answer in time", []error{refusal(unavailable)}, false, []answer{ok}, none, 0, ""},
		{"a wrong request that is right", []error{nil}, false, []answer{invalidArgument}, none, 1, "was answered OK"},
		{"another refusal", []error{refusal(fenced)}, false, []answer{ok, conflict}, none, 1, "FENCED"},
		{"internal", []error{refusal(internal)}, false, []answer{ok}, none, 1, "INTERNAL"},
		{"a broken handler", []error{status.Error(codes.Unknown, "oops")}, false, []answer{ok}, none, 1, "INTERNAL"},
		{"only of a copy", []error{refusal(topicExists)}, false, []answer{ok, topicExists | ifLoose}, none, 1, "TOPIC_EXISTS"},
		{"of a copy", []error{refusal(topicExists)}, true, []answer{ok, topicExists | ifLoose}, topicExists, 1, ""},
		{"of the first attempt", []error{lost, refusal(topicExists)}, false, []answer{ok, topicExists | ifLoose}, topicExists, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				script := &scripted{answers: c.answers}
				m, violations := meddlerOf(t, script)
				m.Twins = c.twins
				got, _ := m.ask(coordinator, "/service/Method", &oncelogv1.GetOutcomeRequest{}, &oncelogv1.GetOutcomeResponse{}, c.may...)
				if got != c.want || m.lost != (c.want == none) {
					t.Errorf("%v, lost %v; want %v", got, m.lost, c.want)
				}
				if c.asked > 0 && script.asked != c.asked {
					t.Errorf("asked %d times, want %d", script.asked, c.asked)
				}
				if found := strings.Join(*violations, "\n"); (found == "") != (c.wrong == "") || !strings.Contains(found, c.wrong) {
					t.Errorf("violations %q, want %q", found, c.wrong)
				}
			})
		})
	}
}

// TestReadersAreHeldToWhatWasWritten: a record that is missing, one too many, and
// one that is another.
func TestReadersAreHeldToWhatWasWritten(t *testing.T) {
	t.Parallel()
	p := &part{id: &oncelogv1.PartitionRef{PartitionId: 7}}
	done := &transaction{ref: &oncelogv1.TxnRef{ProducerId: 1, TxnNumber: 1}, committed: true, over: true, covered: map[*part]uint64{p: 1}}
	aborted := &transaction{ref: &oncelogv1.TxnRef{ProducerId: 1, TxnNumber: 2}, over: true}
	p.cells = []cell{
		{value: []byte("a"), time: 1}, {txn: done, seq: 0, value: []byte("b")}, {txn: done, seq: 1, value: []byte("beyond")}, {txn: aborted, value: []byte("c")},
	}
	if n := len(p.expected(0, uncommitted)); n != 4 {
		t.Errorf("%d records are there", n)
	}
	want := p.expected(0, committed)
	if len(want) != 2 || string(want[1].value) != "b" || !proto.Equal(want[1].txn, done.ref) {
		t.Fatalf("committed are %v", want)
	}
	other := want[1]
	other.value = []byte("x")
	for _, c := range []struct {
		got   []row
		wrong string
	}{
		{want, ""},
		{want[:1], "record 1 of partition 7 is missing"},
		{append(want[:2:2], p.expected(3, uncommitted)...), "record 3 of partition 7 is shown"},
		{[]row{want[0], other}, `partition 7 has "x" at 1`},
	} {
		m, violations := meddlerOf(t, nil)
		m.compare(p, "test", c.got, want)
		if found := strings.Join(*violations, "\n"); (found == "") != (c.wrong == "") || !strings.Contains(found, c.wrong) {
			t.Errorf("violations %q, want %q", found, c.wrong)
		}
	}
}

// TestAppendsAreHeldToTheEnd: an offset that is not the next one.
func TestAppendsAreHeldToTheEnd(t *testing.T) {
	t.Parallel()
	m, violations := meddlerOf(t, nil)
	p := &part{id: &oncelogv1.PartitionRef{PartitionId: 7}, shard: 2}
	result := func(offset uint64) *oncelogv1.AppendResult {
		return &oncelogv1.AppendResult{Partition: p.id, ShardId: 2, BaseOffset: &offset, NextSequence: 1}
	}
	m.noteAppend(p, nil, 0, m.records(1), result(0))
	if len(*violations) > 0 || len(p.cells) != 1 {
		t.Fatalf("%d records, violations %q", len(p.cells), *violations)
	}
	m.noteAppend(p, nil, 0, m.records(1), result(5))
	if len(*violations) != 1 || !strings.Contains((*violations)[0], "appended at 5, not at 1") {
		t.Errorf("violations %q", *violations)
	}
}

// TestNothingIsJudgedOnceLost: an act that got no answer says nothing any more.
func TestNothingIsJudgedOnceLost(t *testing.T) {
	t.Parallel()
	script := &scripted{answers: []error{refusal(internal)}}
	m, violations := meddlerOf(t, script)
	m.lost = true
	m.check(false, "wrong")
	m.topicLife()
	m.listings()
	if len(*violations) > 0 || script.asked > 0 {
		t.Errorf("%d requests, violations %q", script.asked, *violations)
	}
}

// TestActsHaveNames: every act has one of its own, and a weight.
func TestActsHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, a := range acts {
		if a.name == "" || a.weight < 1 || a.run == nil || seen[a.name] {
			t.Errorf("act %q: weight %d, twice: %v", a.name, a.weight, seen[a.name])
		}
		seen[a.name] = true
	}
}
