package workload_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/audit"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/workload"
)

// TestEveryKind runs all kinds at the same time until each has done its part.
func TestEveryKind(t *testing.T) {
	w := newWorld(t)
	some, bank, first, second := w.topic("some", 4), w.topic("bank", 3), w.topic("first", 3), w.topic("second", 3)
	third := w.topic("third", 3)
	const n = 25
	writers := []workload.Config{
		{Kind: workload.Append, IDs: []string{"a"}, Output: some, Transactions: n, Aborts: 0.3, Flushes: 0.5, Asks: 0.3},
		{Kind: workload.Append, IDs: []string{"b", "c"}, Output: some, Transactions: n, PerInit: 2, Pad: 5000, MaxInFlight: 1},
		{Kind: workload.Append, IDs: []string{"b", "c"}, Output: some, Transactions: n, PerInit: 1},
		{Kind: workload.Append, IDs: []string{"o"}, Output: some, Transactions: n},
		{Kind: workload.Append, IDs: []string{"slow"}, Output: some, Transactions: 2, Overtime: 1, TransactionTimeout: 100 * time.Millisecond},
		{Kind: workload.Transfer, IDs: []string{"t"}, Output: bank, Transactions: n, Aborts: 0.1},
		{Kind: workload.Plain, Output: first, Transactions: n, PerInit: 10},
	}
	others := []workload.Config{
		{Kind: workload.Process, IDs: []string{"p"}, Input: first, Output: second, Group: "g", Assigned: []int32{0, 1}, Restarts: 0.2, Aborts: 0.1},
		{Kind: workload.Process, IDs: []string{"q"}, Input: first, Output: second, Group: "g", Assigned: []int32{2}, Restarts: 0.2, Steals: 0.5},
		{Kind: workload.Process, IDs: []string{"r"}, Input: first, Output: third, Group: "s", Subscribe: true, Restarts: 0.2, Aborts: 0.1},
		{Kind: workload.Process, IDs: []string{"u"}, Input: first, Output: third, Group: "s", Subscribe: true, Restarts: 0.2, Range: true},
		{Kind: workload.Follow, Input: second, Group: "h", Restarts: 0.1},
		{Kind: workload.Follow, Input: third, Group: "i", Restarts: 0.1, Subscribe: true, Instance: "one"},
		{Kind: workload.Read, Input: bank, Restarts: 0.1},
		{Kind: workload.Read, Input: some, Uncommitted: true, Restarts: 0.1},
		{Kind: workload.Operate, IDs: []string{"o"}, Input: first, Group: "g", Think: 15 * time.Millisecond},
	}
	stop := make(chan struct{})
	var wrote, rest sync.WaitGroup
	run := func(wg *sync.WaitGroup, number int, cfg workload.Config) {
		cfg.Client = uint32(number)
		if cfg.Think == 0 {
			cfg.Think = 2 * time.Millisecond
		}
		wg.Go(func() {
			if err := workload.Run(t.Context(), w.env(cfg.Client, stop), cfg); err != nil {
				t.Errorf("%s: %v", cfg.Kind, err)
			}
		})
	}
	for i, cfg := range writers {
		run(&wrote, 1+i, cfg)
	}
	for i, cfg := range others {
		run(&rest, 101+i, cfg)
	}
	wrote.Wait()
	close(stop)
	rest.Wait()
	w.wantEvents(len(writers), len(others))
	w.wantGood(history.Rules{
		Healed: true, Banks: []string{"bank"}, Flows: []history.Flow{
			{Group: "g", From: "first", To: "second"}, {Group: "s", From: "first", To: "third"},
		},
	}, []string{"some", "bank", "first", "second", "third"}, []string{"g", "h", "s", "i"})
}

// wantGood has the checkers look at the history and at what is in the cluster.
func (w *world) wantGood(rules history.Rules, topics, groups []string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	conns := map[string]*grpc.ClientConn{}
	cfg := audit.Config{Client: w.admin, Topics: topics, Groups: groups, Dial: func(address string) (grpc.ClientConnInterface, error) {
		if conns[address] == nil {
			cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			conns[address] = cc
			w.t.Cleanup(func() { _ = cc.Close() })
		}
		return conns[address], nil
	}}
	if err := audit.Settled(ctx, cfg); err != nil {
		w.t.Fatal(err)
	}
	final, err := audit.Collect(ctx, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	report := history.Check(&history.History{Rules: rules, Events: w.history.Events(), Audit: final})
	for _, v := range report.Violations {
		w.t.Error(v)
	}
	st := report.Stats
	if st.Committed == 0 || st.Aborted == 0 || st.Plain == 0 || st.ReadRecords == 0 || st.Moves == 0 || st.CoordinatorCalls == 0 {
		w.t.Errorf("checked little: %+v", st)
	}
}

// wantEvents checks that everybody left a trace, and everything happened.
func (w *world) wantEvents(writers, others int) {
	w.t.Helper()
	kinds, clients := map[history.Kind]int{}, map[uint32]int{}
	for _, e := range w.history.Events() {
		kinds[e.Kind]++
		clients[e.Client]++
	}
	for _, k := range []history.Kind{
		history.KindBegin, history.KindSend, history.KindAck, history.KindOffsets, history.KindInit, history.KindFence,
		history.KindCommit, history.KindAbort, history.KindAdminAbort, history.KindOutcome, history.KindCommitOffsets,
		history.KindFetchOffsets, history.KindAnswer, history.KindPosition, history.KindRead, history.KindEnds,
	} {
		if kinds[k] == 0 {
			w.t.Errorf("no event of kind %v", k)
		}
	}
	for _, first := range []struct{ from, n int }{{1, writers}, {101, others}} {
		for i := range first.n {
			if clients[uint32(first.from+i)] == 0 {
				w.t.Errorf("client %d did nothing", first.from+i)
			}
		}
	}
}

// TestCrash: a client that is told to crash at a point leaves everything as it
// is, and its successor takes over.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	topic := w.topic("some", 2)
	cfg := workload.Config{Kind: workload.Append, Client: 1, IDs: []string{"a"}, Output: topic, Flushes: 1}
	for _, at := range []workload.Point{workload.Begun, workload.Sent, workload.Flushed, workload.Ending, workload.Ended} {
		boom := errors.New("boom")
		var left *client.Client
		env := w.env(1, nil)
		env.Dial = func(ctx context.Context) (*client.Client, error) {
			c, err := w.dial(ctx)
			left = c
			return c, err
		}
		env.At = func(_ context.Context, p workload.Point) error {
			if p == at {
				return boom
			}
			return nil
		}
		if err := workload.Run(t.Context(), env, cfg); !errors.Is(err, boom) {
			t.Fatalf("%s: %v", at, err)
		}
		if _, err := left.Outcome(t.Context(), client.TxID{ProducerID: 1, Number: 1}); err != nil {
			t.Errorf("%s: the client was closed: %v", at, err)
		}
		_ = left.Close()
	}
	last := cfg
	last.Transactions = 1
	if err := workload.Run(t.Context(), w.env(1, nil), last); err != nil {
		t.Fatal(err)
	}
	events := w.history.Events()
	if who := events[len(events)-1]; who.Incarnation != 6 {
		t.Errorf("the last event is of incarnation %d, want 6", who.Incarnation)
	}
}

// TestStop: a client with nothing to do ends when it is stopped, and one
// whose context has ended says so.
func TestStop(t *testing.T) {
	w := newWorld(t)
	cfg := workload.Config{Kind: workload.Read, Client: 1, Input: w.topic("empty", 1)}
	stop := make(chan struct{})
	close(stop)
	if err := workload.Run(t.Context(), w.env(1, stop), cfg); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := workload.Run(ctx, w.env(1, nil), cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// TestInexplicable: what no fault explains ends the client with an error.
func TestInexplicable(t *testing.T) {
	w := newWorld(t)
	cfg := workload.Config{Kind: workload.Plain, Client: 1, Output: workload.Topic{Name: "nowhere", Partitions: 1}}
	err := workload.Run(t.Context(), w.env(1, nil), cfg)
	var e *client.Error
	if !errors.As(err, &e) || e.Code != "UNKNOWN_TOPIC" {
		t.Errorf("a topic that is not there: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	topic := workload.Topic{Name: "t", Partitions: 2}
	good := func() workload.Config {
		return workload.Config{Kind: workload.Process, Client: 1, IDs: []string{"a"}, Group: "g", Input: topic, Output: topic}
	}
	for name, spoil := range map[string]func(*workload.Config){
		"no kind":                 func(c *workload.Config) { c.Kind = "dance" },
		"no number":               func(c *workload.Config) { c.Client = 0 },
		"no id":                   func(c *workload.Config) { c.IDs = nil },
		"no output":               func(c *workload.Config) { c.Output = workload.Topic{} },
		"no input":                func(c *workload.Config) { c.Input.Partitions = 0 },
		"no group":                func(c *workload.Config) { c.Group = "" },
		"an unknown partition":    func(c *workload.Config) { c.Assigned = []int32{2} },
		"many partitions":         func(c *workload.Config) { c.MaxPartitions = 65 },
		"many records":            func(c *workload.Config) { c.MaxRecords = 1001 },
		"a large pad":             func(c *workload.Config) { c.Pad = history.MaxValue + 1 },
		"more than all":           func(c *workload.Config) { c.Aborts = 1.5 },
		"less than nothing":       func(c *workload.Config) { c.Steals = -0.1 },
		"a transfer to nobody":    func(c *workload.Config) { c.Kind, c.Output.Partitions = workload.Transfer, 1 },
		"an operator without ids": func(c *workload.Config) { c.Kind, c.IDs = workload.Operate, nil },
	} {
		cfg := good()
		spoil(&cfg)
		if err := workload.Run(t.Context(), workload.Env{}, cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
