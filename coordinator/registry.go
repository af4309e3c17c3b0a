package coordinator

import (
	"sync"
	"time"

	"github.com/oncelog/oncelog/coordinator/catalog"
)

// registry is what a leader has heard from partition nodes: when each was last
// alive and which node leads each shard. It is memory of the leader only; the
// next heartbeats fill it after a change of leader.
type registry struct {
	mu     sync.Mutex
	term   uint64    // the coordinator's, in which all this was heard
	since  time.Time // when that began for this node
	seen   map[uint64]time.Time
	low    map[uint64]bool   // nodes whose disk is below the low-water mark
	levels map[uint64]uint32 // of formats, up to which nodes read
	shards map[uint64]shardLeader
	moves  map[uint64]moveProgress // of shards with a move, as their leaders tell
	// changed is closed and replaced when anything about shards changes.
	changed chan struct{}
}

// seat is who leads a shard in which Raft term; node 0: unknown.
type seat struct{ node, term uint64 }

// shardLeader is the best report about who leads a shard.
type shardLeader struct {
	seat
	// ready: the leader itself reported that it serves.
	ready bool
	// partitionsVersion is the version of the catalogue that the shard's log
	// has its partitions from.
	partitionsVersion uint64
}

func newRegistry() *registry {
	return &registry{
		seen:    map[uint64]time.Time{},
		low:     map[uint64]bool{},
		levels:  map[uint64]uint32{},
		shards:  map[uint64]shardLeader{},
		moves:   map[uint64]moveProgress{},
		changed: make(chan struct{}),
	}
}

// begin forgets what was heard in earlier terms of the coordinator. Whoever
// acts as the leader of a term calls it first: the first heartbeat may come
// before the duties of the term begin, and must not be forgotten by them.
func (r *registry) begin(term uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if term <= r.term {
		return
	}
	r.term, r.since = term, at
	clear(r.seen)
	clear(r.low)
	clear(r.levels)
	clear(r.shards)
	clear(r.moves)
	r.signal()
}

// heard notes that a node is alive.
func (r *registry) heard(node uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[node] = at
}

// diskLow notes what a node says of its disk.
func (r *registry) diskLow(node uint64, low bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if low {
		r.low[node] = true
	} else {
		delete(r.low, node)
	}
}

// reads notes up to which level of formats a node reads.
func (r *registry) reads(node uint64, level uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.levels[node] = level
}

// level returns up to which level of formats a node reads; false: it has not said so
// within the span.
func (r *registry) level(node uint64, now time.Time, within time.Duration) (uint32, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, up := r.seen[node]
	l, told := r.levels[node]
	return l, up && told && now.Sub(at) <= within
}

// lastSeen returns when the node was last heard of, and whether it ever was.
func (r *registry) lastSeen(node uint64) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.seen[node]
	return at, ok
}

// standing returns when the node was last heard of, which is when this leader began
// to listen if it was not since, and whether it said that its disk is low.
func (r *registry) standing(node uint64) (seen time.Time, low bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := r.seen[node]
	if !ok {
		seen = r.since
	}
	return seen, r.low[node]
}

// usable tells whether a node may get shards: its disk is not low, and it was
// heard of within the span, or this leader has not led for long enough to miss it.
func (r *registry) usable(node uint64, now time.Time, within time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.seen[node]
	if !ok {
		at = r.since
	}
	return now.Sub(at) <= within && !r.low[node]
}

// up tells whether a node was heard of within the span in this term. Unlike usable it
// gives no credit: a replica must not be sent to a node that may be long gone.
func (r *registry) up(node uint64, now time.Time, within time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.seen[node]
	return ok && now.Sub(at) <= within
}

// leadsLonger tells whether the term has lasted longer than a span.
func (r *registry) leadsLonger(now time.Time, span time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Sub(r.since) > span
}

// isLow tells whether a node's disk is low, as it said itself.
func (r *registry) isLow(node uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.low[node]
}

// moveProgress is how a move gets on.
type moveProgress struct {
	problem string
	lag     uint64
}

// moving notes what a shard's leader says of its move.
func (r *registry) moving(shard uint64, p moveProgress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p == (moveProgress{}) {
		delete(r.moves, shard)
	} else {
		r.moves[shard] = p
	}
}

// move returns what was said last of a shard's move.
func (r *registry) move(shard uint64) moveProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moves[shard]
}

// report takes one node's view of a shard. Of two views the one with the higher
// term is newer; within a term only the leader itself knows whether it serves.
func (r *registry) report(from, shard uint64, l shardLeader) {
	if l.node != from {
		l.ready, l.partitionsVersion = false, 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.shards[shard]
	if known && (l.term < old.term || l.term == old.term && (l.node == 0 || old.node == l.node && from != l.node)) {
		return
	}
	if known && l == old {
		return
	}
	r.shards[shard] = l
	r.signal()
}

// hint takes the word of a node that refused because another one leads.
func (r *registry) hint(shard uint64, s seat) {
	if s.node == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, known := r.shards[shard]; known && (s.term < old.term || s.term == old.term && old.node != 0) {
		return
	}
	r.shards[shard] = shardLeader{seat: s}
	r.signal()
}

// leader returns what is known of a shard's leader.
func (r *registry) leader(shard uint64) shardLeader {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shards[shard]
}

// watch returns a channel that is closed at the next change.
func (r *registry) watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *registry) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// serves reports whether the shard has a leader whose log has the shard's
// partitions as of the catalogue's last change to them.
func (r *registry) serves(s catalog.Shard) bool {
	l := r.leader(s.ID)
	return l.ready && l.partitionsVersion >= s.Version
}
