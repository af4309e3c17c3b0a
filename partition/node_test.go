package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

func TestOthersPointToTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	leader := c.leader()
	c.append(leader, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	for id, n := range c.nodes {
		if n == leader {
			continue
		}
		s := n.shard(testShard)
		if _, err := s.group.WaitLeadership(c.ctx(), func(l raftstore.Leadership) bool { return uint64(l.Leader) == leader.cfg.NodeID }); err != nil {
			t.Fatal(err)
		}
		_, err := n.client.Append(c.ctx(), appendRequest(pstate.TxnRef{ProducerID: 9}, pA, 1, "b"))
		e := apierrors.From(err)
		want := fmt.Sprintf("client-%d", leader.cfg.NodeID)
		if code(err) != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER || e.Metadata[apierrors.KeyLeaderAddress] != want ||
			e.Metadata[apierrors.KeyLeaderNode] != fmt.Sprint(leader.cfg.NodeID) {
			t.Errorf("append at %d: %v %v", id, err, e.Metadata)
		}
		stream, err := n.client.Fetch(c.ctx(), &oncelogv1.FetchRequest{Partition: partitionRef(pA)})
		if err == nil {
			_, err = stream.Recv()
		}
		if code(err) != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
			t.Errorf("fetch at %d: %v", id, err)
		}
		resp, err := n.peer.WriteMarkers(c.ctx(), &oncelogv1.WriteMarkersRequest{Shards: []*oncelogv1.ShardMarkers{{ShardId: testShard}}})
		if err != nil || resp.GetShards()[0].GetError().GetMetadata()[apierrors.KeyLeaderAddress] != want {
			t.Errorf("markers at %d: %v %v", id, err, resp)
		}
		if address, ok := n.ResolvePeer(raftstore.NodeID(leader.cfg.NodeID)); !ok || address != fmt.Sprintf("peer-%d", leader.cfg.NodeID) {
			t.Errorf("resolve: %q %v", address, ok)
		}
	}
}

func TestReadersMoveWithTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	old := c.leader()
	c.append(old, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	f := c.follow(old, pA, 0, committed)
	equal(t, "first", f.until(1), "0=a")
	c.coord.with(func() { clear(c.coord.reports) })
	c.net.Isolate(raftstore.NodeID(old.cfg.NodeID), true)
	if _, err := f.receive(); code(err) != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		t.Errorf("reader of a deposed leader: %v", err)
	}
	next := c.leader()
	c.append(next, pstate.TxnRef{ProducerID: 9}, pA, 1, "b")
	equal(t, "at the new leader", c.read(next, pA, 0, committed), "0=a", "1=b")
	c.net.Isolate(raftstore.NodeID(old.cfg.NodeID), false)
	s := old.shard(testShard)
	if _, err := s.group.WaitLeadership(c.ctx(), func(l raftstore.Leadership) bool { return l.Leader != 0 && !l.IsLeader }); err != nil {
		t.Error(err)
	}
}

// TestRestartWithoutCoordinator also holds a replay to what was there before.
func TestRestartWithoutCoordinator(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		c := newCluster(t, 1)
		n := c.leader()
		for i := range uint64(20) {
			ref := pstate.TxnRef{ProducerID: i%3 + 1, Number: i + 1}
			c.append(n, ref, pA, 0, "a", "b", "c")
			if i%4 > 0 {
				c.mark(n, ref, i%2 == 0, pA, i%4)
			}
		}
		before := c.read(n, pA, 0, committed)
		all := c.read(n, pA, 0, uncommitted)
		state, err := n.shard(testShard).machine.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		disk := n.disk
		if crash {
			disk = n.disk.Crash(0) // what was not synced is lost
		}
		n.stop()
		c.coord.with(func() { c.coord.down = true; clear(c.coord.reports) })
		n = c.start(1, n.dir, disk)
		s := n.shard(testShard)
		if _, err := s.group.WaitLeadership(c.ctx(), func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
			t.Fatal(err)
		}
		again, err := s.machine.Snapshot()
		if err != nil || !bytes.Equal(state, again) {
			t.Errorf("crash %v: the state is another one after the restart (%v)", crash, err)
		}
		equal(t, "committed", c.read(n, pA, 0, committed), before...)
		equal(t, "uncommitted", c.read(n, pA, 0, uncommitted), all...)
		c.append(n, pstate.TxnRef{ProducerID: 77}, pA, 0, "z") // keys and routes came from disk
	}
}

func TestOnARealLogDevice(t *testing.T) {
	t.Parallel()
	c := newClusterOn(t, 1, func(dir string) (raftstore.LogStore, error) {
		return pebblelog.Open(pebblelog.Config{Dir: filepath.Join(dir, "raft")})
	})
	n := c.leader()
	f := c.follow(n, pA, 0, committed)
	for i := range uint64(100) {
		ref := pstate.TxnRef{ProducerID: 1, Number: i + 1}
		c.append(n, ref, pA, 0, "a", "b")
		c.append(n, ref, pB, 0, "c")
		c.mark(n, ref, i%3 > 0, pA, 1, pB, 1)
	}
	followed := f.until(200)
	before := c.read(n, pA, 0, committed)
	equal(t, "followed", followed, before...)
	c.coord.with(func() { clear(c.coord.reports) })
	n.stop()
	n = c.start(1, n.dir, nil)
	c.leader()
	equal(t, "after a restart", c.read(n, pA, 0, committed), before...)
	if len(before) != 66 || len(c.read(n, pB, 0, uncommitted)) != 100 {
		t.Errorf("%d records", len(before))
	}
}

func TestNodeKeepsToItsDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	if r := c.coord.registered[1]; r.GetInstanceId() == "" || r.GetClientAddress() != "client-1" || r.GetPeerAddress() != "peer-1" || r.GetClusterId() != "" {
		t.Errorf("registration %v", r)
	}
	for _, name := range []string{identityFile.File, assignmentFile.File} {
		info, err := os.Stat(filepath.Join(n.dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	cfg := c.config(2, n.dir)
	cfg.OpenStore = func(string) (*raftstore.Store, error) { return nil, errors.New("not here") }
	if _, err := New(cfg); code(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE {
		t.Errorf("another node on the disk: %v", err)
	}
	cfg = c.config(1, n.dir)
	cfg.OpenStore = func(string) (*raftstore.Store, error) { return nil, errors.New("not here") }
	cfg.InstanceID = "another"
	if _, err := New(cfg); code(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE {
		t.Errorf("another instance on the disk: %v", err)
	}
	id, err := openIdentity(datafile.Directory(n.dir), 1, "")
	if err != nil || id.cluster != testCluster {
		t.Errorf("%v %v", id, err)
	}
	if _, err := id.join(n.dir, "another"); code(err) != oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER {
		t.Errorf("another cluster: %v", err)
	}
}

func TestRefusedRegistrationsAreFinal(t *testing.T) {
	t.Parallel()
	coord := newFakeCoordinator()
	coord.refuse = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, "")
	c := &cluster{t: t, coord: coord}
	cfg := c.config(1, t.TempDir())
	cfg.OpenStore = func(string) (*raftstore.Store, error) {
		return nil, errors.New("not opened before the cluster is known")
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); code(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE {
		t.Errorf("start: %v", err)
	}
	coord.with(func() { coord.refuse, coord.down = nil, true })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("start without a coordinator: %v", err)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLaterRefusalIsFatal(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.coord.with(func() {
		c.coord.refuse = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER, "")
		clear(c.coord.registered) // UNKNOWN_NODE: it registers again
		c.coord.assignment = proto.Clone(c.coord.assignment).(*oncelogv1.HeartbeatResponse)
		c.coord.assignment.Version++
	})
	select {
	case err := <-n.Fatal():
		if code(err) != oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER {
			t.Error(err)
		}
	case <-c.ctx().Done():
		t.Error("not told")
	}
}

func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	// A node with a damaged identity does not start; a damaged assignment only
	// costs it the time until a coordinator answers.
	c := newCluster(t, 1)
	n := c.leader()
	n.stop()
	if err := os.WriteFile(filepath.Join(n.dir, assignmentFile.File), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.coord.with(func() { clear(c.coord.reports) })
	n = c.start(1, n.dir, n.disk)
	c.leader()
	n.stop()
	if err := os.WriteFile(filepath.Join(n.dir, identityFile.File), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := c.config(1, n.dir)
	cfg.OpenStore = func(string) (*raftstore.Store, error) { return nil, errors.New("not here") }
	if _, err := New(cfg); !errors.Is(err, datafile.ErrDamaged) {
		t.Errorf("damaged identity: %v", err)
	}
}

func TestAssignmentsAreMerged(t *testing.T) {
	t.Parallel()
	shards := func(ids ...uint64) (out []*oncelogv1.ShardAssignment) {
		for _, id := range ids {
			out = append(out, &oncelogv1.ShardAssignment{ShardId: id})
		}
		return out
	}
	old := &oncelogv1.HeartbeatResponse{Version: 5, Shards: shards(1), TokenKeys: []*oncelogv1.TokenKey{{KeyId: 1}}, Nodes: []*oncelogv1.Node{{NodeId: 1}}}
	for name, x := range map[string]struct {
		old, got, want *oncelogv1.HeartbeatResponse
		changed        bool
	}{
		"first":          {nil, old, old, true},
		"same":           {old, old, old, false},
		"unchanged":      {old, &oncelogv1.HeartbeatResponse{Version: 5}, old, false},
		"late":           {old, &oncelogv1.HeartbeatResponse{Version: 4, Shards: shards(9)}, old, false},
		"newer":          {old, &oncelogv1.HeartbeatResponse{Version: 6, Shards: shards(1, 2)}, &oncelogv1.HeartbeatResponse{Version: 6, Shards: shards(1, 2), TokenKeys: old.TokenKeys, Nodes: old.Nodes}, true},
		"rotated keys":   {old, &oncelogv1.HeartbeatResponse{Version: 5, TokenKeys: []*oncelogv1.TokenKey{{KeyId: 2}}}, &oncelogv1.HeartbeatResponse{Version: 5, Shards: old.Shards, TokenKeys: []*oncelogv1.TokenKey{{KeyId: 2}}, Nodes: old.Nodes}, true},
		"first is empty": {nil, &oncelogv1.HeartbeatResponse{}, &oncelogv1.HeartbeatResponse{}, true},
	} {
		got, changed := mergeAssignment(x.old, x.got)
		if !proto.Equal(got, x.want) || changed != x.changed {
			t.Errorf("%s: %v %v, want %v %v", name, got, changed, x.want, x.changed)
		}
	}
	if err := saveAssignment(datafile.Directory(t.TempDir()), old); err != nil {
		t.Error(err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	good := func() Config {
		return Config{
			NodeID: 1, ClientAddress: "c", PeerAddress: "p", DataDir: "d", Coordinator: newFakeCoordinator(),
			OpenStore: func(string) (*raftstore.Store, error) { return raftstore.Open(raftstore.Config{Log: memlog.New(nil)}) },
		}
	}
	if _, err := good().withDefaults(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"node": func(c *Config) { c.NodeID = 0 }, "client": func(c *Config) { c.ClientAddress = "" },
		"peer": func(c *Config) { c.PeerAddress = "" }, "dir": func(c *Config) { c.DataDir = "" },
		"store": func(c *Config) { c.OpenStore = nil }, "coordinator": func(c *Config) { c.Coordinator = nil },
		"instance": func(c *Config) { c.InstanceID = string(make([]byte, 65)) },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := cfg.withDefaults(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestLostLogIsNotStartedFrom starts a node whose log is gone from a directory
// that remembers its shards. It voted and acknowledged as a member of them, and
// an empty log would let it do both again.
func TestLostLogIsNotStartedFrom(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	n.stop()
	cfg := c.config(1, n.dir)
	cfg.OpenStore = func(string) (*raftstore.Store, error) {
		return raftstore.Open(raftstore.Config{NodeID: 1, Log: memlog.New(nil)})
	}
	again, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Start(c.ctx()); !errors.Is(err, raftstore.ErrCorrupt) {
		t.Errorf("start: %v", err)
	}
	if err := again.Close(c.ctx()); err != nil {
		t.Error(err)
	}
}
