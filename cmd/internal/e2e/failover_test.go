package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// pauseNode stops a node's process where it is and makes sure that it goes on
// before the cluster is taken down.
func pauseNode(t *testing.T, n *cluster.Node) {
	t.Helper()
	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Resume() })
}

// queued are calls to a paused node: they wait in its socket, and it answers them
// when it goes on, before it has heard of anything.
type queued struct {
	calls sync.WaitGroup
	mu    sync.Mutex
	errs  []error
}

// add makes a call in the background; check gets its result.
func (q *queued) add(check func(ctx context.Context) error) {
	q.calls.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := check(ctx); err != nil {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.errs = append(q.errs, err)
		}
	})
}

func (q *queued) wait(t *testing.T) {
	t.Helper()
	q.calls.Wait()
	if err := errors.Join(q.errs...); err != nil {
		t.Error(err)
	}
}

// refused reports whether a node said that it does not lead, or nothing at all.
func refused(err error) bool { return err != nil && away(err) }

// A coordinator leader that stood still while another was elected does not know
// that it is deposed. Nothing that it answers may be wrong.
func TestPausedCoordinatorLeaderGivesNoWrongAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("pauses nodes")
	}
	w := ownCluster(t, cluster.Config{})
	c := w.client(t)
	topic, group, id := w.topic(t, "in", 1), unique(t, "group"), unique(t, "id")
	produce(t, c, topic, numbered("seed", 10)...)
	ctx := withPatience(t)
	k, err := c.Consume(ctx, group, []string{topic}, client.WithManualAssignment(), client.WithMaxPollRecords(3))
	if err != nil {
		t.Fatal(err)
	}
	p := producer(t, c, id)
	l := startLoad(t, w)
	l.awaitProgress()
	move := func() (client.TxID, int64) {
		b, err := k.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tx := begin(t, p)
		send(t, tx, topic, "out")
		if err := tx.SendOffsets(ctx, b); err != nil {
			t.Fatal(err)
		}
		commit(t, tx)
		return tx.ID(), b.Offsets()[client.TopicPartition{Topic: topic}]
	}
	move()

	zombie, err := w.CoordinatorLeader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cc := w.conn(t, zombie.Client) // open before the pause
	if _, err := oncelogv1.NewStatusServiceClient(cc).GetStatus(ctx, &oncelogv1.GetStatusRequest{}); err != nil {
		t.Fatal(err)
	}
	pauseNode(t, zombie)
	begun := time.Now()
	last, position := move()
	t.Logf("a commit went through %v after the leader fell silent", time.Since(begun).Round(time.Millisecond))

	heir := producer(t, c, id) // a newer epoch, which the zombie does not know of
	var q queued
	for range 8 {
		q.add(func(ctx context.Context) error {
			res, err := oncelogv1.NewGroupServiceClient(cc).FetchOffsets(ctx, &oncelogv1.FetchOffsetsRequest{
				GroupId: group, Partitions: []*oncelogv1.PartitionRef{partition(topic, 0)}})
			if refused(err) || err == nil && int64(res.GetOffsets()[0].GetOffset()) == position {
				return nil
			}
			return fmt.Errorf("the zombie tells the position %v, %w; it is %d", res, err, position)
		})
		q.add(func(ctx context.Context) error {
			res, err := oncelogv1.NewTransactionServiceClient(cc).GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{Txn: ref(last)})
			if refused(err) || err == nil && res.GetOutcome() == committed {
				return nil
			}
			return fmt.Errorf("the zombie tells the outcome %v, %w", res, err)
		})
		q.add(func(ctx context.Context) error {
			// The old epoch: decided nowhere, so it may only be refused.
			stale := client.TxID{ProducerID: last.ProducerID, Epoch: last.Epoch, Number: last.Number + 1}
			res, err := oncelogv1.NewTransactionServiceClient(cc).DescribeTransaction(ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: id})
			if refused(err) || err == nil && res.GetEpoch() > stale.Epoch {
				return nil
			}
			return fmt.Errorf("the zombie describes %v, %w", res, err)
		})
	}
	let(t, 50*time.Millisecond) // let them reach its socket
	if err := zombie.Resume(); err != nil {
		t.Fatal(err)
	}
	q.wait(t)
	w.awaitCaughtUp(t, zombie)
	tx := begin(t, heir)
	send(t, tx, topic, "heir")
	commit(t, tx)
	l.awaitProgress()
	l.finish()
}

// A shard leader that stood still while another was elected: what it acknowledges
// is there, and what it shows is a part of what is there.
func TestPausedShardLeaderGivesNoWrongAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("pauses nodes")
	}
	w := ownCluster(t, cluster.Config{})
	c := w.client(t)
	topic := w.topic(t, "in", 1)
	shard := w.metadata(t, topic).GetTopics()[0].GetPartitions()[0].GetShardId()
	ctx := withPatience(t)
	zombie, err := w.ShardLeader(ctx, shard)
	if err != nil {
		t.Fatal(err)
	}
	idempotent := w.initProducer(t, "")
	if _, err := w.append(t, idempotent.append(0, partition(topic, 0), 0, "before")); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, w)
	l.awaitProgress()
	log := oncelogv1.NewLogServiceClient(w.conn(t, zombie.Client))
	if _, err := log.DescribePartitions(ctx, &oncelogv1.DescribePartitionsRequest{}); err != nil {
		t.Fatal(err)
	}
	pauseNode(t, zombie)
	begun := time.Now()
	p := producer(t, c, unique(t, "id"))
	tx := begin(t, p)
	send(t, tx, topic, "after")
	commit(t, tx)
	t.Logf("a commit went through %v after the leader fell silent", time.Since(begun).Round(time.Millisecond))

	var q queued
	var acked sync.Map
	for i := range 8 {
		// Each a producer of its own: whatever is accepted is the first of its kind.
		own := w.initProducer(t, "")
		value := fmt.Sprint("queued-", i)
		q.add(func(ctx context.Context) error {
			res, err := log.Append(ctx, own.append(0, partition(topic, 0), 0, value))
			if err == nil {
				acked.Store(value, res.GetResults()[0].GetBaseOffset())
			} else if !refused(err) {
				return fmt.Errorf("the zombie answers an append with %w", err)
			}
			return nil
		})
		q.add(func(ctx context.Context) error {
			got, err := fetch(ctx, log, &oncelogv1.FetchRequest{
				Partition: partition(topic, 0), Start: oncelogv1.StartPosition_START_POSITION_EARLIEST})
			if refused(err) {
				return nil
			}
			values := fetchedValues(got)
			if err != nil || len(values) == 0 || values[0] != "before" || len(values) > 1 && values[1] != "after" {
				return fmt.Errorf("the zombie shows %q, %w", values, err)
			}
			return nil
		})
	}
	let(t, 50*time.Millisecond) // let them reach its socket
	if err := zombie.Resume(); err != nil {
		t.Fatal(err)
	}
	q.wait(t)
	w.awaitCaughtUp(t, zombie)
	there := map[string]uint64{}
	for _, r := range w.visible(t, topic, rawRead) {
		if _, twice := there[string(r.GetRecord().GetValue())]; twice {
			t.Errorf("%s is there twice", r.GetRecord().GetValue())
		}
		there[string(r.GetRecord().GetValue())] = r.GetOffset()
	}
	acked.Range(func(value, offset any) bool {
		if at, ok := there[value.(string)]; !ok || at != offset.(uint64) {
			t.Errorf("%s was acknowledged at %d; there: %v, at %d", value, offset, ok, at)
		}
		return true
	})
	l.awaitProgress()
	l.finish()
}

// A partition node needs no coordinator to serve what it has: appends without a
// transaction, and reads, go on, also after a restart.
func TestPartitionNodeServesWithoutCoordinators(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes")
	}
	w := ownCluster(t, cluster.Config{})
	topic := w.topic(t, "in", 3)
	c := w.client(t)
	ctx := withPatience(t)
	p, err := c.IdempotentProducer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	k, err := c.Consume(ctx, "", []string{topic})
	if err != nil {
		t.Fatal(err)
	}
	write := func(values ...string) {
		t.Helper()
		if err := errors.Join(p.Send(ctx, records(topic, values...)...), p.Flush(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	write(numbered("before", 30)...)
	for _, n := range w.Nodes() {
		if n.Role == cluster.Coordinator {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(numbered("without", 30)...)
	for _, n := range w.Nodes() {
		if n.Role != cluster.Partition {
			continue
		}
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		write(numbered(fmt.Sprint("one-down-", n.ID), 30)...)
		w.restart(t, n)
		write(numbered(fmt.Sprint("back-", n.ID), 30)...)
	}
	// All at once: nobody is left who remembers.
	for _, n := range w.Nodes() {
		if n.Role == cluster.Partition {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range w.Nodes() {
		if n.Role == cluster.Partition {
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(numbered("after", 30)...)
	seen := map[string]int{}
	for len(seen) < 9*30 {
		b, err := k.Poll(ctx)
		if err != nil {
			t.Fatalf("after %d records: %v", len(seen), err)
		}
		for r := range b.Records() {
			if seen[string(r.Value)]++; seen[string(r.Value)] > 1 {
				t.Errorf("%s is there twice", r.Value)
			}
		}
	}
	// Transactions need the coordinator, and say so in time.
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if _, err := c.InitTransactions(short, unique(t, "id")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("init without a coordinator: %v", err)
	}
	for _, n := range w.Nodes() {
		if n.Role == cluster.Coordinator {
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	tx := begin(t, producer(t, c, unique(t, "id")))
	send(t, tx, topic, "with")
	commit(t, tx)
	if n := len(w.read(t, c, client.ReadCommitted, topic)); n != 9*30+1 {
		t.Errorf("%d records", n)
	}
}

// A node that has lost its disk has lost its votes: it must not come back under
// its id.
func TestWipedNodeIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	l.awaitProgress()
	n := w.Node(cluster.Partition, 2)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(n.DataDir()); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	ended := n.AwaitServing(withPatience(t))
	if ended == nil || !strings.Contains(n.LogTail(), "NODE_ID_IN_USE") {
		t.Errorf("a wiped node came back: %v; it logged %s", ended, n.LogTail())
	}
	_ = n.Kill()

	leader, err := w.CoordinatorLeader(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = oncelogv1.NewNodeServiceClient(w.conn(t, leader.Peer)).RegisterNode(t.Context(), &oncelogv1.RegisterNodeRequest{
		NodeId: n.ID, InstanceId: "another-disk", ClientAddress: n.Client, PeerAddress: n.Peer, MaxFormatLevel: level.Newest,
	})
	wantCode(t, "another disk under an old id", err, oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE)
	_, err = oncelogv1.NewNodeServiceClient(w.conn(t, leader.Peer)).RegisterNode(t.Context(), &oncelogv1.RegisterNodeRequest{
		NodeId: 9, InstanceId: "a-disk", ClusterId: "elsewhere", ClientAddress: n.Client, PeerAddress: n.Peer,
	})
	wantCode(t, "a disk of another cluster", err, oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER)
	l.awaitProgress()
	l.finish()
}

// The same of a coordinator: the others know its data directory, tell it so, and go
// on without it. A directory that is brought back is welcome.
func TestWipedCoordinatorIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	l.awaitProgress()
	n, err := w.CoordinatorLeader(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	kept := n.DataDir() + "-kept"
	if err := os.Rename(n.DataDir(), kept); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.DataDir(), 0o755); err != nil { // for its log file
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the wiped coordinator ends", func() error {
		if n.Exited() == nil {
			return errors.New("it runs")
		}
		return nil
	})
	if text := n.LogTail(); !strings.Contains(text, "NODE_ID_IN_USE") || !strings.Contains(text, "bring that directory back") {
		t.Errorf("it logged %s", text)
	}
	_ = n.Kill()
	l.awaitProgress()
	if err := errors.Join(os.RemoveAll(n.DataDir()), os.Rename(kept, n.DataDir())); err != nil {
		t.Fatal(err)
	}
	w.restart(t, n)
	l.awaitProgress()
	l.finish()
}

// Many commands make the coordinator take snapshots and cut its log, while nodes
// are missing and come back: a follower that was away gets a snapshot, and a
// restart from one remembers everything.
func TestCoordinatorSnapshots(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes and makes 17,000 commands")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	ctx := withPatience(t)
	rng := rand.New(rand.NewPCG(2, 2))
	away := w.victim(t, coordinatorFollower, rng)
	left, err := away.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := away.Kill(); err != nil {
		t.Fatal(err)
	}
	const producers, each = 48, 350
	last := make([]*oncelogv1.EndTransactionRequest, producers)
	var wg sync.WaitGroup
	for i := range producers {
		init := w.initProducer(t, unique(t, "id"))
		wg.Go(func() {
			for n := range uint64(each) {
				last[i] = init.end(n+1, n%2 == 0, nil, 0)
				if _, err := w.endTransaction(t, ctx, last[i]); err != nil {
					t.Errorf("empty transaction %d: %v", n+1, err)
					return
				}
			}
		})
	}
	wg.Wait()
	leader, err := w.CoordinatorLeader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st, err := leader.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g := st.GetGroups()[0]
	if g.GetFirstIndex() <= left.GetGroups()[0].GetLastIndex()+1 || g.GetApplied() < producers*each {
		t.Errorf("the log was not cut: first index %d, applied %d; the follower left at %d", g.GetFirstIndex(), g.GetApplied(),
			left.GetGroups()[0].GetLastIndex())
	}
	t.Logf("after %d entries the log begins at %d", g.GetApplied(), g.GetFirstIndex())

	w.restart(t, away) // its log ends before the others' begin
	for _, n := range w.Nodes() {
		if n.Role == cluster.Coordinator {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
			w.restart(t, n)
		}
	}
	l.awaitProgress()
	for i, req := range last {
		res, err := w.endTransaction(t, ctx, req)
		if err != nil || (res.GetOutcome() == committed) != req.GetCommit() {
			t.Errorf("producer %d: the repeated end of its last transaction is answered %v, %v", i, res, err)
		}
	}
	l.finish()
}

// A follow stream does not outlive its node's leadership silently: a reader that
// was connected to a leader that is gone goes on elsewhere. (With the SDK; the
// plain stream ends with an error.)
func TestFollowStreamEndsWithItsNode(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes")
	}
	w := ownCluster(t, cluster.Config{})
	topic := w.topic(t, "in", 1)
	shard := w.metadata(t, topic).GetTopics()[0].GetPartitions()[0].GetShardId()
	leader, err := w.ShardLeader(withPatience(t), shard)
	if err != nil {
		t.Fatal(err)
	}
	c := w.client(t)
	produce(t, c, topic, "one")
	for _, end := range []func(){
		func() { leader.Stop(withPatience(t)) },
		func() { _ = leader.Kill() },
	} {
		if leader, err = w.ShardLeader(withPatience(t), shard); err != nil {
			t.Fatal(err)
		}
		stream, err := oncelogv1.NewLogServiceClient(w.conn(t, leader.Client)).Fetch(withPatience(t), &oncelogv1.FetchRequest{
			Partition: partition(topic, 0), Start: oncelogv1.StartPosition_START_POSITION_EARLIEST, Follow: true,
		}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		end()
		for err == nil {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) && !away(err) {
			t.Errorf("the stream ended with %v", err)
		}
		w.restart(t, leader)
	}
}
