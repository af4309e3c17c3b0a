package client

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestScenariosOfRefusals(t *testing.T) {
	var list []scenario
	// What an append may be refused with, and what is left to do then.
	for _, c := range []struct {
		ids   string
		fate  fate
		class Class
		ends  bool // the producer is finished
	}{
		{"MT-48 SE-19", refuse(v1.ErrorCode_ERROR_CODE_TXN_ENDED, apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "TIMEOUT"), ClassAbortable, false},
		{"MT-49", refuse(v1.ErrorCode_ERROR_CODE_TXN_ENDED, apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "ADMIN"), ClassAbortable, false},
		{"MT-49", refuse(v1.ErrorCode_ERROR_CODE_STALE_TXN), ClassAbortable, false},
		{"SE-07", refuse(v1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE), ClassAbortable, false},
		{"SE-03", refuse(v1.ErrorCode_ERROR_CODE_CORRUPT_BATCH), ClassAbortable, false},
		{"SE-04", refuse(v1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE), ClassAbortable, false},
		{"MT-47 MT-05", refuse(v1.ErrorCode_ERROR_CODE_FENCED), ClassFatal, true},
		{"MT-47", refuse(v1.ErrorCode_ERROR_CODE_TXN_ENDED, apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "FENCED"), ClassFatal, true},
		{"MT-05 SE-13", refuse(v1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN), ClassFatal, true},
		{"MT-05 MT-51", refuse(v1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER), ClassFatal, true},
	} {
		reason := c.fate.refuse.Metadata[apierrors.KeyReason]
		name := strings.TrimSpace(fmt.Sprintf("%s %s %s in an append is %v", c.ids, apierrors.Name(c.fate.refuse.Code), reason, c.class))
		list = append(list, scenario{name, func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			p := f.producer(f.dial())
			tx := f.begin(p)
			f.onAppend = func(string, *v1.AppendRequest) fate { return c.fate }
			f.send(tx, "a")
			first := expect(t, tx.Flush(within(t)), c.class, nil)
			for what, err := range map[string]error{"send": tx.Send(within(t), to("b")), "commit": tx.Commit(within(t))} {
				if again := expect(t, err, c.class, nil); again.Code != first.Code {
					t.Errorf("%s after %s says %s", what, first.Code, again.Code)
				}
			}
			if f.commits() != 0 {
				t.Error("a commit was sent")
			}
			must(t, tx.Abort(within(t)))
			f.onAppend = nil
			next, err := p.Begin(within(t))
			if c.ends {
				expect(t, err, ClassFatal, nil)
				f.holds(topic.parts[0])
				return
			}
			must(t, err)
			f.send(next, "c")
			must(t, next.Commit(within(t)))
			f.holds(topic.parts[0], "c")
		}})
	}
	list = append(list,
		scenario{"MT-47 FENCED in InitTransactions", func(t *testing.T, f *fake) {
			f.onInit = func(string, *v1.InitProducerRequest) fate { return refuse(v1.ErrorCode_ERROR_CODE_FENCED) }
			_, err := f.dial().InitTransactions(within(t), "id")
			expect(t, err, ClassFatal, ErrFenced)
		}},
		scenario{"MT-47 FENCED in an abort ends the producer and not the abort", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			p := f.producer(f.dial())
			tx := f.begin(p)
			f.send(tx, "a")
			must(t, tx.Flush(within(t)))
			f.onEnd = func(string, *v1.EndTransactionRequest) fate { return refuse(v1.ErrorCode_ERROR_CODE_FENCED) }
			must(t, tx.Abort(within(t)))
			_, err := p.Begin(within(t))
			expect(t, err, ClassFatal, ErrFenced)
		}},
		scenario{"SE-11 SE-12 UNKNOWN_PRODUCER finishes an idempotent producer and is told", func(t *testing.T, f *fake) {
			f.topic("t", 1)
			p, err := f.dial().IdempotentProducer(within(t), WithLinger(0))
			must(t, err)
			must(t, p.Send(within(t), to("a")))
			must(t, p.Flush(within(t)))
			f.onAppend = func(string, *v1.AppendRequest) fate { return refuse(v1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER) }
			must(t, p.Send(within(t), to("b")))
			if e := expect(t, p.Flush(within(t)), ClassFatal, nil); e.Code != "UNKNOWN_PRODUCER" {
				t.Errorf("%v", e)
			}
			expect(t, p.Send(within(t), to("c")), ClassFatal, nil)
			expect(t, p.Close(), ClassFatal, nil)
		}},
		scenario{"SE-10 SE-20 a repetition that is found stored is a success at its offset", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			p := f.producer(f.dial(), WithLinger(0))
			n := 0
			f.onAppend = func(string, *v1.AppendRequest) fate {
				n++
				return fate{swallow: n == 1, twice: n == 2}
			}
			tx := f.begin(p)
			var rs []*Record
			for _, v := range numbers(3) {
				r := to(v)
				rs = append(rs, r)
				must(t, tx.Send(within(t), r))
				must(t, tx.Flush(within(t)))
			}
			must(t, tx.Commit(within(t)))
			for i, r := range rs {
				if r.Offset != int64(i) {
					t.Errorf("record %d is at %d", i, r.Offset)
				}
			}
			f.holds(topic.parts[0], numbers(3)...)
		}},
		scenario{"SE-14 records that make more than one batch keep their sequences dense", func(t *testing.T, f *fake) {
			topic := f.topic("t", 1)
			p := f.producer(f.dial(), WithLinger(time.Hour), WithBatchSize(1000))
			tx := f.begin(p)
			var want []string
			for i := range 50 {
				want = append(want, fmt.Sprint(i, strings.Repeat("x", 100)))
			}
			f.send(tx, want...)
			must(t, tx.Commit(within(t)))
			f.holds(topic.parts[0], want...)
			next, seen := uint64(0), f.seen()
			for i, b := range topic.parts[0].log {
				if b.seq != next {
					t.Errorf("batch %d begins at %d, want %d", i, b.seq, next)
				}
				next += b.count
			}
			if len(seen) < 5 {
				t.Errorf("%d batches", len(seen))
			}
		}},
	)
	play(t, list)
}
