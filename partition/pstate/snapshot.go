package pstate

import (
	"maps"
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// snapshotVersion is the first byte of a snapshot. Version 1, the oldest that is
// read, has no tombstones; 1 and 2 have no retention and no segments, and 3 has
// nothing of compaction.
const (
	snapshotVersion       = 4
	oldestSnapshotVersion = 1
)

// Snapshot returns the whole state as bytes: equal states give equal bytes.
// What has an order of its own (idle producers, open transactions, tombstones)
// is written in that order, everything else ascending by id.
func (s *State) Snapshot() []byte {
	b := []byte{snapshotVersion}
	b = appendConfig(b, s.cfg)
	b = codec.AppendVarint(b, s.now)
	b = codec.AppendUvarint(b, s.index)
	b = codec.AppendUvarint(b, s.version)
	b = codec.AppendUvarint(b, s.written)

	b = codec.AppendUvarint(b, uint64(len(s.partitions)))
	for _, id := range slices.Sorted(maps.Keys(s.partitions)) {
		b = s.partitions[id].snapshot(b)
	}
	b = codec.AppendUvarint(b, uint64(s.idle.len))
	for p := range s.idle.all() {
		b = p.snapshot(b)
	}
	b = codec.AppendUvarint(b, uint64(len(s.producers)-s.idle.len))
	// As a rule almost all are listed: what is sorted are the few others.
	busy := make([]uint64, 0, len(s.producers)-s.idle.len)
	for id, p := range s.producers { // sorted below: the order does not matter
		if !p.listed {
			busy = append(busy, id)
		}
	}
	slices.Sort(busy)
	for _, id := range busy {
		b = s.producers[id].snapshot(b)
	}
	b = codec.AppendUvarint(b, uint64(s.open.len))
	for t := range s.open.all() {
		b = appendRef(b, t.ref())
	}
	b = codec.AppendUvarint(b, uint64(len(s.gone.queue)))
	for _, id := range s.gone.queue {
		b = codec.AppendVarint(codec.AppendUvarint(b, id), s.gone.since[id])
	}
	return b
}

func (p *partition) snapshot(b []byte) []byte {
	b = appendInfo(b, p.info, true)
	for _, v := range []uint64{p.start, p.end, p.bytes} {
		b = codec.AppendUvarint(b, v)
	}
	b = codec.AppendVarint(b, p.maxTimestamp)
	b = codec.AppendUvarint(b, uint64(len(p.segments)))
	for _, g := range p.segments {
		b = codec.AppendUvarint(codec.AppendUvarint(codec.AppendUvarint(codec.AppendUvarint(b, g.base), g.first), g.at), g.bytes)
		b = codec.AppendVarint(codec.AppendVarint(b, g.newest), g.opened)
	}
	b = codec.AppendUvarint(codec.AppendUvarint(codec.AppendUvarint(b, p.gaps), p.rewrites), p.deleted)
	b = codec.AppendUvarint(b, uint64(len(p.cleaned)))
	for _, c := range p.cleaned {
		b = codec.AppendBool(codec.AppendVarint(codec.AppendUvarint(b, c.end), c.at), c.tombstones)
	}
	b = codec.AppendUvarint(b, uint64(p.aborted.len))
	for e := range p.aborted.all() {
		b = appendRef(b, e.ref())
		for _, v := range []uint64{e.first, e.end, e.minSeq} {
			b = codec.AppendUvarint(b, v)
		}
	}
	return b
}

func (p *producer) snapshot(b []byte) []byte {
	b = codec.AppendUvarint(b, p.id)
	b = appendPoint(b, p.settle)
	b = codec.AppendUvarint(b, uint64(p.fence))
	b = codec.AppendVarint(b, p.seen)
	b = appendStreams(b, p.idem)
	b = codec.AppendUvarint(b, uint64(len(p.txns)))
	for _, t := range p.txns {
		b = appendPoint(b, t.point)
		b = append(b, byte(t.outcome), byte(t.reason))
		b = codec.AppendUvarint(b, t.openedAt)
		b = codec.AppendVarint(b, t.opened)
		b = codec.AppendUvarint(b, uint64(len(t.damage)))
		for _, d := range t.damage {
			for _, v := range []uint64{d.Partition, d.Stated, d.Held} {
				b = codec.AppendUvarint(b, v)
			}
		}
		b = appendStreams(b, t.parts)
	}
	return b
}

func appendStreams(b []byte, in []*stream) []byte {
	b = codec.AppendUvarint(b, uint64(len(in)))
	for _, st := range in {
		b = codec.AppendUvarint(b, st.part.info.ID)
		b = codec.AppendUvarint(b, uint64(st.epoch))
		for _, v := range []uint64{st.next, st.first, st.end} {
			b = codec.AppendUvarint(b, v)
		}
		b = codec.AppendVarint(b, st.seen)
		b = codec.AppendUvarint(b, uint64(len(st.ranges)))
		for _, r := range st.ranges {
			b = codec.AppendUvarint(b, r.seq)
			b = codec.AppendUvarint(b, r.offset)
		}
	}
	return b
}
