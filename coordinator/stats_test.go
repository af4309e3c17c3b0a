package coordinator

import (
	"context"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestStatsOfALeader(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := c.topic("t", 3, 3)
		c.shards.play(func(context.Context, shardCall) (*oncelogv1.ShardMarkerResults, error) { return nil, errUnreachable })
		p := c.producer("app")
		p.accept(1, shardOf(topic, 0))
		pass(2 * time.Second)
		old := c.leader().c.Stats()
		wantEqual(t, "open by age", old.Leader.Open, []int{0, 1, 0, 0, 0, 0})
		wantEqual(t, "oldest", old.Leader.OldestOpen >= 2*time.Second, true)
		wantEqual(t, "completing", old.Leader.Completing, 0)

		p.mustEnd(1, true, wrote(topic, 0, 2), wrote(topic, 1, 1))
		p.accept(2, shardOf(topic, 2))
		p.accept(3, shardOf(topic, 2)) // aborts 2
		p.mustEnd(4, false)            // aborts 3
		pass(3 * time.Second)
		_, err := p.end(4, true)
		wantCode(t, err, "CONFLICT")
		c.producer("app")
		_, err = p.end(5, true)
		wantCode(t, err, "FENCED")

		c.report(1)
		st := c.leader().c.Stats()
		wantEqual(t, "committed", st.Committed, uint64(1))
		wantEqual(t, "aborted", []uint64{
			st.Aborted["CLIENT"], st.Aborted["SUPERSEDED"], st.Aborted["TIMEOUT"],
		}, []uint64{1, 2, 0})
		wantEqual(t, "refused", []uint64{st.EndsRefused["CONFLICT"], st.EndsRefused["FENCED"], st.EndsRefused["THROTTLED"]}, []uint64{1, 1, 0})
		wantEqual(t, "ids", []uint64{st.NewIDs, st.Takeovers}, []uint64{1, 1})
		l := st.Leader
		wantEqual(t, "completing", l.Completing, 3)
		wantEqual(t, "oldest decision", l.OldestCompleting >= 3*time.Second, true)
		// The commit is owed to two shards, the aborts to one each.
		wantEqual(t, "pending markers", l.PendingMarkers, 4)
		wantEqual(t, "shard with the most", l.PendingMarkersByShard[0], PendingMarkers{shardOf(topic, 2), 2})
		wantEqual(t, "failed requests", st.MarkerRequestsFailed > 0, true)
		wantEqual(t, "sizes", []int{l.TransactionalIDs, l.Topics, l.Partitions, l.Shards, l.Unserved, l.Nodes, l.Alive}, []int{1, 1, 3, 3, 0, 3, 3})

		c.shards.play(nil)
		pass(5 * time.Second)
		done := c.leader().c.Stats()
		wantEqual(t, "completing at the end", done.Leader.Completing, 0)
		wantEqual(t, "pending at the end", len(done.Leader.PendingMarkersByShard), 0)
		wantEqual(t, "answers", done.Markers["APPLIED"], uint64(4))
		pass(DefaultNodeTimeout)
		wantEqual(t, "alive without heartbeats", c.leader().c.Stats().Leader.Alive, 0)
	})
}

func TestStatsOfAFollower(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.producer("app")
		follower := c.follower().c.Stats()
		if follower.Leader != nil || follower.Group == nil || follower.Group.IsLeader {
			t.Errorf("%+v", follower)
		}
		wantEqual(t, "cluster", follower.ClusterID, c.leader().c.Stats().ClusterID)
	})
}

func TestTallyKnowsItsKeysFromTheStart(t *testing.T) {
	t.Parallel()
	names := newCounters().aborted.byName()
	for _, reason := range []string{"ADMIN", "CLIENT", "FENCED", "SUPERSEDED", "TIMEOUT"} {
		if n, ok := names[reason]; n != 0 || !ok {
			t.Errorf("%s: %d %v", reason, n, ok)
		}
	}
	if len(names) != 5 {
		t.Errorf("%v", names)
	}
}
