package node_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/internal/pki"
)

const (
	denied   = v1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED
	unproven = v1.ErrorCode_ERROR_CODE_AUTHENTICATION_FAILED
	notYours = v1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN
)

func literal(who string, op acl.Operation, kind acl.Kind, name string) acl.Rule {
	return allowed(who, need{op, kind, name, ""})
}

// onPartitionNodes waits until the partition node has heard of all rules so far.
func (g *guarded) onPartitionNodes(ctx context.Context) {
	g.Helper()
	mark := "mark-" + time.Now().String()
	g.allow(ctx, literal(mark, acl.Describe, acl.Cluster, acl.ClusterName))
	for {
		_, err := v1.NewStatusServiceClient(g.conns["partition"]).GetStatus(ctx, &v1.GetStatusRequest{}, g.as(mark))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			g.Fatal("the partition node does not hear of the rules")
		}
	}
}

func (g *guarded) want(what string, err error, code v1.ErrorCode) {
	g.Helper()
	if apierrors.CodeOf(err) != code {
		g.Errorf("%s: %v, want %s", what, err, apierrors.Name(code))
	}
}

// TestATransactionIsItsPrincipals: who knows everything about the producer of another, its
// token included, and may write to all that it writes to, can neither write in its name,
// nor end its transaction, nor fence it.
func TestATransactionIsItsPrincipals(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, _ := g.grounds(ctx)
	for _, who := range []string{"alice", "mallory"} {
		g.allow(ctx, literal(who, acl.Write, acl.TransactionalID, "shop"), literal(who, acl.Write, acl.Topic, w.topic))
	}
	g.onPartitionNodes(ctx)
	txns, logs := v1.NewTransactionServiceClient(g.conns["coordinator"]), v1.NewLogServiceClient(g.conns["partition"])
	p, err := txns.InitProducer(ctx, &v1.InitProducerRequest{TransactionalId: "shop", RequestId: "r"}, g.as("alice"))
	if err != nil {
		t.Fatal(err)
	}
	ref := &v1.TxnRef{ProducerId: p.GetProducerId(), Epoch: p.GetEpoch(), TxnNumber: 1}
	w.pid, w.token = p.GetProducerId(), p.GetProducerToken()
	write := w.appends()
	write.Txn = ref
	end := &v1.EndTransactionRequest{Txn: ref, ProducerToken: w.token, Commit: true, Partitions: []*v1.PartitionProgress{{Partition: w.ref(), NextSequence: 1}}}
	abort := proto.CloneOf(end)
	abort.Commit = false

	_, err = logs.Append(ctx, write, g.as("mallory"))
	g.want("an append of another", err, notYours)
	for _, e := range []*v1.EndTransactionRequest{end, abort} {
		_, err = txns.EndTransaction(ctx, e, g.as("mallory"))
		g.want("an end by another", err, notYours)
	}
	for _, request := range []string{"r", "another"} {
		_, err = txns.InitProducer(ctx, &v1.InitProducerRequest{TransactionalId: "shop", RequestId: request}, g.as("mallory"))
		g.want("a take-over by another", err, denied)
	}
	_, err = txns.InitProducer(ctx, &v1.InitProducerRequest{TransactionalId: "shop"}, g.as("root"))
	g.want("a take-over by a super user", err, denied)
	if _, err := logs.Append(ctx, write, g.as("alice")); err != nil {
		t.Fatal(err)
	}
	if res, err := txns.EndTransaction(ctx, end, g.as("alice")); err != nil || res.GetOutcome() != v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED {
		t.Fatal(res, err)
	}

	// A permission that is taken away stops what has begun, but hides no commit that stands.
	acls := v1.NewAclServiceClient(g.conns["coordinator"])
	if _, err := acls.RemoveAcls(ctx, &v1.RemoveAclsRequest{Filter: &v1.AclFilter{Principal: "alice"}}, g.as("root")); err != nil {
		t.Fatal(err)
	}
	if res, err := txns.EndTransaction(ctx, end, g.as("alice")); err != nil || res.GetOutcome() != v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED {
		t.Error("a repeated commit:", res, err)
	}
	next := proto.CloneOf(end)
	next.Txn.TxnNumber = 2
	_, err = txns.EndTransaction(ctx, next, g.as("alice"))
	g.want("a commit without Write", err, denied)

	// An operator makes it free.
	d, err := txns.DescribeTransaction(ctx, &v1.DescribeTransactionRequest{TransactionalId: "shop"}, g.as("root"))
	if err != nil || d.GetOwner() != "alice" {
		t.Error(d.GetOwner(), err)
	}
	if _, err := txns.DeleteTransactionalId(ctx, &v1.DeleteTransactionalIdRequest{TransactionalId: "shop"}, g.as("root")); err != nil {
		t.Fatal(err)
	}
	if _, err := txns.InitProducer(ctx, &v1.InitProducerRequest{TransactionalId: "shop"}, g.as("mallory")); err != nil {
		t.Error(err)
	}
}

// TestRevocationEndsStreams: a stream that was opened when that was allowed sends nothing
// that is written after the permission is gone.
func TestRevocationEndsStreams(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, _ := g.grounds(ctx)
	g.allow(ctx, literal("reader", acl.Read, acl.Topic, w.topic), literal("writer", acl.Write, acl.Topic, w.topic))
	g.onPartitionNodes(ctx)
	logs := v1.NewLogServiceClient(g.conns["partition"])
	stream, err := logs.Fetch(ctx, &v1.FetchRequest{Partition: w.ref(), Follow: true}, g.as("reader"))
	if err != nil {
		t.Fatal(err)
	}
	write := func() {
		t.Helper()
		if _, err := logs.Append(ctx, g.producing(ctx, w, "writer", true).appends(), g.as("writer")); err != nil {
			t.Fatal(err)
		}
	}
	write()
	for seen := 0; seen == 0; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen = len(resp.GetRecords())
	}
	if _, err := v1.NewAclServiceClient(g.conns["coordinator"]).RemoveAcls(ctx, &v1.RemoveAclsRequest{Filter: &v1.AclFilter{Principal: "reader"}}, g.as("root")); err != nil {
		t.Fatal(err)
	}
	g.onPartitionNodes(ctx)
	write()
	for {
		resp, err := stream.Recv()
		if err != nil {
			g.want("the stream", err, denied)
			break
		}
		if len(resp.GetRecords()) > 0 {
			t.Fatal("records after the permission was gone")
		}
	}
}

// TestListsShowWhatMayBeSeen: lists are not refused, but cut.
func TestListsShowWhatMayBeSeen(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, _ := g.grounds(ctx)
	conn := g.conns["coordinator"]
	if _, err := v1.NewCatalogServiceClient(conn).CreateTopic(ctx, &v1.CreateTopicRequest{Name: "secret"}, g.as("root")); err != nil {
		t.Fatal(err)
	}
	g.allow(ctx, literal("alice", acl.Describe, acl.Topic, w.topic))
	see := func(who string) (topics, hidden, groups, ids int) {
		t.Helper()
		list, err := v1.NewCatalogServiceClient(conn).ListTopics(ctx, &v1.ListTopicsRequest{}, g.as(who))
		if err != nil {
			t.Fatal(err)
		}
		meta, err := v1.NewCatalogServiceClient(conn).GetMetadata(ctx, &v1.GetMetadataRequest{
			Topics: []string{w.topic, "secret", "nowhere"}, TopicIds: []uint64{1, 2, 3},
		}, g.as(who))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range meta.GetTopics() {
			if !slices.ContainsFunc(list.GetTopics(), func(l *v1.Topic) bool { return l.GetName() == m.GetName() }) {
				t.Errorf("%s sees %s in metadata only", who, m.GetName())
			}
		}
		gs, err := v1.NewGroupServiceClient(conn).ListGroups(ctx, &v1.ListGroupsRequest{}, g.as(who))
		if err != nil {
			t.Fatal(err)
		}
		ts, err := v1.NewTransactionServiceClient(conn).ListTransactions(ctx, &v1.ListTransactionsRequest{}, g.as(who))
		if err != nil {
			t.Fatal(err)
		}
		return len(list.GetTopics()), len(meta.GetUnauthorizedTopics()), len(gs.GetGroups()), len(ts.GetTransactions())
	}
	if topics, hidden, groups, ids := see("root"); topics != 2 || hidden != 0 || groups != 1 || ids != 1 {
		t.Error("root sees", topics, hidden, groups, ids)
	}
	// "secret" is there and "nowhere" is not; to alice they are the same.
	if topics, hidden, groups, ids := see("alice"); topics != 1 || hidden != 2 || groups != 0 || ids != 0 {
		t.Error("alice sees", topics, hidden, groups, ids)
	}
}

// TestWhoCalls: a certificate's common name or a token's subject, and a token that is not
// good is worse than none.
func TestWhoCalls(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g.allow(ctx, literal("alice", acl.Describe, acl.Cluster, acl.ClusterName))
	certified, err := grpc.NewClient("passthrough:///"+g.coordinator.ClientAddress(),
		grpc.WithTransportCredentials(credentials.NewTLS(g.client("alice", g.ca).AnyHost(pki.Nodes))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = certified.Close() }()
	ask := func(conn *grpc.ClientConn, opts ...grpc.CallOption) error {
		_, err := v1.NewCatalogServiceClient(conn).DescribeCluster(ctx, &v1.DescribeClusterRequest{}, opts...)
		return err
	}
	token := func(who string, ends time.Duration) grpc.CallOption {
		return grpc.PerRPCCredentials(bearer(g.issuer.token(t, who, time.Now().Add(ends))))
	}
	const ok = v1.ErrorCode_ERROR_CODE_UNSPECIFIED
	open := g.conns["coordinator"]
	g.want("a certificate", ask(certified), ok)
	g.want("a token", ask(open, token("alice", time.Hour)), ok)
	g.want("nobody", ask(open), denied)
	g.want("another's token over the certificate of alice", ask(certified, token("bob", time.Hour)), denied)
	g.want("an old token", ask(open, token("alice", -time.Hour)), unproven)
	g.want("an old token over a certificate", ask(certified, token("alice", -time.Hour)), unproven)
	g.want("the token of another issuer", ask(open, grpc.PerRPCCredentials(bearer(newIssuer(t).token(t, "alice", time.Now().Add(time.Hour))))), unproven)
	g.want("anonymous by name", ask(open, token("anonymous", time.Hour)), unproven)
	g.want("everybody by name", ask(open, token("*", time.Hour)), unproven)
	g.want("no token", ask(open, grpc.PerRPCCredentials(bearer(""))), unproven)
}

// TestTheSDKWithPermissions: a program with a token in a file works with what it may, and
// is told at once what it may not.
func TestTheSDKWithPermissions(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, _ := g.grounds(ctx)
	g.allow(ctx, literal("shop", acl.Write, acl.TransactionalID, "shop"), literal("shop", acl.Write, acl.Topic, w.topic),
		literal("shop", acl.Describe, acl.Topic, "readable"))
	if _, err := v1.NewCatalogServiceClient(g.conns["coordinator"]).CreateTopic(ctx, &v1.CreateTopicRequest{Name: "readable"}, g.as("root")); err != nil {
		t.Fatal(err)
	}
	g.onPartitionNodes(ctx)
	file := g.file("token")
	if err := os.WriteFile(file, []byte(g.issuer.token(t, "shop", time.Now().Add(time.Hour))), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(ctx, []string{g.coordinator.ClientAddress()}, client.WithTokenFile(file),
		client.WithTLS(g.open(pki.Files{CA: g.file("ca.crt")}).AnyHost(pki.Nodes)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	p, err := c.InitTransactions(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	send := func(topic string) error {
		return p.Transact(ctx, func(tx *client.Tx) error { return tx.Send(ctx, &client.Record{Topic: topic, Value: []byte("v")}) })
	}
	if err := send(w.topic); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{"a topic that may be seen only": send("readable"), "a topic that may not be seen": send("secret")} {
		var e *client.Error
		if !errors.As(err, &e) || e.Code != "AUTHORIZATION_FAILED" || e.Class != client.ClassFatal {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := send(w.topic); err != nil {
		t.Error("after a refusal:", err)
	}
	if _, err := c.InitTransactions(ctx, "another"); client.ClassOf(err) != client.ClassFatal {
		t.Error(err)
	}
	if err := c.Admin().AddAcls(ctx); client.ClassOf(err) != client.ClassFatal {
		t.Error("rules by somebody:", err)
	}
	if _, err := client.Dial(ctx, []string{g.coordinator.ClientAddress()}, client.WithTokenFile(file)); err == nil {
		t.Error("a token is sent in plain text")
	}
}
