package partition

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// lockstep is a [task.Scheduler] that runs one task at a time, in the order in
// which they came, and moves its clock when nobody can go on. A task that waits
// past it stops everything.
type lockstep struct {
	now    time.Time
	rng    *rand.Rand
	tasks  []*stepped
	timers []*alarm
	self   *stepped // that is running
	turns  int
}

// stepped is a task: it runs between a receive from resume and a send to parked.
type stepped struct {
	resume, parked chan struct{}
	poll           func() bool
	until          time.Time // zero: no limit
	late, ended    bool
}

type alarm struct {
	at     time.Time
	inline bool
	fn     func()
}

func (l *lockstep) Now() time.Time { return l.now }

// Wall implements task.Scheduler.
func (l *lockstep) Wall() time.Time { return l.now }
func (l *lockstep) Uint64() uint64  { return l.rng.Uint64() }

func (l *lockstep) Go(fn func()) {
	s := &stepped{resume: make(chan struct{}), parked: make(chan struct{})}
	l.tasks = append(l.tasks, s)
	go func() {
		<-s.resume
		fn()
		s.ended = true
		s.parked <- struct{}{}
	}()
}

func (l *lockstep) Wait(limit time.Duration, poll func() bool) bool {
	s := l.self
	s.poll, s.until, s.late = poll, time.Time{}, false
	if limit >= 0 {
		s.until = l.now.Add(limit)
	}
	s.parked <- struct{}{}
	<-s.resume
	return !s.late
}

func (l *lockstep) After(d time.Duration, inline bool, fn func()) (stop func() bool) {
	a := &alarm{l.now.Add(d), inline, fn}
	l.timers = append(l.timers, a)
	return func() bool {
		at := slices.Index(l.timers, a)
		if at >= 0 {
			l.timers = slices.Delete(l.timers, at, at+1)
		}
		return at >= 0
	}
}

// run runs tasks until every one has ended; the test fails if that takes a minute
// of its time.
func (l *lockstep) run(t *testing.T) {
	for end := l.now.Add(time.Minute); len(l.tasks) > 0; {
		if l.now.After(end) {
			t.Fatalf("%d tasks do not end", len(l.tasks))
		}
		if !l.turn() {
			l.advance(t)
		}
	}
}

// turn gives every task that can go on a turn; false: none can.
func (l *lockstep) turn() (went bool) {
	for _, s := range slices.Clone(l.tasks) {
		if s.poll != nil && !s.poll() {
			if s.late = !s.until.IsZero() && !l.now.Before(s.until); !s.late {
				continue
			}
		}
		went, l.self = true, s
		l.turns++
		s.resume <- struct{}{}
		<-s.parked
	}
	l.tasks = slices.DeleteFunc(l.tasks, func(s *stepped) bool { return s.ended })
	return went
}

// advance moves the clock to the next time that somebody waits for.
func (l *lockstep) advance(t *testing.T) {
	var next time.Time
	earlier := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, s := range l.tasks {
		earlier(s.until)
	}
	for _, a := range l.timers {
		earlier(a.at)
	}
	if next.IsZero() {
		t.Fatalf("%d tasks wait for ever", len(l.tasks))
	}
	if next.After(l.now) {
		l.now = next
	}
	for _, a := range slices.Clone(l.timers) {
		switch at := slices.Index(l.timers, a); {
		case at < 0 || a.at.After(l.now):
			continue
		default:
			l.timers = slices.Delete(l.timers, at, at+1)
		}
		if a.inline {
			a.fn()
		} else {
			l.Go(a.fn)
		}
	}
}

// steppedCoordinator answers at once; a heartbeat waits as the runtime says.
type steppedCoordinator struct {
	*fakeCoordinator
	run *task.Runtime
}

func (c steppedCoordinator) Heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	if req.GetKnownVersion() == c.assignment.GetVersion() && !c.run.Sleep(time.Duration(req.GetWaitMs())*time.Millisecond, ctx.Done()) {
		return nil, ctx.Err()
	}
	return c.assignment, nil
}

// steppedStream is a stream in memory, whose requests are all there.
type steppedStream[Req, Resp any] struct {
	grpc.ServerStream
	ctx      context.Context
	requests []*Req
	answers  []*Resp
}

func (s *steppedStream[Req, Resp]) Context() context.Context { return s.ctx }
func (s *steppedStream[Req, Resp]) Send(r *Resp) error       { s.answers = append(s.answers, r); return nil }

func (s *steppedStream[Req, Resp]) Recv() (*Req, error) {
	if len(s.requests) == 0 {
		return nil, io.EOF
	}
	r := s.requests[0]
	s.requests = s.requests[1:]
	return r, nil
}

// TestNodeWaitsThroughItsRuntimeOnly runs a node whose runtime runs one task at
// a time. In a bubble a task that waited for another in any other way would be
// reported as a deadlock, and one that slept would move the bubble's clock.
func TestNodeWaitsThroughItsRuntimeOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lockstep{now: time.UnixMilli(1_700_000_000_000), rng: rand.New(rand.NewPCG(1, 2))}
		rt := task.New(l)
		began, steppedFrom := time.Now(), l.now
		l.Go(func() { liveOnce(t, rt) })
		l.run(t)
		if time.Since(began) > 0 || l.now.Sub(steppedFrom) < 3*time.Second || l.turns < 100 {
			t.Errorf("the machine's clock moved by %v, the runtime's by %v in %d turns", time.Since(began), l.now.Sub(steppedFrom), l.turns)
		}
	})
}

// liveOnce is a node from start to end, with something of everything it does.
func liveOnce(t *testing.T, rt *task.Runtime) {
	c := &cluster{t: t, coord: newFakeCoordinator()}
	c.coord.assignment = testAssignment(1)
	files := memoryFiles{}
	cfg := c.config(1, "")
	cfg.Files, cfg.Runtime, cfg.Coordinator = files, rt, steppedCoordinator{c.coord, rt}
	cfg.OpenStore = func(string) (*raftstore.Store, error) {
		return raftstore.Open(raftstore.Config{NodeID: 1, Log: memlog.New(nil), Runtime: rt, TickInterval: 10 * time.Millisecond, MinFreeBytes: -1})
	}
	n, err := New(cfg)
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := rt.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		t.Error(err)
		return
	}
	for s := n.shard(testShard); s == nil || s.serving() != nil || n.report(0).GetShards()[0].GetPartitionsVersion() == 0; s = n.shard(testShard) {
		if !rt.Sleep(time.Millisecond, ctx.Done()) {
			t.Error("the shard is not served")
			return
		}
	}
	log := logService{n: n}
	ref := pstate.TxnRef{ProducerID: 1, Number: 1}
	follower := &steppedStream[oncelogv1.FetchRequest, oncelogv1.FetchResponse]{ctx: ctx}
	followed := make(chan struct{})
	rt.Go(func() {
		defer close(followed)
		req := &oncelogv1.FetchRequest{Partition: partitionRef(pA), Follow: true, MaxRecords: 2}
		if err := log.Fetch(req, follower); err != nil {
			t.Errorf("fetch: %v", err)
		}
	})
	if _, err := log.Append(ctx, appendRequest(ref, pA, 0, "a")); err != nil {
		t.Errorf("append: %v", err)
	}
	frames := &steppedStream[oncelogv1.AppendStreamRequest, oncelogv1.AppendStreamResponse]{
		ctx:      ctx,
		requests: []*oncelogv1.AppendStreamRequest{{Requests: []*oncelogv1.AppendRequest{appendRequest(ref, pA, 1, "b")}}},
	}
	if err := log.AppendStream(frames); err != nil || len(frames.answers) != 1 {
		t.Errorf("append stream: %v %v", frames.answers, err)
	}
	rt.Sleep(4*time.Second, ctx.Done()) // it is enlisted, twice
	if got := len(c.coord.enlisted); got != 2 {
		t.Errorf("%d enlistments", got)
	}
	marked, err := shardService{n: n}.WriteMarkers(ctx, &oncelogv1.WriteMarkersRequest{Shards: []*oncelogv1.ShardMarkers{{
		ShardId: testShard, Markers: []*oncelogv1.Marker{{Txn: protoRef(ref), Commit: true, Progress: []*oncelogv1.MarkerProgress{{PartitionId: pA, NextSequence: 2}}}},
	}}})
	if err != nil || marked.GetShards()[0].GetError() != nil {
		t.Errorf("marker: %v %v", marked, err)
	}
	if rt.Wait(followed, ctx.Done()) != 0 || len(follower.answers) < 2 {
		t.Errorf("the follower got %v", follower.answers)
	}
	if _, err := log.ListOffsets(ctx, &oncelogv1.ListOffsetsRequest{Queries: []*oncelogv1.OffsetQuery{{
		Partition: partitionRef(pA), Target: &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: 1},
	}}}); err != nil {
		t.Errorf("list offsets: %v", err)
	}
	if err := n.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}
