package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// tooLong is how long a cluster may take to serve again after the loss of one
// node. The goal is 2 s at default settings; a test machine may be busy.
const tooLong = 10 * time.Second

// The places in a cluster where a node can be missing.
const (
	coordinatorLeader   = "coordinator leader"
	coordinatorFollower = "coordinator follower"
	shardLeader         = "shard leader"
	shardFollower       = "shard follower"
	bothLeaders         = "both leaders" // one of each cluster, at once
)

// victim returns a node in a place.
func (w *world) victim(t *testing.T, place string, rng *rand.Rand) *cluster.Node {
	t.Helper()
	ctx := withPatience(t)
	role, leads := cluster.Partition, func() (*cluster.Node, error) {
		shards := w.shards(t)
		return w.ShardLeader(ctx, shards[rng.IntN(len(shards))])
	}
	if place == coordinatorLeader || place == coordinatorFollower {
		role, leads = cluster.Coordinator, func() (*cluster.Node, error) { return w.CoordinatorLeader(ctx) }
	}
	leader, err := leads()
	if err != nil {
		t.Fatal(err)
	}
	if place == coordinatorLeader || place == shardLeader {
		return leader
	}
	var others []*cluster.Node
	for _, n := range w.Nodes() {
		if n.Role == role && n != leader {
			others = append(others, n)
		}
	}
	return others[rng.IntN(len(others))]
}

// shards returns the ids of all shards.
func (w *world) shards(t *testing.T) []uint64 {
	t.Helper()
	var res *oncelogv1.GetMetadataResponse
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		res, err = oncelogv1.NewCatalogServiceClient(cc).GetMetadata(ctx, &oncelogv1.GetMetadataRequest{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	for _, s := range res.GetShards() {
		ids = append(ids, s.GetShardId())
	}
	slices.Sort(ids)
	return ids
}

// awaitCaughtUp returns when a node has applied what was committed when the
// function was called, in all of its groups.
func (w *world) awaitCaughtUp(t *testing.T, n *cluster.Node) {
	t.Helper()
	ctx := withPatience(t)
	goals := map[uint64]uint64{}
	for _, other := range w.Nodes() {
		if other.Role != n.Role || !other.Running() {
			continue
		}
		st, err := other.Status(ctx)
		if err != nil {
			continue
		}
		for _, g := range st.GetGroups() {
			goals[g.GetGroupId()] = max(goals[g.GetGroupId()], g.GetCommit())
		}
	}
	eventually(t, fmt.Sprintf("%s catches up", n), func() error {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for _, g := range st.GetGroups() {
			if g.GetApplied() < goals[g.GetGroupId()] || g.GetLeader() == 0 {
				return fmt.Errorf("group %d has applied %d of %d, leader %d", g.GetGroupId(), g.GetApplied(), goals[g.GetGroupId()], g.GetLeader())
			}
		}
		return nil
	})
}

// restart starts a node again and waits until it is as good as before.
func (w *world) restart(t *testing.T, n *cluster.Node) {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.AwaitServing(withPatience(t)); err != nil {
		t.Fatal(err)
	}
	w.awaitCaughtUp(t, n)
}

// probe writes whole transactions over all shards, with a client that knew who
// led before.
type probe struct {
	p     *client.Producer
	topic string
	parts int32
	count int
	done  []string
}

func newProbe(t *testing.T, w *world) *probe {
	t.Helper()
	p := &probe{topic: w.topic(t, "probe", uint32(len(w.shards(t)))), parts: int32(len(w.shards(t)))}
	p.p = producer(t, w.client(t), unique(t, "probe"), client.WithLinger(0))
	p.write(t)
	return p
}

// write returns when a transaction with a record in every shard is committed.
func (p *probe) write(t *testing.T) {
	t.Helper()
	ctx := withPatience(t)
	p.count++
	value := fmt.Sprint("probe-", p.count)
	err := p.p.Transact(ctx, func(tx *client.Tx) error {
		for i := range p.parts {
			r := &client.Record{Topic: p.topic, Value: []byte(value)}
			if err := tx.Send(ctx, r.WithPartition(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	for range p.parts {
		p.done = append(p.done, value)
	}
}

// let lets a load run for a while.
func let(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// kill -9 of any one node of each cluster at any time, again and again, loses no acknowledged
// record and no acknowledged commit, repeats nothing, and the clients go on by
// themselves.
// Covers TX-18, TX-19, TB-01, TB-02, SY-01 of CONFORMANCE.md.
func TestKillAnyNodeAtAnyTime(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes for half a minute")
	}
	w := ownCluster(t, cluster.Config{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	l := startLoad(t, w)
	p := newProbe(t, w)
	l.awaitProgress()

	var schedule []string
	for range 3 {
		schedule = append(schedule, coordinatorLeader, coordinatorFollower, shardLeader, shardFollower, bothLeaders)
	}
	rng.Shuffle(len(schedule), func(i, j int) { schedule[i], schedule[j] = schedule[j], schedule[i] })
	times := map[string][]time.Duration{}
	for _, place := range schedule {
		let(t, time.Duration(rng.IntN(400))*time.Millisecond)
		victims := []*cluster.Node{}
		if place == bothLeaders {
			victims = append(victims, w.victim(t, coordinatorLeader, rng), w.victim(t, shardLeader, rng))
		} else {
			victims = append(victims, w.victim(t, place, rng))
		}
		begun := time.Now()
		for _, n := range victims {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		p.write(t)
		took := time.Since(begun)
		times[place] = append(times[place], took)
		t.Logf("%s killed %v: the next transaction is committed after %v", place, victims, took.Round(time.Millisecond))
		if took > tooLong {
			t.Errorf("%v until the next commit is too long", took)
		}
		l.awaitProgress()
		for _, n := range victims {
			w.restart(t, n)
		}
	}
	for _, place := range []string{coordinatorLeader, coordinatorFollower, shardLeader, shardFollower, bothLeaders} {
		ds := slices.Sorted(slices.Values(times[place]))
		t.Logf("%s: median %v, longest %v from kill to the next commit", place,
			ds[len(ds)/2].Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
	}
	l.finish()
	wantValues(t, "probes", w.readCommitted(t, w.client(t), p.topic), p.done...)
}

// SIGTERM hands leadership over before it ends a node: no client is told
// anything.
// Covers SY-01 of CONFORMANCE.md.
func TestGracefulStopIsNotNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("stops nodes")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	p := newProbe(t, w)
	l.awaitProgress()
	rng := rand.New(rand.NewPCG(1, 1))
	for _, place := range []string{coordinatorLeader, shardLeader, coordinatorLeader, shardLeader} {
		n := w.victim(t, place, rng)
		begun := time.Now()
		n.Stop(withPatience(t))
		stopped := time.Since(begun)
		p.write(t)
		t.Logf("%s (%s) stopped in %v: the next transaction is committed after %v", place, n,
			stopped.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
		if stopped > tooLong {
			t.Errorf("%s took %v to stop", n, stopped)
		}
		l.awaitProgress()
		w.restart(t, n)
	}
	l.finish()
	if l.retried > 0 {
		t.Errorf("%d transactions had to be started over", l.retried)
	}
}

// What a graceful stop costs a client that waits for every commit before it begins
// the next: leadership goes over in a round of messages, not in an election.
func TestPauseOfAGracefulStop(t *testing.T) {
	if testing.Short() {
		t.Skip("stops nodes")
	}
	w := ownCluster(t, cluster.Config{})
	topic := w.topic(t, "steady", 1)
	p := producer(t, w.client(t), unique(t, "steady"))
	once := func() time.Duration {
		begun := time.Now()
		tx := begin(t, p)
		send(t, tx, topic, "x")
		commit(t, tx)
		return time.Since(begun)
	}
	var usual []time.Duration
	for range 100 {
		usual = append(usual, once())
	}
	slices.Sort(usual)
	shard := w.metadata(t, topic).GetTopics()[0].GetPartitions()[0].GetShardId()
	rng := rand.New(rand.NewPCG(1, 1))
	for range 3 {
		leads, err := w.ShardLeader(withPatience(t), shard)
		if err != nil {
			t.Fatal(err)
		}
		for place, n := range map[string]*cluster.Node{coordinatorLeader: w.victim(t, coordinatorLeader, rng), shardLeader: leads} {
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				n.Stop(withPatience(t))
			}()
			longest := time.Duration(0)
			for ended := false; !ended; {
				select {
				case <-stopped:
					ended = true // and once more
				default:
				}
				longest = max(longest, once())
			}
			t.Logf("%s (%s) stopped: the longest commit took %v, a usual one %v", place, n,
				longest.Round(time.Millisecond), usual[len(usual)/2].Round(10*time.Microsecond))
			if longest > tooLong {
				t.Errorf("%v for one commit is too long", longest)
			}
			w.restart(t, n)
		}
	}
}

// kill -9 of all six nodes at once: everything acknowledged is there again,
// outcomes are remembered, and what was open times out.
func TestKillOfTheWholeCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	topic, id := w.topic(t, "open", 1), unique(t, "open")
	c := w.client(t)
	open := begin(t, producer(t, c, id, client.WithTransactionTimeout(2*time.Second)))
	p := producer(t, c, unique(t, "id"))
	var outcomes []client.TxID
	for range 5 {
		tx := begin(t, p)
		send(t, tx, topic, "committed")
		commit(t, tx)
		outcomes = append(outcomes, tx.ID())
	}
	gone := begin(t, p)
	send(t, gone, topic, "aborted")
	abort(t, gone)
	group := unique(t, "group")
	k, err := c.Consume(withPatience(t), group, []string{topic}, client.WithManualAssignment())
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Poll(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	position := b.Offsets()[client.TopicPartition{Topic: topic}]
	if err := k.Commit(withPatience(t), b); err != nil {
		t.Fatal(err)
	}
	send(t, open, topic, "open")
	l.awaitProgress()

	for _, n := range w.Nodes() {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	for _, n := range w.Nodes() {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range w.Nodes() {
		if err := n.AwaitServing(withPatience(t)); err != nil {
			t.Fatal(err)
		}
	}
	l.awaitProgress()
	t.Logf("the load goes on %v after the restart of all nodes", time.Since(begun).Round(time.Millisecond))
	for _, id := range outcomes {
		if o := w.outcome(t, id).GetOutcome(); o != committed {
			t.Errorf("%v is %v after the restart", id, o)
		}
	}
	if o := w.outcome(t, gone.ID()).GetOutcome(); o != aborted {
		t.Errorf("%v is %v after the restart", gone.ID(), o)
	}
	if o := w.groupOffset(t, group, topic, 0); o != position {
		t.Errorf("the group's position is %d, was %d", o, position)
	}
	res := w.awaitOutcome(t, open.ID(), aborted)
	if res.GetReason() != oncelogv1.AbortReason_ABORT_REASON_TIMEOUT {
		t.Errorf("what was open ended by %v", res.GetReason())
	}
	wantError(t, "commit of what was open", open.Commit(withPatience(t)), client.ErrTxTimeout, client.ClassAbortable)
	l.finish()
	got := w.readCommitted(t, w.client(t), topic)
	if !slices.Equal(got, []string{"committed", "committed", "committed", "committed", "committed"}) {
		t.Errorf("read_committed shows %q", got)
	}
}
