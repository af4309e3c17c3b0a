package node_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// TestMetricsOfRunningNodes runs a transaction on real nodes and looks for it in
// what they show.
func TestMetricsOfRunningNodes(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dev := config.DefaultDev()
	dev.DataDir, dev.Replicas, dev.BasePort = t.TempDir(), 1, 18300
	coordinators, partitions := dev.Cluster()
	coordinators[0].MetricsListen, partitions[0].MetricsListen = "127.0.0.1:0", "127.0.0.1:0"
	c, err := node.StartCoordinator(&coordinators[0], testLog())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	p, err := node.StartPartition(ctx, &partitions[0], testLog())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(ctx)
	commitAndAbort(ctx, t, coordinators[0].ClientListen)

	shows(t, scrape(ctx, t, c.MetricsAddress()),
		`oncelog_coordinator_transactions_committed_total{node_id="1",role="coordinator"} 1`,
		`oncelog_coordinator_transactions_aborted_total{node_id="1",reason="CLIENT",role="coordinator"} 1`,
		`oncelog_coordinator_transactional_ids{node_id="1",role="coordinator"} 1`,
		`oncelog_coordinator_partition_nodes_alive{node_id="1",role="coordinator"} 1`,
		`oncelog_raft_is_leader{group="1",node_id="1",role="coordinator"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="EndTransaction",grpc_service="oncelog.v1.TransactionService",grpc_type="unary",node_id="1",role="coordinator"} 2`,
		`go_goroutines `, `process_open_fds `)
	shows(t, scrape(ctx, t, p.MetricsAddress()),
		`oncelog_partition_shards_led{node_id="1",role="partition"} 1`,
		`oncelog_partition_partitions{node_id="1",role="partition"} 4`,
		`oncelog_partition_batches_total{node_id="1",role="partition",verdict="APPENDED"} `,
		`oncelog_log_fsync_duration_seconds_count{node_id="1",role="partition"} `,
		`oncelog_raft_commit_duration_seconds_bucket{node_id="1",role="partition",le="+Inf"} `,
		`grpc_server_handling_seconds_count{grpc_method="WriteMarkers",`,
		`oncelog_partition_lso_blocked_partitions{node_id="1",role="partition"} 0`)
	heldBack(ctx, t, coordinators[0].ClientListen, p.MetricsAddress())
}

// heldBack leaves a transaction open and looks for the partition that it holds back,
// then ends it and looks again.
func heldBack(ctx context.Context, t *testing.T, server, metricsAddress string) {
	t.Helper()
	c, err := client.Dial(ctx, []string{server})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	p, err := c.InitTransactions(ctx, "slow")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := p.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := tx.Send(ctx, &client.Record{Topic: "orders", Key: []byte("a"), Value: []byte("later")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	held := scrape(ctx, t, metricsAddress)
	shows(t, held, `oncelog_partition_lso_lag_max_records{node_id="1",role="partition"} 3`,
		`oncelog_partition_open_transactions{node_id="1",role="partition"} 1`)
	if !regexp.MustCompile(`(?m)^oncelog_partition_lso_lag_records\{node_id="1",partition="\d",role="partition",topic="orders"\} 3$`).MatchString(held) {
		t.Error("the partition that is held back is not shown")
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	// The marker follows the answer.
	for {
		free := scrape(ctx, t, metricsAddress)
		if strings.Contains(free, `oncelog_partition_lso_blocked_partitions{node_id="1",role="partition"} 0`) {
			if strings.Contains(free, "oncelog_partition_lso_lag_records{") {
				t.Error("a partition is shown that is not held back any more")
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatal("the partition stays held back")
		}
	}
}

// In a development cluster one address shows all nodes.
func TestMetricsOfADevCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dev := config.DefaultDev()
	dev.DataDir, dev.Replicas, dev.BasePort, dev.MetricsListen = t.TempDir(), 1, 18500, "127.0.0.1:18700"
	running, stop := context.WithCancel(ctx)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- node.RunDev(running, dev, testLog(), func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	text := scrape(ctx, t, dev.MetricsListen)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	shows(t, text, `oncelog_node_info{cluster_id="`, `node_id="1",role="coordinator",version="`, `node_id="1",role="partition",version="`)
	again, err := net.Listen("tcp", dev.MetricsListen)
	if err != nil {
		t.Fatalf("the address is still held: %v", err)
	}
	_ = again.Close()
}

func scrape(ctx context.Context, t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%d %v: %s", res.StatusCode, err, text)
	}
	return string(text)
}

func shows(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not shown", want)
		}
	}
}
