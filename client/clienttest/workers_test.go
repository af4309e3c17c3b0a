package clienttest_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
)

var workerSeeds = flag.Uint64("worker-seeds", 3, "how many seeds TestWorkersUnderFaults runs, from -start on")

// Timeouts of the workers, which every pause is longer than.
const (
	workerSession     = 3 * time.Second
	workerTransaction = 2 * time.Second
	longerThanBoth    = 5 * time.Second
)

// workers are programs that read, process and write as a group while their hosts hang
// for longer than session and transaction may last, their wires are cut one way, their
// ids are taken by somebody else, they dawdle, and come and go.
type workers struct {
	w    *world
	rng  *rand.Rand
	seed uint64

	all  sync.WaitGroup
	now  []*worker
	next int

	dawdle atomic.Bool // the next batch takes longer than its transaction may
	tally  *tally
	stolen int
}

// tally counts how transactions of all seeds ended.
type tally struct{ fenced, timeout, stale atomic.Int64 }

// worker is one of them, on a host of its own.
type worker struct {
	name string
	stop context.CancelFunc
	left chan struct{} // closed when it has ended
}

// TestWorkersUnderFaults: whatever happens to them, the output has every record once,
// nobody hangs, and everybody ends soon after it was told to. The seed fixes what
// happens and when.
func TestWorkersUnderFaults(t *testing.T) {
	var ends tally
	t.Cleanup(func() {
		t.Logf("transactions fenced %d, timed out %d, of stale members %d", ends.fenced.Load(), ends.timeout.Load(), ends.stale.Load())
		if ends.fenced.Load() == 0 || ends.timeout.Load() == 0 || ends.stale.Load() == 0 {
			t.Error("some of it was never tried")
		}
	})
	for seed := *firstSeed; seed < *firstSeed+*workerSeeds; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, three, func(w *world) {
				w.output()
				x := &workers{w: w, rng: rand.New(rand.NewPCG(seed, 2)), seed: seed, tally: &ends}
				x.run()
			})
		})
	}
}

func (x *workers) run() {
	feed := x.w.producer(x.w.Client(), "feed")
	for range 3 {
		x.join()
	}
	for n := range 40 {
		x.w.write(feed, fmt.Sprint(n))
		x.strike()
		pass(time.Duration(100+x.rng.IntN(1500)) * time.Millisecond)
	}
	x.w.Heal()
	for _, k := range x.now {
		x.w.Host(k.name).Resume()
	}
	healed := time.Now()
	x.w.caughtUp()
	if took := time.Since(healed); took > time.Minute {
		x.w.t.Errorf("seed %d: it took %v to recover", x.seed, took)
	}
	for len(x.now) > 0 {
		x.leave(0)
	}
	x.all.Wait()
	x.w.copies()
	x.w.t.Logf("seed %d: %d workers, ids stolen %d", x.seed, x.next, x.stolen)
}

// strike lets something happen to a worker.
func (x *workers) strike() {
	i := x.rng.IntN(len(x.now))
	k := x.now[i]
	host := x.w.Host(k.name)
	lasts := longerThanBoth + time.Duration(x.rng.IntN(3000))*time.Millisecond
	nodes := x.w.servers()
	switch x.rng.IntN(8) {
	case 0, 1:
		host.Pause()
		time.AfterFunc(lasts, host.Resume)
	case 2:
		x.w.CutOneWay(host, pick(x.rng, nodes))
		time.AfterFunc(lasts, x.w.Heal)
	case 3:
		x.w.CutOneWay(pick(x.rng, nodes), host)
		time.AfterFunc(lasts, x.w.Heal)
	case 4:
		x.w.Break(host, pick(x.rng, nodes))
	case 5:
		x.steal(k.name)
	case 6:
		x.dawdle.Store(true)
	default:
		if len(x.now) > 2 {
			x.leave(i)
		} else {
			x.join()
		}
	}
}

// steal takes a worker's id over, writes under it, and goes without a word.
func (x *workers) steal(id string) {
	x.stolen++
	c := x.w.Client()
	p := x.w.producer(c, id, client.WithTransactionTimeout(workerTransaction))
	x.w.must(x.w.begin(p).Send(x.w.patient(), (&client.Record{Topic: "out", Value: []byte("stolen")}).WithPartition(0)))
	x.w.must(c.Close())
}

func (x *workers) join() {
	x.next++
	ctx, stop := context.WithCancel(x.w.t.Context())
	k := &worker{name: fmt.Sprint("worker-", x.next), stop: stop, left: make(chan struct{})}
	x.now = append(x.now, k)
	c := x.w.Host(k.name).Client(client.WithClientID(k.name), client.WithHooks(client.Hooks{TxEnded: x.ended}))
	x.all.Go(func() {
		defer close(k.left)
		for ctx.Err() == nil {
			if err := x.work(ctx, c, k.name); err != nil && ctx.Err() == nil {
				x.w.t.Logf("seed %d: %s begins anew: %v", x.seed, k.name, err)
			}
		}
	})
}

// leave tells a worker to end, and waits for it. Its connections may hang as they are:
// an abort and two words of good-bye are what it may take.
func (x *workers) leave(i int) {
	k := x.now[i]
	x.now = append(x.now[:i:i], x.now[i+1:]...)
	began := time.Now()
	k.stop()
	<-k.left
	if took := time.Since(began); took > 2*abortLimit {
		x.w.t.Errorf("seed %d: %s took %v to end", x.seed, k.name, took)
	}
}

// work is one life of a worker: it ends when its id was taken.
func (x *workers) work(ctx context.Context, c *client.Client, id string) error {
	out, err := c.InitTransactions(ctx, id, client.WithTransactionTimeout(workerTransaction))
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	in, err := c.Consume(ctx, "g", []string{"t"}, client.WithMaxPollRecords(5), client.WithSessionTimeout(workerSession))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
		if err := copied(ctx, tx, b); err != nil {
			return err
		}
		if x.dawdle.CompareAndSwap(true, false) {
			if err := tx.Flush(ctx); err != nil {
				return err
			}
			<-time.After(longerThanBoth)
		}
		return nil
	}, client.WithMaxAttempts(0))
}

func (x *workers) ended(e client.TxEvent) {
	switch {
	case e.Reason == "FENCED":
		x.tally.fenced.Add(1)
	case strings.Contains(e.Reason, "TIMEOUT"):
		x.tally.timeout.Add(1)
	case e.Reason == "STALE_MEMBER":
		x.tally.stale.Add(1)
	}
}
