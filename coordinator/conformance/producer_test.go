package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// patience is how long a call may wait; time is not the machine's.
const patience = 30 * time.Second

// timeoutMillis is the transaction timeout of the tests' producers.
const timeoutMillis = 10_000

// producer is a producer as its client knows it.
type producer struct {
	c     *cluster
	id    string
	pid   uint64
	epoch uint32
	token []byte
}

// init takes a transactional id over without waiting for earlier transactions.
func (c *cluster) init(id string) *producer {
	c.t.Helper()
	return c.initWith(id, "")
}

// initWith is init with the identity of the request.
func (c *cluster) initWith(id, request string) *producer {
	c.t.Helper()
	res, err := c.initAs(&oncelogv1.InitProducerRequest{
		TransactionalId: id, TimeoutMs: timeoutMillis, RequestId: request, NoWait: true,
	})
	c.ok(err)
	return &producer{c: c, id: id, pid: res.GetProducerId(), epoch: res.GetEpoch(), token: res.GetProducerToken()}
}

func (c *cluster) initAs(req *oncelogv1.InitProducerRequest) (*oncelogv1.InitProducerResponse, error) {
	c.t.Helper()
	return c.leader().txns.InitProducer(c.within(patience), req)
}

func (p *producer) ref(number uint64) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: p.pid, Epoch: p.epoch, TxnNumber: number}
}

// wrote says that a transaction wrote n records to partition i of a topic.
func wrote(t *oncelogv1.Topic, i int, n uint64) *oncelogv1.PartitionProgress {
	return &oncelogv1.PartitionProgress{Partition: byID(t.GetPartitions()[i].GetPartitionId()), NextSequence: n}
}

func byID(partition uint64) *oncelogv1.PartitionRef {
	return &oncelogv1.PartitionRef{PartitionId: partition}
}

func shardOf(t *oncelogv1.Topic, i int) uint64 { return t.GetPartitions()[i].GetShardId() }

// end ends a transaction, and returns what the answer says in words.
func (p *producer) end(number uint64, commit bool, parts ...*oncelogv1.PartitionProgress) string {
	p.c.t.Helper()
	return p.c.end(&oncelogv1.EndTransactionRequest{Txn: p.ref(number), ProducerToken: p.token, Commit: commit, Partitions: parts})
}

func (p *producer) commit(number uint64, parts ...*oncelogv1.PartitionProgress) string {
	p.c.t.Helper()
	return p.end(number, true, parts...)
}

func (p *producer) abort(number uint64, parts ...*oncelogv1.PartitionProgress) string {
	p.c.t.Helper()
	return p.end(number, false, parts...)
}

// applied ends a transaction and waits until every shard has applied that.
func (p *producer) applied(number uint64, commit bool, parts ...*oncelogv1.PartitionProgress) {
	p.c.t.Helper()
	p.c.equal("answer", p.c.end(&oncelogv1.EndTransactionRequest{
		Txn: p.ref(number), ProducerToken: p.token, Commit: commit, Partitions: parts, WaitApplied: true,
	}), "OK")
}

func (c *cluster) end(req *oncelogv1.EndTransactionRequest) string {
	c.t.Helper()
	res, err := c.leader().txns.EndTransaction(c.within(patience), req)
	if err != nil {
		return refusal(err)
	}
	decided := oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	if req.GetCommit() {
		decided = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	}
	c.equal("outcome of an answer that says OK", res.GetOutcome(), decided)
	return "OK"
}

// refusal is an error in words: its code, and what the code's class depends on.
func refusal(err error) string {
	words := []string{code(err)}
	meta := apierrors.From(err).Metadata
	switch meta[apierrors.KeyOutcome] {
	case "COMMITTED":
		words = append(words, "committed")
	case "ABORTED":
		words = append(words, strings.ToLower(meta[apierrors.KeyReason]))
	}
	if why := meta[apierrors.KeyWhy]; why != "" {
		words = append(words, strings.ToLower(why))
	}
	return strings.Join(words, " ")
}

// outcome asks how a transaction ended: "committed", "aborted timeout", "open",
// with a * while a shard has yet to apply it, and a ! if one could not.
func (c *cluster) outcome(ref *oncelogv1.TxnRef) string {
	c.t.Helper()
	res, err := c.leader().txns.GetOutcome(c.within(patience), &oncelogv1.GetOutcomeRequest{Txn: ref})
	if err != nil {
		return refusal(err)
	}
	s := strings.ToLower(strings.TrimPrefix(res.GetOutcome().String(), "TRANSACTION_OUTCOME_"))
	if r := reasonText(res.GetReason()); r != "" {
		s += " " + r
	}
	if len(res.GetPendingShards()) > 0 {
		s += "*"
	}
	if res.GetDamaged() {
		s += "!"
	}
	return s
}

func (p *producer) outcome(number uint64) string {
	p.c.t.Helper()
	return p.c.outcome(p.ref(number))
}

func reasonText(r oncelogv1.AbortReason) string {
	if r == oncelogv1.AbortReason_ABORT_REASON_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(r.String(), "ABORT_REASON_"))
}

// enlist has a shard report a transaction, open for ageMillis, and returns what
// it is told: "ACCEPTED", "DECIDED commit", "STRAY fence 2", "STRAY invalid".
func (c *cluster) enlist(ref *oncelogv1.TxnRef, shard uint64, ageMillis int64, partitions ...uint64) string {
	c.t.Helper()
	res, err := c.leader().cluster.Enlist(c.within(patience), &oncelogv1.EnlistRequest{NodeId: 1, Enlistments: []*oncelogv1.Enlistment{
		{Txn: ref, ShardId: shard, OpenedAt: 7, AgeMs: ageMillis, PartitionIds: partitions},
	}})
	if err != nil {
		return refusal(err)
	}
	a := res.GetAnswers()[0]
	c.equal("opened_at is echoed", a.GetOpenedAt(), 7)
	s := strings.TrimPrefix(a.GetVerdict().String(), "ENLIST_VERDICT_")
	switch {
	case a.GetMarker() != nil && a.GetMarker().GetCommit():
		s += " commit"
	case a.GetMarker() != nil:
		s += " abort"
	}
	if a.Fence != nil {
		s += fmt.Sprint(" fence ", a.GetFence())
	}
	if a.GetInvalid() {
		s += " invalid"
	}
	return s
}

// opens has a shard report a transaction, which must be accepted.
func (p *producer) opens(number, shard uint64) {
	p.c.t.Helper()
	p.c.equal("enlist", p.c.enlist(p.ref(number), shard, 0), "ACCEPTED")
}

// describe returns all that is kept of the producer's transactional id; nil: the
// id does not exist, or has another producer id by now.
func (p *producer) describe() *oncelogv1.DescribeTransactionResponse {
	p.c.t.Helper()
	res, err := p.c.leader().txns.DescribeTransaction(p.c.within(patience), &oncelogv1.DescribeTransactionRequest{ProducerId: p.pid})
	if code(err) == "UNKNOWN_PRODUCER" {
		return nil
	}
	p.c.ok(err)
	return res
}

// state is the state of an id in Kafka's words, and its epoch: "ONGOING 3".
func (p *producer) state() string {
	d := p.describe()
	if d == nil {
		return "gone"
	}
	return fmt.Sprint(strings.TrimPrefix(d.GetState().String(), "TRANSACTION_STATE_"), " ", d.GetEpoch())
}

// unfinished lists the transactions that are open, or that some shard has yet to
// apply: "5 committed*, 6 open".
func (p *producer) unfinished() string {
	p.c.t.Helper()
	d := p.describe()
	var words []string
	for _, c := range d.GetCompleting() {
		what := "committed*"
		if r := reasonText(c.GetReason()); r != "" {
			what = "aborted " + r + "*"
		}
		words = append(words, fmt.Sprint(c.GetTxn().GetTxnNumber(), " ", what))
	}
	if o := d.GetOpen(); o != nil {
		words = append(words, fmt.Sprint(o.GetTxn().GetTxnNumber(), " open"))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// delete removes the transactional id.
func (p *producer) delete() string {
	p.c.t.Helper()
	_, err := p.c.leader().txns.DeleteTransactionalId(p.c.within(patience), &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: p.id})
	return code(err)
}

// fence is an operator's fence.
func (p *producer) fence() string {
	p.c.t.Helper()
	_, err := p.c.leader().txns.FenceProducer(p.c.within(patience), &oncelogv1.FenceProducerRequest{TransactionalId: p.id})
	return code(err)
}

// abortByOperator aborts a transaction, or with number 0 whichever is open.
func (p *producer) abortByOperator(number uint64) string {
	p.c.t.Helper()
	req := &oncelogv1.AbortTransactionRequest{TransactionalId: p.id}
	if number > 0 {
		req.Txn = p.ref(number)
	}
	_, err := p.c.leader().txns.AbortTransaction(p.c.within(patience), req)
	if err != nil {
		return refusal(err)
	}
	return "OK"
}

// told lists markers in words, in a fixed order.
func told(markers []marker) []string {
	out := make([]string, 0, len(markers))
	for _, m := range markers {
		out = append(out, m.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
