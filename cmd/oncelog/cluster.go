package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newClusterCommand(a *app) *cobra.Command {
	return parent("cluster", "Show the state of the whole cluster, and move leaders",
		newClusterStatusCommand(a), newClusterHealthCommand(a), newClusterMoveLeaderCommand(a))
}

// nodeTimeout bounds how long one node is waited for when many are asked.
const nodeTimeout = 3 * time.Second

func newClusterStatusCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, shards and leaders, and ask every node how it is",
		Long: `Status shows what the coordinator's leader knows of nodes and shards, and beside
it what every node says of itself: a node that does not answer is shown with the
reason. If no leader answers, the nodes among --servers are asked all the same.

It exits with 1 when a node does not answer, its disk is low, its clock is off, or
a group has no leader.`,
		Args: takes(0, 0),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		view := s.clusterView(ctx)
		if err := s.print(view, view.table); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(view.Problems) > 0 {
			for _, p := range view.Problems {
				s.complain(p, "")
			}
			return errNotWell
		}
		return nil
	})
}

// clusterView is the cluster as its leader and its nodes tell it.
type clusterView struct {
	// Cluster is a DescribeClusterResponse; null if no leader answered.
	Cluster json.RawMessage `json:"cluster"`
	Nodes   []nodeView      `json:"nodes"`
	// Problems are what is not well, in words.
	Problems []string `json:"problems"`

	cluster *oncelogv1.DescribeClusterResponse
	now     time.Time
}

// nodeView is one node as it tells of itself.
type nodeView struct {
	Role    string `json:"role"`
	NodeID  uint64 `json:"node_id,string"`
	Address string `json:"client_address"`
	// Alive is the leader's view.
	Alive bool `json:"alive"`
	// Error says why there is no status.
	Error string `json:"error"`
	// Status is a GetStatusResponse; null with an error.
	Status json.RawMessage `json:"status"`

	status *oncelogv1.GetStatusResponse
}

// Roles of nodes.
const (
	roleCoordinator = "coordinator"
	rolePartition   = "partition"
)

func (s *session) clusterView(ctx context.Context) *clusterView {
	v := &clusterView{Problems: []string{}, now: s.now()}
	cluster, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeClusterResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*nodeTimeout) // an election takes about a second
		defer cancel()
		return a.DescribeCluster(ctx)
	})
	if err == nil {
		v.cluster = cluster
		v.addNodes(cluster.GetCoordinators(), cluster.GetNodes())
		v.Cluster, err = output.Message(cluster)
	}
	if err != nil {
		text, _ := explain(err)
		if advised := (*helpError)(nil); errors.As(err, &advised) { // such as what is wrong with certificates
			text += "; " + advised.help
		}
		v.problem("no coordinator leader answers: %s", text)
		s.addKnownNodes(ctx, v)
	}
	s.askNodes(ctx, v.Nodes)
	if s.client != nil {
		v.judge()
	}
	return v
}

// addKnownNodes adds the nodes that any coordinator knows, or those among the
// servers if none answers.
func (s *session) addKnownNodes(ctx context.Context, v *clusterView) {
	if s.client != nil {
		meta, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.GetMetadataResponse, error) {
			ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
			defer cancel()
			return a.Metadata(ctx)
		})
		if err == nil {
			v.addNodes(meta.GetCoordinators(), meta.GetNodes())
			return
		}
	}
	for _, address := range s.cfg.Servers {
		v.Nodes = append(v.Nodes, nodeView{Role: roleCoordinator, Address: address})
	}
}

func (v *clusterView) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

func (v *clusterView) addNodes(coordinators, partitions []*oncelogv1.Node) {
	add := func(role string, nodes []*oncelogv1.Node) {
		for _, n := range nodes {
			v.Nodes = append(v.Nodes, nodeView{Role: role, NodeID: n.GetNodeId(), Address: n.GetClientAddress(), Alive: n.GetAlive()})
		}
	}
	add(roleCoordinator, coordinators)
	add(rolePartition, partitions)
}

// askNodes asks all nodes at once; the slowest decides how long it takes.
func (s *session) askNodes(ctx context.Context, nodes []nodeView) {
	if s.client == nil {
		return // they did not even answer where the cluster is
	}
	ctx, cancel := context.WithTimeout(ctx, min(s.cfg.Timeout, nodeTimeout))
	defer cancel()
	var asking sync.WaitGroup
	for i := range nodes {
		n := &nodes[i]
		asking.Go(func() {
			var err error
			n.status, err = s.client.Admin().NodeStatus(ctx, n.Address)
			if err == nil {
				n.Status, err = output.Message(n.status)
			}
			if err != nil {
				n.Error, _ = explain(err)
			}
		})
	}
	asking.Wait()
}

// judge finds what is not well.
func (v *clusterView) judge() {
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if n.status == nil {
			v.problem("%s node %s does not answer: %s", n.Role, n.name(), n.Error)
			continue
		}
		if n.NodeID == 0 { // from --servers: only now is it known who it is
			n.NodeID = n.status.GetNodeId()
			n.Role = output.Enum(n.status.GetRole(), "NODE_ROLE")
		}
		if d := n.status.GetDisk(); d.GetLow() {
			v.problem("the disk of %s node %s is low: %s free, and min_free_bytes is %s: it leads nothing that another node can lead, and refuses writes",
				n.Role, n.name(), output.Bytes(d.GetFreeBytes()), output.Bytes(d.GetMinFreeBytes()))
		}
		if n.status.GetNodeId() != n.NodeID {
			v.problem("%s node %s answers as node %d: two nodes share an address", n.Role, n.name(), n.status.GetNodeId())
		}
	}
	v.judgeClocks()
	if v.cluster == nil {
		return
	}
	if v.cluster.GetCoordinatorLeader() == 0 {
		v.problem("the coordinator has no leader")
	}
	if len(v.cluster.GetNodes()) == 0 {
		v.problem("no partition node has registered: start one with `oncelog partition --coordinator` and the peer addresses of the coordinators, " +
			"or look into the log of one that runs; until then no topic can be created")
	}
	for _, shard := range v.cluster.GetShards() {
		if shard.GetLeader() == 0 {
			v.problem("shard %d has no leader", shard.GetShardId())
		}
	}
}

// formatLevel returns the level of formats that the cluster writes and, while some of
// its nodes read a higher one, who has to read it as well before it is raised.
func (v *clusterView) formatLevel() string {
	now, newest := level.Of(v.cluster.GetFormatLevel()), uint32(0)
	for _, n := range v.Nodes {
		newest = max(newest, n.status.GetMaxFormatLevel())
	}
	text := strconv.FormatUint(uint64(now), 10)
	if newest <= now {
		return text
	}
	var holding []string
	for i := range v.Nodes {
		if n := &v.Nodes[i]; level.Of(n.status.GetMaxFormatLevel()) <= now {
			holding = append(holding, fmt.Sprintf("%s %d", n.Role, n.NodeID))
		}
	}
	if len(holding) == 0 {
		return text + " (about to rise)"
	}
	return text + " (" + strconv.FormatUint(uint64(newest), 10) + " when it is read by " + strings.Join(holding, ", ") + ")"
}

func (n *nodeView) name() string {
	if n.NodeID == 0 {
		return "at " + n.Address
	}
	return fmt.Sprintf("%d at %s", n.NodeID, n.Address)
}

func (v *clusterView) table(w io.Writer) error {
	if c := v.cluster; c != nil {
		if err := output.Fields(w,
			"cluster_id", c.GetClusterId(), "coordinator_leader", c.GetCoordinatorLeader(), "coordinator_term", c.GetCoordinatorTerm(),
			"topics", output.Count(c.GetTopicCount()), "partitions", output.Count(c.GetPartitionCount()),
			"open_transactions", output.Count(c.GetOpenTransactions()),
			"owed_markers", output.Count(c.GetOwedMarkers()),
			"format_level", v.formatLevel()); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if err := v.nodeTable(w); err != nil {
		return err
	}
	if v.cluster == nil || len(v.cluster.GetShards()) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return v.shardTable(w)
}

func (v *clusterView) nodeTable(w io.Writer) error {
	t := output.NewTable("role", "node_id", "client_address", "answers", "version", "uptime", "clock", "leads", "records_appended", "fsyncs")
	for i := range v.Nodes {
		n := &v.Nodes[i]
		id := any(n.NodeID)
		if n.NodeID == 0 {
			id = ""
		}
		if n.status == nil {
			t.Row(n.Role, id, n.Address, "no")
			continue
		}
		leads := 0
		for _, g := range n.status.GetGroups() {
			if g.GetReady() {
				leads++
			}
		}
		uptime := v.now.Sub(time.UnixMilli(n.status.GetStartedAtMs()))
		t.Row(n.Role, id, n.Address, "yes", n.status.GetVersion(), output.Duration(uptime), clockText(n),
			fmt.Sprintf("%d of %d", leads, len(n.status.GetGroups())),
			output.Count(n.status.GetCounters().GetRecordsAppended()), output.Count(n.status.GetCounters().GetFsyncs()))
	}
	return t.Write(w)
}

func (v *clusterView) shardTable(w io.Writer) error {
	shards := slices.SortedFunc(slices.Values(v.cluster.GetShards()), func(a, b *oncelogv1.Shard) int {
		return cmp.Compare(a.GetShardId(), b.GetShardId())
	})
	t := output.NewTable("shard_id", "leader", "term", "replicas", "partition_count", "lag")
	for _, shard := range shards {
		leader := any(shard.GetLeader())
		if shard.GetLeader() == 0 {
			leader = "none"
		}
		t.Row(shard.GetShardId(), leader, shard.GetTerm(), joined(shard.GetReplicas()), shard.GetPartitionCount(), v.lag(shard))
	}
	return t.Write(w)
}

// lag returns by how many log entries each replica that answers is behind the
// one that is furthest, in the order of the replicas.
func (v *clusterView) lag(shard *oncelogv1.Shard) string {
	var furthest uint64
	last := map[uint64]uint64{}
	for _, n := range v.Nodes {
		if n.Role != rolePartition {
			continue
		}
		for _, g := range n.status.GetGroups() {
			if g.GetGroupId() == shard.GetShardId() {
				last[n.NodeID] = g.GetApplied()
				furthest = max(furthest, g.GetCommit(), g.GetApplied())
			}
		}
	}
	text := ""
	for i, id := range shard.GetReplicas() {
		if i > 0 {
			text += ","
		}
		if applied, ok := last[id]; ok {
			text += strconv.FormatUint(furthest-applied, 10)
		} else {
			text += "?"
		}
	}
	return text
}
