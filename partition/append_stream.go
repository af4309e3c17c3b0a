package partition

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

// AppendStream takes frames of requests and answers each as soon as it is
// settled, many in one frame when many are. One task reads and proposes,
// so that requests reach the logs in the order in which they were sent; this
// one answers. A node that closes ends the stream with UNAVAILABLE once what
// was under way has been answered.
func (l logService) AppendStream(stream grpc.BidiStreamingServer[oncelogv1.AppendStreamRequest, oncelogv1.AppendStreamResponse]) error {
	r := &appendReader{
		stream: stream, end: make(chan struct{}),
		appender: newAppender(l.n, access.From(stream.Context()), newBudget(maxStreamBytes).within(l.n.appends)),
	}
	defer r.appender.tally.close()
	l.n.run.Go(r.run)
	var reading, closing <-chan struct{} = r.end, l.n.closing
	for {
		if calls := r.appender.collect(); len(calls) > 0 {
			if err := sendAnswers(stream, calls); err != nil {
				return err
			}
			continue
		}
		switch idle := r.appender.idle(); {
		case reading == nil && (r.err != nil || idle):
			return r.err // all is answered, or the stream is broken
		case closing == nil && idle:
			return unavailable()
		}
		switch l.n.run.Wait(r.appender.ready, reading, closing, stream.Context().Done()) {
		case 1:
			reading = nil // r.err is final, and so is what was taken
		case 2:
			closing = nil
		case 3:
			return stream.Context().Err()
		}
	}
}

func sendAnswers(stream grpc.BidiStreamingServer[oncelogv1.AppendStreamRequest, oncelogv1.AppendStreamResponse], calls []*appendCall) error {
	for len(calls) > 0 {
		n := min(len(calls), MaxFrameRequests)
		resp := &oncelogv1.AppendStreamResponse{Responses: make([]*oncelogv1.AppendResponse, n)}
		for i, c := range calls[:n] {
			resp.Responses[i] = c.resp
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		calls = calls[n:]
	}
	return nil
}

// appendReader is the reading half of a stream.
type appendReader struct {
	stream   grpc.BidiStreamingServer[oncelogv1.AppendStreamRequest, oncelogv1.AppendStreamResponse]
	appender *appender
	end      chan struct{} // closed when nothing more is read; then:
	err      error         // why, if not because the client is done
}

func (r *appendReader) run() {
	defer close(r.end)
	for {
		if !r.appender.tally.wait(r.appender.n.run, r.stream.Context().Done()) {
			r.err = r.stream.Context().Err()
			return
		}
		frame, err := r.stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			return
		}
		if len(frame.GetRequests()) > MaxFrameRequests {
			r.err = failure(tooMuch("requests", MaxFrameRequests))
			return
		}
		for _, req := range frame.GetRequests() {
			r.appender.take(req)
		}
		r.appender.flush()
	}
}
