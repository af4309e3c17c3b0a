package conformance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/partition/pstate"
)

// TestOwnership has the scenarios of what Kafka calls verification: whether a
// write belongs to a transaction that its coordinator knows. There the leader
// asks before it stores, here it stores and asks.
func TestOwnership(t *testing.T) {
	play(t, []scenario{
		{name: "RM-01 a write without a transaction asks nobody", test: func(c *cluster) {
			c.send(plain, 1, 0, 1)
			c.pass(10 * time.Second)
			equal(c.t, "enlistments", len(c.coord.enlistments()), 0)
		}},
		{name: "RM-02 UL-26 AR-03 a transaction is stored at once and asked about until it ends", test: func(c *cluster) {
			began := time.Now()
			c.send(p1(1), 1, 0, 1)
			equal(c.t, "time that the append took", time.Since(began), 0)
			equal(c.t, "asked before the append was answered", c.coord.asked(wire(p1(1))), 0)
			c.pass(partition.DefaultEnlistDelay + 10*time.Millisecond)
			equal(c.t, "asked soon after", c.coord.asked(wire(p1(1))), 1)
			c.pass(time.Minute)
			if n := c.coord.asked(wire(p1(1))); n < 19 || n > 22 { // every 3 s, as it was accepted
				c.t.Errorf("asked %d times in a minute", n)
			}
			c.end(commit(p1(1), 1, 1))
			before := c.coord.asked(wire(p1(1)))
			c.pass(time.Minute)
			equal(c.t, "asked after the end", c.coord.asked(wire(p1(1)))-before, 0)
		}},
		{name: "a transaction whose marker comes at once is never asked about", test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			c.end(commit(p1(1), 1, 1))
			c.pass(time.Minute)
			equal(c.t, "enlistments", len(c.coord.enlistments()), 0)
		}},
		{name: "RM-04 AM-01 many transactions in many partitions are one question", partitions: 4, test: func(c *cluster) {
			for i := range uint64(10) {
				ref := pstate.TxnRef{ProducerID: 50 + i, Number: 1}
				for p := uint64(1); p <= 4; p++ {
					c.send(ref, p, 0, 1)
				}
			}
			c.pass(partition.DefaultEnlistDelay + 10*time.Millisecond)
			equal(c.t, "calls", c.coord.calls(), 1)
			list := c.coord.enlistments()
			equal(c.t, "enlistments", len(list), 10)
			for _, e := range list {
				equal(c.t, "partitions", fmt.Sprint(e.GetPartitionIds()), "[1 2 3 4]")
				equal(c.t, "shard", e.GetShardId(), shardID)
			}
		}},
		{name: "RM-08 AM-05 AM-06 a coordinator that does not answer holds up no append and is asked until it does", test: func(c *cluster) {
			c.coord.with(func() {
				c.coord.verdict = func(*oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
					return nil, errors.New("nobody is there")
				}
			})
			for i := range uint64(5) {
				began := time.Now()
				c.send(p1(1), 1, i, 1)
				equal(c.t, "time that the append took", time.Since(began), 0)
				c.pass(time.Second)
			}
			c.coord.with(func() {
				c.coord.verdict = func(*oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
					return &oncelogv1.EnlistAnswer{Verdict: decided, Marker: commit(p1(1), 1, 5)}, nil
				}
			})
			c.until("it ends", func() bool { return c.describe(c.leader(), 1).GetOpenTransactions() == 0 })
			c.shows(1, of(p1(1), 0, 1, 2, 3, 4)...)
		}},
		{name: "RM-03 PS-42 UL-27 the first record of a transaction has sequence 0, whoever is asked", test: func(c *cluster) {
			equal(c.t, "a record that overtook the first", c.try(p1(1), 1, 1), "OUT_OF_ORDER_SEQUENCE 0")
			equal(c.t, "the first", c.try(p1(1), 1, 0), "APPENDED 0")
			equal(c.t, "the other, again", c.try(p1(1), 1, 1), "APPENDED 1")
		}},
		{name: "RM-09 the coordinator is told how long a transaction has been open, and never more than that", nodes: 3, test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			began := time.Now()
			c.pass(time.Minute)
			if age := c.coord.lastAge(); age < 55*time.Second || age > time.Since(began) {
				c.t.Errorf("age after a minute: %v", age)
			}
			c.depose() // the new leader knows the time of the log, and its own clock
			c.pass(10 * time.Second)
			if age := c.coord.lastAge(); age <= 0 || age > time.Since(began) {
				c.t.Errorf("age at the new leader: %v", age)
			}
		}},
		{name: "PE-02 a producer that the coordinator does not know any more is forgotten", test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			c.end(commit(p1(1), 1, 1))
			c.send(p2(1), 1, 0, 1)
			c.end(commit(p2(1), 1, 1))
			c.send(p2(2), 1, 0, 1) // stays open
			c.coord.with(func() { c.coord.gone = []uint64{p1(0).ProducerID, p2(0).ProducerID} })
			c.pass(2 * checkProducers)
			equal(c.t, "the one that is gone, continuing", c.try(p1(1), 1, 1), "UNKNOWN_PRODUCER")
			equal(c.t, "a late copy of what it sent", c.try(p1(1), 1, 0), "UNKNOWN_PRODUCER")
			equal(c.t, "a late copy of its marker", c.mark(c.leader(), commit(p1(1), 1, 1)), "ALREADY")
			equal(c.t, "one with an open transaction", c.try(p2(2), 1, 1), "APPENDED 3")
			c.end(abort(p2(2), client))
			c.pass(2 * checkProducers)
			equal(c.t, "that one, when it has ended", c.try(p2(2), 1, 2), "UNKNOWN_PRODUCER")
			c.shows(1, slices.Concat(of(p1(1), 0), of(p2(1), 0))...)
		}},
		{name: "MC-05 KA-03 a marker for a partition that was removed is acknowledged", partitions: 2, test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			c.send(p1(1), 2, 0, 1)
			c.send(p2(1), 2, 0, 1)
			c.coord.remove(2)
			m := commit(p1(1), 1, 1)
			m.Progress = append(m.Progress, &oncelogv1.MarkerProgress{PartitionId: 2, NextSequence: 1})
			c.leader()
			equal(c.t, "results", c.mark(c.leader(), m, commit(p2(1), 2, 1)), "APPLIED ALREADY")
			c.shows(1, of(p1(1), 0)...)
		}},
	})
}
