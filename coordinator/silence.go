package coordinator

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// silenceShare: after a silence the leader speaks for at least as many times as long.
const silenceShare = 9

// silence is what makes the cut of a backup one. From the moment at which the leader
// notes its state until every shard is kept as it is, nobody hears of anything that
// came after that moment: no call is answered, and no marker of a later decision is
// sent. So whatever is in a shard follows from the state that was noted, or has
// nothing to do with the coordinator; and what was answered before is in every shard.
//
// It is the leader's memory, and only delays: the log goes on, and nothing is
// replicated. A leader that loses its office meanwhile cannot keep the next one
// silent, so a cut counts only if it still leads when all shards are kept.
type silence struct {
	mu       sync.Mutex
	cutting  bool          // somebody makes a cut
	began    time.Time     // of this one, or of the last
	earliest time.Time     // for the next
	released chan struct{} // closed at its end; nil: it is not silent
	decision uint64        // the newest that may be told
}

// claim lets one cut at a time begin, and not too often; false: not now.
func (s *silence) claim(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cutting || now.Before(s.earliest) {
		return false
	}
	s.cutting = true
	return true
}

// begin is called with the state held still, whose newest decision is named.
func (s *silence) begin(now time.Time, decision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began, s.decision, s.released = now, decision, make(chan struct{})
}

// end lets everybody speak again, if they did not, and returns how long they were
// silent.
func (s *silence) end(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutting = false
	if s.released == nil {
		return 0
	}
	close(s.released)
	s.released = nil
	took := now.Sub(s.began)
	s.earliest = now.Add(silenceShare * took)
	return took
}

// newestDecision is the newest one that shards may be told of.
func (s *silence) newestDecision() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released == nil {
		return math.MaxUint64
	}
	return s.decision
}

func (s *silence) over() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.released
}

// answerable waits for the end of a silence. An error is to be answered instead. What
// an answer is made of is older than the silence that begins after this has looked.
func (c *Coordinator) answerable(ctx context.Context) error {
	over := c.silence.over()
	if over == nil {
		return nil
	}
	switch c.rt.Wait(over, ctx.Done(), c.closing) {
	case 0:
		return nil
	case 1:
		return ctx.Err()
	default:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node is stopping")
	}
}

// silencedRegistrar registers services whose answers wait for the end of a silence.
type silencedRegistrar struct {
	c  *Coordinator
	to grpc.ServiceRegistrar
}

func (c *Coordinator) silenced(to grpc.ServiceRegistrar) grpc.ServiceRegistrar {
	return silencedRegistrar{c, to}
}

// RegisterService implements grpc.ServiceRegistrar.
func (r silencedRegistrar) RegisterService(d *grpc.ServiceDesc, impl any) {
	silent := *d
	silent.Streams = slices.Clone(d.Streams)
	for i := range silent.Streams {
		handler := d.Streams[i].Handler
		silent.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error {
			err := handler(srv, silencedStream{stream, r.c})
			if late := r.c.answerable(stream.Context()); late != nil {
				return late
			}
			return err
		}
	}
	silent.Methods = slices.Clone(d.Methods)
	for i := range silent.Methods {
		handler := d.Methods[i].Handler
		silent.Methods[i].Handler = func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			res, err := handler(srv, ctx, dec, interceptor)
			if late := r.c.answerable(ctx); late != nil {
				return nil, late
			}
			return res, err
		}
	}
	r.to.RegisterService(&silent, impl)
}

// silencedStream sends nothing during a silence.
type silencedStream struct {
	grpc.ServerStream
	c *Coordinator
}

// SendMsg implements grpc.ServerStream.
func (s silencedStream) SendMsg(m any) error {
	if err := s.c.answerable(s.Context()); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}
