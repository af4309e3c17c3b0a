package node

import (
	"context"
	"log/slog"
	"path/filepath"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/metrics"
	"github.com/oncelog/oncelog/cmd/internal/tracing"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
	"github.com/oncelog/oncelog/raftstore/rafttransport"
)

// SeparateFrom is the size from which on log entries of a partition node are
// kept out of the tables of the log device: they are the data and stay.
const SeparateFrom = 512

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
func StartPartition(ctx context.Context, cfg *config.Partition, log *slog.Logger, options ...Option) (*Partition, error) {
	return startPartition(ctx, cfg, nil, log, options...)
}

// startPartition adds the metrics of the node to all, if that is not nil.
func startPartition(ctx context.Context, cfg *config.Partition, all *metrics.Registry, log *slog.Logger, options ...Option) (_ *Partition, err error) {
	log = log.With("role", "partition", "node_id", cfg.NodeID)
	n := &Partition{process: newProcess(log)}
	n.change(options)
	defer func() {
		if err != nil {
			n.noteDamage(cfg.DataDir, err)
			closeAll(context.WithoutCancel(ctx), []running{n})
		}
	}()
	if err := ownedBy(cfg.DataDir, coordinatorFile, "coordinator node"); err != nil {
		return nil, err
	}
	if err := usableDir(cfg.DataDir); err != nil {
		return nil, err
	}
	security, err := secure(&cfg.TLS, cfg.MetricsTLS, log)
	if err != nil {
		return nil, err
	}
	if n.tracing, err = tracing.Open(cfg.TracingEndpoint, metrics.RolePartition, cfg.NodeID, Version(), log); err != nil {
		return nil, err
	}
	gate, authority, err := gate(&cfg.Access, log)
	if err != nil {
		return nil, err
	}
	if n.coordinator, err = partition.NewCoordinatorClient(partition.CoordinatorClientConfig{
		Seeds: cfg.Coordinators, Runtime: n.run, Credentials: security.dial, DialOptions: []grpc.DialOption{grpc.WithKeepaliveParams(peerKeepalive)},
	}); err != nil {
		return nil, err
	}
	if n.node, err = partition.New(partition.Config{
		NodeID: cfg.NodeID, ClientAddress: cfg.ClientAddress(), PeerAddress: cfg.PeerAddress(),
		DataDir: cfg.DataDir, Coordinator: n.coordinator, Logger: log, Tracer: n.tracing.Tracer(), Version: Version(), MaxFormatLevel: cfg.MaxFormatLevel,
		EnlistDelay: cfg.EnlistDelay, EnlistInterval: cfg.EnlistInterval,
		RetentionInterval: cfg.RetentionCheckInterval, MaxAppendBytes: inflightBytes(cfg.Limits) / 2,
		HasLog:     func() (bool, error) { return pebblelog.Exists(filepath.Join(cfg.DataDir, "log")) },
		DiscardLog: func() error { return putAside(filepath.Join(cfg.DataDir, "log")) },
		SalvageLog: func() ([]partition.LostReplica, error) { return salvage(filepath.Join(cfg.DataDir, "log"), log) },
		ReplaceLog: func() error { return replaceLog(filepath.Join(cfg.DataDir, "log")) },
		OpenStore:  func(cluster string) (*raftstore.Store, error) { return n.openStore(cfg, security, cluster) },
		Access:     authority, MaxStaleness: cfg.AuthorizationMaxStaleness, Runtime: n.run,
	}); err != nil {
		return nil, err
	}
	// The addresses are opened first: a wrong one must not cost a registration.
	if err := n.monitor(cfg.MetricsListen, security.metrics, all, metrics.RolePartition, cfg.NodeID); err != nil {
		return nil, err
	}
	gate.Authorize = func(ctx context.Context, method string, _ any) error { return n.node.Authorize(ctx, method) }
	if err := n.listen(cfg.ClientListen, cfg.PeerListen, security, gate, cfg.Limits); err != nil {
		return nil, err
	}
	if err := n.node.Start(ctx); err != nil {
		return nil, err
	}
	if n.metrics.node != nil {
		n.metrics.node.Partition(n.node, n.store)
		n.metrics.node.Limits(n.bounds.report)
	}
	n.node.RegisterClient(n.client.server)
	oncelogv1.RegisterDebugServiceServer(n.client.server, &diagnostics{settings: cfg, register: func(r *metrics.Registry) {
		node := r.Node(metrics.RolePartition, cfg.NodeID, Version())
		node.Partition(n.node, n.store)
		node.Limits(n.bounds.report)
	}})
	n.node.RegisterPeer(n.peer.server)
	oncelogv1.RegisterRaftServiceServer(n.peer.server,
		rafttransport.NewServer(raftstore.NodeID(cfg.NodeID), n.cluster, n.store))
	n.serve()
	go n.watch(cfg.DataDir)
	go n.followDisk(n.store, oncelogv1.LogService_ServiceDesc.ServiceName)
	return n, nil
}

// openStore is called by the node once its cluster is known.
func (n *Partition) openStore(cfg *config.Partition, s security, cluster string) (*raftstore.Store, error) {
	store, transport, _, err := openStore(storeConfig{
		failed: func(err error) {
			n.noteDamage(cfg.DataDir, err)
			n.fail(err)
		},
		node: cfg.NodeID, cluster: cluster, dir: cfg.DataDir, raft: cfg.Raft, creds: s.dial,
		resolve: n.node.ResolvePeer, log: n.log, separateFrom: SeparateFrom, runtime: n.run,
	})
	n.store, n.transport, n.cluster = store, transport, cluster
	return store, err
}

// watch passes on that the node itself cannot go on.
func (n *Partition) watch(dir string) {
	select {
	case err := <-n.node.Fatal():
		n.noteDamage(dir, err)
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
		n.stopTracing(ctx)
		n.log.Info("stopped")
	})
}
