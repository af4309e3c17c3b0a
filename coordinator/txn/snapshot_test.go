package txn

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/internal/golden"
)

// goldenMachine holds at least one of everything a snapshot can hold.
func goldenMachine(t *testing.T) *Machine {
	r := newRig(t)
	r.mustInit("orders", 1)
	r.commit(ref(1, 0, 1))
	r.commit(ref(1, 0, 2), at(1, 300), at(2, 5))
	r.ack(ref(1, 0, 2), 1, MarkerConflict)
	r.abort(ref(1, 0, 7), at(3, 1))
	r.enlist(ref(1, 0, 9), 1, 11, 10)
	r.enlist(ref(1, 0, 9), 4)
	r.now += 5
	r.mustInit("bills", 2)
	r.mustInit("bills", 3)
	r.mustInit("ledger", 4)
	r.commit(ref(3, 0, 6))
	r.mustInit("ledger", 5)
	r.mustInit("ledger", 6)
	r.commit(ref(3, 2, 1))
	r.mustInit("ledger", 7)
	r.m.AllocateProducerIDs(r.now, AllocateProducerIDs{Count: 1000})
	return r.m
}

// preparedMachine holds two prepared transactions besides, one of them of an epoch
// that has ended.
func preparedMachine(t *testing.T) *Machine {
	r := &rig{t: t, m: goldenMachine(t), w: newWorld(), now: 1_000_009}
	r.enlist(ref(2, 1, 3), 2, 20)
	r.now += 7
	r.wantCode(r.prepare(ref(2, 1, 3), at(2, 9), Participant{Shard: 4}).Code, CodeOK)
	r.mustInit("kept", 8)
	pid := r.m.byName["kept"].id
	r.wantCode(r.prepare(ref(pid, 0, 1), at(1, 4)).Code, CodeOK)
	keep := InitProducer{TransactionalID: "kept", RequestID: RequestID{9}, KeepPrepared: true}
	r.wantCode(r.m.InitProducer(r.now, keep).Code, CodeOK)
	r.check()
	return r.m
}

// The bytes of a snapshot outlive the program: this test fails on any change
// of the format, which then needs a new version and a reader for the old one.
func TestSnapshotGolden(t *testing.T) {
	t.Parallel()
	golden.Check(t, "transaction-snapshot", snapshotVersion, []golden.Sample{{Name: "everything", Bytes: preparedMachine(t).Snapshot()}})
	old := golden.Read(t, "transaction-snapshot", 1)[0].Bytes
	m := New(goldenMachine(t).Config())
	if err := m.Restore(old); err != nil || !bytes.Equal(m.Snapshot(), old) {
		t.Fatalf("version 1 is not read: %v", err)
	}
	if !bytes.Equal(goldenMachine(t).Snapshot(), old) {
		t.Fatal("without prepared transactions a program of version 1 must be able to read it")
	}
}

func TestRestoreRefusesGarbage(t *testing.T) {
	t.Parallel()
	good := preparedMachine(t).Snapshot()
	m := New(DefaultConfig())
	if err := m.Restore(good); err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, b []byte) {
		t.Helper()
		err := m.Restore(b)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || !strings.HasPrefix(err.Error(), "txn: ") {
			t.Fatalf("%s: %v", what, err)
		}
		if !bytes.Equal(m.Snapshot(), good) {
			t.Fatalf("%s: a failed Restore changed the machine", what)
		}
	}
	refuse("nothing", nil)
	refuse("version 0", append([]byte{0}, good[1:]...))
	refuse("trailing byte", append(bytes.Clone(good), 0))
	for n := range good {
		refuse("cut", good[:n])
	}
	// Other limits: the state of one cluster is not that of another.
	other := New(tightConfig())
	if err := other.Restore(good); err == nil {
		t.Fatal("a snapshot from other limits was taken")
	}
	err := m.Restore([]byte{9})
	if !errors.Is(err, ErrVersion) {
		t.Fatalf("%v", err)
	}
}

// Check must notice what it promises to notice; each row breaks one thing.
// Covers TL-01 of CONFORMANCE.md.
func TestCheckNoticesDamage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(m *Machine, orders, bills *producer)
	}{
		{"time", func(m *Machine, _, _ *producer) { m.now = 1 }},
		{"producer id counter", func(m *Machine, _, _ *producer) { m.nextProducerID = 2 }},
		{"decision counter", func(m *Machine, _, _ *producer) { m.nextDecision = 1 }},
		{"name index", func(m *Machine, _, _ *producer) { delete(m.byName, "bills") }},
		{"id index", func(m *Machine, _, b *producer) { m.byID[b.id] = &producer{} }},
		{"roster", func(m *Machine, _, b *producer) { m.order.remove(b.id) }},
		{"epoch", func(_ *Machine, _, b *producer) { b.epoch = 0 }},
		{"timeout", func(_ *Machine, _, b *producer) { b.timeout = 0 }},
		{"updated", func(m *Machine, _, b *producer) { b.updated = m.now + 1 }},
		{"request ids", func(_ *Machine, _, b *producer) { b.requests[0] = b.requests[1] }},
		{"no request id", func(_ *Machine, _, b *producer) { b.requests = nil }},
		{"past epoch missing", func(_ *Machine, _, b *producer) { b.pastLast = nil }},
		{"past epoch too many", func(_ *Machine, o, _ *producer) { o.pastLast = []uint64{0} }},
		{"past epoch after the latest decision", func(_ *Machine, _, b *producer) { b.pastLast[0] = 1 }},
		{"past epoch of the latest decision, too low", func(m *Machine, _, _ *producer) { m.byName["ledger"].pastLast[2] = 0 }},
		{"past epoch of the latest decision, too high", func(m *Machine, _, _ *producer) { m.byName["ledger"].pastLast[2] = 2 }},
		{"past epoch below an outcome", func(m *Machine, _, _ *producer) { m.byName["ledger"].pastLast[0] = 5 }},
		{"past epoch above what was decided", func(m *Machine, _, _ *producer) { m.byName["ledger"].pastLast[0] = 7 }},
		{"past epoch without a decision", func(m *Machine, _, _ *producer) { m.byName["ledger"].pastLast[1] = 1 }},
		{"latest", func(_ *Machine, o, _ *producer) { o.latest.number = 1 }},
		{"latest outcome", func(_ *Machine, o, _ *producer) { o.latest.outcome, o.latest.reason = Committed, ReasonNone }},
		{"outcome value", func(_ *Machine, o, _ *producer) { o.outcomes[0].outcome = 9 }},
		{"commit with a reason", func(_ *Machine, o, _ *producer) { o.outcomes[0].reason = ReasonAdmin }},
		{"outcome twice", func(_ *Machine, o, _ *producer) { o.outcomes = append(o.outcomes, o.outcomes[0]) }},
		{"completing and complete", func(_ *Machine, o, _ *producer) { o.outcomes[0] = o.completing[0].decision }},
		{"open below the latest", func(_ *Machine, o, _ *producer) { o.open.number = 7 }},
		{"deadline", func(_ *Machine, o, _ *producer) { o.open.deadline++ }},
		{"enlisted order", func(_ *Machine, o, _ *producer) { o.open.enlisted[1].shard = 1 }},
		{"enlisted partitions", func(_ *Machine, o, _ *producer) { o.open.enlisted[0].partitions[0] = 99 }},
		{"pending", func(_ *Machine, o, _ *producer) { o.completing[0].pending++ }},
		{"acknowledged silently", func(_ *Machine, o, _ *producer) { o.completing[0].participants[1].acknowledged = true }},
		{"participant order", func(_ *Machine, o, _ *producer) { o.completing[0].participants[1].shard = 1 }},
		{"progress order", func(_ *Machine, o, _ *producer) {
			o.completing[0].participants[1].progress = []Progress{{21, 1}, {20, 1}}
		}},
		{"completing order", func(_ *Machine, o, _ *producer) {
			o.completing[0], o.completing[1] = o.completing[1], o.completing[0]
		}},
		{"sequence twice", func(_ *Machine, o, _ *producer) { o.completing[0].sequence = o.completing[1].sequence }},
		{"deadline index", func(m *Machine, _, _ *producer) { m.deadlines = nil }},
		{"idle list", func(m *Machine, _, _ *producer) { m.idle.remove(m.idle.head) }},
		{"idle member", func(m *Machine, o, _ *producer) { m.idle.pushBack(o) }},
		{"owed list", func(m *Machine, o, _ *producer) { m.settle(&o.completing[0].participants[1]) }},
		{"owed length", func(m *Machine, _, _ *producer) { m.owed[3].length++ }},
		{"prepared index", func(m *Machine, _, b *producer) { delete(m.prepared, b.id) }},
		{"prepared of another", func(_ *Machine, _, b *producer) { b.prepared.ref.ProducerID++ }},
		{"prepared beside an open one", func(_ *Machine, o, b *producer) { o.prepared = b.prepared }},
		{"prepared below the latest", func(m *Machine, _, _ *producer) { m.byName["kept"].latest.number = 9 }},
		{"prepared in an epoch to come", func(_ *Machine, _, b *producer) { b.prepared.ref.Epoch++ }},
		{"prepared in the future", func(m *Machine, _, b *producer) { b.prepared.preparedAt = m.now + 1 }},
		{"prepared before its start", func(_ *Machine, _, b *producer) { b.prepared.startedAt = b.prepared.preparedAt + 1 }},
		{"prepared participants", func(_ *Machine, _, b *producer) { b.prepared.participants[1].Shard = 1 }},
		{"prepared progress", func(_ *Machine, _, b *producer) {
			b.prepared.participants[0].Progress = []Progress{{21, 1}, {20, 1}}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := preparedMachine(t)
			test.damage(m, m.byName["orders"], m.byName["bills"])
			var corrupt *CorruptError
			if err := m.Check(); !errors.As(err, &corrupt) {
				t.Fatalf("not noticed: %v", err)
			}
		})
	}
}

func FuzzRestore(f *testing.F) {
	m := New(DefaultConfig())
	f.Add(m.Snapshot())
	m.InitProducer(5, InitProducer{TransactionalID: "a", RequestID: RequestID{1}})
	m.Enlist(6, Enlist{Items: []EnlistItem{{Ref: ref(1, 0, 1), Shard: 1, Partitions: []uint64{10}}}}, Env{Catalog: newWorld()})
	f.Add(m.Snapshot())
	m.EndTransaction(7, EndTransaction{Ref: ref(1, 0, 2), Commit: true, Participants: []Participant{at(1, 3)}}, Env{Catalog: newWorld()})
	f.Add(m.Snapshot())
	m.PrepareTransaction(8, PrepareTransaction{Ref: ref(1, 0, 3), Participants: []Participant{at(1, 3)}}, Env{Catalog: newWorld()})
	f.Add(m.Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New(DefaultConfig())
		if m.Restore(b) != nil {
			return
		}
		again := New(DefaultConfig())
		if err := again.Restore(m.Snapshot()); err != nil || !bytes.Equal(again.Snapshot(), m.Snapshot()) {
			t.Fatalf("a restored state does not survive its own snapshot: %v", err)
		}
		for _, shard := range m.OwedShards() {
			var acks []MarkerAck
			for mk := range m.Owed(shard) {
				acks = append(acks, MarkerAck{mk.Ref, shard, MarkerApplied})
			}
			m.MarkersApplied(0, MarkersApplied{Items: acks})
		}
		if err := m.Check(); err != nil || len(m.OwedShards()) != 0 {
			t.Fatalf("%v", err)
		}
	})
}
