package rafttransport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/wire"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/rafttransport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// appender is a machine that collects commands.
type appender struct {
	mu   sync.Mutex
	data []byte
}

func (a *appender) Apply(e raftstore.Entry, _ raftstore.RowWriter) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.data = append(a.data, e.Data...)
	return len(a.data), nil
}

func (a *appender) Snapshot() ([]byte, error) { return bytes.Clone(a.state()), nil }

func (a *appender) Restore(_ uint64, data []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.data = bytes.Clone(data)
	return nil
}

func (a *appender) state() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.data
}

type node struct {
	store     *raftstore.Store
	group     *raftstore.Group
	machine   *appender
	transport *rafttransport.Transport
	server    *grpc.Server
}

type cluster struct {
	t     testing.TB
	addrs map[raftstore.NodeID]string
	logs  map[raftstore.NodeID]raftstore.LogStore
	nodes map[raftstore.NodeID]*node
	group raftstore.GroupConfig
}

func newCluster(t testing.TB, group raftstore.GroupConfig) *cluster {
	c := &cluster{
		t: t, group: group,
		addrs: map[raftstore.NodeID]string{},
		logs:  map[raftstore.NodeID]raftstore.LogStore{},
		nodes: map[raftstore.NodeID]*node{},
	}
	listeners := map[raftstore.NodeID]net.Listener{}
	for id := raftstore.NodeID(1); id <= 3; id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[id], c.addrs[id], c.logs[id] = l, l.Addr().String(), memlog.New(nil)
	}
	for id, l := range listeners {
		c.start(id, l)
	}
	t.Cleanup(func() {
		for id := range c.nodes {
			c.stop(id)
		}
	})
	return c
}

func (c *cluster) start(id raftstore.NodeID, l net.Listener) {
	c.t.Helper()
	n := &node{machine: &appender{}}
	n.transport = rafttransport.New(rafttransport.Config{
		Self: id, ClusterID: "test",
		Resolve:     func(to raftstore.NodeID) (string, bool) { a, ok := c.addrs[to]; return a, ok },
		Instance:    func(id raftstore.NodeID) string { return fmt.Sprint("directory ", id) },
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	})
	var err error
	n.store, err = raftstore.Open(raftstore.Config{
		NodeID: id, Log: c.logs[id], Transport: n.transport, TickInterval: 25 * time.Millisecond,
		OnFatal: func(err error) { c.t.Errorf("node %d: %v", id, err) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := c.group
	cfg.ID, cfg.Members, cfg.Machine = 1, []raftstore.NodeID{1, 2, 3}, n.machine
	if n.group, err = n.store.CreateGroup(cfg); err != nil {
		c.t.Fatal(err)
	}
	n.server = grpc.NewServer(grpc.MaxRecvMsgSize(rafttransport.MaxFrameBytes), grpc.ForceServerCodecV2(wire.Codec{}))
	oncelogv1.RegisterRaftServiceServer(n.server, rafttransport.NewServer(id, "test", n.store).WithInstances(func(id raftstore.NodeID) string { return fmt.Sprint("directory ", id) }))
	go func() { _ = n.server.Serve(l) }()
	c.nodes[id] = n
}

func (c *cluster) stop(id raftstore.NodeID) {
	n := c.nodes[id]
	delete(c.nodes, id)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // without handing over
	_ = n.store.Close(ctx)
	n.server.Stop()
	_ = n.transport.Close()
}

func (c *cluster) leader(ctx context.Context) *node {
	c.t.Helper()
	found := make(chan *node, len(c.nodes))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, n := range c.nodes {
		go func() {
			if _, err := n.group.WaitLeadership(ctx, func(l raftstore.Leadership) bool { return l.Ready }); err == nil {
				found <- n
			}
		}()
	}
	select {
	case n := <-found:
		return n
	case <-ctx.Done():
		c.t.Fatal("no leader")
		return nil
	}
}

func (c *cluster) propose(ctx context.Context, data []byte) {
	c.t.Helper()
	for {
		_, _, err := c.leader(ctx).group.Propose(ctx, data)
		var notLeader *raftstore.NotLeaderError
		switch {
		case err == nil:
			return
		case errors.As(err, &notLeader), errors.Is(err, raftstore.ErrUnknownResult):
			// On a busy machine leaders change; a command may then be there
			// twice.
		default:
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) converged(ctx context.Context) []byte {
	c.t.Helper()
	var state []byte
	for id, n := range c.nodes {
		var notLeader *raftstore.NotLeaderError
		_, err := n.group.ReadIndex(ctx)
		for errors.As(err, &notLeader) { // leaders change on a busy machine
			_, err = n.group.ReadIndex(ctx)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if s := n.machine.state(); state == nil {
			state = s
		} else if !bytes.Equal(s, state) {
			c.t.Fatalf("node %d has another state", id)
		}
	}
	return state
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestClusterOverLoopback(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{RetainLog: true})
	for i := range 100 {
		c.propose(ctx, fmt.Appendf(nil, "%d,", i))
	}
	c.propose(ctx, make([]byte, 8<<20)) // larger than any usual frame
	if state := c.converged(ctx); len(state) < 290+8<<20 {
		t.Fatalf("%d bytes of state", len(state))
	}
}

// TestRestartedPeerIsReachableSoon restarts a follower at the same address and
// proposes with the other follower gone: only a fast reconnection gives the
// leader its majority back before it steps down.
func TestRestartedPeerIsReachableSoon(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{RetainLog: true})
	c.propose(ctx, []byte("a"))
	var followers []raftstore.NodeID
	lead := c.leader(ctx)
	for id, n := range c.nodes {
		if n != lead {
			followers = append(followers, id)
		}
	}
	c.stop(followers[0])
	for i := range 20 {
		c.propose(ctx, fmt.Appendf(nil, "%d", i))
	}
	l, err := net.Listen("tcp", c.addrs[followers[0]])
	if err != nil {
		t.Fatal(err)
	}
	c.start(followers[0], l)
	if _, err := c.nodes[followers[0]].group.ReadIndex(ctx); err != nil {
		t.Fatal(err)
	}
	c.stop(followers[1])
	c.propose(ctx, []byte("z"))
	if state := c.converged(ctx); len(state) < 32 {
		t.Fatalf("state %q", state)
	}
}

func TestSnapshotStream(t *testing.T) {
	t.Parallel()
	for name, retain := range map[string]bool{"compact": false, "retain": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := newCluster(t, raftstore.GroupConfig{RetainLog: retain, SnapshotEntries: 10, TailEntries: 2})
			c.propose(ctx, []byte("start"))
			var away raftstore.NodeID
			lead := c.leader(ctx)
			for id, n := range c.nodes {
				if n != lead {
					away = id
				}
			}
			c.stop(away)
			for range 40 {
				c.propose(ctx, bytes.Repeat([]byte("x"), 100_000))
			}
			for _, n := range c.nodes {
				n.group.Trim(10)
			}
			// Until that has happened the follower could have the log.
			for deadline := time.Now().Add(10 * time.Second); retain && c.leader(ctx).group.First() < 11; {
				c.propose(ctx, []byte("x"))
				if time.Now().After(deadline) {
					t.Fatal("nothing was trimmed")
				}
			}
			l, err := net.Listen("tcp", c.addrs[away])
			if err != nil {
				t.Fatal(err)
			}
			c.start(away, l)
			c.propose(ctx, []byte("end"))
			if state := c.converged(ctx); len(state) < 4_000_008 {
				t.Fatalf("%d bytes of state", len(state))
			}
			back := c.nodes[away]
			if n := back.store.Metrics().SnapshotsReceived; n == 0 {
				t.Error("the follower caught up without a snapshot")
			}
			if data, err := back.group.Entry(20); retain && (err != nil || len(data) != 100_000) {
				t.Errorf("an entry of the snapshot: %d bytes, %v", len(data), err)
			}
		})
	}
}

// collector takes everything and waits for part 7 of every snapshot.
type collector chan *raftpb.Message

func (c collector) Deliver(_ raftstore.GroupID, m *raftpb.Message) { c <- m }

func (c collector) DeliverChunk(chunk raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer)) {
	switch chunk.Seq {
	case 100:
		done(raftstore.SnapshotAnswer{Err: raftstore.ErrDiskLow})
	case 101:
		done(raftstore.SnapshotAnswer{Err: raftstore.ErrGroupNotFound})
	case 102:
		done(raftstore.SnapshotAnswer{Err: raftstore.ErrBadSnapshot})
	default:
		done(raftstore.SnapshotAnswer{Next: 7, Done: chunk.Last})
	}
}

// TestServerRefuses checks what a server says to strangers and to garbage.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	directories := func(id raftstore.NodeID) string { return map[raftstore.NodeID]string{1: "one", 2: "two"}[id] }
	oncelogv1.RegisterRaftServiceServer(server, rafttransport.NewServer(2, "test", make(collector, 8)).WithInstances(directories))
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := oncelogv1.NewRaftServiceClient(conn)

	for name, c := range map[string]struct {
		frame *oncelogv1.ExchangeRequest
		want  codes.Code
	}{
		"cluster":                     {&oncelogv1.ExchangeRequest{ClusterId: "other", FromNode: 1, ToNode: 2}, codes.FailedPrecondition},
		"node":                        {&oncelogv1.ExchangeRequest{ClusterId: "test", FromNode: 1, ToNode: 3}, codes.FailedPrecondition},
		"garbage":                     {&oncelogv1.ExchangeRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Messages: []*oncelogv1.RaftMessage{{GroupId: 1, Message: []byte{0xff}}}}, codes.InvalidArgument},
		"sender":                      {&oncelogv1.ExchangeRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Messages: []*oncelogv1.RaftMessage{{GroupId: 1}}}, codes.InvalidArgument},
		"fine":                        {&oncelogv1.ExchangeRequest{ClusterId: "test", FromNode: 1, ToNode: 2}, codes.OK},
		"meant for another directory": {&oncelogv1.ExchangeRequest{ClusterId: "test", FromNode: 1, ToNode: 2, ToInstance: "2"}, codes.FailedPrecondition},
		"from another directory":      {&oncelogv1.ExchangeRequest{ClusterId: "test", FromNode: 1, ToNode: 2, FromInstance: "1"}, codes.FailedPrecondition},
		"from an unknown directory":   {&oncelogv1.ExchangeRequest{ClusterId: "test", FromNode: 3, ToNode: 2, FromInstance: "x", ToInstance: "two"}, codes.OK},
	} {
		stream, err := client.Exchange(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(c.frame)
		if _, err := stream.CloseAndRecv(); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// type MsgSnap, to 2, from 1, snapshot {metadata {index 5}}
	snap := []byte{0x08, 7, 0x10, 2, 0x18, 1, 0x4a, 4, 0x12, 2, 0x10, 5}
	for name, c := range map[string]struct {
		part *oncelogv1.SendSnapshotRequest
		want codes.Code
	}{
		"cluster":       {&oncelogv1.SendSnapshotRequest{ClusterId: "other", FromNode: 1, ToNode: 2, Header: snap}, codes.FailedPrecondition},
		"node":          {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 3, Header: snap}, codes.FailedPrecondition},
		"sender":        {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 3, ToNode: 2, Header: snap}, codes.InvalidArgument},
		"directory":     {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Header: snap, ToInstance: "2"}, codes.FailedPrecondition},
		"no header":     {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2}, codes.InvalidArgument},
		"second header": {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Seq: 1, Header: snap}, codes.InvalidArgument},
		"not MsgSnap":   {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Header: snap[2:6]}, codes.InvalidArgument},
		"garbage":       {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Header: []byte{0xff}}, codes.InvalidArgument},
		"disk":          {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Seq: 100}, codes.ResourceExhausted},
		"group":         {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Seq: 101}, codes.Unavailable},
		"damaged":       {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Seq: 102}, codes.InvalidArgument},
		"fine":          {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Header: snap}, codes.OK},
		"the last":      {&oncelogv1.SendSnapshotRequest{ClusterId: "test", FromNode: 1, ToNode: 2, Seq: 6, Last: true}, codes.OK},
	} {
		resp, err := client.SendSnapshot(ctx, c.part)
		if status.Code(err) != c.want || err == nil && (resp.GetNext() != 7 || resp.GetDone() != c.part.GetLast()) {
			t.Errorf("snapshot %s: %v, %v, want %v", name, resp, err, c.want)
		}
	}
}

// BenchmarkProposeOverLoopback measures proposals over gRPC with logs in
// memory: the cost of the wire and of raft without a disk.
func BenchmarkProposeOverLoopback(b *testing.B) {
	c := newCluster(b, raftstore.GroupConfig{SnapshotEntries: 1 << 40})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g := c.leader(ctx).group
	data := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := g.Propose(ctx, data); err != nil {
			b.Fatal(err)
		}
	}
}
