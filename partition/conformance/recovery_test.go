package conformance

import (
	"slices"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// tells is all that the leader tells of a partition.
func (c *cluster) tells(partition uint64) string {
	c.t.Helper()
	_, all := c.look(c.leader(), partition)
	return all
}

// restart ends a node as its process would end and starts it again; with a power
// cut it loses what was not synced.
func (c *cluster) restart(m *node, powerCut bool) {
	c.t.Helper()
	m.stop()
	c.coord.with(func() { delete(c.coord.reports, m.id) })
	if powerCut {
		m.disk = m.disk.Crash(0)
	}
	c.start(m)
}

// depose cuts the leader off until another node leads, and returns both.
func (c *cluster) depose() (old, now *node) {
	c.t.Helper()
	old = c.leader()
	c.coord.with(func() { clear(c.coord.reports) })
	c.net.Isolate(raftstore.NodeID(old.id), true)
	c.until("another node leads", func() bool {
		c.coord.with(func() { delete(c.coord.reports, old.id) })
		now = c.leader()
		return now != old
	})
	return old, now
}

func TestRecovery(t *testing.T) {
	play(t, []scenario{
		{name: "LL-01 UL-21 PS-15 PS-16 PS-17 PS-18 a restarted node tells what it told before", test: func(c *cluster) {
			for round, powerCut := range []bool{false, true} {
				c.everyKind(uint64(round))
				before := c.tells(1)
				c.restart(c.leader(), powerCut)
				equal(c.t, "after the restart", c.tells(1), before)
			}
		}},
		{name: "UL-16 LL-05 TI-01 PS-14 UL-17 an aborted transaction over many entries and snapshots stays hidden", test: func(c *cluster) {
			for i := range uint64(100) {
				c.send(p1(1), 1, i, 1)
				c.send(plain, 1, i, 1)
			}
			c.end(abort(p1(1), client))
			var want []string
			for i := range uint64(100) {
				want = append(want, of(plain, i)...)
			}
			c.shows(1, want...)
			c.restart(c.leader(), true)
			c.shows(1, want...)
			equal(c.t, "ends", c.ends(c.leader(), 1), "200/200/100")
		}},
		{name: "UL-10 PS-22 PS-27 a new leader tells what the old one told", nodes: 3, test: func(c *cluster) {
			c.everyKind(0)
			before := c.tells(1)
			old, _ := c.depose()
			equal(c.t, "at the new leader", c.tells(1), before)
			c.net.Isolate(raftstore.NodeID(old.id), false)
			c.send(plain, 1, 4, 1)
		}},
		{name: "UL-01 a batch that was stored before a change of leaders is found by the next leader", nodes: 3, test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			// The answer of the leader is lost with the leader; the batch is not.
			old := c.leader()
			first := c.append(old, c.request(p1(1), 1, 1, 2))
			c.depose()
			equal(c.t, "first", first, "APPENDED 1")
			equal(c.t, "again at the new leader", c.append(c.leader(), c.request(p1(1), 1, 1, 2)), "DUPLICATE 1")
			c.end(commit(p1(1), 1, 3))
			c.shows(1, of(p1(1), 0, 1, 2)...)
		}},
		{name: "RM-06 UL-08 a deposed leader acknowledges nothing and shows nothing new", nodes: 3, test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			f := c.follow(c.leader(), 1, committed)
			old, now := c.depose()
			c.end(commit(p1(1), 1, 1))
			// It may not know yet that it is deposed.
			if got := c.append(old, c.request(p1(2), 1, 0, 1)); got != "UNKNOWN_RESULT" && got != "NOT_LEADER" {
				c.t.Errorf("an append at the old leader: %s", got)
			}
			c.pass(10 * time.Second)
			equal(c.t, "what a reader of the old leader saw", f.seen(), "")
			equal(c.t, "its end", f.err, "NOT_LEADER")
			equal(c.t, "an append at the old leader, later", c.append(old, c.request(p1(2), 1, 0, 1)), "NOT_LEADER")
			c.net.Isolate(raftstore.NodeID(old.id), false)
			c.pass(10 * time.Second)
			equal(c.t, "ends at the new leader", c.ends(now, 1), "1/1/1")
		}},
		{name: "SM-21 UL-11 markers that are sent again after a change of leaders change nothing", nodes: 3, test: func(c *cluster) {
			c.send(p1(1), 1, 0, 2)
			c.end(commit(p1(1), 1, 2))
			c.send(p1(2), 1, 0, 1)
			c.depose()
			equal(c.t, "the marker of 1", c.mark(c.leader(), commit(p1(1), 1, 2)), "ALREADY")
			equal(c.t, "ends", c.ends(c.leader(), 1), "2/3/2")
			c.end(abort(p1(2), client))
			c.shows(1, of(p1(1), 0, 1)...)
		}},
		{name: "PS-19 the fence of a thrown away transaction outlives a restart", test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			s := &scene{cluster: c, at: c.leader(), producer: p1(0).ProducerID, a: 1}
			next := uint32(4)
			c.coord.with(func() {
				c.coord.verdict = func(*oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
					return &oncelogv1.EnlistAnswer{Verdict: stray, Fence: &next}, nil
				}
			})
			c.until("it is thrown away", func() bool { return c.describe(s.at, 1).GetOpenTransactions() == 0 })
			c.coord.with(func() { c.coord.verdict = nil })
			c.restart(s.at, true)
			for e := range next {
				equal(c.t, "an older epoch", c.try(s.txn(e, 9), 1, 0), "FENCED 4")
			}
			equal(c.t, "the epoch itself", c.try(s.txn(next, 1), 1, 0), "APPENDED 1")
		}},
		{name: "PS-10 since when a transaction holds a partition is kept over a restart", test: func(c *cluster) {
			began := time.Now().UnixMilli()
			c.send(p1(1), 1, 0, 1)
			c.pass(time.Minute)
			c.restart(c.leader(), true)
			d := c.describe(c.leader(), 1)
			equal(c.t, "who", d.GetBlockedBy().GetTxnNumber(), 1)
			equal(c.t, "since", d.GetBlockedSinceMs(), began)
		}},
		{name: "PS-21 UL-22 sequences that have not expired are kept over a restart", test: func(c *cluster) {
			c.send(plain, 1, 0, 2)
			c.pass(expiration / 2)
			c.restart(c.leader(), true)
			equal(c.t, "the last batch again", c.append(c.leader(), c.request(plain, 1, 0, 2)), "DUPLICATE 0")
			equal(c.t, "the next", c.try(plain, 1, 2), "APPENDED 2")
		}},
	})
}

// everyKind brings every kind of state into partition 1: committed, committed in
// part, aborted, without data, open, and plain. The second round, 1, also ends
// what the first left open.
func (c *cluster) everyKind(round uint64) {
	c.t.Helper()
	n := 10 * round
	for i, ref := range []pstate.TxnRef{p1(n + 1), p1(n + 2), p1(n + 3), p2(n + 4)} {
		c.send(ref, 1, 0, 2)
		c.send(ref, 1, 2, 1)
		c.send(plain, 1, 4*round+uint64(i), 1)
	}
	c.end(commit(p1(n+1), 1, 3))
	c.end(commit(p1(n+2), 1, 1))
	c.end(abort(p1(n+3), client))
	c.end(abort(p3(n+5), client))
	c.send(p2(n+4), 1, 3, 2)
	if round > 0 {
		c.end(commit(p2(n-6), 1, 5))
	}
	if got := c.read(1, 0, committed); !slices.Contains(got, string(value(p1(n+2), 0))) {
		c.t.Errorf("what a commit covers in part is not shown: %v", got)
	}
}
