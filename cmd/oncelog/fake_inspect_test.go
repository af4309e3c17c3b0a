package main

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// What the fake cluster tells to who looks into it.

// WatchTransactions tells what happened to one id, in two answers of which the second
// says that something between them was lost, and ends.
func (f *fakeCluster) WatchTransactions(req *oncelogv1.WatchTransactionsRequest, stream grpc.ServerStreamingServer[oncelogv1.WatchTransactionsResponse]) error {
	event := func(index uint64, kind oncelogv1.TransactionEventKind, number uint64) *oncelogv1.TransactionEvent {
		return &oncelogv1.TransactionEvent{
			Index: index, AtMs: fakeTime + int64(index), Kind: kind, TransactionalId: "orders-7", Txn: fakeRef(number), ClientId: "oncelog-go",
		}
	}
	enlisted := event(3, oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_ENLISTED, 11)
	enlisted.ShardId = 2
	decided := event(9, oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_DECIDED, 11)
	decided.Outcome, decided.Reason = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED, oncelogv1.AbortReason_ABORT_REASON_TIMEOUT
	applied := proto.CloneOf(decided)
	applied.Index, applied.Kind, applied.ShardId, applied.Damaged = 10, oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_APPLIED, 2, true
	if req.AfterIndex == nil || !strings.HasPrefix(decided.GetTransactionalId(), req.GetIdPrefix()) {
		return stream.Send(&oncelogv1.WatchTransactionsResponse{Index: 10})
	}
	if err := stream.Send(&oncelogv1.WatchTransactionsResponse{Index: 3, Events: []*oncelogv1.TransactionEvent{
		event(1, oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_INITIALISED, 0),
		event(2, oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_BEGUN, 11), enlisted,
	}}); err != nil {
		return err
	}
	return stream.Send(&oncelogv1.WatchTransactionsResponse{Index: 10, Missed: true, Events: []*oncelogv1.TransactionEvent{decided, applied}})
}

// FenceProducer implements the contract.
func (f *fakeCluster) FenceProducer(_ context.Context, req *oncelogv1.FenceProducerRequest) (*oncelogv1.FenceProducerResponse, error) {
	return &oncelogv1.FenceProducerResponse{ProducerId: 4711, Epoch: req.GetEpoch() + 1}, nil
}

// DeleteTransactionalId implements the contract.
func (f *fakeCluster) DeleteTransactionalId(_ context.Context, req *oncelogv1.DeleteTransactionalIdRequest) (*oncelogv1.DeleteTransactionalIdResponse, error) { //nolint:staticcheck // the generated interface names the method
	if req.GetTransactionalId() != "orders-7" {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER)
	}
	return &oncelogv1.DeleteTransactionalIdResponse{}, nil
}

// DescribeProducers implements the contract.
func (f *fakeCluster) DescribeProducers(context.Context, *oncelogv1.DescribeProducersRequest) (*oncelogv1.DescribeProducersResponse, error) {
	return &oncelogv1.DescribeProducersResponse{Producers: []*oncelogv1.ProducerState{
		{Txn: fakeRef(12), NextSequence: 3, LastAppendMs: fakeTime, FirstOffset: proto.Uint64(41)},
		{Txn: &oncelogv1.TxnRef{ProducerId: 4712, Epoch: 1}, NextSequence: 1, LastAppendMs: fakeTime - 5, Fence: 1},
	}}, nil
}

// MoveLeader implements the contract: node 1 leads everything.
func (p *fakePlacement) MoveLeader(_ context.Context, req *oncelogv1.MoveLeaderRequest) (*oncelogv1.MoveLeaderResponse, error) {
	if req.GetShardId() > 3 {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD, apierrors.KeyShards, fmt.Sprint(req.GetShardId()))
	}
	return &oncelogv1.MoveLeaderResponse{FromNode: 1}, nil
}

// GetDiagnostics implements the contract.
func (f *fakeCluster) GetDiagnostics(context.Context, *oncelogv1.GetDiagnosticsRequest) (*oncelogv1.GetDiagnosticsResponse, error) {
	return &oncelogv1.GetDiagnosticsResponse{
		Version: "v0.1.0", Platform: "go", Modules: "example.com/m v1.0.0\n", Goroutines: "1 @ main", Metrics: "up 1\n", Truncated: true,
		Settings: []*oncelogv1.Setting{{Name: "node_id", Value: "1"}},
	}, nil
}
