package partition

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/pstate"
)

func TestAppendStreamKeepsTheOrderOfRequests(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	stream, err := n.client.AppendStream(c.ctx())
	if err != nil {
		t.Fatal(err)
	}
	const frames, perFrame = 30, 20
	before := n.store.Metrics().Proposals
	go func() {
		seq := uint64(0)
		for range frames {
			frame := &oncelogv1.AppendStreamRequest{}
			for range perFrame {
				req := appendRequest(pstate.TxnRef{ProducerID: 9, Number: 1}, pA, seq, fmt.Sprint(seq))
				req.RequestId = seq
				seq++
				frame.Requests = append(frame.Requests, req)
			}
			if err := stream.Send(frame); err != nil {
				t.Error(err)
			}
		}
		bad := appendRequest(pstate.TxnRef{ProducerID: 9, Number: 1}, pA, 0, "forged")
		bad.RequestId, bad.ProducerToken = seq, []byte("no")
		if err := errors.Join(stream.Send(&oncelogv1.AppendStreamRequest{Requests: []*oncelogv1.AppendRequest{bad}}), stream.CloseSend()); err != nil {
			t.Error(err)
		}
	}()
	answered := map[uint64]bool{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resp.GetResponses() {
			id := r.GetRequestId()
			if answered[id] {
				t.Errorf("request %d answered twice", id)
			}
			answered[id] = true
			if id == frames*perFrame {
				if r.GetError().GetCode() != oncelogv1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN {
					t.Errorf("forged token: %v", r)
				}
				continue
			}
			if res := r.GetResults()[0]; r.GetError() != nil || res.GetError() != nil || res.GetBaseOffset() != id {
				t.Fatalf("request %d: %v", id, r)
			}
		}
	}
	if len(answered) != frames*perFrame+1 {
		t.Errorf("%d answers", len(answered))
	}
	if p := n.store.Metrics().Proposals - before; p > frames {
		t.Errorf("%d proposals for %d frames", p, frames)
	}
}

func TestAppendStreamEndsWithTheNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	stream, err := n.client.AppendStream(c.ctx())
	if err != nil {
		t.Fatal(err)
	}
	req := &oncelogv1.AppendStreamRequest{Requests: []*oncelogv1.AppendRequest{appendRequest(pstate.TxnRef{ProducerID: 9}, pA, 0, "x")}}
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(c.ctx()); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE {
		t.Errorf("after the end: %v", err)
	}
}

func TestAppendStreamRefusesAFrameThatIsTooLong(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	stream, err := c.leader().client.AppendStream(c.ctx())
	if err != nil {
		t.Fatal(err)
	}
	frame := &oncelogv1.AppendStreamRequest{Requests: make([]*oncelogv1.AppendRequest, MaxFrameRequests+1)}
	for i := range frame.Requests {
		frame.Requests[i] = &oncelogv1.AppendRequest{}
	}
	if err := stream.Send(frame); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); code(err) != oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED {
		t.Errorf("%v", err)
	}
}

func TestLargeRequestsAreSplitIntoEntries(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	stream, err := n.client.AppendStream(c.ctx())
	if err != nil {
		t.Fatal(err)
	}
	value := string(make([]byte, 900<<10))
	frame := &oncelogv1.AppendStreamRequest{}
	for i := range uint64(14) {
		frame.Requests = append(frame.Requests, appendRequest(pstate.TxnRef{ProducerID: 9}, pA, i, value))
		frame.Requests[i].RequestId = i
	}
	if err := errors.Join(stream.Send(frame), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	var offsets []uint64
	for len(offsets) < 14 {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resp.GetResponses() {
			if e := r.GetResults()[0].GetError(); e != nil || r.GetResults()[0].GetBaseOffset() != r.GetRequestId() {
				t.Fatalf("%v", r)
			}
			offsets = append(offsets, r.GetRequestId())
		}
	}
	slices.Sort(offsets)
	if got := c.read(n, pA, 0, committed); len(got) != 14 || len(slices.Compact(offsets)) != 14 {
		t.Errorf("%d records, %d answers", len(got), len(offsets))
	}
}

func TestBudgetHoldsBackUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	b := newBudget(10)
	b.take(10)
	stopped := make(chan struct{})
	close(stopped)
	if b.wait(nil, stopped) {
		t.Error("no room, but did not wait")
	}
	entered := make(chan bool)
	go func() { entered <- b.wait(nil, nil) }()
	b.give(1)
	if !<-entered {
		t.Error("not let in")
	}
}

// TestStreamsShareABudget: one that uses much waits for the others, one that uses little does
// not; at twice the limit all wait; and what a stream leaves behind is given back.
func TestStreamsShareABudget(t *testing.T) {
	t.Parallel()
	all := newShared(6400)
	stream := func() *budget { return newBudget(1 << 30).within(all) }
	stopped := make(chan struct{})
	close(stopped)
	// With a stop that has come it is a look.
	held := func(b *budget) bool { return !b.wait(nil, stopped) }
	heavy, light := stream(), stream()
	light.take(100)
	heavy.take(6300)
	if !held(heavy) || held(light) {
		t.Error("at the limit the heavy one waits, and it alone")
	}
	heavy.take(6400)
	if !held(heavy) || !held(light) || !held(stream()) {
		t.Error("at twice the limit all wait")
	}
	waiting := []*budget{stream(), stream(), stream()}
	entered := make(chan bool, len(waiting))
	for _, b := range waiting {
		go func() { entered <- b.wait(nil, nil) }()
	}
	heavy.close()
	for range waiting {
		if !<-entered {
			t.Error("not let in")
		}
	}
	heavy.take(1)
	heavy.give(12701)
	light.give(100)
	if all.used != 0 {
		t.Errorf("%d bytes are left", all.used)
	}
}

// TestUnreadAnswersStopTheStream checks that requests count against the budget
// of their stream until their answers are taken, those too that are refused
// before the log: a client that sends and does not read must not cost memory
// without end.
func TestUnreadAnswersStopTheStream(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	stop := make(chan struct{})
	close(stop)
	for name, req := range map[string]*oncelogv1.AppendRequest{
		"empty":   {},
		"refused": {Txn: protoRef(pstate.TxnRef{ProducerID: 9}), ProducerToken: make([]byte, 1000), Partitions: appendRequest(pstate.TxnRef{ProducerID: 9}, pA, 0, "x").GetPartitions()},
	} {
		a := newAppender(n.Node, access.Principal{}, newBudget(64<<10))
		const most = 10_000
		taken := 0
		for ; taken < most && a.tally.wait(nil, stop); taken++ {
			a.take(req)
		}
		if taken == most {
			t.Errorf("%s: the stream is still read with %d answers unread", name, taken)
			continue
		}
		if calls := a.collect(); len(calls) != taken || !a.idle() || !a.tally.wait(nil, stop) || a.tally.used != 0 {
			t.Errorf("%s: after %d of %d answers %d bytes are in use", name, len(calls), taken, a.tally.used)
		}
	}
}
