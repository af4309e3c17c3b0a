package partition

import (
	"strconv"
	"unicode/utf8"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Limits of requests. They are part of the contract (proto/oncelog/v1); what is
// beyond them is refused with the name of the field and the limit, and nothing
// of it is stored.
const (
	// MaxRequestBytes bounds one gRPC message; servers are given it.
	MaxRequestBytes = 16 << 20
	// MaxBatchBytes bounds one encoded batch.
	MaxBatchBytes = 1 << 20
	// MaxUncompressedBytes bounds a batch after decompression.
	MaxUncompressedBytes = 8 << 20
	// MaxBatchRecords bounds the records of one batch.
	MaxBatchRecords = 10_000
	// MaxKeyBytes bounds the key of a record.
	MaxKeyBytes = 64 << 10
	// MaxHeaders bounds the headers of a record.
	MaxHeaders = 128
	// MaxHeaderKeyBytes bounds the key of a header.
	MaxHeaderKeyBytes = 1024
	// MaxAppendPartitions bounds the partitions of one append.
	MaxAppendPartitions = 1000
	// MaxFrameRequests bounds the requests in one frame of an append stream.
	MaxFrameRequests = 1000
	// MaxQueries bounds the partitions of ListOffsets and DescribePartitions.
	MaxQueries = 1000
	// MaxFetchBytes bounds the records in one response of a fetch.
	MaxFetchBytes = 8 << 20
	// DefaultFetchBytes is what a fetch gets that states no bound.
	DefaultFetchBytes = 1 << 20
	// MaxListElements bounds markers, enlistments and producer ids in one
	// message.
	MaxListElements = 10_000
	// MaxTopicBytes bounds a topic name.
	MaxTopicBytes = 249

	// maxProposalBytes is how large entries are made. It is below raftstore's
	// default limit of a proposal by more than one request's metadata.
	maxProposalBytes = 4 << 20
	// maxAppendBytes is how large entries of appends are made of several batches.
	// Entries that are ready together share messages and the fsync all the same, and
	// of larger ones Pebble allocates anew, twice, what it flushes: it keeps buffers
	// below 256 KiB.
	maxAppendBytes = 192 << 10
	// maxProposalBatches bounds the batches of an entry, so that applying it
	// does not hold up other shards.
	maxProposalBatches = 4096
	// maxStreamBytes bounds the requests of one append stream that have not been
	// answered, or whose answers wait to be sent; beyond it the stream is not
	// read.
	maxStreamBytes = 32 << 20
	// maxScanBatches bounds the batches one step of a fetch looks at, so that a
	// reader that passes over many hidden ones reports its position.
	maxScanBatches = 4096
	// maxScanRecords bounds the records of one response with plain records,
	// which cost far more memory than their bytes.
	maxScanRecords = 50_000
)

// batchLimits is what a batch is held to. Records of an encoded batch are not
// looked at, so of these only sizes and counts are enforced for it.
func batchLimits() batch.Limits {
	return batch.Limits{
		MaxBatchBytes:        MaxBatchBytes,
		MaxUncompressedBytes: MaxUncompressedBytes,
		MaxRecords:           MaxBatchRecords,
		MaxRecordBytes:       MaxBatchBytes,
		MaxKeyBytes:          MaxKeyBytes,
		MaxHeaders:           MaxHeaders,
		MaxHeaderKeyBytes:    MaxHeaderKeyBytes,
	}
}

// tooMuch refuses a field that is beyond its limit.
func tooMuch(field string, limit int) *apierrors.Error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
		field+" is above its limit of "+strconv.Itoa(limit),
		apierrors.KeyField, field, apierrors.KeyLimit, strconv.Itoa(limit))
}

// checkRef refuses a partition reference that names nothing.
func checkRef(field string, ref *oncelogv1.PartitionRef) *apierrors.Error {
	switch {
	case ref == nil || ref.GetPartitionId() == 0 && ref.GetTopic() == "":
		return apierrors.InvalidArgument(field, "name a partition by its id or by topic and index")
	case len(ref.GetTopic()) > MaxTopicBytes:
		return tooMuch(field+".topic", MaxTopicBytes)
	case !utf8.ValidString(ref.GetTopic()):
		return apierrors.InvalidArgument(field+".topic", "not UTF-8")
	}
	return nil
}
