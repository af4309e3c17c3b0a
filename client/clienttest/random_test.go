package clienttest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

var (
	firstSeed = flag.Uint64("start", 1, "first seed of TestRandomFaults")
	seeds     = flag.Uint64("seeds", 0, "how many seeds TestRandomFaults runs; 0: 3, and 1 with -short")
)

// TestRandomFaults has writers, processes that take an id from each other, readers
// that process, and a plain producer run while everything that can be broken is, at
// random, each seed with a mix of its own. Then all is healed, and what everybody
// was told must be what is there. The seed fixes the faults and their times, not
// the order in which goroutines run.
func TestRandomFaults(t *testing.T) {
	n := *seeds
	if n == 0 {
		if n = 3; testing.Short() {
			n = 1
		}
	}
	for seed := *firstSeed; seed < *firstSeed+n; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, three, func(w *world) {
				w.output()
				w.CreateTopic("plain", 1)
				newChaos(w, seed).run()
			})
		})
	}
}

// Lengths of a run.
const (
	faultsFor   = 40 * time.Second
	healsWithin = 2 * time.Minute
)

// chaos is one run.
type chaos struct {
	w    *world
	rng  *rand.Rand // of the faults
	seed uint64
	fork uint64

	stop chan struct{} // closed when everybody finishes what they are at
	work sync.WaitGroup

	mu       sync.Mutex
	fates    map[string]string // value to what its transaction was told: "committed", "not", "unknown"
	plain    []string          // values that were acknowledged, in order
	injected []*clienttest.Injected
	mending  []func() // ends of strikes that last
}

func newChaos(w *world, seed uint64) *chaos {
	return &chaos{
		w: w, rng: rand.New(rand.NewPCG(seed, 1)), seed: seed,
		stop: make(chan struct{}), fates: map[string]string{},
	}
}

func (x *chaos) run() {
	for _, id := range []string{"own-1", "own-2", "shared", "shared"} {
		x.fork++
		rng := rand.New(rand.NewPCG(x.seed, 100+x.fork))
		c, name := x.w.Host(fmt.Sprint("writer-", x.fork)).Client(), fmt.Sprintf("%s.%d", id, x.fork)
		x.work.Go(func() { x.write(c, id, name, rng) })
	}
	ctx, cancel := context.WithCancel(x.w.t.Context())
	var workers sync.WaitGroup
	for i := range 2 {
		c := x.w.Host(fmt.Sprint("worker-", i)).Client()
		workers.Go(func() { x.w.work(ctx, c) })
	}
	plain := x.w.Host("plain").Client()
	x.work.Go(func() { x.writePlain(plain) })

	for end := time.Now().Add(faultsFor); time.Now().Before(end); {
		x.fault()
		pass(x.between(20*time.Millisecond, 1500*time.Millisecond))
	}
	x.heal()
	close(x.stop)
	healed := time.Now()
	x.work.Wait()
	x.w.ExpireTransactions() // nobody may have settled the last ones
	x.w.caughtUp()
	if took := time.Since(healed); took > healsWithin {
		x.w.t.Errorf("seed %d: it took %v to recover", x.seed, took)
	}
	cancel()
	workers.Wait()
	x.check()
}

func (x *chaos) stopped() bool {
	select {
	case <-x.stop:
		return true
	default:
		return false
	}
}

func (x *chaos) between(least, most time.Duration) time.Duration {
	return least + time.Duration(x.rng.Int64N(int64(most-least)))
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// hosts are where clients run.
var hosts = []string{"writer-1", "writer-2", "writer-3", "writer-4", "worker-0", "worker-1", "plain"}

func (x *chaos) endpoint() clienttest.Endpoint {
	nodes := x.w.servers()
	if i := x.rng.IntN(len(nodes) + len(hosts)); i < len(nodes) {
		return nodes[i]
	}
	return x.w.Host(pick(x.rng, hosts))
}

// servers returns all nodes.
func (w *world) servers() []*clienttest.Node { return slices.Concat(w.Coordinators(), w.Nodes()) }

// fault lets something happen, or ends something.
func (x *chaos) fault() {
	switch x.rng.IntN(10) {
	case 0, 1, 2:
		s, n := pick(x.rng, strikes), pick(x.rng, x.w.servers())
		if s.name == "hands over" {
			return // it waits for somebody to take over, who may not be there
		}
		s.strike(x.w, n)
		x.mending = append(x.mending, func() { s.end(x.w, n) })
	case 3:
		h := x.w.Host(pick(x.rng, hosts))
		h.Pause()
		x.mending = append(x.mending, h.Resume)
	case 4:
		x.w.CutOneWay(x.endpoint(), x.endpoint())
	case 5:
		x.w.Break(x.endpoint(), x.endpoint())
	case 6, 7:
		x.injected = append(x.injected, x.w.Inject(x.message()))
	default:
		x.mend()
	}
	for len(x.mending) > 3 {
		x.mend()
	}
}

// mend ends the oldest strike, and now and then all cuts.
func (x *chaos) mend() {
	if len(x.mending) > 0 {
		x.mending[0]()
		x.mending = x.mending[1:]
	}
	if x.rng.IntN(2) == 0 {
		x.w.Heal()
	}
}

// message is a fault of calls.
func (x *chaos) message() clienttest.Fault {
	f := clienttest.Fault{
		Method: pick(x.rng, []string{
			"AppendStream", "AppendStream", "EndTransaction", "EndTransaction", "EndTransaction", "InitProducer", "Fetch",
			"CommitOffsets", "AssignPartitions", "GetMetadata", "WriteMarkers", "WriteMarkers", "Enlist", "Heartbeat", "GetOutcome",
		}),
		Answer: x.rng.IntN(2) == 0, Times: 1 + x.rng.IntN(6), Skip: x.rng.IntN(4),
	}
	switch x.rng.IntN(5) {
	case 0, 1:
		f.Silent = f.Method != "Fetch" // a stream that loses a message must break, else nobody notices
	case 2:
		f.Delay = x.between(time.Millisecond, 12*time.Second)
	case 3:
		f.Hold = true // until the end
	}
	if f.Hold || f.Delay > 0 {
		f.Times = 1
	}
	if x.rng.IntN(4) == 0 {
		f.Err = status.Error(codes.Internal, "nobody knows why")
	}
	return f
}

func (x *chaos) heal() {
	for len(x.mending) > 0 {
		x.mend()
	}
	x.w.Heal()
	for _, in := range x.injected {
		in.Remove()
	}
	for _, n := range x.w.servers() {
		n.Resume()
		n.Start()
	}
}

// write runs transactions under an id, and takes it over again when it was taken.
func (x *chaos) write(c *client.Client, id, name string, rng *rand.Rand) {
	for n := 0; !x.stopped(); {
		p, err := c.InitTransactions(x.w.within(10*time.Minute), id, client.WithTransactionTimeout(5*time.Second))
		if err != nil && !errors.Is(err, client.ErrFenced) { // somebody else came at the same time
			x.w.t.Errorf("seed %d: take %s over: %v", x.seed, id, err)
			return
		}
		for err == nil && !x.stopped() {
			n++
			if err = x.transaction(p, fmt.Sprintf("%s.%d", name, n), rng); client.ClassOf(err) == client.ClassAbortable {
				err = nil
			}
		}
		<-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond)
	}
}

// transaction writes a value to every partition and notes what it was told.
func (x *chaos) transaction(p *client.Producer, v string, rng *rand.Rand) error {
	tx, err := p.Begin(x.w.t.Context())
	if err != nil {
		return err
	}
	ctx := x.w.within(time.Duration(1+rng.IntN(20)) * time.Second)
	err = tx.Send(ctx, record(0, v), record(1, v), record(2, v))
	<-time.After(time.Duration(rng.IntN(300)) * time.Millisecond)
	if err == nil && rng.IntN(8) > 0 {
		err = tx.Commit(ctx)
		if errors.Is(err, client.ErrOutcomeUnknown) && rng.IntN(2) == 0 {
			err = tx.Commit(x.w.within(10 * time.Minute))
		}
		switch {
		case err == nil:
			return x.told(v, "committed", nil)
		case errors.Is(err, client.ErrOutcomeUnknown):
			x.told(v, "unknown", nil)
			return err // it takes over again, which settles it
		}
	}
	var e *client.Error
	if errors.As(err, &e) && e.Outcome == client.OutcomeForgotten {
		return x.told(v, "unknown", err)
	}
	_ = tx.Abort(ctx)
	return x.told(v, "not", err)
}

func (x *chaos) told(v, fate string, err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fates[v] = fate
	return err
}

// writePlain writes without transactions.
func (x *chaos) writePlain(c *client.Client) {
	p, err := c.IdempotentProducer(x.w.within(10*time.Minute), client.WithDeliveryTimeout(10*time.Minute))
	x.w.must(err)
	for n := 0; !x.stopped(); n++ {
		v := fmt.Sprint(n)
		if err := p.Send(x.w.within(10*time.Minute), &client.Record{Topic: "plain", Value: []byte(v)}); err != nil {
			x.w.t.Errorf("seed %d: plain send: %v", x.seed, err)
			return
		}
		x.plain = append(x.plain, v)
		<-time.After(50 * time.Millisecond)
	}
	if err := p.Flush(x.w.within(10 * time.Minute)); err != nil {
		x.w.t.Errorf("seed %d: plain flush: %v", x.seed, err)
	}
}

// check compares what is there with what everybody was told.
func (x *chaos) check() {
	seen := map[string][3]int{}
	last := map[string]int{} // per writer and partition
	for _, r := range x.w.Records("t") {
		v := string(r.Value)
		counts := seen[v]
		counts[r.Partition]++
		seen[v] = counts
		dot := strings.LastIndexByte(v, '.')
		var n int
		if _, err := fmt.Sscan(v[dot+1:], &n); err != nil {
			x.w.t.Fatal(err)
		}
		key := fmt.Sprint(v[:dot], " ", r.Partition)
		if n <= last[key] {
			x.w.t.Errorf("seed %d: %s follows %d in partition %d", x.seed, v, last[key], r.Partition)
		}
		last[key] = n
	}
	tally := map[string]int{}
	for v, fate := range x.fates {
		tally[fate]++
		all, none := [3]int{1, 1, 1}, [3]int{}
		if got := seen[v]; got != all && (got != none || fate == "committed") || got == all && fate == "not" {
			x.w.t.Errorf("seed %d: %s was told %q, and is there %v times", x.seed, v, fate, got)
		}
		delete(seen, v)
	}
	for v := range seen {
		x.w.t.Errorf("seed %d: %s was never told anything", x.seed, v)
	}
	var plain []string
	for _, r := range x.w.Records("plain") {
		plain = append(plain, string(r.Value))
	}
	if !slices.Equal(plain, x.plain) {
		x.w.t.Errorf("seed %d: plain records %q, want %q", x.seed, plain, x.plain)
	}
	x.w.copies()
	hits := 0
	for _, in := range x.injected {
		hits += in.Hits()
	}
	x.w.t.Logf("seed %d: transactions %v, plain records %d, messages hit %d", x.seed, tally, len(plain), hits)
	if tally["committed"] == 0 || tally["not"] == 0 {
		x.w.t.Errorf("seed %d: transactions %v: nothing was tried", x.seed, tally)
	}
}
