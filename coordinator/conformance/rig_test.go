package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

// cluster is running coordinators in a bubble in which time passes only when
// everybody waits (testing/synctest), and stand-ins for the partition nodes.
type cluster struct {
	t      *testing.T
	net    *memtransport.Network
	nodes  []*node
	shards *shards
	change func(*coordinator.Config)
	keys   *token.Keyring // the cluster's, to sign what nobody was given
	ctx    context.Context
}

// node is one coordinator.
type node struct {
	id     uint64
	log    *memlog.Store
	store  *raftstore.Store // nil: it does not run
	c      *coordinator.Coordinator
	client services
	peer   services

	txns    oncelogv1.TransactionServiceClient
	groups  oncelogv1.GroupServiceClient
	catalog oncelogv1.CatalogServiceClient
	cluster oncelogv1.NodeServiceClient
	status  oncelogv1.StatusServiceClient
}

// inBubble runs a test with n coordinators and three partition nodes.
func inBubble(t *testing.T, n int, change func(*coordinator.Config), test func(c *cluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, net: memtransport.NewNetwork(), shards: newShards(), change: change, ctx: t.Context()}
		for i := range n {
			c.nodes = append(c.nodes, &node{id: uint64(i + 1), log: memlog.New(nil)})
		}
		for _, m := range c.nodes {
			c.start(m)
		}
		t.Cleanup(func() {
			for _, m := range c.nodes {
				c.stop(m)
			}
		})
		c.leader()
		c.register(3)
		test(c)
	})
}

// one runs a test with one coordinator.
func one(t *testing.T, test func(c *cluster)) {
	t.Helper()
	inBubble(t, 1, nil, test)
}

// scenario is one test of the page CONFORMANCE.md. Its name begins with the ids
// that it covers.
type scenario struct {
	name   string
	nodes  int // coordinators; 0: one
	change func(*coordinator.Config)
	test   func(c *cluster)
}

// play runs scenarios side by side.
func play(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { inBubble(t, max(s.nodes, 1), s.change, s.test) })
	}
}

func (c *cluster) start(m *node) {
	c.t.Helper()
	store, err := raftstore.Open(raftstore.Config{
		NodeID: raftstore.NodeID(m.id), Log: m.log, Transport: c.net.Transport(raftstore.NodeID(m.id)), StallTimeout: -1,
	})
	c.ok(err)
	cfg := coordinator.Config{NodeID: m.id, Store: store, DialPeer: c.shards.dial, Version: "test", MaxFormatLevel: level.First}
	cfg.Txn = coordinator.Rules()
	for _, other := range c.nodes {
		cfg.Members = append(cfg.Members, coordinator.Member{
			ID: other.id, ClientAddress: fmt.Sprintf("client-%d:1", other.id), PeerAddress: fmt.Sprintf("peer-%d:1", other.id),
		})
	}
	if c.change != nil {
		c.change(&cfg)
	}
	m.c, err = coordinator.New(cfg)
	c.ok(err)
	m.store = store
	c.net.Attach(raftstore.NodeID(m.id), store)
	m.client, m.peer = services{}, services{}
	m.c.RegisterClient(m.client)
	m.c.RegisterPeer(m.peer)
	m.txns = oncelogv1.NewTransactionServiceClient(m.client)
	m.groups = oncelogv1.NewGroupServiceClient(m.client)
	m.catalog = oncelogv1.NewCatalogServiceClient(m.client)
	m.cluster = oncelogv1.NewNodeServiceClient(m.peer)
	m.status = oncelogv1.NewStatusServiceClient(m.client)
}

// stop ends a coordinator as its process would end; its log stays.
func (c *cluster) stop(m *node) {
	if m.store == nil {
		return
	}
	c.net.Attach(raftstore.NodeID(m.id), nil)
	m.c.Close()
	if err := m.store.Close(context.Background()); err != nil {
		c.t.Error(err)
	}
	m.store = nil
}

// ok ends the test unless err is nil.
func (c *cluster) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", code(err), err)
	}
}

// wants ends the test unless err has the code; "OK": no error.
func (c *cluster) wants(what string, err error, want string) map[string]string {
	c.t.Helper()
	if got := code(err); got != want {
		c.t.Fatalf("%s: %s (%v), want %s", what, got, err, want)
	}
	if err == nil {
		return nil
	}
	return apierrors.From(err).Metadata
}

// equal ends the test unless two values print alike.
func (c *cluster) equal(what string, got, want any) {
	c.t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		c.t.Fatalf("%s: %s, want %s", what, g, w)
	}
}

// code is the name of an error's code, and OK of none.
func code(err error) string {
	if err == nil {
		return "OK"
	}
	return apierrors.Name(apierrors.CodeOf(err))
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until lets time go by, up to a minute, until cond holds.
func (c *cluster) until(what string, cond func() bool) {
	c.t.Helper()
	for range 6000 {
		synctest.Wait()
		if cond() {
			return
		}
		pass(10 * time.Millisecond)
	}
	c.t.Fatalf("did not happen within a minute: %s", what)
}

// leader returns the coordinator that leads and can sign. Callers side by side may
// ask for it while there is one.
func (c *cluster) leader() *node {
	c.t.Helper()
	leader := c.leading()
	if leader == nil {
		c.until("a coordinator leads", func() bool {
			leader = c.leading()
			return leader != nil
		})
	}
	return leader
}

// leading returns the coordinator of the highest term that serves; nil: none.
func (c *cluster) leading() (leader *node) {
	var term uint64
	for _, m := range c.nodes {
		if m.store == nil {
			continue
		}
		if g := c.group(m); g.GetReady() && g.GetTerm() > term && c.initialised(m) {
			leader, term = m, g.GetTerm()
		}
	}
	return leader
}

// group is what a coordinator says of its Raft group.
func (c *cluster) group(m *node) *oncelogv1.GroupStatus {
	res, err := m.status.GetStatus(c.ctx, &oncelogv1.GetStatusRequest{})
	c.ok(err)
	return res.GetGroups()[0]
}

func (c *cluster) initialised(m *node) bool {
	res, err := m.status.GetStatus(c.ctx, &oncelogv1.GetStatusRequest{})
	return err == nil && res.GetClusterId() != ""
}

// cut takes a coordinator off the others, or brings it back.
func (c *cluster) cut(m *node, off bool) { c.net.Isolate(raftstore.NodeID(m.id), off) }

// failover cuts off the leader, waits for another one, and brings the old one
// back as a follower. It returns the new leader.
func (c *cluster) failover() *node {
	c.t.Helper()
	old := c.leader()
	c.cut(old, true)
	var next *node
	c.until("another coordinator leads", func() bool {
		for _, m := range c.nodes {
			if m != old && m.store != nil && c.group(m).GetReady() {
				next = m
			}
		}
		return next != nil
	})
	c.cut(old, false)
	c.until("the old leader follows", func() bool { return c.group(old).GetLeader() == next.id })
	c.report(c.group(next).GetTerm())
	return next
}

// within returns a context of a caller who waits for at most d.
func (c *cluster) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(c.ctx, d)
	c.t.Cleanup(cancel)
	return ctx
}

func instance(id uint64) string { return fmt.Sprintf("disk-%d", id) }

// register makes partition nodes 1 to n known, and learns the keys.
func (c *cluster) register(n uint64) {
	c.t.Helper()
	for id := uint64(1); id <= n; id++ {
		_, err := c.leader().cluster.RegisterNode(c.ctx, &oncelogv1.RegisterNodeRequest{
			NodeId: id, InstanceId: instance(id), ClientAddress: fmt.Sprintf("node-%d:0", id), PeerAddress: fmt.Sprintf("node-%d:1", id),
			MaxFormatLevel: level.Newest,
		})
		c.ok(err)
	}
	res, err := c.leader().cluster.Heartbeat(c.ctx, &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1), MaxFormatLevel: level.Newest})
	c.ok(err)
	var keys []token.Key
	for _, k := range res.GetTokenKeys() {
		keys = append(keys, token.Key{ID: k.GetKeyId(), Secret: k.GetSecret()})
	}
	c.keys = &token.Keyring{}
	c.keys.Set(keys)
}

// topic creates a topic whose shards are led by the first of their nodes.
func (c *cluster) topic(name string, partitions uint32) *oncelogv1.Topic {
	c.t.Helper()
	res, err := c.leader().catalog.CreateTopic(c.ctx, &oncelogv1.CreateTopicRequest{
		Name: name, Partitions: partitions, ReplicationFactor: 3, NoWait: true,
	})
	c.ok(err)
	c.report(1)
	return res.GetTopic()
}

// report sends one heartbeat of every partition node, in which each shard is
// led by the first of its nodes, in the given term.
func (c *cluster) report(term uint64) {
	c.t.Helper()
	leader := c.leader()
	meta, err := leader.catalog.GetMetadata(c.ctx, &oncelogv1.GetMetadataRequest{})
	c.ok(err)
	for _, n := range meta.GetNodes() {
		req := &oncelogv1.HeartbeatRequest{NodeId: n.GetNodeId(), InstanceId: instance(n.GetNodeId()), MaxFormatLevel: level.Newest}
		for _, s := range meta.GetShards() {
			first := s.GetReplicas()[0]
			req.Shards = append(req.Shards, &oncelogv1.ShardReport{
				ShardId: s.GetShardId(), Leader: first, Term: term, Ready: first == n.GetNodeId(), PartitionsVersion: meta.GetVersion(),
			})
		}
		_, err := leader.cluster.Heartbeat(c.ctx, req)
		c.ok(err)
	}
}

// services carries calls to registered handlers in encoded form: what does not
// survive the wire does not survive it.
type services map[string]handler

type handler struct {
	desc grpc.MethodDesc
	impl any
}

// RegisterService implements grpc.ServiceRegistrar.
func (s services) RegisterService(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Methods {
		s["/"+desc.ServiceName+"/"+m.MethodName] = handler{m, impl}
	}
}

// Invoke implements grpc.ClientConnInterface.
func (s services) Invoke(ctx context.Context, name string, args, reply any, _ ...grpc.CallOption) error {
	h, ok := s[name]
	if !ok {
		return fmt.Errorf("no method %s", name)
	}
	res, err := h.desc.Handler(h.impl, ctx, func(into any) error { return recode(args, into) }, nil)
	if err != nil {
		return status.ErrorProto(proto.CloneOf(status.Convert(err).Proto()))
	}
	return recode(res, reply)
}

// NewStream implements grpc.ClientConnInterface.
func (s services) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("the coordinator has no streams")
}

func recode(from, into any) error {
	b, err := proto.Marshal(from.(proto.Message))
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, into.(proto.Message))
}

// shards stands for all partition nodes: it takes markers, and answers them as
// the test wants.
type shards struct {
	mu sync.Mutex
	// held are producers whose markers get no answer that means anything, so
	// that their transactions stay incomplete.
	held map[uint64]bool
	// results are what else than APPLIED a shard answers.
	results map[uint64]oncelogv1.MarkerResult
	away    map[uint64]bool // shards that cannot be reached
	markers []marker        // that arrived, in their order
	arrived int             // requests
}

// marker is one that arrived at a shard.
type marker struct {
	shard  uint64
	marker *oncelogv1.Marker
}

// String returns the marker as "shard: pid/epoch/number commit".
func (m marker) String() string {
	what := "commit"
	if !m.marker.GetCommit() {
		what = reasonText(m.marker.GetReason())
	}
	r := m.marker.GetTxn()
	return fmt.Sprintf("%d: %d/%d/%d %s", m.shard, r.GetProducerId(), r.GetEpoch(), r.GetTxnNumber(), what)
}

func newShards() *shards {
	return &shards{held: map[uint64]bool{}, results: map[uint64]oncelogv1.MarkerResult{}, away: map[uint64]bool{}}
}

// hold keeps the transactions of a producer incomplete, or lets them go.
func (s *shards) hold(producer uint64, hold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[producer] = hold
}

// reach makes a shard answer, or not.
func (s *shards) reach(shard uint64, can bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[shard] = !can
}

// answer sets what a shard says to markers.
func (s *shards) answer(shard uint64, r oncelogv1.MarkerResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[shard] = r
}

// requests returns how many arrived at shards that can be reached.
func (s *shards) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrived
}

// take returns the markers that arrived since the last call.
func (s *shards) take() []marker {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.markers
	s.markers = nil
	return taken
}

func (s *shards) dial(string) (grpc.ClientConnInterface, error) { return shardConn{s}, nil }

type shardConn struct{ *shards }

// Invoke implements grpc.ClientConnInterface.
func (s shardConn) Invoke(_ context.Context, _ string, args, reply any, _ ...grpc.CallOption) error {
	req := &oncelogv1.WriteMarkersRequest{}
	if err := recode(args, req); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &oncelogv1.WriteMarkersResponse{}
	for _, sm := range req.GetShards() {
		if s.away[sm.GetShardId()] {
			return status.FromContextError(context.DeadlineExceeded).Err()
		}
		s.arrived++
		out := &oncelogv1.ShardMarkerResults{ShardId: sm.GetShardId()}
		for _, m := range sm.GetMarkers() {
			s.markers = append(s.markers, marker{sm.GetShardId(), m})
			out.Results = append(out.Results, s.result(sm.GetShardId(), m))
		}
		res.Shards = append(res.Shards, out)
	}
	return recode(res, reply)
}

func (s *shards) result(shard uint64, m *oncelogv1.Marker) oncelogv1.MarkerResult {
	if s.held[m.GetTxn().GetProducerId()] {
		return oncelogv1.MarkerResult_MARKER_RESULT_UNSPECIFIED
	}
	if r, ok := s.results[shard]; ok {
		return r
	}
	return oncelogv1.MarkerResult_MARKER_RESULT_APPLIED
}

// NewStream implements grpc.ClientConnInterface.
func (s shardConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("markers need no streams")
}
