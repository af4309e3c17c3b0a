package node_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// testLog writes what nodes log into the test's output with -v, from warnings on.
func testLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// TestDevClusterCommits starts a whole cluster in this process, as `oncelog dev`
// does, and runs one committed and one aborted transaction through the SDK.
func TestDevClusterCommits(t *testing.T) {
	for name, replicas := range map[string]int{"one of each": 1, "three of each": 3} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cfg := config.DefaultDev()
			cfg.DataDir, cfg.Replicas, cfg.BasePort = t.TempDir(), replicas, 14100+200*replicas // below those that clusters of processes draw

			ready, done := make(chan struct{}), make(chan error, 1)
			running, stop := context.WithCancel(ctx)
			said := &said{}
			log := slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelWarn}))
			go func() { done <- node.RunDev(running, cfg, log, func() { close(ready) }) }()
			defer func() {
				said.take()
				stop()
				if err := <-done; err != nil {
					t.Errorf("stopping: %v", err)
				}
				// Nodes that notice that the others leave are no news.
				if text := said.take(); text != "" {
					t.Errorf("said while it was stopped:\n%s", text)
				}
			}()
			select {
			case <-ready:
			case err := <-done:
				done <- nil
				t.Fatalf("starting: %v", err)
			}
			commitAndAbort(ctx, t, "127.0.0.1:"+strconv.Itoa(cfg.BasePort))
		})
	}
}

// said collects what is logged.
type said struct {
	mu   sync.Mutex
	text []byte
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	return len(p), nil
}

// take returns what was logged since the last time.
func (s *said) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(s.text)
	s.text = nil
	return text
}

func commitAndAbort(ctx context.Context, t *testing.T, server string, options ...client.Option) {
	t.Helper()
	c, err := client.Dial(ctx, []string{server}, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: "orders", Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	p, err := c.InitTransactions(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	aborted, err := p.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := aborted.Send(ctx, &client.Record{Topic: "orders", Key: []byte("a"), Value: []byte("never")}); err != nil {
		t.Fatal(err)
	}
	if err := aborted.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := aborted.Abort(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Transact(ctx, func(tx *client.Tx) error {
		return tx.Send(ctx, &client.Record{Topic: "orders", Key: []byte("a"), Value: []byte("once")})
	}); err != nil {
		t.Fatal(err)
	}
	in, err := c.Consume(ctx, "", []string{"orders"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := in.Poll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := range b.Records() {
		got = append(got, string(r.Value))
	}
	if len(got) != 1 || got[0] != "once" {
		t.Errorf("read_committed shows %q, want only the committed record", got)
	}
}

// A node that could not start leaves its addresses free.
func TestFailedStartFreesAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close() // only its port was wanted
	dev := config.DefaultDev()
	dev.DataDir, dev.Replicas = t.TempDir(), 1
	coordinators, _ := dev.Cluster()
	cfg := coordinators[0]
	cfg.ClientListen, cfg.PeerListen = free.Addr().String(), taken.Addr().String()
	if _, err := node.StartCoordinator(&cfg, testLog()); err == nil {
		t.Fatal("it started on an address that is taken")
	}
	again, err := net.Listen("tcp", cfg.ClientListen)
	if err != nil {
		t.Fatalf("the client address is still held: %v", err)
	}
	_ = again.Close()
}

// Whoever stops a cluster before it serves has not met an error.
func TestDevClusterStoppedWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cfg := config.DefaultDev()
	cfg.DataDir, cfg.Replicas, cfg.BasePort = t.TempDir(), 1, 15100
	if err := node.RunDev(ctx, cfg, testLog(), func() { t.Error("it serves") }); err != nil {
		t.Errorf("stopping: %v", err)
	}
}
