package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

// The tests run real coordinators on real Raft groups, in a bubble in which
// time passes only when everybody waits (testing/synctest). What a test waits
// for has therefore happened when settle returns, and a wait of an hour takes
// no time.

// cluster is the coordinators of one test and the partition nodes they know.
type cluster struct {
	t      *testing.T
	net    *memtransport.Network
	nodes  []*member // member i has node id i+1
	shards *shardServers
	change func(*Config)
}

// member is one coordinator node.
type member struct {
	id     uint64
	log    *disk
	store  *raftstore.Store
	c      *Coordinator
	client inProcess // the services of the client address
	peer   inProcess // those of the peer address
}

// disk is a log in memory whose device can be full.
type disk struct {
	*memlog.Store
	full atomic.Bool
}

// FreeBytes implements raftstore.LogStore.
func (d *disk) FreeBytes() (uint64, error) {
	if d.full.Load() {
		return 0, nil
	}
	return d.Store.FreeBytes()
}

// inBubble runs a test with a cluster of n coordinators.
func inBubble(t *testing.T, n int, change func(*Config), test func(t *testing.T, c *cluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, net: memtransport.NewNetwork(), shards: &shardServers{}, change: change}
		for i := range n {
			m := &member{id: uint64(i + 1), log: &disk{Store: memlog.New(nil)}}
			c.nodes = append(c.nodes, m)
		}
		for _, m := range c.nodes {
			c.start(m)
		}
		t.Cleanup(func() {
			for _, m := range c.nodes {
				c.stop(m)
			}
		})
		test(t, c)
	})
}

// run is inBubble with one coordinator and nothing special.
func run(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Helper()
	inBubble(t, 1, nil, test)
}

func clientAddress(id uint64) string { return fmt.Sprintf("client-%d:1", id) }

func peerAddress(id uint64) string { return fmt.Sprintf("peer-%d:1", id) }

func (c *cluster) start(m *member) {
	c.t.Helper()
	var err error
	m.store, err = raftstore.Open(raftstore.Config{
		NodeID: raftstore.NodeID(m.id), Log: m.log, Transport: c.net.Transport(raftstore.NodeID(m.id)), StallTimeout: -1,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	// The nodes of these tests are made by hand, and say nothing of levels.
	cfg := Config{NodeID: m.id, Store: m.store, DialPeer: c.shards.dial, Txn: Rules(), Version: "test", MaxFormatLevel: level.First}
	for _, other := range c.nodes {
		cfg.Members = append(cfg.Members, Member{ID: other.id, ClientAddress: clientAddress(other.id), PeerAddress: peerAddress(other.id)})
	}
	if c.change != nil {
		c.change(&cfg)
	}
	if m.c, err = New(cfg); err != nil {
		c.t.Fatal(err)
	}
	c.net.Attach(raftstore.NodeID(m.id), m.store)
	m.client, m.peer = inProcess{}, inProcess{}
	m.c.RegisterClient(m.client)
	m.c.RegisterPeer(m.peer)
}

// stop closes a member as its process would; its log stays.
func (c *cluster) stop(m *member) {
	if m.c == nil {
		return
	}
	c.net.Attach(raftstore.NodeID(m.id), nil)
	m.c.Close()
	if err := m.store.Close(context.Background()); err != nil {
		c.t.Error(err)
	}
	m.c = nil
}

// settle lets everything happen that happens without time passing.
func settle() { synctest.Wait() }

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until lets time go by, up to a minute, until cond holds.
func (c *cluster) until(what string, cond func() bool) {
	c.t.Helper()
	for range 6000 {
		settle()
		if cond() {
			return
		}
		pass(10 * time.Millisecond)
	}
	c.t.Fatalf("did not happen within a minute: %s", what)
}

// leader returns the member that leads and has a key to sign with.
func (c *cluster) leader() *member {
	c.t.Helper()
	var leader *member
	c.until("somebody leads", func() bool {
		for _, m := range c.nodes {
			if m.c != nil && m.c.opened.Load() && m.c.group.Status().Ready && m.c.keys.Ready() && (leader == nil || leader.term() < m.term()) {
				leader = m
			}
		}
		return leader != nil
	})
	return leader
}

func (m *member) term() uint64 { return m.c.group.Status().Term }

// follower returns a member that does not lead.
func (c *cluster) follower() *member {
	c.t.Helper()
	leader := c.leader()
	for _, m := range c.nodes {
		if m != leader && m.c != nil && m.c.opened.Load() {
			c.until("the follower knows the leader", func() bool { return uint64(m.c.group.Status().Leader) == leader.id })
			return m
		}
	}
	c.t.Fatal("no follower")
	return nil
}

// moveLeader hands leadership to another member and returns it.
func (c *cluster) moveLeader() *member {
	c.t.Helper()
	old, next := c.leader(), c.follower()
	if err := old.c.group.TransferLeader(c.ctx(), raftstore.NodeID(next.id)); err != nil {
		c.t.Fatal(err)
	}
	c.until("the new leader serves", func() bool { return next.c.group.Status().Ready })
	return next
}

// ctx returns a context of a patient caller.
func (c *cluster) ctx() context.Context { return c.ctxFor(30 * time.Second) }

func (c *cluster) ctxFor(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), d)
	c.t.Cleanup(cancel)
	return ctx
}

func (m *member) txns() oncelogv1.TransactionServiceClient {
	return oncelogv1.NewTransactionServiceClient(m.client)
}

func (m *member) groups() oncelogv1.GroupServiceClient {
	return oncelogv1.NewGroupServiceClient(m.client)
}

func (m *member) catalog() oncelogv1.CatalogServiceClient {
	return oncelogv1.NewCatalogServiceClient(m.client)
}

func (m *member) acls() oncelogv1.AclServiceClient {
	return oncelogv1.NewAclServiceClient(m.client)
}

func (m *member) cluster() oncelogv1.NodeServiceClient {
	return oncelogv1.NewNodeServiceClient(m.peer)
}

// snapshot returns the bytes of a member's state.
func (m *member) snapshot(t *testing.T) []byte {
	t.Helper()
	b, err := m.c.state.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// check verifies the invariants of all cores.
func (m *member) check(t *testing.T) {
	t.Helper()
	if err := checkReplica(m.c.state); err != nil {
		t.Fatal(err)
	}
}

// checkReplica verifies the invariants of the cores.
func checkReplica(r *replica) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return errors.Join(r.txns.Check(), r.groups.Check(), r.catalog.Check(), r.members.Check())
}

// inProcess carries calls to registered services without a network, in encoded
// form: what does not survive the wire does not survive it.
type inProcess map[string]method

type method struct {
	desc grpc.MethodDesc
	impl any
}

// RegisterService implements grpc.ServiceRegistrar.
func (p inProcess) RegisterService(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Methods {
		p["/"+desc.ServiceName+"/"+m.MethodName] = method{m, impl}
	}
}

// Invoke implements grpc.ClientConnInterface.
func (p inProcess) Invoke(ctx context.Context, name string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := p[name]
	if !ok {
		return fmt.Errorf("no method %s", name)
	}
	res, err := m.desc.Handler(m.impl, ctx, func(into any) error { return recode(args, into) }, nil)
	if err != nil {
		wire := status.Convert(err).Proto()
		return status.ErrorProto(proto.CloneOf(wire))
	}
	return recode(res, reply)
}

// NewStream implements grpc.ClientConnInterface.
func (p inProcess) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

func recode(from, into any) error {
	b, err := proto.Marshal(from.(proto.Message))
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, into.(proto.Message))
}

// wantCode fails the test unless err has the code, and returns its metadata.
func wantCode(t *testing.T, err error, code string) map[string]string {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Fatalf("failed: %v", err)
		}
		return nil
	}
	if got := apierrors.Name(apierrors.CodeOf(err)); got != code {
		t.Fatalf("code %s (%v), want %s", got, err, code)
	}
	return apierrors.From(err).Metadata
}

// must returns the response of a call that has to succeed.
func must[R any](res R, err error) R {
	if err != nil {
		panic(err)
	}
	return res
}

// wantEqual compares two values by how they print.
func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s: got %s, want %s", what, g, w)
	}
}

// codeName is the name of the code of an error.
func codeName(err error) string { return apierrors.Name(apierrors.CodeOf(err)) }
