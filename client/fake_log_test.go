package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// partition finds a partition that this node leads. f.mu is held.
func (n *fakeNode) partition(r *v1.PartitionRef) (*fakePartition, *apierrors.Error) {
	for _, t := range n.f.topics {
		for _, p := range t.parts {
			if p.id != r.GetPartitionId() {
				continue
			}
			if p.leader != n.address {
				return nil, notLeader(p.leader, p.term)
			}
			return p, nil
		}
	}
	return nil, apierrors.New(v1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION, "")
}

func (n *fakeNode) AppendStream(stream grpc.BidiStreamingServer[v1.AppendStreamRequest, v1.AppendStreamResponse]) error {
	for {
		frame, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for _, r := range frame.GetRequests() {
			ft := ask(n, n.f.onAppend, r)
			resp, err := n.append(stream.Context(), r, ft)
			if err != nil {
				return err
			}
			for range 1 + map[bool]int{true: 1}[ft.twice] {
				if err := stream.Send(&v1.AppendStreamResponse{Responses: []*v1.AppendResponse{resp}}); err != nil {
					return err
				}
			}
		}
	}
}

func (n *fakeNode) append(ctx context.Context, r *v1.AppendRequest, ft fate) (*v1.AppendResponse, error) {
	if ft.hold != nil {
		select {
		case <-ft.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pa := range r.GetPartitions() {
		f.appends = append(f.appends, seenAppend{
			node: n.address, ref: keyOf(r.GetTxn()), base: pa.GetBaseSequence(), bytes: slices.Clone(pa.GetBatch()),
			partition: fmt.Sprintf("%s/%d", pa.GetPartition().GetTopic(), pa.GetPartition().GetPartition()),
		})
	}
	switch {
	case ft.lose:
		return nil, status.Error(codes.Unavailable, "connection lost")
	case ft.refuse != nil:
		return &v1.AppendResponse{RequestId: r.GetRequestId(), Error: ft.refuse.Proto()}, nil
	}
	resp := &v1.AppendResponse{RequestId: r.GetRequestId()}
	for _, pa := range r.GetPartitions() {
		resp.Results = append(resp.Results, n.appendPartition(r, pa))
	}
	f.changed()
	if ft.swallow {
		return nil, status.Error(codes.Unavailable, "connection lost after the request was handled")
	}
	return resp, nil
}

func (n *fakeNode) appendPartition(r *v1.AppendRequest, pa *v1.PartitionAppend) *v1.AppendResult {
	refuse := func(e *apierrors.Error) *v1.AppendResult {
		return &v1.AppendResult{Partition: pa.GetPartition(), Error: e.Proto()}
	}
	p, e := n.partition(pa.GetPartition())
	if e != nil {
		return refuse(e)
	}
	info, err := batch.Validate(pa.GetBatch(), batch.Limits{})
	if err != nil {
		return refuse(apierrors.New(v1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, err.Error()))
	}
	k, count := keyOf(r.GetTxn()), uint64(info.Records)
	for _, b := range p.log {
		if b.ref == k && b.seq == pa.GetBaseSequence() && bytes.Equal(b.raw, pa.GetBatch()) {
			base := b.base
			return &v1.AppendResult{Partition: pa.GetPartition(), ShardId: p.shard, BaseOffset: &base, NextSequence: p.next[k], Duplicate: true}
		}
	}
	if t := n.f.txns[k]; t != nil && t.outcome != v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN {
		c := conflict(t)
		c.Code = v1.ErrorCode_ERROR_CODE_TXN_ENDED
		return refuse(c)
	}
	if pa.GetBaseSequence() != p.next[k] {
		return refuse(apierrors.New(v1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE, ""))
	}
	if k.number > 0 && n.f.txns[k] == nil {
		n.f.txns[k] = &fakeTxn{outcome: v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN}
	}
	base := p.end
	p.log = append(p.log, fakeBatch{base: base, count: count, seq: pa.GetBaseSequence(), ref: k, raw: slices.Clone(pa.GetBatch())})
	p.end += count
	p.next[k] += count
	return &v1.AppendResult{Partition: pa.GetPartition(), ShardId: p.shard, BaseOffset: &base, NextSequence: p.next[k]}
}

// visible returns the end that an isolation level shows. f.mu is held.
func (f *fake) visible(p *fakePartition, isolation v1.IsolationLevel) uint64 {
	if isolation == v1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED {
		return p.end
	}
	for _, b := range p.log {
		if t := f.txns[b.ref]; b.ref.number > 0 && t.outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN {
			return b.base
		}
	}
	return p.end
}

func (n *fakeNode) ListOffsets(_ context.Context, r *v1.ListOffsetsRequest) (*v1.ListOffsetsResponse, error) {
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &v1.ListOffsetsResponse{}
	for _, q := range r.GetQueries() {
		p, e := n.partition(q.GetPartition())
		if e != nil {
			return nil, e
		}
		a := &v1.OffsetAnswer{Partition: q.GetPartition()}
		switch {
		case q.GetPosition() == v1.StartPosition_START_POSITION_EARLIEST:
			a.Offset = &p.start
		case q.GetPosition() == v1.StartPosition_START_POSITION_LATEST:
			o := f.visible(p, r.GetIsolation())
			a.Offset = &o
		}
		resp.Answers = append(resp.Answers, a)
	}
	return resp, nil
}

func (n *fakeNode) Fetch(r *v1.FetchRequest, stream grpc.ServerStreamingServer[v1.FetchResponse]) error {
	n.count("Fetch")
	ft := ask(n, n.f.onFetch, r)
	if ft.hold != nil {
		select {
		case <-ft.hold:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	if ft.refuse != nil {
		return ft.refuse
	}
	next := r.GetOffset()
	if ft.respond != nil {
		if err := stream.Send(ft.respond); err != nil {
			return err
		}
		next = ft.respond.GetNextOffset()
	}
	for first := true; ; first = false {
		resp, change, err := n.read(r, next)
		if err != nil {
			return err
		}
		if first || resp.GetNextOffset() > next {
			if err := stream.Send(resp); err != nil {
				return err
			}
			next = resp.GetNextOffset()
			continue
		}
		select {
		case <-change:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// read returns one response: at most one batch.
func (n *fakeNode) read(r *v1.FetchRequest, next uint64) (*v1.FetchResponse, <-chan struct{}, error) {
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	p, e := n.partition(r.GetPartition())
	if e != nil {
		return nil, nil, e
	}
	if next < p.start || next > p.end {
		return nil, nil, apierrors.New(v1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE, "")
	}
	end := f.visible(p, r.GetIsolation())
	resp := &v1.FetchResponse{NextOffset: next, StableEnd: end, AppliedEnd: p.end}
	for _, b := range p.log {
		if b.base+b.count <= next || b.base >= end {
			continue
		}
		resp.NextOffset = b.base + b.count
		if t := f.txns[b.ref]; t != nil && t.outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED &&
			r.GetIsolation() != v1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED {
			continue
		}
		resp.Batches = []*v1.FetchedBatch{{BaseOffset: b.base, VisibleRecords: uint32(b.count), Batch: b.raw}}
		break
	}
	return resp, f.change, nil
}
