package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// scenario is a test that is named after those of Kafka's producer that it
// answers; the ids are those of CONFORMANCE.md at the repository's root.
type scenario struct {
	name string
	test func(t *testing.T, f *fake)
}

func play(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { bubble(t, s.test) })
	}
}

// refuse is a fate that answers every request with an error.
func refuse(code v1.ErrorCode, kv ...string) fate {
	return fate{refuse: apierrors.New(code, "", kv...)}
}

// commits returns how many commits were sent.
func (f *fake) commits() int {
	n := 0
	for _, e := range f.ended() {
		if e.GetCommit() {
			n++
		}
	}
	return n
}

func TestScenariosOfEnding(t *testing.T) {
	play(t, []scenario{
		{"MT-02 MT-60 MT-61 SE-16 the end is not sent before every record is acknowledged", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			p := f.producer(f.dial(), WithLinger(time.Hour))
			hold := make(chan struct{})
			f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
			tx := f.begin(p)
			f.send(tx, "a", "b")
			done := make(chan error, 1)
			go func() { done <- tx.Commit(within(t)) }()
			synctest.Wait()
			if n := len(f.ended()); n != 0 {
				t.Errorf("%d ends with records under way", n)
			}
			close(hold)
			must(t, <-done)
			f.holds(topic.parts[0], "a", "b")
		}},
		{"MT-17 MT-20 MT-55 MT-56 a transaction is its appends and one EndTransaction", func(t *testing.T, f *fake) {
			topic := f.topic("t", 3)
			p := f.producer(f.dial())
			for range 2 { // sequences begin at 0 again in the second
				before := len(f.seen())
				tx := f.begin(p)
				for i := range 9 {
					must(t, tx.Send(within(t), (&Record{Topic: "t", Value: []byte("v")}).WithPartition(int32(i%3))))
				}
				must(t, tx.Commit(within(t)))
				seen := f.seen()[before:]
				if len(seen) != 3 {
					t.Errorf("%d batches for 3 partitions", len(seen))
				}
				for _, s := range seen {
					if s.base != 0 || s.ref != keyOf(tx.ID().ref()) {
						t.Errorf("a batch of %v begins at %d", s.ref, s.base)
					}
				}
			}
			for call, want := range map[string]int{"InitProducer": 1, "EndTransaction": 2, "GetOutcome": 0} {
				if n := f.count(call); n != want {
					t.Errorf("%d calls of %s, want %d", n, call, want)
				}
			}
			f.holds(topic.parts[0], "v", "v", "v", "v", "v", "v")
		}},
		{"MT-72 a record that expires while Commit waits keeps the commit from being sent", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			p := f.producer(f.dial(), WithDeliveryTimeout(2*time.Second))
			f.onAppend = func(string, *v1.AppendRequest) fate { return refuse(v1.ErrorCode_ERROR_CODE_OVERLOADED) }
			tx := f.begin(p)
			f.send(tx, "a")
			e := expect(t, tx.Commit(within(t)), ClassAbortable, nil)
			if e.Code != codeDeliveryTimeout || e.Outcome != OutcomeOpen || f.commits() != 0 {
				t.Errorf("%v, outcome %v, %d commits", e, e.Outcome, f.commits())
			}
			must(t, tx.Abort(within(t)))
			f.holds(topic.parts[0])
		}},
		{"MT-71 SE-05 records that expire in several partitions doom their transaction only", func(t *testing.T, f *fake) {
			topic := f.topic("t", 2)
			p := f.producer(f.dial(), WithDeliveryTimeout(time.Second))
			f.onAppend = func(string, *v1.AppendRequest) fate { return refuse(v1.ErrorCode_ERROR_CODE_UNAVAILABLE) }
			tx := f.begin(p)
			for i := range 2 {
				must(t, tx.Send(within(t), (&Record{Topic: "t"}).WithPartition(int32(i))))
			}
			if e := expect(t, tx.Flush(within(t)), ClassAbortable, nil); e.Code != codeDeliveryTimeout {
				t.Errorf("%v", e)
			}
			must(t, tx.Abort(within(t)))
			f.onAppend = nil
			tx = f.begin(p)
			f.send(tx, "b")
			must(t, tx.Commit(within(t)))
			f.holds(topic.parts[0], "b")
		}},
		{"MT-41 MT-62 MT-65 an abort of records that never left asks nobody", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			p := f.producer(f.dial(), WithLinger(time.Hour))
			tx := f.begin(p)
			f.send(tx, "a", "b")
			must(t, tx.Abort(within(t)))
			if n, m := len(f.seen()), len(f.ended()); n+m != 0 {
				t.Errorf("%d batches and %d ends were sent", n, m)
			}
			if n := p.mem.taken(); n != 0 {
				t.Errorf("%d bytes are still taken", n)
			}
		}},
		{"MT-43 MT-63 MT-64 MT-70 SE-18 an abort does not wait for records under way, and repeats them no more", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			p := f.producer(f.dial(), WithLinger(0))
			f.onAppend = func(string, *v1.AppendRequest) fate { return refuse(v1.ErrorCode_ERROR_CODE_OVERLOADED) }
			tx := f.begin(p)
			f.send(tx, "a")
			flushed := make(chan error, 1)
			go func() { flushed <- tx.Flush(within(t)) }()
			synctest.Wait()
			began := time.Now()
			must(t, tx.Abort(within(t)))
			if waited := time.Since(began); waited > time.Second {
				t.Errorf("the abort took %v", waited)
			}
			expect(t, <-flushed, ClassFatal, ErrTxDone)
			if ends := f.ended(); len(ends) != 1 || len(ends[0].GetPartitions()) != 1 {
				t.Errorf("the abort does not name what may have arrived: %v", ends)
			}
			synctest.Wait()
			before := len(f.seen())
			<-time.After(10 * time.Second)
			if n := len(f.seen()); n != before {
				t.Errorf("%d appends after the abort", n-before)
			}
			f.holds(topic.parts[0])
		}},
		{"MT-59 what fails while an abort is under way does not fail the abort", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			p := f.producer(f.dial(), WithLinger(0))
			hold := make(chan struct{})
			f.onAppend = func(string, *v1.AppendRequest) fate {
				return fate{hold: hold, refuse: apierrors.New(v1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, "")}
			}
			f.onEnd = func(string, *v1.EndTransactionRequest) fate { return fate{hold: hold} }
			tx := f.begin(p)
			f.send(tx, "a")
			synctest.Wait()
			done := make(chan error, 1)
			go func() { done <- tx.Abort(within(t)) }()
			synctest.Wait()
			close(hold)
			must(t, <-done)
			must(t, f.begin(p).Abort(within(t)))
		}},
		{"MT-01 SE-17 closing while a commit is under way waits for the commit", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			p := f.producer(f.dial())
			hold := make(chan struct{})
			f.onEnd = func(string, *v1.EndTransactionRequest) fate { return fate{hold: hold} }
			tx := f.begin(p)
			f.send(tx, "a")
			committed, closed := make(chan error, 1), make(chan error, 1)
			go func() { committed <- tx.Commit(within(t)) }()
			synctest.Wait()
			go func() { closed <- p.Close() }()
			synctest.Wait()
			select {
			case err := <-closed:
				t.Errorf("closed with a commit under way: %v", err)
			default:
			}
			close(hold)
			must(t, <-committed)
			must(t, <-closed)
			f.holds(topic.parts[0], "a")
		}},
		{"MT-06 the next transaction begins when this one has ended, and not before", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			p := f.producer(f.dial())
			var tx *Tx
			busy := func(when string) {
				t.Helper()
				if _, err := p.Begin(within(t)); !errors.Is(err, ErrTxOpen) {
					t.Errorf("%s: %v", when, err)
				}
			}
			tx = f.begin(p)
			busy("open")
			f.send(tx, "a")
			must(t, tx.Flush(within(t)))
			f.onEnd = func(string, *v1.EndTransactionRequest) fate { return fate{lose: true} }
			expect(t, tx.Commit(soon(t, time.Second)), ClassRetriable, ErrOutcomeUnknown)
			busy("outcome unknown")
			synctest.Wait()
			f.onEnd = nil
			must(t, tx.Commit(within(t)))

			tx = f.begin(p)
			f.send(tx, "b")
			f.onAppend = func(string, *v1.AppendRequest) fate { return refuse(v1.ErrorCode_ERROR_CODE_CORRUPT_BATCH) }
			expect(t, tx.Commit(within(t)), ClassAbortable, nil)
			busy("doomed")
			must(t, tx.Abort(within(t)))
			must(t, f.begin(p).Abort(within(t)))
		}},
		{"TM1-01 SE-15 one batch under way at a time is enough", func(t *testing.T, f *fake) {
			a, b := f.topic("t", 1), f.topic("u", 1)
			p := f.producer(f.dial(), WithMaxInFlight(1), WithLinger(0), WithBatchSize(1))
			for _, commit := range []bool{false, true} {
				tx := f.begin(p)
				f.send(tx, "1", "2", "3")
				must(t, tx.Send(within(t), &Record{Topic: "u", Value: []byte("4")}))
				if !commit {
					must(t, tx.Abort(within(t)))
					continue
				}
				must(t, tx.Commit(within(t)))
			}
			f.holds(a.parts[0], "1", "2", "3")
			f.holds(b.parts[0], "4")
		}},
	})
}

// TestScenariosOfSilence has what is lost, late or never answered.
func TestScenariosOfSilence(t *testing.T) {
	list := []scenario{
		{"TX-09 KP-02 KP-06 InitTransactions without a cluster ends with its context and can be repeated", func(t *testing.T, f *fake) {
			c := f.dial()
			f.onInit = func(string, *v1.InitProducerRequest) fate { return fate{lose: true} }
			_, err := c.InitTransactions(soon(t, time.Second), "id")
			expect(t, err, ClassRetriable, context.DeadlineExceeded)
			synctest.Wait()
			f.onInit = nil
			p := f.producer(c)
			must(t, f.begin(p).Commit(within(t)))
		}},
		{"MT-67 KP-01 an answer to InitTransactions that comes too late does no harm", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			c := f.dial()
			hold := make(chan struct{})
			f.onInit = func(string, *v1.InitProducerRequest) fate { return fate{hold: hold} }
			_, err := c.InitTransactions(soon(t, time.Second), "id")
			expect(t, err, ClassRetriable, context.DeadlineExceeded)
			synctest.Wait()
			f.onInit = nil
			p := f.producer(c)
			close(hold) // what was asked first is handled now, if anybody still waits
			synctest.Wait()
			tx := f.begin(p)
			f.send(tx, "a")
			must(t, tx.Commit(within(t)))
			f.holds(topic.parts[0], "a")
		}},
		{"KP-10 closing the client ends an InitTransactions that waits", func(t *testing.T, f *fake) {
			c := f.dial()
			hold := make(chan struct{})
			defer close(hold)
			f.onInit = func(string, *v1.InitProducerRequest) fate { return fate{hold: hold} }
			done := make(chan error, 1)
			go func() {
				_, err := c.InitTransactions(within(t), "id")
				done <- err
			}()
			synctest.Wait()
			began := time.Now()
			must(t, c.Close())
			expect(t, <-done, ClassFatal, ErrClosed)
			if waited := time.Since(began); waited > time.Second {
				t.Errorf("took %v", waited)
			}
		}},
		{"TX-10 TX-11 TX-12 MT-68 commit and abort without a cluster end in time and say what they know", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			p := f.producer(f.dial(), WithLinger(0))
			tx := f.begin(p)
			f.send(tx, "a")
			must(t, tx.Flush(within(t)))
			for _, node := range []string{"n1", "n2", "n3"} {
				f.kill(node)
			}
			err := tx.Commit(soon(t, 3*time.Second))
			if !errors.Is(err, context.DeadlineExceeded) || ClassOf(err) == ClassFatal {
				t.Errorf("commit: %v", err)
			}
			began := time.Now()
			if err := tx.Abort(t.Context()); ClassOf(err) != ClassRetriable {
				t.Errorf("abort: %v", err)
			}
			if waited := time.Since(began); waited > abortLimit+time.Second {
				t.Errorf("the abort took %v", waited)
			}
			must(t, p.Close())
		}},
		{"MT-12 a second InitTransactions of one id finishes the first producer", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			c := f.dial()
			first := f.producer(c)
			open := f.begin(first)
			f.send(open, "a")
			must(t, open.Flush(within(t)))
			second := f.producer(c)
			expect(t, open.Commit(within(t)), ClassFatal, ErrFenced)
			_, err := first.Begin(within(t))
			expect(t, err, ClassFatal, ErrFenced)
			tx := f.begin(second)
			f.send(tx, "b")
			must(t, tx.Commit(within(t)))
			f.holds(topic.parts[0], "b")
		}},
	}
	// Every call, with everything after which it is sent again.
	for name, ft := range map[string]fate{
		"NOT_LEADER":     refuse(v1.ErrorCode_ERROR_CODE_NOT_LEADER),
		"UNAVAILABLE":    refuse(v1.ErrorCode_ERROR_CODE_UNAVAILABLE),
		"OVERLOADED":     refuse(v1.ErrorCode_ERROR_CODE_OVERLOADED),
		"UNKNOWN_RESULT": refuse(v1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT),
		"THROTTLED":      refuse(v1.ErrorCode_ERROR_CODE_THROTTLED),
		"lost requests":  {lose: true},
		"lost answers":   {swallow: true},
	} {
		list = append(list, scenario{"MT-50 MT-13 MT-14 MT-45 every call goes on after " + name, func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			c := f.dial()
			calls := map[string]int{}
			strike := func(call string) fate {
				if calls[call]++; calls[call] <= 3 {
					return ft
				}
				return fate{}
			}
			f.onInit = func(string, *v1.InitProducerRequest) fate { return strike("init") }
			f.onMeta = func(string, *v1.GetMetadataRequest) fate { return strike("metadata") }
			f.onAppend = func(string, *v1.AppendRequest) fate { return strike("append") }
			f.onEnd = func(string, *v1.EndTransactionRequest) fate { return strike("end") }
			p := f.producer(c)
			tx := f.begin(p)
			f.send(tx, "a")
			must(t, tx.Commit(within(t)))
			f.holds(topic.parts[0], "a")
			synctest.Wait()
			for _, call := range []string{"init", "metadata", "append", "end"} {
				if calls[call] < 4 {
					t.Errorf("%d calls of %s", calls[call], call)
				}
			}
			identical(t, f.seen())
		}})
	}
	play(t, list)
}

func TestScenariosOfArguments(t *testing.T) {
	play(t, []scenario{
		{"KP-09 configurations that cannot work are refused before anything is sent", func(t *testing.T, f *fake) {
			c := f.dial()
			for name, o := range map[string]ProducerOption{
				"no timeout": WithTransactionTimeout(0), "a short one": WithTransactionTimeout(time.Millisecond),
				"a long one": WithTransactionTimeout(time.Hour), "no delivery": WithDeliveryTimeout(0),
				"negative linger": WithLinger(-1), "no batch": WithBatchSize(0), "a large one": WithBatchSize(maxBatchBytes + 1),
				"no buffer": WithBufferMemory(0), "none in flight": WithMaxInFlight(0),
				"more in flight than a partition remembers": WithMaxInFlight(17), "no partitioner": WithPartitioner(nil),
			} {
				_, err := c.InitTransactions(within(t), "id", o)
				if e := expect(t, err, ClassFatal, nil); e.Code != codeInvalidArgument {
					t.Errorf("%s: %v", name, err)
				}
				_, err = c.IdempotentProducer(within(t), o)
				expect(t, err, ClassFatal, nil)
			}
			if n := f.count("InitProducer"); n != 0 {
				t.Errorf("%d producers were asked for", n)
			}
		}},
		{"KP-05 offsets of no batch, and of a consumer without a group, are refused", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			c := f.dial()
			seed, err := c.IdempotentProducer(within(t))
			must(t, err)
			must(t, seed.Send(within(t), to("a")))
			must(t, seed.Flush(within(t)))
			k, err := c.Consume(within(t), "", []string{"t"})
			must(t, err)
			b, err := k.Poll(within(t))
			must(t, err)
			p := f.producer(c)
			for _, bad := range []*Batch{nil, {}, b} {
				tx := f.begin(p)
				e := expect(t, tx.SendOffsets(within(t), bad), ClassFatal, nil)
				if e.Code != codeInvalidArgument {
					t.Errorf("%v", e)
				}
				expect(t, tx.Commit(within(t)), ClassFatal, nil) // without the offsets it must not succeed
				must(t, tx.Abort(within(t)))
			}
		}},
		{"KP-08 the partition that is chosen is the one that is written and committed", func(t *testing.T, f *fake) {
			topic := f.topic("t", 5)
			p := f.producer(f.dial(), WithLinger(0), WithBatchSize(200))
			tx := f.begin(p)
			var rs []*Record
			for range 200 {
				rs = append(rs, &Record{Topic: "t", Value: []byte(strings.Repeat("v", 20))})
			}
			must(t, tx.Send(within(t), rs...))
			must(t, tx.Commit(within(t)))
			count := map[int32]uint64{}
			for _, r := range rs {
				count[r.Partition]++
			}
			ends := f.ended()
			stated := map[int32]uint64{}
			for _, pp := range ends[len(ends)-1].GetPartitions() {
				stated[int32(slices.IndexFunc(topic.parts, func(x *fakePartition) bool {
					return x.id == pp.GetPartition().GetPartitionId()
				}))] = pp.GetNextSequence()
			}
			if fmt.Sprint(count) != fmt.Sprint(stated) {
				t.Errorf("written %v, committed %v", count, stated)
			}
		}},
		{"KP-07 MT-03 nothing can be added to what has ended", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			p := f.producer(f.dial())
			tx := f.begin(p)
			must(t, tx.Commit(within(t)))
			expect(t, tx.Send(within(t), to("a")), ClassFatal, ErrTxDone)
			must(t, p.Close())
			_, err := p.Begin(within(t))
			expect(t, err, ClassFatal, ErrClosed)
		}},
	})
}
