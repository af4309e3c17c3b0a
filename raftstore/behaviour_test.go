package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// other returns two running nodes besides id.
func (c *cluster) others(id raftstore.NodeID) (ids []raftstore.NodeID) {
	for n := raftstore.NodeID(1); n <= 3; n++ {
		if n != id && c.groups[n] != nil {
			ids = append(ids, n)
		}
	}
	return ids
}

func TestRestartFromDisk(t *testing.T) {
	t.Parallel()
	for name, retain := range map[string]bool{"retain": true, "compact": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := newCluster(t, raftstore.GroupConfig{RetainLog: retain, SnapshotEntries: 30, TailEntries: 10}, pebbleLogs(t))
			for i := range 100 {
				c.propose(ctx, fmt.Sprint(i))
			}
			hash, count := c.converged(ctx)
			for id := raftstore.NodeID(1); id <= 3; id++ {
				c.stop(id)
			}
			for id := raftstore.NodeID(1); id <= 3; id++ {
				c.start(id)
			}
			if h, n := c.converged(ctx); h != hash || n != count {
				t.Fatalf("state (%x, %d) after the restart, (%x, %d) before", h, n, hash, count)
			}
			for id, g := range c.groups {
				st := g.Status()
				data, err := g.Entry(2)
				if retain && (st.FirstIndex != 1 || err != nil || len(data) == 0) {
					t.Errorf("node %d: first index %d, entry 2: %q, %v", id, st.FirstIndex, data, err)
				}
				if !retain && (st.FirstIndex < 50 || !errors.Is(err, raftstore.ErrCompacted)) {
					t.Errorf("node %d: first index %d, entry 2: %v", id, st.FirstIndex, err)
				}
			}
		})
	}
}

func TestSlowFollowerGetsSnapshot(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{SnapshotEntries: 20, TailEntries: 5}, pebbleLogs(t))
	lead := c.propose(ctx, "start")
	slow := c.others(lead)[0]
	c.stop(slow)
	for i := range 100 {
		c.propose(ctx, fmt.Sprint(i))
	}
	c.start(slow)
	c.propose(ctx, "end")
	c.converged(ctx)
	if n := c.stores[slow].Metrics().SnapshotsReceived; n == 0 {
		t.Error("the follower caught up without a snapshot")
	}
	// What it received is durable: it must be there after a restart.
	c.stop(slow)
	c.start(slow)
	c.converged(ctx)
}

func TestCloseHandsLeadershipOver(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{}, memLogs(t))
	lead := c.propose(ctx, "a")
	term := c.groups[lead].Status().Term
	if err := c.stores[lead].Close(ctx); err != nil {
		t.Fatal(err)
	}
	// The next term belongs to a successor without an election timeout: it
	// was made to campaign, so it is exactly the next one and has a leader.
	for _, id := range c.others(lead) {
		l, err := c.groups[id].WaitLeadership(ctx, func(l raftstore.Leadership) bool { return l.Leader != 0 && l.Leader != lead })
		if err != nil || l.Term <= term {
			t.Fatalf("leadership %+v after term %d, %v", l, term, err)
		}
	}
	if _, _, err := c.groups[lead].Propose(ctx, []byte("b")); !errors.Is(err, raftstore.ErrStopped) {
		t.Errorf("propose on a closed store: %v", err)
	}
	if _, err := c.groups[lead].ReadIndex(ctx); !errors.Is(err, raftstore.ErrStopped) {
		t.Errorf("read index on a closed store: %v", err)
	}
	if _, err := c.stores[lead].CreateGroup(raftstore.GroupConfig{ID: 9, Members: []raftstore.NodeID{lead}, Machine: &chain{}}); !errors.Is(err, raftstore.ErrStopped) {
		t.Errorf("create group on a closed store: %v", err)
	}
}

func TestTransferLeader(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{}, memLogs(t))
	lead := c.propose(ctx, "a")
	to := c.others(lead)[0]
	if err := c.groups[lead].TransferLeader(ctx, to); err != nil {
		t.Fatal(err)
	}
	if _, err := c.groups[to].WaitLeadership(ctx, func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
		t.Fatal(err)
	}
	var notLeader *raftstore.NotLeaderError
	if _, _, err := c.groups[lead].Propose(ctx, []byte("x")); !errors.As(err, &notLeader) || notLeader.Leader != to {
		t.Errorf("propose on the old leader: %v", err)
	}
	if err := c.groups[lead].TransferLeader(ctx, lead); !errors.As(err, &notLeader) {
		t.Errorf("transfer on a follower: %v", err)
	}
	gone := c.others(to)[0]
	c.stop(gone)
	if err := c.groups[to].TransferLeader(ctx, gone); !errors.Is(err, raftstore.ErrTransferFailed) {
		t.Errorf("transfer to a stopped node: %v", err)
	}
}

// TestLostLeadership isolates a leader with proposals under way: they get an
// unknown result when it steps down, and later ones are refused.
func TestLostLeadership(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{}, memLogs(t))
	lead := c.propose(ctx, "a")
	c.net.Isolate(lead, true)
	if _, _, err := c.groups[lead].Propose(ctx, []byte("lost?")); !errors.Is(err, raftstore.ErrUnknownResult) {
		t.Fatalf("propose on an isolated leader: %v", err)
	}
	var notLeader *raftstore.NotLeaderError
	if _, _, err := c.groups[lead].Propose(ctx, []byte("b")); !errors.As(err, &notLeader) {
		t.Fatalf("propose after stepping down: %v", err)
	}
	if _, err := c.groups[lead].ReadIndex(ctx); !errors.As(err, &notLeader) {
		t.Fatalf("read index on an isolated node: %v", err)
	}
	c.net.Isolate(lead, false)
	c.propose(ctx, "c")
	if _, n := c.converged(ctx); n != 2 && n != 3 {
		t.Errorf("%d commands", n)
	}
}

func TestProposeInTerm(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{}, memLogs(t))
	lead := c.propose(ctx, "a")
	g := c.groups[lead]
	var notLeader *raftstore.NotLeaderError
	if _, _, err := g.ProposeInTerm(ctx, g.Status().Term+1, []byte("b")); !errors.As(err, &notLeader) {
		t.Errorf("propose in another term: %v", err)
	}
	if _, _, err := g.ProposeInTerm(ctx, g.Status().Term, []byte("b")); err != nil {
		t.Error(err)
	}
}

// TestReadIndexSeesAcknowledged reads on every node after each acknowledged
// proposal.
func TestReadIndexSeesAcknowledged(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{}, memLogs(t))
	for i := range 20 {
		c.propose(ctx, fmt.Sprint(i))
		for id, g := range c.groups {
			if _, err := g.ReadIndex(ctx); err != nil {
				t.Fatal(err)
			}
			if _, n := c.chains[id].state(); n < uint64(i+1) {
				t.Fatalf("node %d has %d commands after a read index that follows %d", id, n, i+1)
			}
		}
	}
}

// single opens a store for a cluster of one node.
func single(t *testing.T, log raftstore.LogStore, change func(*raftstore.Config)) (*raftstore.Store, *raftstore.Group, *chain, chan error) {
	t.Helper()
	fatal := make(chan error, 1)
	cfg := raftstore.Config{NodeID: 1, Log: log, OnFatal: func(err error) { fatal <- err }}
	if change != nil {
		change(&cfg)
	}
	s, err := raftstore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := &chain{}
	g, err := s.CreateGroup(raftstore.GroupConfig{ID: 1, Members: []raftstore.NodeID{1}, Machine: m, RetainLog: true})
	if err != nil {
		t.Fatal(err)
	}
	return s, g, m, fatal
}

func TestSingleNodeLeadsAtOnce(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	log := memlog.New(nil)
	s, g, m, _ := single(t, log, nil)
	l, err := g.WaitLeadership(ctx, func(l raftstore.Leadership) bool { return l.Ready })
	if err != nil || !l.IsLeader || l.Leader != 1 || l.Term != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	for range 10 {
		if _, _, err := g.Propose(ctx, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	hash, _ := m.state()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	_, g, m, _ = single(t, log, nil)
	if _, err := g.ReadIndex(ctx); err != nil {
		t.Fatal(err)
	}
	if h, n := m.state(); h != hash || n != 10 {
		t.Fatalf("state (%x, %d) after the restart, want (%x, 10)", h, n, hash)
	}
}

// TestReadIndexAfterCrash crashes a single node whose commit index was never
// written: a read must still see what was acknowledged.
func TestReadIndexAfterCrash(t *testing.T) {
	t.Parallel()
	log := memlog.New(nil)
	manual := func(c *raftstore.Config) { c.Manual = true }
	s, g, _, _ := single(t, log, manual)
	for s.Turn() {
	}
	acked := 0
	for range 5 {
		g.ProposeAsync([]byte("x"), 0, func(r raftstore.ProposalResult) {
			if r.Err == nil {
				acked++
			}
		})
		for s.Turn() {
		}
	}
	if acked != 5 {
		t.Fatalf("%d acknowledged", acked)
	}
	s, g, m, _ := single(t, log.Crash(0), manual)
	read := false
	g.ReadIndexAsync(func(_ uint64, err error) {
		if err != nil {
			t.Error(err)
		}
		if _, n := m.state(); n != 5 {
			t.Errorf("read sees %d commands", n)
		}
		read = true
	})
	for s.Turn() {
	}
	if !read {
		t.Error("the read was not answered")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, g, _, _ := single(t, memlog.New(nil), func(c *raftstore.Config) {
		c.Manual = true
		c.MaxProposalBytes, c.MaxQueuedProposalBytes = 100, 250
	})
	for s.Turn() {
	}
	var errs []error
	propose := func(n int) {
		g.ProposeAsync(make([]byte, n), 0, func(r raftstore.ProposalResult) { errs = append(errs, r.Err) })
	}
	expect := func(what string, want error) {
		t.Helper()
		if len(errs) != 1 || !errors.Is(errs[0], want) {
			t.Errorf("%s: %v, want %v", what, errs, want)
		}
		errs = nil
	}
	propose(0)
	expect("empty", raftstore.ErrProposalEmpty)
	propose(101)
	expect("large", raftstore.ErrProposalTooLarge)
	propose(100)
	propose(100)
	if errs != nil {
		t.Errorf("answered before the turn: %v", errs)
	}
	propose(100)
	expect("third", raftstore.ErrOverloaded)
	for s.Turn() {
	}
	if len(errs) != 2 || errs[0] != nil || errs[1] != nil {
		t.Errorf("queued proposals: %v", errs)
	}
	errs = nil
	propose(100) // there is room again
	for s.Turn() {
	}
	expect("later", nil)
	if _, err := g.Entry(1000); !errors.Is(err, raftstore.ErrNotApplied) {
		t.Errorf("entry in the future: %v", err)
	}
	if err := s.RemoveGroup(1); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveGroup(1); !errors.Is(err, raftstore.ErrGroupNotFound) {
		t.Errorf("second removal: %v", err)
	}
	if ids, err := s.Groups(); err != nil || len(ids) != 0 {
		t.Errorf("groups after the removal: %v, %v", ids, err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestCreateGroupChecks(t *testing.T) {
	t.Parallel()
	s, _, _, _ := single(t, memlog.New(nil), nil)
	defer s.Close(testContext(t))
	for name, cfg := range map[string]raftstore.GroupConfig{
		"no id":           {Members: []raftstore.NodeID{1}, Machine: &chain{}},
		"no machine":      {ID: 2, Members: []raftstore.NodeID{1}},
		"not a member":    {ID: 2, Members: []raftstore.NodeID{2, 3}, Machine: &chain{}},
		"repeated member": {ID: 2, Members: []raftstore.NodeID{1, 1}, Machine: &chain{}},
		"exists":          {ID: 1, Members: []raftstore.NodeID{1}, Machine: &chain{}},
	} {
		if _, err := s.CreateGroup(cfg); err == nil {
			t.Errorf("%s: created", name)
		}
	}
}

// lowDisk is a log store on a disk that can run full.
type lowDisk struct {
	*memlog.Store
	free atomic.Uint64
}

func (l *lowDisk) FreeBytes() (uint64, error) { return l.free.Load(), nil }

func TestLowDiskRefusesProposals(t *testing.T) {
	t.Parallel()
	log := &lowDisk{Store: memlog.New(nil)}
	s, g, _, _ := single(t, log, func(c *raftstore.Config) { c.Manual = true })
	for _, free := range []uint64{1 << 20, 1 << 40} {
		log.free.Store(free)
		for range 21 { // a second
			s.Tick()
			for s.Turn() {
			}
		}
		var got error
		g.ProposeAsync([]byte("x"), 0, func(r raftstore.ProposalResult) { got = r.Err })
		for s.Turn() {
		}
		if low := free == 1<<20; errors.Is(got, raftstore.ErrOverloaded) != low {
			t.Errorf("%d bytes free: %v", free, got)
		}
	}
}

// TestFailedFsyncStopsTheStore breaks the disk under a running leader.
func TestFailedFsyncStopsTheStore(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errors.New("input/output error")
		}
		return nil
	}))
	log, err := pebblelog.Open(pebblelog.Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	s, g, m, fatal := single(t, log, nil)
	if _, err := g.WaitLeadership(ctx, func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.Propose(ctx, []byte("a")); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if _, _, err := g.Propose(ctx, []byte("b")); !errors.Is(err, raftstore.ErrUnknownResult) {
		t.Errorf("proposal during the failure: %v", err)
	}
	select {
	case err := <-fatal:
		if !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("OnFatal got %v", err)
		}
	case <-ctx.Done():
		t.Fatal("OnFatal was not called")
	}
	broken.Store(false)
	if _, _, err := g.Propose(ctx, []byte("c")); !errors.Is(err, raftstore.ErrStopped) {
		t.Errorf("proposal after the failure: %v", err)
	}
	if _, n := m.state(); n != 1 {
		t.Errorf("%d commands applied", n)
	}
	if st := g.Status(); st.IsLeader {
		t.Error("a stopped store still claims to lead")
	}
	if err := s.Close(ctx); err == nil {
		t.Error("Close hides the failure")
	}
}

// TestManyGroupsShareSyncs proposes to many groups at once: the syncs are
// shared between them.
func TestManyGroupsShareSyncs(t *testing.T) {
	t.Parallel()
	s, _, _, _ := single(t, memlog.New(nil), func(c *raftstore.Config) { c.Manual = true })
	var groups []*raftstore.Group
	for id := raftstore.GroupID(2); id < 52; id++ {
		g, err := s.CreateGroup(raftstore.GroupConfig{ID: id, Members: []raftstore.NodeID{1}, Machine: &chain{}})
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
	for s.Turn() {
	}
	before, acked := s.Metrics(), 0
	for _, g := range groups {
		g.ProposeAsync([]byte("x"), 0, func(r raftstore.ProposalResult) {
			if r.Err == nil {
				acked++
			}
		})
	}
	for s.Turn() {
	}
	after := s.Metrics()
	if syncs := after.Syncs - before.Syncs; acked != 50 || syncs != 1 {
		t.Errorf("%d of 50 proposals took %d syncs", acked, syncs)
	}
}

func TestContextEndsWaiting(t *testing.T) {
	t.Parallel()
	net := memtransport.NewNetwork()
	s, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: memlog.New(nil), Transport: net.Transport(1)})
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.CreateGroup(raftstore.GroupConfig{ID: 1, Members: []raftstore.NodeID{1, 2, 3}, Machine: &chain{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.ReadIndex(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("read index: %v", err)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestStalledDiskDoesNotHoldUpTheEnd hangs a write: the watchdog must report
// it, and the process must be able to end although the write never does.
func TestStalledDiskDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	hang, hung := make(chan struct{}), atomic.Bool{}
	log := memlog.New(func(bool) error {
		if hung.Load() {
			<-hang
		}
		return nil
	})
	fatal := make(chan error, 1)
	s, err := raftstore.Open(raftstore.Config{
		NodeID: 1, Log: log, StallTimeout: 20 * time.Millisecond, OnFatal: func(err error) { fatal <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := raftstore.GroupConfig{ID: 1, Members: []raftstore.NodeID{1}, Machine: &chain{}}
	g, err := s.CreateGroup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.WaitLeadership(ctx, func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
		t.Fatal(err)
	}
	hung.Store(true)
	g.ProposeAsync([]byte("hangs"), 0, func(raftstore.ProposalResult) {})
	select {
	case err := <-fatal:
		if !errors.Is(err, raftstore.ErrDiskStalled) {
			t.Errorf("reported %v", err)
		}
	case <-ctx.Done():
		t.Fatal("the stalled write was not reported")
	}
	ended := make(chan error, 2)
	cfg.ID = 2
	go func() {
		_, err := s.CreateGroup(cfg)
		ended <- err
	}()
	go func() { ended <- s.Close(ctx) }()
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, raftstore.ErrDiskStalled) && !errors.Is(err, raftstore.ErrStopped) {
				t.Errorf("ended with %v", err)
			}
		case <-ctx.Done():
			t.Error("waits for a write that never ends")
		}
	}
	hung.Store(false)
	close(hang)
	if err := s.Close(ctx); err != nil && !errors.Is(err, raftstore.ErrDiskStalled) {
		t.Error(err)
	}
}
