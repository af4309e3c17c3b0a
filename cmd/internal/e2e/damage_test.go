package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// A bit of a partition node's log is flipped while it is down, under load. The node does
// not serve from it, says what is damaged, and when it is started again gives the
// directory up and has its replicas made anew: all of them are voters of another life
// in the end, and nothing is lost or doubled.
func TestDamagedNodeIsRepaired(t *testing.T) {
	if testing.Short() {
		t.Skip("repairs a node")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	l.awaitProgress()
	n := w.Node(cluster.Partition, 1)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	file := flipBit(t, filepath.Join(n.DataDir(), "log"))
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.AwaitServing(withPatience(t)); err == nil {
		t.Fatal("the node serves from a damaged log")
	}
	_ = n.Kill()
	if text := n.LogTail(); !strings.Contains(text, filepath.Base(file)) || !strings.Contains(text, "the next start gives this data directory up") {
		t.Errorf("%s says nothing of %s: %s", n, file, text)
	}
	l.awaitProgress()
	w.startAgain(t, n)
	c := w.client(t)
	eventually(t, "all replicas of the node are made anew", func() error {
		d, err := c.Admin().DescribeCluster(withPatience(t))
		if err != nil {
			return err
		}
		for _, shard := range d.GetShards() {
			if len(shard.GetLost()) > 0 || shard.GetMove() != nil {
				return fmt.Errorf("shard %d: lost %v, move %v", shard.GetShardId(), shard.GetLost(), shard.GetMove())
			}
		}
		st, err := n.Status(withPatience(t))
		if err != nil {
			return err
		}
		if len(st.GetGroups()) != len(d.GetShards()) {
			return fmt.Errorf("the node has %d of %d shards", len(st.GetGroups()), len(d.GetShards()))
		}
		return caughtUp(d, st)
	})
	if _, err := os.Stat(filepath.Join(n.DataDir(), "log.damaged")); err != nil {
		t.Errorf("the damaged log is not kept: %v", err)
	}
	// The repaired node counts: with another one down there is a majority only by its vote.
	other := w.Node(cluster.Partition, 2)
	if err := other.Kill(); err != nil {
		t.Fatal(err)
	}
	l.awaitProgress()
	w.startAgain(t, other)
	l.awaitProgress()
	l.finish()
}

// caughtUp reports a shard of which the node lacks what is committed, as far as it knows.
func caughtUp(d *oncelogv1.DescribeClusterResponse, st *oncelogv1.GetStatusResponse) error {
	for _, g := range st.GetGroups() {
		if g.GetApplied() == 0 || g.GetApplied() < g.GetCommit() || len(g.GetMembers()) != 3 {
			return fmt.Errorf("group %d of %d has applied %d of %d, with the members %v",
				g.GetGroupId(), len(d.GetShards()), g.GetApplied(), g.GetCommit(), g.GetMembers())
		}
	}
	return nil
}

// flipBit flips a bit in the middle of the newest write-ahead log.
func flipBit(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("write-ahead logs of %s: %v, %v", dir, files, err)
	}
	file := files[len(files)-1]
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The file is longer than what is written: the last byte that is not zero is its end.
	end := len(strings.TrimRight(string(data), "\x00"))
	data[end/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
