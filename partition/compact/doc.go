// Package compact decides what compaction by key leaves of the batches of a
// partition. It sees records, and nothing of where they are stored: [Keys] learns
// where the newest record of each key is, and a [Filter] cuts batches down to what
// is not obsolete.
//
// What is left of a batch is encoded as batches of their own, one per run of records
// that were next to each other, as a batch has no gaps in its offsets. A run costs a
// header and an index row, so a batch of many small records may grow when it is cut;
// then it stays as it is, but for what must not stay: records of transactions that
// were aborted, and those that a tombstone has deleted. An older record besides a
// newer one of its key does no harm, but one whose tombstone goes would be back.
//
// It is pure: no clock, no disk, no goroutine.
package compact
