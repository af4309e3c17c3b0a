package history

import (
	"fmt"
	"slices"
)

// Check judges a history. It changes nothing, and returns the same report for
// the same history. What needs an audit is left out when there is none.
//
// A history that no workload can have recorded, such as one that was edited, is
// not judged: the report says so with violations named [Recorded].
func Check(h *History) Report {
	c := &checker{h: h}
	c.report.Stats.Events = len(h.Events)
	c.index()
	c.indexAudit()
	if !c.bad {
		c.resolve()
		for _, check := range []func(){
			c.checkLogs, c.checkRecords, c.checkOutcomes, c.checkSends, c.checkReads, c.checkEnds, c.checkIdentities,
			c.checkOffsets, c.checkFlows, c.checkBanks, c.checkCycles, c.checkCoordinator, c.checkReplicas,
		} {
			check()
		}
		c.count()
	}
	slices.SortFunc(c.report.Violations, Violation.compare)
	c.report.Violations = c.report.Violations[:min(len(c.report.Violations), MaxViolations)]
	return c.report
}

// keepFactor bounds what is kept before sorting, so that a broken run of millions
// of records does not fill the memory.
const keepFactor = 10

// checker is a history with what was found out about it.
type checker struct {
	h      *History
	report Report
	bad    bool // the history makes no sense

	txns       []txn             // by number - 1
	calls      []call            // by number - 1
	readers    int               // readers there are
	partitions map[Partition]int // index into parts
	parts      []part
	byTxID     map[TxID]*txn
	answers    map[TxID][]answer // what the cluster said about transactions, in the order of events
	decided    map[TxID]Outcome  // the coordinator's final word
}

// txn is a transaction, or a plain stream.
type txn struct {
	n        uint64
	id       TxID
	tid      string
	plain    bool
	process  Process
	records  []record
	moves    []groupMove
	commitAt int // event of the first call of Commit; -1: there is none
	touched  bool

	outcome  Outcome // Committed, Aborted, or Unknown: the truth
	because  string  // how that is known
	resolved bool    // the client was not told

	visible, hidden, open int // records stored, by status

	scanned   int    // partition at hand, plus 1, when its log is checked
	lastIndex uint32 // of the last visible record there
}

// never reports whether the transaction surely was not committed.
func (t *txn) never() bool { return t.outcome == Aborted }

// empty reports whether there is nothing to commit: then a client does not ask
// the cluster.
func (t *txn) empty() bool {
	return len(t.moves) == 0 && !slices.ContainsFunc(t.records, func(r record) bool { return !r.refused })
}

type groupMove struct {
	group string
	part  int
	move  Move
}

// record is a record that was sent.
type record struct {
	part    int
	amount  int64
	source  Source
	sentAt  int   // event
	ackAt   int   // event of the first acknowledgement; -1: there is none
	ack     int64 // offset; -1: not known
	floor   int64 // highest offset acknowledged in the partition before it was sent; -1: none
	refused bool

	stored  bool // the final log has it
	offset  int64
	status  Status
	counted bool // a visible copy was met
}

// part is a partition.
type part struct {
	name Partition
	log  *Log   // nil: no audit
	ref  []seen // what read_committed shows: see buildReferences
	// newest is the offset of the newest visible record of each key in the log of a
	// partition that is compacted; nil: it is not.
	newest map[string]int64
	keys   int
}

// seen is a record of a partition at an offset.
type seen struct {
	offset int64
	value  Value
}

// call is a call of a client.
type call struct {
	kind    Kind
	tid     string
	id      TxID
	txn     *txn
	process Process
	group   *Group
	at      int // event
	answer  int // event; -1: none
	outcome Outcome
	code    string
	touched bool // records of the transaction had been acknowledged
}

// answer is something that was said about a transaction.
type answer struct {
	at      int
	outcome Outcome
	who     string
}

func (c *checker) violate(v Violation) {
	c.report.Total++
	if len(c.report.Violations) < keepFactor*MaxViolations {
		c.report.Violations = append(c.report.Violations, v)
	}
}

// malformed reports an event that no workload can have recorded.
func (c *checker) malformed(at int, format string, args ...any) {
	c.bad = true
	c.violate(Violation{
		Invariant: Recorded, Offset: -1,
		Text: fmt.Sprintf("event %d (%v): ", at, c.h.Events[at].Kind) + fmt.Sprintf(format, args...),
	})
}

// about is a violation that is about a transaction.
func (t *txn) about(i Invariant, anomaly, format string, args ...any) Violation {
	return Violation{Invariant: i, Anomaly: anomaly, Text: fmt.Sprintf(format, args...), Offset: -1, Txn: t.n, TxID: t.id}
}

// in adds a place to a violation.
func (v Violation) in(p Partition, offset int64) Violation {
	v.Partition, v.Offset = p, offset
	return v
}

// partition returns the index of a partition, which it adds if it is new.
func (c *checker) partition(p Partition) int {
	i, ok := c.partitions[p]
	if !ok {
		i = len(c.parts)
		c.partitions[p] = i
		c.parts = append(c.parts, part{name: p})
	}
	return i
}

// find returns the record that a value names, and its transaction; nil if nobody
// sent such a value.
func (c *checker) find(v Value) (*txn, *record) {
	if v.Txn == 0 || v.Txn > uint64(len(c.txns)) {
		return nil, nil
	}
	t := &c.txns[v.Txn-1]
	if int64(v.Index) >= int64(len(t.records)) {
		return nil, nil
	}
	r := &t.records[v.Index]
	if v.Client != t.process.Client || v.Partition != c.parts[r.part].name.Index || v.Amount != r.amount || v.Source != r.source {
		return nil, nil
	}
	return t, r
}

// sorted returns the indexes of the partitions by their names.
func (c *checker) sorted() []int {
	order := make([]int, len(c.parts))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return c.parts[a].name.Compare(c.parts[b].name) })
	return order
}

// count fills in the statistics.
func (c *checker) count() {
	s := &c.report.Stats
	for i := range c.txns {
		t := &c.txns[i]
		if t.plain {
			s.Plain += len(t.records)
			continue
		}
		s.Transactions++
		switch t.outcome {
		case Committed:
			s.Committed++
		case Aborted:
			s.Aborted++
		default:
			s.Unresolved++
		}
		if t.resolved {
			s.Resolved++
		}
	}
}
