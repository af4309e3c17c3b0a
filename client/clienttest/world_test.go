package clienttest_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cluster in a bubble, with the topic "t" of three partitions. At the
// end of the bubble no goroutine is left, or the test fails.
type world struct {
	*clienttest.Cluster
	t *testing.T
}

// one is the smallest cluster, three what survives the loss of a node.
var (
	one   []clienttest.Option
	three = []clienttest.Option{clienttest.WithCoordinators(3), clienttest.WithNodes(3)}
)

// bubble runs a test against a cluster. ONCELOG_TEST_LOG=1 shows what the nodes
// log.
func bubble(t *testing.T, size []clienttest.Option, test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if os.Getenv("ONCELOG_TEST_LOG") != "" {
			h := slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})
			size = append(slices.Clip(size), clienttest.WithLogger(slog.New(h)))
		}
		w := &world{Cluster: clienttest.Start(t, size...), t: t}
		w.CreateTopic("t", 3)
		test(w)
	})
}

// within is a context that ends after d.
func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	w.t.Cleanup(cancel)
	return ctx
}

// patient is a context of a patient caller.
func (w *world) patient() context.Context { return w.within(time.Minute) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// is fails the test unless err is what it should be.
func (w *world) is(what string, err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

// producer takes over a transactional id.
func (w *world) producer(c *client.Client, id string, opts ...client.ProducerOption) *client.Producer {
	w.t.Helper()
	p, err := c.InitTransactions(w.patient(), id, opts...)
	w.must(err)
	return p
}

func (w *world) begin(p *client.Producer) *client.Tx {
	w.t.Helper()
	tx, err := p.Begin(w.patient())
	w.must(err)
	return tx
}

// record is for partition p of the topic.
func record(p int32, value string) *client.Record {
	return (&client.Record{Topic: "t", Value: []byte(value)}).WithPartition(p)
}

// send sends the value to every partition of the topic.
func (w *world) send(tx *client.Tx, value string) {
	w.t.Helper()
	w.must(tx.Send(w.patient(), record(0, value), record(1, value), record(2, value)))
}

// stored sends a value to every partition and waits until it is durable.
func (w *world) stored(tx *client.Tx, value string) {
	w.t.Helper()
	w.send(tx, value)
	w.must(tx.Flush(w.patient()))
}

// write commits a transaction with the value in every partition.
func (w *world) write(p *client.Producer, value string) {
	w.t.Helper()
	tx := w.begin(p)
	w.send(tx, value)
	w.must(tx.Commit(w.patient()))
}

// shows fails the test unless every partition of the topic has these committed
// values, in this order.
func (w *world) shows(want ...string) {
	w.t.Helper()
	got := make([][]string, 3)
	for _, r := range w.Records("t") {
		got[r.Partition] = append(got[r.Partition], string(r.Value))
	}
	for p := range got {
		if !slices.Equal(got[p], want) {
			w.t.Errorf("partition %d shows %q, want %q", p, got[p], want)
		}
	}
}

// outcome fails the test unless the transaction ended so.
func (w *world) outcome(c *client.Client, tx *client.Tx, want client.Outcome) {
	w.t.Helper()
	got, err := c.Outcome(w.patient(), tx.ID())
	w.must(err)
	if got != want {
		w.t.Errorf("outcome of %v is %v, want %v", tx.ID(), got, want)
	}
}

// pass lets time go by, and then what is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// later runs fn in the background and returns its result.
func later(fn func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	return done
}

// pending fails the test if fn has returned.
func (w *world) pending(what string, done <-chan error) {
	w.t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		w.t.Fatalf("%s: ended with %v, should be under way", what, err)
	default:
	}
}
