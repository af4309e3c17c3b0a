package bench

import (
	"context"
	"fmt"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// Work is what nodes of one kind did, summed over them: an entry that three nodes
// store counts three times.
type Work struct {
	// Fsyncs are synced writes to the log device.
	Fsyncs float64 `json:"fsyncs"`
	// Entries are Raft entries written to a log.
	Entries float64 `json:"raft_entries"`
	// Messages are Raft messages to other nodes; heartbeats and answers are among
	// them.
	Messages float64 `json:"raft_messages"`
	// Commands were proposed to a leader: each is stored by all nodes of its group.
	Commands float64 `json:"commands"`
}

func (w Work) minus(o Work) Work {
	return Work{w.Fsyncs - o.Fsyncs, w.Entries - o.Entries, w.Messages - o.Messages, w.Commands - o.Commands}
}

func (w Work) per(n float64) Work {
	return Work{w.Fsyncs / n, w.Entries / n, w.Messages / n, w.Commands / n}
}

// Cost is the work of both kinds of nodes.
type Cost struct {
	Coordinators Work `json:"coordinators"`
	Partitions   Work `json:"partitions"`
}

func (c Cost) minus(o Cost) Cost {
	return Cost{c.Coordinators.minus(o.Coordinators), c.Partitions.minus(o.Partitions)}
}

func (c Cost) per(n float64) Cost { return Cost{c.Coordinators.per(n), c.Partitions.per(n)} }

// settleLimit bounds the wait for work that goes on in the background after the
// last answer.
const settleLimit = 10 * time.Second

// cost returns the counters of all nodes, once what was going on is over: markers
// are written after the commit was answered, and are part of its cost.
func cost(ctx context.Context, a *client.Admin) (Cost, error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		cluster, err := a.DescribeCluster(ctx)
		if err != nil {
			return Cost{}, err
		}
		if cluster.GetOpenTransactions() == 0 && cluster.GetOwedMarkers() == 0 {
			return count(ctx, a, cluster)
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return Cost{}, fmt.Errorf("%d open transactions and %d owed markers do not go away: is the cluster in use?",
				cluster.GetOpenTransactions(), cluster.GetOwedMarkers())
		}
	}
}

func count(ctx context.Context, a *client.Admin, cluster *oncelogv1.DescribeClusterResponse) (Cost, error) {
	var c Cost
	for _, side := range []struct {
		nodes []*oncelogv1.Node
		work  *Work
	}{{cluster.GetCoordinators(), &c.Coordinators}, {cluster.GetNodes(), &c.Partitions}} {
		for _, n := range side.nodes {
			st, err := a.NodeStatus(ctx, n.GetClientAddress())
			if err != nil {
				return Cost{}, fmt.Errorf("the work of all nodes is counted: %w", err)
			}
			side.work.Fsyncs += float64(st.GetCounters().GetFsyncs())
			side.work.Entries += float64(st.GetCounters().GetRaftEntries())
			side.work.Messages += float64(st.GetCounters().GetRaftMessages())
			side.work.Commands += float64(st.GetCounters().GetProposals())
		}
	}
	return c, nil
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
