package chaos

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/chaos/netfault"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// TestAround: who is cut off, from whom, and in which direction.
func TestAround(t *testing.T) {
	t.Parallel()
	notD := func(name string) bool { return name != "d" }
	for _, c := range []struct {
		way      way
		from, to string
		cut      bool
	}{
		{both, "a", "b", true}, {both, "b", "a", true}, {both, "a", "d", false}, {both, "d", "a", false}, {both, "b", "c", false},
		{in, "a", "b", false}, {in, "b", "a", true}, {in, "d", "a", false},
		{out, "a", "b", true}, {out, "b", "a", false}, {out, "a", "d", false},
	} {
		if got := around("a", c.way, notD)(c.from, c.to).Cut; got != c.cut {
			t.Errorf("a %v: from %s to %s cut is %v", c.way, c.from, c.to, got)
		}
	}
}

// TestBend: all rules hold together, each until it is taken away.
func TestBend(t *testing.T) {
	t.Parallel()
	w := &world{rules: make(map[int]netfault.Rules), net: netfault.New(func(net.Conn, string) string { return "" })}
	defer func() {
		if err := w.net.Close(); err != nil {
			t.Error(err)
		}
	}()
	check := func(from, to string, want netfault.Rule) {
		t.Helper()
		if got := w.sum(from, to); got != want {
			t.Errorf("from %s to %s: %+v, want %+v", from, to, got, want)
		}
	}
	slow := func(delay, jitter time.Duration) netfault.Rules {
		return func(string, string) netfault.Rule { return netfault.Rule{Delay: delay, Jitter: jitter} }
	}
	check("a", "b", netfault.Rule{})
	cut := w.bend(around("a", out, everybody))
	first, second := w.bend(slow(3, 1)), w.bend(slow(2, 5))
	check("a", "b", netfault.Rule{Cut: true, Delay: 3, Jitter: 5})
	check("b", "a", netfault.Rule{Delay: 3, Jitter: 5})
	first()
	check("a", "b", netfault.Rule{Cut: true, Delay: 2, Jitter: 5})
	cut()
	check("a", "b", netfault.Rule{Delay: 2, Jitter: 5})
	second()
	check("a", "b", netfault.Rule{})
}

// TestNothingGoesAround: nodes reach each other, and clients reach nodes, through
// the network alone: what is cut there is cut.
func TestNothingGoesAround(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	cfg := testConfig(t)
	w, err := startAnyWorld(t.Context(), cfg, cfg.Dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	c, err := client.Dial(t.Context(), w.servers)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	decide := func(ctx context.Context) error {
		_, err := c.InitTransactions(ctx, "id")
		return err
	}
	look := func(ctx context.Context) error {
		_, err := c.Admin().DescribeCluster(ctx)
		return err
	}
	w.wantWorks(t, decide)
	nodes := w.bend(func(from, to string) netfault.Rule { return netfault.Rule{Cut: from != auditor && to != auditor} })
	w.wantFails(t, "a decision without a majority", decide)
	nodes()
	w.wantWorks(t, decide)
	own := w.bend(around(auditor, in, everybody))
	w.wantFails(t, "an answer over a cut", look)
	own()
	w.wantWorks(t, look)
	for _, n := range w.of(cluster.Coordinator) {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	w.wantFails(t, "an answer of the dead", look)
}

// wantFails checks that a call gets no answer: nothing else stands between it and
// success but time, of which it has enough.
func (w *world) wantFails(t *testing.T, what string, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := call(ctx); err == nil {
		t.Errorf("there was %s", what)
	}
}

func (w *world) wantWorks(t *testing.T, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if err := call(ctx); err != nil {
		t.Error(err)
	}
}

// TestSilentCoordinator: partition nodes find out that their connections lead to
// nobody, and ask about an abandoned transaction over others: readers must not
// wait for the kernel to give up, which takes a quarter of an hour.
func TestSilentCoordinator(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a connection to be found dead")
	}
	cfg := testConfig(t)
	w, err := startAnyWorld(t.Context(), cfg, cfg.Dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	admin, err := client.Dial(ctx, w.servers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: "t", Partitions: 1, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	broken := w.net.HalfOpen(func(from, to string) bool {
		return strings.HasPrefix(from, string(cluster.Partition)) && strings.HasPrefix(to, string(cluster.Coordinator))
	}, false)
	if broken == 0 {
		t.Fatal("no partition node has a connection to a coordinator")
	}
	w.abandon(ctx, t, "t")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		parts, err := admin.Admin().DescribePartitions(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		if p := parts[0]; p.GetStableEnd() == 1 {
			break
		}
		if waited := time.Since(begin); waited > silence+longestOpen {
			t.Fatalf("after %v readers still wait: %v", waited, parts[0])
		}
	}
}

// abandon leaves a transaction with one record open.
func (w *world) abandon(ctx context.Context, t *testing.T, topic string) {
	t.Helper()
	c, err := client.Dial(ctx, w.servers)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.InitTransactions(ctx, "abandoned", client.WithTransactionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := p.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Send(ctx, &client.Record{Topic: topic, Value: []byte("never")}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}
