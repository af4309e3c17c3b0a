package partition

import (
	"slices"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestTransactionBecomesVisibleWithItsMarker(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	txn := pstate.TxnRef{ProducerID: 9, Epoch: 1, Number: 1}
	c.append(n, txn, pA, 0, "a", "b")
	c.append(n, txn, pB, 0, "x")
	equal(t, "open, committed", c.read(n, pA, 0, committed))
	equal(t, "open, uncommitted", c.read(n, pA, 0, uncommitted), "0=a", "1=b")
	if r := c.mark(n, txn, true, pA, 2, pB, 1); r != oncelogv1.MarkerResult_MARKER_RESULT_APPLIED {
		t.Errorf("marker: %v", r)
	}
	equal(t, "committed", c.read(n, pA, 0, committed), "0=a", "1=b")
	equal(t, "from the middle of a batch", c.read(n, pA, 1, committed), "1=b")
	equal(t, "second partition", c.read(n, pB, 0, committed), "0=x")
	if r := c.mark(n, txn, true, pA, 2, pB, 1); r != oncelogv1.MarkerResult_MARKER_RESULT_ALREADY {
		t.Errorf("repeated marker: %v", r)
	}
}

func TestReadCommittedLeavesOutWhatNoCommitCovers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	aborted := pstate.TxnRef{ProducerID: 9, Number: 1}
	partly := pstate.TxnRef{ProducerID: 10, Number: 1}
	plain := pstate.TxnRef{ProducerID: 11}
	c.append(n, aborted, pA, 0, "no1", "no2")
	c.append(n, partly, pA, 0, "yes1", "yes2", "no3")
	c.append(n, plain, pA, 0, "p")
	c.append(n, partly, pA, 3, "no4")
	c.mark(n, partly, true, pA, 2)
	equal(t, "held by the older one", c.read(n, pA, 0, committed))
	c.mark(n, aborted, false)
	equal(t, "committed", c.read(n, pA, 0, committed), "2=yes1", "3=yes2", "5=p")
	equal(t, "from a hidden tail", c.read(n, pA, 4, committed), "5=p")
	equal(t, "uncommitted", c.read(n, pA, 0, uncommitted), "0=no1", "1=no2", "2=yes1", "3=yes2", "4=no3", "5=p", "6=no4")
	f := c.follow(n, pA, 0, committed)
	f.until(7)
	if f.last.GetStableEnd() != 7 || f.last.GetNextOffset() != 7 {
		t.Errorf("the position did not pass the hidden end: %v", f.last)
	}
}

func TestDuplicatesAreAnsweredWithTheirOffsets(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	for _, ref := range []pstate.TxnRef{{ProducerID: 3}, {ProducerID: 4, Number: 2}} {
		req := appendRequest(ref, pC, 0, "1", "2")
		first, err := n.client.Append(c.ctx(), req)
		if err != nil {
			t.Fatal(err)
		}
		again, err := n.client.Append(c.ctx(), req)
		if err != nil {
			t.Fatal(err)
		}
		a, b := first.GetResults()[0], again.GetResults()[0]
		if a.GetDuplicate() || !b.GetDuplicate() || a.GetBaseOffset() != b.GetBaseOffset() || b.BaseOffset == nil || b.GetNextSequence() != 2 {
			t.Errorf("%v: first %v, again %v", ref, a, b)
		}
		_, err = n.client.Append(c.ctx(), appendRequest(ref, pC, 3, "late"))
		e := apierrors.From(err)
		if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE || e.Metadata[apierrors.KeyExpected] != "2" {
			t.Errorf("gap: %v %v", err, e.Metadata)
		}
	}
	st := n.Status()
	if st.GetCounters().GetRecordsAppended() != 4 || st.GetCounters().GetDuplicateAppends() != 2 || st.GetCounters().GetFsyncs() == 0 {
		t.Errorf("counters %v", st.GetCounters())
	}
	if g := st.GetGroups(); len(g) != 1 || !g[0].GetReady() || g[0].GetGroupId() != testShard {
		t.Errorf("groups %v", g)
	}
}

func TestRefusalsCarryTheirDetails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	txn := pstate.TxnRef{ProducerID: 9, Epoch: 3, Number: 5}
	c.append(n, txn, pA, 0, "a")
	c.mark(n, txn, false)
	for name, x := range map[string]struct {
		req  *oncelogv1.AppendRequest
		code oncelogv1.ErrorCode
		meta map[string]string
	}{
		"ended":    {appendRequest(txn, pA, 1, "b"), oncelogv1.ErrorCode_ERROR_CODE_TXN_ENDED, map[string]string{"outcome": "ABORTED", "reason": "CLIENT"}},
		"stale":    {appendRequest(pstate.TxnRef{ProducerID: 9, Epoch: 3, Number: 4}, pA, 0, "b"), oncelogv1.ErrorCode_ERROR_CODE_STALE_TXN, nil},
		"unknown":  {appendRequest(pstate.TxnRef{ProducerID: 77}, pA, 5, "b"), oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER, nil},
		"no such":  {appendRequest(txn, 4711, 0, "b"), oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION, map[string]string{"partition_id": "4711"}},
		"sequence": {appendRequest(pstate.TxnRef{ProducerID: 9, Epoch: 3, Number: 6}, pA, 5, "b"), oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE, map[string]string{"expected_sequence": "0"}},
	} {
		_, err := n.client.Append(c.ctx(), x.req)
		e := apierrors.From(err)
		if e == nil || e.Code != x.code {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for k, v := range x.meta {
			if e.Metadata[k] != v {
				t.Errorf("%s: metadata %v, want %s=%s", name, e.Metadata, k, v)
			}
		}
	}
	equal(t, "nothing was stored", c.read(n, pA, 0, uncommitted), "0=a")
}

func TestOneRequestForManyPartitions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	ref := pstate.TxnRef{ProducerID: 9, Number: 1}
	req := appendRequest(ref, pA, 0, "a")
	req.Partitions = append(req.Partitions, appendRequest(ref, pB, 0, "b").Partitions...)
	req.Partitions = append(req.Partitions, appendRequest(ref, pC, 7, "c").Partitions...)
	req.Partitions[1].Partition = &oncelogv1.PartitionRef{Topic: "t", Partition: 1}
	if _, err := n.client.Append(c.ctx(), req); apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE {
		t.Fatalf("a refused partition must fail the call: %v", err)
	}
	equal(t, "what others accepted stays", c.read(n, pB, 0, uncommitted), "0=b")
	req.Partitions[2].BaseSequence = 0
	resp, err := n.client.Append(c.ctx(), req)
	if err != nil {
		t.Fatal(err)
	}
	if r := resp.GetResults(); !r[0].GetDuplicate() || !r[1].GetDuplicate() || r[2].GetDuplicate() ||
		r[1].GetPartition().GetPartitionId() != pB || r[1].GetPartition().GetTopic() != "t" || r[2].GetShardId() != testShard {
		t.Errorf("results %v", r)
	}
}
