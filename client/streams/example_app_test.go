package streams_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/streams"
	"github.com/oncelog/oncelog/client/streams/state/pebblestate"
)

// example takes the place of the *testing.T that a test has.
type example struct{ cleanups []func() }

func (e *example) Helper()           {}
func (e *example) Cleanup(fn func()) { e.cleanups = append(e.cleanups, fn) }
func (e *example) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (e *example) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (e *example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (e *example) end() {
	for _, fn := range slices.Backward(e.cleanups) {
		fn()
	}
}

// Two instances share the work, one of them loses its connection in the middle of
// it, and every word is counted once.
func ExampleApp() {
	t := &example{} // your *testing.T
	defer t.end()
	cluster := clienttest.Start(t)
	cluster.CreateTopic("lines", 4)
	cluster.CreateTopic("counts", 1)
	lines := streams.NewTopic("lines", streams.None(), streams.String())
	counts := streams.NewTopic("counts", streams.String(), streams.Int64())
	store := streams.NewStore("words", streams.String(), streams.Int64())

	topology := streams.NewTopology("word-count")
	words := streams.FlatMapValues(streams.From(topology, lines), strings.Fields)
	streams.SelectKey(words, func(_ streams.Nothing, word string) string { return word }).
		Repartition("by-word", streams.String(), streams.String()).
		Count(store).
		Updates().To(counts)

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for _, name := range []string{"pod-0", "pod-1"} {
		app, err := streams.NewApp(cluster.Host(name).Client(), topology, streams.WithInstanceID(name))
		check(err)
		go func() { ended <- app.Run(ctx) }()
	}
	p, err := cluster.Client().InitTransactions(ctx, "feeder")
	check(err)
	for range 10 {
		check(p.Transact(ctx, func(tx *client.Tx) error {
			return tx.Send(ctx, &client.Record{Topic: "lines", Value: []byte("to be or not to be")})
		}))
	}
	for _, n := range cluster.Nodes() {
		cluster.Break(cluster.Host("pod-0"), n)
	}
	for len(cluster.Records("counts")) < 60 {
		<-time.After(10 * time.Millisecond)
	}
	stop()
	fmt.Println(errors.Is(<-ended, context.Canceled), errors.Is(<-ended, context.Canceled))

	latest := map[string]int64{}
	for _, r := range cluster.Records("counts") {
		latest[string(r.Key)], err = counts.Value.Decode(r.Value)
		check(err)
	}
	fmt.Println(latest)
	// Output:
	// true true
	// map[be:20 not:10 or:10 to:20]
}

// A service: state in files, a copy of it on another instance, and an answer to
// whoever asks for a count.
func ExampleNewApp() {
	run := func(ctx context.Context, topology *streams.Topology, store streams.Store[string, int64], pod string) error {
		c, err := client.Dial(ctx, []string{"c1:7100", "c2:7100", "c3:7100"})
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		files, err := pebblestate.Open(pebblestate.Config{Dir: "data/word-count"})
		if err != nil {
			return err
		}
		defer func() { _ = files.Close() }()
		app, err := streams.NewApp(c, topology,
			streams.WithInstanceID(pod), streams.WithWorkers(4), streams.WithState(files), streams.WithStandbys(1))
		if err != nil {
			return err
		}
		view := streams.Query(app, store)
		count := func(word string) (int64, error) {
			n, _, _, err := view.Get(word)
			if errors.Is(err, streams.ErrNotLocal) {
				owner, err := view.Owner(ctx, word)
				return 0, errors.Join(fmt.Errorf("ask %s", owner), err)
			}
			return n, err
		}
		_ = count // of an HTTP handler, say
		return app.Run(ctx)
	}
	_ = run
}
