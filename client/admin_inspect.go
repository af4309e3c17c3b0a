package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// MoveLeader hands the leadership of a shard, or with shard 1 of the coordinator, to
// another member, and returns who led before. UNAVAILABLE, which is repeated until ctx
// ends: there is no leader, or the other one did not take over in time.
func (a *Admin) MoveLeader(ctx context.Context, shard, to uint64) (from uint64, err error) {
	resp, err := placementCall(ctx, a, "move leader", &oncelogv1.MoveLeaderRequest{ShardId: shard, ToNode: to},
		oncelogv1.PlacementServiceClient.MoveLeader)
	return resp.GetFromNode(), err
}

// Diagnostics asks the node at a client address about its inside, once.
func (a *Admin) Diagnostics(ctx context.Context, address string) (*oncelogv1.GetDiagnosticsResponse, error) {
	const op = "diagnostics"
	cc, err := a.c.conns.get(address)
	if err != nil {
		return nil, wrap(op, err)
	}
	ctx, cancel := a.c.rt.WithTimeout(ctx, a.c.cfg.requestTimeout)
	defer cancel()
	resp, err := oncelogv1.NewDebugServiceClient(cc).GetDiagnostics(ctx, &oncelogv1.GetDiagnosticsRequest{})
	if err != nil {
		return nil, wrap(op, err)
	}
	return resp, nil
}

// PeekRecords returns records of a partition from an offset on, with the transactions
// that wrote them, for looking at them: what read_uncommitted shows too, and without a
// consumer. It returns at most maxRecords, and no more once maxBytes of keys and
// values are there. NextOffset says where to go on.
func (a *Admin) PeekRecords(ctx context.Context, tp TopicPartition, offset uint64, isolation Isolation, maxRecords, maxBytes int) (*oncelogv1.FetchResponse, error) {
	const op = "peek records"
	t, err := a.c.meta.topic(ctx, tp.Topic)
	if err != nil {
		return nil, wrap(op, err)
	}
	switch {
	case tp.Partition < 0 || int(tp.Partition) >= len(t.partitions):
		return nil, noPartition(op, tp, len(t.partitions))
	case maxRecords < 1 || maxBytes < 1:
		return nil, invalid(op, "at most %d records and %d bytes: 1 or more", maxRecords, maxBytes)
	}
	req := &oncelogv1.FetchRequest{
		Partition: t.ref(tp.Partition), Offset: offset, Start: oncelogv1.StartPosition_START_POSITION_OFFSET,
		Isolation: oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED, Format: oncelogv1.FetchFormat_FETCH_FORMAT_RECORDS,
		MaxRecords: uint64(maxRecords), MaxResponseBytes: uint32(min(maxBytes, maxBatchBytes)),
	}
	if isolation == ReadUncommitted {
		req.Isolation = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
	}
	var out *oncelogv1.FetchResponse
	err = a.c.askShard(ctx, tp.Topic, t.partitions[tp.Partition].shard, func(ctx context.Context, s oncelogv1.LogServiceClient) (err error) {
		ctx, cancel := a.c.rt.WithCancel(ctx)
		defer cancel()
		out, err = peek(ctx, s, req, maxRecords, maxBytes)
		return err
	})
	if err != nil {
		e := wrap(op, err)
		e.Topic, e.Partition = tp.Topic, tp.Partition
		return nil, e
	}
	return out, nil
}

// peek reads one stream to its end, or its limits.
func peek(ctx context.Context, s oncelogv1.LogServiceClient, req *oncelogv1.FetchRequest, maxRecords, maxBytes int) (*oncelogv1.FetchResponse, error) {
	stream, err := s.Fetch(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &oncelogv1.FetchResponse{NextOffset: req.GetOffset()}
	for size := 0; size < maxBytes && len(out.GetRecords()) < maxRecords; {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, r := range resp.GetRecords() {
			size += proto.Size(r)
		}
		records := append(out.GetRecords(), resp.GetRecords()...)
		out = resp
		out.Records = records
	}
	return out, nil
}
