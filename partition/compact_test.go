package partition

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
)

// cleanup has a partition compacted, and waits until the shard knows.
func (c *cluster) cleanup(partition uint64, keep time.Duration) {
	c.t.Helper()
	c.assign(func(s *oncelogv1.ShardAssignment) {
		for _, p := range s.GetPartitions() {
			if p.GetPartitionId() == partition {
				p.Compact, p.DeleteRetentionMs = true, keep.Milliseconds()
			}
		}
	})
	c.leader()
}

// keyed is a record of the test below, at its offset.
type keyed struct {
	key, value string // empty value: a tombstone
	ref        pstate.TxnRef
	time       int64
	fate       byte // o open, c committed, a aborted
}

// compactWorld writes keyed records to pA, and remembers all of them.
type compactWorld struct {
	*cluster
	rnd  *rand.Rand
	log  []keyed
	txns []pstate.TxnRef // open
	next map[pstate.TxnRef]uint64
	num  uint64
}

func (w *compactWorld) write(n *testNode) {
	w.t.Helper()
	ref := pstate.TxnRef{ProducerID: 5}
	if w.rnd.IntN(3) > 0 {
		if len(w.txns) == 0 || w.rnd.IntN(3) == 0 && len(w.txns) < 3 {
			w.num++
			w.txns = append(w.txns, pstate.TxnRef{ProducerID: 100 + w.num, Number: 1})
		}
		ref = w.txns[w.rnd.IntN(len(w.txns))]
	}
	req := appendRequest(ref, pA, w.next[ref])
	list := &oncelogv1.RecordList{}
	at := uint64(len(w.log))
	for range 1 + w.rnd.IntN(6) {
		k := keyed{key: strconv.Itoa(w.rnd.IntN(15)), ref: ref, time: time.Now().UnixMilli(), fate: 'o'}
		rec := &oncelogv1.Record{Key: []byte(k.key), TimestampMs: proto.Int64(k.time)}
		if w.rnd.IntN(5) > 0 {
			k.value = fmt.Sprintf("%d.%s", len(w.log), strings.Repeat("x", w.rnd.IntN(200)))
			rec.Value = []byte(k.value)
		}
		if ref.Number == 0 {
			k.fate = 'c'
		}
		w.log = append(w.log, k)
		list.Records = append(list.Records, rec)
	}
	req.Partitions[0].Payload = &oncelogv1.PartitionAppend_Records{Records: list}
	resp, err := n.client.Append(w.ctx(), req)
	if err != nil || resp.GetResults()[0].GetError() != nil || resp.GetResults()[0].GetBaseOffset() != at {
		w.t.Fatalf("append at %d: %v %v", at, resp, err)
	}
	w.next[ref] += uint64(len(list.Records))
}

// end ends a transaction.
func (w *compactWorld) end(n *testNode) {
	if len(w.txns) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.txns))
	ref := w.txns[i]
	w.txns = slices.Delete(w.txns, i, i+1)
	commit, covered := w.rnd.IntN(2) == 0, w.next[ref]
	if commit && w.rnd.IntN(4) == 0 {
		covered-- // a commit that covers not all that was sent
	}
	if commit {
		w.mark(n, ref, true, pA, covered)
	} else {
		w.mark(n, ref, false)
	}
	seq := uint64(0)
	for i := range w.log {
		if w.log[i].ref != ref {
			continue
		}
		if w.log[i].fate = 'a'; commit && seq < covered {
			w.log[i].fate = 'c'
		}
		seq++
	}
}

func (w *compactWorld) state(n *testNode) (p pstate.PartitionStatus) {
	n.shard(testShard).machine.read(func(st *pstate.State) { p, _ = st.Partition(pA) })
	return p
}

// check compares what a reader sees with all that was written.
func (w *compactWorld) check(n *testNode) (shown int) {
	w.t.Helper()
	p := w.state(n)
	newest := map[string]int{}
	for i := range int(p.Stable) {
		if w.log[i].fate == 'c' {
			newest[w.log[i].key] = i
		}
	}
	deleted := map[string]int{} // where, if the newest that a pass has seen is a tombstone
	for i := range int(p.Compacted) {
		if k := w.log[i]; k.fate == 'c' {
			if delete(deleted, k.key); k.value == "" {
				deleted[k.key] = i
			}
		}
	}
	from := 0
	if w.rnd.IntN(2) == 0 && p.Stable > 0 {
		from = w.rnd.IntN(int(p.Stable))
	}
	seen := map[int]bool{}
	for _, s := range w.read(n, pA, uint64(from), committed) {
		offset, value, _ := strings.Cut(s, "=")
		i, err := strconv.Atoi(offset)
		if err != nil || i >= int(p.Stable) || i < from {
			w.t.Fatalf("a record at %s of [%d, %d)", offset, from, p.Stable)
		}
		k := w.log[i]
		if k.fate != 'c' || k.value != value {
			w.t.Fatalf("offset %d is %q, and was %+v", i, value, k)
		}
		if i < deleted[k.key] {
			w.t.Fatalf("offset %d of key %s was deleted at %d, and compacted", i, k.key, deleted[k.key])
		}
		seen[i] = true
	}
	for key, i := range newest {
		if i >= from && !seen[i] && w.log[i].value != "" {
			w.t.Fatalf("the newest value of key %s, at %d, has gone; compacted to %d, stable %d", key, i, p.Compacted, p.Stable)
		}
		if from == 0 && w.log[i].value != "" {
			w.byTime(n, i, seen)
		}
	}
	for _, s := range w.read(n, pA, uint64(from), uncommitted) {
		offset, value, _ := strings.Cut(s, "=")
		if i, err := strconv.Atoi(offset); err != nil || w.log[i].value != value {
			w.t.Fatalf("uncommitted: %s is not what was written", s)
		}
	}
	return len(seen)
}

// byTime asks for the first record of the time of one, or later.
func (w *compactWorld) byTime(n *testNode, i int, seen map[int]bool) {
	w.t.Helper()
	want := i
	for j := range i {
		if seen[j] && w.log[j].time >= w.log[i].time {
			want = j
			break
		}
	}
	resp, err := n.client.ListOffsets(w.ctx(), &oncelogv1.ListOffsetsRequest{Isolation: committed, Queries: []*oncelogv1.OffsetQuery{{
		Partition: partitionRef(pA), Target: &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: w.log[i].time},
	}}})
	if err != nil || resp.GetAnswers()[0].GetOffset() != uint64(want) {
		w.t.Fatalf("the first record since %d is at %v (%v), want %d", w.log[i].time, resp.GetAnswers(), err, want)
	}
}

// stopAfter is a context that has ended after it was asked so often.
type stopAfter struct {
	context.Context
	left int
}

func (s *stopAfter) Err() error {
	if s.left--; s.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCompactionKeepsTheNewest writes keyed records, in transactions and without,
// and compacts meanwhile: passes that come to their end, with as many keys as they
// like or with few, passes that are given up at any step, and restarts. Whatever
// happens, each record that is there is at its offset, the newest committed value of
// each key is there, none that was aborted is shown, and none that was deleted is back.
//
// Covers CL-01, CL-02, CL-03, CL-04 of CONFORMANCE.md.
func TestCompactionKeepsTheNewest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &compactWorld{
					cluster: startCluster(&cluster{t: t, compactionKeys: int(seed%2) * 7}, 1),
					rnd:     rand.New(rand.NewPCG(seed, 77)), next: map[pstate.TxnRef]uint64{},
				}
				w.cleanup(pA, time.Minute)
				w.run()
			})
		})
	}
}

func (w *compactWorld) run() {
	n := w.leader()
	given := 0
	for range 100 {
		switch k := w.rnd.IntN(20); {
		case k < 12:
			w.write(n)
		case k < 16:
			w.end(n)
		case k == 16:
			pass(35 * time.Second)
		case k < 19:
			s := n.shard(testShard)
			var due []pstate.Compaction
			s.machine.read(func(st *pstate.State) { due = st.Compactable(n.nowMillis()) })
			for _, d := range due {
				ctx := &stopAfter{w.ctx(), w.rnd.IntN(12)}
				if err := s.compact(ctx, s.group.Leadership().Term, d); err != nil {
					given++
				}
			}
		case w.rnd.IntN(3) == 0:
			n.stop()
			w.start(n.cfg.NodeID, n.dir, n.disk)
			n = w.leader()
		}
		pass(time.Duration(w.rnd.IntN(2000)) * time.Millisecond)
		if w.rnd.IntN(3) == 0 {
			w.check(n)
		}
	}
	for len(w.txns) > 0 {
		w.end(n)
	}
	for range 10 { // of few keys each
		pass(time.Minute)
	}
	shown, p := w.check(n), w.state(n)
	if p.Compacted == 0 || given == 0 || shown > len(w.log)/2 {
		w.t.Errorf("of %d records %d are left, compacted to %d, and %d passes were given up", len(w.log), shown, p.Compacted, given)
	}
	if st := n.Stats(); st.Compactions == 0 || st.CompactedRecords == 0 || st.CompactedBytes == 0 {
		w.t.Errorf("%+v", st)
	}
}

// A reader that has read rows before the end of a pass must not take what the pass
// removed for committed, because what hid it is gone as well.
//
// Covers CL-06 of CONFORMANCE.md.
func TestASlowReaderDoesNotSeeWhatWasAborted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.cleanup(pA, time.Hour)
	hidden := pstate.TxnRef{ProducerID: 9, Number: 1}
	c.append(n, hidden, pA, 0, "hidden "+strings.Repeat("x", 2000))
	c.append(n, pstate.TxnRef{ProducerID: 5}, pA, 0, "shown")
	c.mark(n, hidden, false)
	r, refused := n.reader(access.Principal{}, acl.Read, partitionRef(pA), committed)
	if refused != nil {
		t.Fatal(refused)
	}
	v, refused := r.bounds(c.ctx())
	if refused != nil {
		t.Fatal(refused)
	}
	s := n.shard(testShard)
	row, ok, err := s.index.Find(pA, 0)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	rows := []log.Batch{row}
	if shown, err := r.filter(v, rows, 0); err != nil || len(shown) > 0 {
		t.Fatalf("what was aborted is shown: %v %v", shown, err)
	}
	var due []pstate.Compaction
	s.machine.read(func(st *pstate.State) { due = st.Compactable(n.nowMillis()) })
	if len(due) != 1 {
		t.Fatalf("%+v", due)
	}
	if err := s.compact(c.ctx(), s.group.Leadership().Term, due[0]); err != nil {
		t.Fatal(err)
	}
	if shown, err := r.filter(v, rows, 0); !errors.Is(err, errCompacted) {
		t.Errorf("after a pass the rows from before it are shown: %v %v", shown, err)
	}
	equal(t, "what is left", c.read(n, pA, 0, committed), "1=shown")
	equal(t, "what is left", c.read(n, pA, 0, uncommitted), "1=shown")
}

// A topic that is compacted takes no record without a key, encoded or not.
func TestRecordsNeedKeysWhereTheyAreCompacted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	req := appendRequest(pstate.TxnRef{ProducerID: 5}, pA, 0, "a", "b")
	req.Partitions[0].GetRecords().Records[1].Key = nil
	c.cleanup(pA, time.Hour)
	_, err := n.client.Append(c.ctx(), req)
	e := apierrors.From(err)
	if e == nil || e.Code != oncelogv1.ErrorCode_ERROR_CODE_INVALID_RECORD || e.Metadata[apierrors.KeyField] != "records[1].key" {
		t.Errorf("without a key: %v", e)
	}
	if v, _ := n.shard(testShard).view(pA, pstate.ReadUncommitted); v.applied != 0 {
		t.Errorf("%+v", v)
	}
	req.Partitions[0].GetRecords().Records[1].Key = []byte{}
	if _, err = n.client.Append(c.ctx(), req); err != nil {
		t.Errorf("with an empty key: %v", err)
	}
}
