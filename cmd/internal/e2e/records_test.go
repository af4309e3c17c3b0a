package e2e

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// specimens are records with everything that is easily lost on the way.
func specimens(topic string) []*client.Record {
	at := time.UnixMilli(1_700_000_000_123)
	return []*client.Record{
		{Topic: topic, Key: []byte("key"), Value: []byte("value"), Timestamp: at},
		{Topic: topic, Key: nil, Value: []byte("no key"), Timestamp: at.Add(-time.Hour)},
		{Topic: topic, Key: []byte{}, Value: []byte("an empty key"), Timestamp: at.Add(time.Hour)},
		{Topic: topic, Key: []byte("tombstone"), Value: nil, Timestamp: at},
		{Topic: topic, Key: []byte("an empty value"), Value: []byte{}, Timestamp: at},
		{Topic: topic, Key: []byte{0, 0xff, '\n'}, Value: []byte{0xfe, 0}, Timestamp: time.UnixMilli(0)},
		{Topic: topic, Value: []byte("headers"), Timestamp: at, Headers: []client.Header{
			{Key: "twice", Value: []byte("1")}, {Key: "twice", Value: []byte("2")}, {Key: "nil"}, {Key: "", Value: []byte{}},
		}},
		{Topic: topic, Value: bytes.Repeat([]byte("large "), 100_000), Timestamp: at},
		{Topic: topic, Value: []byte(strings.Repeat("x", 999_000)), Timestamp: at},
	}
}

// Every codec, through the SDK, which gets back the batches that it encoded, and
// as plain records, which the server decodes.
func TestRecordsComeBackAsTheyWereSent(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	for _, codec := range []client.Compression{
		client.CompressionNone, client.CompressionSnappy, client.CompressionLZ4, client.CompressionZstd,
	} {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			topic := w.topic(t, "in", 1)
			ctx := withPatience(t)
			sent := specimens(topic)
			p := producer(t, c, unique(t, "id"), client.WithCompression(codec))
			if err := p.Transact(ctx, func(tx *client.Tx) error { return tx.Send(ctx, sent...) }); err != nil {
				t.Fatal(err)
			}
			got := w.read(t, c, client.ReadCommitted, topic)
			plain := w.visible(t, topic, rawRead)
			if len(got) != len(sent) || len(plain) != len(sent) {
				t.Fatalf("%d records were sent, %d came back, %d as plain records", len(sent), len(got), len(plain))
			}
			for i, s := range sent {
				g, f := got[i], plain[i].GetRecord()
				if !same(s.Key, g.Key) || !same(s.Value, g.Value) || !s.Timestamp.Equal(g.Timestamp) || !reflect.DeepEqual(s.Headers, g.Headers) {
					t.Errorf("record %d came back as %.200v", i, g)
				}
				if s.Offset != g.Offset || uint64(s.Offset) != plain[i].GetOffset() {
					t.Errorf("record %d was said to be at %d, is at %d and at %d", i, s.Offset, g.Offset, plain[i].GetOffset())
				}
				if !same(s.Key, f.Key) || !same(s.Value, f.Value) || f.GetTimestampMs() != s.Timestamp.UnixMilli() {
					t.Errorf("record %d came back as the plain record %.200v", i, f)
				}
				if !slices.EqualFunc(s.Headers, f.GetHeaders(), func(h client.Header, g *oncelogv1.Header) bool {
					return h.Key == g.GetKey() && same(h.Value, g.Value)
				}) {
					t.Errorf("record %d came back with the plain headers %v", i, f.GetHeaders())
				}
			}
		})
	}
}

// same keeps nil apart from empty.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// What grpcurl sends is what the SDK reads.
func TestPlainRecordsAreReadByTheSDK(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	topic := w.topic(t, "in", 1)
	init := w.initProducer(t, unique(t, "raw"))
	req := init.append(1, partition(topic, 0), 0, "one", "two")
	list := req.Partitions[0].GetRecords()
	list.Records[0].Key = []byte("key")
	list.Records[0].TimestampMs = proto.Int64(1_000)
	list.Records[1].Headers = []*oncelogv1.Header{{Key: "h", Value: []byte("v")}}
	before := time.Now().Add(-time.Second)
	for range 3 { // a repetition changes nothing
		res, err := w.append(t, req)
		if err != nil {
			t.Fatal(err)
		}
		if r := res.GetResults()[0]; r.GetBaseOffset() != 0 || r.GetNextSequence() != 2 || r.GetPartition().GetTopic() != topic {
			t.Errorf("the append is answered %v", r)
		}
	}
	if _, err := w.endTransaction(t, t.Context(), init.end(1, true, partition(topic, 0), 2)); err != nil {
		t.Fatal(err)
	}
	got := w.read(t, w.client(t), client.ReadCommitted, topic)
	if len(got) != 2 {
		t.Fatalf("%d records", len(got))
	}
	if string(got[0].Key) != "key" || string(got[0].Value) != "one" || got[0].Timestamp.UnixMilli() != 1_000 {
		t.Errorf("the first is %v", got[0])
	}
	if got[1].Key != nil || string(got[1].Value) != "two" || got[1].Timestamp.Before(before) ||
		!reflect.DeepEqual(got[1].Headers, []client.Header{{Key: "h", Value: []byte("v")}}) {
		t.Errorf("the second is %v", got[1])
	}
}
