package conformance

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/batch"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/partition/pstate"
)

// refused is in whose name everything is sent that must not be stored.
var refused = pstate.TxnRef{ProducerID: 77, Number: 1}

// badAppend is a way to spoil an append that is otherwise good.
type badAppend struct {
	name  string
	spoil func(c *cluster, req *oncelogv1.AppendRequest)
}

func badAppends() []badAppend {
	part := func(req *oncelogv1.AppendRequest) *oncelogv1.PartitionAppend { return req.GetPartitions()[0] }
	first := func(req *oncelogv1.AppendRequest) *oncelogv1.Record { return part(req).GetRecords().GetRecords()[0] }
	encoded := func(change func(b []byte) []byte) func(*cluster, *oncelogv1.AppendRequest) {
		return func(c *cluster, req *oncelogv1.AppendRequest) {
			build := batch.NewBuilder(batch.CodecNone, batch.Limits{})
			_, err := build.Append(batch.Record{Value: []byte("v")})
			c.ok(err)
			b, err := build.Build(nil)
			c.ok(err)
			part(req).Payload = &oncelogv1.PartitionAppend_Batch{Batch: change(b)}
		}
	}
	plain := func(change func(req *oncelogv1.AppendRequest)) func(*cluster, *oncelogv1.AppendRequest) {
		return func(_ *cluster, req *oncelogv1.AppendRequest) { change(req) }
	}
	return []badAppend{
		{"no transaction", plain(func(req *oncelogv1.AppendRequest) { req.Txn = nil })},
		{"no token", plain(func(req *oncelogv1.AppendRequest) { req.ProducerToken = nil })},
		{"half a token", plain(func(req *oncelogv1.AppendRequest) { req.ProducerToken = req.GetProducerToken()[:token.Size/2] })},
		{"token of another producer", func(c *cluster, req *oncelogv1.AppendRequest) { req.ProducerToken = c.keys.Sign(78, 0) }},
		{"token of another epoch", func(c *cluster, req *oncelogv1.AppendRequest) { req.ProducerToken = c.keys.Sign(77, 1) }},
		{"a traceparent of 65 bytes", plain(func(req *oncelogv1.AppendRequest) {
			req.Trace = &oncelogv1.TraceContext{Traceparent: strings.Repeat("0", 65)}
		})},
		{"no partitions", plain(func(req *oncelogv1.AppendRequest) { req.Partitions = nil })},
		{"1,001 partitions", plain(func(req *oncelogv1.AppendRequest) {
			for len(req.GetPartitions()) <= partition.MaxAppendPartitions {
				req.Partitions = append(req.Partitions, part(req))
			}
		})},
		{"a partition twice", plain(func(req *oncelogv1.AppendRequest) {
			req.Partitions = append(req.Partitions, &oncelogv1.PartitionAppend{
				Partition: &oncelogv1.PartitionRef{Topic: topic, Partition: spare - 1}, Payload: part(req).GetPayload(),
			})
		})},
		{"neither records nor a batch", plain(func(req *oncelogv1.AppendRequest) { part(req).Payload = nil })},
		{"an empty list of records", plain(func(req *oncelogv1.AppendRequest) { part(req).GetRecords().Records = nil })},
		{"10,001 records", plain(func(req *oncelogv1.AppendRequest) {
			list := part(req).GetRecords()
			for len(list.GetRecords()) <= partition.MaxBatchRecords {
				list.Records = append(list.Records, first(req))
			}
		})},
		{"a key of 64 KiB and a byte", plain(func(req *oncelogv1.AppendRequest) { first(req).Key = make([]byte, partition.MaxKeyBytes+1) })},
		{"a record of more than 1 MiB", plain(func(req *oncelogv1.AppendRequest) { first(req).Value = make([]byte, partition.MaxBatchBytes) })},
		{"129 headers", plain(func(req *oncelogv1.AppendRequest) {
			first(req).Headers = make([]*oncelogv1.Header, partition.MaxHeaders+1)
			for i := range first(req).GetHeaders() {
				first(req).Headers[i] = &oncelogv1.Header{Key: "h"}
			}
		})},
		{"a header's key of 1 KiB and a byte", plain(func(req *oncelogv1.AppendRequest) {
			first(req).Headers = []*oncelogv1.Header{{Key: strings.Repeat("h", partition.MaxHeaderKeyBytes+1)}}
		})},
		{"an empty batch", encoded(func([]byte) []byte { return nil })},
		{"half a batch", encoded(func(b []byte) []byte { return b[:len(b)/2] })},
		{"a batch with a wrong checksum", encoded(func(b []byte) []byte {
			b[len(b)-1] ^= 1
			return b
		})},
		{"a batch of more than 1 MiB", encoded(func([]byte) []byte { return make([]byte, partition.MaxBatchBytes+1) })},
		{"sequences beyond the last number", plain(func(req *oncelogv1.AppendRequest) { part(req).BaseSequence = 1<<64 - 1 })},
	}
}

// TestLargeAppends: what is as large as the contract allows is stored.
func TestLargeAppends(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, 1000, func(c *cluster) {
		m := c.leader()
		wide := c.request(refused, spare, 0, 1)
		for id := uint64(spare + 1); id <= 1000; id++ {
			wide.Partitions = append(wide.Partitions, c.request(refused, id, 0, 1).GetPartitions()[0])
		}
		equal(t, "1,000 partitions", c.append(m, wide), "APPENDED 0")
		long := c.request(refused, spare, 1, 10_000)
		equal(t, "10,000 records", c.append(m, long), "APPENDED 1")
		large := c.request(refused, spare, 10_001, 1)
		r := large.GetPartitions()[0].GetRecords().GetRecords()[0]
		r.Key = make([]byte, 64<<10)
		for range 128 {
			r.Headers = append(r.Headers, &oncelogv1.Header{Key: strings.Repeat("h", 1024)})
		}
		equal(t, "a large record", c.append(m, large), "APPENDED 10001")
		equal(t, "end", c.ends(m, spare), "0/10002/0")
	})
}

// TestBadAppends spoils an append in every way, over both transports; nothing of
// it may be stored.
func TestBadAppends(t *testing.T) {
	t.Parallel()
	g := &grid{name: "what is wrong with the append", columns: []string{"Append", "AppendStream"}}
	inBubble(t, 1, 2, func(c *cluster) {
		m := c.leader()
		for _, f := range badAppends() {
			r := row{name: f.name}
			for _, way := range transports() {
				req := c.request(refused, spare, 0, 1)
				f.spoil(c, req)
				r.cells = append(r.cells, way.call(c, m, req))
			}
			g.rows = append(g.rows, r)
		}
		r := row{"1,001 requests in a frame", []string{"-", c.longFrame(m)}}
		g.rows = append(g.rows, r)
		equal(t, "end of the partition", c.describe(m, spare).GetAppliedEnd(), 0)
		equal(t, "producers", len(c.producers(m, spare)), 0)
		c.send(refused, spare, 0, 1) // what was refused left nothing behind
	})
	check(t, "badappend.txt", []*grid{g})
}

// longFrame sends a frame with one request too many: the stream ends.
func (c *cluster) longFrame(m *node) string {
	stream, err := m.log.AppendStream(c.ctx())
	c.ok(err)
	frame := &oncelogv1.AppendStreamRequest{}
	for range partition.MaxFrameRequests + 1 {
		frame.Requests = append(frame.Requests, c.request(refused, spare, 0, 1))
	}
	c.ok(stream.Send(frame))
	_, err = stream.Recv()
	if errors.Is(err, io.EOF) {
		return "the stream ended"
	}
	return refusal(err)
}
