// Package log is the index of a shard's records: for every stored batch one
// row that tells where in the shard's Raft log its bytes are. The log is the
// data; a batch stays the bytes that its producer encoded, unless it is compacted.
//
// Offsets are dense but where compaction has removed records: there the rows have
// gaps, and [Index] is told below which offset that may be.
//
// Rows live in the row space of the shard's Raft group and are written by the
// state machine when an append is applied. Like all rows they may be ahead of
// the machine right after a restart, so every read is bounded by an offset that
// the machine's state has named.
//
// # Row format, version 1
//
//	key    'i', partition id, base offset: the numbers as eight bytes each,
//	       most significant first, so that key order is offset order
//	value  version byte, then variable length integers: Raft index, position
//	       and length in the entry's data, number of records, base sequence,
//	       producer id, epoch, transaction number, max timestamp of the batch,
//	       highest timestamp of the partition up to and with the batch
package log
