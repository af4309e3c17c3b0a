package partition

import (
	"errors"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

func TestUndecodableEntryStopsTheReplica(t *testing.T) {
	t.Parallel()
	markers, err := pstate.EncodeMarkers(nil, pstate.Markers{List: []pstate.Marker{
		{Ref: pstate.TxnRef{ProducerID: 1, Number: 1}, Decision: pstate.Decision{Outcome: pstate.OutcomeAbort}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{{0}, {1, 99}, {2, 1}, {1, byte(pstate.KindAppends), 200}, markers[:len(markers)-1]} {
		m := newMachine(pstate.Config{}, newWaiters())
		_, err := m.Apply(raftstore.Entry{Index: 5, Term: 2, Data: data}, nil)
		if err == nil || errors.Is(err, codec.ErrVersion) != strings.Contains(err.Error(), "start this node with the program that the other nodes run") {
			t.Errorf("%v: %v", data, err)
		}
	}
	if err := newMachine(pstate.Config{}, newWaiters()).Restore(3, []byte("x")); err == nil {
		t.Error("restored from nonsense")
	}
}

func TestRetentionMovesTheStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	gone := pstate.TxnRef{ProducerID: 9, Number: 1}
	c.append(n, gone, pA, 0, "a", "b")
	c.mark(n, gone, false)
	c.append(n, pstate.TxnRef{ProducerID: 8}, pA, 0, "c", "d", "e")
	f := c.follow(n, pA, 5, committed)
	f.until(5)
	// Inside of the second batch: what is below is not shown any more.
	if _, err := n.shard(testShard).advance(c.ctx(), 0, 0, []pstate.LogStart{{Partition: pA, Start: 3}}); err != nil {
		t.Fatal(err)
	}
	stream, err := n.client.Fetch(c.ctx(), &oncelogv1.FetchRequest{Partition: partitionRef(pA), Offset: 1})
	if err == nil {
		_, err = stream.Recv()
	}
	if e := apierrors.From(err); code(err) != oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE || e.Metadata[apierrors.KeyStartOffset] != "3" {
		t.Errorf("below the start: %v", err)
	}
	equal(t, "earliest", c.fetch(n, &oncelogv1.FetchRequest{
		Partition: partitionRef(pA), Start: oncelogv1.StartPosition_START_POSITION_EARLIEST,
	}), "3=d", "4=e")
	c.append(n, pstate.TxnRef{ProducerID: 8}, pA, 3, "f")
	equal(t, "the follower goes on", f.until(6), "5=f")
}

func TestAShardOfOthersIsNotHosted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.assign(func(*oncelogv1.ShardAssignment) {})
	c.coord.with(func() {
		c.coord.assignment.Shards = append(c.coord.assignment.Shards,
			&oncelogv1.ShardAssignment{ShardId: 900, Replicas: []uint64{2, 3}}, &oncelogv1.ShardAssignment{Replicas: []uint64{1}})
		c.coord.assignment.Version++
		c.coord.assignment.Shards[0].Version = c.coord.assignment.Version
	})
	c.leader()
	if n.shard(900) != nil || n.shard(0) != nil || len(n.allShards()) != 1 {
		t.Error("hosts the shard of others")
	}
}

func TestWaitersAreWokenOnceMarkedAndFlushed(t *testing.T) {
	t.Parallel()
	w := newWaiters()
	closed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	a, b := w.partition(1), w.partition(2)
	if w.partition(1) != a {
		t.Error("two channels for one partition")
	}
	next := w.publication()
	w.mark(1)
	w.mark(7)
	later := w.partition(1) // asked after the mark: sees the change itself
	if closed(a) {
		t.Error("woken before the rows are visible")
	}
	w.flush()
	if !closed(a) || closed(b) || closed(later) || !closed(next) || closed(w.publication()) {
		t.Error("the wrong ones were woken")
	}
	w.wakeAll()
	if !closed(b) || !closed(later) {
		t.Error("somebody sleeps on")
	}
}
