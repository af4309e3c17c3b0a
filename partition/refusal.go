package partition

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// notLeader points to who leads the shard, as far as this node knows.
func (n *Node) notLeader(leader raftstore.NodeID, term uint64) *apierrors.Error {
	if leader == 0 {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "the shard has no leader at the moment")
	}
	var termText string
	if term > 0 {
		termText = strconv.FormatUint(term, 10)
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "",
		apierrors.KeyLeaderNode, strconv.FormatUint(uint64(leader), 10),
		apierrors.KeyLeaderAddress, n.routing.get().client[uint64(leader)],
		apierrors.KeyTerm, termText)
}

// proposalError turns what raftstore says about a proposal into an error of the
// contract.
func (n *Node) proposalError(err error) *apierrors.Error {
	var away *raftstore.NotLeaderError
	switch {
	case errors.As(err, &away):
		if uint64(away.Leader) == n.cfg.NodeID {
			// Refused in a term that has passed; this node may well lead again.
			return n.notLeader(0, 0)
		}
		return n.notLeader(away.Leader, 0)
	case errors.Is(err, raftstore.ErrDiskLow):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED,
			fmt.Sprintf("the disk of partition node %d is below min_free_bytes; make room", n.cfg.NodeID))
	case errors.Is(err, raftstore.ErrOverloaded):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "")
	case errors.Is(err, raftstore.ErrUnknownResult):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, "")
	case errors.Is(err, raftstore.ErrNotMember), errors.Is(err, raftstore.ErrGroupNotFound):
		return n.notLeader(0, 0) // the shard has moved; whoever leads it, it is not this node
	case errors.Is(err, raftstore.ErrStopped):
		return unavailable()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_DEADLINE, "")
	default:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, err.Error())
	}
}

func unavailable() *apierrors.Error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node is starting or stopping")
}

func unknownPartition(ref *oncelogv1.PartitionRef) *apierrors.Error {
	var id, index string
	if v := ref.GetPartitionId(); v != 0 {
		id = strconv.FormatUint(v, 10)
	}
	if ref.GetTopic() != "" {
		index = strconv.FormatUint(uint64(ref.GetPartition()), 10)
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION, "",
		apierrors.KeyTopic, ref.GetTopic(), apierrors.KeyPartition, index, apierrors.KeyPartitionID, id)
}

// batchError turns a refusal by package batch into an error of the contract.
func batchError(err error) *apierrors.Error {
	var limit *batch.LimitError
	if errors.As(err, &limit) {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE, err.Error(),
			apierrors.KeyField, limit.Field, apierrors.KeyLimit, strconv.Itoa(limit.Limit))
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, err.Error())
}

// refusal turns a verdict of the machine that stores nothing into an error of
// the contract.
func refusal(res pstate.BatchResult, ref *oncelogv1.PartitionRef) *apierrors.Error {
	switch res.Code {
	case pstate.CodeUnknownPartition:
		return unknownPartition(ref)
	case pstate.CodeMalformed:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, "no records, too many, or sequences beyond the last number")
	case pstate.CodeTooLarge:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE, "", apierrors.KeyField, "batch bytes")
	case pstate.CodeOutOfOrder:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE, "",
			apierrors.KeyExpected, strconv.FormatUint(res.NextExpected, 10))
	case pstate.CodeFenced:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED, "",
			apierrors.KeyCurrentEpoch, strconv.FormatUint(uint64(res.CurrentEpoch), 10))
	case pstate.CodeTxnEnded:
		outcome, reason := outcomeNames(res.Outcome, res.Reason)
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_TXN_ENDED, "",
			apierrors.KeyOutcome, outcome, apierrors.KeyReason, reason)
	case pstate.CodeStaleTxn:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_STALE_TXN, "")
	case pstate.CodeUnknownProducer, pstate.CodeProducerGone:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER, "")
	case pstate.CodeTooManyOpen:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_THROTTLED, "too many open transactions of this producer in the shard")
	case pstate.CodeProducerLimit:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "the shard remembers as many producers as it may")
	case pstate.CodeAppended, pstate.CodeDuplicate:
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "unexpected verdict "+res.Code.String())
}

// outcomeNames are the contract's names without their prefixes.
func outcomeNames(o pstate.Outcome, r pstate.Reason) (outcome, reason string) {
	if o == pstate.OutcomeCommit {
		return "COMMITTED", ""
	}
	name := oncelogv1.AbortReason(r).String()
	return "ABORTED", strings.TrimPrefix(name, "ABORT_REASON_")
}
