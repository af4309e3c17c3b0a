package client

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

const (
	// refreshInterval is the shortest time between two refreshes, however many
	// ask for one.
	refreshInterval = 20 * time.Millisecond
	// unknownTopicGrace is how long a topic that the cluster does not know, or does not
	// show to the caller, is asked for again: another coordinator node may have just
	// created it, or heard of a permission.
	unknownTopicGrace = 2 * time.Second
	// maxTopicsPerRequest is the contract's limit.
	maxTopicsPerRequest = 1000
)

// metadata is what the client knows of topics, and of who leads which shard.
type metadata struct {
	c *Client

	mu      sync.Mutex
	cluster string
	version uint64 // newest picture seen
	topics  map[string]*topicMeta
	shards  map[uint64]*shardMeta
	nodes   map[uint64]string // client addresses

	wanted  map[string]struct{} // topics that the next refresh asks for
	running bool                // a task that refreshes is there
	round   *refreshRound       // the refresh that starts next
}

// refreshRound is one refresh; its result can be read once done is closed.
type refreshRound struct {
	done    chan struct{}
	unknown map[string]bool
	hidden  map[string]bool // that the caller may not see
	err     error
}

func newRound() *refreshRound { return &refreshRound{done: make(chan struct{})} }

// topicMeta never changes: a new picture replaces it.
type topicMeta struct {
	name       string
	id         uint64
	partitions []partitionMeta
}

type partitionMeta struct{ id, shard uint64 }

// ref names a partition completely.
func (t *topicMeta) ref(i int32) *oncelogv1.PartitionRef {
	return &oncelogv1.PartitionRef{Topic: t.name, Partition: uint32(i), PartitionId: t.partitions[i].id}
}

// shardMeta is what is known of a shard's leader.
type shardMeta struct {
	leader   string // "" unknown
	term     uint64 // of the leader that was heard of last
	gone     bool   // the leader of that term stopped answering as one
	replicas []uint64
	next     int // replica to probe next
}

func newMetadata(c *Client) *metadata {
	return &metadata{
		c:      c,
		topics: make(map[string]*topicMeta),
		shards: make(map[uint64]*shardMeta),
		nodes:  make(map[uint64]string),
		wanted: make(map[string]struct{}),
		round:  newRound(),
	}
}

func (m *metadata) clusterID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cluster
}

// topic returns a topic, asking the cluster if it is not known yet.
func (m *metadata) topic(ctx context.Context, name string) (*topicMeta, error) {
	if t := m.cached(name); t != nil {
		return t, nil
	}
	pauses := m.c.backoff()
	var giveUp time.Time
	for {
		round := m.refresh(name)
		switch m.c.rt.Wait(round.done, ctx.Done(), m.c.ctx.Done()) {
		case 1:
			return nil, &endedError{ctx: ctx.Err(), last: apierrors.From(round.result())}
		case 2:
			return nil, ErrClosed
		}
		if t := m.cached(name); t != nil {
			return t, nil
		}
		if round.err == nil && (round.unknown[name] || round.hidden[name]) {
			if giveUp.IsZero() {
				giveUp = m.c.rt.Now().Add(unknownTopicGrace)
			}
			if m.c.rt.Now().After(giveUp) && round.hidden[name] {
				return nil, notVisible(name)
			}
			if m.c.rt.Now().After(giveUp) {
				return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC, "", apierrors.KeyTopic, name)
			}
		} else if round.err != nil && !repeatable(round.err) {
			return nil, round.err
		}
		if pauses.pause(ctx) != nil {
			return nil, &endedError{ctx: ctx.Err(), last: apierrors.From(round.err)}
		}
	}
}

// result returns the error of a round that is over, else nil.
func (r *refreshRound) result() error {
	if task.Closed(r.done) {
		return r.err
	}
	return nil
}

// repeatable reports whether asking again may help.
func repeatable(err error) bool {
	switch apierrors.ClassOf(err) {
	case apierrors.Retriable, apierrors.UnknownOutcome:
		return true
	default:
		return false
	}
}

func (m *metadata) cached(name string) *topicMeta {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.topics[name]
}

// drop forgets a topic that was deleted.
func (m *metadata) drop(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.topics, name)
}

// refresh asks for a new picture that includes the topic, and returns the round
// that brings it. Requests that come together share a round.
func (m *metadata) refresh(topic string) *refreshRound {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted[topic] = struct{}{}
	if !m.running {
		m.running = m.c.spawn(m.run)
	}
	return m.round
}

// run refreshes until nobody wants more.
func (m *metadata) run() {
	for {
		m.mu.Lock()
		if len(m.wanted) == 0 || m.c.isClosed() {
			m.running = false
			m.mu.Unlock()
			return
		}
		names := slices.Sorted(maps.Keys(m.wanted))
		names = names[:min(len(names), maxTopicsPerRequest)]
		for _, n := range names {
			delete(m.wanted, n)
		}
		round := m.round
		m.round = newRound()
		m.mu.Unlock()

		ctx, cancel := m.c.rt.WithTimeout(m.c.ctx, m.c.cfg.requestTimeout)
		round.unknown, round.hidden, round.err = m.fetchNames(ctx, names)
		close(round.done)
		m.c.rt.Sleep(refreshInterval, ctx.Done()) // ends early with the client
		cancel()
	}
}

// coordinatorsMaxAge is how often a client asks who the coordinators are: all that it
// knows may be replaced one by one while it needs none of them.
const coordinatorsMaxAge = 30 * time.Second

// followCoordinators keeps the list of coordinators until the client closes.
func (m *metadata) followCoordinators() {
	for m.c.rt.Sleep(coordinatorsMaxAge, m.c.ctx.Done()) {
		ctx, cancel := m.c.rt.WithTimeout(m.c.ctx, m.c.cfg.requestTimeout)
		_, err := m.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
			resp, err := oncelogv1.NewCatalogServiceClient(cc).GetMetadata(ctx, &oncelogv1.GetMetadataRequest{CoordinatorsOnly: true})
			if err == nil {
				m.c.coord.suggest(leaderOf(resp), addressesOf(resp.GetCoordinators()), resp.GetCoordinatorsVersion())
			}
			return err
		})
		cancel()
		if err != nil && !m.c.isClosed() {
			m.c.log.Debug("asking for the coordinators", "error", err)
		}
	}
}

func leaderOf(resp *oncelogv1.GetMetadataResponse) string {
	for _, n := range resp.GetCoordinators() {
		if n.GetNodeId() == resp.GetCoordinatorLeader() {
			return n.GetClientAddress()
		}
	}
	return ""
}

func addressesOf(nodes []*oncelogv1.Node) []string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.GetClientAddress())
	}
	return out
}

// fetch brings a picture of the topics, or of the coordinator alone.
func (m *metadata) fetch(ctx context.Context, topics []string) error {
	_, _, err := m.fetchNames(ctx, topics)
	return err
}

func (m *metadata) fetchNames(ctx context.Context, topics []string) (unknown, hidden map[string]bool, err error) {
	var resp *oncelogv1.GetMetadataResponse
	_, err = m.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = oncelogv1.NewCatalogServiceClient(cc).GetMetadata(ctx, &oncelogv1.GetMetadataRequest{Topics: topics})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	m.apply(resp)
	return setOf(resp.GetUnknownTopics()), setOf(resp.GetUnauthorizedTopics()), nil
}

func setOf(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, name := range names {
		out[name] = true
	}
	return out
}

// notVisible says that the caller may not see a topic, which may exist or not.
func notVisible(topic string) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED, "this principal may not Describe Topic \""+topic+"\"",
		apierrors.KeyOperation, "Describe", apierrors.KeyResource, "Topic", apierrors.KeyName, topic, apierrors.KeyTopic, topic)
}

// apply takes over what is newer than what is known.
func (m *metadata) apply(resp *oncelogv1.GetMetadataResponse) {
	m.c.coord.suggest(leaderOf(resp), addressesOf(resp.GetCoordinators()), resp.GetCoordinatorsVersion())

	m.mu.Lock()
	defer m.mu.Unlock()
	if id := resp.GetClusterId(); id != "" { // a node that has just started may not know
		m.cluster = id
	}
	if resp.GetVersion() >= m.version {
		m.version = resp.GetVersion()
		for _, n := range resp.GetNodes() {
			m.nodes[n.GetNodeId()] = n.GetClientAddress()
		}
		for _, t := range resp.GetTopics() {
			m.topics[t.GetName()] = newTopicMeta(t)
		}
		for _, name := range slices.Concat(resp.GetUnknownTopics(), resp.GetUnauthorizedTopics()) {
			delete(m.topics, name)
		}
	}
	for _, s := range resp.GetShards() {
		shard := m.shard(s.GetShardId())
		if r := s.GetReplicas(); len(r) > 0 {
			shard.replicas = r
		}
		shard.learn(m.nodes[s.GetLeader()], s.GetTerm(), false)
	}
}

func newTopicMeta(t *oncelogv1.Topic) *topicMeta {
	out := &topicMeta{name: t.GetName(), id: t.GetTopicId(), partitions: make([]partitionMeta, len(t.GetPartitions()))}
	for _, p := range t.GetPartitions() {
		if int(p.GetPartition()) < len(out.partitions) {
			out.partitions[p.GetPartition()] = partitionMeta{id: p.GetPartitionId(), shard: p.GetShardId()}
		}
	}
	return out
}

func (m *metadata) shard(id uint64) *shardMeta {
	s, ok := m.shards[id]
	if !ok {
		s = &shardMeta{}
		m.shards[id] = s
	}
	return s
}

// learn takes the word of a node about who leads the shard. The coordinator
// hears of leaders late, so a leader that stopped answering as one is believed in
// again only in a newer term, or by the word of the shard's own nodes.
//
// A shard's node may know the leader and not its term (0): that is better than
// nothing, but never overrides.
func (s *shardMeta) learn(address string, term uint64, firsthand bool) bool {
	switch {
	case address == "":
		return false
	case firsthand && term == 0 && s.leader == "":
	case term < s.term, term == s.term && s.gone && !firsthand:
		return false
	}
	changed := s.leader != address
	s.leader, s.term, s.gone = address, max(term, s.term), false
	return changed
}

// target returns the address to ask about a shard now: its leader, else one
// replica after the other, for they know best who leads. "" if nothing is known.
func (m *metadata) target(shard uint64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shard(shard)
	if s.leader != "" {
		return s.leader
	}
	for range s.replicas {
		s.next = (s.next + 1) % len(s.replicas)
		if address := m.nodes[s.replicas[s.next]]; address != "" {
			return address
		}
	}
	return ""
}

// learn takes a shard's node's word about its leader.
func (m *metadata) learn(shard uint64, address string, term uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shard(shard).learn(address, term, true)
}

// forget gives up a leader that did not answer as one; it is asked last from now
// on.
func (m *metadata) forget(shard uint64, address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shard(shard)
	if s.leader != address {
		return
	}
	s.leader, s.gone = "", true
	if i := slices.IndexFunc(s.replicas, func(id uint64) bool { return m.nodes[id] == address }); i >= 0 {
		s.next = i
	}
}

// confirm notes that the node at address answered as the leader. Its term is not
// known, so hearsay about the term of the last one stays disbelieved.
func (m *metadata) confirm(shard uint64, address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.shard(shard); s.leader == "" {
		s.leader = address
	}
}

// movedFrom reports whether another node than the one at address is known to lead
// the shard.
func (m *metadata) movedFrom(shard uint64, address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shard(shard)
	return s.leader != "" && s.leader != address
}

// lesson draws what a failed request to a shard says about its leader, and
// reports whether a new one is known now.
func (m *metadata) lesson(shard uint64, topic, address string, e *apierrors.Error) (moved bool) {
	switch e.Code {
	case oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, oncelogv1.ErrorCode_ERROR_CODE_THROTTLED,
		oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE:
		return false
	case oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER:
		m.forget(shard, address)
		moved = m.learn(shard, e.Metadata[apierrors.KeyLeaderAddress], termOf(e))
	default:
		m.forget(shard, address)
	}
	if !moved {
		m.refresh(topic)
	}
	return moved
}
