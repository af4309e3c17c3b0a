package pstate

import "slices"

// StoredBatch is a batch that the shard has, as its row describes it.
type StoredBatch struct {
	BaseOffset          uint64
	Count               uint32 // records, at least 1
	Ref                 TxnRef
	BaseSequence        uint64
	MaxTimestamp        Millis
	RunningMaxTimestamp Millis
	Size                uint32 // bytes as encoded by the client
}

// End returns the offset after the last record.
func (b StoredBatch) End() uint64 { return b.BaseOffset + uint64(b.Count) }

// Relocate is the command that writes batches which are kept once more, at the end
// of the log, with the same bytes and offsets, so that the entries which hold them
// now can go: one partition that keeps a little for long must not keep the whole
// log of its shard.
type Relocate struct {
	At        Millis
	Partition uint64
	Batches   []StoredBatch // of one segment, from its first on, without gaps
}

// RelocateCode is what became of a [Relocate].
type RelocateCode uint8

// The results of relocations.
const (
	// Relocated: the batches are where this entry is.
	Relocated RelocateCode = iota + 1
	// RelocateDropped: the batches lie below the log start, although records of the
	// same segment do not. They are not stored any more.
	RelocateDropped
	// RelocateStale: this is not how a segment begins any more, for retention was
	// faster, the partition has been rewritten, or it is gone. Nothing changed.
	RelocateStale
)

// String returns the name of the result.
func (c RelocateCode) String() string {
	switch c {
	case Relocated:
		return "RELOCATED"
	case RelocateDropped:
		return "DROPPED"
	case RelocateStale:
		return "STALE"
	}
	return "RELOCATE_UNKNOWN"
}

// Relocate notes that batches lie in this entry from now on. What readers see does
// not change, nor does anything that is known of producers and transactions.
func (s *State) Relocate(index uint64, c Relocate) RelocateCode {
	s.step(index, c.At)
	defer s.sweep()
	part := s.partitions[c.Partition]
	if part == nil {
		return RelocateStale
	}
	code := part.relocate(c.Batches, index, s.written)
	if code == RelocateStale {
		return code
	}
	for _, b := range c.Batches {
		s.written += uint64(b.Size)
	}
	s.needs.update(part)
	return code
}

// relocate moves the batches at the beginning of a segment.
func (p *partition) relocate(batches []StoredBatch, index, written uint64) RelocateCode {
	if len(batches) == 0 || p.rewrites > 0 { // what was dropped must not come back
		return RelocateStale
	}
	i := slices.IndexFunc(p.segments, func(g segment) bool { return g.base == batches[0].BaseOffset })
	if i < 0 {
		return RelocateStale
	}
	g := p.segments[i]
	moved := segment{base: g.base, first: index, at: written, newest: g.newest, opened: g.opened}
	next := g.base
	for _, b := range batches {
		if b.Count == 0 || b.BaseOffset != next || b.End() > p.segmentEnd(i) {
			return RelocateStale
		}
		next = b.End()
		moved.bytes += uint64(b.Size)
	}
	whole := next == p.segmentEnd(i)
	switch {
	case moved.bytes > g.bytes || whole && moved.bytes != g.bytes:
		return RelocateStale
	case next <= p.start: // of the first segment; its end is above
		p.segments[0].base, p.segments[0].bytes = next, g.bytes-moved.bytes
		p.size -= moved.bytes
		return RelocateDropped
	case !whole:
		g.base, g.bytes = next, g.bytes-moved.bytes
		p.segments[i] = g
		p.segments = slices.Insert(p.segments, i, moved)
	default:
		p.segments[i] = moved
	}
	p.joinPiece(i, g.first)
	if len(p.segments) > maxSegments {
		p.mergeSegments()
	}
	return Relocated
}

// joinPiece makes pieces of what was one segment, which began at an index of the
// log, one again.
func (p *partition) joinPiece(i int, first uint64) {
	if i > 0 && p.segments[i-1].first > first && p.segments[i-1].bytes+p.segments[i].bytes <= max(segmentBytes, p.size/segmentShare) {
		p.segments[i-1].join(p.segments[i])
		p.segments = slices.Delete(p.segments, i, i+1)
	}
}

// Oldest returns the part of the log that would let most of it go if it were
// relocated: the segment that begins at the lowest entry, as offsets from the first
// to before end. It is worth it, and ok, if the log has at least min bytes of
// batches from there on, of which less than half are kept: so no more is relocated
// than is appended.
func (s *State) Oldest(minBytes uint64) (partition, first uint64, end End, ok bool) {
	if len(s.needs.byFirst) == 0 {
		return 0, 0, 0, false
	}
	p := s.needs.byFirst[0]
	i := slices.IndexFunc(p.segments, func(g segment) bool { return g.first == p.needed })
	kept := uint64(0)
	for _, q := range s.needs.byFirst {
		kept += q.size
	}
	logged := s.written - p.segments[i].at
	if logged < minBytes || kept > logged/2 {
		return 0, 0, 0, false
	}
	return p.info.ID, p.segments[i].base, End(p.segmentEnd(i)), true
}
