package chaos

import (
	"testing"

	"github.com/oncelog/oncelog/cmd/internal/history"
)

// clock is the one clock of a machine.
type clock struct{ now int64 }

func (c *clock) tick() int64 { c.now++; return c.now }

// TestMerge: two processes with recorders of their own write to one partition,
// and read what the other has written.
func TestMerge(t *testing.T) {
	c := &clock{}
	recorders := []*history.Recorder{history.NewRecorder(c.tick), history.NewRecorder(c.tick)}
	p := history.Partition{Topic: "t", Index: 0}
	var log []history.LogRecord
	write := func(s *history.Session, id history.TxID) {
		tx := s.Begin("id", id)
		v := tx.Send(p, 0, history.Source{})
		call := tx.Commit()
		call.Done(history.Committed, "")
		tx.Acked(p, v, int64(len(log)))
		log = append(log, history.LogRecord{Offset: int64(len(log)), TxID: id, Value: v, Status: history.StatusVisible})
	}
	a, b := recorders[0].Session(1), recorders[1].Session(2)
	for n := range uint64(3) {
		write(b, history.TxID{Producer: 2, Number: n + 1})
		write(a, history.TxID{Producer: 1, Number: n + 1})
	}
	for _, s := range []*history.Session{a, b} {
		var seen []history.Seen
		for _, r := range log {
			seen = append(seen, history.Seen{Offset: r.Offset, Value: r.Value})
		}
		r := s.Reader(history.ReadCommitted)
		r.Position(p, 0)
		r.Read(p, 0, int64(len(log)), seen)
	}
	check := func(log []history.LogRecord) history.Report {
		events, m := merge([]journal{{"a", recorders[0].Events()}, {"b", recorders[1].Events()}})
		audit := &history.Audit{Logs: []history.Log{{
			Partition: p, Records: append([]history.LogRecord(nil), log...),
			Ends: history.Ends{Stable: int64(len(log)), End: int64(len(log))},
		}}}
		m.audit(audit)
		return history.Check(&history.History{Rules: history.Rules{Healed: true}, Events: events, Audit: audit})
	}
	report := check(log)
	for _, v := range report.Violations {
		t.Errorf("a good history: %v", v)
	}
	if s := report.Stats; s.Committed != 6 || s.ReadRecords != 12 || s.Visible != 6 {
		t.Errorf("counted %+v", s)
	}
	// The records of both processes' first transactions have the same numbers in
	// their recorders: they must not be taken for each other's.
	swapped := append([]history.LogRecord(nil), log...)
	swapped[0].Value, swapped[1].Value = swapped[1].Value, swapped[0].Value
	if report := check(swapped); len(report.Violations) == 0 {
		t.Error("swapped records are not noticed")
	}
	forged := append([]history.LogRecord(nil), log...)
	forged[0].Value.Client = 9
	if report := check(forged); len(report.Violations) == 0 {
		t.Error("a record that nobody wrote is not noticed")
	}
}
