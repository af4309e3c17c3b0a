package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
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
	// one log entry while nobody waits for them.
	DefaultAckDelay = 20 * time.Millisecond
	// DefaultNodeTimeout is after how long without a heartbeat a partition node
	// counts as dead, for display and for the placement of new shards.
	DefaultNodeTimeout = 10 * time.Second
	// DefaultTransactionTimeout, DefaultMaxTransactionTimeout and
	// DefaultIDExpiration are Kafka's transaction.timeout.ms,
	// transaction.max.timeout.ms and transactional.id.expiration.ms.
	DefaultTransactionTimeout    = time.Minute
	DefaultMaxTransactionTimeout = 15 * time.Minute
	DefaultIDExpiration          = 7 * 24 * time.Hour
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
	// Members are all coordinator nodes, this one included; the same on all of
	// them.
	Members []Member
	// Store keeps the group's log. The caller opened it and closes it, after
	// [Coordinator.Close].
	Store *raftstore.Store
	// DialPeer connects to the peer address of a partition node. It must return
	// at once and connect in the background.
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
	// Settings are the catalogue's settings of a new cluster.
	Settings catalog.Settings
	// ExpireGrace, AckDelay and NodeTimeout: 0 takes the default.
	ExpireGrace, AckDelay, NodeTimeout time.Duration
	// SnapshotEntries is after how many entries the log is compacted; 0 takes
	// the store's default.
	SnapshotEntries uint64
	// Clock stamps commands; nil: the machine's.
	Clock Clock
	// Logger gets what operators want to know; nil: nothing.
	Logger *slog.Logger
	// Version is the program's, shown in the status.
	Version string
}

// Coordinator is one coordinator node.
type Coordinator struct {
	cfg       Config
	clock     Clock
	log       *slog.Logger
	state     *replica
	group     *raftstore.Group
	applied   *notifier // see replica
	placed    *notifier // see replica
	registry  *registry
	keys      *token.Keyring
	peers     *peerConns
	idBlock   idBlock
	startedAt time.Time

	committed, aborted atomic.Uint64 // decided here as a leader

	// leadership carries the newest leadership from the store's loop to run.
	leadership chan raftstore.Leadership
	// wanting is how many callers wait for markers: acknowledgements are then
	// logged at once.
	wanting atomic.Int64
	// hurry tells the sender of markers that somebody begins to wait.
	hurry chan struct{}

	// closing is closed when Close begins: every wait ends.
	closing <-chan struct{}
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

// New opens the coordinator's group in the store and starts its duties.
func New(cfg Config) (*Coordinator, error) {
	if !slices.ContainsFunc(cfg.Members, func(m Member) bool { return m.ID == cfg.NodeID }) {
		return nil, fmt.Errorf("coordinator: node id %d is not among the members; give every member the same list", cfg.NodeID)
	}
	if cfg.Store == nil || cfg.DialPeer == nil {
		return nil, errors.New("coordinator: Store and DialPeer are required")
	}
	setDefault(&cfg.ExpireGrace, DefaultExpireGrace)
	setDefault(&cfg.AckDelay, DefaultAckDelay)
	setDefault(&cfg.NodeTimeout, DefaultNodeTimeout)
	setDefault(&cfg.DefaultTimeout, DefaultTransactionTimeout)
	setDefault(&cfg.MaxTimeout, DefaultMaxTransactionTimeout)
	setDefault(&cfg.IDExpiration, DefaultIDExpiration)
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Txn == (txn.Config{}) {
		cfg.Txn = Rules()
	}
	// The machine bounds the rules; errors must name the bounds that hold.
	cfg.Txn = txn.New(cfg.Txn).Config()
	ctx, stop := context.WithCancel(context.Background())
	c := &Coordinator{
		cfg:        cfg,
		clock:      cfg.Clock,
		log:        cfg.Logger,
		applied:    newNotifier(),
		placed:     newNotifier(),
		registry:   newRegistry(),
		keys:       &token.Keyring{},
		peers:      newPeerConns(cfg.DialPeer),
		startedAt:  cfg.Clock.Now(),
		leadership: make(chan raftstore.Leadership, 1),
		hurry:      make(chan struct{}, 1),
		closing:    ctx.Done(),
		stop:       stop,
	}
	c.state = newReplica(cfg.Txn, c.keys, c.applied, c.placed)
	members := make([]raftstore.NodeID, 0, len(cfg.Members))
	for _, m := range cfg.Members {
		members = append(members, raftstore.NodeID(m.ID))
	}
	group, err := cfg.Store.CreateGroup(raftstore.GroupConfig{
		ID:              GroupID,
		Members:         members,
		Machine:         c.state,
		SnapshotEntries: cfg.SnapshotEntries,
		OnLeadership:    c.onLeadership,
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("coordinator: opening the group: %w", err)
	}
	c.group = group
	c.stopped.Add(1)
	go func() {
		defer c.stopped.Done()
		c.followLeadership(ctx)
	}()
	return c, nil
}

// Close ends the duties and the waits of requests: what they wait for does not
// come from here any more. Requests that are waiting for the log are answered by
// the store when it closes. Closing twice is no error.
func (c *Coordinator) Close() {
	c.stop()
	c.stopped.Wait()
	c.peers.close()
}

// onLeadership is called by the store's loop and must not block: only the
// newest leadership matters.
func (c *Coordinator) onLeadership(l raftstore.Leadership) {
	for {
		select {
		case c.leadership <- l:
			return
		default:
		}
		select {
		case <-c.leadership:
		default:
		}
	}
}

// office is one term in which this node leads.
type office struct {
	term   uint64
	resign context.CancelFunc
	done   chan struct{}
}

// leave ends the duties of the term and waits for them.
func (o *office) leave() {
	if o != nil {
		o.resign()
		<-o.done
	}
}

// followLeadership runs the duties of a leader for as long as this node leads.
func (c *Coordinator) followLeadership(ctx context.Context) {
	var held *office
	for {
		select {
		case <-ctx.Done():
			held.leave()
			return
		case l := <-c.leadership:
			if held != nil && l.Ready && l.Term == held.term {
				continue
			}
			held.leave()
			held = nil
			if l.Ready {
				held = c.takeOffice(ctx, l.Term)
			}
		}
	}
}

// takeOffice starts the duties of a term, with nothing remembered of an earlier
// one.
func (c *Coordinator) takeOffice(ctx context.Context, term uint64) *office {
	c.log.Info("this node leads the coordinator", "term", term)
	c.registry.begin(term, c.clock.Now())
	c.idBlock.reset()
	ctx, resign := context.WithCancel(ctx)
	o := &office{term: term, resign: resign, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		newDuties(c).run(ctx)
	}()
	return o
}

func (c *Coordinator) member(id uint64) (Member, bool) {
	i := slices.IndexFunc(c.cfg.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return c.cfg.Members[i], true
}

func setDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}
