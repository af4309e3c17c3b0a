// Package consoletest has a cluster in memory in which everything is that the console
// shows, for the tests of its pages and of what browsers make of them.
package consoletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/cmd/internal/console"
)

// Hostile is a transactional id that would run, and break out of quotes, if anything
// were forgotten.
const Hostile = "<script>alert(1)</script>'\"&\n\u202e$(id)"

// OpenID is the transactional id of the open transaction, Group a consumer group that
// it holds back.
const (
	OpenID = "billing-7"
	Group  = "invoicing"
)

// Scene is a cluster with a console.
type Scene struct {
	*testing.T
	Cluster *clienttest.Cluster
	Client  *client.Client
	Handler *console.Handler
	Server  *httptest.Server
	Log     *Log
	// Open has an open transaction with records in both partitions of orders.
	Open *client.Tx
}

// Start makes a scene, and ends it with the test.
func Start(t *testing.T) *Scene {
	t.Helper()
	s := &Scene{T: t, Cluster: clienttest.Start(t, clienttest.WithCoordinators(3), clienttest.WithNodes(3)), Log: &Log{}}
	s.Client = s.Cluster.Client(client.WithClientID("billing"))
	s.Cluster.CreateTopic("orders", 2)
	s.Cluster.CreateTopic("payments", 1)

	committed := s.init("checkout-1")
	s.write(committed, true, "order 1", "order 2")
	s.write(committed, false, "order 3")
	s.write(s.init(Hostile), true, "<b>bold</b>\u202etxt", string([]byte{0xff, 0xfe, 0x00}))
	s.Must(s.Client.Admin().ResetGroupOffsets(s.Context(), Group, client.Offsets{{Topic: "orders", Partition: 0}: 1}))
	var err error
	s.Open, err = s.init(OpenID).Begin(s.Context())
	s.Must(err)
	s.send(s.Open, "order 4")
	s.awaitEnlisted()
	s.write(committed, true, "order 5")

	s.Handler, err = console.New(console.Config{
		Client: s.Client, Flags: []string{"--servers", "10.0.0.1:7100"}, GRPCFlags: []string{"-plaintext"}, Principal: "alice",
		Logger: slog.New(slog.NewTextHandler(s.Log, nil)),
	})
	s.Must(err)
	s.Server = httptest.NewUnstartedServer(nil)
	s.Server.Config = s.Handler.Server()
	s.Server.Start()
	t.Cleanup(func() {
		s.Handler.Close()
		s.Server.Close()
	})
	return s
}

// Must fails the test on an error.
func (s *Scene) Must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// awaitEnlisted waits until the coordinator has heard of the open transaction.
func (s *Scene) awaitEnlisted() {
	s.Helper()
	heard := errors.New("heard of it")
	req := &oncelogv1.WatchTransactionsRequest{TransactionalId: OpenID, AfterIndex: proto.Uint64(0)}
	if err := s.Client.Admin().WatchTransactions(s.Context(), req, func(r *oncelogv1.WatchTransactionsResponse) error {
		for _, e := range r.GetEvents() {
			if e.GetKind() == oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_ENLISTED {
				return heard
			}
		}
		return nil
	}); !errors.Is(err, heard) {
		s.Fatal(err)
	}
}

func (s *Scene) init(id string) *client.Producer {
	s.Helper()
	p, err := s.Client.InitTransactions(s.Context(), id, client.WithLinger(0))
	s.Must(err)
	return p
}

// send writes each value to partition 0 of orders, and the last one to partition 1 too.
func (s *Scene) send(tx *client.Tx, values ...string) {
	s.Helper()
	for i, v := range values {
		s.Must(tx.Send(s.Context(), (&client.Record{Topic: "orders", Key: fmt.Appendf(nil, "key %d", i), Value: []byte(v)}).WithPartition(0)))
	}
	s.Must(tx.Send(s.Context(), (&client.Record{Topic: "orders", Value: []byte(values[len(values)-1])}).WithPartition(1)))
	s.Must(tx.Flush(s.Context()))
}

func (s *Scene) write(p *client.Producer, commit bool, values ...string) {
	s.Helper()
	tx, err := p.Begin(s.Context())
	s.Must(err)
	s.send(tx, values...)
	if commit {
		s.Must(tx.Commit(s.Context()))
	} else {
		s.Must(tx.Abort(s.Context()))
	}
}

// Commit makes a new transactional id and commits a transaction of it.
func (s *Scene) Commit(ctx context.Context, id string) {
	s.Helper()
	p, err := s.Client.InitTransactions(ctx, id, client.WithLinger(0))
	s.Must(err)
	s.write(p, true, "of "+id)
}

// Log keeps what is logged.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
