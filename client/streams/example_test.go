package streams_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/oncelog/oncelog/client/streams"
)

// check ends an example that went wrong.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Lines in, the count of every word out.
func Example_wordCount() {
	var (
		lines  = streams.NewTopic("lines", streams.None(), streams.String())
		counts = streams.NewTopic("counts", streams.String(), streams.Int64())
		store  = streams.NewStore("words", streams.String(), streams.Int64())
	)

	t := streams.NewTopology("word-count")
	words := streams.FlatMapValues(streams.From(t, lines), strings.Fields)
	streams.SelectKey(words, func(_ streams.Nothing, word string) string { return word }).
		Repartition("by-word", streams.String(), streams.String()).
		Count(store).
		Updates().To(counts)

	// A test of it needs no cluster. In a program: NewApp, and Run.
	d, err := streams.NewDriver(t)
	check(err)
	in, out := streams.Input(d, lines), streams.Output(d, counts)
	check(in.Send(streams.Nothing{}, "to be or not"))
	check(in.Send(streams.Nothing{}, "to be"))

	updates, err := out.Read()
	check(err)
	for _, r := range updates {
		fmt.Println(r.Key, r.Value)
	}
	n, _, err := store.Get(d, "be")
	check(err)
	fmt.Println("the store has", n, "of be")
	// Output:
	// to 1
	// be 1
	// or 1
	// not 1
	// to 2
	// be 2
	// the store has 2 of be
}

// Running totals per account: for all time, and of the last five minutes, every
// minute.
func Example_runningTotals() {
	var (
		payments = streams.NewTopic("payments", streams.String(), streams.Int64())
		allTime  = streams.NewStore("all-time", streams.String(), streams.Int64())
		windows  = streams.Hopping(5*time.Minute, time.Minute).WithGrace(30 * time.Second)
		recent   = streams.NewWindowStore("recent", streams.String(), streams.Int64(), windows)
		totals   = streams.NewTopic("totals", streams.WindowedKey(streams.String(), windows), streams.Int64())
	)

	t := streams.NewTopology("totals")
	paid := streams.From(t, payments)
	paid.Reduce(allTime, func(so, amount int64) int64 { return so + amount })
	streams.AggregateWindows(paid, recent, func(so int64, r streams.Record[string, int64]) int64 { return so + r.Value }).
		Updates().To(totals)

	d, err := streams.NewDriver(t)
	check(err)
	in := streams.Input(d, payments)
	at := func(minute int) time.Time { return time.UnixMilli(0).Add(time.Duration(minute) * time.Minute) }
	check(in.SendAt(at(10), "alice", 5))
	check(in.SendAt(at(12), "alice", 7))
	check(in.SendAt(at(20), "alice", 1))
	check(in.SendAt(at(11), "alice", 100)) // too late for its windows, but not for the sum

	sum, _, err := allTime.Get(d, "alice")
	check(err)
	fmt.Println("all time:", sum)
	check(recent.Each(d, at(0), at(60), func(w streams.Windowed[string], sum int64) error {
		fmt.Printf("%s from %s: %d\n", w.Key, w.Start.UTC().Format("15:04"), sum)
		return nil
	}))
	fmt.Println("dropped:", d.Dropped())
	// Output:
	// all time: 113
	// alice from 00:16: 1
	// alice from 00:17: 1
	// alice from 00:18: 1
	// alice from 00:19: 1
	// alice from 00:20: 1
	// dropped: 1
}

type (
	order    struct{ Item, Customer string }
	customer struct{ Name, City string }
	parcel   struct{ Item, Name, City string }
)

// Orders, enriched with what is known of the customer.
func ExampleJoin() {
	var (
		orders    = streams.NewTopic("orders", streams.String(), streams.JSON[order]())
		customers = streams.NewTopic("customers", streams.String(), streams.JSON[customer]())
		parcels   = streams.NewTopic("parcels", streams.String(), streams.JSON[parcel]())
	)

	t := streams.NewTopology("shipping")
	known := streams.TableFrom(t, customers, "customers")
	byCustomer := streams.SelectKey(streams.From(t, orders), func(_ string, o order) string { return o.Customer }).
		Repartition("by-customer", streams.String(), streams.JSON[order]())
	streams.Join(byCustomer, known, func(r streams.Record[string, order], c customer) parcel {
		return parcel{Item: r.Value.Item, Name: c.Name, City: c.City}
	}).To(parcels)

	d, err := streams.NewDriver(t)
	check(err)
	check(streams.Input(d, customers).Send("c1", customer{"Alice", "Paris"}))
	check(streams.Input(d, orders).Send("o1", order{"a book", "c1"}))
	check(streams.Input(d, orders).Send("o2", order{"a lamp", "c2"})) // nobody knows c2
	check(streams.Input(d, customers).Send("c1", customer{"Alice", "Rome"}))
	check(streams.Input(d, orders).Send("o3", order{"a chair", "c1"}))

	sent, err := streams.Output(d, parcels).Read()
	check(err)
	for _, r := range sent {
		fmt.Printf("%s for %s in %s\n", r.Value.Item, r.Value.Name, r.Value.City)
	}
	// Output:
	// a book for Alice in Paris
	// a chair for Alice in Rome
}

// A step of one's own: it remembers when a sensor was heard of last, and reports
// those that have fallen silent.
func ExampleProcess() {
	var (
		readings = streams.NewTopic("readings", streams.String(), streams.Float64())
		alarms   = streams.NewTopic("alarms", streams.String(), streams.String())
		heard    = streams.NewStore("heard", streams.String(), streams.Int64())
	)

	t := streams.NewTopology("watchdog")
	streams.Process(streams.From(t, readings), streams.Processor[string, float64, string, string]{
		Stores: []streams.StoreRef{heard},
		Process: func(ctx *streams.Context[string, string], r streams.Record[string, float64]) error {
			return heard.Put(ctx, r.Key, ctx.WallTime().Unix())
		},
		Punctuators: []streams.Punctuator[string, string]{{
			Every: time.Minute, Clock: streams.WallTime,
			Do: func(ctx *streams.Context[string, string], now time.Time) error {
				return heard.Each(ctx, func(sensor string, at int64) error {
					if now.Unix()-at < 120 {
						return nil
					}
					if err := heard.Delete(ctx, sensor); err != nil {
						return err
					}
					return ctx.Forward(streams.Record[string, string]{Key: sensor, Value: "silent", Timestamp: now})
				})
			},
		}},
	}).To(alarms)

	d, err := streams.NewDriver(t)
	check(err)
	check(streams.Input(d, readings).Send("cellar", 18.5))
	check(d.Advance(90 * time.Second))
	check(streams.Input(d, readings).Send("attic", 24))
	check(d.Advance(time.Minute))

	raised, err := streams.Output(d, alarms).Read()
	check(err)
	for _, r := range raised {
		fmt.Println(r.Key, r.Value, "at", r.Timestamp.UTC().Format("15:04:05"))
	}
	// Output:
	// cellar silent at 00:02:00
}
