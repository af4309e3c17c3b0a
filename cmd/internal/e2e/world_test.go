package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// patience bounds everything that should happen at once. It is long because the
// machine may be busy, and because it is only reached when something is broken.
const patience = 60 * time.Second

// world is a cluster with what tests need to look at it from outside.
type world struct {
	*cluster.Cluster

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
	led   map[cluster.Role]*cluster.Node // who answered a plain call last
}

func newWorld(c *cluster.Cluster) *world {
	return &world{Cluster: c, conns: map[string]*grpc.ClientConn{}, led: map[cluster.Role]*cluster.Node{}}
}

func (w *world) close() {
	w.mu.Lock()
	for _, cc := range w.conns {
		_ = cc.Close()
	}
	w.mu.Unlock()
	w.Stop(context.Background())
}

// conn returns a plain connection to an address.
func (w *world) conn(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if cc := w.conns[address]; cc != nil {
		return cc
	}
	cc, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	w.conns[address] = cc
	return cc
}

// withPatience returns a context that ends with the test, or when something is
// broken.
func withPatience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually repeats check until it returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	if err := await(withPatience(t), check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// await is eventually for goroutines other than the test's.
func await(ctx context.Context, check func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within the test's patience: %w", err)
		}
	}
}

// client dials the cluster.
func (w *world) client(t *testing.T, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.Dial(withPatience(t), w.Servers(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var names atomic.Uint64

// unique returns a name that no other test uses, nor the same test in its next
// run.
func unique(t *testing.T, suffix string) string {
	t.Helper()
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '-'
		}
	}, strings.TrimPrefix(t.Name(), "Test"))
	return fmt.Sprintf("%s.%s.%d", clean, suffix, names.Add(1))
}

// topic creates a topic that serves when it returns.
func (w *world) topic(t *testing.T, suffix string, partitions uint32) string {
	t.Helper()
	name := unique(t, suffix)
	w.createTopic(t, name, partitions)
	return name
}

func (w *world) createTopic(t *testing.T, name string, partitions uint32) *oncelogv1.Topic {
	t.Helper()
	var res *oncelogv1.CreateTopicResponse
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		res, err = oncelogv1.NewCatalogServiceClient(cc).CreateTopic(ctx,
			&oncelogv1.CreateTopicRequest{Name: name, Partitions: partitions})
		return err
	})
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
	if !res.GetReady() {
		t.Fatalf("topic %s is not served", name)
	}
	return res.GetTopic()
}

// away reports whether another node, or the same a little later, has to be
// asked.
func away(err error) bool {
	switch apierrors.CodeOf(err) {
	case oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED:
		return true
	default:
		return false
	}
}

// onCoordinator makes a plain call to the coordinator that leads.
func (w *world) onCoordinator(t *testing.T, ctx context.Context, call func(context.Context, *grpc.ClientConn) error) error {
	t.Helper()
	return w.onOneOf(t, ctx, cluster.Coordinator, away, call)
}

// onShard makes a plain call to the partition node that leads a partition.
func (w *world) onShard(t *testing.T, ctx context.Context, call func(context.Context, oncelogv1.LogServiceClient) error) error {
	t.Helper()
	elsewhere := func(err error) bool {
		return away(err) || apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION
	}
	return w.onOneOf(t, ctx, cluster.Partition, elsewhere, func(ctx context.Context, cc *grpc.ClientConn) error {
		return call(ctx, oncelogv1.NewLogServiceClient(cc))
	})
}

func (w *world) onOneOf(t *testing.T, ctx context.Context, role cluster.Role, elsewhere func(error) bool,
	call func(context.Context, *grpc.ClientConn) error) error {
	t.Helper()
	var final error
	err := await(ctx, func() error {
		last := errors.New("no node runs")
		for _, n := range w.candidates(role) {
			if final = call(ctx, w.conn(t, n.Client)); final == nil || !elsewhere(final) {
				w.mu.Lock()
				w.led[role] = n
				w.mu.Unlock()
				return nil
			}
			last = final
		}
		return last
	})
	if err != nil {
		return err
	}
	return final
}

// candidates returns the nodes of a role that run, beginning with the one that
// answered last.
func (w *world) candidates(role cluster.Role) []*cluster.Node {
	w.mu.Lock()
	first := w.led[role]
	w.mu.Unlock()
	var nodes []*cluster.Node
	for _, n := range w.Nodes() {
		switch {
		case n.Role != role || !n.Running():
		case n == first:
			nodes = slices.Insert(nodes, 0, n)
		default:
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// partition names one partition.
func partition(topic string, index int) *oncelogv1.PartitionRef {
	return &oncelogv1.PartitionRef{Topic: topic, Partition: uint32(index)}
}

// partitions returns how many partitions a topic has.
func (w *world) partitions(t *testing.T, topic string) int {
	t.Helper()
	return len(w.metadata(t, topic).GetTopics()[0].GetPartitions())
}

func (w *world) metadata(t *testing.T, topic string) *oncelogv1.GetMetadataResponse {
	t.Helper()
	var res *oncelogv1.GetMetadataResponse
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		res, err = oncelogv1.NewCatalogServiceClient(cc).GetMetadata(ctx, &oncelogv1.GetMetadataRequest{Topics: []string{topic}})
		if err == nil && len(res.GetTopics()) == 0 {
			err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "this coordinator has not heard of the topic yet")
		}
		return err
	})
	if err != nil {
		t.Fatalf("metadata of %s: %v", topic, err)
	}
	return res
}

// visible returns what a plain Fetch shows of a topic now, without the SDK, in
// the order of partition and offset.
func (w *world) visible(t *testing.T, topic string, isolation oncelogv1.IsolationLevel) []*oncelogv1.FetchedRecord {
	t.Helper()
	var all []*oncelogv1.FetchedRecord
	for i := range w.partitions(t, topic) {
		var records []*oncelogv1.FetchedRecord
		err := w.onShard(t, withPatience(t), func(ctx context.Context, log oncelogv1.LogServiceClient) (err error) {
			records, err = fetch(ctx, log, &oncelogv1.FetchRequest{
				Partition: partition(topic, i), Start: oncelogv1.StartPosition_START_POSITION_EARLIEST, Isolation: isolation,
			})
			return err
		})
		if err != nil {
			t.Fatalf("fetch %s/%d: %v", topic, i, err)
		}
		all = append(all, records...)
	}
	return all
}

// fetch reads one stream to its end.
func fetch(ctx context.Context, log oncelogv1.LogServiceClient, req *oncelogv1.FetchRequest) ([]*oncelogv1.FetchedRecord, error) {
	stream, err := log.Fetch(ctx, req)
	if err != nil {
		return nil, err
	}
	var records []*oncelogv1.FetchedRecord
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		records = append(records, res.GetRecords()...)
	}
}

// status returns the standing of one partition.
func (w *world) status(t *testing.T, topic string, index int) *oncelogv1.PartitionStatus {
	t.Helper()
	var res *oncelogv1.DescribePartitionsResponse
	err := w.onShard(t, withPatience(t), func(ctx context.Context, log oncelogv1.LogServiceClient) (err error) {
		res, err = log.DescribePartitions(ctx, &oncelogv1.DescribePartitionsRequest{Partitions: []*oncelogv1.PartitionRef{partition(topic, index)}})
		return err
	})
	if err != nil {
		t.Fatalf("describe %s/%d: %v", topic, index, err)
	}
	return res.GetPartitions()[0]
}

// describe returns what the coordinator keeps about a transactional id.
func (w *world) describe(t *testing.T, id string) *oncelogv1.DescribeTransactionResponse {
	t.Helper()
	var res *oncelogv1.DescribeTransactionResponse
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		res, err = oncelogv1.NewTransactionServiceClient(cc).DescribeTransaction(ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: id})
		return err
	})
	if err != nil {
		t.Fatalf("describe %s: %v", id, err)
	}
	return res
}

// awaitOpen waits until the coordinator has heard of an open transaction.
func (w *world) awaitOpen(t *testing.T, id client.TxID) {
	t.Helper()
	eventually(t, "the shards enlist "+id.String(), func() error {
		if n := w.describe(t, id.TransactionalID).GetOpen().GetTxn().GetTxnNumber(); n != id.Number {
			return fmt.Errorf("open is number %d", n)
		}
		return nil
	})
}

// awaitOutcome waits until a transaction has an outcome that is applied on all
// shards.
func (w *world) awaitOutcome(t *testing.T, id client.TxID, want oncelogv1.TransactionOutcome) *oncelogv1.GetOutcomeResponse {
	t.Helper()
	var res *oncelogv1.GetOutcomeResponse
	eventually(t, fmt.Sprintf("outcome of %v", id), func() error {
		res = w.outcome(t, id)
		if res.GetOutcome() != want || len(res.GetPendingShards()) > 0 {
			return fmt.Errorf("outcome is %v", res)
		}
		return nil
	})
	if res.GetDamaged() {
		t.Errorf("%v is damaged: %v", id, res)
	}
	return res
}

func (w *world) outcome(t *testing.T, id client.TxID) *oncelogv1.GetOutcomeResponse {
	t.Helper()
	var res *oncelogv1.GetOutcomeResponse
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		res, err = oncelogv1.NewTransactionServiceClient(cc).GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{Txn: ref(id)})
		return err
	})
	if err != nil {
		t.Fatalf("outcome of %v: %v", id, err)
	}
	return res
}

func ref(id client.TxID) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: id.ProducerID, Epoch: id.Epoch, TxnNumber: id.Number}
}

// read reads topics through the SDK to their present end, waiting for open
// transactions, and checks what holds for every read: offsets rise, and a plain
// Fetch shows the same.
func (w *world) read(t *testing.T, c *client.Client, isolation client.Isolation, topics ...string) []*client.Record {
	t.Helper()
	ctx := withPatience(t)
	in, err := c.Consume(ctx, "", topics, client.WithIsolation(isolation))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var all []*client.Record
	next := map[client.TopicPartition]int64{}
	err = in.ReadToEnd(ctx, func(b *client.Batch) error {
		for r := range b.Records() {
			tp := client.TopicPartition{Topic: r.Topic, Partition: r.Partition}
			if r.Offset < next[tp] {
				t.Errorf("%v: offset %d after %d", tp, r.Offset, next[tp]-1)
			}
			next[tp] = r.Offset + 1
			all = append(all, r)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read %v: %v", topics, err)
	}
	return all
}

// readCommitted returns the values of what read_committed shows, sorted.
func (w *world) readCommitted(t *testing.T, c *client.Client, topics ...string) []string {
	t.Helper()
	return values(w.read(t, c, client.ReadCommitted, topics...))
}

// readUncommitted is readCommitted for the other isolation level.
func (w *world) readUncommitted(t *testing.T, c *client.Client, topics ...string) []string {
	t.Helper()
	return values(w.read(t, c, client.ReadUncommitted, topics...))
}

func values(records []*client.Record) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = string(r.Value)
	}
	slices.Sort(out)
	return out
}

func fetchedValues(records []*oncelogv1.FetchedRecord) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = string(r.GetRecord().GetValue())
	}
	return out
}

// wantValues compares values without regard to order.
func wantValues(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if slices.Equal(got, want) {
		return
	}
	if len(got)+len(want) <= 40 {
		t.Errorf("%s: got %q, want %q", what, got, want)
		return
	}
	missing, extra := difference(want, got), difference(got, want)
	t.Errorf("%s: got %d values, want %d; %d missing, such as %q; %d too many, such as %q", what, len(got), len(want),
		len(missing), missing[:min(10, len(missing))], len(extra), extra[:min(10, len(extra))])
}

// difference returns what is more often in a than in b; both are sorted.
func difference(a, b []string) []string {
	var out []string
	for _, v := range a {
		switch {
		case len(b) > 0 && b[0] == v:
			b = b[1:]
		default:
			for len(b) > 0 && b[0] < v {
				b = b[1:]
			}
			if len(b) > 0 && b[0] == v {
				b = b[1:]
				continue
			}
			out = append(out, v)
		}
	}
	return out
}

// numbered returns count values that begin with prefix.
func numbered(prefix string, count int) []string {
	out := make([]string, count)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%06d", prefix, i)
	}
	return out
}

// records makes one record per value, with the value as its key.
func records(topic string, values ...string) []*client.Record {
	out := make([]*client.Record, len(values))
	for i, v := range values {
		out[i] = &client.Record{Topic: topic, Key: []byte(v), Value: []byte(v)}
	}
	return out
}

// producer makes a transactional producer.
func producer(t *testing.T, c *client.Client, id string, opts ...client.ProducerOption) *client.Producer {
	t.Helper()
	p, err := c.InitTransactions(withPatience(t), id, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// begin starts a transaction.
func begin(t *testing.T, p *client.Producer) *client.Tx {
	t.Helper()
	tx, err := p.Begin(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// send sends values to a topic in a transaction and waits until they are
// durable.
func send(t *testing.T, tx *client.Tx, topic string, values ...string) {
	t.Helper()
	ctx := withPatience(t)
	if err := tx.Send(ctx, records(topic, values...)...); err != nil {
		t.Fatal(err)
	}
	if err := tx.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, tx *client.Tx) {
	t.Helper()
	if err := tx.Commit(withPatience(t)); err != nil {
		t.Fatal(err)
	}
}

func abort(t *testing.T, tx *client.Tx) {
	t.Helper()
	if err := tx.Abort(withPatience(t)); err != nil {
		t.Fatal(err)
	}
}

// produce writes values without a transaction.
func produce(t *testing.T, c *client.Client, topic string, values ...string) {
	t.Helper()
	ctx := withPatience(t)
	p, err := c.IdempotentProducer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Send(ctx, records(topic, values...)...); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantError checks sentinel (nil: none in particular) and class of an error.
func wantError(t *testing.T, what string, err, sentinel error, class client.Class) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error, want %v", what, sentinel)
	case sentinel != nil && !errors.Is(err, sentinel):
		t.Errorf("%s: %v, want %v", what, err, sentinel)
	case client.ClassOf(err) != class:
		t.Errorf("%s: %v is %v, want %v", what, err, client.ClassOf(err), class)
	}
}
