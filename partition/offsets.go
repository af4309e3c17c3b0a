package partition

import (
	"context"
	"errors"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/log"
)

// ListOffsets answers with the same visible end and the same filter as Fetch
// (F15). A query that fails, fails the call. Unlike a Fetch it is never behind:
// whoever has its own state back once it has read up to an end must not get the
// end of a leader that was deposed.
func (l logService) ListOffsets(ctx context.Context, req *oncelogv1.ListOffsetsRequest) (*oncelogv1.ListOffsetsResponse, error) {
	if len(req.GetQueries()) > MaxQueries {
		return nil, tooMuch("queries", MaxQueries)
	}
	resp := &oncelogv1.ListOffsetsResponse{}
	confirmed := map[*shard]bool{}
	for _, q := range req.GetQueries() {
		r, err := l.n.reader(access.From(ctx), acl.Describe, q.GetPartition(), req.GetIsolation())
		if err != nil {
			return nil, err
		}
		if !confirmed[r.shard] {
			if err := r.shard.current(ctx); err != nil {
				return nil, err
			}
			confirmed[r.shard] = true
		}
		v, err := r.bounds(ctx)
		if err != nil {
			return nil, err
		}
		ans := &oncelogv1.OffsetAnswer{Partition: r.ref}
		switch target := q.GetTarget().(type) {
		case *oncelogv1.OffsetQuery_TimestampMs:
			if err := r.byTime(ctx, v, target.TimestampMs, ans); err != nil {
				return nil, err
			}
		case *oncelogv1.OffsetQuery_Position:
			switch target.Position {
			case oncelogv1.StartPosition_START_POSITION_EARLIEST:
				ans.Offset = proto.Uint64(v.start)
			case oncelogv1.StartPosition_START_POSITION_LATEST:
				ans.Offset = proto.Uint64(v.visible)
			default:
				return nil, apierrors.InvalidArgument("queries.position", "must be EARLIEST or LATEST")
			}
		default:
			return nil, apierrors.InvalidArgument("queries.target", "is missing")
		}
		resp.Answers = append(resp.Answers, ans)
	}
	return resp, nil
}

// byTime finds the first visible record that is at least so new. Where retention
// or compaction takes away what it looks at, it begins again.
func (r *partitionReader) byTime(ctx context.Context, v view, ts int64, ans *oncelogv1.OffsetAnswer) error {
	for {
		err := r.search(ctx, v, ts, ans)
		if !errors.Is(err, errCompacted) && apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE {
			return err
		}
		var refused *apierrors.Error
		if v, refused = r.bounds(ctx); refused != nil {
			return refused
		}
	}
}

// search looks between the bounds. Bisection over
// the running maximum gives the first batch that can have it; from there on
// batches that are too old or hidden are passed over by their rows alone.
func (r *partitionReader) search(ctx context.Context, v view, ts int64, ans *oncelogv1.OffsetAnswer) error {
	var at uint64
	err := r.shard.reading(func() (err error) {
		if at, err = r.shard.index.Since(r.id, v.start, v.visible, ts); err != nil {
			err = r.failed(v.start, err)
		}
		return err
	})
	for err == nil && at < v.visible && ans.Offset == nil {
		if err = ctx.Err(); err == nil {
			at, err = r.searchFrom(v, at, ts, ans)
		}
	}
	return err
}

// searchFrom looks at a bounded number of batches and returns where to go on.
func (r *partitionReader) searchFrom(v view, from uint64, ts int64, ans *oncelogv1.OffsetAnswer) (next uint64, err error) {
	end := v.visible
	err = r.shard.reading(func() error {
		var recent []log.Batch
		scanned := 0
		next = end
		err := r.shard.index.Scan(r.id, from, end, func(b log.Batch) bool {
			if b.MaxTimestamp >= ts {
				recent = append(recent, b)
			}
			scanned++
			next = b.End()
			return scanned < maxScanBatches
		})
		if err != nil {
			return r.failed(from, err)
		}
		visible, err := r.filter(v, recent, from)
		if err != nil {
			return err
		}
		for _, b := range visible {
			if b.data, err = r.shard.read(r.id, b.Batch); err != nil {
				return r.failed(from, err)
			}
			if found(b, from, ts, ans) {
				return nil
			}
		}
		return nil
	})
	return min(next, end), err
}

// found looks for the record inside a batch. A batch that cannot be decoded is
// passed over: it has no timestamps anybody could mean.
func found(b visibleBatch, from uint64, ts int64, ans *oncelogv1.OffsetAnswer) bool {
	var d batch.Decoder
	if _, err := d.Reset(b.data, decodeLimits()); err != nil {
		return false
	}
	for at := uint64(0); at < uint64(b.visible) && d.Next(); at++ {
		offset := b.BaseOffset + at
		if offset >= from && offset < math.MaxUint64 && d.Record().Timestamp >= ts {
			ans.Offset, ans.TimestampMs = proto.Uint64(offset), d.Record().Timestamp
			return true
		}
	}
	return false
}
