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
	seen   map[uint64]time.Time
	shards map[uint64]shardLeader
	// changed is closed and replaced when anything about shards changes.
	changed chan struct{}
}

// shardLeader is the best report about who leads a shard.
type shardLeader struct {
	node uint64
	term uint64
	// ready: the leader itself reported that it serves.
	ready bool
	// partitionsVersion is the version of the catalogue that the shard's log
	// has its partitions from.
	partitionsVersion uint64
}

func newRegistry() *registry {
	return &registry{
		seen:    map[uint64]time.Time{},
		shards:  map[uint64]shardLeader{},
		changed: make(chan struct{}),
	}
}

// reset forgets everything, for a node that starts to lead.
func (r *registry) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.seen)
	clear(r.shards)
	r.signal()
}

// heard notes that a node is alive.
func (r *registry) heard(node uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[node] = at
}

// lastSeen returns when the node was last heard of, and whether it ever was.
func (r *registry) lastSeen(node uint64) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.seen[node]
	return at, ok
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
func (r *registry) hint(shard, node, term uint64) {
	if node == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, known := r.shards[shard]; known && (term < old.term || term == old.term && old.node != 0) {
		return
	}
	r.shards[shard] = shardLeader{node: node, term: term}
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
