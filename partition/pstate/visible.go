package pstate

import (
	"cmp"
	"slices"
	"strconv"
)

// End is an exclusive bound: the offset after the last one that is meant. It
// is a type of its own so that it is not taken for the offset of a record.
type End uint64

// Isolation says which records a reader may see.
type Isolation uint8

// The isolation levels.
const (
	ReadUncommitted Isolation = 0
	ReadCommitted   Isolation = 1
)

// String returns the name of the level.
func (i Isolation) String() string {
	switch i {
	case ReadUncommitted:
		return "READ_UNCOMMITTED"
	case ReadCommitted:
		return "READ_COMMITTED"
	}
	return "ISOLATION_" + strconv.Itoa(int(i))
}

// VisibleEnd returns where the readers of a partition must stop. Fetch,
// wake-ups, end offsets, offset by time and lag all ask here and nowhere else.
// An isolation it does not know reads as committed. False: the shard does not
// host the partition.
func (s *State) VisibleEnd(partition uint64, level Isolation) (End, bool) {
	part := s.partitions[partition]
	if part == nil {
		return 0, false
	}
	if level == ReadUncommitted {
		return End(part.end), true
	}
	return part.stable(), true
}

// StableEnd returns the LSO of a partition: the first offset of the oldest open
// transaction there, or the applied end; 0 if the shard does not host it.
func (s *State) StableEnd(partition uint64) End {
	end, _ := s.VisibleEnd(partition, ReadCommitted)
	return end
}

// AppliedEnd returns the end of what is stored in a partition; 0 if the shard
// does not host it.
func (s *State) AppliedEnd(partition uint64) End {
	end, _ := s.VisibleEnd(partition, ReadUncommitted)
	return end
}

// LogStart returns the first offset that retention has left; 0 if the shard
// does not host the partition.
func (s *State) LogStart(partition uint64) uint64 {
	if part := s.partitions[partition]; part != nil {
		return part.start
	}
	return 0
}

// GapsTo returns the offset below which compaction may have left offsets without a
// record, and CompactedTo how far it came; 0 if the shard does not host the partition.
func (s *State) GapsTo(partition uint64) uint64 {
	if part := s.partitions[partition]; part != nil {
		return part.gaps
	}
	return 0
}

// CompactedTo returns the offset below which the partition has been compacted, and
// the aborted index has nothing; 0 if the shard does not host it.
func (s *State) CompactedTo(partition uint64) uint64 {
	if part := s.partitions[partition]; part != nil {
		return part.compacted()
	}
	return 0
}

// Rewrites returns how often batches of a partition were rewritten; 0 if the shard
// does not host it.
func (s *State) Rewrites(partition uint64) uint64 {
	if part := s.partitions[partition]; part != nil {
		return part.rewrites
	}
	return 0
}

// NeedsKeys reports whether a partition takes no records without a key.
func (s *State) NeedsKeys(partition uint64) bool {
	part := s.partitions[partition]
	return part != nil && part.info.Cleanup.Compact
}

func (p *partition) stable() End {
	if p.open.head != nil {
		return End(p.open.head.first)
	}
	return End(p.end)
}

// Blocker is the open transaction that holds the stable end of a partition.
type Blocker struct {
	Ref         TxnRef
	FirstOffset uint64 // its first record in the partition; the stable end
	OpenedAt    uint64 // log index
	OpenedTime  Millis // log time
}

// Blocker returns what holds the stable end of a partition, if anything does.
func (s *State) Blocker(partition uint64) (Blocker, bool) {
	part := s.partitions[partition]
	if part == nil || part.open.head == nil {
		return Blocker{}, false
	}
	st := part.open.head
	return Blocker{st.txn.ref(), st.first, st.txn.openedAt, st.txn.opened}, true
}

// CommittedPrefix returns how many leading records of a stored batch
// read_committed may see: all of them, none, or, where a commit covered less
// than was sent, some. A batch at or above the stable end is not visible at
// all. The batch is given by the TxnRef it was stored with, the offset and the
// sequence of its first record, and its number of records.
func (s *State) CommittedPrefix(partition uint64, ref TxnRef, baseOffset, baseSequence uint64, count uint32) uint32 {
	part := s.partitions[partition]
	if part == nil || End(baseOffset) >= part.stable() {
		return 0
	}
	e, ok := part.aborted.find(ref, baseOffset)
	switch {
	case !ok:
		return count
	case e.minSeq <= baseSequence:
		return 0
	}
	return uint32(min(uint64(count), e.minSeq-baseSequence))
}

// HiddenRange is an entry of the aborted index: records of Ref at offsets from
// First to before End with sequences from MinSequence on are invisible to
// read_committed. Records of others in between are not meant.
type HiddenRange struct {
	Ref         TxnRef
	First       uint64
	End         End
	MinSequence uint64
}

// Aborted lists the entries of a partition's aborted index that overlap the
// offsets [from, to), ascending by first offset. It looks at the whole index of
// the partition; it is for people, not for reads.
func (s *State) Aborted(partition, from uint64, to End) []HiddenRange {
	part := s.partitions[partition]
	if part == nil {
		return nil
	}
	var out []HiddenRange
	for e := range part.aborted.all() {
		if e.first < uint64(to) && e.end > from {
			out = append(out, HiddenRange{e.ref(), e.first, End(e.end), e.minSeq})
		}
	}
	slices.SortFunc(out, func(a, b HiddenRange) int { return cmp.Compare(a.First, b.First) })
	return out
}
