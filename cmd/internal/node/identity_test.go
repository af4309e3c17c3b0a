package node_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

func coordinatorConfig(dir string, id uint64, members ...uint64) *config.Coordinator {
	cfg := config.DefaultCoordinator()
	cfg.NodeID, cfg.DataDir = id, dir
	cfg.ClientListen, cfg.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
	for _, m := range members {
		// Nobody is asked in this test: the addresses only have to be there.
		cfg.Members = append(cfg.Members, config.Member{ID: m, ClientAddress: "127.0.0.1:1", PeerAddress: "127.0.0.1:2"})
	}
	return cfg
}

// TestCoordinatorDirectoryBelongsToOneNode starts coordinators on a directory
// that is another's: with that log they would vote twice in one term, or found a
// second cluster beside the first.
func TestCoordinatorDirectoryBelongsToOneNode(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	start := func(cfg *config.Coordinator) error {
		n, err := node.StartCoordinator(cfg, testLog())
		if err == nil {
			n.Close(ctx)
		}
		return err
	}
	if err := start(coordinatorConfig(dir, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := start(coordinatorConfig(dir, 2, 2)); apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE {
		t.Errorf("another node's directory: %v", err)
	}
	if err := start(coordinatorConfig(dir, 1, 1, 2, 3)); err != nil {
		t.Errorf("another list of members, who are in the log: %v", err)
	}
	if err := start(coordinatorConfig(dir, 1, 1)); err != nil {
		t.Errorf("its own directory again: %v", err)
	}

	early := t.TempDir()
	if err := start(coordinatorConfig(early, 1, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	if err := start(coordinatorConfig(early, 1, 1, 2)); err == nil || !strings.Contains(err.Error(), "a cluster that begins with") {
		t.Errorf("another list of members, who have no log yet: %v", err)
	}

	if err := os.WriteFile(filepath.Join(dir, "coordinator"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := start(coordinatorConfig(dir, 1, 1)); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("a damaged identity: %v", err)
	}

	partition := config.DefaultPartition()
	partition.NodeID, partition.DataDir, partition.Coordinators = 1, dir, []string{"127.0.0.1:1"}
	partition.ClientListen, partition.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
	_, err := node.StartPartition(ctx, partition, testLog())
	if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE {
		t.Errorf("a partition node on it: %v", err)
	}
}

// TestDirectoryInUse: two processes, here two nodes, never share a log.
func TestDirectoryInUse(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	n, err := node.StartCoordinator(coordinatorConfig(dir, 1, 1), testLog())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(ctx)
	second, err := node.StartCoordinator(coordinatorConfig(dir, 1, 1), testLog())
	if err == nil {
		second.Close(ctx)
		t.Fatal("two nodes run on one directory")
	}
}
