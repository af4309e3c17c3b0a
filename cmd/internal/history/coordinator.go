package history

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Limits of one search for an order. Its cost is exponential in what happens at
// the same time, so a history beyond them counts as a failure: it has not been
// checked.
const (
	maxWindow  = 200     // calls
	maxUnknown = 8       // commits among them that only the logs tell of, at any later time
	maxSteps   = 500_000 // steps of the reference machine
	goodWindow = 100     // calls after which a search may end
)

// requestsKept is how many requests of InitTransactions a coordinator remembers per
// id, at least. One that is repeated after so many others is new to it.
const requestsKept = 16

// operation is a call to the coordinator about one producer.
type operation struct {
	call    uint64
	kind    Kind
	from    int // event of the call
	to      int // event of the answer, or of what shows that it can have no effect any more
	tx      int // index of the transaction; -1: none
	epoch   uint32
	outcome Outcome
	touched bool
	// previous transaction, as an Init told it; -1: none.
	previous     int
	previousWas  Outcome
	spareRaises  bool // somebody who was not told may have raised the epoch before the answer
	lenient      bool // it is also in another window: it may have had its effect there
	transactions *keyTxns
}

// keyTxns are the transactions of one producer.
type keyTxns struct {
	ids   []TxID
	index map[TxID]int
}

func (k *keyTxns) of(id TxID) int {
	i, ok := k.index[id]
	if !ok {
		i = len(k.ids)
		k.ids = append(k.ids, id)
		k.index[id] = i
	}
	return i
}

// key is all that happened to one producer id.
type key struct {
	producer uint64
	tid      string
	txns     keyTxns
	ops      []operation
}

// checkCoordinator searches, for each producer, an order of the calls that agrees
// with real time and explains every answer.
func (c *checker) checkCoordinator() {
	keys := c.coordinatorKeys()
	for _, producer := range slices.Sorted(maps.Keys(keys)) {
		k := keys[producer]
		c.report.Stats.CoordinatorCalls += len(k.ops)
		c.checkKey(k)
	}
}

// coordinatorKeys collects the calls of each producer, in the order of their
// events.
func (c *checker) coordinatorKeys() map[uint64]*key {
	keys := make(map[uint64]*key)
	for i := range c.calls {
		k := &c.calls[i]
		id := k.id
		switch k.kind {
		case KindInit, KindFence, KindAdminAbort:
			if k.outcome != Committed && k.outcome != Aborted {
				continue
			}
			id = c.h.Events[k.answer].TxID
		case KindCommit, KindAbort:
			if k.txn.plain || k.txn.empty() || c.afterCommit(k) {
				continue // nobody was asked
			}
		case KindOutcome:
		default:
			continue
		}
		if id.Producer == 0 {
			continue
		}
		key := keyOf(keys, id.Producer)
		if op, ok := c.operation(uint64(i)+1, k, id, key); ok {
			key.ops = append(key.ops, op)
		}
		if k.tid != "" {
			key.tid = k.tid
		}
	}
	for _, k := range keys {
		c.bound(k) // each by itself: the order does not matter
	}
	return keys
}

func keyOf(keys map[uint64]*key, producer uint64) *key {
	k := keys[producer]
	if k == nil {
		k = &key{producer: producer, txns: keyTxns{index: make(map[TxID]int)}}
		keys[producer] = k
	}
	return k
}

// operation makes a call one of the reference machine; false: it tells nothing.
func (c *checker) operation(number uint64, k *call, id TxID, in *key) (operation, bool) {
	op := operation{
		call: number, kind: k.kind, from: k.at, to: k.answer, tx: -1, previous: -1, epoch: id.Epoch,
		outcome: k.outcome, touched: k.touched, transactions: &in.txns,
	}
	if k.kind == KindCommit && op.outcome == Forgotten {
		op.outcome = Unknown // it had its effect long ago, or none
	}
	if op.to < 0 || op.outcome == Unknown {
		op.to = math.MaxInt
	}
	if id.Number != 0 {
		if c.byTxID[id] == nil {
			return op, false // not of this history
		}
		op.tx = in.txns.of(id)
	}
	switch k.kind {
	case KindInit, KindFence:
		if p := c.h.Events[k.answer].Previous; p != nil && c.byTxID[p.TxID] != nil {
			op.previous, op.previousWas = in.txns.of(p.TxID), p.Outcome
		}
		return op, true
	case KindCommit:
		if op.outcome == Unknown {
			// If nothing tells how it ended, nothing can contradict either end.
			op.outcome = k.txn.outcome
			return op, op.outcome == Committed
		}
		return op, true
	default:
		return op, op.outcome != Unknown && op.tx >= 0
	}
}

// bound ends operations without an answer: once somebody was told that the
// transaction is committed, or that a later one is, or that there is a newer epoch,
// a commit has had its effect or never will.
func (c *checker) bound(k *key) {
	for i := range k.ops {
		op := &k.ops[i]
		if op.to != math.MaxInt {
			continue
		}
		for j := range k.ops {
			if o := &k.ops[j]; o.to > op.from && o.closes(op) {
				op.to = min(op.to, o.to)
			}
		}
	}
	c.spareRaises(k)
}

// spareRaises notes which answers a raise of the epoch may explain that nobody was
// told of: one by a call without an answer, at any time; by a Fence while it is
// under way, of which the first attempt did it and the last was told the epoch of
// whoever had come since; or by an Init while it is under way, of which the last
// attempt did it once more, so many others after the first that it was forgotten.
func (c *checker) spareRaises(k *key) {
	unanswered := math.MaxInt // the first such call
	var raisers []*call
	for i := range c.calls {
		r := &c.calls[i]
		switch {
		case r.tid != k.tid || r.kind != KindInit && r.kind != KindFence:
		case r.outcome != Committed:
			unanswered = min(unanswered, r.at)
		default:
			raisers = append(raisers, r)
		}
	}
	for i := range k.ops {
		op := &k.ops[i]
		op.spareRaises = unanswered < op.to || slices.ContainsFunc(raisers, func(r *call) bool {
			return r.at < op.to && r.answer > op.from &&
				(r.kind == KindFence || c.h.Events[r.answer].TxID.Epoch >= op.epoch+requestsKept)
		})
	}
}

// closes reports whether the answer to o shows that op is over.
func (o *operation) closes(op *operation) bool {
	switch {
	case o.kind == KindInit || o.kind == KindFence:
		return o.epoch > op.epoch
	case o.outcome != Committed:
		return false
	case o.tx == op.tx:
		return true
	}
	return o.epoch == op.epoch && o.transactions.ids[o.tx].Number > op.transactions.ids[op.tx].Number
}

// checkKey checks the calls window by window. What an answer has settled is the
// beginning of the next window; what is under way where one ends is in both.
func (c *checker) checkKey(k *key) {
	known := settled{txns: make([]byte, len(k.txns.ids))}
	var carried []operation
	for rest := k.ops; len(rest) > 0; {
		n := window(carried, rest)
		if n == 0 {
			c.unchecked(k, rest[0], fmt.Sprintf("more than %d calls overlap", maxWindow-goodWindow))
			return
		}
		end := math.MaxInt // event at which the window ends
		if n < len(rest) {
			end = rest[n].from
		}
		ops := slices.Concat(carried, rest[:n])
		carried, rest = nil, rest[n:]
		unknown := 0
		for i := range ops {
			op := &ops[i]
			if op.to == math.MaxInt {
				unknown++
			}
			if op.to > end {
				op.lenient = true
				carried = append(carried, *op)
			}
		}
		if unknown > maxUnknown {
			c.unchecked(k, ops[0], fmt.Sprintf("%d commits that only the logs tell of, more than %d", unknown, maxUnknown))
			return
		}
		local := localize(ops)
		if !c.checkWindow(k, known.state(k, local[0].transactions), local) {
			return
		}
		for i := range ops {
			if ops[i].to <= end {
				known.settle(&ops[i])
			}
		}
	}
}

// localize renumbers the transactions of a window, so that a state is as small as
// the window, however long the history is.
func localize(ops []operation) []operation {
	txns := &keyTxns{index: make(map[TxID]int)}
	local := slices.Clone(ops)
	for i := range local {
		op := &local[i]
		if op.tx >= 0 {
			op.tx = txns.of(op.transactions.ids[op.tx])
		}
		if op.previous >= 0 {
			op.previous = txns.of(op.transactions.ids[op.previous])
		}
		op.transactions = txns
	}
	return local
}

// window returns how many of the operations to check next, together with those
// that are carried over: at least goodWindow, up to where nothing is under way, or
// else as little as possible. 0: there are too many.
func window(carried, rest []operation) int {
	if len(carried)+len(rest) <= maxWindow {
		return len(rest)
	}
	best, fewest := 0, maxWindow
	for n := goodWindow; n <= maxWindow-len(carried) && fewest > 0; n++ {
		pending := 0
		for _, ops := range [][]operation{carried, rest[:n]} {
			for i := range ops {
				if ops[i].to > rest[n].from {
					pending++
				}
			}
		}
		if pending < fewest {
			best, fewest = n, pending
		}
	}
	return best
}

func (c *checker) unchecked(k *key, op operation, why string) {
	c.violate(Violation{
		Invariant: Linearizable, Offset: -1, TxID: TxID{Producer: k.producer},
		Text: fmt.Sprintf("transactional id %q, from call %d on: not checked: %s", k.tid, op.call, why),
	})
}

// checkWindow reports the first call that cannot be explained.
func (c *checker) checkWindow(k *key, state coordinatorState, ops []operation) bool {
	ok, searched := linearizable(state, ops)
	switch {
	case ok:
		return true
	case !searched:
		c.unchecked(k, ops[0], fmt.Sprintf("no answer within %d steps", maxSteps))
		return false
	}
	// Without its last calls a history that can be explained can still be.
	low, high := 1, len(ops)
	for low < high {
		mid := (low + high) / 2
		if ok, _ := linearizable(state, ops[:mid]); ok {
			low = mid + 1
		} else {
			high = mid
		}
	}
	culprit := ops[low-1]
	v := Violation{
		Invariant: Linearizable, Offset: -1, TxID: TxID{Producer: k.producer, Epoch: culprit.epoch},
		Text: fmt.Sprintf("transactional id %q: no order of the calls explains the answers up to the last of these: %s",
			k.tid, listed(ops[:low])),
	}
	if culprit.tx >= 0 {
		v.TxID = culprit.transactions.ids[culprit.tx]
		v.Txn = c.byTxID[v.TxID].n
	}
	c.violate(v)
	return false
}

// listed names the last calls: kind, what about, the events between which it was
// under way, and the answer.
func listed(ops []operation) string {
	const most = 8
	var names []string
	for i := max(0, len(ops)-most); i < len(ops); i++ {
		op := &ops[i]
		about := fmt.Sprint("epoch ", op.epoch)
		if op.tx >= 0 {
			about = op.transactions.ids[op.tx].String()
		}
		until := "..."
		if op.to != math.MaxInt {
			until = strconv.Itoa(op.to)
		}
		names = append(names, fmt.Sprintf("call %d %v of %s [%d, %s] %v", op.call, op.kind, about, op.from, until, op.outcome))
	}
	return strings.Join(names, "; ")
}

// linearizable searches an order; searched is false if it gave up.
func linearizable(state coordinatorState, ops []operation) (ok, searched bool) {
	steps := 0
	model := porcupine.Model{
		Init: func() any { return state },
		Step: func(state, input, _ any) (bool, any) {
			if steps++; steps > maxSteps {
				return false, state
			}
			s := state.(coordinatorState)
			ok := s.step(input.(*operation))
			return ok, s
		},
		Hash: func(state any) uint64 { return state.(coordinatorState).hash() },
	}
	type moment struct {
		at    int
		ret   bool
		event porcupine.Event
	}
	var moments []moment
	for i := range ops {
		moments = append(moments,
			moment{ops[i].from, false, porcupine.Event{Kind: porcupine.CallEvent, Value: &ops[i], Id: i}},
			moment{ops[i].to, true, porcupine.Event{Kind: porcupine.ReturnEvent, Id: i}})
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	events := make([]porcupine.Event, len(moments))
	for i := range moments {
		events[i] = moments[i].event
	}
	ok = porcupine.CheckEvents(model, events)
	return ok, ok || steps <= maxSteps
}
