package pstate

import (
	"maps"
	"slices"
)

// PartitionInfo is what the catalogue says of a partition.
type PartitionInfo struct {
	ID      uint64 // unique in the cluster, never used again
	TopicID uint64
	Topic   string // topic name
	Index   uint32 // number within the topic
	// Retention and Cleanup are the topic's.
	Retention Retention
	Cleanup   Cleanup
}

// partition is a partition the shard hosts.
type partition struct {
	info         PartitionInfo
	start        uint64 // offset of the first record that retention has left
	end          uint64 // offset of the next record
	bytes        uint64 // bytes ever appended
	maxTimestamp Millis
	segments     []segment    // of the records that are kept, by offset
	size         uint64       // bytes in segments
	needed       uint64       // lowest log index of the segments
	place        int          // in State.needs
	gaps         uint64       // below it there may be offsets without a record
	rewrites     uint64       // how often batches were rewritten
	cleaned      []cleaned    // by offset, and by time
	deleted      uint64       // below it there may have been tombstones that are gone
	open         list[stream] // of open transactions, by first offset
	kept         list[stream] // of idempotent producers and committed transactions
	aborted      abortedIndex
}

func newPartition(info PartitionInfo) *partition {
	at := func(st *stream) *link[stream] { return &st.link }
	return &partition{info: info, open: list[stream]{at: at}, kept: list[stream]{at: at}}
}

// SyncPartitions is the command that tells the shard which partitions it hosts
// as of a version of the catalogue: the full list, or the difference to the
// version the shard has.
type SyncPartitions struct {
	At      Millis
	Version uint64
	Full    bool
	From    uint64          // delta: the version it starts from
	Add     []PartitionInfo // full: all partitions of the shard
	Remove  []uint64        // delta only
}

// SyncResult tells what [State.SyncPartitions] changed.
type SyncResult struct {
	Code    SyncCode
	Added   []uint64 // ascending
	Removed []uint64 // ascending; fail whoever reads or waits there
	// Closed lists the transactions that were open only in removed partitions.
	Closed []TxnRef
}

// SyncPartitions adds and removes partitions. A version the shard has seen is
// ignored. A partition that stays keeps its state and takes the new topic name,
// retention and cleanup.
// A removed one takes all its state along: records, hidden ranges, sequences,
// and its part of open transactions; a transaction that was open in no other
// partition is closed without an outcome, and the floor covers it.
func (s *State) SyncPartitions(index uint64, c SyncPartitions) SyncResult {
	s.step(index, c.At)
	defer s.sweep()
	if c.Version <= s.version {
		return SyncResult{Code: SyncOld}
	}
	if !c.Full && c.From != s.version {
		return SyncResult{Code: SyncGap}
	}
	want := make(map[uint64]PartitionInfo, len(c.Add))
	for _, info := range c.Add {
		want[info.ID] = info
	}
	var removed []uint64
	if c.Full {
		for _, id := range slices.Sorted(maps.Keys(s.partitions)) {
			if _, ok := want[id]; !ok {
				removed = append(removed, id)
			}
		}
	} else {
		removed = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(c.Remove))),
			func(id uint64) bool { return s.partitions[id] == nil })
	}
	added := slices.DeleteFunc(slices.Sorted(maps.Keys(want)),
		func(id uint64) bool { return s.partitions[id] != nil })
	if len(s.partitions)-len(removed)+len(added) > int(s.cfg.MaxPartitions) {
		return SyncResult{Code: SyncLimit}
	}
	s.version = c.Version
	res := SyncResult{Code: SyncApplied, Added: added, Removed: removed}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if part := s.partitions[id]; part != nil {
			part.info = want[id]
		} else {
			s.partitions[id] = newPartition(want[id])
		}
	}
	for _, id := range removed {
		res.Closed = append(res.Closed, s.removePartition(s.partitions[id])...)
	}
	return res
}

func (s *State) removePartition(part *partition) (closed []TxnRef) {
	for st := range part.open.all() {
		part.open.remove(st)
		s.sequences--
		t := st.txn
		if t.parts = removeStream(t.parts, st); len(t.parts) > 0 {
			continue
		}
		closed = append(closed, t.ref())
		s.unlist(t)
		t.prod.removeTxn(t)
		t.prod.raise(t.point)
	}
	for st := range part.kept.all() {
		part.kept.remove(st)
		s.sequences--
		if st.txn != nil {
			st.txn.parts = removeStream(st.txn.parts, st)
			continue
		}
		st.prod.idem = removeStream(st.prod.idem, st)
		s.dropIfEmpty(st.prod)
	}
	s.needs.remove(part)
	delete(s.partitions, part.info.ID)
	return closed
}

// PartitionStatus describes a partition.
type PartitionStatus struct {
	PartitionInfo
	Start       uint64 // first offset that retention has left
	Stable      End    // what read_committed may see
	Applied     End    // what read_uncommitted may see
	Bytes       uint64 // bytes ever appended
	Size        uint64 // bytes of the batches that are stored
	MaxTime     Millis // highest record timestamp
	OpenTxns    int    // transactions open in it
	HiddenSpans int    // entries of its aborted index
	Gaps        uint64 // below it compaction may have left offsets without a record
	Rewrites    uint64 // how often batches were rewritten
	Compacted   uint64 // how far it has been compacted
	// Deleted is the offset below which tombstones have gone: whoever has read no further
	// may not have heard of them.
	Deleted uint64
}

// Partition describes one partition; false if the shard does not host it.
func (s *State) Partition(id uint64) (PartitionStatus, bool) {
	part := s.partitions[id]
	if part == nil {
		return PartitionStatus{}, false
	}
	return PartitionStatus{
		PartitionInfo: part.info, Start: part.start, Stable: part.stable(), Applied: End(part.end),
		Bytes: part.bytes, Size: part.size, MaxTime: part.maxTimestamp,
		OpenTxns: part.open.len, HiddenSpans: part.aborted.len,
		Gaps: part.gaps, Rewrites: part.rewrites, Compacted: part.compacted(), Deleted: part.deleted,
	}, true
}

// Partitions describes all partitions of the shard, ascending by id.
func (s *State) Partitions() []PartitionStatus {
	out := make([]PartitionStatus, 0, len(s.partitions))
	for _, id := range slices.Sorted(maps.Keys(s.partitions)) {
		st, _ := s.Partition(id)
		out = append(out, st)
	}
	return out
}
