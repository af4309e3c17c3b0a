package partition

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// tell gives the nodes another assignment.
func (c *cluster) tell(change func(a *oncelogv1.HeartbeatResponse)) {
	c.coord.with(func() {
		a := proto.CloneOf(c.coord.assignment)
		a.Version++
		a.Released = nil
		change(a)
		c.coord.assignment = a
	})
}

// heard waits until a node has said in a heartbeat that it knows the assignment.
func (c *cluster) heard(id uint64) *oncelogv1.HeartbeatRequest {
	c.t.Helper()
	c.coord.await(c.t, "a node to learn", func() bool {
		return c.coord.reports[id].GetKnownVersion() == c.coord.assignment.GetVersion()
	})
	c.coord.mu.Lock()
	defer c.coord.mu.Unlock()
	return c.coord.reports[id]
}

func (n *testNode) groups(t *testing.T) []raftstore.GroupID {
	t.Helper()
	groups, err := n.disk.Groups()
	if err != nil {
		t.Fatal(err)
	}
	return groups
}

// A copy goes when the coordinator releases it, by name and life, and not because it
// is in no assignment.
func TestReleasedCopyIsDeleted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	ref := pstate.TxnRef{ProducerID: 9}
	c.append(n, ref, pA, 0, "a")
	c.tell(func(a *oncelogv1.HeartbeatResponse) { a.Shards = nil })
	c.heard(1)
	c.append(n, ref, pA, 1, "b")
	c.tell(func(a *oncelogv1.HeartbeatResponse) {
		a.Released = []*oncelogv1.ReleasedShard{{ShardId: testShard, Life: 1}, {ShardId: 7}}
	})
	c.heard(1)
	c.append(n, ref, pA, 2, "c")
	// From a coordinator that knows less than the node did already.
	rest, err := n.release(n.assignment, &oncelogv1.HeartbeatResponse{Version: 1, Released: []*oncelogv1.ReleasedShard{{ShardId: testShard}}})
	if err != nil || len(rest.GetShards()) != 1 || n.shard(testShard) == nil {
		t.Fatalf("released by an old answer: %v, %v", rest, err)
	}

	reader := c.follow(n, pA, 2, committed)
	equal(t, "before", reader.until(1), "2=c")
	old := n.shard(testShard)
	c.tell(func(a *oncelogv1.HeartbeatResponse) { a.Released = []*oncelogv1.ReleasedShard{{ShardId: testShard}} })
	if req := c.heard(1); len(req.GetShards()) > 0 {
		t.Errorf("still reported: %v", req)
	}
	if g := n.groups(t); len(g) > 0 {
		t.Errorf("still on disk: %v", g)
	}
	// Whoever reads or writes is sent away; nobody takes what is gone for hidden.
	for err == nil { // it may have been told the bounds before
		_, err = reader.receive()
	}
	if code(err) != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		t.Errorf("a reader of what is gone: %v", err)
	}
	if err := old.reading(func() error { return nil }); code(err) != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		t.Errorf("the rows of what is gone are read: %v", err)
	}
	if _, err := n.client.Append(c.ctx(), appendRequest(ref, pA, 3, "d")); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION {
		t.Errorf("append: %v", err)
	}
	n.stop()
	n = c.start(1, n.dir, n.disk)
	if req := c.heard(1); len(req.GetShards()) > 0 || len(n.groups(t)) > 0 {
		t.Errorf("after a restart: %v", req)
	}
}

// A node that stopped while it dropped a copy, or before it wrote down that it has
// one, finds it on its disk, and the coordinator says what it is.
func TestStrayCopies(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{true, false} {
		c := newCluster(t, 1)
		n := c.leader()
		c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
		n.stop()
		if err := saveAssignment(datafile.Directory(n.dir), without(n.assignment, map[uint64]bool{testShard: true})); err != nil {
			t.Fatal(err)
		}
		shards := c.coord.assignment.GetShards()
		c.tell(func(a *oncelogv1.HeartbeatResponse) { a.Shards = nil })
		n = c.start(1, n.dir, n.disk)
		req := c.heard(1)
		if len(req.GetShards()) != 1 || req.GetShards()[0].GetShardId() != testShard || !slices.Equal(n.groups(t), []raftstore.GroupID{testShard}) {
			t.Fatalf("reported %v, on disk %v", req, n.groups(t))
		}
		if wanted {
			c.tell(func(a *oncelogv1.HeartbeatResponse) { a.Shards = shards })
			equal(t, "what was there", c.read(c.leader(), pA, 0, committed), "0=a")
			continue
		}
		c.tell(func(a *oncelogv1.HeartbeatResponse) { a.Released = []*oncelogv1.ReleasedShard{{ShardId: testShard}} })
		if req := c.heard(1); len(req.GetShards()) > 0 || len(n.groups(t)) > 0 {
			t.Errorf("released, and there is %v", req)
		}
	}
}

// A shard is hosted in its next life when the one before is released, with nothing
// of what that had.
func TestNextLifeBeginsEmpty(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	next := func(a *oncelogv1.HeartbeatResponse) {
		a.Shards[0].Life, a.Shards[0].Join, a.Shards[0].Version = 3, true, a.Version
	}
	c.tell(next)
	if req := c.heard(1); req.GetShards()[0].GetLife() != 0 || n.shard(testShard).life != 0 {
		t.Errorf("the next life began before the one before was released: %v", req)
	}
	c.tell(func(a *oncelogv1.HeartbeatResponse) {
		next(a)
		a.Released = []*oncelogv1.ReleasedShard{{ShardId: testShard}}
	})
	if req := c.heard(1); req.GetShards()[0].GetLife() != 3 || req.GetShards()[0].GetReady() {
		t.Errorf("reported %v", req)
	}
	if s := n.shard(testShard); s.group.Applied() != 0 || s.life != 3 {
		t.Errorf("life %d has applied %d", s.life, s.group.Applied())
	}
	n.stop()
	c.start(1, n.dir, n.disk)
	if req := c.heard(1); req.GetShards()[0].GetLife() != 3 {
		t.Errorf("after a restart: %v", req)
	}
}
