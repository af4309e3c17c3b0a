package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Store is the set of groups of one process. It is safe for concurrent use.
type Store struct {
	cfg      Config
	loop     *loop
	counters counters
	in       inbox
	taken    inputs // the loop's side of the inbox

	stop     chan struct{} // asks the runner to end
	stopOnce sync.Once
	stopped  chan struct{} // closed when it has ended
	stalled  chan struct{} // closed when it hangs in a write; it may never end
	closeErr error
}

// Open starts a store without groups. The store owns cfg.Log from now on.
func Open(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	var seed [8]byte
	if _, err := rand.Reader.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("raftstore: draw an incarnation: %w", err)
	}
	cfg.OnFatal = onceFatal(cfg.OnFatal)
	s := &Store{cfg: cfg, stop: make(chan struct{}), stopped: make(chan struct{}), stalled: make(chan struct{})}
	s.in.wake = make(chan struct{}, 1)
	s.in.maxBytes = cfg.MaxInboundBytes
	s.loop = newLoop(cfg, &s.counters, binary.BigEndian.Uint64(seed[:]))
	s.loop.later = s.in.addCall
	s.loop.background = func(fn func()) { fn() }
	if !cfg.Manual {
		s.loop.background = cfg.Runtime.Go
	}
	if !cfg.Manual {
		cfg.Runtime.Go(s.run)
		if cfg.StallTimeout > 0 {
			cfg.Runtime.Go(s.watch)
		}
	}
	return s, nil
}

// onceFatal makes sure that only the first cause is reported. It is not a
// sync.Once, whose second caller waits for the first.
func onceFatal(report func(error)) func(error) {
	var reported atomic.Bool
	return func(err error) {
		if reported.CompareAndSwap(false, true) {
			report(err)
		}
	}
}

// run is the owner task.
func (s *Store) run() {
	rt := s.cfg.Runtime
	ticks := ticker{interval: s.cfg.TickInterval, next: rt.Now().Add(s.cfg.TickInterval)}
	for more := false; ; more = s.Turn() {
		// Whoever was just answered gets to propose again before the next
		// write begins: larger batches, at no cost to a lone proposer.
		rt.Yield()
		// While there is more to do it only looks, so that ticks and the end
		// are seen under any load.
		limit := time.Duration(0)
		if !more {
			limit = ticks.wait(rt.Now())
		}
		if rt.WaitFor(limit, s.stop, s.in.wake) == 0 {
			s.finish()
			return
		}
		if ticks.due(rt.Now()) {
			s.Tick()
		}
	}
}

// ticker knows when the next tick is due. Like time.Ticker it keeps its rhythm
// and forgets the ticks that nobody took in time, all but one.
type ticker struct {
	interval time.Duration
	next     time.Time
}

// wait returns how long it is to the next tick. A clock that was set back, where
// it has no monotonic part, must not stop the ticks.
func (t *ticker) wait(now time.Time) time.Duration {
	if t.next.Sub(now) > t.interval {
		t.next = now.Add(t.interval)
	}
	return t.next.Sub(now)
}

func (t *ticker) due(now time.Time) bool {
	late := now.Sub(t.next)
	if late < 0 {
		return false
	}
	t.next = t.next.Add(late - late%t.interval + t.interval)
	return true
}

// watch reports a write that does not come back.
func (s *Store) watch() {
	limit := s.cfg.StallTimeout
	for s.cfg.Runtime.Sleep(limit/4, s.stopped) {
		if s.loop.writingFor() > limit {
			s.loop.dead.Store(true)
			close(s.stalled)
			s.cfg.OnFatal(fmt.Errorf("%w for %v", ErrDiskStalled, limit))
			return
		}
	}
}

// Tick advances the clock of all groups by one tick at the next Turn. Only for
// a store with Config.Manual.
func (s *Store) Tick() { s.in.addTick() }

// Turn processes everything that arrived since the last one and reports
// whether there is more to do at once. Only for a store with Config.Manual.
func (s *Store) Turn() (more bool) {
	s.in.take(&s.taken)
	more = s.turn()
	s.taken.reset()
	return more
}

// turn ends the store when Raft finds one of its invariants broken, or cannot read. Nothing was
// sent or answered because of what it found, for it looks before it acts.
func (s *Store) turn() (more bool) {
	defer func() {
		if err := brokenBy(recover()); err != nil {
			s.loop.fail(err)
		}
	}()
	return s.loop.turn(&s.taken)
}

// do runs fn in the loop and waits for it.
func (s *Store) do(ctx context.Context, fn func()) error {
	if s.cfg.Manual { // the caller is the loop
		if s.in.isClosed() {
			return ErrStopped
		}
		fn()
		return nil
	}
	done := make(chan struct{})
	if !s.in.addCall(func() { fn(); close(done) }) {
		return ErrStopped
	}
	switch s.cfg.Runtime.Wait(done, s.stalled, ctx.Done()) {
	case 0:
		return nil
	case 1:
		return ErrDiskStalled
	default:
		return ctx.Err()
	}
}

// CreateGroup opens the group from local data or, if there is none, starts it
// with cfg.Members. The machine's Restore is called before it returns; the
// loop then applies what was committed behind the last checkpoint. A group of
// one member leads at once. It waits for the loop, so a machine or a callback
// must not call it.
func (s *Store) CreateGroup(cfg GroupConfig) (*Group, error) {
	cfg, err := cfg.withDefaults(s.cfg.NodeID)
	if err != nil {
		return nil, err
	}
	var g *Group
	if doErr := s.do(context.Background(), func() { g, err = s.createGroup(cfg) }); doErr != nil {
		return nil, doErr
	}
	return g, err
}

// createGroup ends the store as turn does, and answers whoever waits for the group.
func (s *Store) createGroup(cfg GroupConfig) (g *Group, err error) {
	defer func() {
		if broken := brokenBy(recover()); broken != nil {
			s.loop.fail(broken)
			g, err = nil, fmt.Errorf("open group %d: %w", cfg.ID, broken)
		}
	}()
	return s.loop.createGroup(cfg, s)
}

// RemoveGroup stops the group on this node, if it is open, and deletes its data. This
// node must not be the same member again, but only in another life: a member without
// memory could vote twice in one term.
func (s *Store) RemoveGroup(id GroupID) error {
	var err error
	if doErr := s.do(context.Background(), func() { err = s.loop.removeGroup(id) }); doErr != nil {
		return doErr
	}
	return err
}

// Group returns an open group. It waits for the loop as CreateGroup does.
func (s *Store) Group(id GroupID) (*Group, error) {
	var g *Group
	if err := s.do(context.Background(), func() {
		if r := s.loop.replicas[id]; r != nil {
			g = r.group
		}
	}); err != nil {
		return nil, err
	}
	if g == nil {
		return nil, ErrGroupNotFound
	}
	return g, nil
}

// Groups lists the groups that have data on this node, open or not.
func (s *Store) Groups() ([]GroupID, error) { return s.cfg.Log.Groups() }

// Life returns in which life this node is a member of a group of which it has data,
// open or not; ErrGroupNotFound: it has none.
func (s *Store) Life(id GroupID) (uint32, error) {
	var life uint32
	var err error
	if doErr := s.do(context.Background(), func() {
		var st LogState
		var ok bool
		if st, ok, err = s.cfg.Log.Load(id); err == nil && !ok {
			err = ErrGroupNotFound
		}
		life = st.Life
	}); doErr != nil {
		return 0, doErr
	}
	return life, err
}

// Deliver takes a message from another node. It never blocks; what cannot be
// taken is dropped, and so are messages for groups that do not exist here.
// The store owns the message from now on.
func (s *Store) Deliver(group GroupID, m *raftpb.Message) {
	// Proposals are never forwarded: one that comes from outside would be
	// appended without the checks its author relies on. The local messages of
	// raft's async mode have no sender at all.
	// A snapshot comes in chunks, and is handed to Raft with the last of them.
	if t := m.GetType(); t == raftpb.MsgProp || t == raftpb.MsgSnap || raft.IsLocalMsg(t) && t != removalNotice {
		return
	}
	if !s.in.addMessage(Message{Group: group, Raft: m}, int64(proto.Size(m))) {
		s.counters.InboundDropped.Add(1)
	}
}

// Metrics returns the counters.
func (s *Store) Metrics() Metrics {
	m := s.counters.metrics()
	m.Writing = s.loop.writingFor()
	return m
}

// Close hands every led group to another member, waiting for that at most two
// election timeouts or until ctx ends, then writes checkpoints, stops and
// closes the log store. Proposals under way when it stops get
// ErrUnknownResult, later ones ErrStopped. The error is that of the final
// write; the store is closed in any case but one: when a write hangs beyond
// Config.StallTimeout it returns ErrDiskStalled, so that the process can end,
// and neither the loop nor the log store is closed.
func (s *Store) Close(ctx context.Context) error {
	if s.cfg.Manual {
		s.stopOnce.Do(s.finish)
		return s.closeErr
	}
	drained := make(chan struct{})
	limit := 2 * time.Duration(s.cfg.ElectionTicks) * s.cfg.TickInterval
	if ctx.Err() == nil && s.in.addCall(func() { s.loop.handOver(func() { close(drained) }) }) {
		s.cfg.Runtime.WaitFor(limit, drained, ctx.Done(), s.stopped, s.stalled)
	}
	s.stopOnce.Do(func() { close(s.stop) })
	if s.cfg.Runtime.Wait(s.stopped, s.stalled) == 0 {
		return s.closeErr
	}
	return ErrDiskStalled
}

// finish ends the loop: checkpoints, answers, log store.
func (s *Store) finish() {
	s.loop.dead.Store(true)
	s.in.close(&s.taken)
	for _, call := range s.taken.calls {
		call()
	}
	s.loop.refuseInputs(&s.taken, ErrStopped)
	s.taken.reset()
	if s.loop.failed != nil {
		s.closeErr = s.loop.failed
	} else {
		s.closeErr = s.loop.checkpointAll()
		s.loop.stopAll()
	}
	if err := s.cfg.Log.Close(); err != nil && s.closeErr == nil {
		s.closeErr = err
	}
	close(s.stopped)
}
