package conformance

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// coordinator stands in for the coordinator: it assigns the shard, and answers
// what a test wants about open transactions and about producers.
type coordinator struct {
	mu         sync.Mutex
	changed    chan struct{} // closed and replaced with every change
	assignment *oncelogv1.HeartbeatResponse
	reports    map[uint64]*oncelogv1.HeartbeatRequest
	gone       []uint64
	enlisted   []*oncelogv1.Enlistment
	asks       int // calls of Enlist
	// verdict answers an enlistment; nil, or a nil answer: ACCEPTED. An error
	// fails the whole call.
	verdict func(*oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error)
}

func newCoordinator(nodes, partitions int) *coordinator {
	shard := &oncelogv1.ShardAssignment{ShardId: shardID, Version: 1}
	for i := range partitions {
		shard.Partitions = append(shard.Partitions, &oncelogv1.AssignedPartition{
			PartitionId: uint64(i + 1), TopicId: 1, Topic: topic, Partition: uint32(i),
		})
	}
	a := &oncelogv1.HeartbeatResponse{
		Version: 1, Shards: []*oncelogv1.ShardAssignment{shard},
		TokenKeys: []*oncelogv1.TokenKey{{KeyId: secret.ID, Secret: secret.Secret}},
	}
	for i := range nodes {
		id := uint64(i + 1)
		shard.Replicas = append(shard.Replicas, id)
		a.Nodes = append(a.Nodes, &oncelogv1.Node{NodeId: id, ClientAddress: clientAddress(id), PeerAddress: fmt.Sprintf("peer-%d:1", id)})
	}
	return &coordinator{changed: make(chan struct{}), assignment: a, reports: map[uint64]*oncelogv1.HeartbeatRequest{}}
}

// with changes what the coordinator says.
func (k *coordinator) with(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
	close(k.changed)
	k.changed = make(chan struct{})
}

// remove takes a partition away from the shard, as a deleted topic does.
func (k *coordinator) remove(partition uint64) {
	k.with(func() {
		k.assignment = proto.Clone(k.assignment).(*oncelogv1.HeartbeatResponse)
		k.assignment.Version++
		s := k.assignment.GetShards()[0]
		s.Version = k.assignment.GetVersion()
		s.Partitions = slices.DeleteFunc(s.GetPartitions(), func(p *oncelogv1.AssignedPartition) bool {
			return p.GetPartitionId() == partition
		})
	})
}

// leads reports whether a node has said that it leads with what is assigned now.
func (k *coordinator) leads(node uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.reports[node].GetShards() {
		if s.GetReady() && s.GetPartitionsVersion() >= k.assignment.GetShards()[0].GetVersion() {
			return true
		}
	}
	return false
}

// asked returns how often the coordinator was asked about a transaction.
func (k *coordinator) asked(ref *oncelogv1.TxnRef) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, e := range k.enlisted {
		if proto.Equal(e.GetTxn(), ref) {
			n++
		}
	}
	return n
}

// enlistments returns every question there was.
func (k *coordinator) enlistments() []*oncelogv1.Enlistment {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.enlisted)
}

// lastAge returns the age in the last question.
func (k *coordinator) lastAge() time.Duration {
	list := k.enlistments()
	return time.Duration(list[len(list)-1].GetAgeMs()) * time.Millisecond
}

// calls returns how often Enlist was called.
func (k *coordinator) calls() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asks
}

// RegisterNode implements partition.Coordinator.
func (*coordinator) RegisterNode(context.Context, *oncelogv1.RegisterNodeRequest) (*oncelogv1.RegisterNodeResponse, error) {
	return &oncelogv1.RegisterNodeResponse{ClusterId: clusterID}, nil
}

// Heartbeat implements partition.Coordinator.
func (k *coordinator) Heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	k.mu.Lock()
	k.reports[req.GetNodeId()] = req
	k.mu.Unlock()
	for {
		k.mu.Lock()
		answer, changed := k.assignment, k.changed
		k.mu.Unlock()
		if answer.GetVersion() > req.GetKnownVersion() {
			return proto.Clone(answer).(*oncelogv1.HeartbeatResponse), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Enlist implements partition.Coordinator.
func (k *coordinator) Enlist(_ context.Context, req *oncelogv1.EnlistRequest) (*oncelogv1.EnlistResponse, error) {
	k.mu.Lock()
	k.enlisted = append(k.enlisted, req.GetEnlistments()...)
	k.asks++
	verdict := k.verdict
	k.mu.Unlock()
	resp := &oncelogv1.EnlistResponse{}
	for _, e := range req.GetEnlistments() {
		var a *oncelogv1.EnlistAnswer
		var err error
		if verdict != nil {
			a, err = verdict(e)
		}
		if err != nil {
			return nil, err
		}
		if a == nil {
			a = &oncelogv1.EnlistAnswer{Verdict: oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED}
		}
		if a.GetTxn() == nil {
			a.Txn, a.ShardId, a.OpenedAt = e.GetTxn(), e.GetShardId(), e.GetOpenedAt()
		}
		resp.Answers = append(resp.Answers, a)
	}
	return resp, nil
}

// CheckProducers implements partition.Coordinator.
func (k *coordinator) GiveUpDisk(context.Context, *oncelogv1.GiveUpDiskRequest) (*oncelogv1.GiveUpDiskResponse, error) {
	return &oncelogv1.GiveUpDiskResponse{}, nil
}

func (k *coordinator) GiveUpReplica(context.Context, *oncelogv1.GiveUpReplicaRequest) (*oncelogv1.GiveUpReplicaResponse, error) {
	return &oncelogv1.GiveUpReplicaResponse{}, nil
}

func (k *coordinator) CheckProducers(context.Context, *oncelogv1.CheckProducersRequest) (*oncelogv1.CheckProducersResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &oncelogv1.CheckProducersResponse{Gone: k.gone}, nil
}
