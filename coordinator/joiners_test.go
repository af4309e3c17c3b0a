package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// TestJoinerThatLosesItsDisk must not come back, for its vote may be counted: not
// when it votes, and not when only its directory is written down.
func TestJoinerThatLosesItsDisk(t *testing.T) {
	for _, votes := range []bool{false, true} {
		t.Run(fmt.Sprint("votes ", votes), func(t *testing.T) {
			grown(t, 3, func(t *testing.T, c *cluster, d directories) {
				wantCode(t, c.add(4, 4, 0), "")
				m := d.newcomer(c, 4, 4, 1, 2, 3)
				d.start(c, m)
				c.until("it has joined", func() bool {
					if votes {
						return slices.Equal(c.settled(), c.ids(1, 4))
					}
					x, _ := c.leader().c.state.members.Member(4)
					return x.Instance != ""
				})
				d.stop(c, m)
				if !votes {
					d.files[4] = fileMap{} // it was never written, or not durable
				}
				d.lose(m)
				d.start(c, m)
				d.ended(c, m, "replace it by a new coordinator")
				// The way out.
				if votes {
					wantCode(t, c.add(5, 4, 4), "")
				} else {
					wantCode(t, c.add(5, 5, 0), "CHANGE_IN_PROGRESS")
					wantCode(t, c.remove(4), "")
					c.until("it is gone", func() bool { return slices.Equal(c.settled(), c.ids(1, 3)) })
					wantCode(t, c.add(5, 4, 0), "")
				}
				d.start(c, d.newcomer(c, 5, 4, 1, 2))
				c.until("the next has joined", func() bool { return slices.Equal(c.settled(), []uint64{1, 2, 3, 5}) })
			})
		})
	}
}

// TestWhoComesTooEarly waits until somebody adds it.
func TestWhoComesTooEarly(t *testing.T) {
	grown(t, 1, func(t *testing.T, c *cluster, d directories) {
		m := d.newcomer(c, 2, 2, 1)
		d.start(c, m)
		pass(20 * announcePause)
		if m.c.opened.Load() {
			t.Error("it takes part")
		}
		wantCode(t, c.add(2, 2, 0), "")
		c.until("it has joined", func() bool { return slices.Equal(c.settled(), c.ids(1, 2)) })
		wantCode(t, c.remove(1), "")
		d.ended(c, c.node(1), "coordinator 1 was removed")
		c.until("it is alone", func() bool { return slices.Equal(c.settled(), []uint64{2}) })
		wantCode(t, c.remove(2), "NO_MAJORITY")
		wantCode(t, c.remove(1), "") // which was removed
	})
}

// TestWipedFounderAmongJoiners: who joined has not written it down itself, but knows
// from the log whose directory is whose, and that the cluster is there.
func TestWipedFounderAmongJoiners(t *testing.T) {
	grown(t, 1, func(t *testing.T, c *cluster, d directories) {
		for id := uint64(2); id <= 3; id++ {
			wantCode(t, c.add(id, id, 0), "")
			d.start(c, d.newcomer(c, id, id, 1))
			c.until("it has joined", func() bool { return slices.Equal(c.settled(), c.ids(1, id)) })
		}
		d.stop(c, c.node(1))
		d.lose(c.node(1))
		d.settings[1] = nil // the settings' list is that of today
		d.start(c, c.node(1))
		d.ended(c, c.node(1), "oncelog coordinator replace 1")
		m := &member{id: 9, log: &disk{Store: memlog.New(nil)}}
		c.nodes = append(c.nodes, m)
		d.files[9], d.logs[9] = fileMap{}, "log-9"
		d.start(c, m)
		d.ended(c, m, "the cluster is there already")
	})
}

// TestRemovedWhileAway: a member learns it when it is back, from those that it finds
// by its settings or its log.
func TestRemovedWhileAway(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, d directories) {
		away := c.follower()
		d.stop(c, away)
		wantCode(t, c.remove(away.id), "")
		c.until("it is removed", func() bool { return len(c.settled()) == 2 })
		d.start(c, away)
		d.ended(c, away, "was removed from the cluster")
		if a, ok := c.leader().c.PeerAddress(raftstore.NodeID(away.id)); ok {
			t.Errorf("it is still at %q", a)
		}
		// With an empty directory it is no founder any more, either.
		d.lose(away)
		d.files[away.id] = fileMap{}
		d.start(c, away)
		d.ended(c, away, "was removed from the cluster")
	})
}

func TestAnnouncementsAreChecked(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, _ directories) {
		leader := c.leader()
		cluster := leader.c.state.catalog.ClusterID()
		x, _ := leader.c.state.members.Member(1)
		call := func(m *member, change func(*oncelogv1.AnnounceMemberRequest)) (*oncelogv1.AnnounceMemberResponse, error) {
			req := &oncelogv1.AnnounceMemberRequest{NodeId: 1, InstanceId: x.Instance, ClientAddress: clientAddress(1), PeerAddress: peerAddress(1), ClusterId: cluster}
			change(req)
			return oncelogv1.NewMemberServiceClient(m.peer).AnnounceMember(c.ctx(), req)
		}
		type request = *oncelogv1.AnnounceMemberRequest
		for what, y := range map[string]struct {
			change func(request)
			code   string
		}{
			"nobody":             {func(r request) { r.NodeId = 0 }, "INVALID_ARGUMENT"},
			"no instance":        {func(r request) { r.InstanceId = "" }, "INVALID_ARGUMENT"},
			"a long instance":    {func(r request) { r.InstanceId = strings.Repeat("x", 65) }, "LIMIT_EXCEEDED"},
			"no address":         {func(r request) { r.PeerAddress = "" }, "INVALID_ARGUMENT"},
			"a long address":     {func(r request) { r.ClientAddress = strings.Repeat("x", 256) }, "LIMIT_EXCEEDED"},
			"a long cluster":     {func(r request) { r.ClusterId = strings.Repeat("x", 65) }, "LIMIT_EXCEEDED"},
			"another cluster":    {func(r request) { r.ClusterId = "elsewhere" }, "WRONG_CLUSTER"},
			"another directory":  {func(r request) { r.InstanceId = "j" }, "NODE_ID_IN_USE"},
			"somebody's address": {func(r request) { r.PeerAddress = peerAddress(2) }, "INVALID_ARGUMENT"},
		} {
			if _, err := call(leader, y.change); codeName(err) != y.code {
				t.Errorf("%s: %v", what, err)
			}
		}
		same := func(request) {}
		applied := leader.c.group.Applied()
		res := must(call(leader, same))
		if res.GetStanding() != oncelogv1.MemberStanding_MEMBER_STANDING_MEMBER || len(res.GetCoordinators()) != 3 || leader.c.group.Applied() != applied {
			t.Errorf("%v, and entries %d to %d", res, applied, leader.c.group.Applied())
		}
		if res := must(call(leader, func(r request) { r.NodeId = 9 })); res.GetStanding() != oncelogv1.MemberStanding_MEMBER_STANDING_UNKNOWN {
			t.Errorf("%v", res)
		}
		_, err := call(c.follower(), same)
		if meta := wantCode(t, err, "NOT_LEADER"); meta["leader_address"] != peerAddress(leader.id) {
			t.Errorf("%v", meta)
		}
		// A member has moved.
		must(call(leader, func(r request) { r.PeerAddress = "elsewhere:1" }))
		if a, ok := leader.c.PeerAddress(1); leader.id != 1 && (a != "elsewhere:1" || !ok) {
			t.Errorf("it is at %q", a)
		}
	})
}
