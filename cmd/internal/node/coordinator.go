package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/datafile"
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
	transport   *rafttransport.Transport
	store       *raftstore.Store
}

// StartCoordinator starts a coordinator node. Ports of 0 are taken freely, which
// is of use only in a cluster of one.
func StartCoordinator(cfg *config.Coordinator, log *slog.Logger) (_ *Coordinator, err error) {
	log = log.With("role", "coordinator", "node_id", cfg.NodeID)
	n := &Coordinator{process: newProcess(log)}
	defer func() {
		if err != nil {
			n.Close(context.Background())
		}
	}()
	if err := ownedBy(cfg.DataDir, partitionFile, "partition node"); err != nil {
		return nil, err
	}
	var logID string
	if n.store, n.transport, logID, err = openCoordinatorStore(cfg, log, n.fail); err != nil {
		return nil, err
	}
	n.coordinator, err = coordinator.New(coordinator.Config{
		NodeID: cfg.NodeID, Members: coordinatorMembers(cfg.Members),
		Files: datafile.Directory(cfg.DataDir), LogID: logID,
		Store: n.store, DialPeer: dialPeer, Logger: log, Version: Version(),
		DefaultTimeout: cfg.TransactionTimeoutDefault, MaxTimeout: cfg.TransactionTimeoutMax,
		IDExpiration: cfg.TransactionalIDExpiration,
		Settings:     catalog.Settings{ShardsPerNode: cfg.ShardsPerNode},
	})
	if err != nil {
		return nil, err
	}
	if err := n.listen(cfg.ClientListen, cfg.PeerListen); err != nil {
		return nil, err
	}
	n.coordinator.RegisterClient(n.client.server)
	n.coordinator.RegisterPeer(n.peer.server)
	oncelogv1.RegisterRaftServiceServer(n.peer.server,
		rafttransport.NewServer(raftstore.NodeID(cfg.NodeID), coordinatorRaft, n.store))
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
		n.log.Info("stopped")
	})
}

func openCoordinatorStore(cfg *config.Coordinator, log *slog.Logger, failed func(error)) (*raftstore.Store, *rafttransport.Transport, string, error) {
	addresses := map[raftstore.NodeID]string{}
	for _, m := range cfg.Members {
		addresses[raftstore.NodeID(m.ID)] = m.PeerAddress
	}
	resolve := func(id raftstore.NodeID) (string, bool) {
		a, ok := addresses[id]
		return a, ok
	}
	return openStore(storeConfig{
		node: cfg.NodeID, cluster: coordinatorRaft, dir: cfg.DataDir, raft: cfg.Raft, resolve: resolve, failed: failed, log: log,
	})
}

// storeConfig is what both kinds of node tell about their log.
type storeConfig struct {
	node    uint64
	cluster string
	dir     string
	raft    config.Raft
	resolve func(raftstore.NodeID) (string, bool)
	failed  func(error)
	log     *slog.Logger
	// separateFrom is pebblelog's SeparateValuesFrom.
	separateFrom int
}

// openStore opens the log device of a node and the transport that serves it. id
// names the device.
func openStore(c storeConfig) (_ *raftstore.Store, _ *rafttransport.Transport, id string, err error) {
	dir := filepath.Join(c.dir, "log")
	device, err := pebblelog.Open(pebblelog.Config{Dir: dir, SeparateValuesFrom: c.separateFrom, Logger: c.log})
	if errors.Is(err, syscall.EAGAIN) { // what locking the directory answers
		return nil, nil, "", fmt.Errorf("%s is in use by another process: stop that, or give another data directory (%w)", c.dir, err)
	}
	if err != nil {
		return nil, nil, "", err
	}
	transport := rafttransport.New(rafttransport.Config{
		Self: raftstore.NodeID(c.node), ClusterID: c.cluster, Resolve: c.resolve,
		DialOptions: []grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithKeepaliveParams(peerKeepalive),
		},
		Logger: c.log,
	})
	store, err := raftstore.Open(raftstore.Config{
		NodeID: raftstore.NodeID(c.node), Log: device, Transport: transport,
		TickInterval: c.raft.TickInterval, ElectionTicks: c.raft.ElectionTicks, HeartbeatTicks: c.raft.HeartbeatTicks,
		MinFreeBytes: int64(c.raft.MinFreeBytes), Logger: c.log, OnFatal: c.failed,
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
func dialPeer(address string) (grpc.ClientConnInterface, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithKeepaliveParams(peerKeepalive),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
	)
}
