package e2e

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// identity is a producer without the SDK.
type identity struct {
	*oncelogv1.InitProducerResponse
	TransactionalID string
	err             error
}

// initProducer makes a producer without the SDK; an empty id makes an idempotent
// one.
func (w *world) initProducer(t *testing.T, id string) identity {
	t.Helper()
	p := w.initProducerAs(t, id, "")
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p
}

func (w *world) initProducerAs(t *testing.T, id, request string) identity {
	t.Helper()
	p := identity{TransactionalID: id}
	p.err = w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		p.InitProducerResponse, err = oncelogv1.NewTransactionServiceClient(cc).InitProducer(ctx,
			&oncelogv1.InitProducerRequest{TransactionalId: id, RequestId: request})
		return err
	})
	return p
}

// txn names the producer's n-th transaction; 0 is none.
func (p identity) txn(n uint64) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: p.GetProducerId(), Epoch: p.GetEpoch(), TxnNumber: n}
}

// append builds a request for one partition.
func (p identity) append(n uint64, to *oncelogv1.PartitionRef, base uint64, values ...string) *oncelogv1.AppendRequest {
	list := &oncelogv1.RecordList{}
	for _, v := range values {
		list.Records = append(list.Records, &oncelogv1.Record{Value: []byte(v)})
	}
	return &oncelogv1.AppendRequest{
		Txn: p.txn(n), ProducerToken: p.GetProducerToken(),
		Partitions: []*oncelogv1.PartitionAppend{{
			Partition: to, BaseSequence: base, Payload: &oncelogv1.PartitionAppend_Records{Records: list},
		}},
	}
}

// end builds a request that names the progress in one partition.
func (p identity) end(n uint64, commit bool, to *oncelogv1.PartitionRef, next uint64) *oncelogv1.EndTransactionRequest {
	req := &oncelogv1.EndTransactionRequest{Txn: p.txn(n), ProducerToken: p.GetProducerToken(), Commit: commit}
	if to != nil {
		req.Partitions = []*oncelogv1.PartitionProgress{{Partition: to, NextSequence: next}}
	}
	return req
}

func (w *world) append(t *testing.T, req *oncelogv1.AppendRequest) (*oncelogv1.AppendResponse, error) {
	t.Helper()
	var res *oncelogv1.AppendResponse
	err := w.onShard(t, withPatience(t), func(ctx context.Context, log oncelogv1.LogServiceClient) (err error) {
		res, err = log.Append(ctx, req)
		return err
	})
	return res, err
}

func (w *world) endTransaction(t *testing.T, ctx context.Context, req *oncelogv1.EndTransactionRequest) (*oncelogv1.EndTransactionResponse, error) {
	t.Helper()
	var res *oncelogv1.EndTransactionResponse
	err := w.onCoordinator(t, ctx, func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		res, err = oncelogv1.NewTransactionServiceClient(cc).EndTransaction(ctx, req)
		return err
	})
	return res, err
}

// wantCode checks the code of an error and its metadata, given as key and value.
func wantCode(t *testing.T, what string, err error, code oncelogv1.ErrorCode, metadata ...string) {
	t.Helper()
	e := apierrors.From(err)
	if e == nil || e.Code != code {
		t.Errorf("%s: %v, want %s", what, err, apierrors.Name(code))
		return
	}
	for i := 0; i+1 < len(metadata); i += 2 {
		if e.Metadata[metadata[i]] != metadata[i+1] {
			t.Errorf("%s: %v says %v, want %s=%s", what, err, e.Metadata, metadata[i], metadata[i+1])
		}
	}
}

// asError is the error inside an answer as if the call had failed.
func asError(e *oncelogv1.Error) error {
	if e == nil {
		return nil
	}
	return apierrors.FromProto(e)
}
