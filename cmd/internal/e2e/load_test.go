package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
)

// pace is the pause between two rounds of every load, so that the nodes of a test
// machine with two cores have time for each other.
const pace = 5 * time.Millisecond

// load is traffic of every kind that goes on while a test does its worst, and the
// knowledge of what must come of it.
type load struct {
	t *testing.T
	w *world
	c *client.Client

	plain, a, b, out string // topics
	group            string

	stopped  context.Context // ends the writers between two rounds
	stop     context.CancelFunc
	reading  context.Context // ends Process and the live reader
	hush     context.CancelFunc
	writers  sync.WaitGroup
	followed sync.WaitGroup

	mu        sync.Mutex
	acked     map[string]place // plain records by value
	committed []string         // values of committed transactions, by topic a and b
	undone    map[string]bool  // values of aborted transactions
	seen      map[string]int   // by the live reader
	retried   int              // transactions that had to be started over
	errs      []error
	pauses    map[string]*gap
}

// place is where a record was acknowledged.
type place struct {
	partition int32
	offset    int64
}

// gap finds the longest time between two successes.
type gap struct {
	last    time.Time
	longest time.Duration
	count   int
}

// startLoad creates topics and begins to write, copy and read.
func startLoad(t *testing.T, w *world) *load {
	t.Helper()
	l := &load{
		t: t, w: w, c: w.client(t, client.WithClientID("load")),
		plain: w.topic(t, "plain", 3), a: w.topic(t, "a", 2), b: w.topic(t, "b", 2), out: w.topic(t, "out", 3),
		group: unique(t, "group"),
		acked: map[string]place{}, undone: map[string]bool{}, seen: map[string]int{}, pauses: map[string]*gap{},
	}
	l.stopped, l.stop = context.WithCancel(t.Context())
	l.reading, l.hush = context.WithCancel(t.Context())
	ctx := withPatience(t)
	idempotent, err := l.c.IdempotentProducer(ctx, client.WithLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.c.Consume(ctx, l.group, []string{l.plain}, client.WithManualAssignment(), client.WithMaxPollRecords(50))
	if err != nil {
		t.Fatal(err)
	}
	live, err := l.c.Consume(ctx, "", []string{l.a, l.b, l.out})
	if err != nil {
		t.Fatal(err)
	}
	transactional := producer(t, l.c, unique(t, "id"), client.WithLinger(0))
	copier := producer(t, l.c, unique(t, "copier"), client.WithLinger(0))
	l.writers.Go(func() { l.every("plain", func(i int) error { return l.writePlain(idempotent, i) }) })
	l.writers.Go(func() { l.every("transaction", func(i int) error { return l.writeTransaction(transactional, i) }) })
	l.followed.Go(func() { l.copy(in, copier) })
	l.followed.Go(func() { l.watch(live) })
	t.Cleanup(func() {
		l.stop()
		l.hush()
		l.writers.Wait()
		l.followed.Wait()
	})
	return l
}

// every repeats one kind of writing until the load is stopped or it fails.
func (l *load) every(kind string, write func(i int) error) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	l.success(kind)
	for i := 0; ; i++ {
		select {
		case <-l.stopped.Done():
			return
		case <-tick.C:
		}
		if err := write(i); err != nil {
			l.fail(kind, err)
			return
		}
		l.success(kind)
	}
}

func (l *load) success(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	g := l.pauses[kind]
	if g == nil {
		l.pauses[kind] = &gap{last: now}
		return
	}
	g.longest = max(g.longest, now.Sub(g.last))
	g.last = now
	g.count++
}

func (l *load) fail(kind string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, fmt.Errorf("%s: %w", kind, err))
}

// call returns the context of one call of a writer: it goes on when the load is
// stopped, so that no result is unknown.
func (l *load) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(l.t.Context()), patience)
}

func (l *load) writePlain(p *client.IdempotentProducer, i int) error {
	ctx, cancel := l.call()
	defer cancel()
	var some []*client.Record
	for j := range 3 {
		some = append(some, records(l.plain, fmt.Sprintf("plain-%06d-%d", i, j))...)
	}
	if err := p.Send(ctx, some...); err != nil {
		return err
	}
	if err := p.Flush(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range some {
		l.acked[string(r.Value)] = place{r.Partition, r.Offset}
	}
	return nil
}

// writeTransaction writes one transaction over two topics; every fourth is
// aborted.
func (l *load) writeTransaction(p *client.Producer, i int) error {
	ctx, cancel := l.call()
	defer cancel()
	tx, err := p.Begin(ctx)
	if err != nil {
		return err
	}
	var values []string
	for j := range 2 {
		values = append(values, fmt.Sprintf("a-%06d-%d", i, j), fmt.Sprintf("b-%06d-%d", i, j))
	}
	err = tx.Send(ctx, append(records(l.a, values[0], values[2]), records(l.b, values[1], values[3])...)...)
	if err == nil && i%4 == 3 {
		err = errors.Join(tx.Flush(ctx), tx.Abort(ctx))
		l.note(false, values)
		return err
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if client.ClassOf(err) == client.ClassAbortable {
		l.t.Logf("a transaction has to be started over: %v", err)
		l.mu.Lock()
		l.retried++
		l.mu.Unlock()
		l.note(false, values)
		return tx.Abort(ctx)
	}
	if err == nil {
		l.note(true, values)
	}
	return err
}

func (l *load) note(committed bool, values []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if committed {
		l.committed = append(l.committed, values...)
		return
	}
	for _, v := range values {
		l.undone[v] = true
	}
}

// copy is the read-process-write part: plain to out.
func (l *load) copy(in *client.Consumer, p *client.Producer) {
	l.success("copy")
	runs := 0
	err := client.Process(l.reading, in, p, func(tx *client.Tx, b *client.Batch) error {
		if runs++; runs > 1 {
			l.success("copy")
		}
		for r := range b.Records() {
			if err := tx.Send(l.reading, &client.Record{Topic: l.out, Key: r.Key, Value: r.Value}); err != nil {
				return err
			}
		}
		return nil
	}, client.WithMaxAttempts(0))
	if l.reading.Err() == nil {
		l.fail("copy", err)
	}
}

// watch is a reader that is there all the time.
func (l *load) watch(k *client.Consumer) {
	for {
		b, err := k.Poll(l.reading)
		if err != nil {
			if l.reading.Err() == nil {
				l.fail("live reader", err)
			}
			return
		}
		l.mu.Lock()
		for r := range b.Records() {
			l.seen[string(r.Value)]++
		}
		l.mu.Unlock()
	}
}

// healthy fails the test if some part of the load has failed.
func (l *load) healthy() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.errs...); err != nil {
		l.t.Fatalf("the load did not go on by itself: %v", err)
	}
}

// awaitProgress returns when every kind of load has had successes that began
// after the call.
func (l *load) awaitProgress() {
	l.t.Helper()
	counts := func() map[string]int {
		l.mu.Lock()
		defer l.mu.Unlock()
		c := map[string]int{}
		for kind, g := range l.pauses {
			c[kind] = g.count
		}
		return c
	}
	before := counts()
	eventually(l.t, "the load goes on", func() error {
		l.healthy()
		now := counts()
		for _, kind := range []string{"plain", "transaction", "copy"} {
			if now[kind] < before[kind]+3 {
				return fmt.Errorf("%s stands still", kind)
			}
		}
		return nil
	})
}

// finish ends the load and compares what is there with what was acknowledged.
func (l *load) finish() {
	t := l.t
	t.Helper()
	l.stop()
	l.writers.Wait()
	l.healthy()
	eventually(t, "the copy catches up", func() error {
		l.healthy()
		if n := l.w.groupTotal(t, l.group, l.plain, 3); n != int64(len(l.acked)) {
			return fmt.Errorf("%d of %d records are copied", n, len(l.acked))
		}
		return nil
	})
	want := len(l.committed) + len(l.acked)
	eventually(t, "the live reader catches up", func() error {
		l.healthy()
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.seen) < want {
			return fmt.Errorf("it has seen %d of %d records", len(l.seen), want)
		}
		return nil
	})
	l.hush()
	l.followed.Wait()
	l.verify()
	for _, kind := range slices.Sorted(maps.Keys(l.pauses)) {
		g := l.pauses[kind]
		t.Logf("%s: %d successes, longest pause %v", kind, g.count, g.longest.Round(time.Millisecond))
	}
	t.Logf("%d plain records, %d records of committed transactions, %d transactions started over", len(l.acked), len(l.committed), l.retried)
}

// verify checks that nothing is lost, nothing is there twice, and nothing that
// was aborted is shown, to a new client and to the live reader.
func (l *load) verify() {
	t := l.t
	t.Helper()
	c := l.w.client(t)
	for _, r := range l.w.read(t, c, client.ReadCommitted, l.plain) {
		p, ok := l.acked[string(r.Value)]
		if !ok {
			t.Errorf("%s was not acknowledged, or is there twice", r.Value)
			continue
		}
		if p.partition != r.Partition || p.offset != r.Offset && p.offset != -1 {
			t.Errorf("%s is at %d/%d, acknowledged at %v", r.Value, r.Partition, r.Offset, p)
		}
		delete(l.acked, string(r.Value))
		l.acked["copied:"+string(r.Value)] = p
	}
	var copied []string
	for v := range l.acked {
		if len(v) > 7 && v[:7] == "copied:" {
			copied = append(copied, v[7:])
		} else {
			t.Errorf("acknowledged and lost: %s", v)
		}
	}
	wantValues(t, "transactions", l.w.readCommitted(t, c, l.a, l.b), l.committed...)
	wantValues(t, "copy", l.w.readCommitted(t, c, l.out), copied...)
	for v, n := range l.seen {
		if n != 1 {
			t.Errorf("the live reader saw %s %d times", v, n)
		}
		if l.undone[v] {
			t.Errorf("the live reader saw %s, which was aborted", v)
		}
	}
	wantValues(t, "live reader", slices.Collect(maps.Keys(l.seen)), slices.Concat(l.committed, copied)...)
}
