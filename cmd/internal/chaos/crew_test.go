package chaos

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/workload"
)

// heard returns a crew with one client of a kind that has said what a recorder
// was told.
func heard(t *testing.T, kind workload.Kind, record func(*history.Session)) *crew {
	t.Helper()
	c := &crew{
		name: "crew", calls: make(map[uint64]history.Kind), gotOn: make(map[uint32]time.Time),
		spec: WorkerSpec{Clients: []workload.Config{{Kind: kind, Client: 7}}},
	}
	r := history.NewRecorder(func() int64 { return 1000 })
	r.Tee(func(e history.Event) {
		line, err := json.Marshal(workerLine{Event: &e})
		if err != nil {
			t.Fatal(err)
		}
		c.hear(line)
	})
	record(r.Session(7))
	if err := c.failure(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestGettingOn: what counts as getting on is that something has come of it.
func TestGettingOn(t *testing.T) {
	t.Parallel()
	p := history.Partition{Topic: "t", Index: 1}
	commit := func(o history.Outcome) func(*history.Session) {
		return func(s *history.Session) {
			tx := s.Begin("id", history.TxID{Producer: 1, Number: 1})
			v := tx.Send(p, 0, history.Source{})
			tx.Acked(p, v, 0)
			s.Reader(history.ReadCommitted).Read(p, 0, 1, nil)
			tx.Commit().Done(o, "")
		}
	}
	for name, c := range map[string]struct {
		kind   workload.Kind
		record func(*history.Session)
		want   bool
	}{
		"nothing":           {workload.Append, func(*history.Session) {}, false},
		"a commit":          {workload.Append, commit(history.Committed), true},
		"a refused commit":  {workload.Process, commit(history.NotCommitted), false},
		"an unknown commit": {workload.Transfer, commit(history.Unknown), false},
		"a commit without a word": {workload.Append, func(s *history.Session) {
			s.Begin("id", history.TxID{Producer: 1, Number: 1}).Commit()
		}, false},
		"an abort": {workload.Append, func(s *history.Session) {
			s.Begin("id", history.TxID{Producer: 1, Number: 1}).Abort().Done(history.Aborted, "")
		}, false},
		"a plain record": {workload.Plain, func(s *history.Session) {
			tx := s.Plain(0)
			tx.Acked(p, tx.Send(p, 0, history.Source{}), 0)
		}, true},
		"a plain record that was only sent": {workload.Plain, func(s *history.Session) { s.Plain(0).Send(p, 0, history.Source{}) }, false},
		"a read":                            {workload.Read, func(s *history.Session) { s.Reader(history.ReadCommitted).Read(p, 0, 1, nil) }, true},
		"a reader that stands":              {workload.Read, func(s *history.Session) { s.Reader(history.ReadCommitted).Position(p, 0) }, false},
		"a fence":                           {workload.Operate, func(s *history.Session) { s.Fence("id").Done(1, 2, history.TxID{}, history.Unknown) }, true},
		"a fence without an answer":         {workload.Operate, func(s *history.Session) { s.Fence("id").Failed("DEADLINE") }, false},
	} {
		crew := heard(t, c.kind, c.record)
		if got := len(crew.waiting(time.Time{})) == 0; got != c.want {
			t.Errorf("%s gets a client of kind %s on: %v, want %v", name, c.kind, got, c.want)
		}
		if len(crew.waiting(time.Unix(0, 1000))) == 0 {
			t.Errorf("%s: what was achieved before counts as achieved since", name)
		}
	}
}

// TestCrewFails: what a process of clients says of failures is not lost, nor is
// what nobody understands.
func TestCrewFails(t *testing.T) {
	t.Parallel()
	c := heard(t, workload.Append, func(*history.Session) {})
	c.hear([]byte(`{"ended":7}`))
	if err := c.failure(); err != nil {
		t.Errorf("an end in order: %v", err)
	}
	c.hear([]byte(`{"ended":7,"error":"no reason"}`))
	c.hear([]byte(`panic: something`))
	if err := c.failure(); err == nil || err.Error() != "crew: no reason\ncrew said \"panic: something\"" {
		t.Errorf("failures: %v", err)
	}
}
