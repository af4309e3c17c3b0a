package client

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// fate is what a test does to one request.
type fate struct {
	refuse  *apierrors.Error  // answered instead of being handled
	lose    bool              // the connection breaks before it is handled
	swallow bool              // it is handled, and the connection breaks
	twice   bool              // the answer comes twice
	hold    <-chan struct{}   // handled once this is closed
	respond *v1.FetchResponse // of a Fetch: sent before anything else
}

// fake is a cluster in memory that keeps the rules of the protocol as a client
// sees them, and does to requests what a test says. Every node serves everything.
type fake struct {
	t testing.TB

	mu        sync.Mutex
	nodes     map[string]*fakeNode
	leader    string // coordinator
	term      uint64
	version   uint64
	topics    map[string]*fakeTopic
	nextID    uint64
	producers map[string]*fakeProducer // by transactional id
	inits     map[string]*v1.InitProducerResponse
	txns      map[refKey]*fakeTxn
	owners    map[string]string // group/partition -> member
	offsets   map[string]uint64 // group/partition -> committed
	movers    map[string]string // group/partition -> member that committed it without a transaction
	change    chan struct{}     // closed by every change of a log

	appends []seenAppend
	ends    []*v1.EndTransactionRequest
	calls   map[string]int

	// The hooks are called one at a time.
	hooks    sync.Mutex
	onAppend func(node string, r *v1.AppendRequest) fate
	onEnd    func(node string, r *v1.EndTransactionRequest) fate
	onInit   func(node string, r *v1.InitProducerRequest) fate
	onMeta   func(node string, r *v1.GetMetadataRequest) fate
	onCommit func(node string, r *v1.CommitOffsetsRequest) fate
	onFetch  func(node string, r *v1.FetchRequest) fate
	onAbort  func(node string, r *v1.AbortTransactionRequest) fate
	prepared fakePrepared
}

type refKey struct {
	producer uint64
	epoch    uint32
	number   uint64
}

func keyOf(r *v1.TxnRef) refKey { return refKey{r.GetProducerId(), r.GetEpoch(), r.GetTxnNumber()} }

// seenAppend is one batch as it arrived at a node.
type seenAppend struct {
	node      string
	ref       refKey
	partition string
	base      uint64
	bytes     []byte
}

type fakeProducer struct {
	id    uint64
	epoch uint32
	last  *v1.PreviousTransaction
}

type fakeTxn struct {
	outcome v1.TransactionOutcome
	reason  v1.AbortReason
}

type fakeTopic struct {
	name  string
	id    uint64
	parts []*fakePartition
}

type fakePartition struct {
	topic  string
	index  uint32
	id     uint64
	shard  uint64
	leader string
	term   uint64
	start  uint64
	end    uint64
	log    []fakeBatch
	next   map[refKey]uint64
}

type fakeBatch struct {
	base, count uint64
	seq         uint64
	ref         refKey
	raw         []byte
}

type fakeNode struct {
	v1.UnimplementedCatalogServiceServer
	v1.UnimplementedTransactionServiceServer
	v1.UnimplementedGroupServiceServer
	v1.UnimplementedLogServiceServer
	f       *fake
	address string
	id      uint64
	lis     *bufconn.Listener
	server  *grpc.Server
}

// newFake starts a cluster of nodes n1, n2 and n3; n1 leads.
func newFake(t testing.TB) *fake {
	f := &fake{
		t: t, nodes: make(map[string]*fakeNode), leader: "n1", term: 1, version: 1, nextID: 100,
		topics: make(map[string]*fakeTopic), producers: make(map[string]*fakeProducer),
		inits: make(map[string]*v1.InitProducerResponse), txns: make(map[refKey]*fakeTxn),
		owners: make(map[string]string), offsets: make(map[string]uint64), movers: make(map[string]string),
		change: make(chan struct{}), calls: make(map[string]int),
	}
	for i := range 3 {
		f.startNode(fmt.Sprintf("n%d", i+1), uint64(i+1))
	}
	t.Cleanup(f.stop)
	return f
}

func (f *fake) startNode(address string, id uint64) {
	n := &fakeNode{f: f, address: address, id: id, lis: bufconn.Listen(1 << 20), server: grpc.NewServer(grpc.MaxRecvMsgSize(17 << 20))}
	v1.RegisterCatalogServiceServer(n.server, n)
	v1.RegisterTransactionServiceServer(n.server, n)
	v1.RegisterGroupServiceServer(n.server, n)
	v1.RegisterLogServiceServer(n.server, n)
	f.mu.Lock()
	f.nodes[address] = n
	f.mu.Unlock()
	go func() { _ = n.server.Serve(n.lis) }()
}

// kill stops a node; its address refuses connections.
func (f *fake) kill(address string) {
	f.mu.Lock()
	n := f.nodes[address]
	delete(f.nodes, address)
	f.mu.Unlock()
	n.server.Stop()
}

func (f *fake) stop() {
	f.mu.Lock()
	nodes := make([]*fakeNode, 0, len(f.nodes))
	for _, n := range f.nodes {
		nodes = append(nodes, n)
	}
	f.mu.Unlock()
	for _, n := range nodes {
		n.server.Stop()
	}
}

func (f *fake) dialer(ctx context.Context, address string) (net.Conn, error) {
	f.mu.Lock()
	n := f.nodes[address]
	f.mu.Unlock()
	if n == nil {
		return nil, fmt.Errorf("connection to %s refused", address)
	}
	return n.lis.DialContext(ctx)
}

// dial connects a client that is closed at the end of the test.
func (f *fake) dial(opts ...Option) *Client {
	f.t.Helper()
	opts = append([]Option{WithDialOptions(grpc.WithContextDialer(f.dialer))}, opts...)
	c, err := Dial(context.Background(), []string{"n1", "n2", "n3"}, opts...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return c
}

// topic creates a topic whose partitions are led by the nodes in turn; one shard
// per partition.
func (f *fake) topic(name string, partitions int) *fakeTopic {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextID++
	f.version++
	t := &fakeTopic{name: name, id: f.nextID}
	for i := range partitions {
		f.nextID++
		t.parts = append(t.parts, &fakePartition{
			topic: name, index: uint32(i), id: f.nextID, shard: f.nextID + 1000,
			leader: fmt.Sprintf("n%d", i%3+1), term: 1, next: make(map[refKey]uint64),
		})
	}
	f.topics[name] = t
	return t
}

// lead moves the leadership of a partition.
func (f *fake) lead(p *fakePartition, node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.leader = node
	p.term++
	f.changed()
}

// leadCoordinator moves the leadership of the coordinator.
func (f *fake) leadCoordinator(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader = node
	f.term++
}

func (f *fake) changed() {
	close(f.change)
	f.change = make(chan struct{})
}

func notLeader(address string, term uint64) *apierrors.Error {
	return apierrors.New(v1.ErrorCode_ERROR_CODE_NOT_LEADER, "",
		apierrors.KeyLeaderAddress, address, apierrors.KeyTerm, strconv.FormatUint(term, 10))
}

// ask asks a hook for the fate of a request.
func ask[R any](n *fakeNode, hook func(node string, r R) fate, r R) fate {
	if hook == nil {
		return fate{}
	}
	n.f.hooks.Lock()
	defer n.f.hooks.Unlock()
	return hook(n.address, r)
}

// unary applies a fate to a call that f.mu is not held for.
func unary[T any](ctx context.Context, ft fate, handle func() (T, error)) (T, error) {
	var none T
	if ft.hold != nil {
		select {
		case <-ft.hold:
		case <-ctx.Done():
			return none, status.FromContextError(ctx.Err()).Err()
		}
	}
	switch {
	case ft.refuse != nil:
		return none, ft.refuse
	case ft.lose:
		return none, status.Error(codes.Unavailable, "connection lost")
	}
	resp, err := handle()
	if ft.swallow {
		return none, status.Error(codes.Unavailable, "connection lost after the request was handled")
	}
	return resp, err
}

func (n *fakeNode) count(call string) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.f.calls[call]++
}

// leads refuses coordinator calls elsewhere than at the leader. f.mu is held.
func (n *fakeNode) leads() error {
	if n.f.leader != n.address {
		return notLeader(n.f.leader, n.f.term)
	}
	return nil
}

func (n *fakeNode) GetMetadata(ctx context.Context, r *v1.GetMetadataRequest) (*v1.GetMetadataResponse, error) {
	n.count("GetMetadata")
	ft := ask(n, n.f.onMeta, r)
	return unary(ctx, ft, func() (*v1.GetMetadataResponse, error) {
		f := n.f
		f.mu.Lock()
		defer f.mu.Unlock()
		resp := &v1.GetMetadataResponse{ClusterId: "test", Version: f.version}
		for i := range 3 {
			node := &v1.Node{NodeId: uint64(i + 1), ClientAddress: fmt.Sprintf("n%d", i+1)}
			resp.Nodes = append(resp.Nodes, node)
			resp.Coordinators = append(resp.Coordinators, node)
			if node.ClientAddress == f.leader {
				resp.CoordinatorLeader = node.NodeId
			}
		}
		for _, name := range r.GetTopics() {
			t := f.topics[name]
			if t == nil {
				resp.UnknownTopics = append(resp.UnknownTopics, name)
				continue
			}
			out := &v1.Topic{Name: name, TopicId: t.id, PartitionCount: uint32(len(t.parts))}
			for _, p := range t.parts {
				out.Partitions = append(out.Partitions, &v1.Partition{Partition: p.index, PartitionId: p.id, ShardId: p.shard})
				leader, _ := strconv.ParseUint(p.leader[1:], 10, 64)
				resp.Shards = append(resp.Shards, &v1.Shard{ShardId: p.shard, Replicas: []uint64{1, 2, 3}, Leader: leader, Term: p.term})
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	})
}

func (n *fakeNode) InitProducer(ctx context.Context, r *v1.InitProducerRequest) (*v1.InitProducerResponse, error) {
	n.count("InitProducer")
	ft := ask(n, n.f.onInit, r)
	return unary(ctx, ft, func() (*v1.InitProducerResponse, error) {
		f := n.f
		f.mu.Lock()
		defer f.mu.Unlock()
		if err := n.leads(); err != nil {
			return nil, err
		}
		if resp := f.inits[r.GetRequestId()]; resp != nil {
			return resp, nil
		}
		p := f.producers[r.GetTransactionalId()]
		if p == nil || r.GetTransactionalId() == "" {
			f.nextID++
			p = &fakeProducer{id: f.nextID}
			f.producers[r.GetTransactionalId()] = p
		} else {
			p.epoch++
			for k, t := range f.txns {
				if k.producer == p.id && t.outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN {
					f.end(k, false, v1.AbortReason_ABORT_REASON_FENCED)
				}
			}
		}
		resp := &v1.InitProducerResponse{ProducerId: p.id, Epoch: p.epoch, ProducerToken: []byte("token"), Previous: p.last}
		f.inits[r.GetRequestId()] = resp
		return resp, nil
	})
}

// end decides a transaction. f.mu is held.
func (f *fake) end(k refKey, commit bool, reason v1.AbortReason) {
	t := &fakeTxn{outcome: v1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED, reason: reason}
	if commit {
		t = &fakeTxn{outcome: v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED}
	}
	f.txns[k] = t
	for _, p := range f.producers {
		if p.id == k.producer {
			p.last = &v1.PreviousTransaction{
				Txn:     &v1.TxnRef{ProducerId: k.producer, Epoch: k.epoch, TxnNumber: k.number},
				Outcome: t.outcome, Reason: t.reason,
			}
		}
	}
	f.changed()
}

func conflict(t *fakeTxn) *apierrors.Error {
	outcome, reason := "ABORTED", t.reason.String()[len("ABORT_REASON_"):]
	if t.outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED {
		outcome, reason = "COMMITTED", ""
	}
	return apierrors.New(v1.ErrorCode_ERROR_CODE_CONFLICT, "", apierrors.KeyOutcome, outcome, apierrors.KeyReason, reason)
}

func (n *fakeNode) EndTransaction(ctx context.Context, r *v1.EndTransactionRequest) (*v1.EndTransactionResponse, error) {
	n.count("EndTransaction")
	n.f.mu.Lock()
	n.f.ends = append(n.f.ends, r)
	n.f.mu.Unlock()
	ft := ask(n, n.f.onEnd, r)
	return unary(ctx, ft, func() (*v1.EndTransactionResponse, error) {
		f := n.f
		f.mu.Lock()
		defer f.mu.Unlock()
		if err := n.leads(); err != nil {
			return nil, err
		}
		return f.endTransaction(r)
	})
}

func (f *fake) endTransaction(r *v1.EndTransactionRequest) (*v1.EndTransactionResponse, error) {
	k := keyOf(r.GetTxn())
	asked := v1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	if r.GetCommit() {
		asked = v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	}
	if t := f.txns[k]; t != nil && t.outcome != v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN {
		if t.outcome != asked {
			return nil, conflict(t)
		}
		return &v1.EndTransactionResponse{Outcome: t.outcome, Reason: t.reason}, nil
	}
	for _, p := range f.producers {
		if p.id == k.producer && p.epoch > k.epoch {
			return nil, apierrors.New(v1.ErrorCode_ERROR_CODE_FENCED, "")
		}
	}
	if r.GetCommit() {
		if err := f.covered(k, r.GetPartitions()); err != nil {
			return nil, err
		}
		for _, g := range r.GetOffsets() {
			if err := f.mayMove(g); err != nil {
				return nil, err
			}
		}
		for _, g := range r.GetOffsets() {
			f.move(g, "")
		}
	}
	f.end(k, r.GetCommit(), v1.AbortReason_ABORT_REASON_CLIENT)
	return &v1.EndTransactionResponse{Outcome: asked}, nil
}

// covered checks that a commit states exactly what is stored.
func (f *fake) covered(k refKey, progress []*v1.PartitionProgress) error {
	stated := make(map[uint64]uint64)
	for _, p := range progress {
		stated[p.GetPartition().GetPartitionId()] = p.GetNextSequence()
	}
	for _, t := range f.topics {
		for _, p := range t.parts {
			if p.next[k] != stated[p.id] {
				return apierrors.New(v1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS,
					fmt.Sprintf("%s/%d holds %d, commit says %d", p.topic, p.index, p.next[k], stated[p.id]))
			}
		}
	}
	return nil
}

func (n *fakeNode) GetOutcome(_ context.Context, r *v1.GetOutcomeRequest) (*v1.GetOutcomeResponse, error) {
	n.count("GetOutcome")
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := n.leads(); err != nil {
		return nil, err
	}
	if t := f.txns[keyOf(r.GetTxn())]; t != nil {
		return &v1.GetOutcomeResponse{Outcome: t.outcome, Reason: t.reason}, nil
	}
	return &v1.GetOutcomeResponse{Outcome: v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN}, nil
}

func (n *fakeNode) DescribeTransaction(context.Context, *v1.DescribeTransactionRequest) (*v1.DescribeTransactionResponse, error) {
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &v1.DescribeTransactionResponse{Prepared: f.prepared.describe()}
	for k, t := range f.txns {
		if t.outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN {
			resp.Open = &v1.OpenTransaction{Txn: &v1.TxnRef{ProducerId: k.producer, Epoch: k.epoch, TxnNumber: k.number}}
		}
	}
	return resp, nil
}

// AbortTransaction aborts what is named, else what is open; of one producer.
func (n *fakeNode) AbortTransaction(ctx context.Context, r *v1.AbortTransactionRequest) (*v1.AbortTransactionResponse, error) {
	ft := ask(n, n.f.onAbort, r)
	return unary(ctx, ft, func() (*v1.AbortTransactionResponse, error) {
		ref := r.GetTxn()
		if done, err := n.f.abortPrepared(r); done || err != nil {
			return &v1.AbortTransactionResponse{Txn: ref}, err
		}
		if ref == nil {
			d, _ := n.DescribeTransaction(ctx, nil)
			ref = d.GetOpen().GetTxn()
		}
		if ref != nil {
			n.f.mu.Lock()
			defer n.f.mu.Unlock()
			n.f.end(keyOf(ref), false, v1.AbortReason_ABORT_REASON_ADMIN)
		}
		return &v1.AbortTransactionResponse{Txn: ref}, nil
	})
}

func groupKey(group string, r *v1.PartitionRef) string {
	return fmt.Sprintf("%s/%s/%d", group, r.GetTopic(), r.GetPartition())
}

func (n *fakeNode) AssignPartitions(_ context.Context, r *v1.AssignPartitionsRequest) (*v1.AssignPartitionsResponse, error) {
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := n.leads(); err != nil {
		return nil, err
	}
	resp := &v1.AssignPartitionsResponse{Generation: 1}
	for _, p := range r.GetPartitions() {
		k := groupKey(r.GetGroupId(), p)
		f.owners[k] = r.GetMemberId()
		c := &v1.CommittedOffset{Partition: p}
		if o, ok := f.offsets[k]; ok {
			c.Offset = &o
		}
		resp.Offsets = append(resp.Offsets, c)
	}
	return resp, nil
}

func (n *fakeNode) LeaveGroup(context.Context, *v1.LeaveGroupRequest) (*v1.LeaveGroupResponse, error) {
	n.count("LeaveGroup")
	return &v1.LeaveGroupResponse{}, nil
}

func (f *fake) mayMove(g *v1.GroupOffsets) error {
	for _, o := range g.GetOffsets() {
		k := groupKey(g.GetGroupId(), o.GetPartition())
		current, ok := f.offsets[k]
		if f.owners[k] != g.GetMemberId() || ok != (o.ExpectedOffset != nil) || current != o.GetExpectedOffset() {
			return apierrors.New(v1.ErrorCode_ERROR_CODE_STALE_MEMBER,
				fmt.Sprintf("%s is at %d of %q, %q expects %d", k, current, f.owners[k], g.GetMemberId(), o.GetExpectedOffset()))
		}
	}
	return nil
}

func (f *fake) move(g *v1.GroupOffsets, mover string) {
	for _, o := range g.GetOffsets() {
		k := groupKey(g.GetGroupId(), o.GetPartition())
		f.offsets[k], f.movers[k] = o.GetOffset(), mover
	}
}

// repeats reports whether this very member has done the same before.
func (f *fake) repeats(g *v1.GroupOffsets) bool {
	for _, o := range g.GetOffsets() {
		k := groupKey(g.GetGroupId(), o.GetPartition())
		if f.movers[k] != g.GetMemberId() || f.offsets[k] != o.GetOffset() {
			return false
		}
	}
	return true
}

func (n *fakeNode) CommitOffsets(ctx context.Context, r *v1.CommitOffsetsRequest) (*v1.CommitOffsetsResponse, error) {
	ft := ask(n, n.f.onCommit, r)
	return unary(ctx, ft, func() (*v1.CommitOffsetsResponse, error) {
		f := n.f
		f.mu.Lock()
		defer f.mu.Unlock()
		if err := n.leads(); err != nil {
			return nil, err
		}
		if f.repeats(r.GetOffsets()) {
			return &v1.CommitOffsetsResponse{}, nil
		}
		if err := f.mayMove(r.GetOffsets()); err != nil {
			return nil, err
		}
		f.move(r.GetOffsets(), r.GetOffsets().GetMemberId())
		return &v1.CommitOffsetsResponse{}, nil
	})
}

func (n *fakeNode) FetchOffsets(_ context.Context, r *v1.FetchOffsetsRequest) (*v1.FetchOffsetsResponse, error) {
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := n.leads(); err != nil {
		return nil, err
	}
	resp := &v1.FetchOffsetsResponse{}
	for _, p := range r.GetPartitions() {
		c := &v1.CommittedOffset{Partition: p}
		if o, ok := f.offsets[groupKey(r.GetGroupId(), p)]; ok {
			c.Offset = &o
		}
		resp.Offsets = append(resp.Offsets, c)
	}
	return resp, nil
}

// committed returns the values that read_committed sees in a partition.
func (f *fake) committed(p *fakePartition) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, b := range p.log {
		if b.ref.number > 0 && f.txns[b.ref].outcome != v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED {
			continue
		}
		records, err := batch.Decode(b.raw, batch.Limits{})
		if err != nil {
			f.t.Error(err)
		}
		for _, r := range records {
			out = append(out, string(r.Value))
		}
	}
	return out
}

func (f *fake) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

func (f *fake) seen() []seenAppend {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.appends)
}

func (f *fake) ended() []*v1.EndTransactionRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ends)
}

// within returns a context for calls that must not take long.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
