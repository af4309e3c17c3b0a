package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/raftstore"
)

// TestEveryCoordinatorIsReplaced: one after the other, with work under way. Who was
// replaced stops and stays stopped; who joined starts alone, with a list of members
// that are all gone.
func TestEveryCoordinatorIsReplaced(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, d directories) {
		producers := 0
		work := func() {
			producers++
			wantCode(t, c.onLeader(func(m *member) error {
				_, err := m.txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: fmt.Sprint("id-", producers)})
				return err
			}), "")
		}
		for old := uint64(1); old <= 3; old++ {
			work()
			wantCode(t, c.add(old+3, old+3, old), "")
			work()
			m := d.newcomer(c, old+3, old+3, old, old%3+1)
			d.start(c, m)
			want := append(c.ids(old+1, 3), c.ids(4, old+3)...)
			c.until("replaced", func() bool { return slices.Equal(c.settled(), want) })
			work()
			d.ended(c, c.node(old), fmt.Sprintf("coordinator %d was removed from the cluster", old))
			if id, err := openIdentityOf(d.files[old]); err != nil || !id.removed {
				t.Errorf("member %d has not written down that it was removed: %+v, %v", old, id, err)
			}
		}
		for _, id := range c.ids(4, 6) {
			d.stop(c, c.node(id))
		}
		for _, id := range c.ids(4, 6) {
			d.start(c, c.node(id))
		}
		leader := c.leader()
		c.until("all have joined again", func() bool { return slices.Equal(c.settled(), c.ids(4, 6)) })
		work()
		leader.check(t)
		if n := leader.c.state.txns.Counts().IDs; n != producers {
			t.Errorf("%d producers, want %d", n, producers)
		}
		list := c.list()
		for _, m := range list.GetMembers() {
			if m.GetState() != oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER || !m.GetAlive() || m.GetInstanceId() == "" || m.GetMatch() == 0 {
				t.Errorf("%v", m)
			}
		}
		meta := must(leader.catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{CoordinatorsOnly: true}))
		if len(meta.GetCoordinators()) != 3 || meta.GetCoordinators()[0].GetClientAddress() != clientAddress(4) || meta.GetCoordinatorsVersion() != list.GetVersion() {
			t.Errorf("%v", meta)
		}
		// Nobody is left whom the first ones know, and yet they do not start.
		for _, id := range c.ids(1, 3) {
			store, err := raftstore.Open(raftstore.Config{NodeID: raftstore.NodeID(id), Log: c.node(id).log, StallTimeout: -1})
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{NodeID: id, Store: store, DialPeer: c.shards.dial}
			c.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
				t.Errorf("member %d starts: %v", id, err)
			}
			if err := store.Close(c.ctx()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLostCoordinatorIsReplaced: on its own machine, at its own addresses, under an
// id of its own.
func TestLostCoordinatorIsReplaced(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, d directories) {
		lost := c.follower()
		d.stop(c, lost)
		d.lose(lost)
		pass(2 * time.Second)                      // until it is missed
		wantCode(t, c.add(0, 9, 0), "NO_MAJORITY") // of four three would be needed, and two are up
		wantCode(t, c.remove(c.leader().id), "NO_MAJORITY")
		wantCode(t, c.add(0, lost.id, lost.id), "")
		wantCode(t, c.add(0, lost.id, lost.id), "") // the answer was lost
		if list := c.list().GetMembers(); list[3].GetNodeId() != 4 || list[3].GetState() != oncelogv1.CoordinatorState_COORDINATOR_STATE_ADDED ||
			list[3].GetReplaces() != lost.id || list[lost.id-1].GetAlive() {
			t.Errorf("%v", list)
		}
		d.start(c, d.newcomer(c, 4, lost.id, c.ids(1, 3)...))
		c.until("replaced", func() bool { return len(c.settled()) == 3 && slices.Contains(c.settled(), 4) })
		c.leader()
	})
}

// TestRemovalThatWouldLeaveNoMajority is taken back, so that the member that is down
// can be replaced.
func TestRemovalThatWouldLeaveNoMajority(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, d directories) {
		leader, down := c.leader(), c.follower()
		d.stop(c, down)
		other := 6 - leader.id - down.id
		pass(2 * time.Second)
		res, err := proposeMember(c.ctx(), leader.c, membership.Remove{ID: other}) // as if both had been up
		if err != nil || res.Code != membership.CodeOK {
			t.Fatal(res, err)
		}
		pass(majorityPatience / 2)
		wantCode(t, c.add(0, 9, down.id), "CHANGE_IN_PROGRESS")
		c.until("it is kept", func() bool { return slices.Equal(c.settled(), c.ids(1, 3)) })
		wantCode(t, c.add(0, 9, down.id), "")
	})
}

func TestRefusedChanges(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, _ directories) {
		for what, x := range map[string]struct {
			err  error
			code string
		}{
			"an id that is used": {c.add(2, 9, 0), "NODE_ID_IN_USE"},
			"no host": {c.onLeader(func(m *member) error {
				_, err := m.coordinators().AddCoordinator(c.ctx(), &oncelogv1.AddCoordinatorRequest{ClientAddress: ":7100", PeerAddress: "p:1"})
				return err
			}), "INVALID_ARGUMENT"},
			"no port": {c.onLeader(func(m *member) error {
				_, err := m.coordinators().AddCoordinator(c.ctx(), &oncelogv1.AddCoordinatorRequest{ClientAddress: "c:1", PeerAddress: "p:0"})
				return err
			}), "INVALID_ARGUMENT"},
			"an id far away": {c.add(1<<40, 9, 0), "LIMIT_EXCEEDED"},
			"no address": {c.onLeader(func(m *member) error {
				_, err := m.coordinators().AddCoordinator(c.ctx(), &oncelogv1.AddCoordinatorRequest{NodeId: 9})
				return err
			}), "INVALID_ARGUMENT"},
			"somebody's address": {c.add(9, 2, 0), "INVALID_ARGUMENT"},
			"nobody to replace":  {c.add(9, 9, 7), "UNKNOWN_NODE"},
			"nobody to remove":   {c.remove(7), "UNKNOWN_NODE"},
			"nobody at all":      {c.remove(0), "INVALID_ARGUMENT"},
			"too long an address": {c.onLeader(func(m *member) error {
				_, err := m.coordinators().AddCoordinator(c.ctx(), &oncelogv1.AddCoordinatorRequest{ClientAddress: strings.Repeat("x", 256), PeerAddress: "p"})
				return err
			}), "LIMIT_EXCEEDED"},
		} {
			if codeName(x.err) != x.code {
				t.Errorf("%s: %v", what, x.err)
			}
		}
		_, err := c.follower().coordinators().ListCoordinators(c.ctx(), &oncelogv1.ListCoordinatorsRequest{})
		wantCode(t, err, "NOT_LEADER")
	})
}
