package history

import (
	"cmp"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
)

// A toy cluster: logs and a coordinator in memory that do what the protocol says,
// with clients that take turns in a random order. Its histories must pass; with a
// bug planted (see plantedBugs) they must not.

type toy struct {
	rng   *rand.Rand
	rec   *Recorder
	clock int64
	bug   string
	hits  int // how often the bug had an effect

	logs      map[Partition]*toyLog
	producers map[string]*toyProducer
	ids       uint64 // producer ids handed out
	names     []Partition
	order     []*toyTx
	pending   []*toyTx // markers are due
	groups    map[string]map[Partition]int64
	replicas  []ReplicaState
	tasks     []func() (struct{}, bool)
	rules     Rules
}

type toyLog struct {
	name    Partition
	records []LogRecord
	next    map[TxID]int64 // sequence
}

type toyProducer struct {
	id    uint64
	epoch uint32
	open  *toyTx
	last  *toyTx
}

type toyTx struct {
	id      TxID
	tid     string
	outcome Outcome // Unknown while it is open
	moves   map[string][]Move
	due     []Partition // markers
	note    *Txn
}

func newToy(seed uint64, bug string) *toy {
	t := &toy{
		rng: rand.New(rand.NewPCG(seed, 77)), bug: bug, logs: make(map[Partition]*toyLog),
		producers: make(map[string]*toyProducer), groups: make(map[string]map[Partition]int64),
	}
	t.rec = NewRecorder(func() int64 { t.clock += 1000; return t.clock })
	for _, topic := range []string{"bank", "in", "level1", "level2", "plain"} {
		for i := range int32(2) {
			p := Partition{topic, i}
			t.names = append(t.names, p)
			t.logs[p] = &toyLog{name: p, next: make(map[TxID]int64)}
		}
	}
	t.rules = Rules{
		Banks: []string{"bank"}, Healed: true,
		Flows: []Flow{
			{Group: "g1", From: "in", To: "level1", Drained: true}, {Group: "g2", From: "level1", To: "level2", Drained: true},
		},
	}
	return t
}

// buggy reports whether the bug is planted and strikes now, once in n times.
func (t *toy) buggy(name string, n int) bool {
	if t.bug != name || t.rng.IntN(n) != 0 {
		return false
	}
	t.hits++
	return true
}

func (t *toy) chance(percent int) bool { return t.rng.IntN(100) < percent }

func (t *toy) partition(topic string) Partition { return Partition{topic, t.rng.Int32N(2)} }

// spawn adds a client. fn calls pause wherever others may go on, and must return
// when pause says so.
func (t *toy) spawn(fn func(pause func())) {
	next, _ := iter.Pull(func(yield func(struct{}) bool) { fn(func() { yield(struct{}{}) }) })
	t.tasks = append(t.tasks, next)
}

// run lets the clients take turns until all have ended.
func (t *toy) run() {
	for len(t.tasks) > 0 {
		i := t.rng.IntN(len(t.tasks))
		if _, ok := t.tasks[i](); !ok {
			t.tasks = slices.Delete(t.tasks, i, i+1)
		}
		t.settle(10)
		t.observe()
	}
}

// settle applies markers here and there.
func (t *toy) settle(percent int) {
	t.pending = slices.DeleteFunc(t.pending, func(tx *toyTx) bool {
		tx.due = slices.DeleteFunc(tx.due, func(p Partition) bool {
			hit := t.chance(percent)
			if hit {
				t.mark(tx, p)
			}
			return hit
		})
		return len(tx.due) == 0
	})
}

// mark applies a marker to one partition.
func (t *toy) mark(tx *toyTx, p Partition) {
	if t.buggy("a marker is never sent", 100) {
		return
	}
	status := StatusHidden
	if tx.outcome == Committed {
		status = StatusVisible
	}
	log := t.logs[p]
	for i := range log.records {
		r := &log.records[i]
		if r.TxID != tx.id || r.Status != StatusOpen {
			continue
		}
		r.Status = status
		switch {
		case status == StatusHidden && t.buggy("aborted record shown", 5):
			r.Status = StatusVisible
		case status == StatusVisible && t.buggy("committed record hidden", 5):
			r.Status = StatusHidden
		}
	}
}

func (l *toyLog) end() int64 {
	if n := len(l.records); n > 0 {
		return l.records[n-1].Offset + 1
	}
	return 0
}

func (l *toyLog) stable() int64 {
	for _, r := range l.records {
		if r.Status == StatusOpen {
			return r.Offset
		}
	}
	return l.end()
}

// append stores a record and returns its offset.
func (t *toy) append(p Partition, id TxID, v Value) int64 {
	log := t.logs[p]
	r := LogRecord{Offset: log.end(), TxID: id, Sequence: log.next[id], Value: v}
	if id.Number == 0 {
		r.Status = StatusVisible
	}
	log.next[id]++
	if t.buggy("acknowledged before it is durable", 40) {
		return r.Offset
	}
	log.records = append(log.records, r)
	if t.buggy("appended twice", 40) {
		again := r
		again.Offset, again.Sequence = r.Offset+1, log.next[id]
		log.next[id]++
		log.records = append(log.records, again)
	}
	if n := len(log.records); n > 1 && log.records[n-2].TxID == id && t.buggy("two records in the wrong order", 10) {
		a, b := &log.records[n-2], &log.records[n-1]
		a.Value, b.Value = b.Value, a.Value
	}
	return r.Offset
}

// init raises the epoch of an id.
func (t *toy) init(tid string) (*toyProducer, *toyTx) {
	p := t.producers[tid]
	if p == nil {
		t.ids++
		p = &toyProducer{id: t.ids}
		t.producers[tid] = p
	} else if !t.buggy("epoch handed out twice", 5) {
		p.epoch++
	}
	if p.open != nil && !t.buggy("nothing is fenced", 3) {
		t.decide(p.open, false)
	}
	p.open = nil
	return p, p.last
}

// decide ends a transaction, once, and returns how it ended.
func (t *toy) decide(tx *toyTx, commit bool) Outcome {
	if tx.outcome != Unknown {
		if commit == (tx.outcome == Committed) || !t.buggy("the last word counts", 1) {
			return tx.outcome
		}
		tx.outcome = Unknown
	}
	p := t.producers[tx.tid]
	fenced := tx.id.Epoch != p.epoch && t.bug != "nothing is fenced" && t.bug != "the last word counts"
	switch {
	case commit && !fenced && t.offsetsFit(tx):
		tx.outcome = Committed
		for _, g := range slices.Sorted(maps.Keys(tx.moves)) {
			t.move(g, tx.moves[g])
		}
	default:
		tx.outcome = Aborted
		if len(tx.moves) > 0 && t.buggy("offsets moved by an abort", 2) {
			for g, ms := range tx.moves {
				t.move(g, ms)
			}
		}
	}
	p.last = tx
	t.pending = append(t.pending, tx)
	if p.open == tx {
		p.open = nil
	}
	return tx.outcome
}

// expire aborts a transaction that is open.
func (t *toy) expire(tx *toyTx) {
	if tx.outcome == Unknown && !t.buggy("nobody times out", 1) {
		t.decide(tx, false)
	}
}

// offsetsFit is the group's check.
func (t *toy) offsetsFit(tx *toyTx) bool {
	for g, ms := range tx.moves {
		for _, m := range ms {
			if t.groups[g][m.Partition] != m.From && !t.buggy("a group that does not check", 1) {
				return false
			}
		}
	}
	return true
}

func (t *toy) move(group string, ms []Move) {
	if t.groups[group] == nil {
		t.groups[group] = make(map[Partition]int64)
	}
	if t.buggy("offsets left behind", 10) {
		return
	}
	for _, m := range ms {
		t.groups[group][m.Partition] = m.Next
	}
}

// read returns what a reader is shown from an offset on.
func (t *toy) read(p Partition, isolation Isolation, from int64) (next int64, seen []Seen) {
	log := t.logs[p]
	limit := log.end()
	if isolation == ReadCommitted && !t.buggy("the LSO is ignored", 1) {
		limit = log.stable()
	}
	next = min(limit, from+1+t.rng.Int64N(4))
	for _, r := range log.records {
		hidden := isolation == ReadCommitted && r.Status == StatusHidden
		if r.Offset < from || r.Offset >= next || hidden {
			continue
		}
		if t.buggy("a record left out", 40) {
			continue
		}
		seen = append(seen, Seen{r.Offset, r.Value})
	}
	if t.buggy("position goes back", 40) && from > 0 {
		next--
	}
	return max(next, from), seen
}

// observe tells ends and states of two replicas.
func (t *toy) observe() {
	p := t.names[t.rng.IntN(len(t.logs))]
	log := t.logs[p]
	ends := Ends{Stable: log.stable(), End: log.end()}
	if t.buggy("the LSO goes back", 20) {
		ends.Stable = max(ends.Stable-2, 0)
	}
	t.rec.Ends("node 1", p, ends)
	hash := uint64(ends.Stable)<<32 | uint64(ends.End)
	at := uint64(len(t.replicas))
	t.replicas = append(t.replicas, ReplicaState{"shard", "node 1", at, hash})
	if t.buggy("replicas differ", 20) {
		hash++
	}
	t.replicas = append(t.replicas, ReplicaState{"shard", "node 2", at, hash})
}

// history heals everything and returns what happened.
func (t *toy) history() *History {
	for _, tx := range t.order {
		t.expire(tx)
	}
	t.settle(100)
	a := &Audit{Replicas: t.replicas, Offsets: []GroupPosition{}}
	for _, p := range t.names {
		log := t.logs[p]
		a.Logs = append(a.Logs, Log{Partition: p, Ends: Ends{Stable: log.stable(), End: log.end()}, Records: log.records})
	}
	for i, tx := range t.order {
		o := tx.outcome
		switch {
		case o == Unknown:
			o = Open
		case i%3 == 0:
			o = Forgotten // the coordinator remembers a few only
		}
		a.Outcomes = append(a.Outcomes, TxOutcome{tx.id, o})
	}
	for g, positions := range t.groups {
		for p, at := range positions {
			a.Offsets = append(a.Offsets, GroupPosition{g, p, at})
		}
	}
	slices.SortFunc(a.Offsets, func(a, b GroupPosition) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), a.Partition.Compare(b.Partition))
	})
	return &History{Labels: map[string]string{"bug": t.bug}, Rules: t.rules, Events: t.rec.Events(), Audit: a}
}
