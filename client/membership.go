package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// longestHeartbeat is the contract's bound on the time between two heartbeats.
const longestHeartbeat = 5 * time.Second

// maxReleased is the contract's limit on the partitions that one heartbeat lets
// go of.
const maxReleased = 10_000

// membership keeps a consumer in its group, and makes it read what the group has
// given it. Heartbeats are one task, whatever the application does meanwhile;
// partitions are begun and let go of in others, and callbacks are called one at a
// time.
//
// A partition that the group asks for is stopped at once: nothing of it is handed
// out any more, and what was cannot be committed. Then OnRevoked is called, and
// then the group is told, which gives the partition on.
type membership struct {
	k        *Consumer
	sub      *oncelogv1.GroupSubscription
	name     string // what member ids are made of
	maxPoll  time.Duration
	wake     chan struct{} // for the heartbeats: the application is back
	happened chan struct{} // for settle: there are events
	calls    task.Lock     // held by the callback that runs

	// Guarded by the consumer's mutex.
	joined    bool
	known     uint64             // generation of the last answer; 0: tell me everything
	interval  time.Duration      // between heartbeats
	unsaid    bool               // there is something to say at once
	hurry     context.CancelFunc // ends the heartbeat that waits for news
	releasing map[uint64]bool    // ids of partitions that were stopped; true: the group may be told
	starting  map[uint64]uint64  // ids of partitions that are being begun, and since which generation they are owned
	events    []event
	polls     int       // Polls under way
	lastPoll  time.Time // when the last one ended
	away      bool      // left the group, because nobody polls
}

// event is something that the application is told.
type event struct {
	assigned []*oncelogv1.GroupAssignment
	revoked  []TopicPartition
	ids      []uint64 // of revoked
	lost     []TopicPartition
}

func newMembership(k *Consumer, topics []string) *membership {
	cfg := &k.cfg
	m := &membership{
		k: k, name: k.member, maxPoll: cfg.maxPollInterval,
		wake: make(chan struct{}, 1), happened: make(chan struct{}, 1), calls: task.NewLock(),
		interval:  min(cfg.sessionTimeout/3, longestHeartbeat),
		releasing: map[uint64]bool{}, starting: map[uint64]uint64{},
		lastPoll: k.c.rt.Now(),
	}
	m.sub = &oncelogv1.GroupSubscription{
		Topics: topics, ClientId: k.c.cfg.clientID, Assignor: cfg.assignor.proto(),
		SessionTimeoutMs:   uint32(cfg.sessionTimeout.Milliseconds()),
		RebalanceTimeoutMs: uint32(cfg.rebalanceTimeout.Milliseconds()),
	}
	return m
}

// start joins, and begins to read what there is to read already.
func (m *membership) start(ctx context.Context) error {
	if _, err := m.beat(ctx); err != nil {
		return err
	}
	for {
		e, ok := m.nextEvent()
		if !ok {
			return nil
		}
		if err := m.open(ctx, e.assigned); err != nil {
			return err
		}
	}
}

// run sends heartbeats until the consumer is closed or is refused for good.
func (m *membership) run() {
	pauses := m.k.c.backoff()
	for m.k.ctx.Err() == nil {
		if m.isAway() {
			m.leaveUntilPolled()
			continue
		}
		began := m.k.c.rt.Now()
		news, err := m.beat(m.k.ctx)
		switch {
		case err == nil:
			pauses.reset()
			if !news {
				m.rest(began)
			}
		case m.refused(err):
			return
		default:
			_ = pauses.pause(m.k.ctx)
		}
	}
}

// rest waits for the next heartbeat if the answer to the last one has not waited
// for news.
func (m *membership) rest(began time.Time) {
	m.k.mu.Lock()
	interval, at := m.interval, m.unsaid || !m.joined || m.known == 0
	m.k.mu.Unlock()
	if left := interval/2 - m.k.c.rt.Since(began); left > 0 && !at {
		m.k.c.rt.WaitFor(left, m.wake, m.k.ctx.Done())
	}
}

// beat sends one heartbeat, acts upon the answer, and reports whether that had
// news. That it was cut short because there is more to say is no error.
func (m *membership) beat(ctx context.Context) (news bool, err error) {
	call, cancel := m.k.c.rt.WithCancel(ctx)
	defer cancel()
	req, limit := m.request(cancel)
	bounded, cancelBound := m.untilAway(call)
	defer cancelBound()
	var resp *oncelogv1.GroupHeartbeatResponse
	_, err = m.k.c.invoke(bounded, limit, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = oncelogv1.NewGroupServiceClient(cc).GroupHeartbeat(ctx, req)
		return err
	})
	m.k.mu.Lock()
	m.hurry = nil
	m.k.mu.Unlock()
	switch {
	case err == nil:
		return m.take(req, resp), nil
	case bounded.Err() != nil && ctx.Err() == nil:
		return true, nil // hurried, or nobody polls
	default:
		return false, err
	}
}

// request says what there is to say. cancel ends the call early.
func (m *membership) request(cancel context.CancelFunc) (*oncelogv1.GroupHeartbeatRequest, call) {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	m.unsaid, m.hurry = false, cancel
	req := &oncelogv1.GroupHeartbeatRequest{
		GroupId: m.k.group, MemberId: m.k.member, InstanceId: m.k.cfg.instanceID, Generation: m.known,
	}
	if !m.joined {
		req.Subscription = m.sub
	}
	for _, id := range sortedIDs(m.releasing) {
		if m.releasing[id] && len(req.GetReleasedPartitionIds()) < maxReleased {
			req.ReleasedPartitionIds = append(req.ReleasedPartitionIds, id)
		}
	}
	if len(req.GetReleasedPartitionIds()) > 0 {
		req.Generation = m.k.generation // known when they were owned, also if everything is to be told anew
	}
	wait := m.interval
	if m.joined && m.known > 0 && len(req.GetReleasedPartitionIds()) == 0 {
		req.MaxWaitMs = uint32(wait.Milliseconds())
	}
	// Before the session is over there should be time to ask another node.
	return req, call{attempt: wait + min(2*time.Second, m.k.cfg.sessionTimeout/3)}
}

// untilAway bounds a call by the time at which the application counts as gone.
func (m *membership) untilAway(ctx context.Context) (context.Context, context.CancelFunc) {
	m.k.mu.Lock()
	polls, last := m.polls, m.lastPoll
	m.k.mu.Unlock()
	if polls > 0 {
		return m.k.c.rt.WithCancel(ctx)
	}
	return m.k.c.rt.WithDeadline(ctx, last.Add(m.maxPoll))
}

// refused draws the lesson of a heartbeat that failed and reports whether it was
// the last.
func (m *membership) refused(err error) (final bool) {
	if m.k.ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return true
	}
	e := apierrors.From(err)
	switch {
	case e.Code == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_MEMBER:
		m.k.c.log.Warn("the group has given this member up; joining again", "group", m.k.group, "member", m.k.MemberID())
		m.k.mu.Lock()
		m.loseAll()
		m.k.mu.Unlock()
		return false
	case repeatable(e):
		return false
	}
	m.k.mu.Lock()
	m.loseAll()
	m.k.mu.Unlock()
	m.k.end(wrap("group heartbeat", err))
	return true
}

// loseAll takes note that the member is none any more, and makes the next life.
// The consumer's mutex is held.
func (m *membership) loseAll() {
	e := event{}
	for len(m.k.readers) > 0 {
		r := m.k.readers[0]
		m.k.drop(r)
		e.lost = append(e.lost, r.tp)
	}
	clear(m.releasing)
	clear(m.starting)
	m.joined, m.known = false, 0
	m.k.member = m.nextLife()
	m.push(e)
}

// nextLife names the member anew: what is late of the life before must not be
// taken for this one's.
func (m *membership) nextLife() string {
	return m.name[:min(len(m.name), 200)] + "-" + randomID()
}

// say makes the heartbeats say something at once. The consumer's mutex is held.
func (m *membership) say() {
	m.unsaid = true
	if m.hurry != nil {
		m.hurry()
	}
	task.Signal(m.wake)
}

// isAway reports whether the application has not polled for too long.
func (m *membership) isAway() bool {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	return m.polls == 0 && m.k.c.rt.Since(m.lastPoll) >= m.maxPoll
}

// leaveUntilPolled gives everything up until the application polls again, as
// Kafka's consumers do. A static member only falls silent: its session timeout
// decides.
func (m *membership) leaveUntilPolled() {
	m.k.mu.Lock()
	member, joined := m.k.member, m.joined
	if !m.away {
		m.away = true
		m.loseAll()
	}
	m.k.mu.Unlock()
	if joined {
		m.k.c.log.Warn("nobody polls; leaving the group", "group", m.k.group, "member", member, "max_poll_interval", m.maxPoll)
		if m.k.cfg.instanceID == "" {
			_ = m.k.leave(m.k.ctx, member)
		}
	}
	m.k.c.rt.Wait(m.wake, m.k.ctx.Done())
}

// pollBegins and pollEnds tell that the application is alive.
func (m *membership) pollBegins() {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	m.polls++
	if m.away {
		m.away = false
		m.say()
	}
}

func (m *membership) pollEnds() {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	m.polls--
	m.lastPoll = m.k.c.rt.Now()
}
