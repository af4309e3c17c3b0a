package clienttest_test

import (
	"fmt"
	"testing"

	"github.com/oncelog/oncelog/client"
)

// partition is one of the topic "t".
func partition(p int32) client.TopicPartition { return client.TopicPartition{Topic: "t", Partition: p} }

// A transaction that claims partitions commits while they are its consumer's, moves
// nothing, and is refused once they are another's.
func TestClaim(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		feed := w.producer(c, "feed")
		w.write(feed, "1")
		w.CreateTopic("ticks", 1)
		out := w.producer(c, "timer")
		tick := func() (*client.Tx, *client.Record) {
			return w.begin(out), &client.Record{Topic: "ticks", Value: []byte("tick")}
		}
		in := w.consume(c, client.WithMaxPollRecords(1))

		// Before anything was committed, and after a batch was polled.
		tx, r := tick()
		w.must(tx.Claim(w.patient(), in, partition(0), partition(1), partition(2)))
		w.must(tx.Send(w.patient(), r))
		w.must(tx.Commit(w.patient()))
		b := w.poll(in)
		tx, r = tick()
		w.must(tx.Claim(w.patient(), in, partition(0), partition(1), partition(2)))
		w.must(tx.Send(w.patient(), r))
		w.must(tx.Abort(w.patient()))
		offsets, err := c.Admin().GroupOffsets(w.patient(), "g")
		w.must(err)
		w.equal("positions", fmt.Sprint(offsets), fmt.Sprint(client.Offsets{partition(0): 0, partition(1): 0, partition(2): 0}))

		// Together with a batch, in either order: the batch moves.
		tx, r = tick()
		w.must(tx.Claim(w.patient(), in, partition(0), partition(1)))
		w.must(tx.SendOffsets(w.patient(), b))
		w.must(tx.Claim(w.patient(), in, partition(0), partition(1), partition(2)))
		w.must(tx.Send(w.patient(), r))
		w.must(tx.Commit(w.patient()))
		offsets, err = c.Admin().GroupOffsets(w.patient(), "g")
		w.must(err)
		for tp, next := range b.Offsets() {
			w.equal("position that moved", offsets[tp], next)
		}

		// Another member takes over.
		tx, r = tick()
		w.must(tx.Claim(w.patient(), in, partition(0)))
		w.must(tx.Send(w.patient(), r))
		w.consume(w.Host("successor").Client())
		w.is("commit", tx.Commit(w.patient()), client.ErrStaleMember)
		w.must(tx.Abort(w.patient()))
		tx, _ = tick()
		w.is("claim of what was lost", tx.Claim(w.patient(), in, partition(0)), client.ErrStaleMember)
		w.equal("ticks", len(w.Records("ticks")), 2)
	})
}

// A batch that was put back comes again, and one that was committed does not.
func TestPutBack(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		feed := w.producer(c, "feed")
		w.write(feed, "1")
		w.write(feed, "2")
		in := w.consume(c, client.WithMaxPollRecords(1), client.WithPartitions("t", 0))
		first, second := w.poll(in), w.poll(in)
		in.PutBack(first)
		in.PutBack(second) // the consumer stands before it already
		again := w.poll(in)
		w.equal("batch", fmt.Sprint(again.StartOffsets()), fmt.Sprint(first.StartOffsets()))
		w.must(in.Commit(w.patient(), again))
		in.PutBack(again)
		w.equal("position", in.Position()[partition(0)], int64(1))
	})
}

// ReadTo ends where it is told to, also if nothing that shows lies before that.
func TestReadTo(t *testing.T) {
	bubble(t, one, func(w *world) {
		c := w.Client()
		feed := w.producer(c, "feed")
		w.write(feed, "1")
		tx := w.begin(feed)
		w.stored(tx, "aborted")
		w.must(tx.Abort(w.patient()))
		in, err := c.Consume(w.patient(), "", []string{"t"})
		w.must(err)
		var got []string
		goal := client.Offsets{partition(0): 2, partition(1): 2, partition(2): 1, {Topic: "other"}: 5}
		w.must(in.ReadTo(w.patient(), goal, func(b *client.Batch) error {
			for r := range b.Records() {
				got = append(got, string(r.Value))
			}
			return nil
		}))
		w.equal("records", fmt.Sprint(got), "[1 1 1]")
		w.equal("reached", in.Reached(goal), true)
	})
}
