package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/api/level"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/clock"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/internal/trace"
	"github.com/oncelog/oncelog/raftstore"
)

// GroupID is the Raft group of the coordinator; it has a store of its own, so
// the number is shared with nobody.
const GroupID raftstore.GroupID = 1

// Defaults of [Config].
const (
	// DefaultExpireGrace is how long a new leader expires nothing: producers
	// had nobody to send their commits to, and need time to find it.
	DefaultExpireGrace = 5 * time.Second
	// DefaultAckDelay is how long acknowledgements of markers are gathered into
	// one log entry while nobody waits for them: long enough that those of all
	// shards of a large transaction, whose markers stand behind other records,
	// come together.
	DefaultAckDelay = 100 * time.Millisecond
	// DefaultNodeTimeout is after how long without a heartbeat a partition node
	// counts as dead, for display and for the placement of new shards.
	DefaultNodeTimeout = 10 * time.Second
	// DefaultTransactionTimeout, DefaultMaxTransactionTimeout and
	// DefaultIDExpiration are Kafka's transaction.timeout.ms,
	// transaction.max.timeout.ms and transactional.id.expiration.ms.
	DefaultTransactionTimeout    = time.Minute
	DefaultMaxTransactionTimeout = 15 * time.Minute
	DefaultIDExpiration          = 7 * 24 * time.Hour
	// DefaultIdleInterval is how often a leader looks for transactional ids that
	// have been idle for that long.
	DefaultIdleInterval = time.Minute
)

// Rules are what every replica decides by. They are part of the meaning of the
// log and never come from a node's settings: two replicas with different rules
// would differ for ever, and so would one that is restarted with new ones. They
// are wide; what a leader asks for within them is in [Config].
func Rules() txn.Config {
	rules := txn.DefaultConfig()
	rules.MinTimeout = (100 * time.Millisecond).Milliseconds()
	rules.MaxTimeout = (24 * time.Hour).Milliseconds()
	rules.IDExpiration = time.Minute.Milliseconds()
	return rules
}

// Member is one coordinator node.
type Member struct {
	// ID is its node id, at least 1.
	ID uint64
	// ClientAddress and PeerAddress are where clients and nodes reach it.
	ClientAddress, PeerAddress string
}

// Config describes one coordinator node.
type Config struct {
	// NodeID is the member that this process is.
	NodeID uint64
	// Members are the coordinator nodes that the cluster begins with, this one
	// included, the same on all of them. Once it has begun the members are
	// replicated state: of this list a node takes its own addresses, and asks the
	// others until it knows better. With Join they are this one and any of those
	// that there are.
	Members []Member
	// Join is for a node that is added to a cluster that there is: it takes part in
	// Raft once the leader has its data directory in the log. Needs Files. A
	// directory that has joined ignores it.
	Join bool
	// Store keeps the group's log. The caller opened it and closes it, after
	// [Coordinator.Close].
	Store *raftstore.Store
	// Files keeps the identity of the data directory; see identity. Nil: the node
	// vouches that its disk is the one it always had, as in tests.
	Files datafile.Files
	// LogID names the database of the log: drawn when it is made, at most 64 bytes.
	// Required with Files.
	LogID string
	// DialPeer connects to the peer address of a partition node, or of another
	// member. It must return at once and connect in the background.
	DialPeer func(address string) (grpc.ClientConnInterface, error)
	// DefaultTimeout and MaxTimeout are the timeout of a transaction whose
	// producer names none, and the longest that may be asked for. IDExpiration is
	// how long a transactional id may be idle before it is forgotten, at least a
	// minute. 0 takes the default. They are what this node asks for as a leader,
	// and are written into its commands: members may differ, and an old log means
	// the same under new settings.
	DefaultTimeout, MaxTimeout, IDExpiration time.Duration
	// Txn are the rules of the state machine, the same on all members for the
	// life of the log. Leave it empty outside of tests: the zero value takes
	// [Rules].
	Txn txn.Config
	// Quotas of principals; none by default.
	Quotas Quotas
	// Settings are the catalogue's settings of a new cluster.
	Settings catalog.Settings
	// ExpireGrace, AckDelay, NodeTimeout and IdleInterval: 0 takes the default.
	ExpireGrace, AckDelay, NodeTimeout, IdleInterval time.Duration
	// SnapshotEntries is after how many entries the log is compacted; 0 takes
	// the store's default.
	SnapshotEntries uint64
	// Runtime runs the tasks, and its clock stamps commands; the store's. Nil:
	// the machine.
	Runtime *task.Runtime
	// Logger gets what operators want to know; nil: nothing.
	Logger *slog.Logger
	// Tracer makes spans of decisions and markers; nil: there are none.
	Tracer trace.Tracer
	// Access decides who may do what; nil: everybody may do everything. See
	// [Coordinator.Authorize], which whoever serves the client address has to ask.
	Access *access.Authority
	// Version is the program's, shown in the status.
	Version string
	// MaxFormatLevel is the level of formats up to which this node takes part; see
	// package level. 0, and what is above it, is level.Newest.
	MaxFormatLevel uint32
}

// Coordinator is one coordinator node.
type Coordinator struct {
	cfg      Config
	rt       *task.Runtime
	log      *slog.Logger
	state    *replica
	identity keptIdentity
	book     addressBook
	// group is set once opened is: by New, or once this node has joined.
	group     *raftstore.Group
	opened    atomic.Bool
	fatal     chan error
	applied   *notifier // see replica
	placed    *notifier // see replica
	registry  *registry
	sessions  *sessions
	silence   silence
	keys      *token.Keyring
	peers     *peerConns
	idBlock   *idBlock
	quotas    *quotas
	clock     *clock.Watch
	startedAt time.Time

	counters counters // of what was done here as a leader
	// decisions remembers whose markers are traced. It is not replicated: a new leader
	// sends the markers of the old one's decisions without.
	decisions *trace.Memory[txn.Ref]

	// wanting is how many callers wait for markers: acknowledgements are then
	// logged at once.
	wanting atomic.Int64
	// watchers is how many streams of WatchTransactions there are.
	watchers atomic.Int64
	// hurry tells the sender of markers that somebody begins to wait.
	hurry chan struct{}

	// departed is closed when this node is no member of the Raft group any more.
	departed chan struct{}
	// closing is closed when Close begins: every wait ends.
	closing <-chan struct{}
	stop    context.CancelFunc
	stopped task.Group
}

// New opens the coordinator's group in the store and starts its duties. With a
// data directory that is new it introduces itself to the other members first, or
// with Join to their leader, in the background; until then its services answer
// UNAVAILABLE.
func New(cfg Config) (*Coordinator, error) {
	if !slices.ContainsFunc(cfg.Members, func(m Member) bool { return m.ID == cfg.NodeID }) {
		return nil, fmt.Errorf("coordinator: node id %d is not among the members; give every member the same list", cfg.NodeID)
	}
	switch {
	case cfg.Store == nil || cfg.DialPeer == nil:
		return nil, errors.New("coordinator: Store and DialPeer are required")
	case len(cfg.Members) > maxMembers:
		return nil, fmt.Errorf("coordinator: %d members, at most %d are possible", len(cfg.Members), maxMembers)
	case cfg.Join && cfg.Files == nil:
		return nil, errors.New("coordinator: Join needs Files")
	case cfg.Files != nil && (cfg.LogID == "" || len(cfg.LogID) > catalog.MaxInstanceBytes):
		return nil, fmt.Errorf("coordinator: LogID must have 1 to %d bytes", catalog.MaxInstanceBytes)
	}
	setDefault(&cfg.ExpireGrace, DefaultExpireGrace)
	setDefault(&cfg.AckDelay, DefaultAckDelay)
	setDefault(&cfg.NodeTimeout, DefaultNodeTimeout)
	setDefault(&cfg.IdleInterval, DefaultIdleInterval)
	setDefault(&cfg.DefaultTimeout, DefaultTransactionTimeout)
	setDefault(&cfg.MaxTimeout, DefaultMaxTransactionTimeout)
	setDefault(&cfg.IDExpiration, DefaultIDExpiration)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Tracer = trace.Or(cfg.Tracer)
	if cfg.Txn == (txn.Config{}) {
		cfg.Txn = Rules()
	}
	cfg.MaxFormatLevel = level.Cap(cfg.MaxFormatLevel)
	// The machine bounds the rules; errors must name the bounds that hold.
	cfg.Txn = txn.New(cfg.Txn).Config()
	ctx, stop := cfg.Runtime.WithCancel(context.Background())
	c := &Coordinator{
		cfg:       cfg,
		rt:        cfg.Runtime,
		log:       cfg.Logger,
		applied:   newNotifier(),
		placed:    newNotifier(),
		registry:  newRegistry(),
		sessions:  newSessions(),
		keys:      &token.Keyring{},
		peers:     newPeerConns(cfg.DialPeer),
		idBlock:   newIDBlock(cfg.Runtime),
		quotas:    newQuotas(cfg.Quotas, cfg.Runtime),
		clock:     clock.NewWatch(cfg.Logger),
		startedAt: cfg.Runtime.Now(),
		hurry:     make(chan struct{}, 1),
		fatal:     make(chan error, 1),
		departed:  make(chan struct{}),
		counters:  newCounters(),
		decisions: trace.NewMemory[txn.Ref](tracedDecisions),
		closing:   ctx.Done(),
		stop:      stop,
	}
	c.state = newReplica(cfg.Txn, c.keys, cfg.MaxFormatLevel, c.applied, c.placed)
	if cfg.Files != nil {
		id, err := openIdentity(cfg)
		if err != nil {
			stop()
			return nil, err
		}
		c.identity.id = id
		if !id.joined {
			c.stopped.Go(c.rt, func() { c.join(ctx) })
			return c, nil
		}
	}
	if err := c.open(ctx); err != nil {
		stop()
		return nil, err
	}
	return c, nil
}

// open opens the group: from now on this node takes part in Raft.
func (c *Coordinator) open(ctx context.Context) error {
	cfg := raftstore.GroupConfig{
		ID: GroupID, Machine: c.state, SnapshotEntries: c.cfg.SnapshotEntries, OnRemoved: func() { close(c.departed) },
	}
	for _, id := range c.founders() {
		cfg.Members = append(cfg.Members, raftstore.NodeID(id))
	}
	cfg.Join = len(cfg.Members) == 0
	group, err := c.cfg.Store.CreateGroup(cfg)
	if err != nil {
		return fmt.Errorf("coordinator: opening the group: %w", err)
	}
	c.group = group
	c.opened.Store(true)
	c.stopped.Go(c.rt, func() { c.followLeadership(ctx) })
	c.stopped.Go(c.rt, func() { c.awaitRemoval(ctx) })
	c.stopped.Go(c.rt, func() { c.compareClocks(ctx) })
	if c.cfg.Files != nil {
		c.stopped.Go(c.rt, func() { c.announce(ctx) })
	}
	return nil
}

// founders are the members that the cluster began with; none: this one came later.
func (c *Coordinator) founders() []uint64 {
	if c.cfg.Files == nil {
		return memberIDs(c.cfg.Members)
	}
	return c.identity.get().members
}

// Close ends the duties and the waits of requests: what they wait for does not
// come from here any more. Requests that are waiting for the log are answered by
// the store when it closes. Closing twice is no error.
func (c *Coordinator) Close() {
	c.stop()
	c.stopped.Wait(c.rt)
	c.peers.close()
}

// office is one term in which this node leads.
type office struct {
	term   uint64
	resign context.CancelFunc
	duties task.Group
}

// leave ends the duties of the term and waits for them.
func (o *office) leave(rt *task.Runtime) {
	if o != nil {
		o.resign()
		o.duties.Wait(rt)
	}
}

// followLeadership runs the duties of a leader for as long as this node leads.
// Only the newest leadership matters.
func (c *Coordinator) followLeadership(ctx context.Context) {
	var held *office
	defer func() { held.leave(c.rt) }()
	for ctx.Err() == nil {
		l, changed := c.group.LeadershipChanged()
		if held == nil || !l.Ready || l.Term != held.term {
			held.leave(c.rt)
			held = nil
			if l.Ready {
				held = c.takeOffice(ctx, l.Term)
			}
		}
		c.rt.Wait(changed, ctx.Done())
	}
}

// takeOffice starts the duties of a term, with nothing remembered of an earlier
// one.
func (c *Coordinator) takeOffice(ctx context.Context, term uint64) *office {
	c.log.Info("this node leads the coordinator", "term", term)
	c.begin(term)
	c.idBlock.reset()
	ctx, resign := c.rt.WithCancel(ctx)
	o := &office{term: term, resign: resign}
	o.duties.Go(c.rt, func() { newDuties(c).run(ctx) })
	return o
}

func setDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}
