package coordinator

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// TestOverGRPC: once over real gRPC and without a bubble, because the other
// tests leave both out.
func TestOverGRPC(t *testing.T) {
	t.Parallel()
	store, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: memlog.New(nil)})
	if err != nil {
		t.Fatal(err)
	}
	shards := &shardServers{}
	c, err := New(Config{
		NodeID: 1, Members: []Member{{ID: 1, ClientAddress: "c:1", PeerAddress: "p:1"}}, Store: store, DialPeer: shards.dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	c.RegisterClient(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
		server.GracefulStop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})

	if _, err := c.group.WaitLeadership(t.Context(), func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
		t.Fatal(err)
	}
	if err := c.await(t.Context(), c.applied.next, c.keys.Ready); err != nil {
		t.Fatal(err)
	}
	txns := oncelogv1.NewTransactionServiceClient(conn)
	p, err := txns.InitProducer(t.Context(), &oncelogv1.InitProducerRequest{TransactionalId: "app", ClientId: "cli"})
	wantCode(t, err, "")
	req := &oncelogv1.EndTransactionRequest{
		Txn: &oncelogv1.TxnRef{ProducerId: p.GetProducerId(), TxnNumber: 1}, ProducerToken: p.GetProducerToken(), Commit: true,
	}
	res, err := txns.EndTransaction(t.Context(), req)
	wantCode(t, err, "")
	wantEqual(t, "outcome", res.GetOutcome(), oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED)
	req.Commit = false
	_, err = txns.EndTransaction(t.Context(), req)
	wantEqual(t, "metadata", wantCode(t, err, "CONFLICT")["outcome"], "COMMITTED")
	d, err := txns.DescribeTransaction(t.Context(), &oncelogv1.DescribeTransactionRequest{TransactionalId: "app"})
	wantCode(t, err, "")
	wantEqual(t, "client", d.GetClientId(), "cli@bufconn")
}
