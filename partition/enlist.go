package partition

import (
	"container/heap"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

const (
	// firstEnlistRetry is the pause after the first enlistment of a transaction
	// that failed; it doubles up to Config.EnlistInterval.
	firstEnlistRetry = 50 * time.Millisecond
	// maxEnlistPartitions bounds the partition ids in one request: 10 bytes
	// each at most.
	maxEnlistPartitions = 1 << 19
)

// enlister tells the coordinator of every transaction that is open in a shard
// this node leads, until it has an outcome: nobody may hang (protocol, section
// 5). What it remembers is only when to ask next; which transactions are open
// it reads off the state, again in full whenever this node begins to lead.
//
// It belongs to one task, and so does everything in it but wake.
type enlister struct {
	n    *Node
	wake chan struct{} // a transaction was opened, or a leader changed

	led    map[uint64]*ledShard
	queue  enlistQueue
	scanAt time.Time // when to look for new ones; zero: nothing is known to be new
	fresh  uint64    // breaks ties in the queue: first come, first asked
}

// ledShard is a term in which this node leads a shard.
type ledShard struct {
	term uint64
	last uint64 // highest OpenedAt that is in the queue
}

// enlistItem is an open transaction and when to ask about it.
type enlistItem struct {
	shard    *shard
	term     uint64
	ref      pstate.TxnRef
	openedAt uint64
	// age is how old it was, by log stamps, when it was seen here at seen.
	age   time.Duration
	seen  time.Time
	due   time.Time
	retry time.Duration // pause before the next retry
	order uint64
	parts []uint64 // filled in when it is due
}

func newEnlister(n *Node) *enlister {
	return &enlister{n: n, wake: make(chan struct{}, 1), led: map[uint64]*ledShard{}}
}

// run works until the node closes.
//
// New transactions are looked for half an EnlistDelay after the first of them,
// and what is still open another half later is enlisted: the many that are
// short cost one look-up each and no timer.
func (e *enlister) run() {
	half := e.n.cfg.EnlistDelay / 2
	for e.n.ctx.Err() == nil {
		now := e.n.run.Now()
		if !e.scanAt.IsZero() && !now.Before(e.scanAt) {
			e.scanAt = time.Time{}
			e.scan(now, half)
		}
		batch := e.takeDue(now)
		e.n.counters.enlistQueue.Store(int64(len(e.queue) + len(batch)))
		if len(batch) > 0 {
			e.ask(batch)
			continue
		}
		if e.n.run.WaitFor(e.untilNext(now), e.wake, e.n.ctx.Done()) == 0 && e.scanAt.IsZero() {
			e.scanAt = e.n.run.Now().Add(half)
		}
	}
}

// untilNext returns how long there is nothing to do.
func (e *enlister) untilNext(now time.Time) time.Duration {
	next := now.Add(time.Hour)
	if !e.scanAt.IsZero() {
		next = e.scanAt
	}
	if len(e.queue) > 0 && e.queue[0].due.Before(next) {
		next = e.queue[0].due
	}
	return max(next.Sub(now), 0)
}

// scan queues the transactions that were opened since the last look, or, in a
// new term, all.
func (e *enlister) scan(now time.Time, delay time.Duration) {
	for _, s := range e.n.allShards() {
		lead := s.group.Leadership()
		if !lead.Ready {
			delete(e.led, s.id)
			continue
		}
		led := e.led[s.id]
		takeover := led == nil || led.term != lead.Term
		if takeover {
			led = &ledShard{term: lead.Term}
			e.led[s.id] = led
		}
		s.machine.read(func(st *pstate.State) {
			for open := range st.OpenSince(led.last) {
				it := &enlistItem{
					shard: s, term: led.term, ref: open.Ref, openedAt: open.OpenedAt,
					seen: now, due: now.Add(delay), retry: firstEnlistRetry,
				}
				if takeover { // log stamps up to here, this clock from here on
					it.age = time.Duration(max(st.Now()-open.Opened, 0)) * time.Millisecond
				}
				led.last = open.OpenedAt
				e.push(it)
			}
		})
	}
}

func (e *enlister) push(it *enlistItem) {
	e.fresh++
	it.order = e.fresh
	heap.Push(&e.queue, it)
}

// again queues an item after a failure.
func (e *enlister) again(it *enlistItem, now time.Time) {
	it.due = now.Add(it.retry)
	it.retry = min(2*it.retry, e.n.cfg.EnlistInterval)
	e.push(it)
}

// takeDue takes what is due and still open here, up to one request.
func (e *enlister) takeDue(now time.Time) []*enlistItem {
	var batch []*enlistItem
	partitions := 0
	for len(e.queue) > 0 && !e.queue[0].due.After(now) &&
		len(batch) < MaxListElements && partitions < maxEnlistPartitions {
		it := heap.Pop(&e.queue).(*enlistItem)
		if !it.stillOpen() {
			continue
		}
		partitions += len(it.parts)
		batch = append(batch, it)
	}
	return batch
}

// stillOpen looks whether the leader still owes the question, and fills in the
// partitions. A transaction that ended, or another leader, ends the item.
func (it *enlistItem) stillOpen() bool {
	if lead := it.shard.group.Leadership(); !lead.Ready || lead.Term != it.term {
		return false
	}
	found := false
	it.shard.machine.read(func(st *pstate.State) {
		open, outcome, _, ok := st.Find(it.ref)
		if !ok || outcome != pstate.OutcomeNone || open.OpenedAt != it.openedAt {
			return
		}
		found = true
		it.parts = it.parts[:0]
		for _, p := range open.Parts {
			it.parts = append(it.parts, p.Partition)
		}
	})
	return found
}

// ask enlists a batch and acts on the answers.
func (e *enlister) ask(batch []*enlistItem) {
	ctx, cancel := e.n.run.WithTimeout(e.n.ctx, e.n.cfg.CallTimeout)
	defer cancel()
	now := e.n.run.Now()
	req := &oncelogv1.EnlistRequest{NodeId: e.n.cfg.NodeID}
	for _, it := range batch {
		req.Enlistments = append(req.Enlistments, &oncelogv1.Enlistment{
			Txn: protoRef(it.ref), ShardId: it.shard.id, OpenedAt: it.openedAt, PartitionIds: it.parts,
			AgeMs: max((it.age + now.Sub(it.seen)).Milliseconds(), 0),
		})
	}
	resp, err := e.n.cfg.Coordinator.Enlist(ctx, req)
	now = e.n.run.Now()
	if err != nil || len(resp.GetAnswers()) != len(batch) {
		e.n.counters.enlistFailures.Add(1)
		e.n.log.Debug("enlistment failed", "transactions", len(batch), "answers", len(resp.GetAnswers()), "error", err)
		for _, it := range batch {
			e.again(it, now)
		}
		return
	}
	e.n.counters.enlisted(resp.GetAnswers())
	outcomes := map[*shard]*pstate.EnlistAnswers{}
	var order []*shard
	for i, it := range batch {
		ans, settled := e.judge(it, resp.GetAnswers()[i])
		switch {
		case ans != nil:
			if outcomes[it.shard] == nil {
				outcomes[it.shard] = &pstate.EnlistAnswers{At: now.UnixMilli()}
				order = append(order, it.shard)
			}
			outcomes[it.shard].List = append(outcomes[it.shard].List, *ans)
			e.again(it, now) // until the state says that it has ended
		case settled:
			it.due, it.retry = now.Add(e.n.cfg.EnlistInterval), firstEnlistRetry
			e.push(it)
		default:
			e.again(it, now)
		}
	}
	for _, s := range order {
		e.carryOut(s, *outcomes[s])
	}
}

// judge reads one answer: something to propose, accepted, or neither.
func (e *enlister) judge(it *enlistItem, a *oncelogv1.EnlistAnswer) (ans *pstate.EnlistAnswer, accepted bool) {
	if refOf(a.GetTxn()) != it.ref || a.GetShardId() != it.shard.id || a.GetOpenedAt() != it.openedAt {
		e.n.log.Error("the coordinator answered another question", "txn", it.ref.String(), "shard", it.shard.id)
		return nil, false
	}
	out := &pstate.EnlistAnswer{Ref: it.ref, OpenedAt: it.openedAt}
	switch a.GetVerdict() {
	case oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED:
		return nil, true
	case oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED:
		m, err := markerOf(a.GetMarker())
		if err != nil || m.Ref != it.ref {
			e.n.log.Error("the coordinator's decision cannot be read", "txn", it.ref.String(), "error", failure(err))
			return nil, false
		}
		out.Verdict, out.Decision = pstate.VerdictDecided, m.Decision
	case oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY:
		out.Verdict, out.Fence = pstate.VerdictStray, a.GetFence()
		if a.GetInvalid() {
			out.Verdict, out.Fence = pstate.VerdictInvalid, 0
			e.n.log.Error("ALARM: a transaction that was never handed out", "txn", it.ref.String(), "shard", it.shard.id)
		}
	default:
		return nil, false
	}
	return out, false
}

// carryOut proposes answers. Nobody waits: the transactions are asked about
// again until the state says that they have ended.
func (e *enlister) carryOut(s *shard, a pstate.EnlistAnswers) {
	led := e.led[s.id]
	if led == nil {
		return
	}
	entries, err := splitEncode(a.List, func(list []pstate.EnlistAnswer) ([]byte, error) {
		return pstate.EncodeEnlistAnswers(nil, pstate.EnlistAnswers{At: a.At, List: list})
	})
	if err != nil {
		e.n.log.Error("answers cannot be proposed", "shard", s.id, "error", err)
		return
	}
	for _, entry := range entries {
		s.propose(led.term, entry, func(res raftstore.ProposalResult) {
			if results, ok := res.Value.([]pstate.MarkerResult); ok {
				e.n.alarm(s, results)
			}
		})
	}
}

// enlistQueue is a heap by due time.
type enlistQueue []*enlistItem

func (q enlistQueue) Len() int { return len(q) }
func (q enlistQueue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].order < q[j].order
}
func (q enlistQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *enlistQueue) Push(x any)   { *q = append(*q, x.(*enlistItem)) }
func (q *enlistQueue) Pop() any {
	old := *q
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return it
}
