package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// cluster is three running stores in one process.
type cluster struct {
	t      testing.TB
	net    *memtransport.Network
	stores map[raftstore.NodeID]*raftstore.Store
	groups map[raftstore.NodeID]*raftstore.Group
	chains map[raftstore.NodeID]*chain
	logs   map[raftstore.NodeID]func() raftstore.LogStore
	group  raftstore.GroupConfig
	fatal  chan error
}

func newCluster(t testing.TB, group raftstore.GroupConfig, openLog func(id raftstore.NodeID) raftstore.LogStore) *cluster {
	c := &cluster{
		t: t, net: memtransport.NewNetwork(),
		stores: map[raftstore.NodeID]*raftstore.Store{},
		groups: map[raftstore.NodeID]*raftstore.Group{},
		chains: map[raftstore.NodeID]*chain{},
		logs:   map[raftstore.NodeID]func() raftstore.LogStore{},
		group:  group,
		fatal:  make(chan error, 16),
	}
	for id := raftstore.NodeID(1); id <= 3; id++ {
		c.logs[id] = func() raftstore.LogStore { return openLog(id) }
		c.start(id)
	}
	t.Cleanup(func() {
		for id := range c.stores {
			c.stop(id)
		}
	})
	return c
}

func (c *cluster) start(id raftstore.NodeID) {
	c.t.Helper()
	s, err := raftstore.Open(raftstore.Config{
		NodeID: id, Log: c.logs[id](), Transport: c.net.Transport(id),
		TickInterval: 5 * time.Millisecond,
		OnFatal:      func(err error) { c.fatal <- err },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := c.group
	cfg.ID, cfg.Members = 7, []raftstore.NodeID{1, 2, 3}
	c.chains[id] = &chain{}
	cfg.Machine = c.chains[id]
	g, err := s.CreateGroup(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.stores[id], c.groups[id] = s, g
	c.net.Attach(id, s)
}

func (c *cluster) stop(id raftstore.NodeID) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no hand-over
	_ = c.stores[id].Close(ctx)
	c.net.Attach(id, nil)
	delete(c.stores, id)
	delete(c.groups, id)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// leader waits for a leader that is ready among the running nodes.
func (c *cluster) leader(ctx context.Context) raftstore.NodeID {
	c.t.Helper()
	found := make(chan raftstore.NodeID, len(c.groups))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for id, g := range c.groups {
		go func() {
			if _, err := g.WaitLeadership(ctx, func(l raftstore.Leadership) bool { return l.Ready }); err == nil {
				found <- id
			}
		}()
	}
	select {
	case id := <-found:
		return id
	case <-ctx.Done():
		c.t.Fatal("no leader")
		return 0
	}
}

// propose repeats a proposal until it is applied by some leader.
func (c *cluster) propose(ctx context.Context, data string) raftstore.NodeID {
	c.t.Helper()
	for {
		id := c.leader(ctx)
		_, _, err := c.groups[id].Propose(ctx, []byte(data))
		var notLeader *raftstore.NotLeaderError
		switch {
		case err == nil:
			return id
		case errors.As(err, &notLeader), errors.Is(err, raftstore.ErrUnknownResult):
		default:
			c.t.Fatal(err)
		}
	}
}

// converged waits until all running nodes applied the same and checks it.
func (c *cluster) converged(ctx context.Context) (hash, count uint64) {
	c.t.Helper()
	for _, g := range c.groups {
		if _, err := g.ReadIndex(ctx); err != nil {
			c.t.Fatal(err)
		}
	}
	first := true
	for id := range c.groups {
		h, n := c.chains[id].state()
		if !first && (h != hash || n != count) {
			c.t.Fatalf("node %d has %x after %d commands, another has %x after %d", id, h, n, hash, count)
		}
		first, hash, count = false, h, n
	}
	return hash, count
}

func memLogs(testing.TB) func(raftstore.NodeID) raftstore.LogStore {
	stores := map[raftstore.NodeID]*memlog.Store{}
	return func(id raftstore.NodeID) raftstore.LogStore {
		if stores[id] == nil {
			stores[id] = memlog.New(nil)
		}
		return stores[id]
	}
}

func pebbleLogs(t testing.TB) func(raftstore.NodeID) raftstore.LogStore {
	disks := map[raftstore.NodeID]vfs.FS{}
	return func(id raftstore.NodeID) raftstore.LogStore {
		if disks[id] == nil {
			disks[id] = vfs.NewMem()
		}
		s, err := pebblelog.Open(pebblelog.Config{Dir: "db", FS: disks[id], MemTableBytes: 4 << 20, CacheBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestReplicates(t *testing.T) {
	t.Parallel()
	for name, logs := range map[string]func(testing.TB) func(raftstore.NodeID) raftstore.LogStore{"mem": memLogs, "pebble": pebbleLogs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := newCluster(t, raftstore.GroupConfig{RetainLog: true}, logs(t))
			lead := c.leader(ctx)
			for i := range 50 {
				res, index, err := c.groups[lead].Propose(ctx, fmt.Appendf(nil, "command %d", i))
				if err != nil {
					t.Fatal(err)
				}
				if res.(uint64) != uint64(i+1) {
					t.Fatalf("result %v of command %d", res, i)
				}
				data, err := c.groups[lead].Entry(index)
				if err != nil || string(data) != fmt.Sprintf("command %d", i) {
					t.Fatalf("entry %d: %q, %v", index, data, err)
				}
			}
			if _, n := c.converged(ctx); n != 50 {
				t.Fatalf("%d commands applied", n)
			}
		})
	}
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	// A disk whose sync takes as long as a slow one's: proposals gather
	// meanwhile.
	slow := func(sync bool) error {
		if sync {
			time.Sleep(time.Millisecond) //nolint:forbidigo // it is the slow disk that is tested, nothing waits for it to pass
		}
		return nil
	}
	c := newCluster(t, raftstore.GroupConfig{}, func(raftstore.NodeID) raftstore.LogStore { return memlog.New(slow) })
	lead := c.leader(ctx)
	before := c.stores[lead].Metrics()
	const proposers, each = 64, 50
	var wg sync.WaitGroup
	for p := range proposers {
		wg.Go(func() {
			for i := range each {
				if _, _, err := c.groups[lead].Propose(ctx, fmt.Appendf(nil, "%d/%d", p, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	after := c.stores[lead].Metrics()
	if syncs := after.Syncs - before.Syncs; syncs > proposers*each/4 {
		t.Errorf("%d syncs for %d proposals of %d concurrent proposers", syncs, proposers*each, proposers)
	}
	if _, n := c.converged(ctx); n != proposers*each {
		t.Errorf("%d commands applied instead of %d", n, proposers*each)
	}
}

// A lone command costs an append and its answer per follower, and not as much
// again to tell the commit index; followers learn that all the same.
func TestLoneCommandsTakeFewMessages(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{}, func(raftstore.NodeID) raftstore.LogStore { return memlog.New(nil) })
	lead := c.leader(ctx)
	c.propose(ctx, "warm up")
	sent := func() (n uint64) {
		for _, s := range c.stores {
			n += s.Metrics().MessagesSent
		}
		return n
	}
	const commands = 400
	before := sent()
	for i := range commands {
		if _, _, err := c.groups[lead].Propose(ctx, fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	// 4 per command; heartbeats and what a slow follower is asked come on top.
	if n := sent() - before; n > 6*commands {
		t.Errorf("%d messages for %d commands one after the other", n, commands)
	}
	if _, n := c.converged(ctx); n != commands+1 {
		t.Errorf("%d commands applied, want %d", n, commands+1)
	}
}
