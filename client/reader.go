package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

const (
	// chunksAhead is how many responses of one partition are held for Poll.
	chunksAhead = 2
	// minFetchBytes keeps responses worth their overhead, however many partitions
	// share the prefetch memory.
	minFetchBytes = 64 << 10
	maxFetchBytes = 1 << 20
)

// reader fetches one partition ahead of Poll, over a stream that follows the log.
// Fields below the line are guarded by the consumer's mutex.
type reader struct {
	k     *Consumer
	tp    TopicPartition
	ref   *oncelogv1.PartitionRef
	shard uint64
	room  chan struct{} // a chunk was taken, or the position moved
	since uint64        // generation since which the member owns it; 0: manual

	ctx    context.Context // ends when the partition is not read any more
	cancel context.CancelFunc

	gone   bool // not read any more
	held   bool // OnAssigned has not returned yet
	paused bool

	position  int64      // the offset that the next Poll begins with
	fetched   int64      // the offset after the last chunk
	chunks    []chunk    // between the two
	seek      uint64     // raised when the position is moved other than by reading
	committed *uint64    // what the group has committed, as far as this member knows
	pending   *txOffsets // the transaction that was given the last batch; nil: it has ended
	err       error      // why fetching stopped; a Poll takes it
	stop      context.CancelFunc
	from      string // node that the stream comes from; "" while there is none

	known  int64 // offsets below it are known to have been written
	origin int64 // where it began

	unknown time.Time // since when nodes have not known the partition, or offset; of run alone
}

// chunk is a response.
type chunk struct {
	batches []fetchedBatch
	next    int64 // position after it
}

// fetchedBatch is a stored batch, checked but not decoded.
type fetchedBatch struct {
	base    int64 // offset of its first record
	visible int   // records, from the first, that may be shown
	raw     []byte
	decoded *decodedBatch // shared by the polls that the batch is spread over
}

// decodedBatch holds records once some Poll has decoded them. Polls take turns,
// so it needs no lock.
type decodedBatch struct{ records []batch.Record }

func newReader(k *Consumer, tp TopicPartition, t *topicMeta) *reader {
	r := &reader{
		k: k, tp: tp, ref: t.ref(tp.Partition), shard: t.partitions[tp.Partition].shard,
		room: make(chan struct{}, 1),
	}
	r.ctx, r.cancel = k.c.rt.WithCancel(k.ctx)
	return r
}

// id is the partition's in the whole cluster.
func (r *reader) id() uint64 { return r.ref.GetPartitionId() }

// run fetches until the consumer is closed, or does not read the partition any more.
func (r *reader) run() {
	pauses := r.k.c.backoff()
	for r.ctx.Err() == nil {
		offset, seek, ok := r.ready()
		if !ok {
			r.wait()
			continue
		}
		address := r.k.c.meta.target(r.shard)
		if address == "" {
			r.k.c.meta.refresh(r.tp.Topic)
			_ = pauses.pause(r.ctx)
			continue
		}
		progress, err := r.fetch(address, offset, seek)
		if progress {
			pauses.reset()
			r.unknown = time.Time{}
		}
		if err == nil {
			continue // the position was moved
		}
		if wait, asked := r.learn(address, seek, err); wait {
			_ = pauses.atLeast(r.ctx, asked)
		}
	}
}

// ready returns where to fetch from, if there is room and nothing is wrong.
func (r *reader) ready() (offset int64, seek uint64, ok bool) {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	return r.fetched, r.seek, len(r.chunks) < chunksAhead && r.err == nil
}

func (r *reader) wait() { r.k.c.rt.Wait(r.room, r.ctx.Done()) }

// fetch reads a stream until it ends or the position is moved. progress reports
// that something came.
func (r *reader) fetch(address string, offset int64, seek uint64) (progress bool, err error) {
	service, err := r.k.c.logService(address)
	if err != nil {
		return false, err
	}
	ctx, cancel := r.k.c.rt.WithCancel(r.ctx)
	defer cancel()
	if !r.started(address, seek, cancel) {
		return false, nil
	}
	defer r.ended()
	stream, err := service.Fetch(ctx, &oncelogv1.FetchRequest{
		Partition:        r.ref,
		Start:            oncelogv1.StartPosition_START_POSITION_OFFSET,
		Offset:           uint64(offset),
		Isolation:        r.k.isolation(),
		Format:           oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES,
		Follow:           true,
		MaxResponseBytes: r.responseBytes(),
	})
	if err != nil {
		return false, err
	}
	for {
		resp, err := stream.Recv()
		if r.moved(seek) {
			return progress, nil
		}
		if err != nil {
			return progress, err
		}
		if !progress {
			progress = true
			r.k.c.meta.confirm(r.shard, address)
		}
		c, err := newChunk(resp)
		if err != nil && len(c.batches) == 0 {
			return progress, err
		}
		if n := c.records(); n > 0 {
			r.k.c.cfg.hooks.fetched(FetchEvent{TopicPartition: r.tp, Group: r.k.group, Records: n, Bytes: c.bytes()})
		}
		if !r.push(c, seek) || err != nil {
			return progress, err
		}
	}
}

// responseBytes shares the prefetch memory out.
func (r *reader) responseBytes() uint32 {
	r.k.mu.Lock()
	share := r.k.cfg.prefetchBytes / (max(len(r.k.readers), 1) * chunksAhead)
	r.k.mu.Unlock()
	return uint32(min(max(share, minFetchBytes), maxFetchBytes))
}

// started notes how to stop the stream; false if the position was moved already.
func (r *reader) started(address string, seek uint64, cancel context.CancelFunc) bool {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	if r.seek != seek {
		return false
	}
	r.stop, r.from = cancel, address
	return true
}

func (r *reader) ended() {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	r.stop, r.from = nil, ""
}

func (r *reader) moved(seek uint64) bool {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	return r.seek != seek
}

// push hands a chunk to Poll and waits for room for the next; false if the
// position was moved.
func (r *reader) push(c chunk, seek uint64) bool {
	r.k.mu.Lock()
	if r.seek != seek {
		r.k.mu.Unlock()
		return false
	}
	r.fetched = max(r.fetched, c.next)
	r.known = max(r.known, c.next)
	if len(c.batches) == 0 && len(r.chunks) == 0 {
		r.position = max(r.position, c.next) // over records that are not shown
	} else {
		r.chunks = append(r.chunks, c)
	}
	r.k.mu.Unlock()
	r.k.signal()
	for r.ctx.Err() == nil && !r.moved(seek) {
		if _, _, ok := r.ready(); ok {
			return true
		}
		r.wait()
	}
	return false
}

// newChunk checks a response. With an error the chunk holds what comes before
// the damage.
func newChunk(resp *oncelogv1.FetchResponse) (chunk, error) {
	c := chunk{next: int64(resp.GetNextOffset())}
	for _, b := range resp.GetBatches() {
		info, err := batch.Validate(b.GetBatch(), consumed)
		if err != nil {
			c.next = int64(b.GetBaseOffset())
			return c, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH,
				fmt.Sprintf("batch at offset %d: %v", b.GetBaseOffset(), err))
		}
		c.batches = append(c.batches, fetchedBatch{
			base:    int64(b.GetBaseOffset()),
			visible: min(int(b.GetVisibleRecords()), info.Records),
			raw:     b.GetBatch(),
			decoded: &decodedBatch{},
		})
	}
	return c, nil
}

// learn draws the lesson of a stream's end and reports whether to wait before the
// next, and how long the node has asked to.
func (r *reader) learn(address string, seek uint64, err error) (wait bool, asked time.Duration) {
	if errors.Is(err, io.EOF) {
		return true, 0 // a node that is stopping
	}
	e := streamError(err)
	if r.reset(seek, e) {
		return false, 0
	}
	if e.Code == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION || r.leftBehind(seek, e) {
		if r.unknown.IsZero() {
			r.unknown = r.k.c.rt.Now()
		}
		if r.k.c.rt.Since(r.unknown) >= unknownPartitionGrace {
			r.unknown = time.Time{}
			r.fail(seek, e) // the topic was deleted, or records were lost
			return false, 0
		}
	} else if !repeatable(e) {
		r.fail(seek, e)
		return false, 0
	}
	r.k.c.cfg.hooks.retried(OpFetch, e)
	return !r.k.c.meta.lesson(r.shard, r.tp.Topic, address, e), e.RetryAfter()
}

// leftBehind reports whether a node refuses an offset above its end that is known
// to exist: it was deposed, perhaps without having noticed.
func (r *reader) leftBehind(seek uint64, e *apierrors.Error) bool {
	end, ok := offsetOf(e, apierrors.KeyEndOffset)
	if !ok {
		return false
	}
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	return r.seek == seek && end < r.fetched && r.fetched <= r.known
}

// fail stops fetching until Poll has told.
func (r *reader) fail(seek uint64, e *apierrors.Error) {
	r.k.mu.Lock()
	if r.seek == seek {
		out := fromServer("poll", e)
		out.Topic, out.Partition = r.tp.Topic, r.tp.Partition
		r.err = out
	}
	r.k.mu.Unlock()
	r.k.signal()
}

// retry fetches again after an error that Poll has told. The consumer's mutex is
// held.
func (r *reader) retry() {
	r.err = nil
	r.wakeUp()
}

// moveTo sets the position and fetches from there. The consumer's mutex is held,
// or nobody else knows the reader yet.
func (r *reader) moveTo(offset int64) {
	r.seek++
	r.position, r.fetched, r.chunks, r.err = offset, offset, nil, nil
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	r.wakeUp()
}

func (r *reader) wakeUp() { task.Signal(r.room) }

// take is what one Poll takes of one reader.
type take struct {
	reader      *reader
	seek        uint64
	start, next int64
	spans       []span
	count       int
}

// span is a run of records of one batch.
type span struct {
	batch    fetchedBatch
	from, to int // indices within the batch
}

// take moves the position over at most limit records and returns them; false if
// there are none. The consumer's mutex is held.
func (r *reader) take(limit int) (take, bool) {
	t := take{reader: r, seek: r.seek, start: r.position}
	for len(r.chunks) > 0 && t.count < limit {
		c := &r.chunks[0]
		for len(c.batches) > 0 && t.count < limit {
			b := c.batches[0]
			from := int(max(r.position-b.base, 0)) // an offset within a batch was asked for
			to := min(b.visible, from+limit-t.count)
			if from < to {
				t.spans = append(t.spans, span{batch: b, from: from, to: to})
				t.count += to - from
				r.position = b.base + int64(to)
			}
			if to < b.visible {
				break
			}
			c.batches = c.batches[1:]
		}
		if len(c.batches) > 0 {
			break
		}
		r.position = max(r.position, c.next)
		r.chunks = r.chunks[1:]
		r.wakeUp()
	}
	t.next = r.position
	return t, t.count > 0
}

// records decodes what was taken.
func (t *take) records() ([]Record, error) {
	out := make([]Record, t.count)
	n := 0
	for _, s := range t.spans {
		if s.batch.decoded.records == nil {
			records, err := batch.Decode(s.batch.raw, consumed)
			if err != nil {
				return nil, &Error{Op: "poll", Code: "CORRUPT_BATCH", Class: ClassFatal,
					Topic: t.reader.tp.Topic, Partition: t.reader.tp.Partition,
					Err: fmt.Errorf("batch at offset %d: %w", s.batch.base, err)}
			}
			s.batch.decoded.records = records
		}
		for i := s.from; i < s.to; i++ {
			out[n].decode(t.reader.tp, s.batch.base+int64(i), &s.batch.decoded.records[i])
			n++
		}
	}
	return out, nil
}
