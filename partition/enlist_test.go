package partition

import (
	"slices"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

// nextEnlistment moves the clock from one time that the enlister waits for to
// the next, and returns the next question it asks.
func (c *cluster) nextEnlistment() *oncelogv1.Enlistment {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		asked := c.clock.advanceToNext(10 * time.Second)
		select {
		case e := <-c.coord.enlisted:
			return e
		case <-asked:
		case <-deadline:
			c.t.Fatal("nothing was enlisted")
		}
	}
}

func TestShortTransactionsAreNotEnlisted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, newFakeClock())
	n := c.leader()
	short := pstate.TxnRef{ProducerID: 9, Number: 1}
	c.append(n, short, pA, 0, "a")
	// The enlister has taken note of the first, and waits half its delay before
	// it looks.
	c.clock.awaitTimer(t, 10*time.Millisecond)
	c.mark(n, short, true, pA, 1)
	long := pstate.TxnRef{ProducerID: 9, Number: 2}
	c.append(n, long, pA, 0, "b")
	c.append(n, long, pB, 0, "b")
	c.append(n, pstate.TxnRef{ProducerID: 10}, pA, 0, "idempotent")
	c.clock.advance(10 * time.Millisecond)
	c.clock.awaitTimer(t, 10*time.Millisecond)
	if len(c.coord.enlisted) > 0 {
		t.Error("enlisted before the delay")
	}
	c.clock.advance(10 * time.Millisecond)
	e := c.nextEnlistment()
	if refOf(e.GetTxn()) != long || e.GetShardId() != testShard || e.GetOpenedAt() == 0 || !slices.Equal(e.GetPartitionIds(), []uint64{pA, pB}) {
		t.Errorf("%v", e)
	}
	// Accepted: again after the interval, as long as it is open, with its age.
	c.clock.awaitTimer(t, 3*time.Second)
	c.clock.advance(3*time.Second - time.Millisecond)
	if len(c.coord.enlisted) > 0 {
		t.Error("asked again before the interval")
	}
	c.clock.advance(time.Millisecond)
	if e := c.nextEnlistment(); refOf(e.GetTxn()) != long || e.GetAgeMs() < 3000 || e.GetAgeMs() > 3050 {
		t.Errorf("%v", e)
	}
	c.clock.awaitTimer(t, 3*time.Second)
	c.mark(n, long, true, pA, 1, pB, 1)
	c.clock.advance(3 * time.Second)
	c.clock.awaitTimer(t, time.Hour) // nothing is left to ask
	if len(c.coord.enlisted) > 0 {
		t.Errorf("asked about an ended transaction: %v", <-c.coord.enlisted)
	}
}

func TestAnswersEndTransactions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, newFakeClock())
	n := c.leader()
	decided := pstate.TxnRef{ProducerID: 1, Number: 1}
	stray := pstate.TxnRef{ProducerID: 2, Epoch: 1, Number: 1}
	forged := pstate.TxnRef{ProducerID: 3, Epoch: 9, Number: 1}
	other := pstate.TxnRef{ProducerID: 4, Number: 1}
	fence := uint32(5)
	c.coord.with(func() {
		c.coord.enlist = func(e *oncelogv1.Enlistment) *oncelogv1.EnlistAnswer {
			switch e.GetTxn().GetProducerId() {
			case 1:
				return &oncelogv1.EnlistAnswer{Verdict: oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED, Marker: &oncelogv1.Marker{
					Txn: e.GetTxn(), Commit: true, Progress: []*oncelogv1.MarkerProgress{{PartitionId: pA, NextSequence: 1}},
				}}
			case 2:
				return &oncelogv1.EnlistAnswer{Verdict: oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY, Fence: &fence}
			case 3:
				return &oncelogv1.EnlistAnswer{Verdict: oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY, Invalid: true}
			default: // a decision about another transaction is not carried out
				return &oncelogv1.EnlistAnswer{Verdict: oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED, Marker: &oncelogv1.Marker{Txn: protoRef(decided)}}
			}
		}
	})
	f := c.follow(n, pA, 0, committed)
	c.append(n, decided, pA, 0, "yes", "uncovered")
	c.append(n, stray, pA, 0, "stray")
	c.append(n, forged, pA, 0, "forged")
	for range 3 {
		c.nextEnlistment()
	}
	equal(t, "after the answers", f.until(4), "0=yes")
	if _, err := n.client.Append(c.ctx(), appendRequest(pstate.TxnRef{ProducerID: 2, Epoch: 4, Number: 9}, pA, 0, "old")); code(err) != oncelogv1.ErrorCode_ERROR_CODE_FENCED {
		t.Errorf("the fence of a stray: %v", err)
	}
	// A forged epoch leaves nothing behind that could lock the real one out.
	c.append(n, pstate.TxnRef{ProducerID: 3, Epoch: 0, Number: 1}, pB, 0, "real")
	c.append(n, other, pA, 0, "waits")
	for range 20 {
		if e := c.nextEnlistment(); refOf(e.GetTxn()) == other {
			break
		}
	}
	equal(t, "another's decision", c.read(n, pA, 4, committed))
}

func TestEnlistmentBacksOffWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, newFakeClock())
	n := c.leader()
	c.coord.with(func() { c.coord.down = true })
	c.append(n, pstate.TxnRef{ProducerID: 1, Number: 1}, pA, 0, "a")
	c.clock.awaitTimer(t, 10*time.Millisecond)
	c.clock.advance(10 * time.Millisecond)
	c.clock.awaitTimer(t, 10*time.Millisecond)
	c.clock.advance(10 * time.Millisecond)
	for _, ms := range []int{50, 100, 200, 400, 800, 1600, 3000, 3000} {
		d := time.Duration(ms) * time.Millisecond
		c.clock.awaitTimer(t, d)
		c.clock.advance(d)
	}
	c.clock.awaitTimer(t, 3*time.Second)
	c.coord.with(func() { c.coord.down = false })
	c.clock.advance(3 * time.Second)
	if e := c.nextEnlistment(); e.GetAgeMs() < 9000 {
		t.Errorf("%v", e)
	}
}

func TestNewLeaderEnlistsEverythingThatIsOpen(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, newFakeClock())
	n := c.leader()
	refs := []pstate.TxnRef{{ProducerID: 1, Number: 1}, {ProducerID: 2, Number: 7}, {ProducerID: 3, Number: 1}}
	for _, ref := range refs {
		c.append(n, ref, pA, 0, "a")
	}
	for range refs {
		c.nextEnlistment() // accepted, and remembered by this leader only
	}
	c.clock.advance(time.Second)
	c.append(n, pstate.TxnRef{ProducerID: 4}, pB, 0, "now the log has seen a second pass")
	c.mark(n, refs[2], false)
	n.stop()
	delete(c.nodes, n.cfg.NodeID)
	c.coord.with(func() { delete(c.coord.reports, n.cfg.NodeID) })
	next := c.leader()
	for len(c.coord.enlisted) > 0 {
		<-c.coord.enlisted
	}
	var seen []uint64
	for len(seen) < 2 {
		e := c.nextEnlistment()
		if e.GetAgeMs() < 1000 {
			t.Errorf("the age is that of the transaction, not of the leader: %v", e)
		}
		if id := e.GetTxn().GetProducerId(); !slices.Contains(seen, id) {
			seen = append(seen, id)
		}
	}
	slices.Sort(seen)
	if !slices.Equal(seen, []uint64{1, 2}) {
		t.Errorf("enlisted %v", seen)
	}
	equal(t, "the log survived", c.read(next, pA, 0, uncommitted), "0=a", "1=a", "2=a")
}

func TestProducersThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, newFakeClock())
	n := c.leader()
	for id := range uint64(4) {
		ref := pstate.TxnRef{ProducerID: id + 1, Number: 1}
		c.append(n, ref, pA, 0, "a")
		if id != 2 {
			c.mark(n, ref, true, pA, 1)
		}
	}
	c.append(n, pstate.TxnRef{ProducerID: 50}, pA, 0, "idempotent only")
	c.coord.with(func() { c.coord.gone = []uint64{2, 3, 50} }) // 3 is open, 50 was not asked about
	c.clock.advance(time.Minute)
	c.coord.await(t, "a question about producers", func() bool { return len(c.coord.asked) > 0 })
	c.coord.mu.Lock()
	if !slices.Equal(c.coord.asked, []uint64{1, 2, 4}) {
		t.Errorf("asked about %v", c.coord.asked)
	}
	c.coord.mu.Unlock()
	c.clock.awaitTimer(t, time.Minute) // the duty is done
	n.shard(testShard).machine.read(func(st *pstate.State) {
		for id, want := range map[uint64]bool{1: true, 2: false, 3: true, 4: true, 50: true} {
			if _, ok := st.Producer(id); ok != want {
				t.Errorf("producer %d: %v, want %v", id, ok, want)
			}
		}
	})
}

func TestRestartedNodeEnlistsWhatIsOpen(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, newFakeClock())
	n := c.leader()
	ref := pstate.TxnRef{ProducerID: 1, Number: 1}
	c.append(n, ref, pA, 0, "a")
	c.nextEnlistment()
	n.stop()
	c.clock.advance(time.Second)
	c.start(1, n.dir, n.disk)
	if e := c.nextEnlistment(); refOf(e.GetTxn()) != ref {
		t.Errorf("%v", e)
	}
}
