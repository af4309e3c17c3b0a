package partition

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// deafCoordinator answers nothing and does not look at contexts.
type deafCoordinator struct {
	*fakeCoordinator
	release chan struct{}
}

func (d deafCoordinator) Heartbeat(context.Context, *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	<-d.release
	return nil, unavailable()
}

func TestCloseDoesNotWaitForWhatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deaf := deafCoordinator{newFakeCoordinator(), make(chan struct{})}
		c := &cluster{t: t, coord: deaf.fakeCoordinator}
		cfg := c.config(1, t.TempDir())
		cfg.Coordinator = deaf
		cfg.OpenStore = openEmptyStore
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the heartbeat hangs
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := n.Close(ctx); err == nil {
			t.Error("nothing is said of the work that hangs")
		}
		if took := time.Since(began); took != 3*time.Second+closeGrace {
			t.Errorf("closed after %v", took)
		}
		if _, err := n.store.CreateGroup(raftstore.GroupConfig{ID: 1, Members: []raftstore.NodeID{1}, Machine: newMachine(pstate.Config{}, newWaiters())}); !errors.Is(err, raftstore.ErrStopped) {
			t.Errorf("the store is open: %v", err)
		}
		close(deaf.release)
	})
}

func TestCloseLeavesTheStoreToAReadThatHangs(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		n := c.leader()
		release := make(chan struct{})
		inside := make(chan error, 1)
		go func() {
			inside <- n.reading(func() error {
				<-release
				_, err := n.shard(testShard).group.EntryRange(1, 0, 1)
				return err
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.Close(ctx); err == nil {
			t.Error("nothing is said of the read that hangs")
		}
		if err := n.reading(func() error { return nil }); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE {
			t.Errorf("a read of a closed node: %v", err)
		}
		close(release)
		if err := <-inside; err != nil {
			t.Errorf("the read that hung: %v", err)
		}
		if err := n.store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseEndsAStartThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, coord: newFakeCoordinator()}
		c.coord.down = true
		cfg := c.config(1, t.TempDir())
		cfg.OpenStore = openEmptyStore
		cfg.RetryDelay = time.Hour
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		began := time.Now()
		go func() { started <- n.Start(t.Context()) }()
		synctest.Wait()
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-started; !errors.Is(err, context.Canceled) || time.Since(began) > 0 {
			t.Errorf("start: %v after %v", err, time.Since(began))
		}
	})
}

// memoryFiles is Files in memory.
type memoryFiles map[string][]byte

func (m memoryFiles) Read(name string) (data []byte, ok bool, err error) {
	data, ok = m[name]
	return data, ok, nil
}

func (m memoryFiles) Write(name string, data []byte) error {
	m[name] = slices.Clone(data)
	return nil
}

func TestFilesTakeThePlaceOfTheDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := memoryFiles{}
		c := &cluster{t: t, coord: newFakeCoordinator()}
		c.coord.assignment = &oncelogv1.HeartbeatResponse{Version: 7, Nodes: []*oncelogv1.Node{{NodeId: 1, PeerAddress: "here"}}}
		cfg := c.config(1, "")
		cfg.Files, cfg.OpenStore = files, openEmptyStore
		var instance string
		for range 2 {
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if address, ok := n.ResolvePeer(1); !ok || address != "here" {
				t.Errorf("peer %q, %v", address, ok)
			}
			if instance != "" && n.id.instance != instance {
				t.Errorf("instance %s after %s", n.id.instance, instance)
			}
			instance = n.id.instance
			if err := n.Close(t.Context()); err != nil {
				t.Error(err)
			}
			c.coord.with(func() { c.coord.down = true }) // it starts from its files the second time
		}
		equal(t, "files", slices.Sorted(maps.Keys(files)), assignmentFile.File, identityFile.File)
		files[identityFile.File][10] ^= 1
		if _, err := New(cfg); !errors.Is(err, datafile.ErrDamaged) {
			t.Errorf("damaged identity: %v", err)
		}
	})
}

func openEmptyStore(string) (*raftstore.Store, error) {
	return raftstore.Open(raftstore.Config{NodeID: 1, Log: memlog.New(nil), MinFreeBytes: -1, StallTimeout: -1})
}
