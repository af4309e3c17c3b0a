package coordinator

import (
	"fmt"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// nodeAddress is the peer address of a partition node.
func nodeAddress(id uint64) string { return fmt.Sprintf("node-%d:1", id) }

func instance(id uint64) string { return fmt.Sprintf("disk-%d", id) }

// register makes partition nodes 1 to n known.
func (c *cluster) register(n int) {
	c.t.Helper()
	for id := uint64(1); id <= uint64(n); id++ {
		_, err := c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
			NodeId: id, InstanceId: instance(id), ClientAddress: fmt.Sprintf("node-%d:0", id), PeerAddress: nodeAddress(id),
		})
		wantCode(c.t, err, "")
	}
}

// topic creates a topic and lets its shards be led by the first of their nodes.
// It returns the topic.
func (c *cluster) topic(name string, partitions, replicas uint32) *oncelogv1.Topic {
	c.t.Helper()
	res, err := c.leader().catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{
		Name: name, Partitions: partitions, ReplicationFactor: replicas, NoWait: true,
	})
	wantCode(c.t, err, "")
	c.report(1)
	return res.GetTopic()
}

// report sends one heartbeat of every node, in which each shard is led by the
// first of its nodes, in the given term.
func (c *cluster) report(term uint64) {
	c.t.Helper()
	leader := c.leader()
	meta, err := leader.catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{})
	wantCode(c.t, err, "")
	for _, n := range meta.GetNodes() {
		req := &oncelogv1.HeartbeatRequest{NodeId: n.GetNodeId(), InstanceId: instance(n.GetNodeId())}
		for _, s := range meta.GetShards() {
			first := s.GetReplicas()[0]
			req.Shards = append(req.Shards, &oncelogv1.ShardReport{
				ShardId: s.GetShardId(), Leader: first, Term: term, Ready: first == n.GetNodeId(), PartitionsVersion: meta.GetVersion(),
			})
		}
		_, err := leader.cluster().Heartbeat(c.ctx(), req)
		wantCode(c.t, err, "")
	}
}

// producer is a producer as its client knows it.
type producer struct {
	c     *cluster
	id    string
	pid   uint64
	epoch uint32
	token []byte
}

func (c *cluster) producer(id string) *producer {
	c.t.Helper()
	res, err := c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: id, TimeoutMs: 10_000})
	wantCode(c.t, err, "")
	return &producer{c: c, id: id, pid: res.GetProducerId(), epoch: res.GetEpoch(), token: res.GetProducerToken()}
}

func (p *producer) ref(number uint64) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: p.pid, Epoch: p.epoch, TxnNumber: number}
}

// wrote says that the transaction wrote n records to partition i of a topic.
func wrote(t *oncelogv1.Topic, i int, n uint64) *oncelogv1.PartitionProgress {
	return &oncelogv1.PartitionProgress{
		Partition:    &oncelogv1.PartitionRef{PartitionId: t.GetPartitions()[i].GetPartitionId()},
		NextSequence: n,
	}
}

func (p *producer) request(number uint64, commit bool, parts ...*oncelogv1.PartitionProgress) *oncelogv1.EndTransactionRequest {
	return &oncelogv1.EndTransactionRequest{Txn: p.ref(number), ProducerToken: p.token, Commit: commit, Partitions: parts}
}

// end sends an EndTransaction to the leader.
func (p *producer) end(number uint64, commit bool, parts ...*oncelogv1.PartitionProgress) (*oncelogv1.EndTransactionResponse, error) {
	p.c.t.Helper()
	return p.c.leader().txns().EndTransaction(p.c.ctx(), p.request(number, commit, parts...))
}

func (p *producer) mustEnd(number uint64, commit bool, parts ...*oncelogv1.PartitionProgress) {
	p.c.t.Helper()
	res, err := p.end(number, commit, parts...)
	wantCode(p.c.t, err, "")
	want := oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	if commit {
		want = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	}
	if res.GetOutcome() != want {
		p.c.t.Fatalf("outcome %v, want %v", res.GetOutcome(), want)
	}
}

// enlist tells the leader that a shard has the transaction open.
func (p *producer) enlist(number, shard uint64, ageMillis int64) *oncelogv1.EnlistAnswer {
	p.c.t.Helper()
	res, err := p.c.leader().cluster().Enlist(p.c.ctx(), &oncelogv1.EnlistRequest{NodeId: 1, Enlistments: []*oncelogv1.Enlistment{
		{Txn: p.ref(number), ShardId: shard, OpenedAt: 7, AgeMs: ageMillis},
	}})
	wantCode(p.c.t, err, "")
	if len(res.GetAnswers()) != 1 {
		p.c.t.Fatalf("%d answers", len(res.GetAnswers()))
	}
	return res.GetAnswers()[0]
}

// accept is enlist that must be accepted.
func (p *producer) accept(number, shard uint64) {
	p.c.t.Helper()
	if v := p.enlist(number, shard, 0).GetVerdict(); v != oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED {
		p.c.t.Fatalf("enlist: %v", v)
	}
}

// outcome asks GetOutcome and prints it: "ABORTED TIMEOUT", "OPEN".
func (p *producer) outcome(number uint64) string {
	p.c.t.Helper()
	res, err := p.c.leader().txns().GetOutcome(p.c.ctx(), &oncelogv1.GetOutcomeRequest{Txn: p.ref(number)})
	wantCode(p.c.t, err, "")
	return outcomeText(res)
}

func outcomeText(res *oncelogv1.GetOutcomeResponse) string {
	s := res.GetOutcome().String()[len("TRANSACTION_OUTCOME_"):]
	if r := res.GetReason(); r != oncelogv1.AbortReason_ABORT_REASON_UNSPECIFIED {
		s += " " + r.String()[len("ABORT_REASON_"):]
	}
	if len(res.GetPendingShards()) > 0 {
		s += fmt.Sprint(" pending ", res.GetPendingShards())
	}
	if res.GetDamaged() {
		s += " damaged"
	}
	return s
}

func shardOf(t *oncelogv1.Topic, i int) uint64 { return t.GetPartitions()[i].GetShardId() }
