package node

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/rafttransport"
)

// separateFrom is the size from which on log entries of a partition node are
// kept out of the tables of the log device: they are the data and stay.
const separateFrom = 512

// Partition is a running partition node.
type Partition struct {
	process
	node        *partition.Node
	coordinator *partition.CoordinatorClient
	transport   *rafttransport.Transport
	store       *raftstore.Store
	cluster     string
}

// StartPartition starts a partition node. A node that was never in a cluster
// waits for a coordinator until ctx ends; one that was serves without.
func StartPartition(ctx context.Context, cfg *config.Partition, log *slog.Logger) (_ *Partition, err error) {
	log = log.With("role", "partition", "node_id", cfg.NodeID)
	n := &Partition{process: newProcess(log)}
	defer func() {
		if err != nil {
			closeAll(context.WithoutCancel(ctx), []running{n})
		}
	}()
	if err := ownedBy(cfg.DataDir, coordinatorFile, "coordinator node"); err != nil {
		return nil, err
	}
	if err := makeDir(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	if n.coordinator, err = partition.NewCoordinatorClient(partition.CoordinatorClientConfig{
		Seeds: cfg.Coordinators, DialOptions: []grpc.DialOption{grpc.WithKeepaliveParams(peerKeepalive)},
	}); err != nil {
		return nil, err
	}
	if n.node, err = partition.New(partition.Config{
		NodeID: cfg.NodeID, ClientAddress: cfg.ClientAddress(), PeerAddress: cfg.PeerAddress(),
		DataDir: cfg.DataDir, Coordinator: n.coordinator, Logger: log, Version: Version(),
		EnlistDelay: cfg.EnlistDelay, EnlistInterval: cfg.EnlistInterval,
		RetentionInterval: cfg.RetentionCheckInterval,
		OpenStore:         func(cluster string) (*raftstore.Store, error) { return n.openStore(cfg, cluster) },
	}); err != nil {
		return nil, err
	}
	// The addresses are opened first: a wrong one must not cost a registration.
	if err := n.listen(cfg.ClientListen, cfg.PeerListen); err != nil {
		return nil, err
	}
	if err := n.node.Start(ctx); err != nil {
		return nil, err
	}
	n.node.RegisterClient(n.client.server)
	n.node.RegisterPeer(n.peer.server)
	oncelogv1.RegisterRaftServiceServer(n.peer.server,
		rafttransport.NewServer(raftstore.NodeID(cfg.NodeID), n.cluster, n.store))
	n.serve()
	go n.watch()
	go n.followDisk(n.store, oncelogv1.LogService_ServiceDesc.ServiceName)
	return n, nil
}

// openStore is called by the node once its cluster is known.
func (n *Partition) openStore(cfg *config.Partition, cluster string) (*raftstore.Store, error) {
	store, transport, _, err := openStore(storeConfig{
		node: cfg.NodeID, cluster: cluster, dir: cfg.DataDir, raft: cfg.Raft,
		resolve: n.node.ResolvePeer, failed: n.fail, log: n.log, separateFrom: separateFrom,
	})
	n.store, n.transport, n.cluster = store, transport, cluster
	return store, err
}

// watch passes on that the node itself cannot go on.
func (n *Partition) watch() {
	select {
	case err := <-n.node.Fatal():
		n.fail(err)
	case <-n.closed:
	}
}

// Close hands every led shard to another member, ends the calls that are under
// way and closes the log. It is safe to call more than once.
func (n *Partition) Close(ctx context.Context) {
	n.once.Do(func() {
		close(n.closed)
		n.drain()
		if n.node != nil {
			if err := n.node.Close(ctx); err != nil {
				n.log.Warn("closing the node", "error", err)
			}
		}
		n.stopListeners(ctx)
		if n.transport != nil {
			if err := n.transport.Close(); err != nil {
				n.log.Debug("closing peer connections", "error", err)
			}
		}
		if n.coordinator != nil {
			if err := n.coordinator.Close(); err != nil {
				n.log.Debug("closing coordinator connections", "error", err)
			}
		}
		n.log.Info("stopped")
	})
}
