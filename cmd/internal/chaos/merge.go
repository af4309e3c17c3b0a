package chaos

import (
	"cmp"
	"slices"

	"github.com/oncelog/oncelog/cmd/internal/history"
)

// journal is what one process has recorded. Every recorder numbers transactions,
// calls and readers from 1; clients have numbers that no other process uses.
type journal struct {
	name   string
	events []history.Event
}

// merger makes one history of several journals: events in the order of their
// times, which all processes of a machine take from one clock, and numbers that
// are unique and without gaps.
type merger struct {
	owner   map[uint32]int   // journal of a client
	numbers []journalNumbers // by journal
	calls   uint64
	readers uint64
	txns    uint64
}

// journalNumbers are the new numbers by the old ones.
type journalNumbers struct{ txns, calls, readers map[uint64]uint64 }

// merge returns the events of all journals.
func merge(journals []journal) ([]history.Event, *merger) {
	type located struct {
		journal int
		event   *history.Event
	}
	var all []located
	m := &merger{owner: make(map[uint32]int)}
	for i := range journals {
		m.numbers = append(m.numbers, journalNumbers{
			txns: make(map[uint64]uint64), calls: make(map[uint64]uint64), readers: make(map[uint64]uint64),
		})
		for k := range journals[i].events {
			e := &journals[i].events[k]
			all = append(all, located{i, e})
			if e.Client != 0 {
				m.owner[e.Client] = i
			}
		}
	}
	slices.SortStableFunc(all, func(a, b located) int { return cmp.Compare(a.event.Time, b.event.Time) })
	for _, l := range all {
		if l.event.Kind == history.KindBegin {
			renumber(m.numbers[l.journal].txns, &m.txns, l.event.Txn)
		}
	}
	out := make([]history.Event, len(all))
	for i, l := range all {
		out[i] = m.event(l.journal, l.event)
	}
	return out, m
}

// renumber returns the new number of an old one, the next if it has none.
func renumber(numbers map[uint64]uint64, last *uint64, old uint64) uint64 {
	if old == 0 {
		return 0
	}
	n, ok := numbers[old]
	if !ok {
		*last++
		n = *last
		numbers[old] = n
	}
	return n
}

// event returns an event of a journal with its new numbers.
func (m *merger) event(journal int, in *history.Event) history.Event {
	e, n := *in, &m.numbers[journal]
	e.Call = renumber(n.calls, &m.calls, e.Call)
	e.Reader = renumber(n.readers, &m.readers, e.Reader)
	e.Txn = n.txns[e.Txn]
	switch e.Kind {
	case history.KindSend, history.KindAck, history.KindRefuse:
		e.Value.Txn = n.txns[e.Value.Txn]
	default:
	}
	if e.Read != nil {
		read := *e.Read
		read.Seen = slices.Clone(read.Seen)
		for i := range read.Seen {
			read.Seen[i].Value = m.value(read.Seen[i].Value)
		}
		e.Read = &read
	}
	return e
}

// value returns a value that was read, from whoever wrote it. One that nobody
// noted gets a number that nobody has, for the checkers to wonder about.
func (m *merger) value(v history.Value) history.Value {
	if owner, ok := m.owner[v.Client]; ok {
		if n, ok := m.numbers[owner].txns[v.Txn]; ok {
			v.Txn = n
			return v
		}
	}
	v.Txn += m.txns
	return v
}

// audit renumbers the values in the final logs.
func (m *merger) audit(a *history.Audit) {
	for i := range a.Logs {
		for k := range a.Logs[i].Records {
			r := &a.Logs[i].Records[k]
			r.Value = m.value(r.Value)
		}
	}
}
