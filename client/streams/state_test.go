package streams_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/streams"
	"github.com/oncelog/oncelog/client/streams/state"
	"github.com/oncelog/oncelog/client/streams/state/pebblestate"
)

// files opens a backend in files, and closes it with the test.
func (w *world) files(fs vfs.FS) *pebblestate.Backend {
	w.t.Helper()
	b, err := pebblestate.Open(pebblestate.Config{Dir: "state", FS: fs})
	w.must(err)
	return b
}

// An instance that keeps its state in files reads only what it lacks: nothing after
// a proper stop, what a power cut took, and everything if the files are of another
// topic, or ahead of it.
//
// Covers ST-11 of CONFORMANCE.md.
func TestRestartWithFiles(t *testing.T) {
	bubble(t, func(w *world) {
		fs := vfs.NewCrashableMem()
		b := w.files(fs)
		i := w.start("one", wordCount(), streams.WithState(b))
		w.feed("a b c", "a b", "a")
		w.counted(map[string]int64{"a": 3, "b": 2, "c": 1})
		i.end()
		w.must(b.Close())
		stopped := fs.CrashClone(vfs.CrashCloneCfg{}) // Close has synced it

		b = w.files(fs)
		i = w.start("one", wordCount(), streams.WithState(b))
		w.feed("a", "a", "d")
		w.counted(map[string]int64{"a": 5, "b": 2, "c": 1, "d": 1})
		if n := i.Stats().Restored; n != 0 {
			t.Errorf("%d records were read back after a stop", n)
		}
		i.end()
		w.must(b.Close())

		b = w.files(stopped)
		i = w.start("one", wordCount(), streams.WithState(b))
		w.feed("a", "d")
		w.counted(map[string]int64{"a": 6, "b": 2, "c": 1, "d": 2})
		if n := i.Stats().Restored; n == 0 || n > 4 {
			t.Errorf("%d records were read back after a power cut", n)
		}
		i.end()

		// Somebody has made the state of another topic of it, or one of the future.
		for _, at := range []state.Checkpoint{{Topic: 12345, Next: 1}, {Topic: w.topicID("wc-words-changelog"), Next: 1000}} {
			for p := range int32(3) {
				s, err := b.Open(state.ID{Application: "wc", Store: "words", Partition: p})
				w.must(err)
				w.must(s.Apply(state.Changes{Entries: []state.Entry{{Key: []byte("a"), Value: make([]byte, 8)}}, Checkpoint: at}))
				w.must(s.Close())
			}
			i = w.start("one", wordCount(), streams.WithState(b))
			w.feed("c")
			w.until("c is counted", func() bool { return w.result()["c"] > 1 })
			w.until("the tasks run", func() bool { return i.Stats().Tasks == 6 })
			n, ok, _, err := streams.Query(i.App, words).Get("a")
			w.must(err)
			if !ok || n != 6 {
				t.Errorf("the store has %d of a, want 6", n)
			}
			i.end()
		}
		w.must(b.Close())
	})
}

func (w *world) topicID(name string) uint64 {
	w.t.Helper()
	topic, err := w.Client().Admin().DescribeTopic(w.patient(), name)
	w.must(err)
	return topic.GetTopicId()
}

// Views read what is committed, say how far that is, and whom to ask for the rest.
// TestQueryWindows: a window is found by its start, in the partition of its key.
func TestQueryWindows(t *testing.T) {
	bubble(t, func(w *world) {
		recent := streams.NewWindowStore("recent", streams.String(), streams.Int64(), streams.Tumbling(time.Minute))
		topology := streams.NewTopology("windows")
		byWord := streams.SelectKey(streams.FlatMapValues(streams.From(topology, lines), strings.Fields),
			func(_ streams.Nothing, word string) string { return word }).Repartition("by-word", streams.String(), streams.String())
		streams.CountWindows(byWord, recent)
		i := w.start("one", topology)
		view := streams.QueryWindows(i.App, recent)
		now := time.Now().Truncate(time.Minute)
		got := func(word string, start time.Time) (int64, bool) {
			n, ok, _, err := view.Get(streams.Windowed[string]{Key: word, Start: start})
			w.must(err)
			return n, ok
		}
		w.feed("a b c d e f", "a")
		w.until("windows are counted", func() bool { n, _, _, _ := view.Get(streams.Windowed[string]{Key: "a", Start: now}); return n == 2 })
		for _, word := range []string{"b", "c", "d", "e", "f"} {
			if n, ok := got(word, now); n != 1 || !ok {
				t.Errorf("%s: %d, %v", word, n, ok)
			}
		}
		if n, ok := got("a", now.Add(-time.Minute)); ok {
			t.Errorf("the window before: %d", n)
		}
		i.end()
	})
}

func TestQuery(t *testing.T) {
	bubble(t, func(w *world) {
		first := w.start("first", wordCount())
		view := streams.Query(first.App, words)
		if _, _, _, err := view.Get("a"); !errors.Is(err, streams.ErrNotLocal) {
			t.Errorf("before it runs: %v", err)
		}
		w.feed("a b c d e f g h", "a")
		w.counted(map[string]int64{"a": 2, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1})
		n, ok, at, err := view.Get("a")
		w.must(err)
		if n != 2 || !ok || at.Topic != "wc-words-changelog" || at.Next == 0 {
			t.Errorf("got %d, %v at %+v", n, ok, at)
		}
		if _, ok, _, err := view.Get("z"); ok || err != nil {
			t.Errorf("a key that is not there: %v, %v", ok, err)
		}
		all, positions, err := view.All(100)
		w.must(err)
		if len(all) != 8 || len(positions) != 3 {
			t.Errorf("%d entries of %d partitions", len(all), len(positions))
		}
		if some, _, err := view.All(5); err != nil || len(some) != 5 {
			t.Errorf("%d entries, %v, want 5", len(some), err)
		}
		if _, _, err := view.All(0); err == nil {
			t.Error("a limit of 0 is taken")
		}
		if _, _, _, err := streams.Query(first.App, streams.NewStore("other", streams.String(), streams.Int64())).Get("a"); !errors.Is(err, streams.ErrNoStore) {
			t.Errorf("another store: %v", err)
		}

		// What is not committed does not show.
		held := w.Inject(clienttest.Fault{Method: "EndTransaction", From: w.Host("first"), Match: clienttest.IsCommit, Hold: true, Skip: 1})
		w.feed("a")
		held.Await()
		if n, _, _, err := view.Get("a"); err != nil || n != 2 {
			t.Errorf("in mid-transaction the view has %d, %v", n, err)
		}
		held.Remove()
		w.until("the commit shows", func() bool { n, _, _, _ := view.Get("a"); return n == 3 })

		second := w.start("second", wordCount())
		w.until("the tasks are shared", func() bool { return first.Stats().Tasks+second.Stats().Tasks == 6 && second.Stats().Tasks > 0 })
		seen := map[string]int{}
		for _, key := range strings.Fields("a b c d e f g h") {
			owner, err := view.Owner(w.patient(), key)
			w.must(err)
			seen[owner]++
			for _, i := range []*instance{first, second} {
				_, ok, _, err := streams.Query(i.App, words).Get(key)
				if mine := i.InstanceID() == owner; mine != ok || mine != (err == nil) || !mine && !errors.Is(err, streams.ErrNotLocal) {
					t.Errorf("%s belongs to %s; %s says %v, %v", key, owner, i.InstanceID(), ok, err)
				}
			}
		}
		if len(seen) != 2 {
			t.Errorf("owners %v", seen)
		}
		first.end()
		second.end()
	})
}

// A table is restored from its own topic, up to where it was consumed, and a join
// sees what was there.
func TestJoin(t *testing.T) {
	bubble(t, func(w *world) {
		var (
			orders = streams.NewTopic("orders", streams.String(), streams.String())
			cities = streams.NewTopic("cities", streams.String(), streams.String())
			sent   = streams.NewTopic("sent", streams.String(), streams.String())
		)
		topology := func() *streams.Topology {
			t := streams.NewTopology("join")
			table := streams.TableFrom(t, cities, "cities")
			streams.LeftJoin(streams.From(t, orders), table, func(r streams.Record[string, string], city *string) string {
				if city == nil {
					return r.Value + " to nowhere"
				}
				return r.Value + " to " + *city
			}).To(sent)
			return t
		}
		for _, name := range []string{"orders", "cities", "sent"} {
			w.CreateTopic(name, 3)
		}
		put := func(topic, key string, value []byte) {
			w.must(w.feeder.Transact(w.patient(), func(tx *client.Tx) error {
				return tx.Send(w.patient(), &client.Record{Topic: topic, Key: []byte(key), Value: value})
			}))
		}
		arrives := func(want ...string) {
			t.Helper()
			w.until(fmt.Sprint(want), func() bool { return len(w.Records("sent")) == len(want) })
			got := map[string]bool{}
			for _, r := range w.Records("sent") {
				got[string(r.Value)] = true
			}
			for _, s := range want {
				if !got[s] {
					t.Errorf("sent %v, want %q", got, s)
				}
			}
		}
		i := w.start("one", topology())
		put("cities", "alice", []byte("Paris"))
		put("cities", "bob", []byte("Oslo"))
		w.until("the table is consumed", func() bool { return i.Stats().Records == 2 })
		put("orders", "alice", []byte("a book"))
		arrives("a book to Paris")
		put("cities", "bob", nil)
		w.until("the table is consumed", func() bool { return i.Stats().Records == 4 })
		i.end()
		put("cities", "carol", []byte("Rome")) // is consumed by the next one

		j := w.start("two", topology())
		w.until("the table is consumed", func() bool { return j.Stats().Records == 1 })
		put("orders", "alice", []byte("a lamp"))
		put("orders", "bob", []byte("a chair"))
		put("orders", "carol", []byte("a table"))
		arrives("a book to Paris", "a lamp to Paris", "a chair to nowhere", "a table to Rome")
		if n := j.Stats().Restored; n != 3 {
			t.Errorf("%d records were read back, want 3", n)
		}
		for _, name := range w.topics() {
			if strings.Contains(name, "changelog") {
				t.Errorf("a table from a topic has a changelog: %s", name)
			}
		}
		j.end()
	})
}

func (w *world) topics() (names []string) {
	w.t.Helper()
	page, err := w.Client().Admin().ListTopics(w.patient(), 0, "")
	w.must(err)
	for _, t := range page.GetTopics() {
		names = append(names, t.GetName())
	}
	return names
}

// A timer's transaction has read nothing. If its worker has lost the partition, it
// is refused all the same.
func TestZombieTimer(t *testing.T) {
	bubble(t, func(w *world) {
		var ticking atomic.Bool
		ticks := streams.NewStore("ticks", streams.String(), streams.Int64())
		topology := func() *streams.Topology {
			t := streams.NewTopology("ticker")
			tick := func(ctx *streams.Context[string, int64], now time.Time) error {
				n, _, err := ticks.Get(ctx, "tick")
				if err != nil || !ticking.Load() || ctx.Partition() != 2 { // which the zombie is to keep
					return err
				}
				if err := ticks.Put(ctx, "tick", n+1); err != nil {
					return err
				}
				return ctx.Forward(streams.Record[string, int64]{Key: "tick", Value: n + 1, Timestamp: now})
			}
			streams.Process(streams.From(t, lines), streams.Processor[streams.Nothing, string, string, int64]{
				Stores:  []streams.StoreRef{ticks},
				Process: func(*streams.Context[string, int64], streams.Record[streams.Nothing, string]) error { return nil },
				Punctuators: []streams.Punctuator[string, int64]{
					{Every: time.Second, Clock: streams.WallTime, Do: tick},
				},
			}).To(counts)
			return t
		}
		zombie := w.start("zombie", topology())
		w.until("the tasks run", func() bool { return zombie.Stats().Tasks == 3 })
		ticking.Store(true)
		w.until("it ticks", func() bool { return w.result()["tick"] >= 3 })
		// It is not heard of, and hears nothing, but goes on.
		deaf := w.Inject(clienttest.Fault{Method: "GroupHeartbeat", From: w.Host("zombie"), Silent: true})
		heir := w.start("heir", topology())
		w.until("the heir takes over", func() bool { return heir.Stats().Tasks == 3 })
		n := w.result()["tick"]
		w.until("the heir ticks", func() bool { return w.result()["tick"] >= n+5 })
		if zombie.Stats().Aborts == 0 {
			t.Error("the zombie was refused nothing")
		}
		deaf.Remove()
		n = w.result()["tick"]
		w.until("somebody ticks", func() bool { return w.result()["tick"] >= n+5 })
		heir.end()
		n = w.result()["tick"]
		w.until("the zombie ticks", func() bool { return w.result()["tick"] >= n+3 })
		zombie.end()
		w.result() // without gaps and repetitions
	})
}

// Of an internal topic that was trimmed what is left is read.
func TestTrimmedChangelog(t *testing.T) {
	bubble(t, func(w *world) {
		fs := vfs.NewMem()
		b := w.files(fs)
		i := w.start("one", wordCount(), streams.WithState(b))
		w.feed("a a b")
		w.counted(map[string]int64{"a": 2, "b": 1})
		i.end()
		w.must(b.Close())
		k := w.start("other", wordCount()) // its state is in memory
		w.feed("a", "b", "c")
		w.counted(map[string]int64{"a": 3, "b": 2, "c": 1})
		k.end()
		admin, all := w.Client().Admin(), client.Offsets{}
		ps, err := admin.DescribePartitions(w.patient(), "wc-words-changelog")
		w.must(err)
		for p, status := range ps {
			all[client.TopicPartition{Topic: "wc-words-changelog", Partition: int32(p)}] = int64(status.GetStableEnd())
		}
		_, err = admin.DeleteRecords(w.patient(), all)
		w.must(err)
		b = w.files(fs)
		j := w.start("one", wordCount(), streams.WithState(b))
		w.until("the tasks run", func() bool { return j.Stats().Tasks == 6 })
		entries, _, err := streams.Query(j.App, words).All(100)
		w.must(err)
		if len(entries) != 0 {
			t.Errorf("the store has %v of a changelog that is empty", entries)
		}
		j.end()
		w.must(b.Close())
	})
}

// Where a copy is kept, a takeover reads only what is newer than that.
func TestStandby(t *testing.T) {
	for standbys, atMost := range []int64{1000, 3} {
		t.Run(fmt.Sprint(standbys), func(t *testing.T) {
			bubble(t, func(w *world) {
				dying := w.start("a", wordCount(), streams.WithStandbys(standbys))
				w.until("the tasks run", func() bool { return dying.Stats().Tasks == 6 })
				heir := w.start("b", wordCount(), streams.WithStandbys(standbys))
				w.until("the tasks are shared", func() bool { return dying.Stats().Tasks == 4 && heir.Stats().Tasks == 2 })
				want := map[string]int64{}
				for i := range 60 {
					w.feed(fmt.Sprint("w", i))
					want[fmt.Sprint("w", i)] = 1
				}
				w.counted(want)
				<-time.After(3 * standbyRounds)
				before := heir.Stats().Restored
				if has := before > 0; has != (standbys > 0) {
					t.Errorf("%d standbys: %d records were read", standbys, before)
				}
				w.Isolate(w.Host("a"))
				dying.stop()
				w.until("the tasks are taken over", func() bool { return heir.Stats().Tasks == 6 })
				n := heir.Stats().Restored - before
				if n > atMost || standbys == 0 && n < 10 {
					t.Errorf("%d standbys: %d records were read by the takeover", standbys, n)
				}
				w.feed("w1", "w2", "w3")
				want["w1"], want["w2"], want["w3"] = 2, 2, 2
				w.counted(want)
				<-dying.done
				heir.end()
			})
		})
	}
}

// standbyRounds is the time between two of a copy.
const standbyRounds = time.Second

// Copies of tables are kept as far as they are consumed, and so are of use.
func TestStandbyOfTable(t *testing.T) {
	bubble(t, func(w *world) {
		cities := streams.NewTopic("cities", streams.String(), streams.String())
		w.CreateTopic("cities", 2)
		topology := func() *streams.Topology {
			t := streams.NewTopology("table")
			streams.TableFrom(t, cities, "cities")
			return t
		}
		put := func(n int) {
			for i := range n {
				w.must(w.feeder.Transact(w.patient(), func(tx *client.Tx) error {
					return tx.Send(w.patient(), &client.Record{Topic: "cities", Key: fmt.Append(nil, i), Value: []byte("Rome")})
				}))
			}
		}
		dying := w.start("a", topology(), streams.WithStandbys(1))
		heir := w.start("b", topology(), streams.WithStandbys(1))
		w.until("the tasks are shared", func() bool { return dying.Stats().Tasks == 1 && heir.Stats().Tasks == 1 })
		put(40)
		<-time.After(3 * standbyRounds)
		before := heir.Stats().Restored
		w.Isolate(w.Host("a"))
		dying.stop()
		w.until("the task is taken over", func() bool { return heir.Stats().Tasks == 2 })
		if n := heir.Stats().Restored - before; before == 0 || n > 3 {
			t.Errorf("the copy has read %d records, the takeover %d", before, n)
		}
		w.until("everything is there", func() bool {
			entries, _, err := streams.Query(heir.App, streams.NewStore("cities", streams.String(), streams.String())).All(100)
			return err == nil && len(entries) == 40
		})
		<-dying.done
		heir.end()
	})
}

// What has been consumed of a repartition topic is removed after a while.
func TestPurge(t *testing.T) {
	bubble(t, func(w *world) {
		i := w.start("one", wordCount())
		w.feed("a b c", "a b c", "a b c")
		w.counted(map[string]int64{"a": 3, "b": 3, "c": 3})
		<-time.After(40 * time.Second)
		w.feed("a b c", "a b c", "a b c")
		w.counted(map[string]int64{"a": 6, "b": 6, "c": 6})
		w.until("the topic is purged", func() bool { return len(w.Records("wc-by-word-repartition")) < 18 })
		if n := len(w.Records("wc-words-changelog")); n < 3 {
			t.Errorf("%d records of the changelog are left", n)
		}
		i.end()
		j := w.start("two", wordCount())
		w.feed("a")
		w.counted(map[string]int64{"a": 7, "b": 6, "c": 6})
		j.end()
	})
}

// An instance that is stopped while it restores ends at once, and the next one
// restores from where the first has got to.
//
// Covers ST-12 of CONFORMANCE.md.
func TestStopWhileRestoring(t *testing.T) {
	bubble(t, func(w *world) {
		fs := vfs.NewMem()
		first := w.start("first", wordCount())
		w.feed("a b c", "a b", "a")
		w.counted(map[string]int64{"a": 3, "b": 2, "c": 1})
		first.end()

		b := w.files(fs)
		held := w.Inject(clienttest.Fault{Method: "Fetch", From: w.Host("second"), Silent: true, Match: func(m proto.Message) bool {
			req, ok := m.(*oncelogv1.FetchRequest)
			return ok && req.GetPartition().GetTopic() == "wc-words-changelog"
		}})
		second := w.start("second", wordCount(), streams.WithState(b))
		held.Await()
		stopped := time.Now()
		second.end()
		if took := time.Since(stopped); took > time.Second {
			t.Errorf("it took %v to stop", took)
		}
		held.Remove()
		third := w.start("third", wordCount(), streams.WithState(b))
		w.feed("a")
		w.counted(map[string]int64{"a": 4, "b": 2, "c": 1})
		third.end()
		w.must(b.Close())
	})
}
