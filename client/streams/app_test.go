package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/streams"
)

// Words are counted through two sub-topologies, and a restart goes on where the
// instance stopped, with a store that is read back.
//
// Covers ST-03, ST-06 of CONFORMANCE.md.
func TestWordCount(t *testing.T) {
	bubble(t, func(w *world) {
		i := w.start("one", wordCount())
		w.feed("to be or not", "to be", "that is")
		w.counted(map[string]int64{"to": 2, "be": 2, "or": 1, "not": 1, "that": 1, "is": 1})
		if s := i.Stats(); s.Tasks != 6 || s.Records != 3+8 || s.Restored != 0 || s.Commits == 0 {
			t.Errorf("stats %+v", s)
		}
		i.end()
		w.feed("to be")
		j := w.start("one", wordCount())
		w.counted(map[string]int64{"to": 3, "be": 3, "or": 1, "not": 1, "that": 1, "is": 1})
		if s := j.Stats(); s.Restored == 0 {
			t.Errorf("stats %+v: nothing was read back", s)
		}
		j.end()
	})
}

// A client that is closed while a commit has no answer gets none any more: Run says
// so, and does not go on asking.
func TestClientClosedInMidCommit(t *testing.T) {
	bubble(t, func(w *world) {
		i := w.start("one", wordCount())
		w.feed("a")
		w.counted(map[string]int64{"a": 1})
		held := w.Inject(clienttest.Fault{Method: "EndTransaction", From: w.Host("one"), Match: clienttest.IsCommit, Silent: true})
		w.feed("a")
		held.Await()
		_ = i.client.Close()
		select {
		case err := <-i.done:
			if !errors.Is(err, client.ErrClosed) || !errors.Is(err, client.ErrOutcomeUnknown) {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("Run goes on")
			i.stop()
			<-i.done
		}
	})
}

// A process dies in the middle of a transaction. The next one takes over when that
// has ended, and counts its records once.
//
// Covers ST-08 of CONFORMANCE.md.
func TestCrashInMidTransaction(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprintf("same instance %v", same), func(t *testing.T) {
			bubble(t, func(w *world) {
				dying := w.start("dying", wordCount())
				w.feed("a", "b", "a")
				w.counted(map[string]int64{"a": 2, "b": 1})

				// The commit never arrives; what it is about is durable.
				held := w.Inject(clienttest.Fault{Method: "EndTransaction", From: w.Host("dying"), Match: clienttest.IsCommit, Silent: true})
				w.feed("a b", "c")
				held.Await()
				w.Isolate(w.Host("dying"))
				name := "other"
				if same {
					name = "dying"
				}
				// On a host of its own, with the name of the instance or another one.
				next := w.start("heir", wordCount(), streams.WithInstanceID(name))
				w.counted(map[string]int64{"a": 3, "b": 2, "c": 1})
				dying.stop()
				<-dying.done
				next.end()
			})
		})
	}
}

// The answer to a commit is lost: it is asked for again, and nothing is done twice.
func TestLostCommitAnswer(t *testing.T) {
	bubble(t, func(w *world) {
		i := w.start("one", wordCount())
		for range 5 {
			lost := w.LoseCommitAnswer()
			w.feed("a a", "b")
			lost.Await()
		}
		w.counted(map[string]int64{"a": 10, "b": 5})
		i.end()
	})
}

// An instance hangs in the middle of a transaction for longer than its session,
// another one takes its tasks over, and then it wakes up: what it had done is
// refused, and it goes on with what the group gives it.
//
// Covers ST-10 of CONFORMANCE.md.
func TestZombie(t *testing.T) {
	bubble(t, func(w *world) {
		first := w.start("zombie", wordCount())
		w.feed("a b c", "a b", "a")
		w.counted(map[string]int64{"a": 3, "b": 2, "c": 1})
		held := w.Inject(clienttest.Fault{Method: "EndTransaction", From: w.Host("zombie"), Match: clienttest.IsCommit, Hold: true})
		w.feed("a b", "c c")
		held.Await() // the commit is on its way for a long time
		w.Host("zombie").Pause()

		second := w.start("second", wordCount())
		w.counted(map[string]int64{"a": 4, "b": 3, "c": 3})
		w.Host("zombie").Resume()
		held.Remove()
		w.feed("a", "a", "a", "d")
		w.counted(map[string]int64{"a": 7, "b": 3, "c": 3, "d": 1})
		w.until("the tasks are shared", func() bool { return first.Stats().Tasks > 0 && second.Stats().Tasks > 0 })
		if first.Stats().Aborts == 0 {
			t.Error("the zombie has aborted nothing")
		}
		w.feed("a", "b", "e")
		w.counted(map[string]int64{"a": 8, "b": 4, "c": 3, "d": 1, "e": 1})
		first.end()
		second.end()
	})
}

// Instances come and go while records flow. Nobody aborts much: what is asked back
// is committed first.
func TestRebalance(t *testing.T) {
	bubble(t, func(w *world) {
		want := map[string]int64{}
		feed := func() {
			for range 5 {
				w.feed("a b", "b c", "c d")
				for _, word := range strings.Fields("a b b c c d") {
					want[word]++
				}
				<-time.After(30 * time.Millisecond)
			}
		}
		first := w.start("first", wordCount())
		feed()
		second := w.start("second", wordCount(), streams.WithWorkers(2))
		feed()
		w.until("three workers share six tasks", func() bool {
			return first.Stats().Tasks == 2 && second.Stats().Tasks == 4
		})
		feed()
		first.end()
		feed()
		w.counted(want)
		second.end()
		if n := first.Stats().Aborts + second.Stats().Aborts; n > 3 {
			t.Errorf("%d transactions were aborted, and nobody was lost", n)
		}
	})
}

// A step that fails ends the instance with an error that says where, and nothing of
// its transaction shows. After the repair the record is processed.
func TestStepFails(t *testing.T) {
	bubble(t, func(w *world) {
		broken := errors.New("cannot be done")
		repaired := false
		topology := func() *streams.Topology {
			t := streams.NewTopology("steps")
			streams.Process(streams.From(t, lines), streams.Processor[streams.Nothing, string, string, int64]{
				Process: func(ctx *streams.Context[string, int64], r streams.Record[streams.Nothing, string]) error {
					out := streams.Record[string, int64]{Key: r.Value, Value: 1, Timestamp: r.Timestamp}
					if err := ctx.Forward(out); err != nil {
						return err
					}
					if r.Value == "bad" && !repaired {
						return broken
					}
					return nil
				},
			}).To(counts)
			return t
		}
		i := w.start("one", topology())
		w.feed("good", "bad")
		err := <-i.done
		var failed *streams.TaskError
		if !errors.Is(err, broken) || !errors.As(err, &failed) || failed.Topic != "lines" || failed.Partition != 1 || failed.Offset != 0 || failed.Task != "0_1" {
			t.Fatalf("Run: %v", err)
		}
		for _, r := range w.Records("counts") {
			if string(r.Key) == "bad" {
				t.Error("the output of a step that failed shows")
			}
		}
		repaired = true
		again := w.start("one", topology())
		w.counted(map[string]int64{"good": 1, "bad": 1})
		again.end()
	})
}

// Records that a serde refuses end the instance, or are skipped.
func TestDecodeError(t *testing.T) {
	bubble(t, func(w *world) {
		numbers := streams.NewTopic("lines", streams.None(), streams.Int64())
		topology := func() *streams.Topology {
			t := streams.NewTopology("numbers")
			streams.SelectKey(streams.From(t, numbers), func(streams.Nothing, int64) string { return "n" }).To(counts)
			return t
		}
		i := w.start("one", topology())
		w.feed("\x00\x00\x00\x00\x00\x00\x00\x01", "no number")
		var bad *streams.DecodeError
		if err := <-i.done; !errors.As(err, &bad) || bad.Part != "value" || bad.Partition != 1 {
			t.Fatalf("Run: %v", err)
		}
		j := w.start("one", topology(), streams.WithDecodeError(func(*streams.DecodeError) error { return nil }))
		w.counted(map[string]int64{"n": 1})
		w.until("the record is skipped", func() bool { return j.Stats().Dropped == 1 })
		j.end()
	})
}

// Without transactions everything is counted at least once, and exactly once if
// nothing goes wrong.
func TestAtLeastOnce(t *testing.T) {
	bubble(t, func(w *world) {
		plain := streams.WithGuarantee(streams.AtLeastOnce)
		i := w.start("one", wordCount(), plain)
		w.feed("a b", "a")
		w.counted(map[string]int64{"a": 2, "b": 1})
		i.end()
		j := w.start("two", wordCount(), plain)
		w.feed("a")
		w.counted(map[string]int64{"a": 3, "b": 1})

		lost := w.Inject(clienttest.Fault{Method: "CommitOffsets", From: w.Host("two"), Times: 1})
		w.feed("b", "b")
		lost.Await()
		w.counted(map[string]int64{"a": 3, "b": 3})

		// It dies between output and positions.
		held := w.Inject(clienttest.Fault{Method: "CommitOffsets", From: w.Host("two"), Silent: true})
		w.feed("c")
		held.Await()
		w.Isolate(w.Host("two"))
		k := w.start("three", wordCount(), plain)
		w.until("c is counted", func() bool {
			for _, r := range w.Records("counts") {
				if string(r.Key) == "c" {
					return true
				}
			}
			return false
		})
		j.stop()
		<-j.done
		k.end()
	})
}

// Topics that do not fit are refused before anything happens.
func TestPartitionsThatDoNotFit(t *testing.T) {
	bubble(t, func(w *world) {
		w.CreateTopic("narrow", 2)
		narrow := streams.NewTopic("narrow", streams.None(), streams.String())
		join := streams.NewTopology("join")
		streams.From(join, lines).Merge(streams.From(join, narrow))
		i := w.start("one", join)
		if err := <-i.done; !errors.Is(err, streams.ErrPartitions) {
			t.Errorf("Run: %v", err)
		}

		w.CreateTopic("wc-words-changelog", 5)
		i = w.start("one", wordCount())
		if err := <-i.done; !errors.Is(err, streams.ErrPartitions) || !strings.Contains(err.Error(), "wc-words-changelog") {
			t.Errorf("Run: %v", err)
		}

		missing := streams.NewTopology("missing")
		streams.From(missing, streams.NewTopic("nowhere", streams.None(), streams.String()))
		i = w.start("one", missing)
		var e *client.Error
		if err := <-i.done; !errors.As(err, &e) || e.Code != "UNKNOWN_TOPIC" {
			t.Errorf("Run: %v", err)
		}
		if err := i.Run(context.Background()); err == nil {
			t.Error("Run twice")
		}
	})
}

// Two instances of one id: the newer one goes on.
func TestFencedInstance(t *testing.T) {
	bubble(t, func(w *world) {
		first := w.start("same", wordCount())
		w.feed("a")
		w.counted(map[string]int64{"a": 1})
		second := w.start("twin", wordCount(), streams.WithInstanceID("same"))
		for i := range 10 { // until the first one has something to write
			w.feed("b", "b", "b")
			w.counted(map[string]int64{"a": 1, "b": int64(3 * (i + 1))})
		}
		if err := <-first.done; !errors.Is(err, client.ErrFenced) {
			t.Errorf("Run: %v", err)
		}
		second.end()
	})
}

// A transaction is aborted under a worker that goes on: its stores go back to what
// is committed, and its records are counted again.
//
// Covers ST-09 of CONFORMANCE.md.
func TestTransactionTimesOut(t *testing.T) {
	bubble(t, func(w *world) {
		i := w.start("one", wordCount())
		w.feed("a b", "a", "a")
		w.counted(map[string]int64{"a": 3, "b": 1})
		for round := range int64(2) {
			held := w.Inject(clienttest.Fault{
				Method: "EndTransaction", From: w.Host("one"), Match: clienttest.IsCommit, Hold: true, Skip: int(round),
			})
			w.feed("a b", "a", "c")
			held.Await()
			w.ExpireTransactions()
			held.Remove()
			w.counted(map[string]int64{"a": 5 + 2*round, "b": 2 + round, "c": 1 + round})
		}
		if s := i.Stats(); s.Aborts < 2 || s.Tasks != 6 {
			t.Errorf("stats %+v", s)
		}
		i.end()
	})
}

// What a dead instance committed is decided, but the changelog does not show it yet:
// the next owner waits for it.
//
// Covers ST-13 of CONFORMANCE.md.
func TestDecidedAndNotVisible(t *testing.T) {
	bubble(t, func(w *world) {
		dying := w.start("dying", wordCount())
		w.feed("a b", "a", "a")
		w.counted(map[string]int64{"a": 3, "b": 1})
		w.feed("a")
		w.counted(map[string]int64{"a": 4, "b": 1})
		words := func(m any) bool { // of the second sub-topology
			req, ok := m.(*oncelogv1.EndTransactionRequest)
			return ok && req.GetCommit() && slices.ContainsFunc(req.GetPartitions(), func(p *oncelogv1.PartitionProgress) bool {
				return p.GetPartition().GetTopic() == "wc-words-changelog"
			})
		}
		var decided atomic.Bool
		silent := w.Inject(clienttest.Fault{
			Method: "EndTransaction", From: w.Host("dying"), Answer: true, Silent: true,
			Match: func(m proto.Message) bool { return words(m) && decided.Swap(true) || decided.Load() },
		})
		late := func(proto.Message) bool { return decided.Load() }
		held := w.Inject(clienttest.Fault{Method: "WriteMarkers", Hold: true, Match: late})
		asked := w.Inject(clienttest.Fault{Method: "Enlist", Hold: true, Match: late}) // or the shard finds out by itself
		w.feed("a b", "c c")
		held.Await()
		silent.Await()
		w.Isolate(w.Host("dying"))
		heir := w.start("heir", wordCount())
		w.until("the tasks without a store run", func() bool { return heir.Stats().Tasks >= 3 })
		<-time.After(20 * time.Second)
		if n := heir.Stats().Tasks; n == 6 {
			t.Error("all tasks run, and what was decided does not show yet")
		}
		held.Remove()
		asked.Remove()
		w.counted(map[string]int64{"a": 5, "b": 2, "c": 2})
		w.feed("a", "b", "c")
		w.counted(map[string]int64{"a": 6, "b": 3, "c": 3})
		heir.end()
		dying.stop()
		<-dying.done
	})
}
