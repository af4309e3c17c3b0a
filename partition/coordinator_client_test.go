package partition

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// fakeNodes is a set of coordinator nodes of which one leads.
type fakeNodes struct {
	mu     sync.Mutex
	pipes  map[string]*bufconn.Listener
	leader string
	hint   string
	calls  []string
	called chan string // every call, while there is room
	// list and version are what heartbeats bring; known is what the last one knew.
	list           []string
	version, known uint64
}

type fakeNodeService struct {
	oncelogv1.UnimplementedNodeServiceServer
	all  *fakeNodes
	name string
}

func (s fakeNodeService) Heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	s.all.mu.Lock()
	s.all.calls = append(s.all.calls, s.name)
	leader, hint := s.all.leader, s.all.hint
	res := &oncelogv1.HeartbeatResponse{Version: 3}
	if s.all.known = req.GetKnownCoordinatorsVersion(); s.all.known < s.all.version {
		res.CoordinatorsVersion = s.all.version
		for _, name := range s.all.list {
			res.Coordinators = append(res.Coordinators, &oncelogv1.Node{PeerAddress: "passthrough:///" + name})
		}
	}
	s.all.mu.Unlock()
	select {
	case s.all.called <- s.name:
	default:
	}
	switch {
	case req.GetNodeId() == 404:
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, "")
	case leader == "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	case s.name != leader:
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "", apierrors.KeyLeaderAddress, hint)
	}
	return res, nil
}

func (f *fakeNodes) set(leader, hint string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader, f.hint, f.calls = leader, hint, nil
}

func (f *fakeNodes) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func newFakeNodes(t *testing.T, names ...string) (*fakeNodes, *CoordinatorClient) {
	f := &fakeNodes{pipes: map[string]*bufconn.Listener{}, called: make(chan string, 16)}
	for _, name := range names {
		lis := bufconn.Listen(1 << 16)
		f.pipes[name] = lis
		srv := grpc.NewServer()
		oncelogv1.RegisterNodeServiceServer(srv, fakeNodeService{all: f, name: name})
		go func() { _ = srv.Serve(lis) }()
		t.Cleanup(srv.Stop)
	}
	c, err := NewCoordinatorClient(CoordinatorClientConfig{
		Seeds:          []string{"passthrough:///gone", "passthrough:///a", "passthrough:///b"},
		AttemptTimeout: 500 * time.Millisecond,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(_ context.Context, name string) (net.Conn, error) {
			if lis := f.pipes[name]; lis != nil {
				return lis.Dial()
			}
			return nil, net.ErrClosed
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return f, c
}

func TestCoordinatorClientFindsTheLeader(t *testing.T) {
	t.Parallel()
	f, c := newFakeNodes(t, "a", "b", "far")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	beat := func() {
		t.Helper()
		if resp, err := c.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{}); err != nil || resp.GetVersion() != 3 {
			t.Errorf("%v %v", resp, err)
		}
	}
	f.set("b", "") // nobody points anywhere: the seeds in turn, a dead one among them
	beat()
	equal(t, "search", f.seen(), "a", "b")
	beat()
	equal(t, "remembered", f.seen(), "a", "b", "b")
	f.set("far", "passthrough:///far") // not among the seeds
	beat()
	equal(t, "hint", f.seen(), "b", "far")
	f.set("a", "")
	beat()
	if got := f.seen(); len(got) == 0 || got[len(got)-1] != "a" {
		t.Errorf("after a change without a hint: %v", got)
	}
	f.set("a", "")
	if _, err := c.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{NodeId: 404}); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE {
		t.Errorf("refusal: %v", err)
	}
	equal(t, "a refusal is not repeated", f.seen(), "a")
}

// TestCoordinatorsAreKept: the newest list stays on disk, and an answer without one
// says nothing about them.
func TestCoordinatorsAreKept(t *testing.T) {
	t.Parallel()
	list := func(version uint64, names ...string) *oncelogv1.HeartbeatResponse {
		res := &oncelogv1.HeartbeatResponse{CoordinatorsVersion: version}
		for _, name := range names {
			res.Coordinators = append(res.Coordinators, &oncelogv1.Node{PeerAddress: name})
		}
		return res
	}
	var kept *oncelogv1.HeartbeatResponse
	for _, step := range []struct {
		got     *oncelogv1.HeartbeatResponse
		want    []string
		changed bool
	}{
		{list(3, "a", "b"), []string{"a", "b"}, true},
		{list(3, "a", "b"), []string{"a", "b"}, false},
		{&oncelogv1.HeartbeatResponse{}, []string{"a", "b"}, false},
		{list(2, "old"), []string{"a", "b"}, false},
		{list(9), []string{"a", "b"}, false},
		{list(5, "c"), []string{"c"}, true},
	} {
		merged, changed := mergeAssignment(kept, step.got)
		var names []string
		for _, n := range merged.GetCoordinators() {
			names = append(names, n.GetPeerAddress())
		}
		equal(t, "kept", names, step.want...)
		if changed != step.changed {
			t.Errorf("%v: changed %v", step.got, changed)
		}
		kept = merged
	}
	_, c := newFakeNodes(t)
	c.learn(nil) // a node that knows nothing yet
	c.learn(kept)
	equal(t, "places", c.places[:1], "c")
}

// TestCoordinatorClientLearnsCoordinators: all that it was given may be replaced while
// it runs, without a word from those that go.
func TestCoordinatorClientLearnsCoordinators(t *testing.T) {
	t.Parallel()
	f, c := newFakeNodes(t, "a", "b", "later", "last")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	beat := func() {
		t.Helper()
		if _, err := c.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{}); err != nil {
			t.Error(err)
		}
	}
	f.set("a", "")
	f.list, f.version = []string{"a", "later"}, 5
	beat()
	f.set("later", "") // which nobody points to
	f.list, f.version = []string{"later", "last"}, 9
	beat()
	beat()
	if f.known != 9 {
		t.Errorf("it knows version %d", f.known)
	}
	f.set("last", "")
	f.list, f.version = []string{"a"}, 8 // of a node that was left behind
	beat()
	equal(t, "places", c.places, "passthrough:///later", "passthrough:///last", "passthrough:///gone", "passthrough:///a", "passthrough:///b")
	// Nobody of the list is there any more, but a seed is.
	f.set("b", "")
	beat()
}

func TestCoordinatorClientGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	f, c := newFakeNodes(t, "a", "b")
	f.set("nobody", "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Enlist(ctx, &oncelogv1.EnlistRequest{}); err == nil {
		t.Error("an unimplemented method answered")
	}
	if _, err := c.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{}); err == nil || ctx.Err() == nil {
		t.Errorf("gave up early: %v", err)
	}
	for _, seeds := range [][]string{nil, {""}} {
		if _, err := NewCoordinatorClient(CoordinatorClientConfig{Seeds: seeds}); err == nil {
			t.Errorf("seeds %q accepted", seeds)
		}
	}
}

// A node that accepts and never answers costs one attempt, not the call.
func TestCoordinatorClientPassesOverASilentNode(t *testing.T) {
	t.Parallel()
	f, c := newFakeNodes(t, "a", "b")
	f.set("hangs", "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{WaitMs: 1})
		done <- err
	}()
	for range 2 {
		select {
		case <-f.called:
		case err := <-done:
			t.Fatalf("ended: %v", err)
		case <-ctx.Done():
			t.Fatal("stuck at the first node")
		}
	}
	f.set("a", "passthrough:///a")
	if err := <-done; err != nil {
		t.Error(err)
	}
}
