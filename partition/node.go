package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/internal/clock"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/raftstore"
)

// closeGrace is how much longer than its context [Node.Close] waits, twice at
// most, for what should take no time.
const closeGrace = 500 * time.Millisecond

// Node is one partition node. Make it with [New], start it with [Node.Start],
// end it with [Node.Close]. Its services answer UNAVAILABLE before and after.
type Node struct {
	cfg      Config
	run      *task.Runtime
	log      *slog.Logger
	started  time.Time
	routing  *routing
	keys     token.Keyring
	enlist   *enlister
	counters counters
	backups  backups
	appends  *shared // bytes of the streams

	beat    chan struct{} // wakes the heartbeat: something to report
	fatal   chan error    // see Fatal
	closing chan struct{} // closed when requests end
	ctx     context.Context
	cancel  context.CancelFunc // ends the background work
	work    task.Group

	// reads is entered to read rows or entries: a store must not be closed under
	// a reader.
	reads gate

	mu         sync.RWMutex
	id         identity
	assignment *oncelogv1.HeartbeatResponse
	store      *raftstore.Store
	shards     map[uint64]*shard
	closed     bool
	// stray are copies on the disk that no assignment names, by shard their lives:
	// the node stopped while it dropped them, or before it wrote down that it has them.
	stray map[uint64]uint32
	// lost are copies that were found damaged; the slice is replaced, never changed.
	lost []LostReplica
	// draining: leaderships are to go elsewhere.
	draining atomic.Bool
	// clock is this node's against that of the coordinator that answers heartbeats.
	clock *clock.Watch
}

// New checks the configuration and opens the identity of the disk. It refuses
// the disk of another node with NODE_ID_IN_USE.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, run: cfg.Runtime, log: cfg.Logger, started: cfg.Runtime.Now(), routing: newRouting(),
		beat: make(chan struct{}, 1), fatal: make(chan error, 1), closing: make(chan struct{}),
		shards: map[uint64]*shard{}, stray: map[uint64]uint32{}, appends: newShared(int(cfg.MaxAppendBytes)),
		clock: clock.NewWatch(cfg.Logger),
	}
	n.ctx, n.cancel = n.run.WithCancel(context.Background())
	n.enlist = newEnlister(n)
	if n.id, err = openIdentity(cfg.Files, cfg.NodeID, cfg.InstanceID); err != nil {
		return nil, err
	}
	n.assignment, err = loadAssignment(cfg.Files)
	if errors.Is(err, datafile.ErrDamaged) {
		// The coordinator has it. Until it answers, no shard is served here.
		n.log.Error("last assignment is lost; waiting for the coordinator", "error", err)
		n.assignment, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := n.checkLevel(n.assignment); err != nil {
		return nil, err
	}
	if c, ok := cfg.Coordinator.(*CoordinatorClient); ok {
		c.learn(n.assignment)
	}
	return n, nil
}

// Start opens the store and the shards of the last assignment and begins to
// work. A node that has been in a cluster before needs no coordinator for that.
// A new one registers first, and repeats it until ctx ends or the node is
// closed; the errors of that are WRONG_CLUSTER, NODE_ID_IN_USE, ctx's and
// context.Canceled. Start is called once.
func (n *Node) Start(ctx context.Context) error {
	if err := n.repairDamaged(ctx); err != nil {
		return err
	}
	if err := n.missLog(); err != nil {
		return err
	}
	registered := false
	if n.clusterID() == "" {
		if err := n.registerUntilDone(ctx); err != nil {
			return err
		}
		registered = true
	}
	store, err := n.cfg.OpenStore(n.clusterID())
	if err != nil {
		return fmt.Errorf("open raft store: %w", err)
	}
	n.mu.Lock()
	closed := n.closed
	if !closed {
		n.store = store
	}
	n.mu.Unlock()
	if closed {
		return errors.Join(errors.New("partition: node was closed"), store.Close(ctx))
	}
	if registered {
		if err := n.settle(store); err != nil {
			return err
		}
	}
	if err := n.checkLog(store, n.assignment); err != nil {
		return err
	}
	if err := n.adopt(n.assignment); err != nil {
		return err
	}
	n.goWork(func() { n.heartbeats(registered) })
	n.goWork(n.enlist.run)
	n.giveUpLost()
	n.goWork(n.compactions)
	return nil
}

// goWork runs fn in the background until Close, which waits for it.
func (n *Node) goWork(fn func()) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.closed {
		n.work.Go(n.run, fn)
	}
}

// Fatal receives at most one error: the node cannot go on, and its process
// should close it and exit. Failures of the store are told to the OnFatal of
// raftstore's Config instead.
func (n *Node) Fatal() <-chan error { return n.fatal }

func (n *Node) fail(err error) {
	n.log.Error("partition node cannot go on", "error", err)
	select {
	case n.fatal <- err:
	default:
	}
}

// Close ends reads, hands every led shard to another member, and closes the
// store. Appends that are under way meanwhile are answered. ctx bounds the
// hand-over; the node is closed in any case, and only what hangs longer than
// closeGrace behind the end of ctx is left behind, with an error: background
// work, and, with the store still open, a read. The Raft transport must work
// until Close returns.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	store := n.store
	n.mu.Unlock()
	n.cancel()
	var hangs error
	if !n.ends(ctx, n.workEnded()) {
		hangs = errors.New("partition: background work hangs")
	}
	read := n.reads.shut()
	close(n.closing)
	if !n.ends(ctx, read) {
		return errors.Join(hangs, errors.New("partition: a read hangs; the store is left open"))
	}
	if store == nil {
		return hangs
	}
	return errors.Join(hangs, store.Close(ctx))
}

// workEnded returns a channel that is closed when the background work has ended.
func (n *Node) workEnded() <-chan struct{} {
	ended := make(chan struct{})
	n.run.Go(func() {
		defer close(ended)
		n.work.Wait(n.run)
	})
	return ended
}

// ends waits for done until ctx ends, and a moment longer: what does not hang
// takes no more. False: it hangs.
func (n *Node) ends(ctx context.Context, done <-chan struct{}) bool {
	return n.run.Wait(done, ctx.Done()) == 0 || n.run.WaitFor(closeGrace, done) == 0
}

func (n *Node) isClosing() bool { return task.Closed(n.closing) }

// reading lets fn read rows and entries, unless the store is going away.
func (n *Node) reading(fn func() error) error {
	if !n.reads.enter() {
		return unavailable()
	}
	defer n.reads.leave()
	return fn()
}

func (n *Node) clusterID() string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.id.cluster
}

func (n *Node) shard(id uint64) *shard {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.shards[id]
}

// allShards returns the shards by id.
func (n *Node) allShards() []*shard {
	n.mu.RLock()
	defer n.mu.RUnlock()
	out := make([]*shard, 0, len(n.shards))
	for _, id := range slices.Sorted(maps.Keys(n.shards)) {
		out = append(out, n.shards[id])
	}
	return out
}

// adopt makes an assignment the one that is served.
func (n *Node) adopt(a *oncelogv1.HeartbeatResponse) error {
	n.keys.Set(tokenKeys(a))
	n.routing.set(a)
	n.learnRules(a.GetAcls())
	lost := n.Lost()
	for _, sa := range a.GetShards() {
		if isLost(lost, sa) {
			continue
		}
		if s := n.shard(sa.GetShardId()); s != nil {
			s.assigned.Store(sa)
			task.Signal(s.duty)
			continue
		}
		if !n.isReplica(sa) {
			n.log.Error("assigned a shard that is not this node's", "shard", sa.GetShardId(), "replicas", sa.GetReplicas())
			continue
		}
		if err := n.host(sa); err != nil {
			return err
		}
	}
	n.mu.Lock()
	n.assignment = a
	n.mu.Unlock()
	return nil
}

// isReplica reports whether an assigned shard is this node's.
func (n *Node) isReplica(sa *oncelogv1.ShardAssignment) bool {
	return sa.GetShardId() != 0 && (sa.GetJoin() || slices.Contains(sa.GetReplicas(), n.cfg.NodeID))
}

// missLog refuses a directory of a cluster without a log. The log is made before the
// directory is written down as one of a cluster, so it was deleted since, and with it
// what this node has voted and acknowledged; perhaps also what it remembers to host.
func (n *Node) missLog() error {
	if n.cfg.HasLog == nil || n.clusterID() == "" {
		return nil
	}
	switch there, err := n.cfg.HasLog(); {
	case err != nil:
		return fmt.Errorf("look for the log: %w", err)
	case !there:
		return fmt.Errorf("the log of a node of cluster %s is gone from %s: %w", n.clusterID(), datafile.PlaceOf(n.cfg.Files), raftstore.ErrCorrupt)
	}
	return nil
}

// settle writes down that a new directory is one of the cluster. It refuses a log that
// has shards already: nobody knows whose they are, and shards of another cluster may
// have the same ids. The log is not damaged, so nothing is put aside for that.
func (n *Node) settle(store *raftstore.Store) error {
	kept, err := store.Groups()
	if err != nil {
		return fmt.Errorf("list shards: %w", err)
	}
	if len(kept) > 0 {
		return fmt.Errorf("partition: %s is new, and the log beside it has %d shards: nobody knows whose those are; "+
			"bring the old file back, or delete the log as well", datafile.PathOf(n.cfg.Files, IdentityFile), len(kept))
	}
	n.mu.RLock()
	id := n.id
	n.mu.RUnlock()
	return id.write(n.cfg.Files)
}

// checkLog refuses a log that lacks shards which this disk remembers to have
// kept: it was deleted, or is another one. With an empty log in its place this
// node would vote again in terms in which it has voted, and count towards
// majorities for entries that it acknowledged and no longer has.
func (n *Node) checkLog(store *raftstore.Store, a *oncelogv1.HeartbeatResponse) error {
	kept, err := store.Groups()
	if err != nil {
		return fmt.Errorf("list shards: %w", err)
	}
	for _, sa := range a.GetShards() {
		if n.isReplica(sa) && !isLost(n.Lost(), sa) && !slices.Contains(kept, raftstore.GroupID(sa.GetShardId())) {
			return fmt.Errorf("the log of shard %d is gone: %w", sa.GetShardId(), raftstore.ErrCorrupt)
		}
	}
	for _, id := range kept {
		if !slices.ContainsFunc(a.GetShards(), func(sa *oncelogv1.ShardAssignment) bool { return sa.GetShardId() == uint64(id) }) {
			if err := n.findStray(store, uint64(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// findStray notes a copy that is not open, for the coordinator to tell what it is.
func (n *Node) findStray(store *raftstore.Store, shard uint64) error {
	life, err := store.Life(raftstore.GroupID(shard))
	if err != nil {
		return fmt.Errorf("shard %d: %w", shard, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stray[shard] = life
	return nil
}

// host begins to keep a shard.
func (n *Node) host(a *oncelogv1.ShardAssignment) error {
	n.mu.RLock()
	store := n.store
	n.mu.RUnlock()
	s, err := n.openShard(store, a)
	switch {
	case errors.Is(err, raftstore.ErrStopped):
		return err
	case errors.Is(err, raftstore.ErrOtherLife):
		// The node stopped before it wrote down that it had joined again.
		return n.findStray(store, a.GetShardId())
	case errors.Is(err, raftstore.ErrCorrupt):
		return fmt.Errorf("shard %d: the node must not start from this disk: %w", a.GetShardId(), err)
	case err != nil:
		return fmt.Errorf("open shard %d: %w", a.GetShardId(), err)
	}
	n.mu.Lock()
	n.shards[s.id] = s
	delete(n.stray, s.id)
	n.mu.Unlock()
	// What the shard signalled before it was listed met nobody who knew it.
	s.leadershipChanged()
	n.log.Info("hosting shard", "shard", s.id, "replicas", a.GetReplicas(), "partitions", len(a.GetPartitions()))
	n.goWork(s.runDuties)
	return n.made(s.id)
}

// RegisterClient registers the services of the client address.
func (n *Node) RegisterClient(s grpc.ServiceRegistrar) {
	oncelogv1.RegisterLogServiceServer(s, logService{n: n})
	oncelogv1.RegisterStatusServiceServer(s, statusService{n: n})
	oncelogv1.RegisterShardBackupServiceServer(s, shardBackupService{n: n})
}

// RegisterPeer registers the services of the peer address, except the Raft
// transport's.
func (n *Node) RegisterPeer(s grpc.ServiceRegistrar) {
	oncelogv1.RegisterShardServiceServer(s, shardService{n: n})
}

// logService is the gRPC edge for clients.
type logService struct {
	oncelogv1.UnimplementedLogServiceServer
	n *Node
}

// shardService is the gRPC edge for the coordinator.
type shardService struct {
	oncelogv1.UnimplementedShardServiceServer
	n *Node
}

// failure turns err into what a handler returns: nil stays nil, and a typed nil
// never becomes an error.
func failure(err *apierrors.Error) error {
	if err == nil {
		return nil
	}
	return err
}
