package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// unknownPartitionGrace is how long a partition that a node does not know is
// tried again: the node may not have heard of it yet.
const unknownPartitionGrace = 10 * time.Second

// promptBytes is from what size on a batch does not linger if nothing of its partition
// is under way: it is worth its overhead, and the shard has nothing to do. Else each
// transaction of a busy producer would begin with a pause.
const promptBytes = 32 << 10

// partitionWriter is one partition of a writer. All of it is guarded by the
// writer's mutex.
//
// Batches wait in queue in the order of their sequences until they are
// acknowledged. The first sent of them have been handed to a stream since the last
// rewind. A failure that can be repeated rewinds: everything unacknowledged is
// sent again, in order, with the same bytes and sequences.
type partitionWriter struct {
	w        *writer
	tp       TopicPartition
	ref      *oncelogv1.PartitionRef
	shard    uint64
	siblings int // partitions of the topic

	builder *batch.Builder // records that no batch holds yet; nil: none
	records []*Record      // the same records
	spans   []*traced      // of the same records; nil: nobody traces
	held    int            // buffer memory that they take
	opened  time.Time      // when the first of them was added
	due     bool           // they have lingered long enough

	next  uint64 // sequence of the next record that a batch takes
	queue []*sentBatch
	sent  int

	highest uint64 // sequence after the last record that was handed to the wire
	shaken  bool   // rewound, and nothing acknowledged since: one batch at a time
	round   uint64 // raised by every rewind: answers to earlier rounds are old news
	link    *link  // where the partition is queued, or was sent to last
	queued  bool   // it stands in the ready list of link
	ticket  uint64 // of its last place in a ready list
	waiting bool   // a pause before the next round
	timer   *task.Timer
	pauses  backoff
	unknown time.Time // since when nodes have not known the partition; zero: they do
}

// sentBatch is a batch with its identity. It never changes, and never changes
// its partition.
type sentBatch struct {
	base     uint64 // sequence of the first record
	bytes    []byte
	records  []*Record
	spans    []*traced
	held     int
	opened   time.Time // when the first record was added
	deadline time.Time
	done     bool // acknowledged; waits for its predecessors to be, too
}

// add puts a record into the current batch, closing a full one first.
func (pw *partitionWriter) add(r *Record, held int, span *traced) error {
	encoded := r.encode(span.headers(r.Headers))
	if pw.builder == nil {
		pw.builder = newBuilder(pw.w.cfg.compression)
	}
	size, err := pw.builder.Append(encoded)
	if errors.Is(err, batch.ErrFull) {
		if err := pw.closeBatch(); err != nil {
			return err
		}
		pw.builder = newBuilder(pw.w.cfg.compression)
		size, err = pw.builder.Append(encoded)
	}
	if err != nil {
		return tooLarge(pw, err)
	}
	if len(pw.records) == 0 {
		pw.opened = pw.w.c.rt.Now()
	}
	pw.records = append(pw.records, r)
	if span != nil {
		pw.spans = append(pw.spans, span)
	}
	pw.held += held
	switch {
	case size >= pw.w.cfg.batchBytes:
		return pw.closeBatch()
	case size >= promptBytes && len(pw.queue) == 0:
		pw.due = true
	}
	return nil
}

// closeBatch encodes the current batch, once and for all.
func (pw *partitionWriter) closeBatch() error {
	if pw.builder == nil || pw.builder.Len() == 0 {
		return nil
	}
	bytes, err := pw.builder.Build(nil)
	if err != nil {
		return &Error{Op: "send", Code: codeInvalidArgument, Class: ClassFatal, TxID: pw.w.id,
			Topic: pw.tp.Topic, Partition: pw.tp.Partition, Err: err}
	}
	pw.queue = append(pw.queue, &sentBatch{
		base: pw.next, bytes: bytes, records: pw.records, spans: pw.spans, held: pw.held, opened: pw.opened,
		deadline: pw.opened.Add(pw.w.cfg.deliveryTimeout),
	})
	pw.next += uint64(len(pw.records))
	recycleBuilder(pw.builder, pw.w.cfg.compression)
	pw.builder, pw.records, pw.spans, pw.held, pw.due = nil, nil, nil, 0, false
	pw.w.unstick(pw.tp, pw.siblings)
	return nil
}

// acknowledgedTo returns the sequence below which everything is acknowledged.
func (pw *partitionWriter) acknowledgedTo() uint64 {
	if len(pw.queue) > 0 {
		return pw.queue[0].base
	}
	return pw.next
}

// sendable reports whether there is something to send.
func (pw *partitionWriter) sendable() bool {
	return pw.sent < len(pw.queue) || (pw.due && pw.builder != nil)
}

// underway counts batches that were sent and have no answer.
func (pw *partitionWriter) underway() int {
	n := 0
	for _, b := range pw.queue[:pw.sent] {
		if !b.done {
			n++
		}
	}
	return n
}

// mayTake reports whether one more batch may be under way. After a rewind only
// the first is sent until it is acknowledged: its successors would be refused
// with it.
func (pw *partitionWriter) mayTake() bool {
	limit := pw.w.cfg.maxInFlight
	if pw.shaken {
		limit = 1
	}
	return pw.underway() < limit
}

// schedule puts the partition into the ready list of its leader's link, if it
// has something to send and nothing keeps it from that.
func (pw *partitionWriter) schedule() {
	if pw.w.err != nil || pw.queued || pw.waiting || !pw.sendable() {
		return
	}
	if !pw.mayTake() {
		return // an answer will schedule
	}
	// While batches are under way at a node the next ones follow them there:
	// elsewhere they would arrive before their predecessors.
	if pw.link == nil || pw.underway() == 0 {
		address := pw.w.c.meta.target(pw.shard)
		if address == "" {
			pw.w.c.meta.refresh(pw.tp.Topic)
			pw.pause(0)
			return
		}
		pw.link = pw.w.c.links.get(address)
		if pw.link == nil {
			return // the client is closed, which ends the writer
		}
	}
	pw.queued = true
	pw.ticket++
	pw.link.enqueue(ticket{pw, pw.ticket})
}

// take hands out the next batch for the wire, or nil. first reports that all
// before it are acknowledged.
func (pw *partitionWriter) take() (b *sentBatch, first bool, err error) {
	if !pw.mayTake() {
		return nil, false, nil
	}
	for pw.sent < len(pw.queue) && pw.queue[pw.sent].done {
		pw.sent++ // acknowledged in an earlier round
	}
	if pw.sent == len(pw.queue) && pw.due {
		if err := pw.closeBatch(); err != nil {
			return nil, false, err
		}
	}
	if pw.sent == len(pw.queue) {
		return nil, false, nil
	}
	first = pw.underway() == 0
	b = pw.queue[pw.sent]
	pw.sent++
	pw.highest = max(pw.highest, b.base+uint64(len(b.records)))
	pw.w.wire = true
	return b, first, nil
}

// rewind makes everything unacknowledged be sent again.
func (pw *partitionWriter) rewind() {
	pw.round++
	pw.sent = 0
	pw.shaken = true
	pw.queued = false // a ready list that still has it will skip it
	pw.link = nil
}

// pause schedules the partition again after a while, which is no shorter than a server
// has asked for. Beyond the deadline of the delivery there is nothing to wait for.
func (pw *partitionWriter) pause(asked time.Duration) {
	if pw.waiting {
		return
	}
	pw.waiting = true
	d := pw.pauses.next()
	if asked > d {
		d = asked
		if deadline, ok := pw.deadline(); ok {
			d = min(d, max(deadline.Sub(pw.w.c.rt.Now()), 0))
		}
	}
	if pw.timer == nil {
		pw.timer = pw.w.c.rt.AfterFunc(d, pw.resume)
	} else {
		pw.timer.Reset(d)
	}
}

func (pw *partitionWriter) resume() {
	pw.w.mu.Lock()
	pw.waiting = false
	late := pw.overdue(nil)
	if late == nil {
		pw.schedule()
	}
	pw.w.mu.Unlock()
	if late != nil {
		pw.w.fail(late)
	}
}

// deadline is when the oldest record has to be acknowledged; false: there is none.
func (pw *partitionWriter) deadline() (time.Time, bool) {
	switch {
	case len(pw.queue) > 0:
		return pw.queue[0].deadline, true
	case len(pw.records) > 0:
		return pw.opened.Add(pw.w.cfg.deliveryTimeout), true
	default:
		return time.Time{}, false
	}
}

// overdue returns the failure of a delivery that took too long. last is what
// kept it.
func (pw *partitionWriter) overdue(last *apierrors.Error) *Error {
	deadline, ok := pw.deadline()
	if !ok || pw.w.c.rt.Now().Before(deadline) {
		return nil
	}
	err := fmt.Errorf("not acknowledged within %v", pw.w.cfg.deliveryTimeout)
	if last != nil {
		err = fmt.Errorf("%w; last answer: %w", err, last)
	}
	class := ClassAbortable
	if pw.w.fatalOnly {
		class = ClassFatal
	}
	return &Error{Op: "send", Code: codeDeliveryTimeout, Class: class, TxID: pw.w.id,
		Topic: pw.tp.Topic, Partition: pw.tp.Partition, Err: err}
}

// discard drops everything and returns the buffer memory that it took, and the spans
// of its records.
func (pw *partitionWriter) discard() (freed int, spans []*traced) {
	freed, spans = pw.held, pw.spans
	for _, b := range pw.queue {
		if !b.done {
			freed += b.held
			spans = append(spans, b.spans...)
		}
	}
	if pw.timer != nil {
		pw.timer.Stop()
	}
	pw.builder, pw.records, pw.spans, pw.held, pw.queue, pw.sent, pw.queued = nil, nil, nil, 0, nil, 0, false
	return freed, spans
}

// inFlight is one batch in one request.
type inFlight struct {
	pw    *partitionWriter
	batch *sentBatch
	round uint64
	first bool // all before it were acknowledged when it was sent
}

// acknowledge records that a batch is durable. Answers of any round count: the
// bytes are the same.
func (f *inFlight) acknowledge(link *link, result *oncelogv1.AppendResult) {
	pw, w := f.pw, f.pw.w
	w.mu.Lock()
	if f.batch.done || w.err != nil {
		w.mu.Unlock()
		return
	}
	f.batch.done = true
	for i, r := range f.batch.records {
		r.Partition, r.Offset = pw.tp.Partition, -1
		if result.BaseOffset != nil {
			r.Offset = int64(result.GetBaseOffset()) + int64(i)
		}
	}
	for len(pw.queue) > 0 && pw.queue[0].done {
		pw.queue = pw.queue[1:]
		pw.sent = max(pw.sent-1, 0)
	}
	pw.pauses.reset()
	pw.shaken = false
	pw.unknown = time.Time{}
	w.mem.release(f.batch.held)
	w.wakeFlush()
	w.c.meta.confirm(pw.shard, link.address)
	pw.schedule()
	latency := w.c.rt.Since(f.batch.opened)
	w.mu.Unlock()
	endAll(f.batch.spans, nil)
	w.c.cfg.hooks.batchAcked(BatchEvent{
		TopicPartition: pw.tp, TxID: w.id, Records: len(f.batch.records), Bytes: len(f.batch.bytes),
		Duplicate: result.GetDuplicate(), Latency: latency,
	})
}

// refuse draws the consequence of a failed append: rewind and try again, or give
// the writer up.
func (f *inFlight) refuse(link *link, e *apierrors.Error) {
	pw, w := f.pw, f.pw.w
	w.mu.Lock()
	// Only the current round counts: an earlier one has been repeated already.
	if f.batch.done || f.round != pw.round || w.err != nil {
		w.mu.Unlock()
		return
	}
	fatal := f.verdict(e)
	if fatal == nil {
		fatal = pw.overdue(e)
	}
	if fatal != nil {
		w.mu.Unlock()
		w.fail(fatal)
		return
	}
	pw.rewind()
	moved := w.c.meta.lesson(pw.shard, pw.tp.Topic, link.address, e)
	switch {
	case e.Code == oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE,
		moved && pw.pauses.current == 0: // at once, but only the first time
		if moved {
			pw.pauses.next()
		}
		pw.schedule()
	default:
		pw.pause(e.RetryAfter())
	}
	w.mu.Unlock()
	w.c.cfg.hooks.retried(OpAppend, e)
}

// unreachable says that nothing could be sent to the node that the partition was
// queued for.
func (pw *partitionWriter) unreachable(l *link, t ticket, e *apierrors.Error) {
	w := pw.w
	w.mu.Lock()
	if !t.valid(l) {
		w.mu.Unlock()
		return
	}
	late := pw.overdue(e)
	if late == nil {
		// Batches that are under way on a stream that is about to break are told so
		// by its end, of an earlier round then.
		pw.rewind()
		w.c.meta.lesson(pw.shard, pw.tp.Topic, l.address, e)
		pw.pause(e.RetryAfter())
	}
	w.mu.Unlock()
	if late != nil {
		w.fail(late)
		return
	}
	w.c.cfg.hooks.retried(OpAppend, e)
}

// stall is called when the answer takes long: it asks who leads, and sends the
// batch there once that is another node.
func (f *inFlight) stall(l *link) {
	pw, m := f.pw, f.pw.w.c.meta
	if m.movedFrom(pw.shard, l.address) {
		f.refuse(l, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node is silent and another one leads"))
		return
	}
	m.refresh(pw.tp.Topic)
}

// verdict returns the failure that ends the writer, or nil if repeating may help.
func (f *inFlight) verdict(e *apierrors.Error) *Error {
	pw := f.pw
	switch {
	case e.Code == oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE:
		// Behind a batch that was lost this is what must happen; only a batch that
		// had nothing before it is told the truth by it.
		if !f.first {
			return nil
		}
	case e.Code == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION:
		if pw.unknown.IsZero() {
			pw.unknown = pw.w.c.rt.Now()
		}
		if pw.w.c.rt.Since(pw.unknown) < unknownPartitionGrace {
			return nil
		}
	case e.Class() == apierrors.Retriable, e.Class() == apierrors.UnknownOutcome:
		return nil
	}
	out := fromServer("send", e)
	if out.Class == ClassRetriable {
		out.Class = ClassAbortable // it has been repeated long enough
	}
	if pw.w.fatalOnly {
		out.Class = ClassFatal // a sequence cannot be left out
	}
	out.TxID, out.Topic, out.Partition = pw.w.id, pw.tp.Topic, pw.tp.Partition
	return out
}
