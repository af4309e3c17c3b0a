package pstate

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
)

// rig drives one state through encoded entries and verifies after each of them
// that the invariants hold, that no end moved backwards (I8), and that a state
// restored from the snapshot before the command does the same (I10).
type rig struct {
	t     *testing.T
	s     *State
	index uint64
	now   Millis
	ends  map[uint64][2]End
}

func newRig(t *testing.T, cfg Config, partitions ...uint64) *rig {
	t.Helper()
	r := &rig{t: t, s: New(cfg), now: 1000, ends: map[uint64][2]End{}}
	if len(partitions) > 0 {
		r.sync(full(1, partitions...))
	}
	return r
}

func full(version uint64, ids ...uint64) SyncPartitions {
	c := SyncPartitions{Version: version, Full: true}
	for _, id := range ids {
		c.Add = append(c.Add, PartitionInfo{ID: id, TopicID: 1, Topic: "orders", Index: uint32(id)})
	}
	return c
}

// apply decodes an entry and applies it, as a runner does.
func apply(t *testing.T, s *State, index uint64, entry []byte) any {
	t.Helper()
	kind, err := KindOf(entry)
	if err != nil {
		t.Fatal(err)
	}
	var res any
	switch kind {
	case KindAppends:
		list, _, derr := DecodeAppends(entry)
		var out []BatchResult
		for _, a := range list {
			out = s.Append(index, a, out)
		}
		res, err = out, derr
	case KindMarkers:
		m, derr := DecodeMarkers(entry)
		res, err = s.Markers(index, m), derr
	case KindEnlistAnswers:
		a, derr := DecodeEnlistAnswers(entry)
		res, err = s.EnlistAnswers(index, a), derr
	case KindSyncPartitions:
		c, derr := DecodeSyncPartitions(entry)
		res, err = s.SyncPartitions(index, c), derr
	case KindForget:
		f, derr := DecodeForget(entry)
		res, err = s.Forget(index, f), derr
	case KindAdvanceLogStarts:
		c, derr := DecodeAdvanceLogStarts(entry)
		res, err = s.AdvanceLogStarts(index, c), derr
	case KindRelocate:
		c, _, derr := DecodeRelocate(entry)
		res, err = s.Relocate(index, c), derr
	case KindRewrite:
		c, _, derr := DecodeRewrite(entry)
		res, err = s.Rewrite(index, c), derr
	case KindCompacted:
		c, derr := DecodeCompacted(entry)
		res, err = s.Compacted(index, c), derr
	case KindConfigure:
		c, derr := DecodeConfigure(entry)
		s.Configure(index, c)
		err = derr
	}
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (r *rig) entry(entry []byte, err error) any {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	before := r.s.Snapshot()
	r.index++
	res := apply(r.t, r.s, r.index, entry)
	if err := r.s.Check(); err != nil {
		r.t.Fatalf("entry %d: %v", r.index, err)
	}
	for _, p := range r.s.Partitions() {
		if was := r.ends[p.ID]; p.Stable < was[0] || p.Applied < was[1] {
			r.t.Fatalf("I8: entry %d, partition %d: ends went from %v to %v, %v", r.index, p.ID, was, p.Stable, p.Applied)
		}
		r.ends[p.ID] = [2]End{p.Stable, p.Applied}
	}
	twin := New(Config{})
	if err := twin.Restore(before); err != nil {
		r.t.Fatalf("restore before entry %d: %v", r.index, err)
	}
	if again := twin.Snapshot(); !bytes.Equal(again, before) {
		r.t.Fatalf("I10: snapshot of a restored state differs before entry %d", r.index)
	}
	if other := apply(r.t, twin, r.index, entry); !reflect.DeepEqual(res, other) {
		r.t.Fatalf("I10: entry %d: %+v, after restore %+v", r.index, res, other)
	}
	if !bytes.Equal(twin.Snapshot(), r.s.Snapshot()) {
		r.t.Fatalf("I10: states differ after entry %d", r.index)
	}
	return res
}

func (r *rig) append(ref TxnRef, batches ...Batch) []BatchResult {
	r.t.Helper()
	payloads := make([][]byte, len(batches))
	for i, b := range batches {
		payloads[i] = make([]byte, b.Size)
	}
	entry, err := EncodeAppends(nil, []Append{{r.now, ref, batches}}, payloads)
	return r.entry(entry, err).([]BatchResult)
}

// put appends one batch and wants it stored.
func (r *rig) put(ref TxnRef, partition, base uint64, count uint32) BatchResult {
	r.t.Helper()
	res := r.append(ref, Batch{Partition: partition, BaseSequence: base, Count: count, Size: 1})[0]
	if res.Code != CodeAppended {
		r.t.Fatalf("append %v to %d at %d: %v", ref, partition, base, res.Code)
	}
	return res
}

// try appends one batch and wants this verdict.
func (r *rig) try(want Code, ref TxnRef, partition, base uint64, count uint32) BatchResult {
	r.t.Helper()
	b := Batch{Partition: partition, BaseSequence: base, Count: count, Size: 1}
	guess := r.s.Decide(ref, b)
	end := r.s.AppliedEnd(partition)
	res := r.append(ref, b)[0]
	if res.Code != want {
		r.t.Fatalf("append %v to %d at %d: %v, want %v", ref, partition, base, res.Code, want)
	}
	if guess != res {
		r.t.Fatalf("Decide said %+v, Append %+v", guess, res)
	}
	if want != CodeAppended && r.s.AppliedEnd(partition) != end {
		r.t.Fatalf("%v stored something", want)
	}
	return res
}

func (r *rig) mark(m ...Marker) []MarkerResult {
	r.t.Helper()
	entry, err := EncodeMarkers(nil, Markers{r.now, m})
	return r.entry(entry, err).([]MarkerResult)
}

func (r *rig) marker(want MarkerCode, m Marker) MarkerResult {
	r.t.Helper()
	res := r.mark(m)[0]
	if res.Code != want {
		r.t.Fatalf("marker %v %v: %v, want %v", m.Ref, m.Outcome, res.Code, want)
	}
	return res
}

func (r *rig) answer(want MarkerCode, a EnlistAnswer) MarkerResult {
	r.t.Helper()
	entry, err := EncodeEnlistAnswers(nil, EnlistAnswers{r.now, []EnlistAnswer{a}})
	res := r.entry(entry, err).([]MarkerResult)[0]
	if res.Code != want {
		r.t.Fatalf("answer %v %v: %v, want %v", a.Ref, a.Verdict, res.Code, want)
	}
	return res
}

func (r *rig) sync(c SyncPartitions) SyncResult {
	r.t.Helper()
	c.At = r.now
	entry, err := EncodeSyncPartitions(nil, c)
	return r.entry(entry, err).(SyncResult)
}

func (r *rig) forget(ids ...uint64) []uint64 {
	r.t.Helper()
	entry, err := EncodeForget(nil, Forget{r.now, ids})
	return r.entry(entry, err).([]uint64)
}

func (r *rig) advance(partition, start uint64) (uint64, SyncCode) {
	r.t.Helper()
	res := r.entry(EncodeAdvanceLogStarts(nil, AdvanceLogStarts{r.now, []LogStart{{partition, start}}})).([]LogStartResult)
	return res[0].Start, res[0].Code
}

func (r *rig) wantEnds(partition uint64, stable, applied End) {
	r.t.Helper()
	if got := r.s.StableEnd(partition); got != stable {
		r.t.Fatalf("stable end of %d is %d, want %d", partition, got, stable)
	}
	if got := r.s.AppliedEnd(partition); got != applied {
		r.t.Fatalf("applied end of %d is %d, want %d", partition, got, applied)
	}
}

func (r *rig) wantPrefix(want uint32, ref TxnRef, partition, offset, seq uint64, count uint32) {
	r.t.Helper()
	if got := r.s.CommittedPrefix(partition, ref, offset, seq, count); got != want {
		r.t.Fatalf("visible prefix of %v at %d/%d is %d, want %d", ref, partition, offset, got, want)
	}
}

func commit(ref TxnRef, progress ...Progress) Marker {
	return Marker{ref, Decision{Outcome: OutcomeCommit, Progress: progress}}
}

func abort(ref TxnRef, why Reason) Marker {
	return Marker{ref, Decision{Outcome: OutcomeAbort, Reason: why}}
}

func openRefs(s *State) []TxnRef {
	var out []TxnRef
	for o := range s.Open() {
		out = append(out, o.Ref)
	}
	return out
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}
