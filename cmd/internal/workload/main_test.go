package workload_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/cmd/internal/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startCluster starts one node of each kind in this process and returns the
// address of the coordinator.
func startCluster(t *testing.T) string {
	t.Helper()
	ports := freePorts(t, 4)
	quiet := slog.New(slog.DiscardHandler)
	c := config.DefaultCoordinator()
	c.NodeID, c.DataDir, c.ClientListen, c.PeerListen = 1, t.TempDir(), ports[0], ports[1]
	c.Members = []config.Member{{ID: 1, ClientAddress: ports[0], PeerAddress: ports[1]}}
	c.Raft.MinFreeBytes, c.ShardsPerNode = 0, 3
	coordinator, err := node.StartCoordinator(c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { coordinator.Close(context.Background()) })
	p := config.DefaultPartition()
	p.NodeID, p.DataDir, p.ClientListen, p.PeerListen, p.Coordinators = 1, t.TempDir(), ports[2], ports[3], []string{ports[1]}
	p.Raft.MinFreeBytes = 0
	partition, err := node.StartPartition(t.Context(), p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { partition.Close(context.Background()) })
	return ports[0]
}

// freePorts returns loopback addresses that were free a moment ago.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	var held []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		out = append(out, l.Addr().String())
	}
	for _, l := range held {
		_ = l.Close()
	}
	return out
}

// world is a cluster with its history.
type world struct {
	t       *testing.T
	server  string
	admin   *client.Client
	history *history.Recorder
	seed    uint64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, server: startCluster(t), seed: rand.Uint64()}
	t.Logf("seed %d", w.seed)
	w.history = history.NewRecorder(func() int64 { return time.Now().UnixNano() })
	c, err := w.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	w.admin = c
	return w
}

func (w *world) dial(ctx context.Context) (*client.Client, error) {
	return client.Dial(ctx, []string{w.server})
}

func (w *world) topic(name string, partitions int32) workload.Topic {
	w.t.Helper()
	req := &oncelogv1.CreateTopicRequest{Name: name, Partitions: uint32(partitions), ReplicationFactor: 1}
	if _, err := w.admin.Admin().CreateTopic(w.t.Context(), req); err != nil {
		w.t.Fatal(err)
	}
	return workload.Topic{Name: name, Partitions: partitions}
}

// env returns what a client works with.
func (w *world) env(number uint32, stop <-chan struct{}) workload.Env {
	return workload.Env{
		Rand: rand.New(rand.NewPCG(w.seed, uint64(number))), Dial: w.dial, History: w.history, Stop: stop,
	}
}
