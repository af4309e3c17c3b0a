package partition

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/oncelog/oncelog/api/acl"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/pstate"
)

// A partition that keeps a few records for ever does not keep the log of the others:
// they are written once more, readers see no difference, and all of it survives.
func TestWhatIsKeptMovesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(&cluster{t: t, relocateBytes: 4 << 10}, 3)
		c.retain(0, 500, pA)
		n := c.leader()
		txn := pstate.TxnRef{ProducerID: 9, Number: 1}
		c.append(n, txn, pB, 0, "shown")
		c.append(n, txn, pB, 1, "cut off")
		hidden := pstate.TxnRef{ProducerID: 9, Number: 2}
		c.append(n, hidden, pB, 0, "hidden")
		c.mark(n, txn, true, pB, 1)
		c.mark(n, hidden, false)
		kept := append([]string{"0=shown"}, c.appendMany(n, pstate.TxnRef{ProducerID: 7}, pB, 0, 2)...)
		r, refused := n.reader(access.Principal{}, acl.Read, partitionRef(pB), committed)
		if refused != nil {
			t.Fatal(refused)
		}
		v, refused := r.bounds(c.ctx())
		if refused != nil {
			t.Fatal(refused)
		}
		found, _, err := r.step(v, 0, 5, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		before := n.shard(testShard).group.Applied()
		c.appendMany(n, idempotent, pA, 0, 300)
		pass(3 * time.Minute)
		for id, n := range c.nodes {
			if first := n.shard(testShard).group.First(); first <= before {
				t.Errorf("the log of node %d begins with entry %d, and all up to %d was little", id, first, before)
			}
		}
		equal(t, "what is kept", c.read(n, pB, 0, committed), kept...)
		equal(t, "all of it", c.read(n, pB, 0, uncommitted), "0=shown", "1=cut off", "2=hidden", kept[1], kept[2])
		// Whoever has read a row before reads the batch where it is now.
		for _, b := range found {
			if data, err := n.shard(testShard).read(pB, b.Batch); err != nil || string(data) != string(b.data) {
				t.Errorf("the batch at %d: %q, %v", b.BaseOffset, data, err)
			}
		}
		for _, n := range c.nodes {
			n.stop()
		}
		for id, n := range c.nodes {
			c.start(id, n.dir, n.disk)
		}
		n = c.leader()
		equal(t, "after a restart", c.read(n, pB, 0, committed), kept...)
		resp, err := n.client.Append(c.ctx(), appendRequest(pstate.TxnRef{ProducerID: 7}, pB, 1, "v001"))
		if err != nil || !resp.GetResults()[0].GetDuplicate() || resp.GetResults()[0].GetBaseOffset() != 4 {
			t.Errorf("a repetition: %v %v", resp, err)
		}
	})
}

func TestARelocationThatComesTooLateIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	shown := c.appendMany(n, idempotent, pA, 0, 3)
	s := n.shard(testShard)
	if _, err := s.relocateSome(c.ctx(), 0, moving{id: pA, from: 1, end: 3}); err == nil {
		t.Error("from the middle of a segment")
	}
	if _, err := s.relocateSome(c.ctx(), 0, moving{id: pA, from: 0, end: 3}); err != nil {
		t.Error(err)
	}
	equal(t, "what is there", c.read(n, pA, 0, committed), shown...)
	if _, err := n.client.DeleteRecords(c.ctx(), &oncelogv1.DeleteRecordsRequest{Deletions: []*oncelogv1.RecordDeletion{
		{Partition: partitionRef(pA), BeforeOffset: 2},
	}}); err != nil {
		t.Fatal(err)
	}
	for from := range uint64(2) {
		if _, err := s.relocateSome(c.ctx(), 0, moving{id: pA, from: from, end: pstate.End(from + 1)}); err != nil {
			t.Errorf("of what lies below the log start: %v", err)
		}
		if _, there, err := s.index.Find(pA, from); there || err != nil {
			t.Errorf("the row of offset %d is there: %v, %v", from, there, err)
		}
	}
	equal(t, "what is left", c.read(n, pA, 2, committed), shown[2:]...)
	if _, err := n.client.DeleteRecords(c.ctx(), &oncelogv1.DeleteRecordsRequest{Deletions: []*oncelogv1.RecordDeletion{
		{Partition: partitionRef(pA), BeforeOffset: 3},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.relocateSome(c.ctx(), 0, moving{id: pA, from: 0, end: 3}); err == nil {
		t.Error("of what is gone")
	}
}
