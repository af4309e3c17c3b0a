package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/api/level"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// previousVariable names an older program. Without it the older program is this one,
// told to go no further than the level of formats before its newest.
const previousVariable = "E2E_PREVIOUS"

// onlyLevel has a node's process take part up to a level; 0: the newest.
func onlyLevel(l uint32) string { return fmt.Sprintf("ONCELOG_MAX_FORMAT_LEVEL=%d", l) }

// longestPause bounds how long a client may have stood still. It is generous, for test
// machines have two cores for six nodes; what was seen is logged.
const longestPause = 15 * time.Second

// A cluster of older programs is upgraded, node by node, under transactions: nothing is
// lost or doubled, and nobody waits for elections, for who stops hands over first. The level of formats rises with the last node and not before, and
// then an older program does not start any more, but the newer one does.
func TestRollingUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts every node")
	}
	newer, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Config{Binary: os.Getenv(previousVariable)}
	given := cfg.Binary != ""
	if !given {
		cfg.Binary, cfg.Env = newer, []string{onlyLevel(level.Newest - 1)}
	}
	w := ownCluster(t, cfg)
	l := startLoad(t, w)
	l.awaitProgress()
	for i, n := range w.Nodes() {
		for _, x := range w.Nodes()[:i] {
			if st, err := x.Status(withPatience(t)); err != nil || st.GetFormatLevel() >= level.Newest {
				t.Fatalf("%s: level %d while %s is old: %v", x, st.GetFormatLevel(), n, err)
			}
		}
		n.Stop(withPatience(t))
		n.Change(newer, onlyLevel(0))
		w.startAgain(t, n)
		l.awaitProgress()
	}
	w.awaitLevel(t, level.Newest)
	l.awaitProgress()
	if !given {
		w.refuses(t, w.Node(cluster.Coordinator, 1), newer)
		w.refuses(t, w.Node(cluster.Partition, 1), newer)
	}
	l.awaitProgress()
	l.finish()
	l.mu.Lock()
	defer l.mu.Unlock()
	for kind, g := range l.pauses {
		if g.longest > longestPause {
			t.Errorf("%s stood still for %v", kind, g.longest)
		}
	}
}

// startAgain starts a node and waits until it takes part: another one may be stopped
// then.
func (w *world) startAgain(t *testing.T, n *cluster.Node) {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.AwaitServing(withPatience(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("%s has caught up", n), func() error {
		st, err := n.Status(withPatience(t))
		if err != nil {
			return err
		}
		for _, g := range st.GetGroups() {
			if g.GetLeader() == 0 || g.GetApplied() == 0 {
				return fmt.Errorf("group %d is at %d and knows the leader %d", g.GetGroupId(), g.GetApplied(), g.GetLeader())
			}
		}
		return nil
	})
}

func (w *world) awaitLevel(t *testing.T, want uint32) {
	t.Helper()
	eventually(t, fmt.Sprintf("every node writes level %d", want), func() error {
		var got []string
		for _, n := range w.Nodes() {
			st, err := n.Status(withPatience(t))
			if err != nil {
				return err
			}
			if st.GetFormatLevel() != want {
				got = append(got, fmt.Sprintf("%s is at %d", n, st.GetFormatLevel()))
			}
		}
		if len(got) > 0 {
			return fmt.Errorf("%s", strings.Join(got, ", "))
		}
		return nil
	})
}

// refuses goes back to the older program on one node, which ends and says why, and
// forward again.
func (w *world) refuses(t *testing.T, n *cluster.Node, newer string) {
	t.Helper()
	n.Stop(withPatience(t))
	n.Change("", onlyLevel(level.Newest-1))
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	ended := n.AwaitServing(withPatience(t))
	if ended == nil { // it serves until it meets what it does not know, or is told
		eventually(t, fmt.Sprintf("%s ends", n), func() error {
			if n.Exited() == nil {
				return fmt.Errorf("it runs")
			}
			return nil
		})
	}
	want := fmt.Sprintf("the cluster writes formats of level %d, and this program reads up to level %d", level.Newest, level.Newest-1)
	if text := n.LogTail(); !strings.Contains(text, want) {
		t.Errorf("%s of an older program: %v; it logged %s", n, ended, text)
	}
	_ = n.Kill()
	n.Change(newer, onlyLevel(0))
	w.startAgain(t, n)
}
