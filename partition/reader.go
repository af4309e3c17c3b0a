package partition

import (
	"context"
	"errors"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
)

// partitionReader reads one partition under one isolation level. Everything
// that shows records to anybody goes through it.
type partitionReader struct {
	n     *Node
	shard *shard
	id    uint64
	ref   *oncelogv1.PartitionRef
	level pstate.Isolation
}

// visibleBatch is a stored batch of which the first records may be shown.
type visibleBatch struct {
	log.Batch
	visible uint32 // how many, at least 1
	data    []byte
}

// reader returns a reader of a partition that this node serves, for a caller who may do
// the operation to its topic.
func (n *Node) reader(who access.Principal, op acl.Operation, ref *oncelogv1.PartitionRef, level oncelogv1.IsolationLevel) (*partitionReader, *apierrors.Error) {
	r := &partitionReader{n: n, level: pstate.ReadCommitted}
	switch level {
	case oncelogv1.IsolationLevel_ISOLATION_LEVEL_UNSPECIFIED, oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED:
	case oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED:
		r.level = pstate.ReadUncommitted
	default:
		return nil, apierrors.InvalidArgument("isolation", "unknown level")
	}
	var err *apierrors.Error
	if r.shard, r.ref, err = n.find(who, op, "partition", ref); err != nil {
		return nil, err
	}
	r.id = r.ref.GetPartitionId()
	return r, nil
}

// bounds returns what may be read now. The rows up to the ends are readable.
func (r *partitionReader) bounds(ctx context.Context) (view, *apierrors.Error) {
	if err := r.shard.serving(); err != nil {
		return view{}, err
	}
	v, ok := r.shard.view(r.id, r.level)
	if !ok {
		return view{}, unknownPartition(r.ref)
	}
	return v, r.shard.published(ctx, v.index)
}

// step reads visible batches in [from, end), end being at most the visible end
// of v, the last look at the bounds, and returns the offset to go on from, which
// is past what is hidden. It stops before it exceeds maxBytes of stored
// batches, but not before it has one. The error errCompacted asks for another look.
func (r *partitionReader) step(v view, from, end uint64, maxBytes int) (batches []visibleBatch, next uint64, err error) {
	err = r.shard.reading(func() error {
		var found []log.Batch
		bytes := 0
		scanErr := r.shard.index.Scan(r.id, from, end, func(b log.Batch) bool {
			if len(found) > 0 && bytes+int(b.Length) > maxBytes {
				return false
			}
			bytes += int(b.Length)
			found = append(found, b)
			return len(found) < maxScanBatches && bytes < maxBytes
		})
		if scanErr != nil {
			return r.failed(from, scanErr)
		}
		if next = end; len(found) > 0 {
			next = found[len(found)-1].End()
		}
		if batches, scanErr = r.filter(v, found, from); scanErr != nil {
			return scanErr
		}
		for i := range batches {
			if batches[i].data, scanErr = r.shard.read(r.id, batches[i].Batch); scanErr != nil {
				return r.failed(from, scanErr)
			}
		}
		return nil
	})
	return batches, next, err
}

// filter keeps what the isolation level shows of batches below its end.
//
// The outcome of every transaction below the stable end is final, so the state
// of now tells what it told when the bounds were taken. Three things may have
// changed that take away what it tells: the partition was removed, retention
// moved its start and dropped the aborted index below, or a compaction has ended,
// and the aborted index lacks what hid records whose rows were still there when
// these were read. If none has ended since the bounds v were taken, the rows, which
// are not older than that, have no such record.
func (r *partitionReader) filter(v view, found []log.Batch, from uint64) (out []visibleBatch, err error) {
	r.shard.machine.read(func(st *pstate.State) {
		p, ok := st.Partition(r.id)
		switch {
		case !ok:
			err = unknownPartition(r.ref)
			return
		case from < p.Start:
			err = outOfRange(from, p.Start, uint64(p.Applied))
			return
		case v.compacted != p.Compacted:
			err = errCompacted
			return
		}
		for _, b := range found {
			visible := b.Count
			if r.level == pstate.ReadCommitted {
				visible = st.CommittedPrefix(r.id, b.Ref, b.BaseOffset, b.BaseSequence, b.Count)
			}
			if visible > 0 && b.BaseOffset+uint64(visible) > from {
				out = append(out, visibleBatch{Batch: b, visible: visible})
			}
		}
	})
	return out, err
}

// failed tells what an error of the index means to who reads from an offset on.
// A partition that was removed since the bounds were taken took its rows along, and
// so did retention with those below the log start: that is no damage.
func (r *partitionReader) failed(from uint64, err error) error {
	if errors.Is(err, errCompacted) {
		return err
	}
	var p pstate.PartitionStatus
	hosted := false
	r.shard.machine.read(func(st *pstate.State) { p, hosted = st.Partition(r.id) })
	switch {
	case !hosted:
		return unknownPartition(r.ref)
	case from < p.Start:
		return outOfRange(from, p.Start, uint64(p.Applied))
	}
	r.n.log.Error("reading a partition failed", "partition", r.id, "shard", r.shard.id, "error", err)
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, err.Error())
}

// decodeLimits hold a stored batch to what an append could have stored, without
// what only its producer could know: its records were never looked at.
func decodeLimits() batch.Limits {
	l := batchLimits()
	l.MaxRecordBytes, l.MaxKeyBytes, l.MaxHeaderKeyBytes = MaxUncompressedBytes, MaxUncompressedBytes, MaxUncompressedBytes
	l.MaxHeaders = MaxUncompressedBytes
	return l
}
