package partition

import (
	"testing"
	"time"

	"github.com/oncelog/oncelog/partition/pstate"
)

func TestStatsOfALeader(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		n := c.leader()
		pass(time.Second)
		long, short := pstate.TxnRef{ProducerID: 9, Number: 1}, pstate.TxnRef{ProducerID: 8, Number: 1}
		c.append(n, long, pA, 0, "a", "b")
		c.append(n, long, pA, 0, "a", "b") // again
		pass(2 * time.Second)
		c.append(n, short, pA, 0, "c")
		c.append(n, short, pB, 0, "c")
		c.append(n, pstate.TxnRef{ProducerID: 7}, pC, 0, "d")
		pass(time.Second)

		st := n.Stats()
		if st.Batches["APPENDED"] != 4 || st.Batches["DUPLICATE"] != 1 || st.Batches["FENCED"] != 0 {
			t.Errorf("verdicts %v", st.Batches)
		}
		if st.AppendedRecords != 5 || st.AppendedBytes == 0 || st.StoredBytes != st.AppendedBytes {
			t.Errorf("%d records, %d bytes, %d stored", st.AppendedRecords, st.AppendedBytes, st.StoredBytes)
		}
		if st.Led != 1 || len(st.Shards) != 1 || st.Partitions != 3 || st.Producers != 3 || st.ClusterID == "" {
			t.Errorf("%+v", st)
		}
		if st.OpenTransactions != 2 || st.OldestOpen != 3*time.Second {
			t.Errorf("%d open, the oldest for %v", st.OpenTransactions, st.OldestOpen)
		}
		if st.EnlistQueue != 2 || st.EnlistAnswers["ACCEPTED"] < 2 || st.EnlistFailures != 0 {
			t.Errorf("enlisted: %d wait, %v, %d failures", st.EnlistQueue, st.EnlistAnswers, st.EnlistFailures)
		}
		if st.HeartbeatAge < 0 || st.HeartbeatAge > 5*time.Second {
			t.Errorf("the last heartbeat was %v ago", st.HeartbeatAge)
		}
		if len(st.Blocked) != 2 || st.BlockedPartitions != 2 || st.MaxLagRecords != 3 || st.MaxLagAge != 3*time.Second {
			t.Fatalf("%+v", st.Blocked)
		}
		if b := st.Blocked[0]; b.By != long || b.LagRecords != 3 || b.LagAge != 3*time.Second {
			t.Errorf("the first is %+v", b)
		}
		if b := st.Blocked[1]; b.By != short || b.LagRecords != 1 || b.LagAge != time.Second {
			t.Errorf("the second is %+v", b)
		}

		c.mark(n, long, true, pA, 2)
		c.mark(n, short, false)
		c.read(n, pA, 0, committed)
		st = n.Stats()
		if len(st.Blocked) != 0 || st.MaxLagRecords != 0 || st.MaxLagAge != 0 || st.OpenTransactions != 0 || st.OldestOpen != 0 {
			t.Errorf("at the end: %+v", st)
		}
		if st.Markers["APPLIED"] != 2 || st.FetchedRecords == 0 || st.FetchedBytes == 0 || st.FetchResponses == 0 {
			t.Errorf("markers %v, %d records fetched", st.Markers, st.FetchedRecords)
		}
	})
}

func TestStatsWithoutACoordinator(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		n := c.leader()
		c.coord.with(func() { c.coord.down = true })
		c.append(n, pstate.TxnRef{ProducerID: 9, Number: 1}, pA, 0, "a")
		pass(time.Minute)
		st := n.Stats()
		if st.HeartbeatAge < 50*time.Second {
			t.Errorf("the last heartbeat was %v ago", st.HeartbeatAge)
		}
		if st.EnlistFailures == 0 || st.EnlistQueue != 1 || st.MaxLagAge != time.Minute {
			t.Errorf("%d failures, %d wait, behind by %v", st.EnlistFailures, st.EnlistQueue, st.MaxLagAge)
		}
	})
}

// What is listed has a limit, what is counted and the maxima have none.
func TestStatsListTheWorstPartitions(t *testing.T) {
	t.Parallel()
	s := pstate.New(pstate.Config{})
	var add []pstate.PartitionInfo
	for id := range uint64(MaxListedPartitions + 50) {
		add = append(add, pstate.PartitionInfo{ID: id + 1, TopicID: 1, Topic: "t", Index: uint32(id)})
	}
	s.SyncPartitions(1, pstate.SyncPartitions{Version: 1, Full: true, Add: add})
	for i, p := range add {
		s.Append(uint64(i+2), pstate.Append{
			At: int64(1000 * i), Ref: pstate.TxnRef{ProducerID: uint64(i + 1), Number: 1},
			Batches: []pstate.Batch{{Partition: p.ID, Count: uint32(i + 1), Size: 10}},
		}, nil)
	}
	var st Stats
	st.addShard(s, 1_000_000)
	st.limit()
	if st.BlockedPartitions != len(add) || st.MaxLagAge != 1000*time.Second || st.MaxLagRecords != uint64(len(add)) {
		t.Errorf("%d blocked, %v and %d at most", st.BlockedPartitions, st.MaxLagAge, st.MaxLagRecords)
	}
	if len(st.Blocked) != MaxListedPartitions || st.Blocked[0].Partition != 0 || st.Blocked[99].Partition != 99 {
		t.Errorf("%d are listed", len(st.Blocked))
	}
}

func TestWhatIsNotListedIsCountedAsOther(t *testing.T) {
	t.Parallel()
	var c counters
	c.append(pstate.Code(200), 1, 1)
	c.marker(pstate.MarkerCode(200))
	if c.verdicts[0].Load() != 1 || c.markers[0].Load() != 1 {
		t.Error("it was counted nowhere")
	}
}
