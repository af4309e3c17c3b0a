package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// clusterData is the cluster as its leader and its nodes tell it.
type clusterData struct {
	*oncelogv1.DescribeClusterResponse
	Nodes  []nodeLine
	Shards []shardLine
	// Problems are what is not well, in words.
	Problems []string
}

type nodeLine struct {
	Role, Address string
	ID            uint64
	Leads, Groups int
	Draining      bool
	Status        *oncelogv1.GetStatusResponse
	Error         string
}

// Uptime is since when the node runs.
func (n nodeLine) Uptime(now time.Time) string {
	return output.Duration(now.Sub(time.UnixMilli(n.Status.GetStartedAtMs())))
}

type shardLine struct {
	*oncelogv1.Shard
	// Others are where the leadership could go.
	Others []uint64
}

// cluster shows nodes, shards and leaders.
func (h *Handler) cluster(ctx context.Context, _ *http.Request) (*view, error) {
	d, err := h.admin.DescribeCluster(ctx)
	if err != nil {
		return nil, err
	}
	data := clusterData{DescribeClusterResponse: d}
	for _, n := range d.GetCoordinators() {
		data.Nodes = append(data.Nodes, nodeLine{Role: "coordinator", ID: n.GetNodeId(), Address: n.GetClientAddress()})
	}
	for _, n := range d.GetNodes() {
		data.Nodes = append(data.Nodes, nodeLine{Role: "partition", ID: n.GetNodeId(), Address: n.GetClientAddress(), Draining: n.GetDraining()})
	}
	h.askNodes(ctx, data.Nodes)
	coordinator := &oncelogv1.Shard{ShardId: 1, Leader: d.GetCoordinatorLeader(), Term: d.GetCoordinatorTerm()}
	for _, n := range d.GetCoordinators() {
		coordinator.Replicas = append(coordinator.Replicas, n.GetNodeId())
	}
	shards := slices.SortedFunc(slices.Values(d.GetShards()), func(a, b *oncelogv1.Shard) int { return cmp.Compare(a.GetShardId(), b.GetShardId()) })
	for _, s := range append([]*oncelogv1.Shard{coordinator}, shards...) {
		line := shardLine{Shard: s}
		for _, r := range s.GetReplicas() {
			if r != s.GetLeader() && s.GetLeader() != 0 {
				line.Others = append(line.Others, r)
			}
		}
		if s.GetLeader() == 0 {
			data.Problems = append(data.Problems, "shard "+strconv.FormatUint(s.GetShardId(), 10)+" has no leader")
		}
		data.Shards = append(data.Shards, line)
	}
	for _, n := range data.Nodes {
		name := n.Role + " node " + strconv.FormatUint(n.ID, 10)
		if n.Status == nil {
			data.Problems = append(data.Problems, name+" does not answer: "+n.Error)
		} else if n.Status.GetDisk().GetLow() {
			data.Problems = append(data.Problems, "the disk of "+name+" is low: it refuses writes")
		}
	}
	return &view{
		Title: "Cluster", Section: "cluster", Template: "cluster", Data: data,
		Commands: commands{h.cli("cluster", "status"), h.grpcurl(leaderAddress(d), "CatalogService/DescribeCluster", nil)},
	}, nil
}

// askNodes asks all nodes at once: the slowest decides how long it takes.
func (h *Handler) askNodes(ctx context.Context, nodes []nodeLine) {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	var asking sync.WaitGroup
	for i := range nodes {
		n := &nodes[i]
		asking.Go(func() {
			status, err := h.admin.NodeStatus(ctx, n.Address)
			if err != nil {
				n.Error = output.Printable(err.Error())
				return
			}
			n.Status, n.Groups = status, len(status.GetGroups())
			for _, g := range status.GetGroups() {
				if g.GetReady() {
					n.Leads++
				}
			}
		})
	}
	asking.Wait()
}

// leaderAddress is where the coordinator's leader is asked.
func leaderAddress(d *oncelogv1.DescribeClusterResponse) string {
	for _, n := range d.GetCoordinators() {
		if n.GetNodeId() == d.GetCoordinatorLeader() {
			return n.GetClientAddress()
		}
	}
	return "ADDRESS"
}

// coordinatorAddress is leaderAddress as metadata has it: for commands that are shown.
func (h *Handler) coordinatorAddress(ctx context.Context) string {
	m, err := h.admin.Metadata(ctx)
	if err != nil {
		return "ADDRESS"
	}
	for _, n := range m.GetCoordinators() {
		if n.GetNodeId() == m.GetCoordinatorLeader() {
			return n.GetClientAddress()
		}
	}
	return "ADDRESS"
}
