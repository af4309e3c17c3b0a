package client

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/oncelog/oncelog/api/batch"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// writer delivers the records of one identity: of one transaction, or of one
// idempotent producer. Per partition it numbers records, forms batches, and
// sends and resends them in the order of their sequences.
type writer struct {
	c     *Client
	cfg   *producerConfig
	mem   *memory
	ref   *oncelogv1.TxnRef // identity of every request, with token
	token []byte
	id    TxID
	// within has the span of the transaction; nil: there is none.
	within context.Context
	// fatalOnly: a record that is refused before it has a sequence fails its call
	// alone. So it is for an idempotent producer, whose records are independent.
	fatalOnly bool
	// onFail is told of the failure that ended the writer, once, without locks.
	onFail func(*Error)

	mu         sync.Mutex
	partitions map[TopicPartition]*partitionWriter
	order      []*partitionWriter // in the order of their first record
	sticky     map[string]int32   // partition of records that stay together, by topic
	wire       bool               // some batch was handed to a stream
	linger     *task.Timer        // runs while some record lingers
	lingering  bool
	err        *Error        // why the writer ended
	ended      chan struct{} // closed when it ended
	changed    chan struct{} // closed by the next acknowledgement; nil while nobody waits
}

func newWriter(c *Client, cfg *producerConfig, mem *memory, id TxID, token []byte, onFail func(*Error)) *writer {
	return &writer{
		c: c, cfg: cfg, mem: mem, ref: id.ref(), token: token, id: id, onFail: onFail,
		partitions: make(map[TopicPartition]*partitionWriter),
		sticky:     make(map[string]int32),
		ended:      make(chan struct{}),
	}
}

// send accepts records in their order. The first that cannot be accepted ends
// the writer: a transaction of which a part is missing must not be committed.
func (w *writer) send(ctx context.Context, rs []*Record) error {
	for _, r := range rs {
		err := w.accept(ctx, r)
		if err == nil {
			continue
		}
		if f := w.failure(); f != nil {
			return f
		}
		e := *wrap("send", err)
		e.TxID = w.id
		if e.Code == codeContextEnded {
			e.Class = ClassAbortable // the record is missing, and that cannot be repaired
		}
		if r != nil && e.Topic == "" {
			e.Topic, e.Partition = r.Topic, r.Partition
		}
		if w.fatalOnly {
			return &e
		}
		w.fail(&e)
		return w.failure()
	}
	return nil
}

func (w *writer) accept(ctx context.Context, r *Record) error {
	if r == nil || r.Topic == "" {
		return invalid("send", "a record needs a topic")
	}
	if err := w.failure(); err != nil {
		return err
	}
	topic, err := w.c.meta.topic(ctx, r.Topic)
	if err != nil {
		return err
	}
	p, err := w.choose(topic, r)
	if err != nil {
		return err
	}
	n, err := w.acquire(ctx, r.memory())
	if err != nil {
		return err
	}
	if r.Timestamp.IsZero() {
		r.Timestamp = w.c.rt.Wall()
	}
	span := w.startSend(ctx, r)
	if err := w.place(topic, p, r, n, span); err != nil {
		w.mem.release(n)
		span.ended(err)
		return err
	}
	return nil
}

// acquire takes buffer memory. Whoever waits for it must not wait for records that
// linger in it.
func (w *writer) acquire(ctx context.Context, bytes int) (taken int, err error) {
	var since time.Time
	taken, err = w.mem.acquire(ctx, w.ended, bytes, func() {
		since = w.c.rt.Now()
		w.sendLingering()
	})
	if err != nil {
		err = cmp.Or(w.failure(), err)
	}
	if !since.IsZero() {
		w.c.cfg.hooks.sendBlocked(BlockEvent{Waited: w.c.rt.Since(since), Err: err})
	}
	return taken, err
}

// place puts a record into a batch of its partition; negative: of the one where
// records stay together.
func (w *writer) place(topic *topicMeta, p int32, r *Record, held int, span *traced) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if p < 0 {
		p = w.stick(topic)
	}
	r.Partition, r.Offset = p, -1
	pw := w.partition(topic, p)
	if err := pw.add(r, held, span); err != nil {
		return err
	}
	w.lingerOrSend(pw)
	return nil
}

// choose picks the partition of a record; -1 leaves it to stick. It calls the
// user's partitioner, so no lock is held.
func (w *writer) choose(topic *topicMeta, r *Record) (int32, error) {
	n := len(topic.partitions)
	if n == 0 {
		return 0, invalid("send", "topic %s has no partitions", topic.name)
	}
	if r.pinned {
		if r.Partition < 0 || int(r.Partition) >= n {
			return 0, noPartition("send", TopicPartition{Topic: topic.name, Partition: r.Partition}, n)
		}
		return r.Partition, nil
	}
	p := w.cfg.partitioner(r, n)
	if p >= n {
		return 0, invalid("send", "the partitioner chose %d of %d partitions of topic %s", p, n, topic.name)
	}
	return int32(max(p, -1)), nil
}

// stick returns the partition of records that stay together. w.mu is held.
func (w *writer) stick(topic *topicMeta) int32 {
	n := len(topic.partitions)
	if p, ok := w.sticky[topic.name]; ok && int(p) < n {
		return p
	}
	p := int32(w.c.rt.Rand().IntN(n))
	w.sticky[topic.name] = p
	return p
}

// unstick makes the next records without a place of their own go elsewhere, after
// a batch of this partition was closed. w.mu is held.
func (w *writer) unstick(tp TopicPartition, partitions int) {
	if p, ok := w.sticky[tp.Topic]; !ok || p != tp.Partition || partitions < 2 {
		return
	}
	w.sticky[tp.Topic] = (tp.Partition + 1 + int32(w.c.rt.Rand().IntN(partitions-1))) % int32(partitions)
}

// partition returns the writer of one partition. w.mu is held.
func (w *writer) partition(topic *topicMeta, p int32) *partitionWriter {
	tp := TopicPartition{Topic: topic.name, Partition: p}
	if pw, ok := w.partitions[tp]; ok {
		return pw
	}
	pw := &partitionWriter{
		w: w, tp: tp, ref: topic.ref(p), shard: topic.partitions[p].shard,
		siblings: len(topic.partitions),
		pauses:   w.c.backoff(),
	}
	w.partitions[tp] = pw
	w.order = append(w.order, pw)
	return pw
}

// lingerOrSend starts the clock for a new record, or sends without one. w.mu is
// held.
func (w *writer) lingerOrSend(pw *partitionWriter) {
	switch {
	case w.cfg.linger == 0, w.mem.contended():
		pw.due = true
		pw.schedule()
	case pw.sendable():
		pw.schedule()
		fallthrough
	default:
		if w.lingering || pw.builder == nil {
			return
		}
		w.lingering = true
		if w.linger == nil {
			w.linger = w.c.rt.AfterFunc(w.cfg.linger, w.lingered)
		} else {
			w.linger.Reset(w.cfg.linger)
		}
	}
}

// lingered sends what has waited. Some of it has waited less; one clock per
// writer is enough.
func (w *writer) lingered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lingering = false
	w.sendAll()
}

// sendLingering sends what waits for company.
func (w *writer) sendLingering() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sendAll()
}

// sendAll makes every record due. w.mu is held.
func (w *writer) sendAll() {
	if w.err != nil {
		return
	}
	for _, pw := range w.order {
		if pw.builder != nil {
			pw.due = true
		}
		pw.schedule()
	}
}

// flushGoal is what a flush waits for in one partition.
type flushGoal struct {
	pw   *partitionWriter
	next uint64 // sequence below which everything is to be acknowledged
}

// flush waits until everything accepted so far is acknowledged.
func (w *writer) flush(ctx context.Context) error {
	goals := w.beginFlush()
	for {
		changed, err := w.flushed(&goals)
		if err != nil || changed == nil {
			return err
		}
		if w.c.rt.Wait(changed, w.ended, ctx.Done()) == 2 {
			return ctx.Err()
		}
	}
}

// beginFlush sends what lingers and returns what there is to wait for.
func (w *writer) beginFlush() []flushGoal {
	w.mu.Lock()
	defer w.mu.Unlock()
	goals := make([]flushGoal, len(w.order))
	for i, pw := range w.order {
		goals[i] = flushGoal{pw, pw.next + uint64(len(pw.records))}
	}
	w.sendAll()
	return goals
}

// flushed takes away the goals that have been reached. Unless those were all, it
// returns what the next acknowledgement closes.
func (w *writer) flushed(goals *[]flushGoal) (changed <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	left := *goals
	for len(left) > 0 && left[0].pw.acknowledgedTo() >= left[0].next {
		left = left[1:]
	}
	*goals = left
	if len(left) == 0 {
		return nil, nil
	}
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed, nil
}

func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failureLocked()
}

func (w *writer) failureLocked() error {
	if w.err == nil {
		return nil
	}
	return w.err
}

// fail ends the writer, unless it has ended before: what is not on the wire
// never will be, and what is will not be waited for.
func (w *writer) fail(e *Error) {
	w.mu.Lock()
	if w.err != nil {
		w.mu.Unlock()
		return
	}
	w.err = e
	close(w.ended)
	if w.linger != nil {
		w.linger.Stop()
	}
	freed := 0
	var lost []*traced
	for _, pw := range w.order {
		held, spans := pw.discard()
		freed += held
		lost = append(lost, spans...)
	}
	w.mu.Unlock()
	w.mem.release(freed)
	endAll(lost, e)
	if w.onFail != nil {
		w.onFail(e)
	}
}

// stop ends the writer of a transaction that has ended.
func (w *writer) stop() {
	w.fail(&Error{Op: "send", Code: "TXN_ENDED", Class: ClassFatal, TxID: w.id, Err: ErrTxDone})
}

// wakeFlush tells those in flush that something was acknowledged. w.mu is held.
func (w *writer) wakeFlush() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// progress names every partition that something was handed to the wire for, and
// the sequence after the last record that was.
func (w *writer) progress() []*oncelogv1.PartitionProgress {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*oncelogv1.PartitionProgress
	for _, pw := range w.order {
		if pw.highest > 0 {
			out = append(out, &oncelogv1.PartitionProgress{Partition: pw.ref, NextSequence: pw.highest})
		}
	}
	return out
}

// touched reports whether anything was handed to the wire.
func (w *writer) touched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wire
}

// tooLarge turns a refusal of package batch into an *Error.
func tooLarge(pw *partitionWriter, err error) *Error {
	var limit *batch.LimitError
	e := &Error{Op: "send", Code: codeInvalidArgument, Class: ClassFatal, TxID: pw.w.id,
		Topic: pw.tp.Topic, Partition: pw.tp.Partition, Err: err}
	if errors.As(err, &limit) {
		e.Code, e.Class = codeBatchTooLarge, ClassAbortable
	}
	return e
}
