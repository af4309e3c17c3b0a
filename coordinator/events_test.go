package coordinator

import (
	"fmt"
	"testing"

	"github.com/oncelog/oncelog/coordinator/txn"
)

// addEntries adds an entry with so many events for each index.
func addEntries(l *eventLog, first uint64, events ...int) {
	for i, n := range events {
		l.begin(first + uint64(i))
		for j := range n {
			l.add(txn.Event{Kind: txn.EventDecided, Ref: txn.Ref{Number: uint64(j)}})
		}
		l.end()
	}
}

// readAll describes what a reader gets.
func readAll(l *eventLog, after uint64, limit int) string {
	events, upTo, missed := l.read(after, limit)
	text := ""
	for _, e := range events {
		text += fmt.Sprintf("%d.%d ", e.index, e.Ref.Number)
	}
	return fmt.Sprintf("%sto %d missed %v", text, upTo, missed)
}

func TestEventLog(t *testing.T) {
	t.Parallel()
	l := newEventLog(4)
	wantEqual(t, "empty", readAll(l, 0, 10), "to 0 missed false")
	addEntries(l, 1, 1, 0, 2)
	wantEqual(t, "all", readAll(l, 0, 10), "1.0 3.0 3.1 to 3 missed false")
	wantEqual(t, "the later ones", readAll(l, 1, 10), "3.0 3.1 to 3 missed false")
	wantEqual(t, "a page ends with an index", readAll(l, 0, 1), "1.0 to 1 missed false")
	wantEqual(t, "and has all of it", readAll(l, 1, 1), "3.0 3.1 to 3 missed false")
	wantEqual(t, "nothing newer", readAll(l, 3, 10), "to 3 missed false")
	addEntries(l, 4, 3)
	wantEqual(t, "who fell behind is told", readAll(l, 1, 10), "3.1 4.0 4.1 4.2 to 4 missed true")
	wantEqual(t, "who did not is not", readAll(l, 3, 10), "4.0 4.1 4.2 to 4 missed false")
	l.begin(5)
	l.add(txn.Event{Kind: txn.EventBegun})
	wantEqual(t, "an entry is shown as a whole", readAll(l, 4, 10), "to 4 missed false")
	l.end()
	wantEqual(t, "when it is applied", readAll(l, 4, 10), "5.0 to 5 missed false")
	l.skip(9)
	wantEqual(t, "after a snapshot", readAll(l, 5, 10), "to 9 missed true")
	addEntries(l, 10, 1)
	wantEqual(t, "and on", readAll(l, 9, 10), "10.0 to 10 missed false")
}

// TestEventLogWakes: who waits is woken by entries with events only.
func TestEventLogWakes(t *testing.T) {
	t.Parallel()
	l := newEventLog(4)
	changed := l.changed.next()
	addEntries(l, 1, 0)
	select {
	case <-changed:
		t.Error("woken for nothing")
	default:
	}
	addEntries(l, 2, 1)
	select {
	case <-changed:
	default:
		t.Error("not woken")
	}
}
