package pstate

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// world runs the same random commands through the state and the model.
type world struct {
	*rig
	rnd     *rand.Rand
	m       *model
	entries [][]byte
	live    []uint64 // hosted partitions
	nextID  uint64   // next partition id
	version uint64
	prods   []uint64
	starts  map[uint64]uint64
	stored  map[uint64][]StoredBatch // by partition: all that were ever appended
	moved   int
	seenOK  map[Code]int
	seenMk  map[MarkerCode]int
}

// TestRandomAgainstModel drives long random histories: interleaved producers,
// duplicates, gaps, late and forged writes, every kind of marker and answer,
// partitions that come and go, time that passes. After every command the whole
// visible world is compared with the model, the invariants are checked, and a
// state restored from the snapshot before the command must agree with the
// original; by induction snapshot and tail equal full replay at every position.
func TestRandomAgainstModel(t *testing.T) {
	t.Parallel()
	steps := 700
	if testing.Short() {
		steps = 250
	}
	codes, markers, moved := map[Code]int{}, map[MarkerCode]int{}, 0
	for seed := range uint64(12) {
		t.Logf("seed %d", seed)
		w := newWorld(t, seed)
		for range steps {
			w.step()
		}
		w.replay()
		moved += w.moved
		for c, n := range w.seenOK {
			codes[c] += n
		}
		for c, n := range w.seenMk {
			markers[c] += n
		}
	}
	if moved == 0 {
		t.Error("nothing was relocated")
	}
	t.Log("verdicts:", codes)
	t.Log("markers:", markers)
	for c := CodeUnknownPartition; c <= CodeAppended; c++ {
		if codes[c] == 0 && c != CodeMalformed && c != CodeTooLarge && c != CodeProducerLimit {
			t.Errorf("the histories never met %v", c)
		}
	}
	for c := MarkerApplied; c <= MarkerDropped; c++ {
		if markers[c] == 0 && c != MarkerInvalid {
			t.Errorf("the histories never met %v", c)
		}
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	cfg := Config{RangesKept: 3, MaxOpenPerProducer: 3, ProducerExpiration: 5000}
	w := &world{
		rig: newRig(t, cfg), rnd: rand.New(rand.NewPCG(seed, 11)), m: newModel(cfg),
		nextID: 4, live: []uint64{1, 2, 3}, version: 1, prods: []uint64{10, 11, 12, 13},
		starts: map[uint64]uint64{}, stored: map[uint64][]StoredBatch{}, seenOK: map[Code]int{}, seenMk: map[MarkerCode]int{},
	}
	w.do(EncodeSyncPartitions(nil, full(1, w.live...)))
	w.m.step(w.index, 0)
	w.m.setPartitions(w.live)
	return w
}

func (w *world) do(entry []byte, err error) any {
	w.t.Helper()
	w.entries = append(w.entries, entry)
	return w.entry(entry, err)
}

func (w *world) pick(n int) int          { return w.rnd.IntN(n) }
func (w *world) chance(percent int) bool { return w.pick(100) < percent }

func (w *world) step() {
	w.t.Helper()
	w.now += Millis(w.pick(120))
	if w.chance(1) {
		w.now += 6000
	}
	switch n := w.pick(100); {
	case n < 62:
		w.appends()
	case n < 82:
		w.markers()
	case n < 92:
		w.answers()
	case n < 94:
		w.syncs()
	case n < 96:
		w.forgets()
	case n < 98:
		w.advances()
	case n < 99:
		w.relocates()
	default:
		w.m.step(w.index+1, w.now)
		w.do(EncodeForget(nil, Forget{At: w.now}))
	}
	w.m.sweep()
	w.compare()
}

// ref chooses a transaction: mostly the current one of a producer, sometimes an
// older one, a newer epoch, or none at all.
func (w *world) ref() TxnRef {
	id := w.prods[w.pick(len(w.prods))]
	if id%5 == 0 { // every fifth is idempotent, rarely with a new epoch
		e := uint32(w.index / 300)
		return TxnRef{id, e - min(e, uint32(w.pick(8)/7)), 0}
	}
	f := w.m.floor(id)
	if f.Number == 0 {
		f.Number = 1
	}
	switch n := w.pick(20); {
	case n < 3:
		f.Number++
	case n < 7 && f.Number > 1:
		f.Number -= uint64(min(int(f.Number)-1, 1+w.pick(3)))
	case n == 7:
		f = Point{f.Epoch + 1, 1}
	case n == 8 && f.Epoch > 0:
		f = Point{f.Epoch - 1, uint64(1 + w.pick(4))}
	}
	return TxnRef{id, f.Epoch, f.Number}
}

func (w *world) batch(ref TxnRef) Batch {
	part := w.live[w.pick(len(w.live))]
	if w.chance(2) {
		part = w.nextID
	}
	b := Batch{Partition: part, Count: uint32(1 + w.pick(4)), MaxTimestamp: Millis(w.pick(1000)), Size: 3}
	sq := w.m.seqs[key(ref, part)]
	if sq == nil {
		if w.chance(10) {
			b.BaseSequence = uint64(w.pick(4))
		}
		return b
	}
	b.BaseSequence = sq.next
	switch n := w.pick(20); {
	case n < 3 && len(sq.batches) > 0: // an exact duplicate
		mb := sq.batches[w.pick(len(sq.batches))]
		b.BaseSequence, b.Count = mb.base, uint32(mb.count)
	case n < 5: // anything
		b.BaseSequence = uint64(w.pick(int(sq.next) + 3))
	}
	return b
}

func (w *world) appends() {
	w.t.Helper()
	var list []Append
	var payloads [][]byte
	for range 1 + w.pick(2) {
		a := Append{At: w.now, Ref: w.ref()}
		for range 1 + w.pick(3) {
			a.Batches = append(a.Batches, w.batch(a.Ref))
			payloads = append(payloads, []byte{1, 2, 3})
		}
		list = append(list, a)
	}
	entry, err := EncodeAppends(nil, list, payloads)
	res := w.do(entry, err).([]BatchResult)
	w.m.step(w.index, w.now)
	for _, a := range list {
		for _, b := range a.Batches {
			w.verdict(a.Ref, b, res[0])
			res = res[1:]
		}
		w.m.sweep()
	}
}

func (w *world) verdict(ref TxnRef, b Batch, got BatchResult) {
	w.t.Helper()
	end := uint64(0)
	if p := w.m.parts[b.Partition]; p != nil {
		end = uint64(len(p.records))
	}
	want := w.m.append(ref, b)
	w.seenOK[want]++
	if got.Code != want {
		w.t.Fatalf("entry %d: %v %+v: %v, model %v", w.index, ref, b, got.Code, want)
	}
	switch want {
	case CodeAppended:
		w.stored[b.Partition] = append(w.stored[b.Partition], StoredBatch{BaseOffset: end, Count: b.Count, Size: b.Size})
		if got.BaseOffset != end || got.RunningMaxTimestamp != w.m.parts[b.Partition].maxTime {
			w.t.Fatalf("entry %d: %v %+v: %+v, model offset %d", w.index, ref, b, got, end)
		}
	case CodeDuplicate:
		if off, known := w.m.offset(ref, b); known != got.OffsetKnown || off != got.BaseOffset {
			w.t.Fatalf("entry %d: %v %+v: %+v, model %d %v", w.index, ref, b, got, off, known)
		}
	case CodeTxnEnded:
		if t := w.m.txns[ref]; got.Outcome != t.outcome || got.Reason != t.reason {
			w.t.Fatalf("entry %d: %v: %+v, model %+v", w.index, ref, got, t)
		}
	default: // the other verdicts say no more
	}
}

// decision makes up what the coordinator might say: mostly exactly what was
// sent, sometimes less, more, or the partitions forgotten.
func (w *world) decision(ref TxnRef) Decision {
	d := Decision{Outcome: OutcomeCommit, Reason: Reason(w.pick(3))}
	if w.chance(40) {
		d.Outcome = OutcomeAbort
		return d
	}
	for _, id := range w.live {
		sq := w.m.seqs[mkey{ref, id}]
		if sq == nil {
			if w.chance(3) {
				d.Progress = append(d.Progress, Progress{id, uint64(w.pick(2))})
			}
			continue
		}
		switch n := w.pick(20); {
		case n < 15:
			d.Progress = append(d.Progress, Progress{id, sq.next})
		case n < 18:
			d.Progress = append(d.Progress, Progress{id, uint64(w.pick(int(sq.next) + 1))})
		case n < 19:
			d.Progress = append(d.Progress, Progress{id, sq.next + 1})
		}
	}
	if w.chance(30) {
		d.CompleteBelow = Point{ref.Epoch, ref.Number - min(ref.Number, uint64(w.pick(3)))}
	}
	return d
}

// target chooses what to end: mostly something open.
func (w *world) target() TxnRef {
	if open := openRefs(w.s); len(open) > 0 && w.chance(70) {
		return open[w.pick(len(open))]
	}
	ref := w.ref()
	ref.Number = max(ref.Number, 1)
	return ref
}

func (w *world) markers() {
	w.t.Helper()
	var list []Marker
	for range 1 + w.pick(2) {
		ref := w.target()
		list = append(list, Marker{ref, w.decision(ref)})
	}
	entry, err := EncodeMarkers(nil, Markers{w.now, list})
	res := w.do(entry, err).([]MarkerResult)
	w.m.step(w.index, w.now)
	for i, mk := range list {
		w.ended(res[i], w.m.marker(mk.Ref, mk.Decision))
	}
}

func (w *world) ended(got MarkerResult, want MarkerCode) {
	w.t.Helper()
	w.seenMk[want]++
	if got.Code != want {
		w.t.Fatalf("entry %d: %+v, model %v", w.index, got, want)
	}
	if want == MarkerMissingData && !slices.Equal(got.Damage, w.m.txns[got.Ref].damage) {
		w.t.Fatalf("entry %d: %+v, model %+v", w.index, got, w.m.txns[got.Ref].damage)
	}
}

func (w *world) answers() {
	w.t.Helper()
	ref := w.target()
	a := EnlistAnswer{Ref: ref, OpenedAt: uint64(w.pick(5)), Verdict: Verdict(1 + w.pick(3))}
	if t := w.m.txns[ref]; t != nil && w.chance(90) {
		a.OpenedAt = t.openedAt
	}
	switch a.Verdict {
	case VerdictStray:
		if w.chance(30) {
			a.Fence = ref.Epoch + 1
		}
	case VerdictDecided:
		a.Decision = w.decision(ref)
	case VerdictInvalid:
	}
	entry, err := EncodeEnlistAnswers(nil, EnlistAnswers{w.now, []EnlistAnswer{a}})
	res := w.do(entry, err).([]MarkerResult)
	w.m.step(w.index, w.now)
	w.ended(res[0], w.m.answer(a))
}

func (w *world) syncs() {
	w.t.Helper()
	w.version++
	if len(w.live) > 2 && w.chance(50) {
		i := w.pick(len(w.live))
		w.live = slices.Delete(w.live, i, i+1)
	} else {
		w.live = append(w.live, w.nextID)
		w.nextID++
	}
	c := full(w.version, w.live...)
	c.At = w.now
	for i := range c.Add {
		c.Add[i].Retention = Retention{Millis: Millis(w.pick(3)) * 500, Bytes: uint64(w.pick(3)) * 60}
	}
	res := w.do(EncodeSyncPartitions(nil, c)).(SyncResult)
	if res.Code != SyncApplied {
		w.t.Fatalf("entry %d: %+v", w.index, res)
	}
	w.m.step(w.index, w.now)
	w.m.setPartitions(w.live)
}

func (w *world) forgets() {
	w.t.Helper()
	i := w.pick(len(w.prods))
	id := w.prods[i]
	kept := w.do(EncodeForget(nil, Forget{w.now, []uint64{id}})).([]uint64)
	w.m.step(w.index, w.now)
	if forgot := w.m.forget(id); forgot != (len(kept) == 0) {
		w.t.Fatalf("entry %d: forget %d: kept %v, model forgot %v", w.index, id, kept, forgot)
	}
	if len(kept) == 0 && w.chance(50) {
		w.prods[i] = slices.Max(w.prods) + 1
	}
}

func (w *world) advances() {
	w.t.Helper()
	id := w.live[w.pick(len(w.live))]
	to := uint64(w.pick(len(w.m.parts[id].records) + 1))
	if w.chance(50) { // what retention asks for is whole segments
		if due := w.s.Expired(w.now, 1); len(due) > 0 {
			id, to = due[0].Partition, due[0].Start
		}
	}
	res := w.do(EncodeAdvanceLogStarts(nil, AdvanceLogStarts{w.now, []LogStart{{id, to}}})).([]LogStartResult)[0]
	w.m.step(w.index, w.now)
	want := max(w.starts[id], min(to, uint64(w.m.stable(id))))
	if res.Start != want || res.DroppedFrom > res.DroppedTo || res.DroppedTo > want || res.Moved != (want > w.starts[id]) {
		w.t.Fatalf("entry %d: %+v, model %d", w.index, res, want)
	}
	w.starts[id] = want
}

// relocates writes the beginning of a segment once more; nobody sees a difference.
func (w *world) relocates() {
	w.t.Helper()
	id := w.live[w.pick(len(w.live))]
	p := w.s.partitions[id]
	c := Relocate{At: w.now, Partition: id}
	if len(p.segments) > 0 {
		i := w.pick(len(p.segments))
		for _, b := range w.stored[id] {
			if b.BaseOffset >= p.segments[i].base && b.End() <= p.segmentEnd(i) {
				c.Batches = append(c.Batches, b)
			}
		}
		if w.chance(50) {
			c.Batches = c.Batches[:1+w.pick(len(c.Batches))]
		}
	}
	want := Relocated
	switch n := w.pick(10); {
	case len(c.Batches) == 0:
		want = RelocateStale
	case n == 0 && len(c.Batches) > 1: // a gap
		c.Batches, want = append(c.Batches[:1:1], c.Batches[2:]...), RelocateStale
		if len(c.Batches) == 1 {
			want = Relocated
		}
	case n == 1: // not where a segment begins
		c.Batches[0].BaseOffset += 1 << 40
		want = RelocateStale
	case n == 2:
		c.Partition, want = w.nextID, RelocateStale
	}
	if n := len(c.Batches); want == Relocated && c.Batches[n-1].End() <= w.starts[id] {
		want = RelocateDropped
	}
	payloads := make([][]byte, len(c.Batches))
	for i, b := range c.Batches {
		payloads[i] = make([]byte, b.Size)
	}
	entry, err := EncodeRelocate(nil, c, payloads)
	if got := w.do(entry, err).(RelocateCode); got != want {
		w.t.Fatalf("entry %d: %v is %v, want %v", w.index, c, got, want)
	}
	if want == Relocated {
		w.moved++
	}
	w.m.step(w.index, w.now)
}

// compare looks at everything a reader can see.
func (w *world) compare() {
	w.t.Helper()
	for _, id := range slices.Sorted(maps.Keys(w.m.parts)) {
		recs := w.m.parts[id].records
		stable := w.m.stable(id)
		w.wantEnds(id, End(stable), End(len(recs)))
		shownSeq := map[TxnRef]map[uint64]bool{}
		for off := int(w.starts[id]); off < len(recs); off++ {
			rec := recs[off]
			want := uint32(0)
			if off < stable && rec.fate == shown {
				want = 1
			}
			if got := w.s.CommittedPrefix(id, rec.ref, uint64(off), rec.seq, 1); got != want {
				w.t.Fatalf("entry %d: partition %d offset %d, %+v: visible %d, model %d (stable %d)", w.index, id, off, rec, got, want, stable)
			}
			if want == 1 && rec.ref.Number > 0 && !w.m.past[rec.ref.ProducerID] {
				if shownSeq[rec.ref] == nil {
					shownSeq[rec.ref] = map[uint64]bool{}
				}
				if shownSeq[rec.ref][rec.seq] {
					w.t.Fatalf("I1: entry %d: partition %d, %v sequence %d visible twice", w.index, id, rec.ref, rec.seq)
				}
				shownSeq[rec.ref][rec.seq] = true
			}
		}
		w.compareBatches(id, stable)
	}
	open := 0
	for _, t := range w.m.txns {
		if t.open {
			open++
		}
	}
	if st := w.s.Stats(); w.s.OpenCount() != open || st.Sequences != len(w.m.seqs) || st.Gone != len(w.m.gone) {
		w.t.Fatalf("entry %d: %+v, model %d open, %d sequences, %d gone", w.index, st, open, len(w.m.seqs), len(w.m.gone))
	}
	for _, id := range w.prods {
		f, _ := w.s.Producer(id)
		if want := w.m.floor(id); f.Floor != want {
			w.t.Fatalf("entry %d: floor of %d is %v, model %v", w.index, id, f.Floor, want)
		}
		if at, gone := w.m.gone[id]; f.Gone != gone || gone && f.LastSeen != at {
			w.t.Fatalf("entry %d: %d is %+v, model gone %v at %d", w.index, id, f, gone, at)
		}
	}
}

// compareBatches asks for whole batches as a fetch does.
func (w *world) compareBatches(id uint64, stable int) {
	w.t.Helper()
	recs := w.m.parts[id].records
	for k, sq := range w.m.seqs {
		if k.partition != id {
			continue
		}
		for _, b := range sq.batches {
			if b.offset < w.starts[id] {
				continue
			}
			want := uint32(0)
			for i := b.offset; i < b.offset+b.count && int(i) < stable && recs[i].fate == shown; i++ {
				want++
			}
			ref := recs[b.offset].ref
			if got := w.s.CommittedPrefix(id, ref, b.offset, b.base, uint32(b.count)); got != want {
				w.t.Fatalf("entry %d: batch %+v of %v: %d visible, model %d", w.index, b, ref, got, want)
			}
		}
	}
}

// replay applies the whole history to a fresh state.
func (w *world) replay() {
	w.t.Helper()
	s := New(w.m.cfg)
	for i, e := range w.entries {
		apply(w.t, s, uint64(i+1), e)
	}
	if !bytes.Equal(s.Snapshot(), w.s.Snapshot()) {
		w.t.Fatal("I10: full replay differs")
	}
}
