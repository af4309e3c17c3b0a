package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// txOffsets is what a transaction commits for one consumer.
type txOffsets struct {
	consumer *Consumer
	// member and generation are whose commit it is.
	member     string
	generation uint64
	moves      []positionMove
	batches    []*Batch
}

// positionMove is the way of one position in a transaction.
type positionMove struct {
	reader   *reader
	start    int64   // where the consumer goes back to if the transaction is aborted
	next     int64   // what is committed
	expected *uint64 // the committed position that this member knew
	claim    bool    // nothing was consumed: next is where the position stands
}

// addOffsets adds a batch to what the transaction commits.
func (t *Tx) addOffsets(b *Batch) error {
	if b == nil || b.consumer == nil {
		return invalid(opSendOffsets, "no batch")
	}
	return t.addTo(b.consumer, func(o *txOffsets) error { return b.consumer.prepare(o, b) })
}

// addTo adds to what the transaction commits for a consumer.
func (t *Tx) addTo(k *Consumer, prepare func(o *txOffsets) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sealed || t.state != txOpen {
		return ErrTxDone // Commit or Abort came first
	}
	var o *txOffsets
	for _, x := range t.offsets {
		if x.consumer == k {
			o = x
		}
	}
	known := o != nil
	if !known {
		o = &txOffsets{consumer: k}
	}
	if err := prepare(o); err != nil {
		return err
	}
	k.reserve(o)
	if !known {
		t.offsets = append(t.offsets, o)
	}
	return nil
}

// reserve leaves the positions to a transaction until it has ended.
func (k *Consumer) reserve(o *txOffsets) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range o.moves {
		m.reader.pending = o
	}
}

// free ends reserve. The consumer's mutex is held.
func (o *txOffsets) free() {
	for _, m := range o.moves {
		if m.reader.pending == o {
			m.reader.pending = nil
		}
	}
}

// prepare checks that a batch may be committed and notes what that means.
func (k *Consumer) prepare(o *txOffsets, b *Batch) error {
	if k.group == "" {
		return invalid(opSendOffsets, "the consumer has no group")
	}
	if b.committed.Load() {
		return staleBatch("the batch has been committed before")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return ErrClosed
	case k.stale != nil:
		return k.stale
	}
	if r := gone(o, b); r != nil {
		// What is left of the batch has to be read again: the next batch's positions
		// would pass it over.
		k.putBackLocked(b)
		return staleMember(r)
	}
	for i := range b.parts {
		// After an abort or a Seek the batch is old, unless the consumer stands
		// again exactly where the batch begins: then it counts as read again, and
		// the next Poll goes on after it.
		p := &b.parts[i]
		if p.reader.seek != p.seek && !p.begins(p.reader.position) {
			return staleBatch(fmt.Sprintf("the consumer has moved in %v since the batch was polled", p.reader.tp))
		}
		// If the earlier batch's transaction were aborted after this one was
		// committed, its records would be passed over.
		if p.reader.pending != nil && p.reader.pending != o {
			return staleBatch(fmt.Sprintf("the transaction with the batch before it in %v has not ended; "+
				"commit or abort that first, or Consume again", p.reader.tp))
		}
	}
	for i := range b.parts {
		p := &b.parts[i]
		if p.reader.seek != p.seek {
			p.reader.moveTo(p.next)
			p.seek = p.reader.seek
		}
		o.move(p)
	}
	o.batches = append(o.batches, b)
	o.member, o.generation = k.member, k.generation
	return nil
}

// claim adds partitions to what a transaction commits, without moving their
// positions.
func (k *Consumer) claim(o *txOffsets, partitions []TopicPartition) error {
	if k.group == "" {
		return invalid(opClaim, "the consumer has no group")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return ErrClosed
	case k.stale != nil:
		return k.stale
	}
	if r := gone(o, &Batch{}); r != nil {
		return staleMember(r)
	}
	var moves []positionMove
	for _, tp := range partitions {
		r := k.byKey[tp]
		switch {
		case r == nil:
			return &Error{Op: opClaim, Code: codeStaleMember, Class: ClassAbortable, Topic: tp.Topic, Partition: tp.Partition, Err: ErrStaleMember}
		case r.pending != nil && r.pending != o:
			return staleBatch(fmt.Sprintf("the transaction with the last batch in %v has not ended", tp))
		case o.has(r):
			continue // what is committed for it checks the same
		}
		next := r.origin
		if r.committed != nil {
			next = int64(*r.committed)
		}
		moves = append(moves, positionMove{reader: r, start: r.position, next: next, expected: r.committed, claim: true})
	}
	o.moves = append(o.moves, moves...)
	o.member, o.generation = k.member, k.generation
	return nil
}

func (o *txOffsets) has(r *reader) bool {
	return slices.ContainsFunc(o.moves, func(m positionMove) bool { return m.reader == r })
}

// PutBack makes the consumer read a batch again that was polled, and was neither
// committed nor given to a transaction, which would do so if it is aborted. Where
// the consumer has been moved since, or does not read any more, it does nothing. Of
// several batches put the first one back first.
func (k *Consumer) PutBack(b *Batch) {
	if b != nil && b.consumer == k && !b.committed.Load() {
		k.putBack(b)
	}
}

// putBack makes the consumer read a batch again that nobody has used, unless it
// has been moved since.
func (k *Consumer) putBack(b *Batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.putBackLocked(b)
}

// gone returns a partition of what is to be committed that is not read any more.
func gone(o *txOffsets, b *Batch) *reader {
	for i := range o.moves {
		if o.moves[i].reader.gone {
			return o.moves[i].reader
		}
	}
	for i := range b.parts {
		if b.parts[i].reader.gone {
			return b.parts[i].reader
		}
	}
	return nil
}

func (k *Consumer) putBackLocked(b *Batch) {
	for i := range b.parts {
		if p := &b.parts[i]; p.reader.seek == p.seek {
			p.reader.moveTo(p.start)
		}
	}
}

// move extends the way of one position by a batch.
func (o *txOffsets) move(p *batchPart) {
	for i := range o.moves {
		if o.moves[i].reader == p.reader {
			if o.moves[i].claim {
				o.moves[i].claim, o.moves[i].start = false, p.start
			}
			o.moves[i].next = p.next
			return
		}
	}
	o.moves = append(o.moves, positionMove{
		reader: p.reader, start: p.start, next: p.next, expected: p.reader.committed,
	})
}

// staleMember refuses a batch of a partition that the group has asked back, before
// anything is sent.
func staleMember(r *reader) *Error {
	return &Error{Op: opSendOffsets, Code: codeStaleMember, Class: ClassAbortable, Topic: r.tp.Topic, Partition: r.tp.Partition, Err: ErrStaleMember}
}

func staleBatch(why string) *Error {
	return &Error{Op: opSendOffsets, Code: codeStaleBatch, Class: ClassFatal, Err: errors.New(why)}
}

// groupOffsets is what the commit carries.
func (t *Tx) groupOffsets() []*oncelogv1.GroupOffsets {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*oncelogv1.GroupOffsets
	for _, o := range t.offsets {
		out = append(out, o.proto())
	}
	return out
}

func (o *txOffsets) proto() *oncelogv1.GroupOffsets {
	k := o.consumer
	g := &oncelogv1.GroupOffsets{GroupId: k.group, MemberId: o.member, Generation: o.generation}
	for _, m := range o.moves {
		g.Offsets = append(g.Offsets, &oncelogv1.OffsetCommit{
			Partition: m.reader.ref, Offset: uint64(m.next), ExpectedOffset: m.expected,
		})
	}
	return g
}

// positionsCommitted takes note of a commit.
func (k *Consumer) positionsCommitted(o *txOffsets) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range o.moves {
		next := uint64(m.next)
		m.reader.committed = &next
	}
	o.free()
	for _, b := range o.batches {
		b.committed.Store(true)
	}
}

// rewind goes back to where an aborted transaction began.
func (k *Consumer) rewind(o *txOffsets) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range o.moves {
		if !m.claim {
			m.reader.moveTo(m.start)
		}
	}
	o.free()
}

// markStale takes note that a commit was refused because the member owns less
// than it thought, or a position was moved. A consumer that is given its
// partitions asks what it has; another one has ended.
func (k *Consumer) markStale(o *txOffsets, err error) {
	if k.m != nil {
		k.m.resync(o)
		return
	}
	k.end(err)
}

// end stops a consumer; every Poll returns err from now on.
func (k *Consumer) end(err error) {
	k.mu.Lock()
	if k.stale == nil {
		k.stale = err
	}
	k.mu.Unlock()
	k.signal()
}

// Commit moves the committed positions of the consumer's group past a batch,
// without a transaction: what the batch led to happens at least once. Batches are
// committed in the order in which they were polled; calls take turns.
//
// Errors: ErrStaleMember when another member has taken over a partition or moved
// a position; the end of ctx, after which it may have happened: the next Commit,
// of this batch or a later one, finds that out first.
func (k *Consumer) Commit(ctx context.Context, b *Batch) error {
	if b == nil || b.consumer != k {
		return invalid(opCommitOffsets, "a batch of this consumer is needed")
	}
	began := k.c.rt.Now()
	err := k.commitBatch(ctx, b)
	k.c.cfg.hooks.positionsCommitted(PositionsEvent{Group: k.group, Took: k.c.rt.Since(began), Err: err})
	return err
}

func (k *Consumer) commitBatch(ctx context.Context, b *Batch) error {
	if !k.commits.LockUntil(k.c.rt, ctx.Done()) {
		return wrap(opCommitOffsets, ctx.Err())
	}
	defer k.commits.Unlock()
	if k.unsettled != nil {
		if err := k.commitPositions(ctx, k.unsettled); err != nil {
			return err
		}
		if b.committed.Load() {
			return nil
		}
	}
	o := &txOffsets{consumer: k}
	if err := k.prepare(o, b); err != nil {
		e := *wrap(opCommitOffsets, err)
		e.Op = opCommitOffsets
		return &e
	}
	return k.commitPositions(ctx, o)
}

// Calls that name themselves in errors.
const (
	opCommitOffsets = "commit offsets"
	opSendOffsets   = "send offsets"
	opClaim         = "claim"
)

// commitPositions moves the group's positions. The commits lock is held.
func (k *Consumer) commitPositions(ctx context.Context, o *txOffsets) error {
	req := &oncelogv1.CommitOffsetsRequest{Offsets: o.proto()}
	uncertain, err := k.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewGroupServiceClient(cc).CommitOffsets(ctx, req)
		return err
	})
	uncertain = uncertain || k.unsettled == o
	if err == nil {
		k.unsettled = nil
		k.positionsCommitted(o)
		return nil
	}
	e := wrap(opCommitOffsets, err)
	switch {
	case errors.Is(e, ErrStaleMember):
		k.markStale(o, e)
	case uncertain:
		k.unsettled = o
	}
	return e
}
