package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/raftstore"
)

// TestDamagedDirectories: a node whose directory lost something does not start,
// and says what it lost and where.
func TestDamagedDirectories(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := config.DefaultDev()
	cfg.DataDir, cfg.Replicas, cfg.BasePort = t.TempDir(), 1, 15300
	ready, done := make(chan struct{}), make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { done <- node.RunDev(running, cfg, testLog(), func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		stop()
		t.Fatalf("starting: %v", err)
	}
	commitAndAbort(ctx, t, "127.0.0.1:"+strconv.Itoa(cfg.BasePort))
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	coordinators, partitions := cfg.Cluster()
	start := map[string]func(dir string) error{
		"coordinator": func(dir string) error {
			c := coordinators[0]
			c.DataDir, c.ClientListen, c.PeerListen = dir, "127.0.0.1:0", "127.0.0.1:0"
			n, err := node.StartCoordinator(&c, testLog())
			if err == nil {
				n.Close(ctx)
			}
			return err
		},
		"partition": func(dir string) error {
			p := partitions[0]
			p.DataDir, p.ClientListen, p.PeerListen = dir, "127.0.0.1:0", "127.0.0.1:0"
			n, err := node.StartPartition(ctx, &p, testLog())
			if err == nil {
				n.Close(ctx)
			}
			return err
		},
	}
	dirs := map[string]string{"coordinator": coordinators[0].DataDir, "partition": partitions[0].DataDir}
	for _, x := range []struct {
		node, what string
		damage     func(dir string) error
		is         error
		says       string
	}{
		{"coordinator", "nothing", func(string) error { return nil }, nil, ""},
		{"partition", "nothing", func(string) error { return nil }, nil, ""},
		{"coordinator", "log deleted", remove("log"), raftstore.ErrCorrupt, "is not the one that this node had"},
		{"partition", "log deleted", remove("log"), raftstore.ErrCorrupt, "the log of a node of cluster "},
		{"partition", "log and assignment deleted", both(remove("assignment"), remove("log")), raftstore.ErrCorrupt, "is gone from"},
		{"partition", "log emptied, assignment deleted", both(remove("assignment"), remove("log/*")), raftstore.ErrCorrupt, "is gone from"},
		{"coordinator", "*.log deleted", remove("log/*.log"), raftstore.ErrCorrupt, ".log, a write-ahead log, is missing"},
		{"partition", "*.log deleted", remove("log/*.log"), raftstore.ErrCorrupt, ".log, a write-ahead log, is missing"},
		{"partition", "write-ahead log cut", cut("log/*.log"), raftstore.ErrCorrupt, ".log, a write-ahead log, has "},
		{"coordinator", "manifest deleted", remove("log/MANIFEST-*"), raftstore.ErrCorrupt, "/log/MANIFEST-"},
		{"coordinator", "marker deleted", remove("log/marker.manifest*"), raftstore.ErrCorrupt, "/log has no marker.manifest file"},
		{"coordinator", "identity deleted", remove("coordinator"), raftstore.ErrCorrupt, "/coordinator is missing beside a log"},
		{"coordinator", "identity cut", cut("coordinator"), datafile.ErrDamaged, "/coordinator: coordinator identity file is damaged"},
		{"partition", "identity cut", cut("node"), datafile.ErrDamaged, "/node: node identity file is damaged"},
	} {
		t.Run(x.node+"/"+x.what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(dirs[x.node])); err != nil {
				t.Fatal(err)
			}
			if err := x.damage(dir); err != nil {
				t.Fatal(err)
			}
			switch err := start[x.node](dir); {
			case x.is == nil && err != nil:
				t.Error(err)
			case x.is != nil && (!errors.Is(err, x.is) || !strings.Contains(err.Error(), x.says)):
				t.Errorf("%v, want %q", err, x.says)
			}
		})
	}
}

// remove deletes what matches.
func remove(pattern string) func(dir string) error {
	return func(dir string) error {
		return each(dir, pattern, os.RemoveAll)
	}
}

// both does two things.
func both(a, b func(dir string) error) func(dir string) error {
	return func(dir string) error { return errors.Join(a(dir), b(dir)) }
}

// cut takes the second half of every file that matches.
func cut(pattern string) func(dir string) error {
	return func(dir string) error {
		return each(dir, pattern, func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()/2)
		})
	}
}

func each(dir, pattern string, fn func(path string) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err == nil && len(paths) == 0 {
		err = errors.New("nothing matches " + pattern)
	}
	for _, p := range paths {
		err = errors.Join(err, fn(p))
	}
	return err
}
