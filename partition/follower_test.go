package partition

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/api/batch"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// follower reads a fetch stream and checks what every response must hold.
type follower struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[oncelogv1.FetchResponse]
	next   uint64
	stable uint64
	last   *oncelogv1.FetchResponse
}

func (c *cluster) follow(n *testNode, partition, from uint64, level oncelogv1.IsolationLevel) *follower {
	c.t.Helper()
	stream, err := n.client.Fetch(c.ctx(), &oncelogv1.FetchRequest{
		Partition: partitionRef(partition), Offset: from, Isolation: level, Follow: true,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return &follower{t: c.t, stream: stream, next: from}
}

// receive returns the records of the next response as "offset=value".
func (f *follower) receive() ([]string, error) {
	resp, err := f.stream.Recv()
	if err != nil {
		return nil, err
	}
	f.last = resp
	var out []string
	add := func(offset uint64, value []byte) {
		if offset < f.next || offset >= resp.GetNextOffset() {
			f.t.Errorf("record at %d outside of [%d, %d)", offset, f.next, resp.GetNextOffset())
		}
		out = append(out, fmt.Sprintf("%d=%s", offset, value))
	}
	for _, r := range resp.GetRecords() {
		add(r.GetOffset(), r.GetRecord().GetValue())
	}
	for _, b := range resp.GetBatches() {
		recs, err := batch.Decode(b.GetBatch(), batchLimits())
		if err != nil {
			f.t.Fatal(err)
		}
		for i, r := range recs[:b.GetVisibleRecords()] {
			if o := b.GetBaseOffset() + uint64(i); o >= f.next {
				add(o, r.Value)
			}
		}
	}
	if resp.GetNextOffset() < f.next || resp.GetStableEnd() < f.stable || resp.GetStableEnd() > resp.GetAppliedEnd() {
		f.t.Errorf("position or ends moved backwards: %d after %d, %v", resp.GetNextOffset(), f.next, resp)
	}
	f.next, f.stable = resp.GetNextOffset(), resp.GetStableEnd()
	return out, nil
}

// until reads until the position is at least to.
func (f *follower) until(to uint64) (out []string) {
	f.t.Helper()
	for f.next < to || f.last == nil {
		more, err := f.receive()
		if err != nil {
			f.t.Fatalf("at %d, wanted %d: %v", f.next, to, err)
		}
		out = append(out, more...)
	}
	return out
}

// rest reads until the stream ends.
func (f *follower) rest() (out []string) {
	f.t.Helper()
	for {
		more, err := f.receive()
		if errors.Is(err, io.EOF) {
			if f.last == nil {
				f.t.Error("a stream ended without a response")
			}
			return out
		}
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, more...)
	}
}
