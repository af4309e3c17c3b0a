package node_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// TestManyConnections: connections that say nothing, begin a handshake byte by byte, or
// send what is none, take all the room that there is; those beyond are closed at once,
// whoever is connected goes on, and when they leave there is room again.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	const most = 20
	c := config.DefaultCoordinator()
	c.NodeID, c.DataDir, c.TLS.Insecure = 1, t.TempDir(), true
	c.ClientListen, c.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
	c.Members = []config.Member{{ID: 1, ClientAddress: "127.0.0.1:1", PeerAddress: "127.0.0.1:2"}}
	c.Limits.MaxConnectionsPerAddress = most
	n, err := node.StartCoordinator(c, testLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(context.Background()) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	good, err := grpc.NewClient("passthrough:///"+n.ClientAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = good.Close() }()
	works := func(when string) {
		t.Helper()
		if _, err := v1.NewStatusServiceClient(good).GetStatus(ctx, &v1.GetStatusRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	works("before")
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", n.ClientAddress())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var bad []net.Conn
	for i := range most - 1 {
		conn := dial()
		if i%3 > 0 {
			_, err = conn.Write([]byte("PRI * HTTP/2.0"[:i%14]))
		}
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, conn)
	}
	// The listener takes connections in the order in which they came.
	for range 50 {
		beyond := dial()
		if err := beyond.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var timeout net.Error
		if _, err := io.ReadAll(beyond); errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("a connection beyond the limit is open")
		}
		works("meanwhile")
	}
	for _, conn := range bad {
		_ = conn.Close()
	}
	for again := false; !again; {
		other, err := grpc.NewClient("passthrough:///"+n.ClientAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		_, err = v1.NewStatusServiceClient(other).GetStatus(ctx, &v1.GetStatusRequest{})
		again = err == nil
		_ = other.Close()
		if ctx.Err() != nil {
			t.Fatal("there is no room again")
		}
	}
	works("afterwards")
}
