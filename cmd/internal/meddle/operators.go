package meddle

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// States of a transactional id.
const (
	ongoing        = oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING
	prepareCommit  = oncelogv1.TransactionState_TRANSACTION_STATE_PREPARE_COMMIT
	prepareAbort   = oncelogv1.TransactionState_TRANSACTION_STATE_PREPARE_ABORT
	completeCommit = oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_COMMIT
	completeAbort  = oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_ABORT
	emptyState     = oncelogv1.TransactionState_TRANSACTION_STATE_EMPTY
)

// listings: everything that lists transactional ids, with filters and pages.
func (m *meddler) listings() {
	p := m.newProducer()
	m.commit(&ground{}, m.begin(p), false)
	found := false
	for _, l := range m.list(&oncelogv1.ListTransactionsRequest{IdContains: p.id}) {
		m.check(strings.Contains(l.GetTransactionalId(), p.id), "%q does not contain %q", l.GetTransactionalId(), p.id)
		if l.GetTransactionalId() == p.id {
			found = true
			m.check(l.GetState() == completeCommit && l.GetTxn().GetProducerId() == p.pid && l.GetAgeMs() == 0 && l.GetCompleting() == 0,
				"an id whose last transaction was committed is listed as %v, age %d, with %d to complete", l.GetState(), l.GetAgeMs(), l.GetCompleting())
		}
	}
	m.check(found, "a transactional id is not listed")
	states := []oncelogv1.TransactionState{pick(m, emptyState, ongoing, completeAbort), pick(m, completeCommit, prepareCommit, prepareAbort)}
	for _, l := range m.list(&oncelogv1.ListTransactionsRequest{States: states}) {
		m.check(slices.Contains(states, l.GetState()), "a list of %v has %v", states, l.GetState())
	}
	older := int64(m.upTo(2000))
	for _, l := range m.list(&oncelogv1.ListTransactionsRequest{OlderThanMs: older}) {
		m.check(l.GetAgeMs() >= older, "a list of what is older than %d ms has one of %d ms", older, l.GetAgeMs())
	}
	var cluster oncelogv1.DescribeClusterResponse
	m.ask(coordinator, oncelogv1.CatalogService_DescribeCluster_FullMethodName, &oncelogv1.DescribeClusterRequest{}, &cluster, ok)
	m.check(m.lost || cluster.GetCoordinatorLeader() > 0 && len(cluster.GetNodes()) > 0 && len(cluster.GetShards()) > 0, "the cluster has no leader, nodes or shards")
	m.statuses(&cluster)
}

// list reads all pages.
func (m *meddler) list(req *oncelogv1.ListTransactionsRequest) (out []*oncelogv1.TransactionListing) {
	req.PageSize = uint32(m.Rand.IntN(4))
	for range 50 {
		var page oncelogv1.ListTransactionsResponse
		m.ask(coordinator, oncelogv1.TransactionService_ListTransactions_FullMethodName, req, &page, ok)
		size := int(req.GetPageSize())
		m.check(size == 0 || len(page.GetTransactions()) <= size, "a page of %d has %d", size, len(page.GetTransactions()))
		out = append(out, page.GetTransactions()...)
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" || m.lost {
			break
		}
	}
	return out
}

// statuses asks every node about itself.
func (m *meddler) statuses(cluster *oncelogv1.DescribeClusterResponse) {
	for _, n := range append(cluster.GetNodes(), cluster.GetCoordinators()...) {
		if m.lost {
			return
		}
		cc, err := m.connect(n.GetClientAddress())
		if err != nil {
			continue
		}
		ctx, cancel := m.Runtime.WithTimeout(m.ctx, attempt)
		status, err := oncelogv1.NewStatusServiceClient(cc).GetStatus(ctx, &oncelogv1.GetStatusRequest{})
		cancel()
		if a, _ := answerOf(err); a != ok {
			m.check(a.transient(), "a node answered %v about itself", err)
			continue
		}
		m.check(status.GetNodeId() == n.GetNodeId(), "node %d says that it is %d", n.GetNodeId(), status.GetNodeId())
		for _, g := range status.GetGroups() {
			m.check(g.GetApplied() <= g.GetCommit() && g.GetCommit() <= g.GetLastIndex() || g.GetLastIndex() == 0,
				"group %d has applied %d of %d committed of %d", g.GetGroupId(), g.GetApplied(), g.GetCommit(), g.GetLastIndex())
		}
	}
	if m.lost || len(cluster.GetShards()) == 0 {
		return
	}
	led, err := m.reach(shardAt(cluster.GetShards()[0].GetShardId()))
	if err != nil {
		return
	}
	ctx, cancel := m.Runtime.WithTimeout(m.ctx, attempt)
	defer cancel()
	_, err = oncelogv1.NewLogServiceClient(led).DescribePartitions(ctx, &oncelogv1.DescribePartitionsRequest{})
	a, _ := answerOf(err)
	m.check(a == ok || a.transient(), "the partitions that a node leads were answered %v", err)
}

// descriptions: one id, followed through the life of a transaction.
func (m *meddler) descriptions() {
	m.on(func(g *ground) {
		p := m.newProducer()
		t := m.begin(p)
		at := g.any(m)
		m.write(t, at)
		d := m.describeID(p)
		for range settleTries {
			if d.GetOpen() != nil || d.GetState() == completeAbort || m.lost {
				break
			}
			m.wait(retryPause)
			d = m.describeID(p)
		}
		if open := d.GetOpen(); open != nil {
			m.check(proto.Equal(open.GetTxn(), t.ref) && open.GetDeadlineMs() == open.GetStartedAtMs()+txnTimeout && d.GetState() == ongoing,
				"the open transaction is described as %d from %d to %d", open.GetTxn().GetTxnNumber(), open.GetStartedAtMs(), open.GetDeadlineMs())
			m.check(len(open.GetParticipants()) == 1 && open.GetParticipants()[0].GetShardId() == at.shard, "the shards of a transaction in one are %v", len(open.GetParticipants()))
		}
		m.producers(at, t)
		decided := m.commit(g, t, false)
		d = m.describeID(p)
		m.check(m.lost || decided != ok || d.GetState() == prepareCommit || d.GetState() == completeCommit, "the state after a commit is %v", d.GetState())
		for _, x := range append(d.GetCompleting(), d.GetOutcomes()...) {
			m.check(x.GetOutcome() == isCommitted || decided != ok, "an outcome %v after a commit", x.GetOutcome())
		}
		m.commit(g, t, true)
		m.ask(coordinator, oncelogv1.TransactionService_AbortTransaction_FullMethodName,
			&oncelogv1.AbortTransactionRequest{TransactionalId: p.id, Txn: t.ref}, &oncelogv1.AbortTransactionResponse{}, conflictOr(decided)...)
		m.inspect(g)
	})
}

// conflictOr is what the abort of a transaction may be answered that may have been
// committed.
func conflictOr(decided answer) []answer {
	if decided == ok {
		return []answer{conflict}
	}
	return []answer{ok}
}

func (m *meddler) describeID(p *producer) *oncelogv1.DescribeTransactionResponse {
	req := &oncelogv1.DescribeTransactionRequest{TransactionalId: p.id}
	if m.chance(2) {
		req = &oncelogv1.DescribeTransactionRequest{ProducerId: p.pid}
	}
	var d oncelogv1.DescribeTransactionResponse
	m.ask(coordinator, oncelogv1.TransactionService_DescribeTransaction_FullMethodName, req, &d, ok)
	m.check(m.lost || d.GetTransactionalId() == p.id && d.GetProducerId() == p.pid, "%q of %d was described for %q of %d",
		d.GetTransactionalId(), d.GetProducerId(), p.id, p.pid)
	return &d
}

// producers looks for an open transaction among what a partition remembers.
func (m *meddler) producers(at *part, t *transaction) {
	var resp oncelogv1.DescribeProducersResponse
	m.ask(shardAt(at.shard), oncelogv1.LogService_DescribeProducers_FullMethodName,
		&oncelogv1.DescribeProducersRequest{Partition: pick(m, at.id, at.named)}, &resp, ok, unknownPartition|forNow)
	for _, x := range resp.GetProducers() {
		if proto.Equal(x.GetTxn(), t.ref) {
			m.check(x.FirstOffset != nil && x.GetNextSequence() == t.next[at], "an open transaction of %d records has first offset %d and next sequence %d",
				t.next[at], x.GetFirstOffset(), x.GetNextSequence())
		}
	}
}

// fences: an operator finishes producers.
func (m *meddler) fences() {
	m.on(func(g *ground) {
		p := m.newProducer()
		t := m.begin(p)
		at := g.any(m)
		m.write(t, at)
		if m.chance(2) {
			m.wait(80 * time.Millisecond)
		}
		m.fence(p, proto.Uint32(p.epoch+50), invalidArgument)
		if p.epoch > 0 {
			m.fence(p, proto.Uint32(p.epoch-1), ok)
		}
		now := m.fence(p, proto.Uint32(p.epoch), ok)
		m.check(now > p.epoch, "epoch %d after %d was finished", now, p.epoch)
		again := m.fence(p, proto.Uint32(p.epoch), ok)
		m.check(again == now, "a repeated fence has raised the epoch from %d to %d", now, again)
		if !m.loose() {
			m.check(m.fence(p, nil, ok) > now, "a fence of whoever is there has done nothing")
		}
		t.over = true
		m.zombie(g, p.at(t.ref.GetTxnNumber()), t, at)
		m.initialize(p, txnTimeout)
		m.commit(g, m.begin(p), true)
		m.inspect(g)
	})
}

func (m *meddler) fence(p *producer, epoch *uint32, may ...answer) uint32 {
	var resp oncelogv1.FenceProducerResponse
	m.ask(coordinator, oncelogv1.TransactionService_FenceProducer_FullMethodName,
		&oncelogv1.FenceProducerRequest{TransactionalId: p.id, Epoch: epoch}, &resp, may...)
	return resp.GetEpoch()
}

// deletions: transactional ids go, with transactions open and over.
func (m *meddler) deletions() {
	m.on(func(g *ground) {
		p := m.newProducer()
		done := m.begin(p)
		at := g.any(m)
		m.write(done, at)
		if m.chance(2) {
			m.commit(g, done, m.chance(2))
		} else {
			done.over = true // aborted with the id, enlisted or not
			m.wait(pick(m, 0, 80*time.Millisecond))
		}
		m.deleteID(p.id)
		m.deleteID(p.id, ok|ifLoose, unknownProducer)
		m.end(g, done, done.ending(true, done.progress(g)), unknownProducer)
		m.outcome(done.ref, isInvalid)
		m.fence(p, proto.Uint32(p.epoch), unknownProducer, ok|ifLoose, invalidArgument|ifLoose)
		late := p.at(p.number + 1)
		late.over = true
		records := m.records(1)
		a, _ := m.append(at, late, appends(at, late.ref, late.token, 0, records), records, ok, fenced, unknownProducer, txnEnded, staleTxn)
		if a == txnEnded {
			m.mayComeAgain() // it has: a copy was stored, and aborted before this one came
		}
		if !m.loose() {
			heir := &producer{id: p.id, plain: map[*part]uint64{}}
			m.initialize(heir, txnTimeout)
			m.check(heir.pid > p.pid, "producer id %d was handed out again", heir.pid)
			t := m.begin(heir)
			m.write(t, at)
			m.commit(g, t, true)
		}
		m.inspect(g)
	})
}

func (m *meddler) deleteID(id string, may ...answer) {
	if len(may) == 0 {
		may = []answer{ok, unknownProducer | ifLoose}
	}
	m.ask(coordinator, oncelogv1.TransactionService_DeleteTransactionalId_FullMethodName,
		&oncelogv1.DeleteTransactionalIdRequest{TransactionalId: id}, &oncelogv1.DeleteTransactionalIdResponse{}, append(may, transactionInProgress|forNow)...)
}
