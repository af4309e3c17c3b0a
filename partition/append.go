package partition

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/internal/trace"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// appendCall is one AppendRequest under way.
type appendCall struct {
	req     *oncelogv1.AppendRequest
	resp    *oncelogv1.AppendResponse
	pending atomic.Int32 // partitions without a result
	cost    int          // bytes that it occupies, roughly
	endSpan trace.End    // nil: nobody traces it
}

// slot is the place of one partition's result.
type slot struct {
	call    *appendCall
	at      int    // index of the partition in the request
	records uint32 // that the partition gets
	bytes   uint32 // of them, as encoded
}

// proposal is one entry to be: appends of one shard, in the order in which they
// arrived.
type proposal struct {
	shard    *shard
	list     []pstate.Append
	last     *appendCall // that the last element of list belongs to
	payloads [][]byte
	slots    []slot
	bytes    int
}

// completion is a proposal with its answer.
type completion struct {
	*proposal
	raftstore.ProposalResult
}

// appender takes requests of one caller in order, makes as few proposals of
// them as it can, and queues what came of them for the caller to settle. take
// is called by one task, collect by one, which may be another.
type appender struct {
	n   *Node
	who access.Principal

	// Of take:
	open  []*proposal // not yet proposed, at most one per shard
	tally *budget

	ready chan struct{} // size one: something is in done or finished

	mu       sync.Mutex // held for moments only: the Raft loop takes it
	done     []completion
	finished []*appendCall // refused or answered before the log
	under    int           // requests taken and not yet collected
}

func newAppender(n *Node, who access.Principal, b *budget) *appender {
	return &appender{n: n, who: who, tally: b, ready: make(chan struct{}, 1)}
}

// take checks a request and adds it to the proposals of this frame. Until it is
// collected it counts against the budget, refused or not: a client that sends
// and does not read its answers must not cost memory without end.
func (a *appender) take(req *oncelogv1.AppendRequest) {
	const overhead = 512 // of a request and of each partition, in memory
	c := &appendCall{
		req: req, resp: &oncelogv1.AppendResponse{RequestId: req.GetRequestId()},
		cost: proto.Size(req) + overhead*(1+len(req.GetPartitions())),
	}
	a.tally.take(c.cost)
	a.mu.Lock()
	a.under++
	a.mu.Unlock()
	if req.GetTrace() != nil {
		c.endSpan = a.n.traceAppend(req)
	}
	if err := a.n.checkAppend(a.who, req); err != nil {
		c.resp.Error = err.Proto()
		a.finish(c)
		return
	}
	c.resp.Results = make([]*oncelogv1.AppendResult, len(req.GetPartitions()))
	// One more than there are, until all are counted: a part of the request may
	// be proposed and answered before the rest of it was looked at.
	c.pending.Store(int32(len(req.GetPartitions()) + 1))
	known := int32(1)
	for i := range req.GetPartitions() {
		if !a.takePartition(c, i) {
			known++
		}
	}
	if c.pending.Add(-known) == 0 {
		a.finish(c)
	}
}

// takePartition adds one partition's records to a proposal. False: it has its
// result already.
func (a *appender) takePartition(c *appendCall, i int) bool {
	p := c.req.GetPartitions()[i]
	c.resp.Results[i] = &oncelogv1.AppendResult{Partition: p.GetPartition()}
	s, ref, err := a.n.find(a.who, acl.Write, "partitions.partition", p.GetPartition())
	if err != nil {
		c.resp.Results[i].Error = err.Proto()
		return false
	}
	c.resp.Results[i].Partition, c.resp.Results[i].ShardId = ref, s.id
	payload, header, err := a.n.payload(p)
	if err != nil {
		c.resp.Results[i].Error = err.Proto()
		return false
	}
	txn := refOf(c.req.GetTxn())
	b := pstate.Batch{
		Partition: ref.GetPartitionId(), BaseSequence: p.GetBaseSequence(), Count: uint32(header.Records),
		MaxTimestamp: header.MaxTimestamp, Size: uint32(len(payload)),
	}
	var early pstate.BatchResult
	keys := false
	s.machine.read(func(st *pstate.State) { early, keys = st.Decide(txn, b), st.NeedsKeys(b.Partition) })
	if early.Code.Final() {
		a.n.counters.append(early.Code, b.Count, b.Size)
		fillResult(c.resp.Results[i], early)
		return false
	}
	if keys {
		if err := checkKeys(payload); err != nil {
			c.resp.Results[i].Error = err.Proto()
			return false
		}
	}
	a.proposalFor(s, len(payload)).add(a.n.nowMillis(), slot{c, i, b.Count, b.Size}, txn, b, payload)
	return true
}

// proposalFor returns the open proposal of a shard that has room.
func (a *appender) proposalFor(s *shard, size int) *proposal {
	for i, p := range a.open {
		if p.shard != s {
			continue
		}
		if p.bytes+size <= maxAppendBytes && len(p.slots) < maxProposalBatches {
			return p
		}
		// Full: it goes first, and all that were before it in this frame for
		// the shard are in it.
		a.propose(p)
		a.open[i] = &proposal{shard: s}
		return a.open[i]
	}
	a.open = append(a.open, &proposal{shard: s})
	return a.open[len(a.open)-1]
}

func (p *proposal) add(at int64, sl slot, txn pstate.TxnRef, b pstate.Batch, payload []byte) {
	if p.last != sl.call {
		p.list = append(p.list, pstate.Append{At: at, Ref: txn})
		p.last = sl.call
	}
	l := &p.list[len(p.list)-1]
	l.Batches = append(l.Batches, b)
	p.payloads = append(p.payloads, payload)
	p.slots = append(p.slots, sl)
	p.bytes += len(payload)
}

// flush proposes everything that was taken.
func (a *appender) flush() {
	for i, p := range a.open {
		a.propose(p)
		a.open[i] = nil
	}
	a.open = a.open[:0]
}

func (a *appender) propose(p *proposal) {
	const metadata = 64 // bytes per batch, at most
	data, err := pstate.EncodeAppends(entryBuffer(p.bytes+metadata*(len(p.slots)+1)), p.list, p.payloads)
	p.payloads, p.list = nil, nil // the entry has them
	if err != nil {
		a.complete(completion{p, raftstore.ProposalResult{Err: err}})
		return
	}
	p.shard.propose(0, data, func(res raftstore.ProposalResult) {
		keepBuffer(data)
		a.complete(completion{p, res})
	})
}

func (a *appender) complete(c completion) {
	a.mu.Lock()
	a.done = append(a.done, c)
	a.mu.Unlock()
	task.Signal(a.ready)
}

func (a *appender) finish(c *appendCall) {
	a.mu.Lock()
	a.finished = append(a.finished, c)
	a.mu.Unlock()
	task.Signal(a.ready)
}

// collect settles what has been answered since the last call and returns the
// requests that are complete.
func (a *appender) collect() []*appendCall {
	a.mu.Lock()
	done, calls := a.done, a.finished
	a.done, a.finished = nil, nil
	a.mu.Unlock()
	for _, c := range done {
		calls = a.settle(c, calls)
	}
	cost := 0
	for _, c := range calls {
		cost += c.cost
		c.endTrace()
	}
	a.tally.give(cost)
	a.mu.Lock()
	a.under -= len(calls)
	a.mu.Unlock()
	return calls
}

// idle reports whether everything that was taken has been collected.
func (a *appender) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.under == 0
}

// settle fills in the results of one proposal and adds to calls those that it
// completes.
func (a *appender) settle(c completion, calls []*appendCall) []*appendCall {
	results, _ := c.Value.([]pstate.BatchResult)
	if c.Err == nil && len(results) != len(c.slots) {
		c.Err = errors.New("an append was applied without results")
	}
	var refused *oncelogv1.Error
	if c.Err != nil {
		refused = a.n.proposalError(c.Err).Proto()
	}
	for i, sl := range c.slots {
		out := sl.call.resp.Results[sl.at]
		if refused != nil {
			out.Error = refused
		} else {
			a.n.counters.append(results[i].Code, sl.records, sl.bytes)
			fillResult(out, results[i])
		}
		if sl.call.pending.Add(-1) == 0 {
			calls = append(calls, sl.call)
		}
	}
	return calls
}

// fillResult turns a verdict into a result of the contract.
func fillResult(out *oncelogv1.AppendResult, res pstate.BatchResult) {
	out.NextSequence = res.NextExpected
	if !res.Code.OK() {
		out.Error = refusal(res, out.GetPartition()).Proto()
		return
	}
	out.Duplicate = res.Code == pstate.CodeDuplicate
	if res.Code == pstate.CodeAppended || res.OffsetKnown {
		out.BaseOffset = proto.Uint64(res.BaseOffset)
	}
}

// checkAppend checks what concerns a request as a whole.
func (n *Node) checkAppend(who access.Principal, req *oncelogv1.AppendRequest) *apierrors.Error {
	txn, parts := req.GetTxn(), req.GetPartitions()
	switch {
	case txn.GetProducerId() == 0:
		return apierrors.InvalidArgument("txn.producer_id", "is missing")
	case len(parts) == 0:
		return apierrors.InvalidArgument("partitions", "is empty")
	case len(parts) > MaxAppendPartitions:
		return tooMuch("partitions", MaxAppendPartitions)
	case trace.Check("trace", req.GetTrace()) != nil:
		return trace.Check("trace", req.GetTrace())
	case n.isClosing():
		return unavailable()
	case !n.keys.Ready():
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node has not heard from the coordinator yet")
	case !n.tokenOf(who, req.GetProducerToken(), txn.GetProducerId(), txn.GetEpoch()):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN, "")
	case n.repeats(who, parts):
		return apierrors.InvalidArgument("partitions", "names a partition twice")
	}
	return nil
}

// repeats reports whether a known partition is named twice, by id or by name. That two
// names are of one is not told to who may not write there.
func (n *Node) repeats(who access.Principal, parts []*oncelogv1.PartitionAppend) bool {
	if len(parts) < 2 {
		return false
	}
	routes := n.routing.get()
	seen := make(map[uint64]struct{}, len(parts))
	for _, p := range parts {
		rt, ok := routes.find(p.GetPartition())
		if !ok || n.permits(who, acl.Write, p.GetPartition()) != nil {
			continue // refused by itself
		}
		if _, twice := seen[rt.ref.GetPartitionId()]; twice {
			return true
		}
		seen[rt.ref.GetPartitionId()] = struct{}{}
	}
	return false
}

// payload returns the encoded batch of one partition, checked or made.
func (n *Node) payload(p *oncelogv1.PartitionAppend) ([]byte, batch.Info, *apierrors.Error) {
	var encoded []byte
	switch body := p.GetPayload().(type) {
	case *oncelogv1.PartitionAppend_Batch:
		encoded = body.Batch
	case *oncelogv1.PartitionAppend_Records:
		var err *apierrors.Error
		if encoded, err = n.encode(body.Records.GetRecords()); err != nil {
			return nil, batch.Info{}, err
		}
	default:
		return nil, batch.Info{}, apierrors.InvalidArgument("partitions.payload", "has neither records nor a batch")
	}
	h, err := batch.Validate(encoded, batchLimits())
	if err != nil {
		return nil, batch.Info{}, batchError(err)
	}
	return encoded, h, nil
}

// checkKeys refuses a batch of which a record has no key: compaction would not know
// what to do with it. It is the one append that is decoded, as in Kafka.
func checkKeys(payload []byte) *apierrors.Error {
	var d batch.Decoder
	_, err := d.Reset(payload, decodeLimits())
	if err != nil {
		return batchError(err)
	}
	for i := 0; d.Next(); i++ {
		if d.Record().Key == nil {
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_RECORD,
				fmt.Sprintf("record %d of the batch has no key, and the topic is compacted", i), apierrors.KeyField, "records["+strconv.Itoa(i)+"].key")
		}
	}
	if err := d.Err(); err != nil {
		return batchError(err)
	}
	return nil
}

// encode makes a batch of plain records. A record without a timestamp gets the
// present.
func (n *Node) encode(records []*oncelogv1.Record) ([]byte, *apierrors.Error) {
	if len(records) == 0 {
		return nil, apierrors.InvalidArgument("partitions.records", "is empty")
	}
	limits := batchLimits()
	if len(records) > limits.MaxRecords {
		return nil, batchError(&batch.LimitError{Field: "records", Value: len(records), Limit: limits.MaxRecords})
	}
	builder := batch.NewBuilder(batch.CodecNone, limits)
	now := n.nowMillis()
	for _, r := range records {
		rec := batch.Record{Key: r.Key, Value: r.Value, Timestamp: now}
		if r.TimestampMs != nil {
			rec.Timestamp = r.GetTimestampMs()
		}
		for _, h := range r.GetHeaders() {
			rec.Headers = append(rec.Headers, batch.Header{Key: h.GetKey(), Value: h.Value})
		}
		_, err := builder.Append(rec)
		if errors.Is(err, batch.ErrFull) {
			return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE, "the records make a batch above its limit",
				apierrors.KeyField, "batch bytes", apierrors.KeyLimit, strconv.Itoa(MaxBatchBytes))
		}
		if err != nil {
			return nil, batchError(err)
		}
	}
	out, err := builder.Build(nil)
	if err != nil {
		return nil, batchError(err)
	}
	return out, nil
}
