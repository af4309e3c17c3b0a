package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

// Producers of the scenarios: three with transactions, and one without.
func p1(number uint64) pstate.TxnRef { return pstate.TxnRef{ProducerID: 11, Number: number} }
func p2(number uint64) pstate.TxnRef { return pstate.TxnRef{ProducerID: 12, Number: number} }
func p3(number uint64) pstate.TxnRef { return pstate.TxnRef{ProducerID: 13, Number: number} }

var plain = pstate.TxnRef{ProducerID: 19}

// read returns the values that a partition shows from an offset on.
func (c *cluster) read(partition, from uint64, level oncelogv1.IsolationLevel) []string {
	c.t.Helper()
	got := c.fetch(c.leader(), &oncelogv1.FetchRequest{Partition: byID(partition), Offset: from, Isolation: level})
	equal(c.t, "fetch", got.err, "")
	return got.values
}

// shows holds what read_committed sees of a partition to records, each named as
// [value] does.
func (c *cluster) shows(partition uint64, want ...string) {
	c.t.Helper()
	equal(c.t, "read_committed", strings.Join(c.read(partition, 0, committed), " "), strings.Join(want, " "))
}

// of names the records of a transaction with these sequences.
func of(ref pstate.TxnRef, sequences ...uint64) (out []string) {
	for _, s := range sequences {
		out = append(out, string(value(ref, s)))
	}
	return out
}

// follower is a fetch that stays at the end and collects what comes.
type follower struct {
	mu     sync.Mutex
	values []string
	err    string
}

// follow opens a fetch that stays at the end until the test is over.
func (c *cluster) follow(m *node, partition uint64, level oncelogv1.IsolationLevel) *follower {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(cancel)
	stream, err := m.log.Fetch(ctx, &oncelogv1.FetchRequest{Partition: byID(partition), Isolation: level, Follow: true})
	c.ok(err)
	f := &follower{}
	go func() {
		for {
			resp, err := stream.Recv()
			f.mu.Lock()
			if err != nil {
				f.err = refusal(err)
			}
			for _, r := range resp.GetRecords() {
				f.values = append(f.values, string(r.GetRecord().GetValue()))
			}
			f.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return f
}

// seen returns what has come once everything has happened that can.
func (f *follower) seen() string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.values, " ")
}

func TestVisibility(t *testing.T) {
	play(t, []scenario{
		{name: "TX-02 UL-06 UL-15 RM-10 FE-10 an open transaction holds back everything behind it", test: func(c *cluster) {
			c.send(plain, 1, 0, 1)
			c.send(p1(1), 1, 0, 1)
			c.send(p2(1), 1, 0, 1)
			c.send(plain, 1, 1, 1)
			c.end(commit(p2(1), 1, 1))
			c.shows(1, of(plain, 0)...)
			equal(c.t, "ends", c.ends(c.leader(), 1), "1/4/1")
			equal(c.t, "first record of a later time, committed", c.offset(c.leader(), committed, since(1, 1)), "none")
			equal(c.t, "first record of a later time, uncommitted", c.offset(c.leader(), uncommitted, since(1, 1)), "3")
			c.end(commit(p1(1), 1, 1))
			c.shows(1, slices.Concat(of(plain, 0), of(p1(1), 0), of(p2(1), 0), of(plain, 1))...)
			equal(c.t, "ends", c.ends(c.leader(), 1), "4/4/4")
		}},
		{name: "TX-03 RM-11 UL-08 FE-03 a fetch that waits gets what is committed and nothing else", test: func(c *cluster) {
			f := c.follow(c.leader(), 1, committed)
			all := c.follow(c.leader(), 1, uncommitted)
			c.send(p1(1), 1, 0, 1)
			c.send(p2(1), 1, 0, 1)
			c.send(p1(1), 1, 1, 1)
			c.send(p2(1), 1, 1, 1)
			equal(c.t, "before the decisions", f.seen(), "")
			equal(c.t, "read_uncommitted", all.seen(), strings.Join(slices.Concat(of(p1(1), 0), of(p2(1), 0), of(p1(1), 1), of(p2(1), 1)), " "))
			c.end(commit(p2(1), 1, 2))
			equal(c.t, "behind an open transaction", f.seen(), "")
			c.end(abort(p1(1), client))
			equal(c.t, "after both", f.seen(), strings.Join(of(p2(1), 0, 1), " "))
			c.send(plain, 1, 0, 1)
			equal(c.t, "without a transaction", f.seen(), strings.Join(slices.Concat(of(p2(1), 0, 1), of(plain, 0)), " "))
		}},
		{name: "FE-01 FE-02 FE-07 aborted records are left out by the server and are there for read_uncommitted", test: func(c *cluster) {
			c.send(p1(1), 1, 0, 2)
			c.end(abort(p1(1), client))
			c.send(p1(2), 1, 0, 2)
			c.end(commit(p1(2), 1, 2))
			c.shows(1, of(p1(2), 0, 1)...)
			equal(c.t, "read_uncommitted", strings.Join(c.read(1, 0, uncommitted), " "), strings.Join(slices.Concat(of(p1(1), 0, 1), of(p1(2), 0, 1)), " "))
		}},
		{name: "FE-08 the position moves over an aborted end", test: func(c *cluster) {
			c.send(plain, 1, 0, 1)
			c.send(p1(1), 1, 0, 3)
			c.end(abort(p1(1), client))
			for _, format := range []oncelogv1.FetchFormat{records, batches} {
				got := c.fetch(c.leader(), &oncelogv1.FetchRequest{Partition: byID(1), Format: format})
				equal(c.t, "shown", fmt.Sprint(got.offsets, got.next), "[0] 4")
				got = c.fetch(c.leader(), &oncelogv1.FetchRequest{Partition: byID(1), Format: format, Offset: 2})
				equal(c.t, "from inside", fmt.Sprint(got.offsets, got.next), "[] 4")
			}
		}},
		{name: "FE-09 PS-36 markers take no offsets", test: func(c *cluster) {
			for n := range uint64(3) {
				c.send(p1(n+1), 1, 0, 1)
				c.end(commit(p1(n+1), 1, 1))
				c.end(abort(p2(n+1), client)) // of a transaction that wrote nothing
			}
			equal(c.t, "ends", c.ends(c.leader(), 1), "3/3/3")
			got := c.fetch(c.leader(), &oncelogv1.FetchRequest{Partition: byID(1)})
			equal(c.t, "offsets", fmt.Sprint(got.offsets), "[0 1 2]")
		}},
		{name: "FE-04 FE-05 repeated aborts, and aborts without data, hide nothing more", test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			c.end(abort(p1(1), client))
			equal(c.t, "again", c.mark(c.leader(), abort(p1(1), client)), "ALREADY")
			c.send(p1(2), 1, 0, 1)
			c.end(commit(p1(2), 1, 1))
			equal(c.t, "late and without data", c.mark(c.leader(), abort(p1(1), client), abort(p2(9), client)), "ALREADY APPLIED")
			c.shows(1, of(p1(2), 0)...)
		}},
		{name: "UL-09 PS-44 three producers lie between one another", test: func(c *cluster) {
			c.interleave(1)
			c.shows(1, slices.Concat(of(p2(1), 0), of(p2(1), 1), of(plain, 0))...)
		}},
		{name: "PS-45 UL-24 many markers in one request, some of transactions without data", partitions: 2, test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			c.send(p2(1), 2, 0, 1)
			equal(c.t, "results", c.mark(c.leader(),
				commit(p1(1), 1, 1), abort(p3(1), client), commit(p1(1), 1, 1), abort(p2(1), client), commit(p3(2), 1, 0), commit(p2(1), 2, 1),
			), "APPLIED APPLIED ALREADY APPLIED APPLIED CONFLICT")
			c.shows(1, of(p1(1), 0)...)
			c.shows(2)
		}},
		{name: "TX-16 a marker ends a transaction in all of its partitions at once", partitions: 20, test: func(c *cluster) {
			m := &oncelogv1.Marker{Txn: wire(p1(2)), Commit: true}
			for id := uint64(1); id <= 20; id++ {
				c.send(p1(1), id, 0, 50)
				c.send(p1(2), id, 0, 5)
				m.Progress = append(m.Progress, &oncelogv1.MarkerProgress{PartitionId: id, NextSequence: 5})
			}
			equal(c.t, "results", c.mark(c.leader(), m, abort(p1(1), client)), "APPLIED APPLIED")
			for id := uint64(1); id <= 20; id++ {
				c.shows(id, of(p1(2), 0, 1, 2, 3, 4)...)
			}
		}},
		{name: "UL-23 PS-09 PS-12 the producers of a partition and where their transactions begin", test: producersOfAPartition},
		{name: "UL-01 UL-02 requests of many producers in one frame, twice", partitions: 2, test: frameTwice},
		{name: "UL-01 the newest 16 batches are answered with their offsets, older ones as stored", test: func(c *cluster) {
			for i := range uint64(20) {
				c.send(p1(1), 1, 3*i, 3)
			}
			for i := range uint64(20) {
				want := "DUPLICATE"
				if i >= 4 {
					want = fmt.Sprint("DUPLICATE ", 3*i)
				}
				equal(c.t, "batch", c.append(c.leader(), c.request(p1(1), 1, 3*i, 3)), want)
			}
			equal(c.t, "ends", c.ends(c.leader(), 1), "0/60/0")
		}},
		{name: "PS-30 PE-01 an idempotent producer that was silent starts again at 0", test: func(c *cluster) {
			c.send(plain, 1, 0, 2)
			equal(c.t, "producers", len(c.producers(c.leader(), 1)), 1)
			c.pass(expiration)
			c.send(pstate.TxnRef{ProducerID: 20}, 1, 0, 1)
			rows := c.producers(c.leader(), 1)
			equal(c.t, "who is left", fmt.Sprint(len(rows), rows[0].GetTxn().GetProducerId()), "1 20")
			equal(c.t, "going on", c.try(plain, 1, 2), "UNKNOWN_PRODUCER")
			equal(c.t, "starting again", c.try(plain, 1, 0), "APPENDED 3")
			equal(c.t, "producers", len(c.producers(c.leader(), 1)), 2)
		}},
		{name: "PS-31 an open transaction does not expire", test: func(c *cluster) {
			c.send(p1(1), 1, 0, 1)
			c.pass(2 * expiration)
			c.send(plain, 1, 0, 1)
			equal(c.t, "going on", c.try(p1(1), 1, 1), "APPENDED 2")
			c.end(commit(p1(1), 1, 2))
			c.shows(1, slices.Concat(of(p1(1), 0), of(plain, 0), of(p1(1), 1))...)
		}},
	})
}

// interleave writes an aborted, a committed and another aborted transaction, and
// a plain record, between one another.
func (c *cluster) interleave(partition uint64) {
	c.t.Helper()
	c.send(p1(1), partition, 0, 1)
	c.send(p2(1), partition, 0, 1)
	c.send(p3(1), partition, 0, 2)
	c.send(p1(1), partition, 1, 1)
	c.send(p2(1), partition, 1, 1)
	c.send(plain, partition, 0, 1)
	c.end(abort(p3(1), client))
	c.end(commit(p2(1), partition, 2))
	c.end(abort(p1(1), client))
}

func producersOfAPartition(c *cluster) {
	tell := func() string {
		var out []string
		for _, r := range c.producers(c.leader(), 1) {
			text := fmt.Sprintf("%d/%d next %d", r.GetTxn().GetProducerId(), r.GetTxn().GetTxnNumber(), r.GetNextSequence())
			if r.FirstOffset != nil {
				text += fmt.Sprint(" from ", r.GetFirstOffset())
			}
			out = append(out, text)
		}
		return strings.Join(out, ", ")
	}
	c.send(plain, 1, 0, 2)
	c.send(p2(1), 1, 0, 1)
	c.send(p1(1), 1, 0, 3)
	equal(c.t, "producers", tell(), "11/1 next 3 from 3, 12/1 next 1 from 2, 19/0 next 2")
	c.end(commit(p1(1), 1, 3))
	equal(c.t, "after a commit", tell(), "11/0 next 3, 12/1 next 1 from 2, 19/0 next 2")
	c.end(abort(p2(1), client))
	equal(c.t, "after an abort", tell(), "11/0 next 3, 19/0 next 2")
	if r := c.producers(c.leader(), 1)[0]; r.GetLastAppendMs() == 0 {
		c.t.Errorf("no time of the last append: %v", r)
	}
}

// frameTwice sends one frame with requests of three producers for two partitions
// two times; the second time everything is where it was.
func frameTwice(c *cluster) {
	stream, err := c.leader().log.AppendStream(c.ctx())
	c.ok(err)
	frame := &oncelogv1.AppendStreamRequest{}
	for i, ref := range []pstate.TxnRef{p1(1), p2(1), plain} {
		req := c.request(ref, 1, 0, 2)
		req.Partitions = append(req.Partitions, c.request(ref, 2, 0, 1).GetPartitions()...)
		req.RequestId = uint64(i)
		frame.Requests = append(frame.Requests, req)
	}
	for _, again := range []bool{false, true} {
		c.ok(stream.Send(frame))
		for got := 0; got < 3; {
			resp, err := stream.Recv()
			c.ok(err)
			for _, r := range resp.GetResponses() {
				got++
				equal(c.t, "offset in 1", r.GetResults()[0].GetBaseOffset(), 2*r.GetRequestId())
				equal(c.t, "offset in 2", r.GetResults()[1].GetBaseOffset(), r.GetRequestId())
				equal(c.t, "a repetition", r.GetResults()[0].GetDuplicate() && r.GetResults()[1].GetDuplicate(), again)
			}
		}
	}
	equal(c.t, "ends of 1", c.ends(c.leader(), 1), "0/6/0")
	equal(c.t, "ends of 2", c.ends(c.leader(), 2), "0/3/0")
}
