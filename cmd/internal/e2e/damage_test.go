package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
	"github.com/oncelog/oncelog/internal/datafile"
	partitionnode "github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
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
	w.repaired(t, l, n)
}

// TestDamagedShardIsRepaired: bytes of some shards of a node cannot be read any more. The
// node keeps its directory and its other shards, and has those alone made anew.
func TestDamagedShardIsRepaired(t *testing.T) {
	if testing.Short() {
		t.Skip("repairs a node")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	w.fill(t, w.topic(t, "bulk", 6))
	l.awaitProgress()
	n := w.Node(cluster.Partition, 1)
	// What a start finds in the write-ahead log it writes to tables and files of values.
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	w.startAgain(t, n)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	file := flipValue(t, filepath.Join(n.DataDir(), "log"))
	// What is below a checkpoint may not be read for long: here a reader has met it.
	if err := partitionnode.NoteDamage(datafile.Directory(n.DataDir()), fmt.Errorf("%s: %w", file, raftstore.ErrUnreadable)); err != nil {
		t.Fatal(err)
	}
	l.awaitProgress()
	w.repaired(t, l, n)
	st, err := n.Status(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(n.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	if lost := strings.Count(string(whole), "a shard is damaged"); lost == 0 || lost >= len(st.GetGroups()) {
		t.Errorf("%d shards of %d were damaged", lost, len(st.GetGroups()))
	}
	if strings.Contains(string(whole), "the node gives its data directory up") {
		t.Error("the node gave all its shards up")
	}
}

// fill writes some megabytes to a topic.
func (w *world) fill(t *testing.T, topic string) {
	t.Helper()
	p, err := w.client(t).IdempotentProducer(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 240 {
		value := make([]byte, 20<<10)
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		if err := p.Send(withPatience(t), &client.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: value}); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			if err := p.Flush(withPatience(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Flush(withPatience(t)); err != nil {
		t.Fatal(err)
	}
}

// repaired starts a node that found damage, and waits until all its replicas are whole.
func (w *world) repaired(t *testing.T, l *load, n *cluster.Node) {
	t.Helper()
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

// flipValue flips a bit in the middle of the largest file of values.
func flipValue(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.blob"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files of values of %s: %v, %v", dir, files, err)
	}
	var file string
	var data []byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(data) {
			file, data = name, b
		}
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
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
