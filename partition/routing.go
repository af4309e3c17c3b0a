package partition

import (
	"sync/atomic"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// routes is one assignment in the forms in which requests look it up. It does
// not change; a new assignment makes a new one.
type routes struct {
	byID    map[uint64]route
	byName  map[topicIndex]uint64 // partition id
	client  map[uint64]string     // client addresses by node
	peer    map[uint64]string     // peer addresses by node
	drains  map[uint64]bool       // nodes that are not to lead
	version uint64
}

// route is where a partition is.
type route struct {
	shard uint64
	ref   *oncelogv1.PartitionRef // with all fields set; shared, not modified
}

type topicIndex struct {
	topic string
	index uint32
}

// routing is the current routes.
type routing struct{ p atomic.Pointer[routes] }

func newRouting() *routing {
	r := &routing{}
	r.set(nil)
	return r
}

func (r *routing) get() *routes { return r.p.Load() }

func (r *routing) set(a *oncelogv1.HeartbeatResponse) {
	n := &routes{
		byID: map[uint64]route{}, byName: map[topicIndex]uint64{},
		client: map[uint64]string{}, peer: map[uint64]string{}, drains: map[uint64]bool{},
		version: a.GetVersion(),
	}
	for _, node := range a.GetNodes() {
		n.client[node.GetNodeId()] = node.GetClientAddress()
		n.peer[node.GetNodeId()] = node.GetPeerAddress()
		n.drains[node.GetNodeId()] = node.GetDraining()
	}
	for _, s := range a.GetShards() {
		for _, p := range s.GetPartitions() {
			id := p.GetPartitionId()
			n.byID[id] = route{s.GetShardId(), &oncelogv1.PartitionRef{
				Topic: p.GetTopic(), Partition: p.GetPartition(), PartitionId: id,
			}}
			n.byName[topicIndex{p.GetTopic(), p.GetPartition()}] = id
		}
	}
	r.p.Store(n)
}

// find returns where a partition is. A reference by id is taken at its word.
func (r *routes) find(ref *oncelogv1.PartitionRef) (route, bool) {
	id := ref.GetPartitionId()
	if id == 0 {
		id = r.byName[topicIndex{ref.GetTopic(), ref.GetPartition()}]
	}
	rt, ok := r.byID[id]
	return rt, ok
}

// ResolvePeer returns the peer address of a partition node that shares a shard
// with this one. It is what the Raft transport asks.
func (n *Node) ResolvePeer(id raftstore.NodeID) (address string, ok bool) {
	address = n.routing.get().peer[uint64(id)]
	return address, address != ""
}
