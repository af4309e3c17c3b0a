package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams"
	"github.com/oncelog/oncelog/client/streams/state/pebblestate"
)

// A word count with its state in files, whose instance loses its connections in the
// middle of its work, again and again, and is succeeded by one on another machine or
// the same.
// Covers ST-09 of CONFORMANCE.md.
func TestWordCountIsTakenOverAfterCrashes(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	feeder := w.client(t)
	lines := streams.NewTopic(w.topic(t, "lines", 3), streams.None(), streams.String())
	counts := streams.NewTopic(w.topic(t, "counts", 2), streams.String(), streams.Int64())
	store := streams.NewStore("words", streams.String(), streams.Int64())
	topology := streams.NewTopology(unique(t, "app"))
	words := streams.FlatMapValues(streams.From(topology, lines), strings.Fields)
	streams.SelectKey(words, func(_ streams.Nothing, word string) string { return word }).
		Repartition("by-word", streams.String(), streams.String()).
		Count(store).
		Updates().To(counts)

	machines := []string{t.TempDir(), t.TempDir()}
	ctx := withPatience(t)
	// live runs one life until it has done something, and cuts it off.
	live := func(n int, last bool) {
		files, err := pebblestate.Open(pebblestate.Config{Dir: machines[n%2]})
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Dial(ctx, w.Servers())
		if err != nil {
			t.Fatal(err)
		}
		app, err := streams.NewApp(c, topology, streams.WithState(files), streams.WithInstanceID("worker"),
			streams.WithCommitInterval(5*time.Millisecond),
			streams.WithConsumerOptions(client.WithSessionTimeout(time.Second), client.WithMaxPollRecords(7)))
		if err != nil {
			t.Fatal(err)
		}
		run, stop := context.WithCancel(ctx)
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- app.Run(run) }()
		if !last {
			eventually(t, "something is done", func() error {
				if s := app.Stats(); s.Commits == 0 || s.Records < 100 {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
			_ = c.Close() // sends no abort
			if err := <-ended; !errors.Is(err, client.ErrClosed) {
				t.Errorf("a life ended with %v", err)
			}
		} else {
			eventually(t, "every word is counted", func() error {
				if n := len(w.readCommitted(t, feeder, counts.Name)); n < 600 {
					return fmt.Errorf("%d counts", n)
				}
				return nil
			})
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the last life ended with %v", err)
			}
			_ = c.Close()
		}
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	}
	for n := range 5 {
		for range 40 {
			produce(t, feeder, lines.Name, "to be or")
		}
		live(n, n == 4)
	}
	got := map[string]int64{}
	for _, r := range w.read(t, feeder, client.ReadCommitted, counts.Name) {
		n, err := counts.Value.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if n != got[string(r.Key)]+1 {
			t.Errorf("%s is %d after %d", r.Key, n, got[string(r.Key)])
		}
		got[string(r.Key)] = n
	}
	if want := map[string]int64{"to": 200, "be": 200, "or": 200}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counts are %v, want %v", got, want)
	}
}
