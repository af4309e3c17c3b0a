package partition

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testShard   = 101
	testCluster = "test-cluster"
	patience    = 20 * time.Second // a test that waits longer has failed
)

// Partitions of the test shard.
const (
	pA = 1001 + iota
	pB
	pC
)

var testKey = token.Key{ID: 7, Secret: []byte("0123456789abcdef0123456789abcdef")}

// inBubble runs a test in which time passes only when everybody waits
// (testing/synctest), with n nodes in it.
func inBubble(t *testing.T, n int, test func(t *testing.T, c *cluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newCluster(t, n)) })
}

// pass lets time pass in a bubble; what happens until then has happened when it
// returns.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// fakeCoordinator does what a test tells it.
type fakeCoordinator struct {
	mu         sync.Mutex
	changed    chan struct{}
	assignment *oncelogv1.HeartbeatResponse
	down       bool
	registered map[uint64]*oncelogv1.RegisterNodeRequest
	refuse     error // of registrations
	givenUp    []*oncelogv1.GiveUpDiskRequest
	lost       []*oncelogv1.GiveUpReplicaRequest
	// refuseGivingUp are the answers to the first requests to give a disk up.
	refuseGivingUp []error
	reports        map[uint64]*oncelogv1.HeartbeatRequest
	gone           []uint64
	asked          []uint64    // producers that CheckProducers was asked about
	tried          []time.Time // when Enlist was called
	// enlist answers one enlistment; nil: ACCEPTED.
	enlist   func(*oncelogv1.Enlistment) *oncelogv1.EnlistAnswer
	enlisted chan *oncelogv1.Enlistment
}

func newFakeCoordinator() *fakeCoordinator {
	return &fakeCoordinator{
		changed: make(chan struct{}), registered: map[uint64]*oncelogv1.RegisterNodeRequest{},
		reports: map[uint64]*oncelogv1.HeartbeatRequest{}, enlisted: make(chan *oncelogv1.Enlistment, 10_000),
	}
}

// with changes the coordinator and wakes whoever waits for that.
func (f *fakeCoordinator) with(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeCoordinator) isDown() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return unavailable()
	}
	return nil
}

func (f *fakeCoordinator) RegisterNode(_ context.Context, req *oncelogv1.RegisterNodeRequest) (*oncelogv1.RegisterNodeResponse, error) {
	if err := f.isDown(); err != nil {
		return nil, err
	}
	var err error
	f.with(func() {
		if err = f.refuse; err == nil {
			f.registered[req.GetNodeId()] = req
		}
	})
	if err != nil {
		return nil, err
	}
	return &oncelogv1.RegisterNodeResponse{ClusterId: testCluster}, nil
}

func (f *fakeCoordinator) Heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	f.with(func() {
		if !f.down {
			f.reports[req.GetNodeId()] = req
		}
	})
	for {
		f.mu.Lock()
		changed, down := f.changed, f.down
		var news *oncelogv1.HeartbeatResponse // a copy: tests change what there is
		if f.assignment.GetVersion() > req.GetKnownVersion() {
			news = proto.Clone(f.assignment).(*oncelogv1.HeartbeatResponse)
		}
		_, known := f.registered[req.GetNodeId()]
		f.mu.Unlock()
		switch {
		case down:
			return nil, unavailable()
		case !known:
			return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, "")
		case news != nil:
			return news, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fakeCoordinator) Enlist(_ context.Context, req *oncelogv1.EnlistRequest) (*oncelogv1.EnlistResponse, error) {
	f.with(func() { f.tried = append(f.tried, time.Now()) })
	if err := f.isDown(); err != nil {
		return nil, err
	}
	resp := &oncelogv1.EnlistResponse{}
	for _, e := range req.GetEnlistments() {
		var a *oncelogv1.EnlistAnswer
		f.with(func() {
			if f.enlist != nil {
				a = f.enlist(e)
			}
		})
		if a == nil {
			a = &oncelogv1.EnlistAnswer{Verdict: oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED}
		}
		a.Txn, a.ShardId, a.OpenedAt = e.GetTxn(), e.GetShardId(), e.GetOpenedAt()
		resp.Answers = append(resp.Answers, a)
		f.enlisted <- e
	}
	return resp, nil
}

func (f *fakeCoordinator) GiveUpDisk(_ context.Context, req *oncelogv1.GiveUpDiskRequest) (*oncelogv1.GiveUpDiskResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.givenUp = append(f.givenUp, req)
	if len(f.refuseGivingUp) > 0 {
		err := f.refuseGivingUp[0]
		f.refuseGivingUp = f.refuseGivingUp[1:]
		return nil, err
	}
	return &oncelogv1.GiveUpDiskResponse{}, nil
}

func (f *fakeCoordinator) GiveUpReplica(_ context.Context, req *oncelogv1.GiveUpReplicaRequest) (*oncelogv1.GiveUpReplicaResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = append(f.lost, req)
	if len(f.refuseGivingUp) > 0 {
		err := f.refuseGivingUp[0]
		f.refuseGivingUp = f.refuseGivingUp[1:]
		return nil, err
	}
	return &oncelogv1.GiveUpReplicaResponse{}, nil
}

func (f *fakeCoordinator) CheckProducers(_ context.Context, req *oncelogv1.CheckProducersRequest) (*oncelogv1.CheckProducersResponse, error) {
	resp := &oncelogv1.CheckProducersResponse{}
	f.with(func() {
		f.asked = append(f.asked, req.GetProducerIds()...)
		resp.Gone = f.gone
	})
	return resp, nil
}

// await waits until cond holds of what the coordinator knows.
func (f *fakeCoordinator) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		ok, changed := cond(), f.changed
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// cluster is a few nodes in one process.
type cluster struct {
	t     *testing.T
	coord *fakeCoordinator
	net   *memtransport.Network
	// openLog opens the log device of a node; nil: the one in memory.
	openLog func(dir string) (raftstore.LogStore, error)
	nodes   map[uint64]*testNode

	relocateBytes  uint64 // 0: the default
	compactionKeys int    // 0: the default
}

type testNode struct {
	*Node
	dir    string
	disk   *memlog.Store
	store  *raftstore.Store
	client oncelogv1.LogServiceClient
	peer   oncelogv1.ShardServiceClient
	backup oncelogv1.ShardBackupServiceClient
	stop   func()
}

// newCluster starts n nodes that host one shard with the partitions pA, pB and
// pC, and waits until it is served.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	return newClusterOn(t, n, nil)
}

func newClusterOn(t *testing.T, n int, openLog func(dir string) (raftstore.LogStore, error)) *cluster {
	return startCluster(&cluster{t: t, openLog: openLog}, n)
}

func startCluster(c *cluster, n int) *cluster {
	t := c.t
	c.coord, c.net, c.nodes = newFakeCoordinator(), memtransport.NewNetwork(), map[uint64]*testNode{}
	c.coord.assignment = testAssignment(uint64(n))
	for id := uint64(1); id <= uint64(n); id++ {
		c.start(id, t.TempDir(), memlog.New(nil))
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.stop()
		}
	})
	c.leader()
	return c
}

// testAssignment has one shard with the partitions pA, pB and pC on n nodes.
func testAssignment(n uint64) *oncelogv1.HeartbeatResponse {
	a := &oncelogv1.HeartbeatResponse{
		Version:   1,
		TokenKeys: []*oncelogv1.TokenKey{{KeyId: testKey.ID, Secret: testKey.Secret}},
		Shards: []*oncelogv1.ShardAssignment{{ShardId: testShard, Version: 1, Partitions: []*oncelogv1.AssignedPartition{
			{PartitionId: pA, TopicId: 5, Topic: "t", Partition: 0},
			{PartitionId: pB, TopicId: 5, Topic: "t", Partition: 1},
			{PartitionId: pC, TopicId: 6, Topic: "u", Partition: 0},
		}}},
	}
	for id := uint64(1); id <= n; id++ {
		a.Shards[0].Replicas = append(a.Shards[0].Replicas, id)
		a.Nodes = append(a.Nodes, &oncelogv1.Node{NodeId: id, ClientAddress: fmt.Sprintf("client-%d", id), PeerAddress: fmt.Sprintf("peer-%d", id)})
	}
	return a
}

func (c *cluster) config(id uint64, dir string) Config {
	cfg := Config{
		NodeID: id, DataDir: dir, Coordinator: c.coord,
		ClientAddress: fmt.Sprintf("client-%d", id), PeerAddress: fmt.Sprintf("peer-%d", id),
		RetryDelay: 5 * time.Millisecond, Version: "test", SnapshotEntries: 64, RelocateBytes: c.relocateBytes,
		CompactionKeys: c.compactionKeys,
	}
	if os.Getenv("ONCELOG_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id)
	}
	return cfg
}

// start starts a node on a disk.
func (c *cluster) start(id uint64, dir string, disk *memlog.Store) *testNode {
	c.t.Helper()
	n := &testNode{dir: dir, disk: disk}
	cfg := c.config(id, dir)
	cfg.OpenStore = func(cluster string) (*raftstore.Store, error) {
		if cluster != testCluster {
			return nil, fmt.Errorf("cluster %q", cluster)
		}
		var device raftstore.LogStore = disk
		if c.openLog != nil {
			var err error
			if device, err = c.openLog(dir); err != nil {
				return nil, err
			}
		}
		store, err := raftstore.Open(raftstore.Config{
			NodeID: raftstore.NodeID(id), Log: device, Transport: c.net.Transport(raftstore.NodeID(id)),
			TickInterval: 10 * time.Millisecond, MinFreeBytes: -1, StallTimeout: -1,
		})
		if err == nil {
			n.store = store
			c.net.Attach(raftstore.NodeID(id), store)
		}
		return store, err
	}
	var err error
	if n.Node, err = New(cfg); err != nil {
		c.t.Fatal(err)
	}
	if err := n.Start(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	n.serve(c)
	c.nodes[id] = n
	return n
}

// serve opens the node's services on a pipe.
func (n *testNode) serve(c *cluster) {
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(MaxRequestBytes), grpc.MaxSendMsgSize(2*MaxRequestBytes))
	n.RegisterClient(srv)
	n.RegisterPeer(srv)
	go func() { _ = srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///pipe",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return lis.Dial() }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*MaxRequestBytes)))
	if err != nil {
		c.t.Fatal(err)
	}
	n.client, n.peer = oncelogv1.NewLogServiceClient(conn), oncelogv1.NewShardServiceClient(conn)
	n.backup = oncelogv1.NewShardBackupServiceClient(conn)
	n.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			c.t.Errorf("close node %d: %v", n.cfg.NodeID, err)
		}
		_ = conn.Close()
		srv.Stop()
	})
}

// leader waits until one node leads with the assigned partitions.
func (c *cluster) leader() *testNode {
	c.t.Helper()
	var found *testNode
	c.coord.await(c.t, "a leader", func() bool {
		want := c.coord.assignment.GetShards()[0].GetVersion()
		for id, r := range c.coord.reports {
			n := c.nodes[id]
			if n == nil {
				continue
			}
			for _, s := range r.GetShards() {
				if s.GetShardId() == testShard && s.GetReady() && s.GetPartitionsVersion() >= want &&
					n.shard(testShard).serving() == nil {
					found = n
					return true
				}
			}
		}
		return false
	})
	return found
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

// assign changes the assignment of all nodes.
func (c *cluster) assign(change func(s *oncelogv1.ShardAssignment)) {
	c.coord.with(func() {
		a := proto.Clone(c.coord.assignment).(*oncelogv1.HeartbeatResponse)
		a.Version++
		a.Shards[0].Version = a.Version
		change(a.Shards[0])
		c.coord.assignment = a
	})
}

func partitionRef(id uint64) *oncelogv1.PartitionRef {
	return &oncelogv1.PartitionRef{PartitionId: id}
}

// appendRequest is what a producer with a right token sends.
func appendRequest(ref pstate.TxnRef, partition, baseSequence uint64, values ...string) *oncelogv1.AppendRequest {
	var keys token.Keyring
	keys.Set([]token.Key{testKey})
	list := &oncelogv1.RecordList{}
	for _, v := range values {
		list.Records = append(list.Records, &oncelogv1.Record{Key: []byte("k"), Value: []byte(v)})
	}
	return &oncelogv1.AppendRequest{
		Txn: protoRef(ref), ProducerToken: keys.Sign(ref.ProducerID, ref.Epoch),
		Partitions: []*oncelogv1.PartitionAppend{{
			Partition: partitionRef(partition), BaseSequence: baseSequence,
			Payload: &oncelogv1.PartitionAppend_Records{Records: list},
		}},
	}
}

// append writes and returns the base offset.
func (c *cluster) append(n *testNode, ref pstate.TxnRef, partition, baseSequence uint64, values ...string) uint64 {
	c.t.Helper()
	resp, err := n.client.Append(c.ctx(), appendRequest(ref, partition, baseSequence, values...))
	if err != nil {
		c.t.Fatalf("append %v to %d: %v", ref, partition, err)
	}
	return resp.GetResults()[0].GetBaseOffset()
}

// mark applies a decision.
func (c *cluster) mark(n *testNode, ref pstate.TxnRef, commit bool, progress ...uint64) oncelogv1.MarkerResult {
	c.t.Helper()
	m := &oncelogv1.Marker{Txn: protoRef(ref), Commit: commit}
	if !commit {
		m.Reason = oncelogv1.AbortReason_ABORT_REASON_CLIENT
	}
	for i := 0; i+1 < len(progress); i += 2 {
		m.Progress = append(m.Progress, &oncelogv1.MarkerProgress{PartitionId: progress[i], NextSequence: progress[i+1]})
	}
	resp, err := n.peer.WriteMarkers(c.ctx(), &oncelogv1.WriteMarkersRequest{
		Shards: []*oncelogv1.ShardMarkers{{ShardId: testShard, Markers: []*oncelogv1.Marker{m}}},
	})
	if err != nil || resp.GetShards()[0].GetError() != nil {
		c.t.Fatalf("marker %v: %v %v", ref, err, resp.GetShards())
	}
	return resp.GetShards()[0].GetResults()[0]
}

const (
	committed   = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
	uncommitted = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
)

// read fetches a partition from an offset to its end, in both formats, and
// returns "offset=value" of every record. Both must agree.
func (c *cluster) read(n *testNode, partition, from uint64, level oncelogv1.IsolationLevel) []string {
	c.t.Helper()
	req := &oncelogv1.FetchRequest{Partition: partitionRef(partition), Offset: from, Isolation: level}
	plain := c.fetch(n, req)
	req.Format = oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES
	req.MaxResponseBytes = 1
	if batches := c.fetch(n, req); !slices.Equal(plain, batches) {
		c.t.Fatalf("records %v, batches %v", plain, batches)
	}
	return plain
}

// fetch runs a stream that does not follow to its end.
func (c *cluster) fetch(n *testNode, req *oncelogv1.FetchRequest) []string {
	c.t.Helper()
	stream, err := n.client.Fetch(c.ctx(), req)
	if err != nil {
		c.t.Fatal(err)
	}
	f := &follower{t: c.t, stream: stream, next: req.GetOffset()}
	return f.rest()
}
