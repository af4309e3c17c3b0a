package partition

import (
	"slices"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

// nextEnlistment returns the next question that is asked.
func (c *cluster) nextEnlistment() *oncelogv1.Enlistment {
	c.t.Helper()
	select {
	case e := <-c.coord.enlisted:
		return e
	case <-time.After(patience):
		c.t.Fatal("nothing was enlisted")
		return nil
	}
}

func TestShortTransactionsAreNotEnlisted(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		n := c.leader()
		short := pstate.TxnRef{ProducerID: 9, Number: 1}
		pass(time.Second) // the look that a new leader takes is over
		c.append(n, short, pA, 0, "a")
		// The enlister has taken note of it, and waits half its delay before it looks.
		pass(50 * time.Millisecond)
		c.mark(n, short, true, pA, 1)
		long := pstate.TxnRef{ProducerID: 9, Number: 2}
		c.append(n, long, pA, 0, "b")
		c.append(n, long, pB, 0, "b")
		c.append(n, pstate.TxnRef{ProducerID: 10}, pA, 0, "idempotent")
		pass(150*time.Millisecond - 1)
		if len(c.coord.enlisted) > 0 {
			t.Error("enlisted before the delay")
		}
		pass(1)
		if len(c.coord.enlisted) != 1 {
			t.Fatalf("%d enlistments after the delay", len(c.coord.enlisted))
		}
		e := <-c.coord.enlisted
		if refOf(e.GetTxn()) != long || e.GetShardId() != testShard || e.GetOpenedAt() == 0 || !slices.Equal(e.GetPartitionIds(), []uint64{pA, pB}) {
			t.Errorf("%v", e)
		}
		// Accepted: again after the interval, as long as it is open, with its age.
		pass(3*time.Second - 1)
		if len(c.coord.enlisted) > 0 {
			t.Error("asked again before the interval")
		}
		pass(1)
		// Its age counts from the look, 100 ms before it was first enlisted.
		if e := c.nextEnlistment(); refOf(e.GetTxn()) != long || e.GetAgeMs() != 3100 {
			t.Errorf("%v", e)
		}
		c.mark(n, long, true, pA, 1, pB, 1)
		pass(10 * time.Second)
		if len(c.coord.enlisted) > 0 {
			t.Errorf("asked about an ended transaction: %v", <-c.coord.enlisted)
		}
	})
}

func TestAnswersEndTransactions(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
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
	})
}

func TestEnlistmentBacksOffWhileNobodyAnswers(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		n := c.leader()
		pass(time.Second) // the look that a new leader takes is over
		c.coord.with(func() { c.coord.down = true })
		c.append(n, pstate.TxnRef{ProducerID: 1, Number: 1}, pA, 0, "a")
		last := time.Now()
		pass(10 * time.Second)
		var pauses []int64
		c.coord.with(func() {
			for _, at := range c.coord.tried {
				pauses = append(pauses, at.Sub(last).Milliseconds())
				last = at
			}
			c.coord.down = false
		})
		if want := []int64{200, 50, 100, 200, 400, 800, 1600, 3000, 3000}; !slices.Equal(pauses, want) {
			t.Errorf("asked after %v ms each, want %v", pauses, want)
		}
		if e := c.nextEnlistment(); e.GetAgeMs() < 9000 {
			t.Errorf("%v", e)
		}
	})
}

func TestNewLeaderEnlistsEverythingThatIsOpen(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		n := c.leader()
		refs := []pstate.TxnRef{{ProducerID: 1, Number: 1}, {ProducerID: 2, Number: 7}, {ProducerID: 3, Number: 1}}
		for _, ref := range refs {
			c.append(n, ref, pA, 0, "a")
		}
		for range refs {
			c.nextEnlistment() // accepted, and remembered by this leader only
		}
		pass(time.Second)
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
	})
}

func TestProducersThatAreGoneAreForgotten(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
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
		pass(2 * time.Minute)
		c.coord.mu.Lock()
		if !slices.Equal(c.coord.asked, []uint64{1, 2, 4, 1, 4}) { // never again about 2
			t.Errorf("asked about %v", c.coord.asked)
		}
		c.coord.mu.Unlock()
		n.shard(testShard).machine.read(func(st *pstate.State) {
			for id, gone := range map[uint64]bool{1: false, 2: true, 3: false, 4: false, 50: false} {
				if p, ok := st.Producer(id); !ok || p.Gone != gone {
					t.Errorf("producer %d: %+v, %v", id, p, ok)
				}
			}
		})
	})
}

func TestRestartedNodeEnlistsWhatIsOpen(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		n := c.leader()
		ref := pstate.TxnRef{ProducerID: 1, Number: 1}
		c.append(n, ref, pA, 0, "a")
		c.nextEnlistment()
		n.stop()
		pass(time.Second)
		c.start(1, n.dir, n.disk)
		if e := c.nextEnlistment(); refOf(e.GetTxn()) != ref {
			t.Errorf("%v", e)
		}
	})
}
