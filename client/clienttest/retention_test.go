package clienttest_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// fill writes values to partition 0 of the topic, a transaction each.
func (w *world) fill(c *client.Client, from, to int) (values []string) {
	w.t.Helper()
	p := w.producer(c, "filler")
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprintf("v%02d", i))
		tx := w.begin(p)
		w.must(tx.Send(w.patient(), record(0, values[len(values)-1])))
		w.must(tx.Commit(w.patient()))
	}
	pass(time.Second) // until readers see them
	return values
}

// reads polls until it has so many records.
func (w *world) reads(in *client.Consumer, count int) (values []string) {
	w.t.Helper()
	for len(values) < count {
		b, err := in.Poll(w.patient())
		w.must(err)
		for r := range b.Records() {
			values = append(values, string(r.Value))
		}
	}
	return values
}

func (w *world) same(what string, got, want []string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// code is the stable name of a failure, "" without one.
func code(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

var first = client.TopicPartition{Topic: "t"}

func keep(ms, bytes int64) *oncelogv1.TopicConfig {
	c := &oncelogv1.TopicConfig{}
	if ms != 0 {
		c.RetentionMs = proto.Int64(ms)
	}
	if bytes != 0 {
		c.RetentionBytes = proto.Int64(bytes)
	}
	return c
}

func TestRetentionThatIsAlteredTakesEffect(t *testing.T) {
	// One of each: minutes go by, and every node's clock costs time. That replicas
	// remove the same is what the simulator looks at.
	bubble(t, one, func(w *world) {
		c := w.Client()
		values := w.fill(c, 0, 10)
		pass(5 * time.Minute)
		w.same("for ever", w.reads(w.consumer(c), 10), values)

		topic, err := c.Admin().AlterTopic(w.patient(), "t", keep((2*time.Minute).Milliseconds(), 0))
		w.must(err)
		if topic.GetConfig().GetRetentionMs() != (2*time.Minute).Milliseconds() || topic.GetConfig().GetRetentionBytes() != -1 || topic.GetConfigVersion() != 1 {
			t.Errorf("altered to %v", topic)
		}
		// What is appended before the shard has heard of it shares a segment with what is to go.
		pass(time.Second)
		values = w.fill(c, 10, 12)
		pass(time.Minute)
		w.same("for two minutes", w.reads(w.consumer(c), 2), values)

		_, err = c.Admin().AlterTopic(w.patient(), "t", keep(-1, 0))
		w.must(err)
		pass(5 * time.Minute)
		w.same("for ever again", w.reads(w.consumer(c), 2), values)
		_, err = c.Admin().AlterTopic(w.patient(), "nobody", keep(-1, 0))
		if code(err) != "UNKNOWN_TOPIC" {
			t.Errorf("an unknown topic: %v", err)
		}
	})
}

func (w *world) consumer(c *client.Client, opts ...client.ConsumerOption) *client.Consumer {
	w.t.Helper()
	in, err := c.Consume(w.patient(), "", []string{"t"}, opts...)
	w.must(err)
	return in
}

// A consumer whose position retention has overtaken goes on where WithStart says,
// or says so, if it is to.
func TestAConsumerThatIsOvertaken(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		values := w.fill(c, 0, 5)
		earliest, latest := w.consumer(c), w.consumer(c, client.WithStart(client.StartLatest))
		strict := w.consumer(c, client.WithoutReset())
		for _, in := range []*client.Consumer{earliest, latest, strict} {
			in.Seek(client.Offsets{first: 0})
			w.same("before", w.reads(in, 5), values)
		}
		values = append(values, w.fill(c, 5, 10)...)
		starts, err := c.Admin().DeleteRecords(w.patient(), client.Offsets{first: 8})
		w.must(err)
		if starts[first] != 8 {
			t.Fatalf("starts at %d", starts[first])
		}
		// What was fetched before is handed out; from where it ends on the log is gone.
		for _, in := range []*client.Consumer{earliest, latest, strict} {
			in.Seek(client.Offsets{first: 6})
		}
		w.same("earliest", w.reads(earliest, 2), values[8:])
		_, err = strict.Poll(w.patient())
		var e *client.Error
		if !errors.As(err, &e) || e.Code != "OFFSET_OUT_OF_RANGE" || e.LogStart != 8 || e.Topic != "t" || e.Class != client.ClassFatal {
			t.Errorf("without a reset: %v", err)
		}
		strict.Seek(client.Offsets{first: e.LogStart})
		w.same("after a Seek", w.reads(strict, 2), values[8:])
		pass(time.Second)
		newest := w.fill(c, 10, 11)
		w.same("latest", w.reads(latest, 1), newest)

		// Above the end nothing is reset: records that were there are not.
		earliest.Seek(client.Offsets{first: 99})
		if _, err := earliest.Poll(w.patient()); code(err) != "OFFSET_OUT_OF_RANGE" {
			t.Errorf("above the end: %v", err)
		}
	})
}

// A position that is overtaken within a transaction costs neither the transaction
// nor the group its position.
func TestATransactionOfAConsumerThatIsOvertaken(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		values := w.fill(c, 0, 10)
		in, err := c.Consume(w.patient(), "g", []string{"t"}, client.WithMaxPollRecords(3))
		w.must(err)
		b, err := in.Poll(w.patient())
		w.must(err)
		_, err = c.Admin().DeleteRecords(w.patient(), client.Offsets{first: 8})
		w.must(err)
		p := w.producer(c, "p")
		tx := w.begin(p)
		w.must(tx.SendOffsets(w.patient(), b))
		w.must(tx.Abort(w.patient()))
		w.same("after the abort", w.reads(in, 2), values[8:])
		in.Seek(client.Offsets{first: 0})
		b, err = in.Poll(w.patient())
		w.must(err)
		tx = w.begin(p)
		w.must(tx.SendOffsets(w.patient(), b))
		w.must(tx.Commit(w.patient()))
		offsets, err := c.Admin().GroupOffsets(w.patient(), "g")
		w.must(err)
		if offsets[first] != 10 {
			t.Errorf("the group is at %d", offsets[first])
		}
	})
}

func TestDeleteRecordsRefuses(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		w.fill(c, 0, 3)
		for want, before := range map[string]client.Offsets{
			"OFFSET_OUT_OF_RANGE": {first: 4}, "UNKNOWN_TOPIC": {{Topic: "nobody"}: 1},
			"UNKNOWN_PARTITION": {{Topic: "t", Partition: 3}: 1},
		} {
			if _, err := c.Admin().DeleteRecords(w.patient(), before); code(err) != want {
				t.Errorf("%v: %v, want %s", before, err, want)
			}
		}
	})
}

// A topic that is deleted and made again is another one: what was meant for the old
// one never touches it.
func TestATopicThatIsMadeAgainIsAnother(t *testing.T) {
	bubble(t, three, func(w *world) {
		c := w.Client()
		w.fill(c, 0, 3)
		in, err := c.Consume(w.patient(), "g", []string{"t"})
		w.must(err)
		b, err := in.Poll(w.patient())
		w.must(err)
		w.must(in.Commit(w.patient(), b))
		p, q := w.producer(c, "p"), w.producer(c, "q", client.WithDeliveryTimeout(5*time.Second))
		committing, sending := w.begin(p), w.begin(q)
		w.stored(committing, "old")
		w.stored(sending, "old")
		position := w.begin(w.producer(c, "r"))
		w.fill(c, 3, 4)
		b, err = in.Poll(w.patient())
		w.must(err)
		w.must(position.SendOffsets(w.patient(), b))

		w.must(c.Admin().DeleteTopic(w.patient(), "t"))
		w.CreateTopic("t", 3)

		if err := committing.Commit(w.patient()); err == nil {
			t.Error("a commit of records in a topic that is gone")
		}
		w.send(sending, "late")
		if err := sending.Commit(w.patient()); err == nil {
			t.Error("a send to a topic that is gone was committed")
		}
		if err := position.Commit(w.patient()); err == nil {
			t.Error("a position in a topic that is gone was committed")
		}
		if err := in.Commit(w.patient(), b); err == nil {
			t.Error("a position in a topic that is gone was committed")
		}
		pass(30 * time.Second)
		w.shows()
		offsets, err := c.Admin().GroupOffsets(w.patient(), "g")
		w.must(err)
		if at, ok := offsets[first]; ok {
			t.Errorf("the group has the position %d in the new topic", at)
		}
		parts, err := w.Client().Admin().DescribePartitions(w.patient(), "t")
		w.must(err)
		for _, p := range parts {
			if p.GetAppliedEnd() != 0 || p.GetOpenTransactions() != 0 || p.GetSizeBytes() != 0 {
				t.Errorf("the new topic has %v", p)
			}
		}
		w.must(in.Close()) // else the members would share the partitions
		fresh := w.Client()
		again, err := fresh.Consume(w.patient(), "g", []string{"t"})
		w.must(err)
		tx := w.begin(w.producer(fresh, "s"))
		w.must(tx.Send(w.patient(), record(0, "new")))
		w.must(tx.Commit(w.patient()))
		w.same("the new topic from its start", w.reads(again, 1), []string{"new"})
	})
}
