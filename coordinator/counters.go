package coordinator

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/oncelog/oncelog/coordinator/txn"
)

// counters count what this node did as a leader since it started. They are written
// where an answer is given or taken, never inside of the state machine: that one
// does not know which replica it is, and applies the same entries again after a
// restart.
type counters struct {
	committed   atomic.Uint64
	prepared    atomic.Uint64
	aborted     *tally[txn.Reason]
	endsRefused *tally[txn.Code]

	newIDs, takeovers atomic.Uint64 // answers to InitProducer
	fenced            atomic.Uint64 // by operators
	idsExpired        atomic.Uint64
	membersLost       atomic.Uint64

	markers       *tally[txn.MarkerAnswer] // answers of shards
	markersFailed atomic.Uint64            // requests that not every marker was answered in
}

func newCounters() counters {
	return counters{
		aborted: newTally(txn.ReasonClient, txn.ReasonTimeout, txn.ReasonFenced, txn.ReasonSuperseded, txn.ReasonAdmin),
		endsRefused: newTally(txn.CodeUnknownID, txn.CodeFenced, txn.CodeConflict, txn.CodeForgotten, txn.CodeInvalid,
			txn.CodeUnsettledSends, txn.CodeStaleMember, txn.CodeThrottled, txn.CodePreparedExists),
		markers: newTally(txn.MarkerApplied, txn.MarkerAlready, txn.MarkerMissingData, txn.MarkerConflict),
	}
}

// initialised counts an InitProducer that was carried out now.
func (c *counters) initialised(epoch uint32) {
	if epoch == 0 {
		c.newIDs.Add(1)
	} else {
		c.takeovers.Add(1)
	}
}

// tally counts by a key from a short, closed list.
type tally[K interface {
	cmp.Ordered
	fmt.Stringer
}] struct {
	mu sync.Mutex
	n  map[K]uint64
}

// newTally makes a tally in which the keys are listed from the start: a counter that
// appears with its first event has no rate for it.
func newTally[K interface {
	cmp.Ordered
	fmt.Stringer
}](keys ...K) *tally[K] {
	t := &tally[K]{n: make(map[K]uint64, len(keys))}
	for _, k := range keys {
		t.n[k] = 0
	}
	return t
}

func (t *tally[K]) add(k K, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[k] += n
}

func (t *tally[K]) sum() (sum uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.n { // a sum: the order does not matter
		sum += n
	}
	return sum
}

// byName returns the counts by the names of the keys.
func (t *tally[K]) byName() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]uint64, len(t.n))
	for k, n := range t.n { // into another map: the order does not matter
		out[k.String()] = n
	}
	return out
}
