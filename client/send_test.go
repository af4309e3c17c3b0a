package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// identical checks that every repetition of a batch had the same bytes under the
// same identity, in the same partition.
func identical(t *testing.T, seen []seenAppend) {
	t.Helper()
	first := make(map[string]seenAppend)
	for _, s := range seen {
		k := fmt.Sprint(s.ref, s.partition, s.base)
		if f, ok := first[k]; ok && !bytes.Equal(f.bytes, s.bytes) {
			t.Errorf("%s: repeated with other bytes", k)
		} else if !ok {
			first[k] = s
		}
	}
}

// Every way in which an append may fail and be repeated: the records are stored
// once, in order, and the repetition is identical (MT-44, SE-02).
func TestAppendsAreRepeatedUnchanged(t *testing.T) {
	for name, first := range map[string]fate{
		"not leader without a hint": {refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_NOT_LEADER, "")},
		"unavailable":               {refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNAVAILABLE, "")},
		"overloaded":                {refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OVERLOADED, "")},
		"unknown result":            {refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, "")},
		"unknown partition":         {refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION, "")},
		"stream broken before":      {lose: true},
		"stream broken after":       {swallow: true},
		"answered twice":            {twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				topic := f.topic("t", 1)
				p := f.producer(f.dial(), WithLinger(0), WithBatchSize(1))
				n := 0
				f.onAppend = func(string, *v1.AppendRequest) fate {
					n++
					if n%3 == 1 {
						return first
					}
					return fate{}
				}
				tx := f.begin(p)
				want := numbers(20)
				f.send(tx, want...)
				must(t, tx.Commit(within(t)))
				f.holds(topic.parts[0], want...)
				identical(t, f.seen())
			})
		})
	}
}

func TestLeaderHintIsFollowedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0))
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, tx.Flush(within(t)))
		f.lead(topic.parts[0], "n3")
		began := time.Now()
		f.send(tx, "b")
		must(t, tx.Flush(within(t)))
		if waited := time.Since(began); waited > 0 {
			t.Errorf("following the hint took %v", waited)
		}
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], "a", "b")
		identical(t, f.seen())
	})
}

func TestOldTermsAreIgnored(t *testing.T) {
	t.Parallel()
	var s shardMeta
	for _, step := range []struct {
		address   string
		term      uint64
		firsthand bool
		want      string
	}{
		{"n1", 5, false, "n1"},
		{"n2", 4, true, "n1"},  // left behind
		{"n2", 0, true, "n1"},  // no term: never overrides
		{"n2", 6, false, "n2"}, // newer
		{"n1", 6, true, "n1"},  // same term: there is one leader per term, so the word before was wrong
	} {
		s.learn(step.address, step.term, step.firsthand)
		if s.leader != step.want {
			t.Errorf("after %+v the leader is %q", step, s.leader)
		}
	}
	s.leader, s.gone = "", true
	if s.learn("n1", 6, false) {
		t.Error("hearsay brought a leader back that had stopped answering")
	}
	if !s.learn("n3", 0, true) || s.leader != "n3" || s.term != 6 {
		t.Errorf("a word without a term is better than nothing: %+v", s)
	}

	r := newCoordinator(nil, []string{"n1", "n2"})
	r.learn("n1", 3)
	r.learn("n2", 2)
	if r.target() != "n1" {
		t.Error("an older term overrode the coordinator's leader")
	}
}

// A leader dies and another one takes over, with records under way.
func TestLeaderDies(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0), WithBatchSize(1))
		tx := f.begin(p)
		f.send(tx, numbers(5)...)
		f.kill("n1")
		f.leadCoordinator("n2")
		f.send(tx, "5", "6")
		synctest.Wait()
		f.lead(topic.parts[0], "n2")
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], numbers(7)...)
		identical(t, f.seen())
	})
}

// A leader falls silent: long before the request times out it is asked whether
// another one leads by now.
func TestLeaderFallsSilent(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0))
		tx := f.begin(p)
		hold := make(chan struct{})
		defer close(hold)
		f.onAppend = func(node string, _ *v1.AppendRequest) fate {
			if node == "n1" {
				return fate{hold: hold}
			}
			return fate{}
		}
		f.send(tx, "a")
		synctest.Wait()
		f.lead(topic.parts[0], "n2")
		began := time.Now()
		must(t, tx.Commit(within(t)))
		if waited := time.Since(began); waited > 5*time.Second {
			t.Errorf("took %v", waited)
		}
		f.holds(topic.parts[0], "a")
	})
}

// A leader falls silent, and nobody says who leads: the request timeout ends the
// stream, and the other replicas are asked.
func TestSilenceWithoutNews(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(WithRequestTimeout(3*time.Second)), WithLinger(0))
		tx := f.begin(p)
		f.send(tx, "a")
		must(t, tx.Flush(within(t)))
		hold := make(chan struct{})
		defer close(hold)
		f.onAppend = func(node string, _ *v1.AppendRequest) fate {
			if node == "n1" {
				return fate{hold: hold}
			}
			return fate{}
		}
		f.onMeta = func(string, *v1.GetMetadataRequest) fate {
			return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OVERLOADED, "")}
		}
		f.lead(topic.parts[0], "n3")
		f.send(tx, "b")
		began := time.Now()
		must(t, tx.Commit(within(t)))
		if waited := time.Since(began); waited > 5*time.Second {
			t.Errorf("took %v", waited)
		}
		f.holds(topic.parts[0], "a", "b")
	})
}

// Out of order is the truth only for a batch with nothing before it (SE-06).
func TestOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0), WithBatchSize(1))
		tx := f.begin(p)
		lost := false
		f.onAppend = func(_ string, r *v1.AppendRequest) fate {
			// The first batch is lost in the log; its successors are refused before
			// that is known.
			if r.GetPartitions()[0].GetBaseSequence() == 0 && !lost {
				lost = true
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, "")}
			}
			return fate{}
		}
		f.send(tx, numbers(5)...)
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], numbers(5)...)

		f.onAppend = func(string, *v1.AppendRequest) fate {
			return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE, "")}
		}
		tx = f.begin(p)
		f.send(tx, "x")
		e := expect(t, tx.Commit(within(t)), ClassAbortable, nil)
		if e.Code != "OUT_OF_ORDER_SEQUENCE" {
			t.Errorf("code %s", e.Code)
		}
		must(t, tx.Abort(within(t)))
	})
}

// At no time may more batches of a partition be under way than allowed, and they
// travel in the order of their sequences (SE-01).
func TestMaxInFlight(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0), WithBatchSize(1), WithMaxInFlight(3))
		hold := make(chan struct{})
		f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
		tx := f.begin(p)
		f.send(tx, numbers(10)...)
		synctest.Wait()
		tx.w.mu.Lock()
		underway := tx.w.order[0].underway()
		tx.w.mu.Unlock()
		if underway != 3 {
			t.Errorf("%d under way", underway)
		}
		close(hold)
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], numbers(10)...)
		next := uint64(0)
		for _, s := range f.seen() {
			if s.base != next {
				t.Errorf("batch %d came when %d was next", s.base, next)
			}
			next++
		}
	})
}

func TestSendBlocksForBufferSpace(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(0), WithBufferMemory(1000))
		hold := make(chan struct{})
		f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
		tx := f.begin(p)
		large := strings.Repeat("x", 600)
		f.send(tx, large)
		sent := make(chan error)
		go func() { sent <- tx.Send(within(t), to(large)) }()
		synctest.Wait()
		select {
		case err := <-sent:
			t.Fatalf("Send did not wait: %v", err)
		default:
		}
		close(hold)
		must(t, <-sent)
		must(t, tx.Commit(within(t)))
		f.holds(topic.parts[0], large, large)
		if n := p.mem.taken(); n != 0 {
			t.Errorf("%d bytes are still taken", n)
		}

		// Waiting ends with the context, and dooms: the record is missing.
		hold = make(chan struct{})
		defer close(hold)
		tx = f.begin(p)
		f.send(tx, large)
		expect(t, tx.Send(soon(t, time.Second), to(large)), ClassAbortable, context.DeadlineExceeded)
		expect(t, tx.Commit(within(t)), ClassAbortable, context.DeadlineExceeded)
		must(t, tx.Abort(within(t)))
		if n := p.mem.taken(); n != 0 {
			t.Errorf("%d bytes are still taken", n)
		}
	})
}

func TestLingerSharesBatches(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		p := f.producer(f.dial(), WithLinger(5*time.Millisecond))
		tx := f.begin(p)
		f.send(tx, numbers(100)...)
		synctest.Wait()
		if n := len(f.seen()); n != 0 {
			t.Errorf("%d batches before the linger was over", n)
		}
		<-time.After(6 * time.Millisecond)
		synctest.Wait()
		if n := len(f.seen()); n != 1 {
			t.Errorf("%d batches after it", n)
		}
		began := time.Now()
		f.send(tx, "now")
		must(t, tx.Commit(within(t)))
		if waited := time.Since(began); waited > 0 {
			t.Errorf("Commit lingered %v", waited)
		}
	})
}

// A batch that is worth its overhead does not linger while its partition is idle, and
// does while something is under way.
func TestIdlePartitionsDoNotWaitForLinger(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		held := make(chan struct{})
		var arrived atomic.Int64
		f.onAppend = func(string, *v1.AppendRequest) fate {
			arrived.Add(1)
			return fate{hold: held}
		}
		p := f.producer(f.dial(), WithLinger(5*time.Millisecond))
		tx := f.begin(p)
		kilobyte := strings.Repeat("v", 1000)
		began := time.Now()
		for _, step := range []struct{ records, batches int64 }{{30, 0}, {10, 1}, {100, 1}} {
			for range step.records {
				f.send(tx, kilobyte)
			}
			synctest.Wait()
			if n := arrived.Load(); n != step.batches {
				t.Errorf("after %d more records: %d batches, want %d", step.records, n, step.batches)
			}
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it took %v", waited)
		}
		close(held)
		must(t, tx.Commit(within(t)))
		seen := f.seen()
		if len(seen) != 2 || len(seen[0].bytes) < promptBytes || len(seen[0].bytes) > 2*promptBytes {
			t.Errorf("%d batches, the first of %d bytes", len(seen), len(seen[0].bytes))
		}
	})
}

// Requests of many producers and partitions share frames; a request never names
// a partition twice.
func TestManyProducersManyPartitions(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 7)
		c := f.dial()
		rng := rand.New(rand.NewPCG(1, 2))
		f.onAppend = func(_ string, r *v1.AppendRequest) fate {
			named := make(map[uint64]bool)
			for _, p := range r.GetPartitions() {
				if named[p.GetPartition().GetPartitionId()] {
					t.Error("a request names a partition twice")
				}
				named[p.GetPartition().GetPartitionId()] = true
			}
			switch rng.IntN(12) {
			case 0:
				return fate{lose: true}
			case 1:
				return fate{swallow: true}
			case 2:
				return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, "")}
			}
			return fate{}
		}
		var all sync.WaitGroup
		for id := range 5 {
			all.Go(func() {
				p, err := c.InitTransactions(t.Context(), fmt.Sprint("id", id), WithBatchSize(200))
				if err != nil {
					t.Error(err)
					return
				}
				for n := range 4 {
					err := p.Transact(t.Context(), func(tx *Tx) error {
						for i := range 60 {
							r := &Record{Topic: "t", Value: fmt.Appendf(nil, "%d.%d.%02d", id, n, i)}
							if err := tx.Send(t.Context(), r.WithPartition(int32(i%7))); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		total := 0
		for _, p := range topic.parts {
			got := f.committed(p)
			total += len(got)
			byTx := make(map[string][]string)
			for _, v := range got {
				byTx[v[:3]] = append(byTx[v[:3]], v)
			}
			for tx, vs := range byTx {
				if !slices.IsSorted(vs) {
					t.Errorf("transaction %s is out of order: %v", tx, vs)
				}
			}
		}
		if total != 5*4*60 {
			t.Errorf("%d records, want %d", total, 5*4*60)
		}
		identical(t, f.seen())
	})
}

func TestIdempotentProducer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		topic := f.topic("t", 1)
		c := f.dial()
		p, err := c.IdempotentProducer(within(t), WithLinger(0), WithBatchSize(1))
		must(t, err)
		n := 0
		f.onAppend = func(string, *v1.AppendRequest) fate {
			n++
			return fate{swallow: n%4 == 0, lose: n%5 == 0}
		}
		for _, v := range numbers(10) {
			must(t, p.Send(within(t), to(v)))
		}
		// A refused record fails its call alone.
		expect(t, p.Send(within(t), to(strings.Repeat("x", 2<<20))), ClassAbortable, nil)
		r := to("10")
		must(t, p.Send(within(t), r))
		must(t, p.Flush(within(t)))
		if r.Offset != 10 {
			t.Errorf("offset %d", r.Offset)
		}
		var stored int
		for _, b := range topic.parts[0].log {
			stored += int(b.count)
		}
		if stored != 11 {
			t.Errorf("%d records stored", stored)
		}
		identical(t, f.seen())

		// A failed one leaves a gap in the sequences: the producer is finished.
		f.onAppend = func(string, *v1.AppendRequest) fate {
			return fate{refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, "")}
		}
		must(t, p.Send(within(t), to("11")))
		expect(t, p.Flush(within(t)), ClassFatal, nil)
		expect(t, p.Send(within(t), to("12")), ClassFatal, nil)
		expect(t, p.Close(), ClassFatal, nil) // tells that records were lost
		must(t, p.Close())
	})
}

// Flush waits for what was sent before it, not for what others send meanwhile.
func TestFlushHasAnEnd(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 2)
		c := f.dial()
		p, err := c.IdempotentProducer(within(t), WithLinger(0))
		must(t, err)
		hold := make(chan struct{})
		defer close(hold)
		must(t, p.Send(within(t), to("a")))
		synctest.Wait()
		f.onAppend = func(node string, _ *v1.AppendRequest) fate {
			if node == "n2" {
				return fate{hold: hold}
			}
			return fate{}
		}
		must(t, p.Send(within(t), to("b")))
		flushed := make(chan error, 1)
		go func() { flushed <- p.Flush(within(t)) }()
		synctest.Wait()
		must(t, p.Send(within(t), (&Record{Topic: "t"}).WithPartition(1)))
		must(t, <-flushed)
	})
}

func TestInitTransactionsRepeatsOneRequest(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.dial()
		f.producer(c)
		var ids []string
		f.onInit = func(_ string, r *v1.InitProducerRequest) fate {
			ids = append(ids, r.GetRequestId())
			return fate{swallow: len(ids) < 3}
		}
		p := f.producer(c)
		if p.id.Epoch != 1 {
			t.Errorf("epoch %d: the lost answers raised it, too", p.id.Epoch)
		}
		if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
			t.Errorf("request ids %v", ids)
		}
		for _, id := range []string{"", strings.Repeat("x", 250)} {
			_, err := c.InitTransactions(within(t), id)
			expect(t, err, ClassFatal, nil)
		}
	})
}

// Covers TX-09, AF-03 of CONFORMANCE.md.
func TestDialHonoursItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.kill("n1")
		f.kill("n2")
		f.kill("n3")
		began := time.Now()
		_, err := Dial(soon(t, 3*time.Second), []string{"n1"}, WithDialOptions())
		expect(t, err, ClassRetriable, context.DeadlineExceeded)
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("took %v", waited)
		}
		_, err = Dial(t.Context(), nil)
		expect(t, err, ClassFatal, nil)
	})
}

// taken returns what is in use.
func (m *memory) taken() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func TestMemoryIsFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(nil, 10)
		never := make(chan struct{})
		take := func(n int) int {
			got, err := m.acquire(t.Context(), never, n, func() {})
			must(t, err)
			return got
		}
		if take(8) != 8 {
			t.Fatal("empty buffer refused")
		}
		var order []int
		var mu sync.Mutex
		for _, n := range []int{9, 2} {
			go func() {
				take(n)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, n)
			}()
			synctest.Wait()
		}
		if len(order) != 0 {
			t.Errorf("%v did not wait", order)
		}
		m.release(8)
		synctest.Wait()
		if !slices.Equal(order, []int{9}) {
			t.Errorf("served %v", order)
		}
		m.release(9)
		synctest.Wait()
		if !slices.Equal(order, []int{9, 2}) {
			t.Errorf("served %v", order)
		}
		take(8)
		if _, err := m.acquire(soon(t, time.Second), never, 5, func() {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		m.release(10)
		if take(50) != 10 {
			t.Error("a record larger than the buffer should take all of it")
		}
	})
}
