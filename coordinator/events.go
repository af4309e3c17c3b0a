package coordinator

import (
	"sync"

	"github.com/oncelog/oncelog/coordinator/txn"
)

// keptEvents is how many events a coordinator keeps in memory, as the contract says.
const keptEvents = 16_384

// eventLog keeps the last events of transactions: a ring that everybody who watches
// reads at their own pace, so that no reader needs a buffer of its own and none can
// hold up the replica that writes it. Every replica has one, filled by what it
// applies; it is not part of the state, and an event has the same index everywhere.
type eventLog struct {
	mu   sync.Mutex
	ring []indexedEvent // grows to its limit
	kept int
	next int // where the next one goes, once the ring is full
	// lost is the highest index of which some event may not be here.
	lost uint64
	// told is the index up to which everything has been added.
	told    uint64
	applied uint64 // index of the entry that is being applied
	fresh   bool   // it had events
	changed *notifier
}

// indexedEvent is an event with the index of its log entry.
type indexedEvent struct {
	index uint64
	txn.Event
}

func newEventLog(kept int) *eventLog {
	return &eventLog{kept: kept, changed: newNotifier()}
}

// begin says that what is added next comes with the entry at an index.
func (l *eventLog) begin(index uint64) { l.applied, l.fresh = index, false }

// add takes an event of the entry; see [txn.Machine.Observe].
func (l *eventLog) add(e txn.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = true
	if len(l.ring) < l.kept {
		l.ring = append(l.ring, indexedEvent{l.applied, e})
		return
	}
	l.lost = l.ring[l.next].index
	l.ring[l.next] = indexedEvent{l.applied, e}
	l.next = (l.next + 1) % len(l.ring)
}

// end says that the entry is applied: from now on its events are shown, all at once.
func (l *eventLog) end() {
	l.mu.Lock()
	l.told = l.applied
	l.mu.Unlock()
	if l.fresh {
		l.changed.signal()
	}
}

// skip says that the state as of an index took the place of this one's.
func (l *eventLog) skip(index uint64) {
	l.mu.Lock()
	l.ring, l.next, l.lost, l.told, l.applied = nil, 0, index, index, index
	l.mu.Unlock()
	l.changed.signal()
}

// read returns the events above an index, about limit at most but always all of an
// index, the index up to which these are all, and whether some are missing.
func (l *eventLog) read(after uint64, limit int) (events []indexedEvent, upTo uint64, missed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := l.firstAbove(after); i < len(l.ring); i++ {
		e := l.at(i)
		if e.index > l.told {
			break
		}
		if len(events) >= limit && e.index != events[len(events)-1].index {
			return events, events[len(events)-1].index, after < l.lost
		}
		events = append(events, e)
	}
	return events, max(l.told, after), after < l.lost
}

// at returns the i-th oldest event.
func (l *eventLog) at(i int) indexedEvent { return l.ring[(l.next+i)%len(l.ring)] }

// firstAbove returns the position of the oldest event above an index.
func (l *eventLog) firstAbove(after uint64) int {
	low, high := 0, len(l.ring)
	for low < high {
		if mid := (low + high) / 2; l.at(mid).index <= after {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// position is the end of what has been told: where who wants only news begins.
func (l *eventLog) position() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}
