package coordinator

import (
	"context"
	"fmt"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
)

// preparedLevel is the level of formats from which on transactions can be prepared.
const preparedLevel = 3

// asCommit is the EndTransaction that a prepared transaction promises.
func asCommit(req *oncelogv1.PrepareTransactionRequest) *oncelogv1.EndTransactionRequest {
	return &oncelogv1.EndTransactionRequest{
		Txn: req.GetTxn(), ProducerToken: req.GetProducerToken(), Commit: true,
		Partitions: req.GetPartitions(), Offsets: req.GetOffsets(),
	}
}

// PrepareTransaction implements the contract: all of a commit but the decision.
func (s *transactionService) PrepareTransaction(ctx context.Context, req *oncelogv1.PrepareTransactionRequest) (*oncelogv1.PrepareTransactionResponse, error) {
	end := asCommit(req)
	if err := s.checkEnd(ctx, end); err != nil {
		return nil, err
	}
	if err := s.takesPrepared(); err != nil {
		return nil, err
	}
	cmd, unknown, err := s.endCommand(ctx, end)
	if err != nil {
		return nil, err
	}
	res, err := proposeTxn[endResult](ctx, s.Coordinator,
		txn.PrepareTransaction{Ref: cmd.Ref, Participants: cmd.Participants, OffsetsPayload: cmd.OffsetsPayload})
	if err != nil {
		return nil, err
	}
	if unknown != nil && (res.Code == txn.CodeInvalid || res.Code == txn.CodeStaleMember) {
		s.counters.endsRefused.add(res.Code, 1)
		return nil, unknown
	}
	if err := s.endError(cmd.Ref, res); err != nil {
		s.counters.endsRefused.add(res.Code, 1)
		return nil, err
	}
	if !res.Repeated {
		s.counters.prepared.Add(1)
	}
	if !res.Superseded.IsZero() {
		s.counters.aborted.add(txn.ReasonSuperseded, 1)
	}
	return &oncelogv1.PrepareTransactionResponse{CurrentEpoch: res.CurrentEpoch}, nil
}

// CompletePrepared implements the contract.
func (s *transactionService) CompletePrepared(ctx context.Context, req *oncelogv1.CompletePreparedRequest) (*oncelogv1.CompletePreparedResponse, error) {
	if err := checkTxn(req.GetTxn()); err != nil {
		return nil, err
	}
	if err := s.takesPrepared(); err != nil {
		return nil, err
	}
	ref := refOf(req.GetTxn())
	res, err := proposeTxn[endResult](ctx, s.Coordinator, txn.CompletePrepared{Ref: ref, Commit: req.GetCommit()})
	if err != nil {
		return nil, err
	}
	if err := s.endError(ref, res); err != nil {
		s.counters.endsRefused.add(res.Code, 1)
		return nil, err
	}
	if !res.Repeated {
		s.countEnd(req.GetCommit(), res.EndTransactionResult)
	}
	if req.GetWaitApplied() && len(res.Pending) > 0 {
		if err := s.awaitApplied(ctx, ref); err != nil {
			return nil, err
		}
	}
	return &oncelogv1.CompletePreparedResponse{
		Outcome: outcomeProto(res.Outcome), Reason: reasonProto(res.Reason), CurrentEpoch: res.CurrentEpoch,
	}, nil
}

// takesPrepared refuses as long as some coordinator would not read the command, and
// stop at it.
func (c *Coordinator) takesPrepared() error {
	if c.formatLevel() >= preparedLevel {
		return nil
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
		fmt.Sprintf("transactions can be prepared once every node reads formats of level %d; `oncelog cluster status` shows who does not", preparedLevel))
}

// preparedExists is told to who would end, or pass over, a prepared transaction.
func preparedExists(ref txn.Ref) error {
	name := fmt.Sprintf("%d/%d/%d", ref.ProducerID, ref.Epoch, ref.Number)
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_PREPARED_EXISTS,
		"transaction "+name+" of the transactional id is prepared: CompletePrepared ends it", apierrors.KeyTxn, name)
}
