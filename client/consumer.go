package client

import (
	"context"
	"fmt"
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
	c      *Client
	cfg    consumerConfig
	group  string
	member string

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  task.Group
	wake   chan struct{} // something arrived, or ended
	polls  task.Lock     // held by the Poll that runs

	commits   task.Lock  // held by the Commit that runs
	unsettled *txOffsets // of the last Commit, if its answer was lost; guarded by commits

	mu         sync.Mutex
	generation uint64
	readers    []*reader // by topic and partition
	byKey      map[TopicPartition]*reader
	turn       int   // reader that the next Poll asks first
	stale      error // the group has gone on without this member
	closed     bool
}

// Consume reads topics, or the partitions that options name. With a group, 1 to
// 249 bytes, it takes the partitions over from whoever had them, whose commits
// then fail with ErrStaleMember, and begins at their committed positions. With
// group "" it keeps no positions and begins where WithStart says.
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
	case len(cfg.memberID) > maxNameBytes:
		return nil, invalid(op, "member id of %d bytes: at most %d", len(cfg.memberID), maxNameBytes)
	case cfg.maxRecords < 1 || cfg.prefetchBytes < 1:
		return nil, invalid(op, "max poll records and prefetch must be more than 0")
	}
	k := &Consumer{
		c: c, cfg: cfg, group: group, member: cfg.memberID,
		wake: make(chan struct{}, 1), polls: task.NewLock(), commits: task.NewLock(),
		byKey: make(map[TopicPartition]*reader),
	}
	k.ctx, k.cancel = c.rt.WithCancel(c.ctx)
	err := k.assign(ctx, topics)
	if err == nil {
		err = k.begin(ctx)
	}
	if err != nil {
		k.cancel()
		return nil, wrap(op, err)
	}
	for _, r := range k.readers {
		k.tasks.Go(c.rt, r.run)
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
		for _, r := range k.readers { // sorted by topic
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

// assign finds the partitions to read.
func (k *Consumer) assign(ctx context.Context, topics []string) error {
	names := slices.Clone(topics)
	for name := range k.cfg.partitions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		t, err := k.c.meta.topic(ctx, name)
		if err != nil {
			return err
		}
		chosen, some := k.cfg.partitions[name]
		if !some {
			for p := range t.partitions {
				chosen = append(chosen, int32(p))
			}
		}
		for _, p := range chosen {
			tp := TopicPartition{Topic: name, Partition: p}
			if p < 0 || int(p) >= len(t.partitions) {
				return invalid("consume", "partition %d of topic %s: it has %d", p, name, len(t.partitions))
			}
			if k.byKey[tp] != nil {
				continue
			}
			r := newReader(k, tp, t)
			k.byKey[tp] = r
			k.readers = append(k.readers, r)
		}
	}
	if n := len(k.readers); n == 0 || n > maxAssigned {
		return invalid("consume", "%d partitions: 1 to %d", n, maxAssigned)
	}
	slices.SortFunc(k.readers, func(a, b *reader) int { return a.tp.compare(b.tp) })
	return nil
}

// begin finds where to read from: at committed positions, else where the option
// says. Both are fixed when Consume returns, so that nothing that is written
// later is missed.
func (k *Consumer) begin(ctx context.Context) error {
	if k.group != "" {
		if err := k.join(ctx); err != nil {
			return err
		}
	}
	var fresh []*reader
	for _, r := range k.readers {
		if r.committed == nil {
			fresh = append(fresh, r)
		} else {
			r.known = int64(*r.committed)
			r.moveTo(r.known)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	position := oncelogv1.StartPosition_START_POSITION_EARLIEST
	if k.cfg.start == StartLatest {
		position = oncelogv1.StartPosition_START_POSITION_LATEST
	}
	offsets, err := k.c.listOffsets(ctx, partitionsOf(fresh), offsetTarget{position: position}, k.isolation())
	if err != nil {
		return err
	}
	for _, r := range fresh {
		r.moveTo(offsets[r.tp])
	}
	return nil
}

// join makes this member the owner of its partitions.
func (k *Consumer) join(ctx context.Context) error {
	req := &oncelogv1.AssignPartitionsRequest{GroupId: k.group, MemberId: k.member, ClientId: k.c.cfg.clientID}
	for _, r := range k.readers {
		req.Partitions = append(req.Partitions, r.ref)
	}
	var resp *oncelogv1.AssignPartitionsResponse
	_, err := k.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = oncelogv1.NewGroupServiceClient(cc).AssignPartitions(ctx, req)
		return err
	})
	if err != nil {
		return err
	}
	if len(resp.GetOffsets()) != len(k.readers) {
		return fmt.Errorf("the cluster answered %d positions for %d partitions", len(resp.GetOffsets()), len(k.readers))
	}
	k.generation = resp.GetGeneration()
	for i, o := range resp.GetOffsets() {
		k.readers[i].committed = o.Offset
	}
	return nil
}

func (k *Consumer) isolation() oncelogv1.IsolationLevel {
	if k.cfg.isolation == ReadUncommitted {
		return oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
	}
	return oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
}

// Group returns the consumer's group, "" for none.
func (k *Consumer) Group() string { return k.group }

// MemberID returns the consumer's name within its group.
func (k *Consumer) MemberID() string { return k.member }

// Partitions returns the partitions that are read, sorted.
func (k *Consumer) Partitions() []TopicPartition {
	out := make([]TopicPartition, len(k.readers))
	for i, r := range k.readers {
		out[i] = r.tp
	}
	return out
}

// Poll waits for records and returns them, at most WithMaxPollRecords; never an
// empty batch. Partitions take turns. The position of the consumer is after what
// was returned.
//
// Errors: the end of ctx; ErrStaleMember once a commit was refused because another
// member has taken over a partition, which Poll by itself does not notice;
// OFFSET_OUT_OF_RANGE when the position is above the end of the partition, or, with
// WithoutReset, records at the position are no longer kept, and CORRUPT_BATCH when stored bytes at the position are damaged: Seek to go on.
func (k *Consumer) Poll(ctx context.Context) (*Batch, error) {
	b, err := k.poll(ctx, nil)
	if err != nil {
		return nil, wrap("poll", err)
	}
	return b, nil
}

// poll is Poll; with goal it returns nil, nil once all positions have reached it.
func (k *Consumer) poll(ctx context.Context, goal Offsets) (*Batch, error) {
	if !k.polls.LockUntil(k.c.rt, ctx.Done()) {
		return nil, ctx.Err()
	}
	defer k.polls.Unlock()
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
	k.turn = (k.turn + 1) % len(k.readers)
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
				if t.reader.seek == t.seek {
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

// Position returns, per partition, the offset that the next Poll begins with.
func (k *Consumer) Position() Offsets {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := make(Offsets, len(k.readers))
	for _, r := range k.readers {
		o[r.tp] = r.position
	}
	return o
}

// Seek moves positions; partitions that are not assigned are ignored. What is
// committed does not change. A transaction that was given a batch before and is
// aborted after takes the position back to that batch all the same.
func (k *Consumer) Seek(o Offsets) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.readers {
		if offset, ok := o[r.tp]; ok {
			r.moveTo(max(offset, 0))
		}
	}
}

// Close ends the consumer and gives its partitions up. It takes a few seconds at
// most. Closing twice is harmless.
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
	if k.group == "" {
		return nil
	}
	ctx, cancel := k.c.rt.WithTimeout(k.c.ctx, leaveLimit)
	defer cancel()
	_, err := k.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewGroupServiceClient(cc).LeaveGroup(ctx,
			&oncelogv1.LeaveGroupRequest{GroupId: k.group, MemberId: k.member})
		return err
	})
	if err != nil {
		return wrap("close consumer", err)
	}
	return nil
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
