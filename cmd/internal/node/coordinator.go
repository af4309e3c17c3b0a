package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/metrics"
	"github.com/oncelog/oncelog/cmd/internal/tracing"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
	"github.com/oncelog/oncelog/raftstore/rafttransport"
)

// coordinatorRaft is what coordinators call their Raft cluster: it is there
// before the cluster has an id.
const coordinatorRaft = "coordinator"

// Coordinator is a running coordinator node.
type Coordinator struct {
	process
	coordinator *coordinator.Coordinator
	// addresses is coordinator, once it is there, for the transport.
	addresses atomic.Pointer[coordinator.Coordinator]
	transport *rafttransport.Transport
	store     *raftstore.Store
}

// StartCoordinator starts a coordinator node. Ports of 0 are taken freely, which
// is of use only in a cluster of one.
func StartCoordinator(cfg *config.Coordinator, log *slog.Logger, options ...Option) (*Coordinator, error) {
	return startCoordinator(cfg, nil, log, options...)
}

// startCoordinator adds the metrics of the node to all, if that is not nil.
func startCoordinator(cfg *config.Coordinator, all *metrics.Registry, log *slog.Logger, options ...Option) (_ *Coordinator, err error) {
	log = log.With("role", "coordinator", "node_id", cfg.NodeID)
	n := &Coordinator{process: newProcess(log)}
	n.change(options)
	defer func() {
		if err != nil {
			n.Close(context.Background())
		}
	}()
	if err := ownedBy(cfg.DataDir, partitionFile, "partition node"); err != nil {
		return nil, err
	}
	if err := usableDir(cfg.DataDir); err != nil {
		return nil, err
	}
	security, err := secure(&cfg.TLS, cfg.MetricsTLS, log)
	if err != nil {
		return nil, err
	}
	if n.tracing, err = tracing.Open(cfg.TracingEndpoint, metrics.RoleCoordinator, cfg.NodeID, Version(), log); err != nil {
		return nil, err
	}
	gate, authority, err := gate(&cfg.Access, log)
	if err != nil {
		return nil, err
	}
	var logID string
	if n.store, n.transport, logID, err = n.openStore(cfg, security); err != nil {
		return nil, err
	}
	n.coordinator, err = coordinator.New(coordinator.Config{
		NodeID: cfg.NodeID, Members: coordinatorMembers(cfg.Members), Join: cfg.Join,
		Files: datafile.Directory(cfg.DataDir), LogID: logID,
		Store: n.store, DialPeer: security.dialPeer, Logger: log, Tracer: n.tracing.Tracer(), Version: Version(), MaxFormatLevel: cfg.MaxFormatLevel,
		DefaultTimeout: cfg.TransactionTimeoutDefault, MaxTimeout: cfg.TransactionTimeoutMax,
		IDExpiration: cfg.TransactionalIDExpiration, Quotas: coordinator.Quotas(cfg.Quotas),
		Settings: catalog.Settings{ShardsPerNode: cfg.ShardsPerNode},
		Access:   authority, Runtime: n.run,
	})
	if err != nil {
		return nil, err
	}
	if err := n.monitor(cfg.MetricsListen, security.metrics, all, metrics.RoleCoordinator, cfg.NodeID); err != nil {
		return nil, err
	}
	n.addresses.Store(n.coordinator)
	gate.Authorize = n.coordinator.Authorize
	if err := n.listen(cfg.ClientListen, cfg.PeerListen, security, gate, cfg.Limits); err != nil {
		return nil, err
	}
	if n.metrics.node != nil {
		n.metrics.node.Coordinator(n.coordinator, n.store)
		n.metrics.node.Limits(n.bounds.report)
	}
	n.coordinator.RegisterClient(n.client.server)
	oncelogv1.RegisterDebugServiceServer(n.client.server, &diagnostics{settings: cfg, register: func(r *metrics.Registry) {
		node := r.Node(metrics.RoleCoordinator, cfg.NodeID, Version())
		node.Coordinator(n.coordinator, n.store)
		node.Limits(n.bounds.report)
	}})
	n.coordinator.RegisterPeer(n.peer.server)
	oncelogv1.RegisterRaftServiceServer(n.peer.server,
		rafttransport.NewServer(raftstore.NodeID(cfg.NodeID), coordinatorRaft, n.store).WithInstances(n.instance))
	n.serve()
	go n.watch()
	go n.followDisk(n.store, oncelogv1.TransactionService_ServiceDesc.ServiceName)
	return n, nil
}

// watch passes on that the coordinator itself cannot go on.
func (n *Coordinator) watch() {
	select {
	case err := <-n.coordinator.Fatal():
		n.fail(err)
	case <-n.closed:
	}
}

// Close hands leadership over, ends the calls that are under way and closes the
// log. It is safe to call more than once.
func (n *Coordinator) Close(ctx context.Context) {
	n.once.Do(func() {
		close(n.closed)
		n.drain()
		if n.coordinator != nil {
			n.coordinator.Close()
		}
		if n.store != nil {
			if err := n.store.Close(ctx); err != nil {
				n.log.Warn("closing the log", "error", err)
			}
		}
		n.stopListeners(ctx)
		if n.transport != nil {
			if err := n.transport.Close(); err != nil {
				n.log.Debug("closing peer connections", "error", err)
			}
		}
		n.stopTracing(ctx)
		n.log.Info("stopped")
	})
}

// openStore opens the log, with a transport that finds the members where the
// coordinator says, and before that where the settings do.
func (n *Coordinator) openStore(cfg *config.Coordinator, s security) (*raftstore.Store, *rafttransport.Transport, string, error) {
	addresses := map[raftstore.NodeID]string{}
	for _, m := range cfg.Members {
		addresses[raftstore.NodeID(m.ID)] = m.PeerAddress
	}
	resolve := func(id raftstore.NodeID) (string, bool) {
		if c := n.addresses.Load(); c != nil {
			return c.PeerAddress(id)
		}
		a, ok := addresses[id]
		return a, ok
	}
	return openStore(storeConfig{
		node: cfg.NodeID, cluster: coordinatorRaft, dir: cfg.DataDir, raft: cfg.Raft, creds: s.dial, resolve: resolve, instance: n.instance,
		failed: n.fail, log: n.log, runtime: n.run,
	})
}

// instance names the data directory of a member, as the transport wants to know it.
func (n *Coordinator) instance(id raftstore.NodeID) string {
	if c := n.addresses.Load(); c != nil {
		return c.Instance(id)
	}
	return ""
}

// storeConfig is what both kinds of node tell about their log.
type storeConfig struct {
	node    uint64
	cluster string
	dir     string
	raft    config.Raft
	creds   credentials.TransportCredentials // of connections to other nodes
	resolve func(raftstore.NodeID) (string, bool)
	// instance may be nil.
	instance func(raftstore.NodeID) string
	failed   func(error)
	log      *slog.Logger
	// separateFrom is pebblelog's SeparateValuesFrom.
	separateFrom int
	runtime      *task.Runtime
}

// openStore opens the log device of a node and the transport that serves it. id
// names the device.
func openStore(c storeConfig) (_ *raftstore.Store, _ *rafttransport.Transport, id string, err error) {
	dir := filepath.Join(c.dir, "log")
	device, err := pebblelog.Open(pebblelog.Config{Dir: dir, SeparateValuesFrom: c.separateFrom, OnFailure: c.failed, Logger: c.log})
	if errors.Is(err, syscall.EAGAIN) { // what locking the directory answers
		return nil, nil, "", fmt.Errorf("%s is in use by another process: stop that, or give another data directory (%w)", c.dir, err)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return nil, nil, "", fmt.Errorf("the disk of %s is full: make room there, but delete nothing in the directory itself (%w)", c.dir, err)
	}
	if err != nil {
		return nil, nil, "", err
	}
	transport := rafttransport.New(rafttransport.Config{
		Self: raftstore.NodeID(c.node), ClusterID: c.cluster, Resolve: c.resolve, Instance: c.instance,
		DialOptions: []grpc.DialOption{
			grpc.WithTransportCredentials(c.creds),
			grpc.WithKeepaliveParams(peerKeepalive),
		},
		Logger: c.log,
	})
	minFree := int64(c.raft.MinFreeBytes)
	if minFree == 0 {
		minFree = -1 // to the store 0 is its default
	}
	store, err := raftstore.Open(raftstore.Config{
		NodeID: raftstore.NodeID(c.node), Log: device, Transport: transport,
		TickInterval: c.raft.TickInterval, ElectionTicks: c.raft.ElectionTicks, HeartbeatTicks: c.raft.HeartbeatTicks,
		MinFreeBytes: minFree, Logger: c.log, OnFatal: c.failed, Runtime: c.runtime,
	})
	if err != nil {
		return nil, nil, "", errors.Join(fmt.Errorf("open the log in %s: %w", dir, err), device.Close(), transport.Close())
	}
	return store, transport, device.ID(), nil
}

func coordinatorMembers(members []config.Member) []coordinator.Member {
	out := make([]coordinator.Member, 0, len(members))
	for _, m := range members {
		out = append(out, coordinator.Member{ID: m.ID, ClientAddress: m.ClientAddress, PeerAddress: m.PeerAddress})
	}
	return out
}

// peerKeepalive finds out about a peer whose machine vanished without a word. It
// must not be more eager than minClientPing allows.
var peerKeepalive = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}

// dialPeer connects to another node in the background. A node that comes back
// must be found within an election, so gRPC's pauses, which grow to minutes,
// are kept short.
func (s security) dialPeer(address string) (grpc.ClientConnInterface, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(s.dial),
		grpc.WithDisableRetry(),
		grpc.WithKeepaliveParams(peerKeepalive),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
	)
}
