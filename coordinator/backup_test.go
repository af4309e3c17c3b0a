package coordinator

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// keepAll has every shard kept at once.
func keepAll(_ context.Context, req *oncelogv1.OpenBackupRequest) (*oncelogv1.OpenBackupResponse, error) {
	res := &oncelogv1.OpenBackupResponse{}
	for _, shard := range req.GetShardIds() {
		res.Shards = append(res.Shards, &oncelogv1.OpenedBackup{ShardId: shard, Index: 7, Term: 1})
	}
	return res, nil
}

// keepAfter has every shard kept once the channel is closed.
func keepAfter(kept <-chan struct{}) func(context.Context, *oncelogv1.OpenBackupRequest) (*oncelogv1.OpenBackupResponse, error) {
	return func(ctx context.Context, req *oncelogv1.OpenBackupRequest) (*oncelogv1.OpenBackupResponse, error) {
		select {
		case <-kept:
			return keepAll(ctx, req)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type cutResult struct {
	*cut
	err error
}

// cut begins a cut by the leader.
func (c *cluster) cut(hold time.Duration) <-chan cutResult {
	s := &backupService{Coordinator: c.leader().c}
	done := make(chan cutResult, 1)
	go func() {
		made, err := s.cut(c.ctx(), hold)
		done <- cutResult{made, err}
	}()
	settle()
	return done
}

// outcomeIn is how a transaction stands in a backup.
func outcomeIn(t *testing.T, made *cut, p *producer, number uint64) txn.Status {
	t.Helper()
	r, err := openBackup(made.state)
	if err != nil {
		t.Fatal(err)
	}
	return r.txns.GetOutcome(txn.Ref{ProducerID: p.pid, Epoch: p.epoch, Number: number}).Status
}

// What is decided while shards are kept is told nobody, neither clients nor shards,
// and is not in the backup; what was decided before is on its way meanwhile.
func TestNothingFollowsFromWhatABackupLacks(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.play(unreachable)
		p.mustEnd(1, true, wrote(topic, 0, 1))
		kept := make(chan struct{})
		c.shards.open = keepAfter(kept)
		done := c.cut(time.Second)

		c.shards.take()
		c.shards.play(nil)
		answered := make(chan error, 2)
		leader, request := c.leader(), p.request(2, true, wrote(topic, 0, 1))
		go func() {
			_, err := leader.txns().EndTransaction(t.Context(), request)
			answered <- err
		}()
		go func() {
			_, err := leader.txns().InitProducer(t.Context(), &oncelogv1.InitProducerRequest{TransactionalId: "other", TimeoutMs: 10_000})
			answered <- err
		}()
		pass(500 * time.Millisecond)
		var status txn.Status
		leader.c.state.read(func() {
			status = leader.c.state.txns.GetOutcome(txn.Ref{ProducerID: p.pid, Epoch: p.epoch, Number: 2}).Status
		})
		if status != txn.StatusCommitted || len(answered) > 0 {
			t.Fatalf("the transaction is %v, and %d calls were answered", status, len(answered))
		}
		wantEqual(t, "markers meanwhile", told(c.shards.take()), []string{"2 1/0/1 COMMIT"})

		close(kept)
		settle()
		made := <-done
		wantCode(t, made.err, "")
		wantCode(t, <-answered, "")
		wantCode(t, <-answered, "")
		wantEqual(t, "markers afterwards", told(c.shards.take()), []string{"2 1/0/2 COMMIT"})
		wantEqual(t, "in the backup, the first", outcomeIn(t, made.cut, p, 1), txn.StatusCommitted)
		if got := outcomeIn(t, made.cut, p, 2); got == txn.StatusCommitted {
			t.Errorf("in the backup, the second is %v", got)
		}
		wantEqual(t, "shards", made.proto.GetShards()[0].GetIndex(), uint64(7))
		if secret := leader.c.state.catalog.Keys()[0].Secret; bytes.Contains(made.state, secret) {
			t.Error("a key that signs tokens is in the backup")
		}
	})
}

// A shard that is not kept in time costs the backup, and nothing else; the next one
// has to wait for a while.
func TestABackupThatTakesTooLongFails(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.open = keepAfter(nil)
		done := c.cut(time.Second)
		pass(time.Second)
		made := <-done
		if meta := wantCode(t, made.err, "UNAVAILABLE"); meta[apierrors.KeyShards] != "2" {
			t.Errorf("%v", meta)
		}
		settle()
		wantEqual(t, "abandoned", len(c.shards.abandoned), 1)
		p.mustEnd(1, true, wrote(topic, 0, 1))
		c.until("the marker is applied", func() bool { return p.outcome(1) == "COMMITTED" })

		c.shards.open = keepAll
		wantCode(t, (<-c.cut(time.Second)).err, "OVERLOADED")
		pass(silenceShare * time.Second)
		wantCode(t, (<-c.cut(time.Second)).err, "")
	})
}

// Milliseconds that do not fit a duration are refused, not taken for none.
func TestTheHoldOfABackupIsBounded(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		s := &backupService{Coordinator: c.leader().c}
		for ms, want := range map[int64]string{
			-1: "INVALID_ARGUMENT", math.MinInt64: "INVALID_ARGUMENT", 5001: "LIMIT_EXCEEDED", math.MaxInt64: "LIMIT_EXCEEDED",
		} {
			wantCode(t, s.CreateBackup(&oncelogv1.CreateBackupRequest{HoldMs: ms}, nil), want)
		}
	})
}

// A shard that nobody leads costs no silence.
func TestABackupNeedsALeaderOfEveryShard(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("t", 1, 1)
		c.moveLeader() // it has not heard of any shard
		c.shards.open = keepAll
		done := c.cut(time.Second)
		c.producer("app") // is answered
		pass(time.Second)
		wantCode(t, (<-done).err, "UNAVAILABLE")
		c.report(1)
		wantCode(t, (<-c.cut(time.Second)).err, "")
	})
}

// Who leads next is not silent.
func TestABackupFailsWhenTheLeaderChanges(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("t", 1, 1)
		kept := make(chan struct{})
		c.shards.open = keepAfter(kept)
		done := c.cut(5 * time.Second)
		c.moveLeader()
		close(kept)
		pass(5 * time.Second)
		if made := <-done; apierrors.CodeOf(made.err) != oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE {
			t.Errorf("%v", made.err)
		}
	})
}

// A restored cluster knows what the backup has, and nobody of the old one goes on
// unnoticed.
func TestARestoredClusterBeginsAnew(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := c.topic("t", 2, 3)
		p := c.producer("app")
		p.mustEnd(1, true, wrote(topic, 0, 1))
		p.accept(2, shardOf(topic, 0))
		c.shards.open = keepAll
		made := <-c.cut(time.Second)
		wantCode(t, made.err, "")

		home := NewHome{Coordinators: []uint64{9}, NewHome: catalog.NewHome{
			ClusterID: "again", Instances: map[uint64]string{4: "d4", 5: "d5"}, Indexes: map[uint64]uint64{shardOf(topic, 0): 70},
		}}
		state, shards, err := Restored(made.state, home)
		wantCode(t, err, "")
		for _, s := range shards {
			wantEqual(t, "replicas", len(s.Replicas), 2)
		}
		again, _, err := Restored(made.state, home)
		wantCode(t, err, "")
		if !bytes.Equal(state, again) {
			t.Error("two members would begin with different states")
		}

		log := &disk{Store: memlog.New(nil)}
		if err := raftstore.ImportState(log, GroupID, state, []raftstore.NodeID{9}); err != nil {
			t.Fatal(err)
		}
		next := &cluster{t: t, net: c.net, shards: c.shards, nodes: []*member{{id: 9, log: log}}}
		next.start(next.nodes[0])
		defer next.stop(next.nodes[0])
		leader := next.leader()
		wantEqual(t, "open, as it was", p.outcome(2), "OPEN")
		// The first one again, in the new cluster: aborted, or refused with its token.
		old := &producer{c: next, id: p.id, pid: p.pid, epoch: p.epoch, token: p.token}
		_, err = old.end(2, true, wrote(topic, 0, 1))
		wantCode(t, err, "INVALID_PRODUCER_TOKEN")
		wantEqual(t, "committed before", old.outcome(1)[:9], "COMMITTED")
		if got := old.outcome(2); got[:7] != "ABORTED" {
			t.Errorf("the open transaction is %s", got)
		}
		if p := next.producer("app"); p.epoch != old.epoch+2 {
			t.Errorf("epoch %d after %d", p.epoch, old.epoch)
		}
		leader.check(t)
		// Nodes come with the directories that were made for them, and no others.
		for id, want := range map[uint64]string{4: "", 5: "NODE_ID_IN_USE"} {
			_, err := leader.cluster().RegisterNode(next.ctx(), &oncelogv1.RegisterNodeRequest{
				NodeId: id, InstanceId: "d4", ClientAddress: "a:1", PeerAddress: "a:2", ClusterId: "again",
			})
			wantCode(t, err, want)
		}
	})
}

// What a backup of damage says, and a home that cannot be.
func TestRestoredRefuses(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("t", 1, 1)
		c.shards.open = keepAll
		made := <-c.cut(time.Second)
		wantCode(t, made.err, "")
		good := NewHome{Coordinators: []uint64{1}, NewHome: catalog.NewHome{ClusterID: "again", Instances: map[uint64]string{1: "d"}}}
		same := good
		same.ClusterID = made.proto.GetClusterId()
		nobody, nowhere := good, good
		nobody.Coordinators, nowhere.Instances = nil, nil
		for name, home := range map[string]NewHome{"the old cluster": same, "no coordinator": nobody, "no node": nowhere} {
			if _, _, err := Restored(made.state, home); err == nil {
				t.Errorf("%s: restored", name)
			}
		}
		for i := range made.state[:len(made.state)-1] {
			if _, err := OpenBackup(made.state[:i]); err == nil {
				t.Fatalf("the first %d bytes are a backup", i)
			}
		}
		if _, err := OpenBackup(nil); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
