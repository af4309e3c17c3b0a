package coordinator

import (
	"cmp"
	"slices"
	"time"

	"github.com/oncelog/oncelog/internal/clock"
	"github.com/oncelog/oncelog/raftstore"
)

// MaxListedShards bounds [LeaderStats.PendingMarkersByShard].
const MaxListedShards = 20

// OpenAgeBounds are the bounds between the ages of [LeaderStats.Open].
var OpenAgeBounds = []time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute}

// Stats are figures about one coordinator node, for monitoring. Counters are of this
// process, since it started.
type Stats struct {
	// ClusterID is empty until the cluster is initialised, as far as this node knows.
	ClusterID string
	// Group is the Raft group; nil as long as this node has not joined it.
	Group *raftstore.Status
	// Clock is this node's against the leader's.
	Clock clock.Offset

	Committed uint64
	// PreparedTotal are calls of PrepareTransaction that were carried out.
	PreparedTotal uint64
	// Aborted are by reason, EndsRefused are calls of EndTransaction that decided
	// nothing, and of PrepareTransaction and CompletePrepared that did nothing, by code, Markers are answers of shards to decisions; all by the names
	// that package txn gives.
	Aborted, EndsRefused, Markers map[string]uint64
	// MarkerRequestsFailed were answered not at all, or not for every marker; what
	// they carried is sent again.
	MarkerRequestsFailed uint64
	// NewIDs and Takeovers are transactional ids that a producer made, or took over
	// with the next epoch. Fenced were fenced by operators.
	NewIDs, Takeovers, Fenced uint64
	// IDsExpired are transactional ids that were removed because nobody used them.
	IDsExpired uint64
	// QuotasRefused are calls that were beyond a quota, by its name.
	QuotasRefused map[string]uint64
	// MembersLost are members of groups whose session or rebalance timeout passed.
	MembersLost uint64

	// Leader is nil on a node that does not lead: its state may be old.
	Leader *LeaderStats
}

// LeaderStats are read off the replicated state by the node that leads, and off what
// it has heard of partition nodes since it does.
type LeaderStats struct {
	TransactionalIDs int
	// Open are the undecided transactions that the coordinator was told of, by age:
	// one number more than [OpenAgeBounds], the last one is of the oldest. A
	// transaction that is shorter than the enlist delay of its partition nodes is
	// never in it.
	Open       []int
	OldestOpen time.Duration
	// Completing are decided transactions that some shard has not acknowledged, and
	// how long ago the oldest was decided.
	Completing       int
	OldestCompleting time.Duration
	// Prepared are transactions that wait for the word of another system, and how long
	// ago the oldest was prepared.
	Prepared       int
	OldestPrepared time.Duration
	// PendingMarkers are decisions that a shard has to acknowledge, counted once for
	// each shard. Of the shards those with the most are listed, [MaxListedShards] at
	// most.
	PendingMarkers        int
	PendingMarkersByShard []PendingMarkers

	Groups, Members, Offsets int
	Topics, Partitions       int
	// Shards of which Unserved have no leader that is known to serve them.
	Shards, Unserved int
	// Moves of replicas that are under way, and since when the oldest is. HeldUp are
	// those of which the shard's leader said what they wait for, MoveLag is how many
	// entries the new replica that is furthest behind has to learn.
	Moves, HeldUp int
	OldestMove    time.Duration
	MoveLag       uint64
	// LostReplicas are copies that are gone with their disk, and not made anew yet.
	LostReplicas int
	// Nodes that are registered: Alive were heard of lately; of these LowOnDisk are
	// below their low-water mark. Draining are to give all replicas away.
	Nodes, Alive, LowOnDisk, Draining int
}

// PendingMarkers is what one shard has to acknowledge.
type PendingMarkers struct {
	Shard uint64
	Count int
}

// Stats returns the figures. It waits for nothing but entries that are being
// applied, so it answers while a disk or the network does not. What it costs grows
// with the open transactions, markers that are owed, groups and shards.
func (c *Coordinator) Stats() Stats {
	n := &c.counters
	st := Stats{
		Committed: n.committed.Load(), PreparedTotal: n.prepared.Load(), Aborted: n.aborted.byName(), EndsRefused: n.endsRefused.byName(),
		Markers: n.markers.byName(), MarkerRequestsFailed: n.markersFailed.Load(),
		NewIDs: n.newIDs.Load(), Takeovers: n.takeovers.Load(), Fenced: n.fenced.Load(),
		IDsExpired: n.idsExpired.Load(), MembersLost: n.membersLost.Load(),
		Clock: c.clock.Offset(), QuotasRefused: c.quotas.refused.byName(),
	}
	c.state.read(func() { st.ClusterID = c.state.catalog.ClusterID() })
	if !c.opened.Load() {
		return st
	}
	group := c.group.Status()
	st.Group = &group
	if group.Ready {
		c.begin(group.Term)
		c.state.read(func() { st.Leader = c.leaderStats() })
	}
	return st
}

// leaderStats is called with the state held still.
func (c *Coordinator) leaderStats() *LeaderStats {
	txns, groups, cat := c.state.txns, c.state.groups, c.state.catalog
	now := c.now()
	bounds := make([]int64, 0, len(OpenAgeBounds))
	for _, b := range OpenAgeBounds {
		bounds = append(bounds, b.Milliseconds())
	}
	ages, counts := txns.OpenAges(now, bounds), txns.Counts()
	completing, oldest := txns.Completing(now)
	st := &LeaderStats{
		TransactionalIDs: counts.IDs, PendingMarkers: counts.Owed,
		Open: ages.Counts, OldestOpen: millis(ages.Oldest),
		Completing: completing, OldestCompleting: millis(oldest),
		Prepared: counts.Prepared, OldestPrepared: millis(txns.PreparedAge(now)),
		Groups: groups.Count(), Members: groups.MemberCount(), Offsets: groups.OffsetCount(),
		Topics: cat.TopicCount(), Partitions: cat.PartitionCount(),
	}
	for _, id := range txns.OwedShards() {
		st.PendingMarkersByShard = append(st.PendingMarkersByShard, PendingMarkers{id, txns.OwedCount(id)})
	}
	slices.SortStableFunc(st.PendingMarkersByShard, func(a, b PendingMarkers) int { return cmp.Compare(b.Count, a.Count) })
	if len(st.PendingMarkersByShard) > MaxListedShards {
		st.PendingMarkersByShard = st.PendingMarkersByShard[:MaxListedShards]
	}
	for _, s := range cat.Shards() {
		st.Shards++
		if !c.registry.serves(s) {
			st.Unserved++
		}
		st.LostReplicas += len(s.Lost)
		if !s.Move.Active() {
			continue
		}
		st.Moves++
		st.OldestMove = max(st.OldestMove, millis(now-s.Move.StartedAt))
		progress := c.registry.move(s.ID)
		st.MoveLag = max(st.MoveLag, progress.lag)
		if progress.problem != "" {
			st.HeldUp++
		}
	}
	at := c.rt.Now()
	for _, n := range cat.Nodes() {
		st.Nodes++
		if n.Draining {
			st.Draining++
		}
		seen, low := c.registry.standing(n.ID)
		if at.Sub(seen) <= c.cfg.NodeTimeout {
			st.Alive++
			if low {
				st.LowOnDisk++
			}
		}
	}
	return st
}
