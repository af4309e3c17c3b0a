package metrics

import (
	"strconv"
	"strings"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
)

// Roles of nodes: the values of the label role.
const (
	RoleCoordinator = "coordinator"
	RolePartition   = "partition"
)

// rpcBuckets are the bounds of grpc_server_handling_seconds: from a call that is
// answered from memory to one that waits for a leader. There are few, for every
// method of the contract has as many series.
var rpcBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// Registry has the metrics of one process: of Go and of the process itself, and of
// the nodes that were added. It is nobody else's: nothing is registered in
// prometheus.DefaultRegisterer.
type Registry struct{ all *prometheus.Registry }

// NewRegistry returns a registry without nodes.
func NewRegistry() *Registry {
	r := &Registry{all: prometheus.NewRegistry()}
	r.all.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Node is the part of a registry that belongs to one node. Its metrics have the
// labels role and node_id.
type Node struct {
	registerer prometheus.Registerer
	version    string
	rpc        *grpcprom.ServerMetrics
}

// Node adds a node, which there must not be yet, with the metrics of the calls that
// it serves. Version is the program's.
func (r *Registry) Node(role string, id uint64, version string) *Node {
	n := &Node{
		version: version,
		registerer: prometheus.WrapRegistererWith(
			prometheus.Labels{nodeLabels[0]: role, nodeLabels[1]: strconv.FormatUint(id, 10)}, r.all),
		rpc: grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramBuckets(rpcBuckets))),
	}
	n.registerer.MustRegister(n.rpc)
	return n
}

// UnaryInterceptor counts and measures calls. It belongs before all others.
func (n *Node) UnaryInterceptor() grpc.UnaryServerInterceptor { return n.rpc.UnaryServerInterceptor() }

// StreamInterceptor is UnaryInterceptor for streams.
func (n *Node) StreamInterceptor() grpc.StreamServerInterceptor {
	return n.rpc.StreamServerInterceptor()
}

// Store is what is asked of a node's store.
type Store interface {
	Metrics() raftstore.Metrics
	Disk() raftstore.Disk
}

// Coordinator adds the figures of a coordinator node and of its store.
func (n *Node) Coordinator(c interface{ Stats() coordinator.Stats }, store Store) {
	n.registerer.MustRegister(collector{
		of: []*section{nodeSection, raftSection, coordinatorSection},
		read: func(s *scrape) {
			st, m := c.Stats(), store.Metrics()
			s.set(nodeInfo, 1, n.version, st.ClusterID)
			readClock(s, st.Clock)
			readStore(s, &m, store.Disk(), coordinatorGroups(&st))
			readCoordinator(s, &st)
		},
	})
}

// Partition adds the figures of a partition node and of its store.
func (n *Node) Partition(p interface{ Stats() partition.Stats }, store Store) {
	n.registerer.MustRegister(collector{
		of: []*section{nodeSection, raftSection, partitionSection},
		read: func(s *scrape) {
			st, m := p.Stats(), store.Metrics()
			s.set(nodeInfo, 1, n.version, st.ClusterID)
			readClock(s, st.Clock)
			readStore(s, &m, store.Disk(), st.Shards)
			readPartition(s, &st)
		},
	})
}

// short is a duration without the zeros that time.Duration prints: 5m, not 5m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}
