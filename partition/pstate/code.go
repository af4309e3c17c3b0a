package pstate

import "strconv"

// Code is the verdict on one batch. The list is closed.
type Code uint8

// The verdicts on a batch, in the order in which they are looked for.
const (
	// CodeUnknownPartition: the shard does not host the partition (rule 1).
	CodeUnknownPartition Code = iota + 1
	// CodeMalformed: no records, too many, or sequences past the last number
	// (rule 1).
	CodeMalformed
	// CodeTooLarge: more bytes than [Config.MaxBatchBytes] (rule 1).
	CodeTooLarge
	// CodeProducerGone: the producer id does not exist any more, and none of its
	// transactions is open.
	CodeProducerGone
	// CodeDuplicate: every record of the batch was stored before under this
	// TxnRef or producer; a success. The offset is known only while the range
	// is remembered (rule 2).
	CodeDuplicate
	// CodeOutOfOrder: the batch overlaps what is stored only in part, or does
	// not start at the next expected sequence (rules 2 and 6).
	CodeOutOfOrder
	// CodeFenced: a higher epoch of the producer exists (rule 3).
	CodeFenced
	// CodeTxnEnded: the transaction has an outcome here (rule 4).
	CodeTxnEnded
	// CodeStaleTxn: the transaction is at or below the producer's floor and not
	// open here (rule 5).
	CodeStaleTxn
	// CodeUnknownProducer: an idempotent producer the shard does not know
	// continues at a sequence other than 0 (rule 6).
	CodeUnknownProducer
	// CodeTooManyOpen: the producer has [Config.MaxOpenPerProducer]
	// transactions open here; retriable once one of them has ended.
	CodeTooManyOpen
	// CodeProducerLimit: the shard keeps [Config.MaxProducers] producers or
	// [Config.MaxSequences] sequences; retriable once some have expired.
	CodeProducerLimit
	// CodeAppended: the batch is stored at BaseOffset (rule 7).
	CodeAppended
)

// OK reports whether the records of the batch are stored: appended now, or
// before.
func (c Code) OK() bool { return c == CodeAppended || c == CodeDuplicate }

// Final reports whether the verdict, found in the state of any applied prefix
// of the log, may be given to the producer without a log entry. It may if what
// it says stays true: a stored batch stays stored, fences and outcomes stay,
// and a copy of the batch that is still on its way through the log meets them
// too. The other verdicts may be wrong as soon as an entry on its way (the
// batch before, the partition, an earlier copy) is applied. With CodeStaleTxn
// an entry on its way may set the floor back (an Invalid answer) and an earlier
// copy be stored after all; that is safe, as a refused batch is counted in no
// commit, and a commit covers nothing that was not counted.
func (c Code) Final() bool {
	switch c {
	case CodeMalformed, CodeTooLarge, CodeProducerGone, CodeDuplicate, CodeFenced, CodeTxnEnded, CodeStaleTxn:
		return true
	case CodeUnknownPartition, CodeOutOfOrder, CodeUnknownProducer,
		CodeTooManyOpen, CodeProducerLimit, CodeAppended:
		return false
	}
	return false
}

// String returns the name of the verdict.
func (c Code) String() string {
	switch c {
	case CodeUnknownPartition:
		return "UNKNOWN_PARTITION"
	case CodeMalformed:
		return "MALFORMED"
	case CodeTooLarge:
		return "TOO_LARGE"
	case CodeProducerGone:
		return "PRODUCER_GONE"
	case CodeDuplicate:
		return "DUPLICATE"
	case CodeOutOfOrder:
		return "OUT_OF_ORDER"
	case CodeFenced:
		return "FENCED"
	case CodeTxnEnded:
		return "TXN_ENDED"
	case CodeStaleTxn:
		return "STALE_TXN"
	case CodeUnknownProducer:
		return "UNKNOWN_PRODUCER"
	case CodeTooManyOpen:
		return "TOO_MANY_OPEN"
	case CodeProducerLimit:
		return "PRODUCER_LIMIT"
	case CodeAppended:
		return "APPENDED"
	}
	return "CODE_" + strconv.Itoa(int(c))
}

// MarkerCode is what became of one marker or one enlistment answer. The list
// is closed.
type MarkerCode uint8

// The results of markers and enlistment answers.
const (
	// MarkerApplied: the open transaction ended here as decided.
	MarkerApplied MarkerCode = iota + 1
	// MarkerRecorded: nothing of the transaction is here; the outcome is
	// remembered so that a late first write opens nothing.
	MarkerRecorded
	// MarkerAlready: it had ended before with this outcome, or so long ago
	// that the record is gone, or the producer id is.
	MarkerAlready
	// MarkerMissingData: the commit states more than the shard holds; see
	// Damage. What is held was committed. An alarm.
	MarkerMissingData
	// MarkerConflict: it had ended here with the other outcome; nothing
	// changed. An alarm.
	MarkerConflict
	// MarkerInvalid: no transaction number or no outcome; nothing changed.
	MarkerInvalid
	// MarkerDiscarded: a stray transaction was thrown away (answers only).
	MarkerDiscarded
	// MarkerDropped: the answer was about a transaction that is not open here
	// with that opened_at; nothing changed (answers only).
	MarkerDropped
)

// String returns the name of the result.
func (c MarkerCode) String() string {
	switch c {
	case MarkerApplied:
		return "APPLIED"
	case MarkerRecorded:
		return "RECORDED"
	case MarkerAlready:
		return "ALREADY"
	case MarkerMissingData:
		return "MISSING_DATA"
	case MarkerConflict:
		return "CONFLICT"
	case MarkerInvalid:
		return "INVALID"
	case MarkerDiscarded:
		return "DISCARDED"
	case MarkerDropped:
		return "DROPPED"
	}
	return "MARKER_" + strconv.Itoa(int(c))
}

// SyncCode is what became of a command about partitions. The list is closed.
type SyncCode uint8

// The results of commands about partitions.
const (
	// SyncApplied: done.
	SyncApplied SyncCode = iota + 1
	// SyncOld: the shard has seen this catalogue version or a later one.
	SyncOld
	// SyncGap: a delta that does not start at the shard's catalogue version;
	// propose the full list.
	SyncGap
	// SyncLimit: more partitions than [Config.MaxPartitions]; nothing changed.
	SyncLimit
	// SyncUnknownPartition: the shard does not host the partition.
	SyncUnknownPartition
)

// String returns the name of the result.
func (c SyncCode) String() string {
	switch c {
	case SyncApplied:
		return "APPLIED"
	case SyncOld:
		return "OLD"
	case SyncGap:
		return "GAP"
	case SyncLimit:
		return "LIMIT"
	case SyncUnknownPartition:
		return "UNKNOWN_PARTITION"
	}
	return "SYNC_" + strconv.Itoa(int(c))
}
