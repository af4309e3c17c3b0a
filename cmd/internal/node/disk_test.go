package node_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// TestLowDiskIsSeenByHealthChecks: the service that takes writes does not serve,
// the node does: to start it again would help nothing.
func TestLowDiskIsSeenByHealthChecks(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := coordinatorConfig(t.TempDir(), 1, 1)
	cfg.Raft.MinFreeBytes = 1 << 60 // more than any disk has
	n, err := node.StartCoordinator(cfg, testLog())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(ctx)
	conn, err := grpc.NewClient(n.ClientAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health := healthv1.NewHealthClient(conn)
	changes, err := health.Watch(ctx, &healthv1.HealthCheckRequest{Service: oncelogv1.TransactionService_ServiceDesc.ServiceName})
	if err != nil {
		t.Fatal(err)
	}
	for status := healthv1.HealthCheckResponse_UNKNOWN; status != healthv1.HealthCheckResponse_NOT_SERVING; {
		change, err := changes.Recv()
		if err != nil {
			t.Fatalf("the service was last %v: %v", status, err)
		}
		status = change.GetStatus()
	}
	whole, err := health.Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil || whole.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("the node: %v, %v", whole, err)
	}
	st, err := oncelogv1.NewStatusServiceClient(conn).GetStatus(ctx, &oncelogv1.GetStatusRequest{})
	if err != nil || !st.GetDisk().GetLow() || st.GetDisk().GetFreeBytes() == 0 || st.GetDisk().GetMinFreeBytes() != 1<<60 {
		t.Errorf("status %v: %v", st.GetDisk(), err)
	}
}

// TestNoLowWaterMark: 0 means that the node does not look, and not the default.
func TestNoLowWaterMark(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := coordinatorConfig(t.TempDir(), 1, 1)
	cfg.Raft.MinFreeBytes = 0
	n, err := node.StartCoordinator(cfg, testLog())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(ctx)
	conn, err := grpc.NewClient(n.ClientAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// It leads: a disk is looked at in the first tick.
	for leads := false; !leads; {
		st, err := oncelogv1.NewStatusServiceClient(conn).GetStatus(ctx, &oncelogv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if st.GetDisk() != nil {
			t.Fatalf("the node looks at its disk: %v", st.GetDisk())
		}
		for _, g := range st.GetGroups() {
			leads = leads || g.GetReady()
		}
	}
}
