package partition

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// startsWith starts a node on what is left of a directory, with a log, and returns how
// that ended.
func (c *cluster) startsWith(dir string, hasLog bool, log func() (raftstore.LogStore, error)) error {
	c.t.Helper()
	cfg := c.config(1, dir)
	cfg.HasLog = func() (bool, error) { return hasLog, nil }
	cfg.OpenStore = func(string) (*raftstore.Store, error) {
		device, err := log()
		if err != nil {
			return nil, err
		}
		return raftstore.Open(raftstore.Config{NodeID: 1, Log: device, MinFreeBytes: -1, StallTimeout: -1})
	}
	n, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	started := n.Start(c.ctx())
	if err := n.Close(c.ctx()); err != nil {
		c.t.Error(err)
	}
	return started
}

// TestLogLostWithTheAssignment: without either, nothing but the identity tells that this
// node has voted, and acknowledged. It founded its shards anew.
func TestLogLostWithTheAssignment(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	n.stop()
	if err := os.Remove(filepath.Join(n.dir, assignmentFile.File)); err != nil {
		t.Fatal(err)
	}
	made := func() (raftstore.LogStore, error) { t.Error("a log is made"); return memlog.New(nil), nil }
	if err := c.startsWith(n.dir, false, made); !errors.Is(err, raftstore.ErrCorrupt) {
		t.Errorf("start without a log: %v", err)
	}
	// What is left of the log is the node's, and nothing else is missed.
	if err := c.startsWith(n.dir, true, func() (raftstore.LogStore, error) { return n.disk.Crash(0), nil }); err != nil {
		t.Errorf("start with the log: %v", err)
	}
}

// TestNewDirectoryBesideALog: the log may be another cluster's, whose shards have the
// same ids. It was served as this one's.
func TestNewDirectoryBesideALog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	n.stop()
	c.coord.with(func() { clear(c.coord.registered) }) // another cluster
	err := c.startsWith(t.TempDir(), true, func() (raftstore.LogStore, error) { return n.disk.Crash(0), nil })
	if err == nil || errors.Is(err, raftstore.ErrCorrupt) || !strings.Contains(err.Error(), "the log beside it has 1 shards") {
		t.Errorf("start: %v", err)
	}
}

// TestDirectoryJoinsWithItsLog: a new node that stops before it has a log is no node of
// the cluster yet, and begins again.
func TestDirectoryJoinsWithItsLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	c.leader().stop()
	c.coord.with(func() { clear(c.coord.registered) })
	dir, failed := t.TempDir(), errors.New("no log")
	if err := c.startsWith(dir, false, func() (raftstore.LogStore, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Fatalf("start: %v", err)
	}
	id, err := openIdentity(datafile.Directory(dir), 1, "")
	if err != nil || id.cluster != "" {
		t.Errorf("identity %+v, %v", id, err)
	}
	if err := c.startsWith(dir, false, func() (raftstore.LogStore, error) { return memlog.New(nil), nil }); err != nil {
		t.Errorf("start again: %v", err)
	}
	again, err := openIdentity(datafile.Directory(dir), 1, "")
	if err != nil || again.cluster != testCluster || again.instance != id.instance {
		t.Errorf("identity %+v, was %+v: %v", again, id, err)
	}
}
