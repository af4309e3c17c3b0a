package pstate

import (
	"maps"
	"slices"
)

// Cleanup says how a partition is compacted by key. The zero value is not at all.
type Cleanup struct {
	// Compact has older records of a key go, once a newer committed one is there.
	Compact bool
	// MinLag is how old records are at least before they are compacted.
	MinLag Millis
	// DeleteRetention is how long a tombstone (a record without a value) stays after
	// the older records of its key have gone, so that whoever reads from the start on
	// meanwhile hears of it.
	DeleteRetention Millis
}

// cleaned says that below an offset aborted records have gone, and of the records of
// a key all but the newest there.
type cleaned struct {
	end uint64
	at  Millis // log time when that was so; see [Cleanup.DeleteRetention]
	// tombstones: there may be some from the end of the one before it on.
	tombstones bool
}

// maxCleaned bounds how many are told apart. Beyond it neighbours are taken for
// one, and tombstones of the older stay for as long as those of the newer.
const maxCleaned = 16

// compacted returns the offset below which the partition has been compacted.
func (p *partition) compacted() uint64 {
	if len(p.cleaned) == 0 {
		return 0
	}
	return p.cleaned[len(p.cleaned)-1].end
}

// horizon returns the offset below which tombstones may go, and whether there are
// any.
func (p *partition) horizon(now Millis) (below uint64, tombstones bool) {
	for _, c := range p.cleaned {
		if c.at > now-p.info.Cleanup.DeleteRetention {
			break
		}
		below, tombstones = c.end, tombstones || c.tombstones
	}
	return below, tombstones
}

// Compaction is a pass over a partition that is worth it.
type Compaction struct {
	Partition uint64
	// From is how far it has been compacted, To how far it may be: the end of the last
	// segment that is closed, old enough and below the stable end. Keys of [From, To)
	// make what is below To obsolete.
	From uint64
	To   End
	// Horizon is the offset below which tombstones may go.
	Horizon uint64
}

// Compactable lists what is worth a pass at a time, ascending by partition: where at
// least half of the bytes that may be compacted have not been (the dirty ratio of
// Kafka), or where the time of tombstones has come. So a pass over everything writes
// no more than was appended since the last. It looks at all partitions; ask seldom.
func (s *State) Compactable(now Millis) []Compaction {
	var out []Compaction
	for _, id := range slices.Sorted(maps.Keys(s.partitions)) {
		p := s.partitions[id]
		if !p.info.Cleanup.Compact {
			continue
		}
		c, dirty, all := p.compactable(now)
		var due bool
		if c.Horizon, due = p.horizon(now); due || dirty > 0 && dirty >= all-dirty {
			out = append(out, c)
		}
	}
	return out
}

// compactable returns how far the partition may be compacted, how many bytes that
// are, and how many of them have not been yet.
func (p *partition) compactable(now Millis) (c Compaction, dirty, all uint64) {
	done := p.compacted()
	c = Compaction{Partition: p.info.ID, From: done, To: End(done)}
	for i, g := range p.segments {
		end := p.segmentEnd(i)
		if i == len(p.segments)-1 || end > uint64(p.stable()) || g.newest > now-p.info.Cleanup.MinLag {
			break
		}
		c.To = max(c.To, End(end))
		all += g.bytes
		if g.base >= done {
			dirty += g.bytes
		}
	}
	return c, dirty, all
}

// SegmentAt returns the offsets [base, end) of the segment that an offset lies in, or
// else of the first one after it. False: there is none, or the shard does not host the
// partition.
func (s *State) SegmentAt(partition, offset uint64) (base uint64, end End, ok bool) {
	p := s.partitions[partition]
	if p == nil {
		return 0, 0, false
	}
	for i, g := range p.segments {
		if to := p.segmentEnd(i); to > offset {
			return g.base, End(to), true
		}
	}
	return 0, 0, false
}

// Rewrite is the command that puts other batches in the place of those that are
// stored in a run of offsets: what compaction has left of them, or, to let old
// entries go, the same ones (see [Relocate], which is for partitions that were never
// rewritten).
type Rewrite struct {
	At        Millis
	Partition uint64
	// Seen is [PartitionStatus.Rewrites] when the batches were read. If there was
	// another since, they are not those that are stored.
	Seen     uint64
	From     uint64 // offset of the first batch that is replaced, or before it
	To       End    // at most the stable end, and within the segment of From
	Replaced uint64 // bytes of the batches that are replaced
	// Batches are those that are stored instead, at offsets that some of the replaced
	// ones had. None lies below the log start.
	Batches []StoredBatch
}

// RewriteCode is what became of a [Rewrite] or [Compacted].
type RewriteCode uint8

// The results of rewriting.
const (
	// Rewritten: the batches are those of the command.
	Rewritten RewriteCode = iota + 1
	// RewriteStale: the partition is not any more what it was when the command was
	// made. Nothing changed.
	RewriteStale
	// RewriteEnded: how far the partition has been compacted is known.
	RewriteEnded
)

// String returns the name of the result.
func (c RewriteCode) String() string {
	switch c {
	case Rewritten:
		return "REWRITTEN"
	case RewriteStale:
		return "STALE"
	case RewriteEnded:
		return "ENDED"
	}
	return "REWRITE_UNKNOWN"
}

// Rewrite notes that batches are replaced. Producers, transactions and the aborted
// index are not touched: what hides records stays for as long as any may be there.
func (s *State) Rewrite(index uint64, c Rewrite) RewriteCode {
	s.step(index, c.At)
	defer s.sweep()
	part := s.partitions[c.Partition]
	if part == nil || !part.rewrite(c, index, s.written) {
		return RewriteStale
	}
	for _, b := range c.Batches {
		s.written += uint64(b.Size)
	}
	s.needs.update(part)
	return Rewritten
}

func (p *partition) rewrite(c Rewrite, index, written uint64) bool {
	from, to := c.From, uint64(c.To)
	if c.Seen != p.rewrites || from >= to || c.To > p.stable() {
		return false
	}
	i := len(p.segments) - 1
	for i >= 0 && p.segments[i].base > from {
		i--
	}
	if i < 0 || to > p.segmentEnd(i) {
		return false
	}
	g := p.segments[i]
	if c.Replaced > g.bytes || from == g.base && to == p.segmentEnd(i) && c.Replaced != g.bytes {
		return false
	}
	next, size := from, uint64(0)
	for _, b := range c.Batches {
		if b.Count == 0 || b.BaseOffset < next || b.End() > to || b.End() <= p.start {
			return false
		}
		next = b.End()
		size += uint64(b.Size)
	}
	p.rewrites++
	p.gaps = max(p.gaps, to)
	p.size = p.size - c.Replaced + size
	moved := segment{base: g.base, first: index, at: written, bytes: size, newest: g.newest, opened: g.opened}
	piece := g.first
	switch rest := g.bytes - c.Replaced; {
	case rest == 0: // nothing else of the segment is stored
		p.segments[i] = moved
	case from == g.base && size > 0:
		g.base, g.bytes = to, rest
		p.segments[i] = g
		p.segments = slices.Insert(p.segments, i, moved)
	default: // the segment begins in the log where it did, or later
		p.segments[i].bytes = rest + size
		piece = index
	}
	p.tidy(i, piece)
	return true
}

// tidy joins a segment that was rewritten with its neighbours: one of which nothing
// is stored any more, and a piece of what began at an index of the log.
func (p *partition) tidy(i int, began uint64) {
	switch g := p.segments[i]; {
	case g.bytes == 0 && i+1 < len(p.segments):
		p.segments[i+1].base = g.base
		p.segments = slices.Delete(p.segments, i, i+1)
	case g.bytes == 0 && i > 0:
		p.segments = slices.Delete(p.segments, i, i+1)
	default:
		p.joinPiece(i, began)
	}
	if len(p.segments) > maxSegments {
		p.mergeSegments()
	}
}

// Compacted is the command that ends a pass: below To aborted records are gone, and
// of each key all but the newest there.
type Compacted struct {
	At        Millis
	Partition uint64
	From      uint64 // how far the partition had been compacted before
	To        End    // at most the stable end
	// Horizon is the offset below which tombstones are gone.
	Horizon uint64
	// Tombstones: there are some in [From, To).
	Tombstones bool
}

// Compacted notes how far a partition has been compacted. Only now goes what the
// aborted index says of transactions that lie wholly below: not before the last of
// their records is gone.
func (s *State) Compacted(index uint64, c Compacted) RewriteCode {
	s.step(index, c.At)
	defer s.sweep()
	part := s.partitions[c.Partition]
	if part == nil || c.From != part.compacted() || uint64(c.To) < c.From || c.To > part.stable() || c.Horizon > c.From {
		return RewriteStale
	}
	part.aborted.trim(uint64(c.To))
	part.compactedTo(c, s.now)
	part.deleted = max(part.deleted, c.Horizon)
	return RewriteEnded
}

func (p *partition) compactedTo(c Compacted, now Millis) {
	for i := range p.cleaned {
		if p.cleaned[i].end <= c.Horizon {
			p.cleaned[i].tombstones = false
		}
	}
	if uint64(c.To) > c.From {
		p.cleaned = append(p.cleaned, cleaned{uint64(c.To), now, c.Tombstones})
	}
	// One without tombstones says no more than the next one does.
	for len(p.cleaned) > 1 && !p.cleaned[0].tombstones {
		p.cleaned = p.cleaned[1:]
	}
	if len(p.cleaned) > maxCleaned {
		p.cleaned = slices.Delete(p.cleaned, 0, 1)
		p.cleaned[0].tombstones = true
	}
}
