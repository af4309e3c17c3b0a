package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

const (
	// maxFrameBytes bounds the batches of one frame: large enough to share a
	// system call, small enough not to keep others waiting.
	maxFrameBytes = 4 << 20
	// maxFrameRequests is the contract's limit.
	maxFrameRequests = 1000
	// maxRequestPartitions is the contract's limit.
	maxRequestPartitions = 1000
	// stallCheck is how often a stream is looked after, and how long a request may
	// wait before it is asked whether another node leads by now: about two elections.
	stallCheck = 2 * time.Second
)

// links holds one link per node address.
type links struct {
	c *Client

	mu     sync.Mutex
	byAddr map[string]*link
}

func newLinks(c *Client) *links { return &links{c: c, byAddr: make(map[string]*link)} }

// get returns the link to a node; nil when the client is closed.
func (ls *links) get(address string) *link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l, ok := ls.byAddr[address]; ok {
		return l
	}
	l := &link{c: ls.c, address: address, wake: make(chan struct{}, 1)}
	if !ls.c.spawn(l.run) {
		return nil
	}
	ls.byAddr[address] = l
	return l
}

// link carries the appends of all producers of the client to one node: a stream,
// opened when first needed and again after it broke.
type link struct {
	c       *Client
	address string
	wake    chan struct{}

	mu     sync.Mutex
	ready  []ticket
	stream *appendStream // nil: none is open
}

// ticket is a place in a ready list. Only a partition's last one is valid: it may
// have been rewound and made ready again since an earlier one.
type ticket struct {
	pw     *partitionWriter
	number uint64
}

// valid reports whether the partition still stands in l with this ticket. The
// writer's mutex is held.
func (t ticket) valid(l *link) bool {
	return t.pw.w.err == nil && t.pw.queued && t.pw.link == l && t.pw.ticket == t.number
}

// appendStream is one stream and what is under way on it.
type appendStream struct {
	link   *link
	stream oncelogv1.LogService_AppendStreamClient
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	broken   bool
	nextID   uint64
	requests map[uint64]*appendCall
	watchdog *task.Timer
}

// appendCall is one request that awaits its answer.
type appendCall struct {
	sent  time.Time
	items []*inFlight
}

// enqueue adds a partition with something to send.
func (l *link) enqueue(t ticket) {
	l.mu.Lock()
	l.ready = append(l.ready, t)
	l.mu.Unlock()
	task.Signal(l.wake)
}

// run sends frames until the client is closed.
func (l *link) run() {
	for l.c.rt.Wait(l.wake, l.c.ctx.Done()) == 0 {
		for l.sendFrame() {
		}
	}
}

// sendFrame sends what is ready and reports whether there was anything.
func (l *link) sendFrame() bool {
	l.mu.Lock()
	ready := l.ready
	l.ready = nil
	l.mu.Unlock()
	if len(ready) == 0 {
		return false
	}
	s, err := l.open()
	if err != nil {
		l.refuseAll(ready, streamError(err))
		return true
	}
	f := newFrame(l)
	if rest := f.fill(ready); len(rest) > 0 {
		l.mu.Lock()
		l.ready = append(rest, l.ready...)
		l.mu.Unlock()
	}
	if len(f.calls) == 0 {
		return true
	}
	if !s.register(f) {
		f.refuse(streamError(status.Error(codes.Unavailable, "the stream has broken")))
		return true
	}
	// A failed Send breaks the stream, and whoever receives from it says so to
	// every request under way.
	if err := s.stream.Send(&oncelogv1.AppendStreamRequest{Requests: f.requests}); err != nil {
		s.cancel(err)
	}
	return true
}

// open returns the stream, opening one if there is none.
func (l *link) open() (*appendStream, error) {
	l.mu.Lock()
	s := l.stream
	l.mu.Unlock()
	if s != nil {
		return s, nil
	}
	service, err := l.c.logService(l.address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := l.c.rt.WithCancelCause(l.c.ctx)
	stream, err := service.AppendStream(ctx)
	if err != nil {
		cancel(err)
		return nil, err
	}
	s = &appendStream{link: l, stream: stream, cancel: cancel, requests: make(map[uint64]*appendCall)}
	s.watchdog = l.c.rt.AfterFunc(stallCheck, s.watch)
	l.mu.Lock()
	l.stream = s
	l.mu.Unlock()
	if !l.c.spawn(s.receive) {
		s.end(ErrClosed)
		return nil, ErrClosed
	}
	return s, nil
}

// refuseAll tells partitions that were ready that the node cannot be reached.
func (l *link) refuseAll(ready []ticket, e *apierrors.Error) {
	for _, t := range ready {
		t.pw.unreachable(l, t, e)
	}
}

// register notes the requests of a frame before it is sent; false if the stream
// has broken.
func (s *appendStream) register(f *frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return false
	}
	now := s.link.c.rt.Now()
	for i, call := range f.calls {
		s.nextID++
		f.requests[i].RequestId = s.nextID
		call.sent = now
		s.requests[s.nextID] = call
	}
	return true
}

// receive hands answers out until the stream ends.
func (s *appendStream) receive() {
	for {
		resp, err := s.stream.Recv()
		if err != nil {
			s.end(err)
			return
		}
		for _, r := range resp.GetResponses() {
			s.mu.Lock()
			call := s.requests[r.GetRequestId()]
			delete(s.requests, r.GetRequestId())
			s.mu.Unlock()
			if call != nil { // nil: an answer that came twice
				call.answer(s.link, r)
			}
		}
	}
}

// end closes the stream's books: everything under way is refused, and may have
// been stored all the same.
func (s *appendStream) end(err error) {
	s.cancel(err)
	s.link.mu.Lock()
	if s.link.stream == s {
		s.link.stream = nil
	}
	s.link.mu.Unlock()
	s.mu.Lock()
	s.broken = true
	left := s.requests
	s.requests = nil
	s.watchdog.Stop()
	s.mu.Unlock()
	e := streamError(err)
	for _, id := range slices.Sorted(maps.Keys(left)) {
		left[id].refuse(s.link, e)
	}
}

// watch looks after requests that have waited long. If another node leads their
// shard by now they are sent there. At the request timeout the stream is broken:
// the node is silent.
func (s *appendStream) watch() {
	stalled := s.stalled()
	for _, call := range stalled {
		for _, item := range call.items {
			item.stall(s.link)
		}
	}
}

// stalled returns the requests that have waited long, unless the stream ends.
func (s *appendStream) stalled() (calls []*appendCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil
	}
	limit := s.link.c.cfg.requestTimeout
	now := s.link.c.rt.Now()
	for _, id := range slices.Sorted(maps.Keys(s.requests)) {
		call := s.requests[id]
		switch waited := now.Sub(call.sent); {
		case waited >= limit:
			s.cancel(fmt.Errorf("no answer for %v", limit))
			return nil
		case waited >= stallCheck:
			calls = append(calls, call)
		}
	}
	s.watchdog.Reset(min(stallCheck, limit))
	return calls
}

// answer hands the parts of an answer to the batches of the request.
func (c *appendCall) answer(l *link, r *oncelogv1.AppendResponse) {
	if r.GetError() != nil {
		c.refuse(l, apierrors.FromProto(r.GetError()))
		return
	}
	if len(r.GetResults()) != len(c.items) {
		c.refuse(l, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, "the answer does not fit the request"))
		return
	}
	for i, result := range r.GetResults() {
		if result.GetError() != nil {
			c.items[i].refuse(l, apierrors.FromProto(result.GetError()))
		} else {
			c.items[i].acknowledge(l, result)
		}
	}
}

func (c *appendCall) refuse(l *link, e *apierrors.Error) {
	for _, item := range c.items {
		item.refuse(l, e)
	}
}

// streamError names the end of a stream. What no handler has named is the
// transport's, and says nothing but that answers will not come.
func streamError(err error) *apierrors.Error {
	e := apierrors.From(err)
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return e
	}
	if e == nil || e.Code == oncelogv1.ErrorCode_ERROR_CODE_INTERNAL ||
		e.Code == oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED || e.Code == oncelogv1.ErrorCode_ERROR_CODE_DEADLINE {
		text := "the stream has ended"
		if err != nil {
			text = err.Error()
		}
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, text)
	}
	return e
}

// frame is a set of requests that travel together. A request is one writer's,
// with each partition at most once; further batches of a partition go into later
// requests, so that the order of the frame is the order of the sequences.
type frame struct {
	link     *link
	requests []*oncelogv1.AppendRequest
	calls    []*appendCall
	bytes    int
}

func newFrame(l *link) *frame { return &frame{link: l} }

// fill takes batches from partitions until there are no more or the frame is
// full, and returns the partitions that have more to send.
func (f *frame) fill(ready []ticket) (rest []ticket) {
	for len(ready) > 0 {
		open := make(map[*writer]int) // requests that this turn has added to
		var again []ticket
		for i, t := range ready {
			if f.bytes >= maxFrameBytes || len(f.requests) >= maxFrameRequests {
				return append(again, ready[i:]...)
			}
			if f.take(t, open) {
				again = append(again, t)
			}
		}
		ready = again
	}
	return nil
}

// take moves one batch of a partition into the frame and reports whether there
// may be more. A partition without more leaves the ready list.
func (f *frame) take(t ticket, open map[*writer]int) bool {
	pw, w := t.pw, t.pw.w
	w.mu.Lock()
	if !t.valid(f.link) {
		w.mu.Unlock()
		return false // rewound, or given up, since it became ready
	}
	b, first, err := pw.take()
	if b == nil {
		pw.queued = false
		w.mu.Unlock()
		if err != nil {
			w.fail(wrap("send", err))
		}
		return false
	}
	item := &inFlight{pw: pw, batch: b, round: pw.round, first: first}
	w.mu.Unlock()

	i, ok := open[w]
	if !ok || len(f.calls[i].items) >= maxRequestPartitions {
		i = len(f.requests)
		open[w] = i
		f.requests = append(f.requests, &oncelogv1.AppendRequest{Txn: w.ref, ProducerToken: w.token, Trace: w.requestTrace(b)})
		f.calls = append(f.calls, &appendCall{})
	}
	f.requests[i].Partitions = append(f.requests[i].Partitions, &oncelogv1.PartitionAppend{
		Partition:    pw.ref,
		BaseSequence: b.base,
		Payload:      &oncelogv1.PartitionAppend_Batch{Batch: b.bytes},
	})
	f.calls[i].items = append(f.calls[i].items, item)
	f.bytes += len(b.bytes)
	return true
}

// refuse tells all batches of a frame that was not sent.
func (f *frame) refuse(e *apierrors.Error) {
	for _, call := range f.calls {
		call.refuse(f.link, e)
	}
}
