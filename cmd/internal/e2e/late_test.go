package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// heldBack keeps copies of messages about one transaction.
type heldBack struct {
	mu       sync.Mutex
	messages []message
}

func (h *heldBack) add(m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, m)
}

func (h *heldBack) all(t *testing.T) []message {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.messages) == 0 {
		t.Fatal("the proxy saw no such message")
	}
	return slices.Clone(h.messages)
}

// txnOf returns the transactions that a message ends or appends to.
func txnOf(m message) (ends, appends []*oncelogv1.TxnRef) {
	switch m.method {
	case oncelogv1.TransactionService_EndTransaction_FullMethodName:
		req := &oncelogv1.EndTransactionRequest{}
		if proto.Unmarshal(m.bytes, req) == nil {
			ends = append(ends, req.GetTxn())
		}
	case oncelogv1.LogService_AppendStream_FullMethodName:
		req := &oncelogv1.AppendStreamRequest{}
		if proto.Unmarshal(m.bytes, req) == nil {
			for _, r := range req.GetRequests() {
				appends = append(appends, r.GetTxn())
			}
		}
	}
	return ends, appends
}

func about(refs []*oncelogv1.TxnRef, id client.TxID) bool {
	return slices.ContainsFunc(refs, func(r *oncelogv1.TxnRef) bool { return proto.Equal(r, ref(id)) })
}

// endsOf and appendsOf judge: the first count messages of the kind about a
// transaction meet a fate and are kept; -1 is all.
func endsOf(id client.TxID, count int, f fate, kept *heldBack) func(message) fate {
	return judgeSome(func(m message) bool { ends, _ := txnOf(m); return about(ends, id) }, count, f, kept)
}

func appendsOf(id client.TxID, count int, f fate, kept *heldBack) func(message) fate {
	return judgeSome(func(m message) bool { _, appends := txnOf(m); return about(appends, id) }, count, f, kept)
}

func judgeSome(which func(message) bool, count int, f fate, kept *heldBack) func(message) fate {
	var mu sync.Mutex
	return func(m message) fate {
		if !which(m) {
			return pass
		}
		mu.Lock()
		defer mu.Unlock()
		if count == 0 {
			return pass
		}
		count--
		kept.add(m)
		return f
	}
}

// deliverEnd delivers late copies of an EndTransaction to all coordinators and
// returns what the leader answers to the last.
func deliverEnd(t *testing.T, wire *proxy, held *heldBack) (*oncelogv1.EndTransactionResponse, error) {
	t.Helper()
	var res *oncelogv1.EndTransactionResponse
	var err error
	for _, m := range held.all(t) {
		wire.everywhere(m, cluster.Coordinator, func(answers [][]byte, failure error) {
			if apierrors.CodeOf(failure) == oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
				return
			}
			if res, err = nil, failure; failure == nil {
				res = &oncelogv1.EndTransactionResponse{}
				err = proto.Unmarshal(answers[0], res)
			}
		})
	}
	return res, err
}

// KAFKA-17754 and A1: an EndTransaction that arrives when the next transaction of
// the same producer is open must not end that one.
func TestLateEndTransactionNeverTouchesTheNext(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		name := map[bool]string{true: "commit", false: "abort"}[first]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := sharedCluster(t)
			wire := newProxy(t, w)
			c := wire.client()
			topic, id := w.topic(t, "in", 1), unique(t, "id")
			p := producer(t, c, id)

			// The first attempt to end n is held back; the SDK's second one arrives.
			n := begin(t, p)
			send(t, n, topic, "n")
			held := &heldBack{}
			wire.set(endsOf(n.ID(), 1, lose, held))
			want := aborted
			if first {
				commit(t, n)
				want = committed
			} else {
				abort(t, n)
			}
			next := begin(t, p)
			send(t, next, topic, "next")
			for _, enlisted := range []bool{false, true} {
				if enlisted {
					w.awaitOpen(t, next.ID())
				}
				res, err := deliverEnd(t, wire, held)
				if err != nil || res.GetOutcome() != want {
					t.Errorf("the late copy is answered %v, %v", res, err)
				}
				if o := w.outcome(t, next.ID()).GetOutcome(); o != undecided {
					t.Fatalf("the late copy decided the next transaction: %v", o)
				}
			}
			// The next one ends the other way.
			var visible []string
			if first {
				abort(t, next)
				visible = []string{"n"}
			} else {
				commit(t, next)
				visible = []string{"next"}
			}
			if res, err := deliverEnd(t, wire, held); err != nil || res.GetOutcome() != want {
				t.Errorf("the late copy, once more, is answered %v, %v", res, err)
			}
			wantValues(t, "read_committed", w.readCommitted(t, c, topic), visible...)
			w.awaitOutcome(t, n.ID(), want)
		})
	}
}

// A commit that is held back until somebody else has decided otherwise changes
// nothing: not the transaction that it names, and not the next.
func TestLateCommitOfWhatWasAborted(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	wire := newProxy(t, w)
	c := wire.client()
	topic, id := w.topic(t, "in", 1), unique(t, "id")
	p := producer(t, c, id)
	n := begin(t, p)
	send(t, n, topic, "n")
	w.awaitOpen(t, n.ID())
	held := &heldBack{}
	wire.set(endsOf(n.ID(), -1, lose, held))
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	wantError(t, "commit into the void", n.Commit(short), client.ErrOutcomeUnknown, client.ClassRetriable)
	if _, err := p.Begin(t.Context()); !errors.Is(err, client.ErrTxOpen) {
		t.Errorf("a transaction begins while the last is in the dark: %v", err)
	}
	if err := n.Abort(t.Context()); !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("what may be committed was aborted: %v", err)
	}
	w.abortByOperator(t, id)
	wire.set(nil)
	wantError(t, "commit, repeated", n.Commit(withPatience(t)), nil, client.ClassAbortable)

	next := begin(t, p)
	send(t, next, topic, "next")
	w.awaitOpen(t, next.ID())
	_, err := deliverEnd(t, wire, held)
	wantCode(t, "the late commit", err, oncelogv1.ErrorCode_ERROR_CODE_CONFLICT,
		apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "ADMIN")
	if o := w.outcome(t, next.ID()).GetOutcome(); o != undecided {
		t.Fatalf("the late copy decided the next transaction: %v", o)
	}
	commit(t, next)
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "next")

	// And across a fence.
	last := begin(t, p)
	send(t, last, topic, "last")
	w.awaitOpen(t, last.ID())
	held = &heldBack{}
	wire.set(endsOf(last.ID(), -1, lose, held))
	short, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	wantError(t, "commit into the void", last.Commit(short), client.ErrOutcomeUnknown, client.ClassRetriable)
	heir := begin(t, producer(t, c, id))
	send(t, heir, topic, "heir")
	_, err = deliverEnd(t, wire, held)
	wantCode(t, "the late commit of a fenced producer", err, oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, apierrors.KeyReason, "FENCED")
	wire.set(nil)
	wantError(t, "commit, repeated", last.Commit(withPatience(t)), client.ErrFenced, client.ClassFatal)
	commit(t, heir)
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "next", "heir")
}

// A commit whose answer was lost is repeated, and gets the first outcome.
func TestLostAnswerToACommit(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	wire := newProxy(t, w)
	c := wire.client()
	topic := w.topic(t, "in", 1)
	p := producer(t, c, unique(t, "id"))
	ctx := withPatience(t)

	// Once: nobody notices.
	tx := begin(t, p)
	send(t, tx, topic, "once")
	held := &heldBack{}
	wire.set(endsOf(tx.ID(), 1, loseAnswer, held))
	commit(t, tx)
	held.all(t)

	// Always: not known, until asked.
	tx = begin(t, p)
	send(t, tx, topic, "always")
	held = &heldBack{}
	wire.set(endsOf(tx.ID(), -1, loseAnswer, held))
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	wantError(t, "commit without an answer", tx.Commit(short), client.ErrOutcomeUnknown, client.ClassRetriable)
	if o, err := c.Outcome(ctx, tx.ID()); err != nil || o != client.OutcomeCommitted {
		t.Errorf("the outcome is %v, %v", o, err)
	}
	wire.set(nil)
	commit(t, tx)
	commit(t, tx)
	abort(t, tx)
	for _, m := range held.all(t) {
		req := &oncelogv1.EndTransactionRequest{}
		if err := proto.Unmarshal(m.bytes, req); err != nil {
			t.Fatal(err)
		}
		req.Commit = false
		_, err := w.endTransaction(t, ctx, req)
		wantCode(t, "abort of what was committed", err, oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, apierrors.KeyOutcome, "COMMITTED")
	}

	// A process that crashed while it committed asks Previous.
	tx = begin(t, p)
	send(t, tx, topic, "crash")
	wire.set(endsOf(tx.ID(), -1, loseAnswer, &heldBack{}))
	short, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	wantError(t, "commit without an answer", tx.Commit(short), client.ErrOutcomeUnknown, client.ClassRetriable)
	wire.set(nil)
	if prev, o := producer(t, c, tx.ID().TransactionalID).Previous(); prev != tx.ID() || o != client.OutcomeCommitted {
		t.Errorf("the next life is told of %v, %v", prev, o)
	}
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "once", "always", "crash")
}

// deliverAppend delivers late copies of appends to all nodes and returns how the
// leader answers each partition: its error, nil when it stored something. What it
// recognises as a repetition is left out.
func deliverAppend(t *testing.T, wire *proxy, held *heldBack) (answered []*oncelogv1.Error) {
	t.Helper()
	led := false
	note := func(e *oncelogv1.Error, duplicate bool) {
		if e.GetCode() == oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
			return
		}
		led = true
		if !duplicate {
			answered = append(answered, e)
		}
	}
	for _, m := range held.all(t) {
		wire.everywhere(m, cluster.Partition, func(answers [][]byte, err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range answers {
				res := &oncelogv1.AppendStreamResponse{}
				if err := proto.Unmarshal(a, res); err != nil {
					t.Fatal(err)
				}
				for _, r := range res.GetResponses() {
					if r.GetError() != nil {
						note(r.GetError(), false)
					}
					for _, part := range r.GetResults() {
						note(part.GetError(), part.GetDuplicate())
					}
				}
			}
		})
	}
	if !led {
		t.Error("no leader answered the late append")
	}
	return answered
}

// A2, A18: an append of transaction n that arrives when n has ended, and n+1 is
// open, adds nothing to either.
func TestLateAppendNeverTouchesTheNext(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	wire := newProxy(t, w)
	c := wire.client()
	ended := func(t *testing.T, refusals []*oncelogv1.Error) {
		t.Helper()
		if len(refusals) == 0 {
			t.Error("the late append is taken for a repetition")
		}
		for _, e := range refusals {
			switch e.GetCode() {
			case oncelogv1.ErrorCode_ERROR_CODE_TXN_ENDED, oncelogv1.ErrorCode_ERROR_CODE_STALE_TXN:
			default:
				t.Errorf("the late append is answered %v", e)
			}
		}
	}
	p := producer(t, c, unique(t, "id"))

	t.Run("a duplicate of what was committed", func(t *testing.T) {
		topic := w.topic(t, "in", 1)
		n := begin(t, p)
		held := &heldBack{}
		wire.set(appendsOf(n.ID(), 1, lose, held))
		send(t, n, topic, "n")
		commit(t, n)
		next := begin(t, p)
		send(t, next, topic, "next")
		if refusals := deliverAppend(t, wire, held); len(refusals) > 0 {
			t.Errorf("a repetition is answered %v", refusals)
		}
		wantValues(t, "read_uncommitted", w.readUncommitted(t, c, topic), "n", "next")
		commit(t, next)
		wantValues(t, "read_committed", w.readCommitted(t, c, topic), "n", "next")
	})

	t.Run("the only copy, of what was aborted", func(t *testing.T) {
		topic := w.topic(t, "in", 1)
		n := begin(t, p)
		held := &heldBack{}
		wire.set(appendsOf(n.ID(), -1, lose, held))
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := n.Send(short, records(topic, "n")...); err != nil {
			t.Fatal(err)
		}
		if err := n.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("flush into the void: %v", err)
		}
		abort(t, n)
		wire.set(nil)
		w.awaitOutcome(t, n.ID(), aborted)
		next := begin(t, p)
		send(t, next, topic, "next")
		ended(t, deliverAppend(t, wire, held))
		wantValues(t, "read_uncommitted", w.readUncommitted(t, c, topic), "next")
		commit(t, next)
		ended(t, deliverAppend(t, wire, held))
		wantValues(t, "read_committed", w.readCommitted(t, c, topic), "next")
	})

	t.Run("where nobody has heard of either", func(t *testing.T) {
		// Three shards; n's append is meant for one that learns of nothing else.
		topic := w.topic(t, "in", 1)
		init := w.initProducer(t, unique(t, "raw"))
		late := init.append(1, partition(topic, 0), 0, "late")
		if _, err := w.endTransaction(t, t.Context(), init.end(1, false, nil, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.endTransaction(t, t.Context(), init.end(2, true, nil, 0)); err != nil {
			t.Fatal(err)
		}
		// The shard cannot know better and takes it, but does not keep it.
		if _, err := w.append(t, late); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stray is discarded", func() error {
			if st := w.status(t, topic, 0); st.GetOpenTransactions() != 0 || st.GetStableEnd() != st.GetAppliedEnd() {
				return errors.New(st.String())
			}
			return nil
		})
		wantValues(t, "read_committed", w.readCommitted(t, c, topic))
	})
}

// Everything at once: messages are lost, repeated and delivered late at random,
// while Process copies. The outcome must not show it.
func TestNetworkThatLosesRepeatsAndDelays(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	wire := newProxy(t, w)
	c := wire.client(client.WithRetryBackoff(time.Millisecond, 20*time.Millisecond))
	calm := w.client(t)
	in, out, group := w.topic(t, "in", 3), w.topic(t, "out", 3), unique(t, "group")
	seeds := numbered("seed", 600)
	produce(t, calm, in, seeds...)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	counts := map[fate]int{}
	late := 0
	wire.set(func(m message) fate {
		mu.Lock()
		defer mu.Unlock()
		switch m.method {
		case oncelogv1.LogService_AppendStream_FullMethodName, oncelogv1.TransactionService_EndTransaction_FullMethodName,
			oncelogv1.TransactionService_InitProducer_FullMethodName, oncelogv1.GroupService_AssignPartitions_FullMethodName:
		default:
			return pass
		}
		if rng.IntN(5) == 0 && m.method != oncelogv1.TransactionService_InitProducer_FullMethodName &&
			m.method != oncelogv1.GroupService_AssignPartitions_FullMethodName {
			// A late copy. (A late AssignPartitions takes the partitions back, a late
			// InitProducer is recognised but makes the test slow to read.)
			late++
			wire.copies.Add(1)
			time.AfterFunc(time.Duration(rng.IntN(300))*time.Millisecond, func() {
				defer wire.copies.Done()
				_, _ = wire.replay(context.Background(), m)
			})
		}
		f := pass
		switch n := rng.IntN(100); {
		case n < 8:
			f = lose
		case n < 16:
			f = loseAnswer
		case n < 26:
			f = twice
		}
		if m.method == oncelogv1.GroupService_AssignPartitions_FullMethodName && f == twice {
			f = pass
		}
		counts[f]++
		return f
	})
	ctx := withPatience(t)
	if err := copying(ctx, c, unique(t, "id"), group, in, out, len(seeds)); err != nil {
		t.Fatal(err)
	}
	wire.set(nil)
	wire.copies.Wait()
	t.Logf("%d passed, %d lost, %d answers lost, %d twice, %d late", counts[pass], counts[lose], counts[loseAnswer], counts[twice], late)
	wantValues(t, "output", w.readCommitted(t, calm, out), seeds...)
	wantValues(t, "output, plain", fetchedValues(w.visible(t, out, rawRead)), seeds...)
	if n := w.groupTotal(t, group, in, 3); n != int64(len(seeds)) {
		t.Errorf("the group's positions add up to %d", n)
	}
}
