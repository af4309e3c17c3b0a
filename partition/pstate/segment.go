package pstate

// Segments are the grain of retention, as in Kafka, but they are not files: the
// records of all partitions of a shard lie in one log. A segment says of a run of
// batches of one partition how many bytes they are, how new the newest of their
// records is, and the lowest log index that holds one of them. That is all that
// retention and the trimming of the log have to know.
//
// A segment is as large as about one thirty-second of what the partition keeps,
// and no larger than one sixteenth of what it may keep, by bytes and by time. So
// at most about so much more is kept than retention asks for, and the number of
// segments is bounded however long the log is.
const (
	// segmentBytes is below which a segment is not closed for its size, unless
	// the partition may keep so little that it has to be.
	segmentBytes = 64 << 10
	// compactedSegmentBytes takes its place in partitions that are compacted: they are
	// often small, and what is in the last segment is not compacted.
	compactedSegmentBytes = 1 << 10
	// segmentShare and retentionShare say which part of what is kept, and of what
	// may be kept, a segment is.
	segmentShare   = 32
	retentionShare = 16
	// maxSegments bounds the segments of a partition: beyond it neighbours are
	// merged in pairs. About 30 bytes each in a snapshot.
	maxSegments = 64
)

// segment is a run of batches of one partition.
type segment struct {
	base   uint64 // offset of its first record
	first  uint64 // lowest log index of an entry with a batch of it
	at     uint64 // bytes of batches that the log had before that entry
	bytes  uint64
	newest Millis // see [timeOf]
	opened Millis // log time of its first batch
}

// Retention says how much of a partition is kept. The zero value keeps all.
type Retention struct {
	Millis Millis // records older than this may go; 0: none
	Bytes  uint64 // the oldest beyond so many bytes may go; 0: none
}

// timeOf returns the time that retention takes a batch to be of: that of its
// newest record, but not later than when it was appended, by log time. A record
// from the future must not hold the log until then. One without a time (below 0, as
// in Kafka) is as old as its append. Log time never goes back: a leader whose clock
// is behind must not make new records old.
func timeOf(b Batch, appended Millis) Millis {
	if b.MaxTimestamp < 0 || b.MaxTimestamp > appended {
		return appended
	}
	return b.MaxTimestamp
}

// addBatch counts a batch that is about to be stored at the end.
func (p *partition) addBatch(b Batch, index, written uint64, now Millis) {
	n := len(p.segments)
	if n == 0 || p.closes(&p.segments[n-1], now) {
		if n == maxSegments {
			p.mergeSegments()
		}
		p.segments = append(p.segments, segment{base: p.end, first: index, at: written, newest: timeOf(b, now), opened: now})
		n = len(p.segments)
	}
	last := &p.segments[n-1]
	last.bytes += uint64(b.Size)
	last.newest = max(last.newest, timeOf(b, now))
	p.size += uint64(b.Size)
}

// closes reports whether the next batch begins a new segment.
func (p *partition) closes(last *segment, now Millis) bool {
	r := p.info.Retention
	size := uint64(segmentBytes)
	if p.info.Cleanup.Compact {
		size = compactedSegmentBytes
	}
	size = max(size, p.size/segmentShare)
	if r.Bytes > 0 { // also when there is far more than that, which is about to go
		size = min(size, r.Bytes/retentionShare)
	}
	if last.bytes >= size {
		return true
	}
	return r.Millis > 0 && now-last.opened >= max(r.Millis/retentionShare, 1)
}

// mergeSegments halves the number of segments.
func (p *partition) mergeSegments() {
	merged := p.segments[:0]
	for i := 0; i < len(p.segments); i += 2 {
		s := p.segments[i]
		if i+1 < len(p.segments) {
			s.join(p.segments[i+1])
		}
		merged = append(merged, s)
	}
	p.segments = merged
}

// join extends a segment by the one behind it.
func (g *segment) join(next segment) {
	g.bytes += next.bytes
	g.newest = max(g.newest, next.newest)
	g.first, g.at = min(g.first, next.first), min(g.at, next.at)
}

// lowest returns the lowest log index of the segments.
func (p *partition) lowest() uint64 {
	low := p.segments[0].first
	for _, g := range p.segments[1:] {
		low = min(low, g.first)
	}
	return low
}

// segmentEnd returns the offset after the last record of a segment.
func (p *partition) segmentEnd(i int) uint64 {
	if i+1 < len(p.segments) {
		return p.segments[i+1].base
	}
	return p.end
}

// expired returns where the log would start by its retention at a time: whole
// segments go, the oldest first, as long as they are too old or too much, and
// none that reaches above the stable end. An old record behind newer ones waits
// for them.
func (p *partition) expired(now Millis) uint64 {
	r, left, start := p.info.Retention, p.size, p.start
	for i, s := range p.segments {
		end := p.segmentEnd(i)
		old := r.Millis > 0 && s.newest < now-r.Millis
		over := r.Bytes > 0 && left-s.bytes >= r.Bytes
		if !old && !over || end > uint64(p.stable()) {
			break
		}
		left -= s.bytes
		start = max(start, end)
	}
	return start
}

// dropSegments drops the segments that lie wholly below the log start.
func (p *partition) dropSegments() {
	n := 0
	for n < len(p.segments) && p.segmentEnd(n) <= p.start {
		p.size -= p.segments[n].bytes
		n++
	}
	p.segments = append(p.segments[:0], p.segments[n:]...)
}

// stored returns the offset of the first record that is still stored: the log
// start, or below it in the same segment.
func (p *partition) stored() uint64 {
	if len(p.segments) == 0 {
		return p.end
	}
	return p.segments[0].base
}
