package clienttest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Fault is something that happens to calls at the nodes that they reach; see
// [Cluster.Inject]. Of a stream, such as AppendStream and Fetch, it hits single
// messages.
//
// What happens is the first of these that is set, after Delay and Hold: Silent,
// Err. With none of the four set the call fails with UNAVAILABLE, as if the
// connection had broken.
type Fault struct {
	// Method is the name of the call: "EndTransaction", "AppendStream", "Fetch",
	// "InitProducer", "CommitOffsets", or one between nodes: "WriteMarkers",
	// "Enlist", "Heartbeat". Required.
	Method string
	// Node is where; nil: everywhere.
	Node *Node
	// From is who calls; nil: anybody. What the cluster itself calls to answer its
	// methods is never hit.
	From Endpoint
	// Match chooses by the request, or in a stream by the message that is hit. Nil:
	// all. It may be called concurrently.
	Match func(message proto.Message) bool
	// Answer hits the answer: the call has been executed, and its caller does not
	// hear of it. Otherwise the request is hit, which is then never executed.
	Answer bool
	// Delay is how long what is hit is late.
	Delay time.Duration
	// Hold keeps what is hit until [Injected.Remove]. A request that is held, or
	// late, is executed even if its caller has given up meanwhile, as one is that
	// was long on its way; a message of a stream goes with its stream.
	Hold bool
	// Silent loses what is hit without a word: the caller waits until it gives up.
	Silent bool
	// Err is what the caller gets.
	Err error
	// Skip lets so many pass first.
	Skip int
	// Times is how many are hit; 0: all, until Remove.
	Times int
}

// Injected is a fault that is in force.
type Injected struct {
	c *Cluster
	f Fault

	mu       sync.Mutex
	seen     int // that matched
	hits     int
	reached  chan struct{} // closed by the first hit
	released chan struct{} // closed by Remove
	removed  bool
}

// Inject puts a fault in force. Of several that fit, the first injected hits.
func (c *Cluster) Inject(f Fault) *Injected {
	c.t.Helper()
	if f.Method == "" {
		c.t.Fatal("clienttest: a fault needs a Method")
	}
	in := &Injected{c: c, f: f, reached: make(chan struct{}), released: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, in)
	return in
}

// LoseCommitAnswer loses the answer of the next commit: it is decided, and its
// producer is told UNAVAILABLE. The client repeats it and learns the truth; to
// have a Commit end with client.ErrOutcomeUnknown lose all answers until its
// context ends, with a [Fault] of Method EndTransaction, or cut the network.
func (c *Cluster) LoseCommitAnswer() *Injected {
	c.t.Helper()
	return c.Inject(Fault{Method: "EndTransaction", Match: IsCommit, Answer: true, Times: 1})
}

// IsCommit is a Match of Fault for EndTransaction: it leaves aborts alone.
func IsCommit(message proto.Message) bool {
	end, ok := message.(*oncelogv1.EndTransactionRequest)
	return ok && end.GetCommit()
}

// Hits is how many calls or messages were hit so far.
func (in *Injected) Hits() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.hits
}

// Await waits for the first hit.
func (in *Injected) Await() {
	in.c.t.Helper()
	in.c.wait("a fault in "+in.f.Method+" to be reached", in.reached)
}

// Remove ends the fault. What it holds goes on.
func (in *Injected) Remove() {
	in.c.mu.Lock()
	in.c.faults = slices.DeleteFunc(in.c.faults, func(other *Injected) bool { return other == in })
	in.c.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.removed {
		in.removed = true
		close(in.released)
	}
}

// takes reports whether the fault hits.
func (in *Injected) takes(message proto.Message) bool {
	if in.f.Match != nil && !in.f.Match(message) {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.removed || in.f.Times > 0 && in.hits >= in.f.Times {
		return false
	}
	if in.seen++; in.seen <= in.f.Skip {
		return false
	}
	if in.hits++; in.hits == 1 {
		close(in.reached)
	}
	return true
}

// hit returns the fault that a message meets; nil: none.
func (n *Node) hit(ctx context.Context, method string, answer bool, message any) *Injected {
	from := callerOf(ctx)
	m, ok := message.(proto.Message)
	if !ok || from == observer {
		return nil
	}
	for _, in := range n.cluster.injected() {
		f := &in.f
		if f.Method == method && f.Answer == answer && (f.Node == nil || f.Node == n) &&
			(f.From == nil || f.From.Name() == from) && in.takes(m) {
			return in
		}
	}
	return nil
}

func callerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	return p.Addr.String()
}

// strike does what the fault says: the message is lost, or fails with an error,
// or, late perhaps, arrives. gone and ended end the wait of what is late or held.
func (in *Injected) strike(gone, ended <-chan struct{}) (lost bool, err error) {
	f := &in.f
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-gone:
			return false, errBroken
		case <-ended:
			return false, errBroken
		}
	}
	if f.Hold {
		select {
		case <-in.released:
		case <-gone:
			return false, errBroken
		case <-ended:
			return false, errBroken
		}
	}
	switch {
	case f.Silent:
		return true, nil
	case f.Err != nil:
		return false, f.Err
	case f.Hold || f.Delay > 0:
		return false, nil
	default:
		return false, errBroken
	}
}

// errBroken is what a caller gets whose connection breaks.
var errBroken = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the connection broke")

// unary puts faults into calls of one message.
func (n *Node) unary(life *life) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		method, caller := methodOf(info.FullMethod), ctx
		if in := n.hit(ctx, method, false, req); in != nil {
			if lost, err := in.strike(nil, life.ended); lost || err != nil {
				return nil, noAnswer(caller, lost, err)
			}
			ctx = context.WithoutCancel(ctx) // it is executed, whoever still waits
		}
		resp, err := handler(ctx, req)
		if in := n.hit(caller, method, true, req); in != nil {
			if lost, err := in.strike(caller.Done(), life.ended); lost || err != nil {
				return nil, noAnswer(caller, lost, err)
			}
		}
		return resp, err
	}
}

// noAnswer is err, or if the message was lost what its caller gives up with.
func noAnswer(caller context.Context, lost bool, err error) error {
	if lost {
		<-caller.Done()
		return context.Cause(caller)
	}
	return err
}

// stream puts faults into messages of streams.
func (n *Node) stream(life *life) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, &faulty{ServerStream: ss, n: n, life: life, method: methodOf(info.FullMethod)})
	}
}

// faulty is a stream whose messages meet faults.
type faulty struct {
	grpc.ServerStream
	n      *Node
	life   *life
	method string
}

// RecvMsg implements grpc.ServerStream.
func (s *faulty) RecvMsg(m any) error {
	for {
		if err := s.ServerStream.RecvMsg(m); err != nil {
			return err
		}
		in := s.n.hit(s.Context(), s.method, false, m)
		if in == nil {
			return nil
		}
		if lost, err := in.strike(s.Context().Done(), s.life.ended); !lost {
			return err
		}
	}
}

// SendMsg implements grpc.ServerStream.
func (s *faulty) SendMsg(m any) error {
	if in := s.n.hit(s.Context(), s.method, true, m); in != nil {
		if lost, err := in.strike(s.Context().Done(), s.life.ended); lost || err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// methodOf returns the last part of "/package.Service/Method".
func methodOf(full string) string { return full[strings.LastIndexByte(full, '/')+1:] }
