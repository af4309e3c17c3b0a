package main

import (
	"context"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// preparedID is a transactional id whose transaction 4713/2/5 is prepared.
const preparedID = "bank-1"

// fakePrepared is that transaction, and how it ended if it has.
type fakePrepared struct {
	outcome oncelogv1.TransactionOutcome
	reason  oncelogv1.AbortReason
}

// decided reports whether it has ended.
func (p *fakePrepared) decided() bool {
	return p.outcome != oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_UNSPECIFIED
}

func preparedRef() *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: 4713, Epoch: 2, TxnNumber: 5}
}

// preparedState is the state of the id.
func (f *fakeCluster) preparedState() oncelogv1.TransactionState {
	switch f.prepared.outcome {
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED:
		return oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_COMMIT
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED:
		return oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_ABORT
	default:
		return oncelogv1.TransactionState_TRANSACTION_STATE_PREPARED
	}
}

func (f *fakeCluster) listPrepared() []*oncelogv1.TransactionListing {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prepared == nil {
		return nil
	}
	l := &oncelogv1.TransactionListing{TransactionalId: preparedID, Txn: preparedRef(), State: f.preparedState(), ClientId: "bank"}
	if !f.prepared.decided() {
		l.AgeMs = 7_200_000
	}
	return []*oncelogv1.TransactionListing{l}
}

// describePrepared is nil if somebody else is asked about.
func (f *fakeCluster) describePrepared(req *oncelogv1.DescribeTransactionRequest) *oncelogv1.DescribeTransactionResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prepared == nil || req.GetTransactionalId() != preparedID && req.GetProducerId() != preparedRef().GetProducerId() {
		return nil
	}
	d := &oncelogv1.DescribeTransactionResponse{
		TransactionalId: preparedID, ProducerId: 4713, Epoch: 3, State: f.preparedState(),
		TimeoutMs: 60_000, ClientId: "bank", LastUpdateMs: fakeTime, LastTxnNumber: 5,
	}
	if f.prepared.decided() {
		d.Outcomes = []*oncelogv1.DecidedTransaction{{
			Txn: preparedRef(), Outcome: f.prepared.outcome, Reason: f.prepared.reason, DecidedAtMs: fakeTime,
		}}
		return d
	}
	d.Prepared = &oncelogv1.PreparedTransaction{
		Txn: preparedRef(), StartedAtMs: fakeTime - 7_200_000, PreparedAtMs: fakeTime - 7_199_000,
		Participants: []*oncelogv1.TransactionParticipant{{ShardId: 2, Partitions: []*oncelogv1.PartitionProgress{{
			Partition: &oncelogv1.PartitionRef{Topic: "orders", PartitionId: 100}, NextSequence: 7,
		}}}},
	}
	return d
}

// abortPrepared aborts it only by force, and only if it is the one that is meant.
func (f *fakeCluster) abortPrepared(req *oncelogv1.AbortTransactionRequest) (*oncelogv1.AbortTransactionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.prepared == nil:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER)
	case !proto.Equal(req.GetTxn(), preparedRef()):
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN, apierrors.KeyField, "txn")
	case f.prepared.outcome == oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, apierrors.KeyOutcome, "COMMITTED")
	case !f.prepared.decided() && !req.GetForce():
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_PREPARED_EXISTS, apierrors.KeyTxn, txnName(preparedRef()))
	case !f.prepared.decided():
		f.prepared.outcome = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
		f.prepared.reason = oncelogv1.AbortReason_ABORT_REASON_ADMIN
	}
	return &oncelogv1.AbortTransactionResponse{Txn: preparedRef()}, nil
}

// CompletePrepared implements the contract.
func (f *fakeCluster) CompletePrepared(_ context.Context, req *oncelogv1.CompletePreparedRequest) (*oncelogv1.CompletePreparedResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prepared == nil || !proto.Equal(req.GetTxn(), preparedRef()) {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN, apierrors.KeyField, "txn")
	}
	word, reason := oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED, oncelogv1.AbortReason_ABORT_REASON_CLIENT
	if req.GetCommit() {
		word, reason = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED, oncelogv1.AbortReason_ABORT_REASON_UNSPECIFIED
	}
	switch {
	case !f.prepared.decided():
		f.prepared.outcome, f.prepared.reason = word, reason
	case f.prepared.outcome != word && req.GetCommit():
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, apierrors.KeyOutcome, "ABORTED", apierrors.KeyReason, "ADMIN")
	case f.prepared.outcome != word:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, apierrors.KeyOutcome, "COMMITTED")
	}
	return &oncelogv1.CompletePreparedResponse{Outcome: f.prepared.outcome, Reason: f.prepared.reason, CurrentEpoch: 3}, nil
}
