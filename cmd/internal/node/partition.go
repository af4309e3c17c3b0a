package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/metrics"
	"github.com/oncelog/oncelog/cmd/internal/tracing"
	"github.com/oncelog/oncelog/internal/datafile"
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
func StartPartition(ctx context.Context, cfg *config.Partition, log *slog.Logger) (*Partition, error) {
	return startPartition(ctx, cfg, nil, log)
}

// startPartition adds the metrics of the node to all, if that is not nil.
func startPartition(ctx context.Context, cfg *config.Partition, all *metrics.Registry, log *slog.Logger) (_ *Partition, err error) {
	log = log.With("role", "partition", "node_id", cfg.NodeID)
	n := &Partition{process: newProcess(log)}
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
		Seeds: cfg.Coordinators, Credentials: security.dial, DialOptions: []grpc.DialOption{grpc.WithKeepaliveParams(peerKeepalive)},
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
		OpenStore:  func(cluster string) (*raftstore.Store, error) { return n.openStore(cfg, security, cluster) },
		Access:     authority, MaxStaleness: cfg.AuthorizationMaxStaleness,
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
	}
	n.node.RegisterClient(n.client.server)
	oncelogv1.RegisterDebugServiceServer(n.client.server, &diagnostics{settings: cfg, register: func(r *metrics.Registry) {
		r.Node(metrics.RolePartition, cfg.NodeID, Version()).Partition(n.node, n.store)
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
		resolve: n.node.ResolvePeer, log: n.log, separateFrom: SeparateFrom,
	})
	n.store, n.transport, n.cluster = store, transport, cluster
	return store, err
}

// noteDamage has the next start give up a data directory of which the log is damaged.
func (n *Partition) noteDamage(dir string, err error) {
	if !errors.Is(err, raftstore.ErrCorrupt) {
		return
	}
	if failed := partition.NoteDamage(datafile.Directory(dir), err); failed != nil {
		n.log.Error("cannot write down that the log is damaged", "error", failed)
		return
	}
	n.log.Error("the log is damaged: the next start gives this data directory up, and has its replicas made anew from their peers",
		"data_dir", dir, "damage", err)
}

// putAside renames a directory, in the place of one that was put aside before, and is
// content if it is gone already.
func putAside(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	aside := dir + ".damaged"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Rename(dir, aside); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
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
