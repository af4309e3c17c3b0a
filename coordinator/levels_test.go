package coordinator

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

// TestLevelIsRaisedWhenEverybodyReadsIt: three coordinators and a partition node are
// upgraded one after the other; the last one raises the level, and then an older
// program is refused, whichever kind of node it is.
func TestLevelIsRaisedWhenEverybodyReadsIt(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, d directories) {
		beat := func(reads uint32) error {
			_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1), MaxFormatLevel: reads})
			return err
		}
		c.register(1)
		upgrade := func(m *member) {
			d.stop(c, m)
			old := d.settings[m.id]
			d.settings[m.id] = func(cfg *Config) { old(cfg); cfg.MaxFormatLevel = level.Newest }
			d.start(c, m)
		}
		levels := func() (out []uint32) {
			for _, m := range c.nodes {
				out = append(out, m.c.formatLevel())
			}
			return out
		}
		// held gives a leader the time to ask everybody, more than once.
		held := func() {
			for range 3 {
				pass(levelPause)
				if err := beat(level.First); err != nil {
					t.Fatal(err)
				}
			}
			if got := levels(); slices.Max(got) != level.First {
				t.Fatalf("levels %v while somebody reads only the first", got)
			}
		}
		held()
		for _, m := range c.nodes[:2] {
			upgrade(m)
			held()
		}
		upgrade(c.nodes[2])
		held() // the partition node is old
		c.until("the level is raised", func() bool { _ = beat(level.Newest); return slices.Min(levels()) == level.Newest })

		wantEqual(t, "the level that the node told", wantCode(t, beat(level.First), "NODE_TOO_OLD")["limit"], level.First)
		wantEqual(t, "the cluster's", wantCode(t, beat(0), "NODE_TOO_OLD")["level"], level.Newest)
		_, err := c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
			NodeId: 2, InstanceId: "i", ClientAddress: "c", PeerAddress: "p",
		})
		wantCode(t, err, "NODE_TOO_OLD")
		x := c.leader()
		member, _ := x.c.member(x.id)
		_, err = oncelogv1.NewMemberServiceClient(x.peer).AnnounceMember(c.ctx(), &oncelogv1.AnnounceMemberRequest{
			NodeId: 1, InstanceId: "i", ClientAddress: member.ClientAddress, PeerAddress: member.PeerAddress, Joining: true,
		})
		wantCode(t, err, "NODE_TOO_OLD")

		// The level outlives the leader.
		c.moveLeader()
		if got := levels(); slices.Min(got) != level.Newest {
			t.Errorf("levels %v after a change of leader", got)
		}
	})
}

// TestGiveUpDisk: a node says itself that its data directory is damaged. That is as if
// an operator had said it, but for the node being heard of.
func TestGiveUpDisk(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.MaxFormatLevel = level.Newest }, func(t *testing.T, c *cluster) {
		cluster := c.describe().GetClusterId()
		ask := func(node uint64, bend func(*oncelogv1.GiveUpDiskRequest)) error {
			req := &oncelogv1.GiveUpDiskRequest{NodeId: node, InstanceId: instance(node), ClusterId: cluster, Damage: "entry 5 of group 2"}
			if bend != nil {
				bend(req)
			}
			_, err := c.leader().cluster().GiveUpDisk(c.ctx(), req)
			return err
		}
		register := func(node uint64, instance string) {
			must(c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
				NodeId: node, InstanceId: instance, ClientAddress: clientAddress(node), PeerAddress: peerAddress(node), MaxFormatLevel: level.Newest,
			}))
		}
		for node := uint64(1); node <= 3; node++ {
			register(node, instance(node))
		}
		c.until("the level is raised", func() bool {
			for node := uint64(1); node <= 3; node++ {
				must(c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: node, InstanceId: instance(node), MaxFormatLevel: level.Newest}))
			}
			return c.leader().c.formatLevel() == level.Newest
		})
		must(proposeCatalog(c.ctx(), c.leader().c, catalog.CreateTopic{Name: "a", Partitions: 1, ReplicationFactor: 3}))
		for _, wrong := range []struct {
			bend func(*oncelogv1.GiveUpDiskRequest)
			code string
		}{
			{func(r *oncelogv1.GiveUpDiskRequest) { r.InstanceId = "" }, "INVALID_ARGUMENT"},
			{func(r *oncelogv1.GiveUpDiskRequest) { r.InstanceId = strings.Repeat("i", 65) }, "LIMIT_EXCEEDED"},
			{func(r *oncelogv1.GiveUpDiskRequest) { r.Damage = strings.Repeat("d", 301) }, "LIMIT_EXCEEDED"},
			{func(r *oncelogv1.GiveUpDiskRequest) { r.ClusterId = "" }, "WRONG_CLUSTER"},
			{func(r *oncelogv1.GiveUpDiskRequest) { r.InstanceId = "another" }, "NODE_ID_IN_USE"},
			{func(r *oncelogv1.GiveUpDiskRequest) { r.NodeId = 9 }, "UNKNOWN_NODE"},
		} {
			wantCode(t, ask(1, wrong.bend), wrong.code)
		}
		for range 2 { // a repeated one is no error
			if err := ask(1, nil); err != nil {
				t.Fatal(err)
			}
		}
		wantEqual(t, "disk lost", c.describe().GetNodes()[0].GetDiskLost(), true)
		wantCode(t, ask(2, nil), "SHARD_WOULD_BE_LOST")
		register(1, "fresh")
		wantCode(t, ask(1, nil), "NODE_ID_IN_USE") // a late one
		wantEqual(t, "disk lost", c.describe().GetNodes()[0].GetDiskLost(), false)
	})
}

// TestGiveUpReplica: a node says of its copy of one shard that it is damaged. The copy is
// lost and made anew in another life, and nothing else of the node is touched.
func TestGiveUpReplica(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.MaxFormatLevel = level.Newest }, func(t *testing.T, c *cluster) {
		cluster := c.describe().GetClusterId()
		ask := func(node uint64, bend func(*oncelogv1.GiveUpReplicaRequest)) error {
			req := &oncelogv1.GiveUpReplicaRequest{NodeId: node, InstanceId: instance(node), ClusterId: cluster, ShardId: 2, Damage: "entry 5 of group 2"}
			if bend != nil {
				bend(req)
			}
			_, err := c.leader().cluster().GiveUpReplica(c.ctx(), req)
			return err
		}
		for node := uint64(1); node <= 3; node++ {
			must(c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
				NodeId: node, InstanceId: instance(node), ClientAddress: clientAddress(node), PeerAddress: peerAddress(node), MaxFormatLevel: level.Newest,
			}))
		}
		beat := func(node uint64) *oncelogv1.HeartbeatResponse {
			return must(c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: node, InstanceId: instance(node), MaxFormatLevel: level.Newest}))
		}
		c.until("the level is raised", func() bool {
			for node := uint64(1); node <= 3; node++ {
				beat(node)
			}
			return c.leader().c.formatLevel() == level.Newest
		})
		must(proposeCatalog(c.ctx(), c.leader().c, catalog.CreateTopic{Name: "a", Partitions: 1, ReplicationFactor: 3}))
		for _, wrong := range []struct {
			bend func(*oncelogv1.GiveUpReplicaRequest)
			code string
		}{
			{func(r *oncelogv1.GiveUpReplicaRequest) { r.InstanceId = "" }, "INVALID_ARGUMENT"},
			{func(r *oncelogv1.GiveUpReplicaRequest) { r.ShardId = 0 }, "INVALID_ARGUMENT"},
			{func(r *oncelogv1.GiveUpReplicaRequest) { r.InstanceId = strings.Repeat("i", 65) }, "LIMIT_EXCEEDED"},
			{func(r *oncelogv1.GiveUpReplicaRequest) { r.Damage = strings.Repeat("d", 301) }, "LIMIT_EXCEEDED"},
			{func(r *oncelogv1.GiveUpReplicaRequest) { r.ClusterId = "" }, "WRONG_CLUSTER"},
			{func(r *oncelogv1.GiveUpReplicaRequest) { r.InstanceId = "another" }, "NODE_ID_IN_USE"},
			{func(r *oncelogv1.GiveUpReplicaRequest) { r.NodeId = 9 }, "UNKNOWN_NODE"},
		} {
			wantCode(t, ask(1, wrong.bend), wrong.code)
		}
		shards := len(c.describe().GetShards())
		for range 2 { // a repeated one is no error
			if err := ask(1, nil); err != nil {
				t.Fatal(err)
			}
		}
		wantCode(t, ask(2, nil), "SHARD_WOULD_BE_LOST")
		wantEqual(t, "disk lost", c.describe().GetNodes()[0].GetDiskLost(), false)
		c.until("the copy is made anew in its place", func() bool {
			hosted := beat(1).GetShards()
			for _, a := range hosted {
				if a.GetShardId() == 2 && (a.GetLife() != 1 || !a.GetJoin()) {
					t.Fatalf("the node is to host %v", a)
				}
			}
			return len(hosted) == shards
		})
		if err := ask(1, nil); err != nil { // a late one
			t.Fatal(err)
		}
		wantEqual(t, "move cancelled", c.describe().GetShards()[0].GetMove().GetCancelled(), false)
	})
}

// What an operator's late request says of a data directory does not hit the next one.
func TestRemovalOfTheDirectoryBefore(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.MaxFormatLevel = level.Newest }, func(t *testing.T, c *cluster) {
		must(c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
			NodeId: 1, InstanceId: instance(1), ClientAddress: clientAddress(1), PeerAddress: peerAddress(1), MaxFormatLevel: level.Newest,
		}))
		c.until("the level is raised", func() bool { return c.leader().c.formatLevel() == level.Newest })
		_, err := c.placement().RemoveNode(c.ctx(), &oncelogv1.RemoveNodeRequest{NodeId: 1, InstanceId: "the one before"})
		wantCode(t, err, "UNKNOWN_NODE")
		pass(DefaultNodeTimeout + time.Second)
		must(c.placement().ReplaceDisk(c.ctx(), &oncelogv1.ReplaceDiskRequest{NodeId: 1, InstanceId: "the one before"}))
		wantEqual(t, "disk lost", c.describe().GetNodes()[0].GetDiskLost(), false)
		must(c.placement().ReplaceDisk(c.ctx(), &oncelogv1.ReplaceDiskRequest{NodeId: 1, InstanceId: instance(1)}))
		wantEqual(t, "disk lost", c.describe().GetNodes()[0].GetDiskLost(), true)
		must(c.placement().RemoveNode(c.ctx(), &oncelogv1.RemoveNodeRequest{NodeId: 1}))
	})
}

// TestGiveUpDiskBeforeTheLevel: no such command is written while somebody cannot read it.
func TestGiveUpDiskBeforeTheLevel(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		_, err := c.leader().cluster().GiveUpDisk(c.ctx(), &oncelogv1.GiveUpDiskRequest{
			NodeId: 1, InstanceId: instance(1), ClusterId: c.describe().GetClusterId(),
		})
		wantCode(t, err, "UNAVAILABLE")
		_, err = c.leader().cluster().GiveUpReplica(c.ctx(), &oncelogv1.GiveUpReplicaRequest{
			NodeId: 1, InstanceId: instance(1), ClusterId: c.describe().GetClusterId(), ShardId: 2,
		})
		wantCode(t, err, "UNAVAILABLE")
		wantEqual(t, "disk lost", c.describe().GetNodes()[0].GetDiskLost(), false)
	})
}
