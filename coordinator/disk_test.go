package coordinator

import (
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

func (m *member) disk(t *testing.T) *oncelogv1.DiskStatus {
	t.Helper()
	return must(oncelogv1.NewStatusServiceClient(m.client).GetStatus(t.Context(), &oncelogv1.GetStatusRequest{})).GetDisk()
}

// TestLowDiskHandsLeadershipOver: a leader without room makes place for one that
// has some, says so, and is a member like others once it has room again.
func TestLowDiskHandsLeadershipOver(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		old := c.leader()
		pass(2 * time.Second)
		if d := old.disk(t); d.GetLow() || d.GetMinFreeBytes() == 0 || d.GetFreeBytes() < d.GetMinFreeBytes() {
			t.Errorf("disk %v", d)
		}
		old.log.full.Store(true)
		began := time.Now()
		c.until("another leads", func() bool { l := c.leader(); return l != old })
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		if d := old.disk(t); !d.GetLow() || d.GetFreeBytes() != 0 {
			t.Errorf("disk %v", d)
		}
		// It is asked to lead, and does not.
		now := c.leader()
		if err := now.c.group.TransferLeader(c.ctx(), raftstore.NodeID(old.id)); err == nil {
			t.Error("a member without room takes over")
		}
		c.until("somebody else leads", func() bool { return c.leader() != old })
		must(c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "x"}))
		old.log.full.Store(false)
		pass(2 * time.Second)
		if err := c.leader().c.group.TransferLeader(c.ctx(), raftstore.NodeID(old.id)); err != nil {
			t.Errorf("with room again: %v", err)
		}
		c.until("it leads again", func() bool { return c.leader() == old })
		must(c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "y"}))
	})
}

// TestLowDisksOfTwoOfThree: the one with room is found, whichever it is.
func TestLowDisksOfTwoOfThree(t *testing.T) {
	for room := range 3 {
		inBubbleNamed(t, room, func(t *testing.T, c *cluster) {
			c.leader()
			for i, m := range c.nodes {
				m.log.full.Store(i != room)
			}
			c.until("the one with room leads", func() bool { return c.nodes[room].c.group.Status().Ready })
			pass(5 * time.Second)
			if c.leader() != c.nodes[room] {
				t.Error("leadership does not stay where there is room")
			}
			must(c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "x"}))
		})
	}
}

func inBubbleNamed(t *testing.T, room int, test func(t *testing.T, c *cluster)) {
	t.Run("room on member "+string(rune('1'+room)), func(t *testing.T) { inBubble(t, 3, nil, test) })
}

// TestLowDisksEverywhere: writes are refused with the reason, reads go on, and all
// is well once there is room.
func TestLowDisksEverywhere(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.leader()
		for _, m := range c.nodes {
			m.log.full.Store(true)
		}
		pass(5 * time.Second) // it may go to one that has not looked yet
		leader := c.leader()
		pass(5 * time.Second)
		if c.leader() != leader {
			t.Error("leadership wanders where there is no room anywhere")
		}
		refused := func() string {
			_, err := leader.txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "x"})
			wantCode(t, err, "OVERLOADED")
			return err.Error()
		}
		if text := refused(); !strings.Contains(text, "min_free_bytes; make room") {
			t.Error(text)
		}
		must(leader.catalog().DescribeCluster(c.ctx(), &oncelogv1.DescribeClusterRequest{}))
		for _, m := range c.nodes {
			m.log.full.Store(false)
		}
		pass(2 * time.Second)
		must(c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "x"}))
	})
}

// TestNewShardsAvoidLowDisks: a node without room gets no new shard where others
// suffice, and does again once it has room.
func TestNewShardsAvoidLowDisks(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(4)
		beat := func(node uint64, low bool) {
			t.Helper()
			_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: node, InstanceId: instance(node), DiskLow: low})
			wantCode(t, err, "")
		}
		replicas := func(name string) map[uint64]bool {
			t.Helper()
			must(c.leader().catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: name, Partitions: 16, ReplicationFactor: 3, NoWait: true}))
			meta := must(c.leader().catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{Topics: []string{name}}))
			on := map[uint64]bool{}
			for _, s := range meta.GetShards() {
				for _, id := range s.GetReplicas() {
					on[id] = true
				}
			}
			return on
		}
		for id := uint64(1); id <= 4; id++ {
			beat(id, id == 2)
		}
		if on := replicas("a"); on[2] || len(on) != 3 {
			t.Errorf("shards on %v, and node 2 has no room", on)
		}
		for id := uint64(1); id <= 3; id++ {
			beat(id, true)
		}
		if on := replicas("b"); len(on) < 3 {
			t.Errorf("shards on %v: one node with room does not suffice, so all are taken", on)
		}
	})
}
