package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// plainModel is the dumb second implementation: every record with its writer,
// and what became of each transaction.
type plainModel struct {
	records map[uint64][]modelRecord // by partition
	covered map[pstate.TxnRef]map[uint64]uint64
	ended   map[pstate.TxnRef]bool
	next    map[pstate.TxnRef]map[uint64]uint64
}

type modelRecord struct {
	ref   pstate.TxnRef
	seq   uint64
	value string
}

// shown lists what a level shows of a partition.
func (m *plainModel) shown(partition uint64, level oncelogv1.IsolationLevel) (out []string) {
	for offset, r := range m.records[partition] {
		if level == committed && r.ref.Transactional() {
			if !m.ended[r.ref] {
				return out
			}
			if r.seq >= m.covered[r.ref][partition] {
				continue
			}
		}
		out = append(out, fmt.Sprintf("%d=%s", offset, r.value))
	}
	return out
}

// TestReadsAgainstAPlainModel runs random appends, repetitions, commits of
// parts, aborts and restarts.
func TestReadsAgainstAPlainModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	c := newCluster(t, 1)
	n := c.leader()
	m := &plainModel{
		records: map[uint64][]modelRecord{}, covered: map[pstate.TxnRef]map[uint64]uint64{},
		ended: map[pstate.TxnRef]bool{}, next: map[pstate.TxnRef]map[uint64]uint64{},
	}
	var open []pstate.TxnRef
	numbers := map[uint64]uint64{}
	for step := range 300 {
		switch k := rng.IntN(20); {
		case k < 3 || len(open) == 0:
			ref := pstate.TxnRef{ProducerID: 1 + rng.Uint64N(4)}
			numbers[ref.ProducerID]++
			ref.Number = numbers[ref.ProducerID]
			open = append(open, ref)
			m.next[ref] = map[uint64]uint64{}
			// A transaction must write before the next of its producer does.
			m.write(c, n, ref, pA+rng.Uint64N(3), step, 1)
		case k < 6:
			i := rng.IntN(len(open))
			ref := open[i]
			open = slices.Delete(open, i, i+1)
			m.end(c, n, ref, rng)
		case k == 6 && step%50 < 10:
			disk := n.disk
			n.stop()
			if rng.IntN(2) == 0 {
				disk = disk.Crash(rng.IntN(3))
			}
			c.coord.with(func() { clear(c.coord.reports) })
			n = c.start(1, n.dir, disk)
			c.leader()
		case k == 7:
			m.compare(c, n, rng)
		default:
			ref := open[rng.IntN(len(open))]
			if k == 8 {
				ref = pstate.TxnRef{ProducerID: 100}
				if m.next[ref] == nil {
					m.next[ref] = map[uint64]uint64{}
				}
			}
			m.write(c, n, ref, pA+rng.Uint64N(3), step, 1+rng.IntN(4))
		}
	}
	for _, ref := range open {
		m.end(c, n, ref, rng)
	}
	m.compare(c, n, rng)
	n.shard(testShard).machine.read(func(st *pstate.State) {
		if err := st.Check(); err != nil {
			t.Error(err)
		}
	})
}

func (m *plainModel) write(c *cluster, n *testNode, ref pstate.TxnRef, partition uint64, step, count int) {
	base := m.next[ref][partition]
	var values []string
	for i := range count {
		values = append(values, fmt.Sprintf("%d.%d", step, i))
	}
	for range 1 + step%2 { // every second one is sent twice
		if got := c.append(n, ref, partition, base, values...); got != uint64(len(m.records[partition])) {
			c.t.Fatalf("offset %d, want %d", got, len(m.records[partition]))
		}
	}
	for i, v := range values {
		m.records[partition] = append(m.records[partition], modelRecord{ref, base + uint64(i), v})
	}
	m.next[ref][partition] = base + uint64(count)
}

func (m *plainModel) end(c *cluster, n *testNode, ref pstate.TxnRef, rng *rand.Rand) {
	m.ended[ref] = true
	commit := rng.IntN(3) > 0
	var progress []uint64
	if m.covered[ref] = map[uint64]uint64{}; commit {
		for p := uint64(pA); p <= pC; p++ {
			if next := m.next[ref][p]; next > 0 {
				m.covered[ref][p] = next - min(next, rng.Uint64N(3))
				progress = append(progress, p, m.covered[ref][p])
			}
		}
	}
	if r := c.mark(n, ref, commit, progress...); r != oncelogv1.MarkerResult_MARKER_RESULT_APPLIED {
		c.t.Fatalf("marker of %v: %v", ref, r)
	}
}

func (m *plainModel) compare(c *cluster, n *testNode, rng *rand.Rand) {
	c.t.Helper()
	for p := uint64(pA); p <= pC; p++ {
		for _, level := range []oncelogv1.IsolationLevel{committed, uncommitted} {
			want := m.shown(p, level)
			equal(c.t, fmt.Sprint(p, level), c.read(n, p, 0, level), want...)
			if len(want) == 0 {
				continue
			}
			i := rng.IntN(len(want))
			var from uint64
			if _, err := fmt.Sscanf(want[i], "%d=", &from); err != nil {
				c.t.Fatal(err)
			}
			equal(c.t, fmt.Sprint(p, level, " from ", from), c.read(n, p, from, level), want[i:]...)
		}
	}
}

// TestRetriesStoreOnceWhateverHappensToLeaders: producers repeat what was not
// answered, at whoever leads, while leaders are cut off.
func TestRetriesStoreOnceWhateverHappensToLeaders(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	const producers, each = 3, 120
	var wg sync.WaitGroup
	quarter := make(chan struct{}, producers*each)
	for p := range uint64(producers) {
		wg.Go(func() {
			for seq := range uint64(each) {
				c.appendAnywhere(pstate.TxnRef{ProducerID: p + 1}, pA+p%2, seq, fmt.Sprintf("%d:%d", p, seq))
				quarter <- struct{}{}
			}
		})
	}
	for range 3 {
		for range producers * each / 4 {
			<-quarter
		}
		leader := c.current()
		c.net.Isolate(raftstore.NodeID(leader.cfg.NodeID), true)
		c.awaitLeader(func(other *testNode) bool { return other != leader })
		c.net.Isolate(raftstore.NodeID(leader.cfg.NodeID), false)
	}
	wg.Wait()
	n := c.current()
	got := map[string]int{}
	next := map[string]int{}
	for _, p := range []uint64{pA, pB} {
		for _, rec := range c.read(n, p, 0, committed) {
			var offset, producer, seq int
			if _, err := fmt.Sscanf(rec, "%d=%d:%d", &offset, &producer, &seq); err != nil {
				t.Fatal(err)
			}
			key := fmt.Sprint(producer)
			if got[key]++; seq != next[key] {
				t.Fatalf("producer %d: sequence %d after %d", producer, seq, next[key]-1)
			}
			next[key] = seq + 1
		}
	}
	for p := range producers {
		if got[fmt.Sprint(p)] != each {
			t.Errorf("producer %d: %d records", p, got[fmt.Sprint(p)])
		}
	}
}

// current returns a node that serves the shard.
func (c *cluster) current() *testNode { return c.awaitLeader(func(*testNode) bool { return true }) }

// awaitLeader waits until one that will do serves the shard. Of two that think
// so the one in the higher term does. Every change of leadership is reported.
func (c *cluster) awaitLeader(willDo func(*testNode) bool) *testNode {
	var best *testNode
	c.coord.await(c.t, "a leader", func() bool {
		best = nil
		var term uint64
		for _, n := range c.nodes {
			if l := n.shard(testShard).group.Leadership(); l.Ready && l.Term > term {
				best, term = n, l.Term
			}
		}
		return best != nil && willDo(best)
	})
	return best
}

// appendAnywhere repeats an append until it is stored.
func (c *cluster) appendAnywhere(ref pstate.TxnRef, partition, seq uint64, value string) {
	req := appendRequest(ref, partition, seq, value)
	ctx := c.ctx()
	for ctx.Err() == nil {
		_, err := c.current().client.Append(ctx, req)
		switch apierrors.ClassOf(err) {
		case 0:
			return
		case apierrors.Retriable, apierrors.UnknownOutcome:
		default:
			c.t.Errorf("%v sequence %d: %v", ref, seq, err)
			return
		}
	}
}
