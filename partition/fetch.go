package partition

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

// Fetch streams a partition. Behaviour:
//
//   - It ends with NOT_LEADER when this node stops leading. Until then it may be
//     behind a new leader, for as long as CheckQuorum takes; what it shows of
//     committed transactions stays true all the same.
//   - Reading committed, an offset between the stable and the applied end is
//     legal: the stream waits there.
//   - Whenever the client has all there is to see it has been told so, by a
//     response whose next_offset is the visible end.
func (l logService) Fetch(req *oncelogv1.FetchRequest, stream grpc.ServerStreamingServer[oncelogv1.FetchResponse]) error {
	f, err := l.n.newFetch(access.From(stream.Context()), req)
	if err != nil {
		return err
	}
	f.stream = stream
	return f.run(stream.Context())
}

// fetch is one stream.
type fetch struct {
	*partitionReader
	who    access.Principal
	req    *oncelogv1.FetchRequest
	stream grpc.ServerStreamingServer[oncelogv1.FetchResponse]

	maxBytes int
	left     uint64 // records that may still be sent
	next     uint64
	target   uint64 // where a stream that does not follow ends
	started  bool
	told     view // ends as of the last response
	toldNext uint64
	toldAny  bool
}

func (n *Node) newFetch(who access.Principal, req *oncelogv1.FetchRequest) (*fetch, *apierrors.Error) {
	if req.GetMaxResponseBytes() > MaxFetchBytes {
		return nil, tooMuch("max_response_bytes", MaxFetchBytes)
	}
	if v := req.GetFormat(); v < 0 || v > oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES {
		return nil, apierrors.InvalidArgument("format", "unknown format")
	}
	if v := req.GetStart(); v < 0 || v > oncelogv1.StartPosition_START_POSITION_LATEST {
		return nil, apierrors.InvalidArgument("start", "unknown position")
	}
	r, err := n.reader(who, acl.Read, req.GetPartition(), req.GetIsolation())
	if err != nil {
		return nil, err
	}
	f := &fetch{partitionReader: r, who: who, req: req, maxBytes: int(req.GetMaxResponseBytes()), left: req.GetMaxRecords()}
	if f.maxBytes == 0 {
		f.maxBytes = DefaultFetchBytes
	}
	if f.left == 0 {
		f.left = ^uint64(0)
	}
	return f, nil
}

func (f *fetch) run(ctx context.Context) error {
	var wake <-chan struct{}
	for {
		v, err := f.bounds(ctx)
		if err != nil {
			return err
		}
		if err := f.place(v); err != nil {
			return err
		}
		if err := f.n.permits(f.who, acl.Read, f.ref); err != nil {
			return err // it was taken away since
		}
		end := v.visible
		if !f.req.GetFollow() {
			end = f.target
		}
		switch {
		case f.next < end:
			wake = nil
			err := f.advance(v, end)
			if errors.Is(err, errCompacted) {
				continue
			}
			if f.overtaken(err) {
				f.started = false
				continue
			}
			if err != nil {
				return err
			}
			if f.left == 0 {
				return nil
			}
		case !f.req.GetFollow():
			return f.tell(v)
		case wake == nil:
			// First the channel, then another look, then the wait.
			wake = f.shard.waiters.partition(f.id)
		default:
			if err := f.tell(v); err != nil {
				return err
			}
			if err := f.wait(ctx, wake); err != nil {
				return err
			}
			wake = nil
		}
	}
}

// place finds where to begin, and checks that it is still there.
func (f *fetch) place(v view) error {
	if !f.started {
		f.started, f.target = true, v.visible
		switch f.req.GetStart() {
		case oncelogv1.StartPosition_START_POSITION_EARLIEST:
			f.next = v.start
		case oncelogv1.StartPosition_START_POSITION_LATEST:
			f.next = v.visible
		default:
			f.next = f.req.GetOffset()
		}
	}
	if f.next < v.start || f.next > v.applied {
		return outOfRange(f.next, v.start, v.applied)
	}
	return nil
}

// overtaken reports whether retention has taken away the earliest record before
// anything was sent from it: then the stream begins at the one that is the earliest
// now.
func (f *fetch) overtaken(err error) bool {
	return !f.toldAny && f.req.GetStart() == oncelogv1.StartPosition_START_POSITION_EARLIEST &&
		apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE
}

func outOfRange(offset, start, end uint64) *apierrors.Error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE,
		fmt.Sprintf("offset %d is outside of [%d, %d]", offset, start, end),
		apierrors.KeyStartOffset, strconv.FormatUint(start, 10), apierrors.KeyEndOffset, strconv.FormatUint(end, 10))
}

// wait returns when there may be something new.
func (f *fetch) wait(ctx context.Context, wake <-chan struct{}) error {
	switch f.n.run.Wait(wake, f.n.closing, ctx.Done()) {
	case 1:
		return unavailable()
	case 2:
		return ctx.Err()
	}
	return nil
}

// tell sends the ends, unless the last response did.
func (f *fetch) tell(v view) error {
	if f.toldAny && f.toldNext == f.next && f.told.visible == v.visible {
		return nil
	}
	return f.send(v, &oncelogv1.FetchResponse{})
}

func (f *fetch) send(v view, resp *oncelogv1.FetchResponse) error {
	resp.NextOffset = f.next
	resp.StartOffset, resp.StableEnd, resp.AppliedEnd = v.start, v.stable, v.applied
	f.told, f.toldNext, f.toldAny = v, f.next, true
	f.n.counters.fetched(resp)
	return f.stream.Send(resp)
}

// advance sends the next response. One without records reports that the
// position moved over what is hidden.
func (f *fetch) advance(v view, end uint64) error {
	batches, next, err := f.step(v, f.next, end, f.maxBytes)
	if err != nil {
		return err
	}
	resp := &oncelogv1.FetchResponse{}
	if f.req.GetFormat() == oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES {
		next = f.addBatches(resp, batches, next)
	} else if next, err = f.addRecords(resp, batches, next); err != nil {
		return err
	}
	f.next = min(next, end)
	return f.send(v, resp)
}

// addBatches fills in batches as they are stored and returns the next offset.
func (f *fetch) addBatches(resp *oncelogv1.FetchResponse, batches []visibleBatch, next uint64) uint64 {
	for _, b := range batches {
		out := &oncelogv1.FetchedBatch{BaseOffset: b.BaseOffset, VisibleRecords: b.visible, Batch: b.data, Txn: writer(b)}
		resp.Batches = append(resp.Batches, out)
		skipped := max(f.next, b.BaseOffset) - b.BaseOffset
		if shown := uint64(b.visible) - skipped; shown < f.left {
			f.left -= shown
			continue
		}
		out.VisibleRecords = uint32(skipped + f.left)
		f.left = 0
		return b.BaseOffset + uint64(out.VisibleRecords)
	}
	return next
}

// addRecords fills in plain records and returns the next offset. It stops
// between batches when the records have become too many or too large.
func (f *fetch) addRecords(resp *oncelogv1.FetchResponse, batches []visibleBatch, next uint64) (uint64, error) {
	var d batch.Decoder
	size := 0
	for i, b := range batches {
		h, err := d.Reset(b.data, decodeLimits())
		if err == nil && i > 0 && (size+h.UncompressedBytes > f.maxBytes || len(resp.Records)+h.Records > maxScanRecords) {
			return b.BaseOffset, nil
		}
		size += h.UncompressedBytes
		for at := range uint64(b.visible) {
			if err != nil || !d.Next() {
				return 0, f.undecodable(b, d.Err())
			}
			offset := b.BaseOffset + at
			if offset < f.next {
				continue
			}
			resp.Records = append(resp.Records, fetchedRecord(b, offset, d.Record(), h.Codec != batch.CodecNone))
			if f.left--; f.left == 0 {
				return offset + 1, nil
			}
		}
	}
	return next, nil
}

// undecodable reports a batch whose producer encoded nonsense under a right
// checksum. Readers of batches are not stopped by it.
func (f *fetch) undecodable(b visibleBatch, err error) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH,
		fmt.Sprintf("the batch of offsets %d to %d cannot be decoded; read on behind it, or as batches: %v", b.BaseOffset, b.End()-1, err))
}

// fetchedRecord copies what the decoder will overwrite.
func fetchedRecord(b visibleBatch, offset uint64, r batch.Record, copied bool) *oncelogv1.FetchedRecord {
	rec := &oncelogv1.Record{Key: r.Key, Value: r.Value, TimestampMs: proto.Int64(r.Timestamp)}
	if copied {
		rec.Key, rec.Value = cloneBytes(r.Key), cloneBytes(r.Value)
	}
	for _, h := range r.Headers {
		value := h.Value
		if copied {
			value = cloneBytes(value)
		}
		// Protobuf refuses to send a string that is not UTF-8, a batch does not.
		rec.Headers = append(rec.Headers, &oncelogv1.Header{Key: strings.ToValidUTF8(h.Key, "\uFFFD"), Value: value})
	}
	return &oncelogv1.FetchedRecord{Offset: offset, Record: rec, Txn: writer(b)}
}

// cloneBytes copies and keeps nil apart from empty.
func cloneBytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// writer is the transaction that wrote a batch; nil if none did.
func writer(b visibleBatch) *oncelogv1.TxnRef {
	if !b.Ref.Transactional() {
		return nil
	}
	return protoRef(b.Ref)
}
