package streams_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client/streams"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// text is a topic of strings.
func text(name string) streams.Topic[string, string] {
	return streams.NewTopic(name, streams.String(), streams.String())
}

func store(name string) streams.Store[string, int64] {
	return streams.NewStore(name, streams.String(), streams.Int64())
}

// What is wrong with a topology is said before it runs, by step and name.
func TestTopologyErrors(t *testing.T) {
	t.Parallel()
	swap := func(_, v string) string { return v }
	for _, x := range []struct {
		name  string
		build func(t *streams.Topology)
		want  string
	}{
		{"nothing", func(*streams.Topology) {}, "no topic is read"},
		{"twice", func(t *streams.Topology) { streams.From(t, text("a")); streams.From(t, text("a")) }, `From "a": the topic is read already`},
		{"topic name", func(t *streams.Topology) { streams.From(t, text("a b")) }, "not the name of a topic"},
		{"output name", func(t *streams.Topology) { streams.From(t, text("a")).To(text("")) }, `To "": not the name of a topic`},
		{"count by other keys", func(t *streams.Topology) { streams.SelectKey(streams.From(t, text("a")), swap).Count(store("s")) }, `Count "s": SelectKey may have changed keys`},
		{"join by other keys", func(t *streams.Topology) {
			table := streams.TableFrom(t, text("b"), "b")
			s := streams.Map(streams.From(t, text("a")), func(r streams.Record[string, string]) streams.Record[string, string] { return r })
			streams.Join(s, table, func(_ streams.Record[string, string], v string) string { return v })
		}, `Join "a": Map may have changed keys`},
		{"two stores of a name", func(t *streams.Topology) {
			s := streams.From(t, text("a"))
			s.Count(store("s"))
			streams.CountWindows(s, streams.NewWindowStore("s", streams.String(), streams.Int64(), streams.Tumbling(time.Second)))
		}, `CountWindows "s": there is another store`},
		{"table and store", func(t *streams.Topology) {
			streams.TableFrom(t, text("b"), "s")
			streams.TableFrom(t, text("c"), "s")
		}, `TableFrom "s": there is a store of that name`},
		{"serde", func(t *streams.Topology) { streams.From(t, streams.Topic[string, string]{Name: "a"}) }, "a serde lacks"},
		{"store serde", func(t *streams.Topology) {
			streams.From(t, text("a")).Count(streams.NewStore("s", streams.Serde[string]{}, streams.Int64()))
		}, `Count "s": a serde lacks`},
		{"gaps", func(t *streams.Topology) {
			streams.CountWindows(streams.From(t, text("a")), streams.NewWindowStore("s", streams.String(), streams.Int64(), streams.Hopping(time.Second, time.Minute)))
		}, "leave gaps"},
		{"too many windows", func(t *streams.Topology) {
			streams.CountWindows(streams.From(t, text("a")), streams.NewWindowStore("s", streams.String(), streams.Int64(), streams.Hopping(time.Hour, time.Second)))
		}, "more than 1,000 windows"},
		{"retention", func(t *streams.Topology) {
			streams.CountWindows(streams.From(t, text("a")), streams.NewWindowStore("s", streams.String(), streams.Int64(), streams.Tumbling(time.Hour).WithRetention(time.Second)))
		}, "retention is at least"},
		{"no function", func(t *streams.Topology) {
			streams.Process(streams.From(t, text("a")), streams.Processor[string, string, string, string]{})
		}, "Process is nil"},
		{"no period", func(t *streams.Topology) {
			streams.Process(streams.From(t, text("a")), streams.Processor[string, string, string, string]{
				Process:     func(*streams.Context[string, string], streams.Record[string, string]) error { return nil },
				Punctuators: []streams.Punctuator[string, string]{{}},
			})
		}, "a punctuator needs a period"},
		{"partitions", func(t *streams.Topology) {
			streams.From(t, text("a")).Repartition("r", streams.String(), streams.String(), streams.WithPartitions(10_001))
		}, `Repartition "r"`},
		{"another topology", func(t *streams.Topology) {
			streams.From(t, text("a")).Merge(streams.From(streams.NewTopology("other"), text("b")))
		}, `Merge "other"`},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			topology := streams.NewTopology("app")
			x.build(topology)
			_, err := streams.NewDriver(topology)
			var e *streams.TopologyError
			if !errors.Is(err, streams.ErrTopology) || !errors.As(err, &e) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %q", err, x.want)
			}
		})
	}
	if _, err := streams.NewDriver(streams.NewTopology("a/b")); !errors.Is(err, streams.ErrTopology) {
		t.Errorf("application id: %v", err)
	}
}

// Options that cannot work are refused by name.
func TestOptionErrors(t *testing.T) {
	t.Parallel()
	for _, o := range []streams.Option{
		streams.WithGuarantee(7), streams.WithCommitInterval(0), streams.WithCommitInterval(time.Hour), streams.WithWorkers(0),
		streams.WithWorkers(1001), streams.WithInstanceID("a/b"), streams.WithInstanceID(strings.Repeat("x", 101)),
		streams.WithState(nil), streams.WithLogger(nil),
	} {
		topology := streams.NewTopology("app")
		streams.From(topology, text("a"))
		if _, err := streams.NewApp(nil, topology, o); err == nil {
			t.Error("an option that cannot work is taken")
		}
	}
}

// driver returns a driver of what build makes.
func driver(t *testing.T, build func(t *streams.Topology), opts ...streams.DriverOption) *streams.Driver {
	t.Helper()
	topology := streams.NewTopology("app")
	build(topology)
	d, err := streams.NewDriver(topology, opts...)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// read returns what was written to a topic as key=value.
func read[K, V any](t *testing.T, d *streams.Driver, topic streams.Topic[K, V]) (out []string) {
	t.Helper()
	records, err := streams.Output(d, topic).Read()
	must(t, err)
	for _, r := range records {
		out = append(out, fmt.Sprintf("%v=%v", r.Key, r.Value))
	}
	return out
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The stateless steps, in one line each.
func TestStatelessSteps(t *testing.T) {
	t.Parallel()
	in, other := text("in"), text("other")
	var peeked []string
	d := driver(t, func(t *streams.Topology) {
		s := streams.From(t, in)
		s.Filter(func(r streams.Record[string, string]) bool { return r.Value != "b" }).To(text("filtered"))
		s.Peek(func(r streams.Record[string, string]) { peeked = append(peeked, r.Value) })
		s.Merge(streams.From(t, other)).To(text("merged"))
		streams.MapValues(s, strings.ToUpper).To(text("upper"))
		streams.Map(s, func(r streams.Record[string, string]) streams.Record[string, string] {
			r.Key, r.Value = r.Value, r.Key
			return r
		}).To(text("swapped"))
		streams.FlatMap(s, func(r streams.Record[string, string]) []streams.Record[string, string] {
			return []streams.Record[string, string]{r, r}
		}).To(text("doubled"))
	})
	for _, v := range []string{"a", "b"} {
		must(t, streams.Input(d, in).Send("k", v))
	}
	must(t, streams.Input(d, other).Send("k", "c"))
	equal(t, read(t, d, text("filtered")), "k=a")
	equal(t, peeked, "a", "b")
	equal(t, read(t, d, text("merged")), "k=a", "k=b", "k=c")
	equal(t, read(t, d, text("upper")), "k=A", "k=B")
	equal(t, read(t, d, text("swapped")), "a=k", "b=k")
	equal(t, read(t, d, text("doubled")), "k=a", "k=a", "k=b", "k=b")
}

// Tables: updates, removals, and aggregates that are joined themselves.
func TestTables(t *testing.T) {
	t.Parallel()
	in, facts := text("in"), text("facts")
	changes := streams.NewTopic("changes", streams.String(), streams.Optional(streams.String()))
	joined, latest := text("joined"), streams.NewStore("latest", streams.String(), streams.String())
	d := driver(t, func(t *streams.Topology) {
		table := streams.TableFrom(t, in, "table")
		table.Updates().To(text("updates"))
		streams.Changes(table).To(changes)
		s := streams.From(t, facts)
		counted := s.Count(store("seen"))
		s.ToTable(latest)
		both := streams.Join(s, table, func(r streams.Record[string, string], v string) string { return r.Value + "+" + v })
		streams.Join(both, counted, func(r streams.Record[string, string], n int64) string { return fmt.Sprint(r.Value, "#", n) }).To(joined)
	})
	must(t, streams.Input(d, facts).Send("k", "f1"))
	must(t, streams.Input(d, in).Send("k", "v1"))
	must(t, streams.Input(d, facts).Send("k", "f2"))
	must(t, streams.Input(d, in).Delete("k"))
	must(t, streams.Input(d, in).Delete("k"))
	must(t, streams.Input(d, facts).Send("k", "f3"))
	equal(t, read(t, d, text("updates")), "k=v1")
	records, err := streams.Output(d, changes).Read()
	must(t, err)
	if len(records) != 3 || *records[0].Value != "v1" || records[1].Value != nil {
		t.Errorf("changes %+v", records)
	}
	equal(t, read(t, d, joined), "k=f2+v1#2")
	if v, ok, err := latest.Get(d, "k"); err != nil || !ok || v != "f3" {
		t.Errorf("latest %q, %v, %v", v, ok, err)
	}
}

// After a step has failed nothing of its record has happened, in no topic and no
// store, not even behind a repartition.
//
// Covers ST-14 of CONFORMANCE.md.
func TestFailedRecordLeavesNoTrace(t *testing.T) {
	t.Parallel()
	in := text("in")
	broken := errors.New("broken")
	fail := true
	d := driver(t, func(t *streams.Topology) {
		s := streams.From(t, in)
		s.Count(store("before"))
		s.To(text("copy"))
		behind := s.Repartition("r", streams.String(), streams.String())
		behind.Count(store("behind"))
		streams.Process(behind, streams.Processor[string, string, string, string]{
			Process: func(*streams.Context[string, string], streams.Record[string, string]) error {
				if fail {
					return broken
				}
				return nil
			},
		})
	})
	var failed *streams.TaskError
	if err := streams.Input(d, in).Send("k", "v"); !errors.Is(err, broken) || !errors.As(err, &failed) || failed.Topic != "app-r-repartition" {
		t.Fatalf("send: %v", err)
	}
	equal(t, read(t, d, text("copy")))
	equal(t, read(t, d, text("app-r-repartition")))
	fail = false
	must(t, streams.Input(d, in).Send("k", "v"))
	for _, name := range []string{"before", "behind"} {
		if n, _, err := store(name).Get(d, "k"); n != 1 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	equal(t, read(t, d, streams.NewTopic("app-before-changelog", streams.String(), streams.Int64())), "k=1")
}

// Windows: tumbling and hopping, in order and late, to the millisecond.
func TestWindows(t *testing.T) {
	t.Parallel()
	in := text("in")
	ms := func(n int) time.Time { return time.UnixMilli(int64(n)) }
	for _, x := range []struct {
		name    string
		windows streams.Windows
		at      []int
		want    []string // start:count
		dropped uint64
	}{
		{"tumbling", streams.Tumbling(10 * time.Millisecond).WithRetention(time.Second), []int{0, 9, 10, 25}, []string{"0:2", "10:1", "20:1"}, 0},
		{"hopping", streams.Hopping(10*time.Millisecond, 5*time.Millisecond).WithRetention(time.Second), []int{3, 7}, []string{"-5:1", "0:2", "5:1"}, 0},
		{"uneven", streams.Hopping(10*time.Millisecond, 4*time.Millisecond).WithRetention(time.Second), []int{10}, []string{"4:1", "8:1"}, 0},
		{"late", streams.Tumbling(10 * time.Millisecond).WithRetention(time.Second), []int{5, 10, 9, 11}, []string{"0:1", "10:2"}, 1},
		{"grace", streams.Tumbling(10 * time.Millisecond).WithGrace(5 * time.Millisecond).WithRetention(time.Second), []int{5, 14, 9, 15, 9}, []string{"0:2", "10:2"}, 1},
		{"retention", streams.Tumbling(10 * time.Millisecond), []int{5, 9, 10}, []string{"10:1"}, 0},
		{"before 1970", streams.Tumbling(10 * time.Millisecond), []int{-1, -10, -11}, []string{"-10:2"}, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			counts := streams.NewWindowStore("counts", streams.String(), streams.Int64(), x.windows)
			d := driver(t, func(t *streams.Topology) { streams.CountWindows(streams.From(t, in), counts) })
			for _, at := range x.at {
				must(t, streams.Input(d, in).SendAt(ms(at), "k", "v"))
			}
			var got []string
			must(t, counts.Each(d, ms(-1000), ms(1000), func(w streams.Windowed[string], n int64) error {
				if w.End.Sub(w.Start) != x.windows.Size {
					t.Errorf("window from %v to %v", w.Start, w.End)
				}
				got = append(got, fmt.Sprintf("%d:%d", w.Start.UnixMilli(), n))
				return nil
			}))
			equal(t, got, x.want...)
			if d.Dropped() != x.dropped {
				t.Errorf("%d dropped, want %d", d.Dropped(), x.dropped)
			}
		})
	}
}

// An aggregate of which nothing is encoded goes, and is no update: with windows as
// without, where the stream was given what the store had not.
func TestAggregateThatGoes(t *testing.T) {
	t.Parallel()
	in := streams.NewTopic("in", streams.String(), streams.Int64())
	sum := func(so *int64, r streams.Record[string, int64]) *int64 {
		next := r.Value
		if so != nil {
			next += *so
		}
		if next == 0 {
			return nil
		}
		return &next
	}
	total := streams.NewStore("total", streams.String(), streams.Optional(streams.Int64()))
	recent := streams.NewWindowStore("recent", streams.String(), streams.Optional(streams.Int64()), streams.Tumbling(time.Minute))
	var plain, windowed []string
	show := func(v *int64) string {
		if v == nil {
			return "none"
		}
		return fmt.Sprint(*v)
	}
	d := driver(t, func(t *streams.Topology) {
		s := streams.From(t, in)
		streams.Aggregate(s, total, sum).Updates().Peek(func(r streams.Record[string, *int64]) { plain = append(plain, show(r.Value)) })
		streams.AggregateWindows(s, recent, sum).Updates().
			Peek(func(r streams.Record[streams.Windowed[string], *int64]) { windowed = append(windowed, show(r.Value)) })
	})
	for _, v := range []int64{3, -3, 5} {
		must(t, streams.Input(d, in).Send("k", v))
	}
	equal(t, plain, "3", "5")
	equal(t, windowed, "3", "5")
}

// A store can be changed while it is read, and is read in the order of its keys.
func TestStoreWhileItIsRead(t *testing.T) {
	t.Parallel()
	in, numbers := text("in"), store("numbers")
	d := driver(t, func(t *streams.Topology) {
		streams.Process(streams.From(t, in), streams.Processor[string, string, string, string]{
			Stores: []streams.StoreRef{numbers},
			Process: func(ctx *streams.Context[string, string], r streams.Record[string, string]) error {
				switch r.Value {
				case "fill":
					for i := range 1000 {
						if err := numbers.Put(ctx, fmt.Sprintf("%04d", i), int64(i)); err != nil {
							return err
						}
					}
				case "thin":
					return numbers.Each(ctx, func(k string, n int64) error {
						if n%3 != 0 {
							return numbers.Delete(ctx, k)
						}
						return numbers.Put(ctx, k, -n)
					})
				}
				return nil
			},
		})
	})
	must(t, streams.Input(d, in).Send("k", "fill"))
	must(t, streams.Input(d, in).Send("k", "thin"))
	next := int64(300)
	must(t, numbers.Range(d, "0300", "0600", func(_ string, n int64) error {
		if n != -next {
			t.Errorf("got %d, want %d", n, -next)
		}
		next += 3
		return nil
	}))
	if next != 600 {
		t.Errorf("the range ends at %d", next)
	}
	stop := errors.New("enough")
	if err := numbers.Each(d, func(string, int64) error { return stop }); err != stop { //nolint:errorlint // it is promised to be unchanged
		t.Errorf("each: %v", err)
	}
	if _, _, err := store("other").Get(d, "k"); !errors.Is(err, streams.ErrNoStore) {
		t.Errorf("another store: %v", err)
	}
}

// Serdes give back what they got, and say no to what is not theirs.
func TestSerdes(t *testing.T) {
	t.Parallel()
	roundTrip(t, streams.String(), "", "a")
	roundTrip(t, streams.Int64(), 0, -1, 1<<62)
	roundTrip(t, streams.Float64(), 0, -1.5)
	roundTrip(t, streams.JSON[map[string]int](), map[string]int{"a": 1})
	roundTrip(t, streams.None(), streams.Nothing{})
	windows := streams.Tumbling(time.Second)
	roundTrip(t, streams.WindowedKey(streams.String(), windows), streams.Windowed[string]{Key: "k", Start: time.UnixMilli(5000), End: time.UnixMilli(6000)})
	for _, decode := range []func([]byte) error{
		func(b []byte) error { _, err := streams.Int64().Decode(b); return err },
		func(b []byte) error { _, err := streams.Float64().Decode(b); return err },
		func(b []byte) error { _, err := streams.JSON[int]().Decode(b); return err },
		func(b []byte) error { _, err := streams.WindowedKey(streams.String(), windows).Decode(b); return err },
	} {
		for _, b := range [][]byte{nil, []byte("{"), make([]byte, 7)} {
			if decode(b) == nil {
				t.Errorf("%q was decoded", b)
			}
		}
	}
	if v, err := streams.Optional(streams.Int64()).Decode(nil); v != nil || err != nil {
		t.Errorf("optional: %v, %v", v, err)
	}
	if b, err := streams.Optional(streams.Int64()).Encode(nil); b != nil || err != nil {
		t.Errorf("optional: %v, %v", b, err)
	}
	if _, err := streams.String().Decode(nil); err == nil {
		t.Error("a record without a value is a string")
	}
}

func roundTrip[T any](t *testing.T, s streams.Serde[T], values ...T) {
	t.Helper()
	for _, v := range values {
		b, err := s.Encode(v)
		must(t, err)
		again, err := s.Decode(b)
		must(t, err)
		if fmt.Sprint(again) != fmt.Sprint(v) {
			t.Errorf("%v became %v", v, again)
		}
	}
}

// An entry of a store has a key: tables skip records without, if they may, and other
// steps fail.
func TestRecordsWithoutKey(t *testing.T) {
	t.Parallel()
	in := streams.NewTopic("in", streams.Bytes(), streams.String())
	var skipped []string
	d := driver(t, func(t *streams.Topology) {
		streams.TableFrom(t, in, "table")
	}, streams.DriverDecodeError(func(e *streams.DecodeError) error { skipped = append(skipped, e.Part); return nil }))
	must(t, streams.Input(d, in).Send(nil, "v"))
	equal(t, skipped, "key")
	if d.Dropped() != 1 {
		t.Errorf("%d dropped", d.Dropped())
	}
	counted := driver(t, func(t *streams.Topology) {
		streams.From(t, in).Count(streams.NewStore("s", streams.Bytes(), streams.Int64()))
	})
	var e *streams.EncodeError
	if err := streams.Input(counted, in).Send(nil, "v"); !errors.As(err, &e) || e.Part != "key" {
		t.Errorf("counting without a key: %v", err)
	}
}
