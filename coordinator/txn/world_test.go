package txn

import (
	"slices"
	"testing"
)

// Shards 1 to 4 exist, each with the partitions shard*10 to shard*10+2.
type world map[uint64][]uint64

func newWorld() world {
	w := world{}
	for shard := uint64(1); shard <= 4; shard++ {
		w[shard] = []uint64{shard * 10, shard*10 + 1, shard*10 + 2}
	}
	return w
}

func (w world) HasShard(shard uint64) bool { _, ok := w[shard]; return ok }

func (w world) HasPartition(shard, partition uint64) bool {
	return slices.Contains(w[shard], partition)
}

// offsets records what the machine asked of it.
type offsets struct {
	refuse        bool
	checks, moves int
	holds         int
}

func (o *offsets) Check() bool { o.checks++; return !o.refuse }
func (o *offsets) Move()       { o.moves++ }
func (o *offsets) Hold()       { o.holds++ }

// rig drives one machine and checks its invariants after every step.
type rig struct {
	t   *testing.T
	m   *Machine
	w   world
	now Millis
}

func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	cfg := DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	return &rig{t: t, m: New(cfg), w: newWorld(), now: 1_000_000}
}

func (r *rig) env() Env { return Env{Catalog: r.w} }

func (r *rig) check() {
	r.t.Helper()
	if err := r.m.Check(); err != nil {
		r.t.Fatalf("invariant: %v", err)
	}
}

// init takes over id with a request id made of n.
func (r *rig) init(id string, n byte) InitProducerResult {
	r.t.Helper()
	res := r.m.InitProducer(r.now, InitProducer{
		TransactionalID: id, Timeout: 10_000, RequestID: RequestID{n}, Owner: "User:" + id, ClientHost: "10.0.0.1",
	})
	r.check()
	return res
}

func (r *rig) mustInit(id string, n byte) InitProducerResult {
	r.t.Helper()
	res := r.init(id, n)
	if res.Code != CodeOK {
		r.t.Fatalf("InitProducer(%s): %v", id, res.Code)
	}
	return res
}

func ref(pid uint64, epoch uint32, number uint64) Ref {
	return Ref{ProducerID: pid, Epoch: epoch, Number: number}
}

func (r *rig) enlist(ref Ref, shard uint64, partitions ...uint64) EnlistAnswer {
	r.t.Helper()
	return r.enlistItem(EnlistItem{Ref: ref, Shard: shard, OpenedAt: 77, Partitions: partitions})
}

func (r *rig) enlistItem(item EnlistItem) EnlistAnswer {
	r.t.Helper()
	peeked, needsLog := r.m.PeekEnlist(item, r.env())
	r.m.advance(r.now) // time moves with any command, and is no answer
	before := r.m.Snapshot()
	res := r.m.Enlist(r.now, Enlist{Items: []EnlistItem{item}}, r.env())
	r.check()
	if !sameAnswer(peeked, res.Answers[0]) {
		r.t.Fatalf("PeekEnlist said %+v, Enlist %+v", peeked, res.Answers[0])
	}
	if changed := string(before) != string(r.m.Snapshot()); changed && !needsLog {
		r.t.Fatalf("Enlist changed the state, PeekEnlist did not ask for the log")
	}
	return res.Answers[0]
}

func sameAnswer(a, b EnlistAnswer) bool {
	if !slices.Equal(a.Marker.Progress, b.Marker.Progress) {
		return false
	}
	a.Marker.Progress, b.Marker.Progress = nil, nil
	return a.Ref == b.Ref && a.Shard == b.Shard && a.OpenedAt == b.OpenedAt && a.Verdict == b.Verdict &&
		a.FenceEpoch == b.FenceEpoch && a.Invalid == b.Invalid && a.Marker.Ref == b.Marker.Ref &&
		a.Marker.Outcome == b.Marker.Outcome && a.Marker.CompleteBelow == b.Marker.CompleteBelow
}

// at is a participant whose first partition has the given next sequence.
func at(shard, next uint64) Participant {
	return Participant{Shard: shard, Progress: []Progress{{Partition: shard * 10, NextSequence: next}}}
}

func (r *rig) end(ref Ref, commit bool, participants ...Participant) EndTransactionResult {
	r.t.Helper()
	res := r.m.EndTransaction(r.now, EndTransaction{Ref: ref, Commit: commit, Participants: participants}, r.env())
	r.check()
	return res
}

func (r *rig) commit(ref Ref, participants ...Participant) EndTransactionResult {
	r.t.Helper()
	return r.end(ref, true, participants...)
}

func (r *rig) abort(ref Ref, participants ...Participant) EndTransactionResult {
	r.t.Helper()
	return r.end(ref, false, participants...)
}

func (r *rig) prepare(ref Ref, participants ...Participant) PrepareTransactionResult {
	r.t.Helper()
	res := r.m.PrepareTransaction(r.now, PrepareTransaction{Ref: ref, Participants: participants}, r.env())
	r.check()
	return res
}

func (r *rig) complete(ref Ref, commit bool) CompletePreparedResult {
	r.t.Helper()
	res := r.m.CompletePrepared(r.now, CompletePrepared{Ref: ref, Commit: commit})
	r.check()
	return res
}

func (r *rig) ack(ref Ref, shard uint64, answer MarkerAnswer) MarkersAppliedResult {
	r.t.Helper()
	res := r.m.MarkersApplied(r.now, MarkersApplied{Items: []MarkerAck{{Ref: ref, Shard: shard, Answer: answer}}})
	r.check()
	return res
}

// drain acknowledges everything that is owed.
func (r *rig) drain() {
	r.t.Helper()
	for _, shard := range r.m.OwedShards() {
		for _, mk := range slices.Collect(r.m.Owed(shard)) {
			r.ack(mk.Ref, shard, MarkerApplied)
		}
	}
}

func (r *rig) wantCode(got, want Code) {
	r.t.Helper()
	if got != want {
		r.t.Fatalf("code %v, want %v", got, want)
	}
}

func (r *rig) wantOutcome(ref Ref, status Status, reason Reason) {
	r.t.Helper()
	if rep := r.m.GetOutcome(ref); rep.Status != status || rep.Reason != reason {
		r.t.Fatalf("outcome of %+v: %v %v, want %v %v", ref, rep.Status, rep.Reason, status, reason)
	}
}

func wantEqual[T any](t *testing.T, what string, got, want []T, eq func(a, b T) bool) {
	t.Helper()
	if !slices.EqualFunc(got, want, eq) {
		t.Fatalf("%s: %+v, want %+v", what, got, want)
	}
}

func (r *rig) wantShards(what string, got []uint64, want ...uint64) {
	r.t.Helper()
	wantEqual(r.t, what, got, want, func(a, b uint64) bool { return a == b })
}
