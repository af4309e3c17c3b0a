package partition

import (
	"cmp"
	"slices"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/clock"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// MaxListedPartitions bounds [Stats.Blocked].
const MaxListedPartitions = 100

// Stats are figures about one partition node, for monitoring. Counters are of this
// process, since it started.
type Stats struct {
	// ClusterID is empty until the node has joined one.
	ClusterID string
	// Shards are the Raft groups of the shards that the node keeps, by id; those that
	// it leads and serves are Led.
	Shards []raftstore.Status
	Led    int
	// HeartbeatAge is how long ago the coordinator last answered a heartbeat, or the
	// node was made.
	HeartbeatAge time.Duration
	// Clock is this node's against that of the coordinator that answers.
	Clock clock.Offset

	// Batches are verdicts on batches by the names of pstate's codes; what is refused
	// before a batch is looked at, such as a wrong token, is not among them.
	Batches map[string]uint64
	// AppendedRecords and AppendedBytes were stored now, duplicates are not.
	AppendedRecords, AppendedBytes uint64
	// FetchResponses were sent to readers. FetchedRecords count plain records and
	// those of batches, FetchedBytes batches as they are stored.
	FetchResponses, FetchedRecords, FetchedBytes uint64

	// Markers are what became of decisions, from the coordinator and as answers to
	// enlistments, by the names of pstate's codes.
	Markers map[string]uint64
	// EnlistQueue are open transactions that the coordinator is, or will be, asked
	// about; EnlistAnswers its answers by verdict; EnlistFailures the requests that
	// had none.
	EnlistQueue    int
	EnlistAnswers  map[string]uint64
	EnlistFailures uint64

	// LogStartsMoved are moves of the start of a partition's log by retention,
	// RelocatedBytes are of batches that were written once more.
	LogStartsMoved, RelocatedBytes uint64
	// Compactions are passes over a partition, CompactedRecords those that went, and
	// CompactedBytes what was written in their place.
	Compactions, CompactedRecords, CompactedBytes uint64

	// What follows is the state of the shards that the node leads.

	Partitions, Producers, Sequences int
	StoredBytes                      uint64 // of batches that readers can get
	// OpenTransactions are open in a shard, counted in each; OldestOpen is the age of
	// the oldest by the clock of the leader that stored its first record.
	OpenTransactions int
	OldestOpen       time.Duration
	// BlockedPartitions have an open transaction; MaxLagRecords and MaxLagAge are the
	// highest of all of them.
	BlockedPartitions int
	MaxLagRecords     uint64
	MaxLagAge         time.Duration
	// Blocked are those whose stable end has stood still the longest,
	// [MaxListedPartitions] at most.
	Blocked []BlockedPartition
}

// BlockedPartition is a partition whose stable end (LSO) an open transaction holds.
type BlockedPartition struct {
	Topic     string
	Partition uint32
	// LagRecords are stored and not yet visible to read_committed: from the stable
	// end to the end of what is applied.
	LagRecords uint64
	// LagAge is how long ago the transaction was opened that holds the stable end,
	// and By which one that is.
	LagAge time.Duration
	By     pstate.TxnRef
}

// Stats returns the figures. It waits for nothing but entries that are being
// applied, so it answers while a disk or the network does not. What it costs grows
// with the partitions that the node leads.
func (n *Node) Stats() Stats {
	c := &n.counters
	st := Stats{
		ClusterID:    n.clusterID(),
		HeartbeatAge: n.run.Since(n.started) - time.Duration(c.heardAt.Load()),
		Clock:        n.clock.Offset(),
		Batches:      map[string]uint64{}, Markers: map[string]uint64{}, EnlistAnswers: map[string]uint64{},
		AppendedRecords: c.records.Load(), AppendedBytes: c.bytes.Load(),
		FetchResponses: c.fetchResponses.Load(), FetchedRecords: c.fetchedRecords.Load(), FetchedBytes: c.fetchedBytes.Load(),
		EnlistQueue: int(c.enlistQueue.Load()), EnlistFailures: c.enlistFailures.Load(),
		LogStartsMoved: c.logStarts.Load(), RelocatedBytes: c.relocatedBytes.Load(),
		Compactions: c.compactions.Load(), CompactedRecords: c.compactedRecords.Load(), CompactedBytes: c.compactedBytes.Load(),
	}
	for code := range c.verdicts[1:] {
		st.Batches[pstate.Code(code+1).String()] = c.verdicts[code+1].Load()
	}
	for code := range c.markers[1:] {
		st.Markers[pstate.MarkerCode(code+1).String()] = c.markers[code+1].Load()
	}
	for v := range c.enlistVerdicts[1:] {
		st.EnlistAnswers[enlistVerdictName(oncelogv1.EnlistVerdict(v+1))] = c.enlistVerdicts[v+1].Load()
	}
	now := n.nowMillis()
	for _, s := range n.allShards() {
		group := s.group.Status()
		st.Shards = append(st.Shards, group)
		if group.Ready {
			st.Led++
			s.machine.read(func(state *pstate.State) { st.addShard(state, now) })
		}
	}
	st.limit()
	return st
}

// limit keeps of the blocked partitions the worst.
func (st *Stats) limit() {
	slices.SortStableFunc(st.Blocked, func(a, b BlockedPartition) int {
		return cmp.Or(cmp.Compare(b.LagAge, a.LagAge), cmp.Compare(b.LagRecords, a.LagRecords),
			cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	st.BlockedPartitions = len(st.Blocked)
	st.Blocked = st.Blocked[:min(len(st.Blocked), MaxListedPartitions)]
}

// addShard adds the state of a shard that is led here.
func (st *Stats) addShard(s *pstate.State, now int64) {
	sizes := s.Stats()
	st.Partitions += sizes.Partitions
	st.Producers += sizes.Producers
	st.Sequences += sizes.Sequences
	st.OpenTransactions += sizes.OpenTxns
	for oldest := range s.Open() { // the first one was opened first
		st.OldestOpen = max(st.OldestOpen, since(oldest.Opened, now))
		break
	}
	for _, p := range s.Partitions() {
		st.StoredBytes += p.Size
		b, ok := s.Blocker(p.ID)
		if !ok {
			continue
		}
		row := BlockedPartition{
			Topic: p.Topic, Partition: p.Index, By: b.Ref,
			LagRecords: uint64(p.Applied - p.Stable), LagAge: since(b.OpenedTime, now),
		}
		st.MaxLagRecords, st.MaxLagAge = max(st.MaxLagRecords, row.LagRecords), max(st.MaxLagAge, row.LagAge)
		st.Blocked = append(st.Blocked, row)
	}
}

// since is the span between two times in milliseconds; a clock that is behind that
// of an earlier leader makes none below 0.
func since(at, now int64) time.Duration {
	return max(time.Duration(now-at)*time.Millisecond, 0)
}

// enlistVerdictName is the name of an answer as people see it.
func enlistVerdictName(v oncelogv1.EnlistVerdict) string {
	switch v {
	case oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED:
		return "ACCEPTED"
	case oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED:
		return "DECIDED"
	case oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY:
		return "STRAY"
	case oncelogv1.EnlistVerdict_ENLIST_VERDICT_THROTTLED:
		return "THROTTLED"
	default:
		return "OTHER"
	}
}
