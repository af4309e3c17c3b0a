package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// maxAssigned is the contract's limit on the partitions of a member.
const maxAssigned = 10_000

// leaveLimit bounds what Close tells the group.
const leaveLimit = 3 * time.Second

// Consumer reads partitions. With a group its positions are kept by the cluster,
// and a position can be committed by whoever owns the partition only. Its methods
// are safe for concurrent use; one Poll runs at a time.
type Consumer struct {
	c     *Client
	cfg   consumerConfig
	group string
	m     *membership // nil: no group, or manual assignment

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  task.Group
	wake   chan struct{} // something arrived, or ended
	polls  task.Lock     // held by the Poll that runs

	commits   task.Lock  // held by the Commit that runs
	unsettled *txOffsets // of the last Commit, if its answer was lost; guarded by commits

	mu         sync.Mutex
	member     string // changes when the group has given the consumer up
	generation uint64
	readers    []*reader // by topic and partition
	byKey      map[TopicPartition]*reader
	turn       int   // reader that the next Poll asks first
	stale      error // nothing is read any more, for this reason
	closed     bool
}

// Consume reads topics, or the partitions that options name.
//
// With a group, 1 to 249 bytes, the consumer joins it and reads the share of the
// topics' partitions that the group gives it, from their committed positions. The
// shares change as members come and go: start more consumers to scale out. A
// partition that is asked back is dropped at once, with what was polled of it and
// is not committed, and its next owner begins at the committed position.
//
// With a group and WithManualAssignment, WithPartitions or WithAssignment it takes
// partitions over from whoever had them, whose commits then fail with
// ErrStaleMember. With group "" it keeps no positions and begins where WithStart
// says.
//
// Errors: UNKNOWN_TOPIC; INCONSISTENT_GROUP_PROTOCOL when the other members of the
// group are assigned the other way; LIMIT_EXCEEDED; the end of ctx.
func (c *Client) Consume(ctx context.Context, group string, topics []string, opts ...ConsumerOption) (*Consumer, error) {
	const op = "consume"
	cfg := defaultConsumerConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.memberID == "" {
		cfg.memberID = c.cfg.clientID[:min(len(c.cfg.clientID), 200)] + "-" + randomID()
	}
	switch {
	case len(topics) == 0 && len(cfg.partitions) == 0:
		return nil, invalid(op, "no topics")
	case len(group) > maxNameBytes:
		return nil, invalid(op, "group of %d bytes: at most %d", len(group), maxNameBytes)
	}
	if err := cfg.check(op); err != nil {
		return nil, err
	}
	k := &Consumer{
		c: c, cfg: cfg, group: group, member: cfg.memberID,
		wake: make(chan struct{}, 1), polls: task.NewLock(), commits: task.NewLock(),
		byKey: make(map[TopicPartition]*reader),
	}
	k.ctx, k.cancel = c.rt.WithCancel(c.ctx)
	begin := k.assignManually
	if group != "" && !cfg.manual && len(cfg.partitions) == 0 {
		begin = k.subscribe
	}
	if err := begin(ctx, topics); err != nil {
		k.cancel()
		k.tasks.Wait(c.rt)
		return nil, wrap(op, err)
	}
	k.tasks.Go(c.rt, k.watch)
	if err := c.adopt(k); err != nil {
		k.shutdown()
		return nil, wrap(op, err)
	}
	return k, nil
}

// leaderCheck is how often a consumer asks who leads. A stream at the end of its
// log is silent, and so is one from a node that has lost touch.
const leaderCheck = 5 * time.Second

// watch moves streams that come from a node which no longer leads.
func (k *Consumer) watch() {
	for k.c.rt.Sleep(leaderCheck, k.ctx.Done()) {
		var asked string
		for _, r := range k.reading() { // sorted by topic
			if r.tp.Topic != asked {
				asked = r.tp.Topic
				if k.c.rt.Wait(k.c.meta.refresh(asked).done, k.ctx.Done()) != 0 {
					return
				}
			}
			k.mu.Lock()
			if r.stop != nil && k.c.meta.movedFrom(r.shard, r.from) {
				r.stop()
			}
			k.mu.Unlock()
		}
	}
}

// subscribe joins the group and begins to read what it gives.
func (k *Consumer) subscribe(ctx context.Context, topics []string) error {
	names := slices.Clone(topics)
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		if _, err := k.c.meta.topic(ctx, name); err != nil {
			return err
		}
	}
	k.m = newMembership(k, names)
	if err := k.m.start(ctx); err != nil {
		return errors.Join(err, k.leaveIfJoined())
	}
	k.tasks.Go(k.c.rt, k.m.run)
	k.tasks.Go(k.c.rt, k.m.settle)
	return nil
}

// reading returns the readers that there are now.
func (k *Consumer) reading() []*reader {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.readers)
}

// add begins to read a partition. The consumer's mutex is held, or nobody else
// knows the consumer yet.
func (k *Consumer) add(r *reader) {
	k.byKey[r.tp] = r
	i, _ := slices.BinarySearchFunc(k.readers, r, func(a, b *reader) int { return a.tp.compare(b.tp) })
	k.readers = slices.Insert(k.readers, i, r)
}

// drop stops reading a partition: what was fetched is forgotten, and what was
// polled cannot be committed. The consumer's mutex is held.
func (k *Consumer) drop(r *reader) {
	r.gone = true
	r.seek++
	r.chunks = nil
	r.cancel()
	delete(k.byKey, r.tp)
	k.readers = slices.DeleteFunc(k.readers, func(x *reader) bool { return x == r })
}

func (k *Consumer) isolation() oncelogv1.IsolationLevel {
	if k.cfg.isolation == ReadUncommitted {
		return oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
	}
	return oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
}

// Group returns the consumer's group, "" for none.
func (k *Consumer) Group() string { return k.group }

// MemberID returns the consumer's name within its group. It changes when the group
// has given the consumer up and it has joined again.
func (k *Consumer) MemberID() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.member
}

// Partitions returns the partitions that are read now, sorted.
func (k *Consumer) Partitions() []TopicPartition {
	readers := k.reading()
	out := make([]TopicPartition, len(readers))
	for i, r := range readers {
		out[i] = r.tp
	}
	return out
}

// PartitionIDs returns the partitions that are read now with the ids that the cluster
// gave them. Those of a topic that was deleted and created again have other ids: who
// keeps offsets elsewhere can tell by them whether they still mean anything.
func (k *Consumer) PartitionIDs() map[TopicPartition]uint64 {
	readers := k.reading()
	out := make(map[TopicPartition]uint64, len(readers))
	for _, r := range readers {
		out[r.tp] = r.id()
	}
	return out
}

// Poll waits for records and returns them, at most WithMaxPollRecords; never an
// empty batch. Partitions take turns. The position of the consumer is after what
// was returned.
//
// Errors: the end of ctx; with manual assignment ErrStaleMember once a commit was
// refused because another member has taken over a partition, which Poll by itself
// does not notice; ErrFencedInstance; ErrNoOffset;
// OFFSET_OUT_OF_RANGE when the position is above the end of the partition, or, with
// WithoutReset, records at the position are no longer kept, and CORRUPT_BATCH when
// stored bytes at the position are damaged: Seek to go on.
func (k *Consumer) Poll(ctx context.Context) (*Batch, error) {
	b, err := k.poll(ctx, nil)
	if err != nil {
		return nil, wrap("poll", err)
	}
	return b, nil
}

// poll is Poll; with goal it returns nil, nil once all positions have reached it.
func (k *Consumer) poll(ctx context.Context, goal Offsets) (*Batch, error) {
	began := k.c.rt.Now()
	b, err := k.await(ctx, goal)
	if b != nil {
		k.c.cfg.hooks.polled(PollEvent{Group: k.group, Records: b.count, Waited: k.c.rt.Since(began)})
	}
	return b, err
}

func (k *Consumer) await(ctx context.Context, goal Offsets) (*Batch, error) {
	if !k.polls.LockUntil(k.c.rt, ctx.Done()) {
		return nil, ctx.Err()
	}
	defer k.polls.Unlock()
	if k.m != nil {
		k.m.pollBegins()
		defer k.m.pollEnds()
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		takes, reached, err := k.collect(goal)
		switch {
		case err != nil:
			return nil, err
		case len(takes) > 0:
			return k.decode(takes)
		case reached:
			return nil, nil
		}
		k.c.rt.Wait(k.wake, ctx.Done(), k.ctx.Done())
	}
}

// collect takes what has arrived, up to the limit, and moves the positions.
func (k *Consumer) collect(goal Offsets) (takes []take, reached bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed || k.ctx.Err() != nil:
		return nil, false, ErrClosed
	case k.stale != nil:
		return nil, false, k.stale
	}
	if goal != nil && k.reachedLocked(goal) {
		return nil, true, nil
	}
	left := k.cfg.maxRecords
	for i := range k.readers {
		r := k.readers[(k.turn+i)%len(k.readers)]
		if r.held || r.paused {
			continue
		}
		if r.err != nil && len(r.chunks) == 0 {
			if len(takes) > 0 {
				break // first what was read well
			}
			err := r.err
			r.retry()
			return nil, false, err
		}
		if t, ok := r.take(left); ok {
			takes = append(takes, t)
			left -= t.count
		}
		if left == 0 {
			break
		}
	}
	k.turn = (k.turn + 1) % max(len(k.readers), 1)
	return takes, goal != nil && k.reachedLocked(goal), nil
}

// decode turns what was taken into records. It runs in the task of Poll.
func (k *Consumer) decode(takes []take) (*Batch, error) {
	b := &Batch{consumer: k, parts: make([]batchPart, 0, len(takes))}
	for _, t := range takes {
		records, err := t.records()
		if err != nil {
			// Nothing of this Poll is handed out; it will be fetched again.
			k.mu.Lock()
			for _, t := range takes {
				if t.reader.seek == t.seek && !t.reader.gone {
					t.reader.moveTo(t.start)
				}
			}
			k.mu.Unlock()
			return nil, err
		}
		b.parts = append(b.parts, batchPart{reader: t.reader, start: t.start, next: t.next, seek: t.seek, records: records})
		b.count += len(records)
	}
	return b, nil
}

// Close ends the consumer and gives its partitions up, unless it is a static
// member. It takes a few seconds at most. Closing twice is harmless.
func (k *Consumer) Close() error {
	k.mu.Lock()
	already := k.closed
	k.closed = true
	k.mu.Unlock()
	if already {
		return nil
	}
	k.c.release(k)
	k.cancel()
	k.tasks.Wait(k.c.rt)
	if k.m != nil {
		k.m.farewell()
	}
	if err := k.leaveIfJoined(); err != nil {
		return wrap("close consumer", err)
	}
	return nil
}

// leaveIfJoined tells the group that the consumer is gone.
func (k *Consumer) leaveIfJoined() error {
	if k.group == "" || k.cfg.instanceID != "" {
		return nil
	}
	return k.leave(k.c.ctx, k.MemberID())
}

func (k *Consumer) leave(ctx context.Context, member string) error {
	ctx, cancel := k.c.rt.WithTimeout(ctx, leaveLimit)
	defer cancel()
	_, err := k.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewGroupServiceClient(cc).LeaveGroup(ctx,
			&oncelogv1.LeaveGroupRequest{GroupId: k.group, MemberId: member})
		return err
	})
	return err
}

// shutdown ends the consumer with its client.
func (k *Consumer) shutdown() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.tasks.Wait(k.c.rt)
}

// signal wakes a Poll.
func (k *Consumer) signal() { task.Signal(k.wake) }
