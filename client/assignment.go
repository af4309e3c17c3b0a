package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// take acts upon an answer: stops what the member is not to read any more, and
// has begun what is new.
func (m *membership) take(req *oncelogv1.GroupHeartbeatRequest, resp *oncelogv1.GroupHeartbeatResponse) (news bool) {
	k := m.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if req.GetMemberId() != k.member {
		return true // of the life before
	}
	m.joined = true
	if ms := resp.GetHeartbeatIntervalMs(); ms > 0 {
		m.interval = min(time.Duration(ms)*time.Millisecond, longestHeartbeat)
	}
	for _, id := range req.GetReleasedPartitionIds() {
		delete(m.releasing, id)
	}
	if resp.GetGeneration() == req.GetGeneration() {
		return false
	}
	wasAsked := m.known
	m.known, k.generation = resp.GetGeneration(), resp.GetGeneration()
	assigned := make(map[uint64]*oncelogv1.GroupAssignment, len(resp.GetAssigned()))
	for _, a := range resp.GetAssigned() {
		assigned[a.GetPartition().GetPartitionId()] = a
	}
	m.stop(assigned, resp.GetRevokedPartitionIds())
	if wasAsked == 0 && req.GetGeneration() != 0 {
		// Everything was asked for, and this answer is to a request that released.
		m.known = 0
	}
	m.begin(req.GetGeneration(), assigned)
	if m.known == 0 {
		m.say()
	}
	return true
}

// stop ends what is not assigned any more, or was lost and given back in between.
// The consumer's mutex is held.
func (m *membership) stop(assigned map[uint64]*oncelogv1.GroupAssignment, asked []uint64) {
	e, revoked := event{}, make(map[uint64]bool, len(asked))
	for _, id := range asked {
		revoked[id] = true
	}
	for _, r := range slices.Clone(m.k.readers) {
		a := assigned[r.id()]
		switch {
		case a != nil && a.GetOwnedSinceGeneration() == r.since:
			continue
		case a == nil && revoked[r.id()]:
			e.revoked, e.ids = append(e.revoked, r.tp), append(e.ids, r.id())
			m.releasing[r.id()] = false
		default:
			e.lost = append(e.lost, r.tp)
		}
		m.k.drop(r)
	}
	for id, since := range m.starting { // each by itself: the order does not matter
		if a := assigned[id]; a == nil || a.GetOwnedSinceGeneration() != since {
			delete(m.starting, id)
		}
	}
	for _, id := range asked {
		if _, already := m.releasing[id]; !already {
			m.releasing[id] = true // nothing of it was read
			m.say()
		}
	}
	m.push(e)
}

// begin has new partitions begun. The consumer's mutex is held.
func (m *membership) begin(generation uint64, assigned map[uint64]*oncelogv1.GroupAssignment) {
	reading := make(map[uint64]bool, len(m.k.readers))
	for _, r := range m.k.readers {
		reading[r.id()] = true
	}
	e := event{}
	for _, id := range slices.Sorted(maps.Keys(assigned)) {
		a := assigned[id]
		_, begun := m.starting[id]
		if _, stopped := m.releasing[id]; stopped || begun || reading[id] {
			continue // what was stopped comes back in a new generation
		}
		if a.GetOwnedSinceGeneration() <= generation {
			m.known = 0 // the answer does not tell where to begin
			continue
		}
		m.starting[id] = a.GetOwnedSinceGeneration()
		e.assigned = append(e.assigned, a)
	}
	m.push(e)
}

// push hands an event to settle. The consumer's mutex is held.
func (m *membership) push(e event) {
	if len(e.assigned)+len(e.revoked)+len(e.lost) == 0 {
		return
	}
	m.events = append(m.events, e)
	task.Signal(m.happened)
}

func (m *membership) nextEvent() (event, bool) {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	if len(m.events) == 0 {
		return event{}, false
	}
	e := m.events[0]
	m.events = m.events[1:]
	return e, true
}

// settle tells the application what has happened, and begins partitions.
func (m *membership) settle() {
	for m.k.ctx.Err() == nil {
		e, ok := m.nextEvent()
		if !ok {
			m.k.c.rt.Wait(m.happened, m.k.ctx.Done())
			continue
		}
		m.k.c.cfg.hooks.rebalanced(RebalanceEvent{Group: m.k.group, Revoked: e.revoked, Lost: e.lost})
		m.notify(m.k.cfg.onLost, e.lost)
		m.notify(m.k.cfg.onRevoked, e.revoked)
		m.released(e.ids)
		if len(e.assigned) > 0 {
			// In a task of its own: a shard that does not answer must not hold up what
			// is to be let go.
			m.k.tasks.Go(m.k.c.rt, func() { _ = m.open(m.k.ctx, e.assigned) })
		}
	}
}

// notify calls a callback of the application.
func (m *membership) notify(callback func(*Consumer, []TopicPartition), about []TopicPartition) {
	if callback == nil || len(about) == 0 {
		return
	}
	m.calls.Lock(m.k.c.rt)
	defer m.calls.Unlock()
	callback(m.k, about)
}

// released lets the group be told that partitions are free.
func (m *membership) released(ids []uint64) {
	if len(ids) == 0 {
		return
	}
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	for _, id := range ids {
		if _, still := m.releasing[id]; still {
			m.releasing[id] = true
		}
	}
	m.say()
}

// resync stops what a commit was refused for, and asks for everything anew: the
// member owns less than it thought, or a position was moved.
func (m *membership) resync(o *txOffsets) {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	e := event{}
	for _, move := range o.moves {
		if !move.reader.gone {
			m.k.drop(move.reader)
			e.lost = append(e.lost, move.reader.tp)
		}
	}
	m.known = 0
	m.push(e)
	m.say()
}

// openLimit bounds one try to begin partitions; before the next one it is looked
// whether they are still the member's.
const openLimit = 10 * time.Second

// open begins to read partitions, where they are committed or where the option
// says. It returns when that is done, or when none of them is the member's any
// more.
func (m *membership) open(ctx context.Context, list []*oncelogv1.GroupAssignment) error {
	committed, fresh := []*oncelogv1.GroupAssignment{}, []*oncelogv1.GroupAssignment{}
	for _, a := range list {
		if a.Offset != nil {
			committed = append(committed, a)
		} else {
			fresh = append(fresh, a)
		}
	}
	for _, part := range [][]*oncelogv1.GroupAssignment{committed, fresh} {
		pauses := m.k.c.backoff()
		for {
			if part = m.wanted(part); len(part) == 0 {
				break
			}
			err := m.tryOpen(ctx, part)
			if err == nil {
				break
			}
			if errors.Is(err, ErrNoOffset) {
				m.k.end(err)
				return err
			}
			if errors.Is(err, ErrStaleMember) {
				m.startAnew(part)
				break
			}
			if m.k.ctx.Err() != nil || ctx.Err() != nil || pauses.pause(ctx) != nil {
				return err
			}
		}
	}
	return nil
}

// startAnew forgets that partitions are being begun, and asks for them anew.
func (m *membership) startAnew(list []*oncelogv1.GroupAssignment) {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	for _, a := range list {
		if id := a.GetPartition().GetPartitionId(); m.starting[id] == a.GetOwnedSinceGeneration() {
			delete(m.starting, id)
		}
	}
	m.known = 0
	m.say()
}

// wanted leaves out what is not the member's any more.
func (m *membership) wanted(list []*oncelogv1.GroupAssignment) []*oncelogv1.GroupAssignment {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	var out []*oncelogv1.GroupAssignment
	for _, a := range list {
		if m.starting[a.GetPartition().GetPartitionId()] == a.GetOwnedSinceGeneration() {
			out = append(out, a)
		}
	}
	return out
}

func (m *membership) tryOpen(ctx context.Context, list []*oncelogv1.GroupAssignment) error {
	ctx, cancel := m.k.c.rt.WithTimeout(ctx, openLimit)
	defer cancel()
	readers := make([]*reader, 0, len(list))
	for _, a := range list {
		t, err := m.k.c.meta.topic(ctx, a.GetPartition().GetTopic())
		if err != nil {
			return err
		}
		i := int(a.GetPartition().GetPartition())
		if i >= len(t.partitions) || t.partitions[i].id != a.GetPartition().GetPartitionId() {
			m.k.c.rt.Wait(m.k.c.meta.refresh(t.name).done, ctx.Done())
			for _, r := range readers {
				r.cancel()
			}
			return fmt.Errorf("partition %d of topic %s is not known yet", i, t.name)
		}
		r := newReader(m.k, TopicPartition{Topic: t.name, Partition: int32(i)}, t)
		r.since, r.committed = a.GetOwnedSinceGeneration(), a.Offset
		readers = append(readers, r)
	}
	fresh, err := m.k.place(ctx, readers)
	if err == nil && m.k.cfg.start == StartLatest {
		err = m.pin(ctx, fresh)
	}
	if err != nil {
		for _, r := range readers {
			r.cancel()
		}
		return err
	}
	m.admit(readers)
	return nil
}

// pin commits the positions at the end at which readers begin: a member that takes
// over before the first commit must not begin at a later end, and pass over what
// came in between.
func (m *membership) pin(ctx context.Context, fresh []*reader) error {
	if len(fresh) == 0 {
		return nil
	}
	o := &txOffsets{consumer: m.k}
	m.k.mu.Lock()
	o.member, o.generation = m.k.member, m.k.generation
	m.k.mu.Unlock()
	for _, r := range fresh {
		o.moves = append(o.moves, positionMove{reader: r, start: r.position, next: r.position})
	}
	req := &oncelogv1.CommitOffsetsRequest{Offsets: o.proto()}
	_, err := m.k.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewGroupServiceClient(cc).CommitOffsets(ctx, req)
		return err
	})
	if err != nil {
		return wrap("consume", err)
	}
	for _, r := range fresh {
		position := uint64(r.position)
		r.committed = &position
	}
	return nil
}

// admit makes readers part of the consumer, tells the application, and then lets
// Poll have their records: a Seek in OnAssigned comes before any of them.
func (m *membership) admit(readers []*reader) {
	k := m.k
	m.calls.Lock(k.c.rt)
	defer m.calls.Unlock()
	var admitted []*reader
	var about []TopicPartition
	k.mu.Lock()
	for _, r := range readers {
		if m.starting[r.id()] != r.since || k.closed {
			r.cancel()
			continue
		}
		delete(m.starting, r.id())
		r.held = true
		k.add(r)
		k.tasks.Go(k.c.rt, r.run)
		admitted, about = append(admitted, r), append(about, r.tp)
	}
	k.mu.Unlock()
	if len(admitted) == 0 {
		return
	}
	k.c.cfg.hooks.rebalanced(RebalanceEvent{Group: k.group, Assigned: about})
	if k.cfg.onAssigned != nil {
		k.cfg.onAssigned(k, about)
	}
	k.mu.Lock()
	for _, r := range admitted {
		r.held = false
	}
	k.mu.Unlock()
	k.signal()
}

// farewell tells the application that nothing is read any more. All tasks have
// ended.
func (m *membership) farewell() {
	var all []TopicPartition
	m.k.mu.Lock()
	for _, r := range m.k.readers {
		all = append(all, r.tp)
	}
	m.k.mu.Unlock()
	m.k.c.cfg.hooks.rebalanced(RebalanceEvent{Group: m.k.group, Revoked: all})
	m.notify(m.k.cfg.onRevoked, all)
}

func sortedIDs[V any](m map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(m)) }
