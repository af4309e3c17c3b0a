package conformance

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// shardID is the shard that hosts every partition of a test.
	shardID   = 101
	clusterID = "conformance"
	// topic has the partition of index i under the id i+1.
	topic = "orders"
	// expiration is how long the shard keeps the sequences of silent producers.
	expiration = 10 * time.Minute
	// checkProducers is how often a leader asks which producers are gone.
	checkProducers = time.Minute
	// patience bounds every call and every wait; time is not the machine's.
	patience = time.Minute
)

// secret signs the tokens of the cluster.
var secret = token.Key{ID: 3, Secret: bytes.Repeat([]byte("s"), token.MinSecret)}

// cluster is running partition nodes in a bubble in which time passes only when
// everybody waits (testing/synctest), and a stand-in for the coordinator.
type cluster struct {
	t     *testing.T
	coord *coordinator
	net   *memtransport.Network
	nodes []*node
	keys  token.Keyring
}

// node is one partition node, and the connection to it.
type node struct {
	*partition.Node
	id    uint64
	disk  *memlog.Store
	files files
	log   oncelogv1.LogServiceClient
	shard oncelogv1.ShardServiceClient
	stop  func() // ends the node as its process would end; its disk stays
}

// inBubble runs a test with n nodes that host one shard of so many partitions.
func inBubble(t *testing.T, n, partitions int, test func(c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, coord: newCoordinator(n, partitions), net: memtransport.NewNetwork()}
		c.keys.Set([]token.Key{secret})
		for i := range n {
			c.nodes = append(c.nodes, &node{id: uint64(i + 1), disk: memlog.New(nil), files: files{}})
		}
		for _, m := range c.nodes {
			c.start(m)
		}
		t.Cleanup(func() {
			for _, m := range c.nodes {
				m.stop()
			}
		})
		c.leader()
		test(c)
	})
}

// scenario is a test that is named after those of Kafka's tests that it answers.
type scenario struct {
	name       string
	nodes      int // default 1
	partitions int // default 1
	test       func(c *cluster)
}

func play(t *testing.T, scenarios []scenario) {
	t.Helper()
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, max(s.nodes, 1), max(s.partitions, 1), s.test)
		})
	}
	t.Logf("figures: scenarios %d", len(scenarios))
}

// start starts a node on what its disk holds.
func (c *cluster) start(m *node) {
	c.t.Helper()
	var err error
	m.Node, err = partition.New(partition.Config{
		NodeID: m.id, ClientAddress: clientAddress(m.id), PeerAddress: fmt.Sprintf("peer-%d:1", m.id),
		Files: m.files, Coordinator: c.coord, CheckProducersInterval: checkProducers, SnapshotEntries: 32,
		Shard: pstate.Config{ProducerExpiration: expiration.Milliseconds()},
		OpenStore: func(string) (*raftstore.Store, error) {
			store, err := raftstore.Open(raftstore.Config{
				NodeID: raftstore.NodeID(m.id), Log: m.disk, Transport: c.net.Transport(raftstore.NodeID(m.id)),
				StallTimeout: -1,
			})
			if err == nil {
				c.net.Attach(raftstore.NodeID(m.id), store)
			}
			return store, err
		},
	})
	c.ok(err)
	c.ok(m.Start(c.t.Context()))
	c.serve(m)
}

// serve connects to a node's services over a pipe.
func (c *cluster) serve(m *node) {
	c.t.Helper()
	pipe := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(2 * partition.MaxRequestBytes))
	m.RegisterClient(server)
	m.RegisterPeer(server)
	go func() { _ = server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	c.ok(err)
	m.log, m.shard = oncelogv1.NewLogServiceClient(conn), oncelogv1.NewShardServiceClient(conn)
	m.stop = sync.OnceFunc(func() {
		if err := m.Close(context.Background()); err != nil {
			c.t.Errorf("close node %d: %v", m.id, err)
		}
		conn.Close()
		server.Stop()
		c.net.Attach(raftstore.NodeID(m.id), nil)
	})
}

func clientAddress(node uint64) string { return fmt.Sprintf("client-%d:1", node) }

// leader waits until a node leads the shard with every partition assigned.
func (c *cluster) leader() *node {
	c.t.Helper()
	var found *node
	c.until("a node leads", func() bool {
		for _, m := range c.nodes {
			if c.coord.leads(m.id) && c.describe(m, 1) != nil {
				found = m
			}
		}
		return found != nil
	})
	return found
}

// follower returns a node that does not lead.
func (c *cluster) follower() *node {
	c.t.Helper()
	leader := c.leader()
	for _, m := range c.nodes {
		if m != leader {
			return m
		}
	}
	c.t.Fatal("a single node has no follower")
	return nil
}

// ctx returns a context for one call.
func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

// ok ends the test unless err is nil.
func (c *cluster) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(refusal(err), err)
	}
}

// equal compares and goes on.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// pass lets time pass; what happens until then has happened when it returns.
func (c *cluster) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until lets time pass until cond holds.
func (c *cluster) until(what string, cond func() bool) {
	c.t.Helper()
	for start := time.Now(); !cond(); c.pass(100 * time.Millisecond) {
		if time.Since(start) > patience {
			c.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// files is a node's small files.
type files map[string][]byte

// Read implements partition.Files.
func (f files) Read(name string) ([]byte, bool, error) {
	data, ok := f[name]
	return bytes.Clone(data), ok, nil
}

// Write implements partition.Files.
func (f files) Write(name string, data []byte) error {
	f[name] = bytes.Clone(data)
	return nil
}
