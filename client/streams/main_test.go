package streams_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cluster in a bubble, and an application that counts words in it.
type world struct {
	*clienttest.Cluster
	t      *testing.T
	logger *slog.Logger
	feeder *client.Producer
	fed    int
}

// The topics of the application.
var (
	lines  = streams.NewTopic("lines", streams.None(), streams.String())
	counts = streams.NewTopic("counts", streams.String(), streams.Int64())
	words  = streams.NewStore("words", streams.String(), streams.Int64())
)

// wordCount has two sub-topologies, and state in the second.
func wordCount() *streams.Topology {
	t := streams.NewTopology("wc")
	all := streams.FlatMapValues(streams.From(t, lines), strings.Fields)
	streams.SelectKey(all, func(_ streams.Nothing, word string) string { return word }).
		Repartition("by-word", streams.String(), streams.String()).
		Count(words).
		Updates().To(counts)
	return t
}

// bubble runs a test against a cluster. ONCELOG_TEST_LOG=1 shows what applications
// log.
func bubble(t *testing.T, test func(w *world), size ...clienttest.Option) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Cluster: clienttest.Start(t, size...), t: t, logger: slog.New(slog.DiscardHandler)}
		if os.Getenv("ONCELOG_TEST_LOG") != "" {
			w.logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		w.CreateTopic("lines", 3)
		w.CreateTopic("counts", 3)
		p, err := w.Host("feeder").Client().InitTransactions(w.patient(), "feeder")
		w.must(err)
		w.feeder = p
		test(w)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) patient() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

// feed writes lines, one to each partition in turn.
func (w *world) feed(lines ...string) {
	w.t.Helper()
	w.must(w.feeder.Transact(w.patient(), func(tx *client.Tx) error {
		for _, line := range lines {
			r := (&client.Record{Topic: "lines", Value: []byte(line)}).WithPartition(int32(w.fed % 3))
			w.fed++
			if err := tx.Send(w.patient(), r); err != nil {
				return err
			}
		}
		return nil
	}))
}

// instance is a running application.
type instance struct {
	*streams.App
	client *client.Client
	w      *world
	host   string
	stop   context.CancelFunc
	done   chan error
}

// start runs an instance on a host of its name.
func (w *world) start(name string, t *streams.Topology, opts ...streams.Option) *instance {
	w.t.Helper()
	opts = append([]streams.Option{
		streams.WithInstanceID(name), streams.WithLogger(w.logger.With("instance", name)),
		streams.WithConsumerOptions(client.WithSessionTimeout(6 * time.Second)),
	}, opts...)
	c := w.Host(name).Client()
	app, err := streams.NewApp(c, t, opts...)
	w.must(err)
	ctx, stop := context.WithCancel(w.t.Context())
	i := &instance{App: app, w: w, client: c, host: name, stop: stop, done: make(chan error, 1)}
	go func() { i.done <- app.Run(ctx) }()
	w.t.Cleanup(stop)
	return i
}

// end stops an instance as an operator does.
func (i *instance) end() {
	i.w.t.Helper()
	i.stop()
	if err := <-i.done; !errors.Is(err, context.Canceled) {
		i.w.t.Fatalf("Run: %v", err)
	}
}

// until waits until cond holds.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !cond(); {
		if time.Now().After(end) {
			w.t.Fatalf("did not happen within two minutes: %s", what)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// result returns the latest count of every word, and fails the test if a count is
// not one more than the one before it: then something was counted twice or not at
// all.
func (w *world) result() map[string]int64 {
	w.t.Helper()
	now := map[string]int64{}
	for _, r := range w.Records("counts") {
		n, err := counts.Value.Decode(r.Value)
		w.must(err)
		if n != now[string(r.Key)]+1 {
			w.t.Errorf("count of %q is %d after %d", r.Key, n, now[string(r.Key)])
		}
		now[string(r.Key)] = n
	}
	return now
}

// counted waits until the counts are these.
func (w *world) counted(want map[string]int64) {
	w.t.Helper()
	w.until(fmt.Sprintf("counts are %v", want), func() bool {
		total, wanted := int64(0), int64(0)
		for _, n := range w.result() {
			total += n
		}
		for _, n := range want {
			wanted += n
		}
		return total >= wanted
	})
	if got := w.result(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("counts are %v, want %v", got, want)
	}
}
