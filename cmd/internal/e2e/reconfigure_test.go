package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// replaceCoordinator has a new coordinator take the place of another one, and waits
// until it votes and the other one has stopped, if it ran.
func (w *world) replaceCoordinator(t *testing.T, c *client.Client, old, seed, place *cluster.Node) *cluster.Node {
	t.Helper()
	ctx := withPatience(t)
	ids := map[uint64]bool{}
	list, err := c.Admin().ListCoordinators(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(0)
	for _, m := range list.GetMembers() {
		ids[m.GetNodeId()] = true
		next = max(next, m.GetNodeId())
	}
	n, err := w.Join(next+1, seed, place)
	if err != nil {
		t.Fatal(err)
	}
	added, err := c.Admin().AddCoordinator(ctx, &oncelogv1.AddCoordinatorRequest{
		ClientAddress: n.Client, PeerAddress: n.Peer, Replaces: old.ID,
	})
	if err != nil || added.GetNodeId() != n.ID {
		t.Fatalf("%v: %v", added, err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("coordinator %d takes the place of %d", n.ID, old.ID), func() error {
		list, err := c.Admin().ListCoordinators(ctx)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(list.GetMembers(), func(m *oncelogv1.CoordinatorMember) bool { return m.GetNodeId() == n.ID }); len(list.GetMembers()) != len(ids) ||
			i < 0 || list.GetMembers()[i].GetState() != oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER {
			return fmt.Errorf("members %v", list)
		}
		return nil
	})
	if old.Running() {
		eventually(t, fmt.Sprintf("%s stops", old), func() error {
			if old.Exited() == nil {
				return errors.New("it runs")
			}
			return nil
		})
		_ = old.Kill()
		if text := old.LogTail(); !strings.Contains(text, "was removed from the cluster") {
			t.Errorf("%s stopped, and logged %s", old, text)
		}
	}
	return n
}

// All coordinators are replaced one by one, with work under way whose clients and
// partition nodes were told of the first ones only. Then those are gone, and the new
// ones are all killed and started again, and a partition node: they find each other by
// what they know.
func TestAllCoordinatorsAreReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("replaces nodes")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	l.awaitProgress()
	c := w.client(t)
	var joined []*cluster.Node
	for id := uint64(1); id <= 3; id++ {
		old := w.Node(cluster.Coordinator, id)
		if id == 2 { // at least once it is the leader
			leader, err := w.CoordinatorLeader(withPatience(t))
			if err != nil {
				t.Fatal(err)
			}
			if leader.ID <= 3 {
				old = leader
			}
		}
		if !old.Running() {
			for _, other := range w.Nodes()[:3] {
				if other.Running() {
					old = other
				}
			}
		}
		joined = append(joined, w.replaceCoordinator(t, c, old, old, nil))
		l.awaitProgress()
	}
	for _, n := range w.Nodes()[:3] {
		if n.Running() {
			t.Fatalf("%s runs", n)
		}
	}
	// One of the first does not start again.
	old := w.Node(cluster.Coordinator, 1)
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	if err := old.AwaitServing(withPatience(t)); err == nil || !strings.Contains(old.LogTail(), "was removed from the cluster") {
		t.Errorf("a removed coordinator starts: %v; it logged %s", err, old.LogTail())
	}
	_ = old.Kill()
	for _, n := range joined {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range joined {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	l.awaitProgress()
	// A partition node that starts again is told of nobody who is there, and remembers.
	n := w.Node(cluster.Partition, 2)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	since := time.Now().UnixMilli()
	w.restart(t, n)
	eventually(t, "the partition node has found the coordinators", func() error {
		d, err := c.Admin().DescribeCluster(t.Context())
		if err != nil {
			return err
		}
		for _, x := range d.GetNodes() {
			if x.GetNodeId() == n.ID && x.GetLastSeenMs() >= since {
				return nil
			}
		}
		return errors.New("it was not heard of")
	})
	l.awaitProgress()
	l.finish()
}

// A coordinator that lost its disk is refused under its number, also as one that
// joins, and replaced on the same machine by one with another number.
func TestWipedCoordinatorIsReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	l.awaitProgress()
	wiped, err := w.CoordinatorLeader(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(wiped.Kill(), os.RemoveAll(wiped.DataDir())); err != nil {
		t.Fatal(err)
	}
	seed := w.Node(cluster.Coordinator, wiped.ID%3+1)
	again, err := w.Join(wiped.ID, seed, wiped)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*cluster.Node{wiped, again} {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the wiped coordinator ends", func() error {
			if n.Exited() == nil {
				return errors.New("it runs")
			}
			return nil
		})
		if text := n.LogTail(); !strings.Contains(text, "NODE_ID_IN_USE") || !strings.Contains(text, "oncelog coordinator replace") {
			t.Errorf("it logged %s", text)
		}
		if err := errors.Join(n.Kill(), os.RemoveAll(n.DataDir()), os.MkdirAll(n.DataDir(), 0o755)); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Log(err)
		}
		if err := os.WriteFile(n.LogFile(), nil, 0o600); err != nil { // which every node has
			t.Fatal(err)
		}
	}
	l.awaitProgress()
	w.replaceCoordinator(t, w.client(t), wiped, seed, wiped)
	l.awaitProgress()
	l.finish()
}
