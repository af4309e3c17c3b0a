package coordinator

import (
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
)

// The wire's types and the cores' types meet only here.

func refOf(p *oncelogv1.TxnRef) txn.Ref {
	return txn.Ref{ProducerID: p.GetProducerId(), Epoch: p.GetEpoch(), Number: p.GetTxnNumber()}
}

func refProto(r txn.Ref) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: r.ProducerID, Epoch: r.Epoch, TxnNumber: r.Number}
}

func outcomeProto(o txn.Outcome) oncelogv1.TransactionOutcome {
	switch o {
	case txn.Committed:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	case txn.Aborted:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	case txn.Undecided:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN
	}
	return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_UNSPECIFIED
}

func statusProto(s txn.Status) oncelogv1.TransactionOutcome {
	switch s {
	case txn.StatusOpen:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN
	case txn.StatusCommitted:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	case txn.StatusAborted:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	case txn.StatusForgotten:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_FORGOTTEN
	case txn.StatusPrepared:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_PREPARED
	case txn.StatusInvalid, txn.StatusUnknownID:
		return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_INVALID
	}
	return oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_UNSPECIFIED
}

func reasonProto(r txn.Reason) oncelogv1.AbortReason {
	switch r {
	case txn.ReasonClient:
		return oncelogv1.AbortReason_ABORT_REASON_CLIENT
	case txn.ReasonTimeout:
		return oncelogv1.AbortReason_ABORT_REASON_TIMEOUT
	case txn.ReasonFenced:
		return oncelogv1.AbortReason_ABORT_REASON_FENCED
	case txn.ReasonSuperseded:
		return oncelogv1.AbortReason_ABORT_REASON_SUPERSEDED
	case txn.ReasonAdmin:
		return oncelogv1.AbortReason_ABORT_REASON_ADMIN
	case txn.ReasonNone:
	}
	return oncelogv1.AbortReason_ABORT_REASON_UNSPECIFIED
}

func stateProto(s txn.State) oncelogv1.TransactionState {
	switch s {
	case txn.StateEmpty:
		return oncelogv1.TransactionState_TRANSACTION_STATE_EMPTY
	case txn.StateOngoing:
		return oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING
	case txn.StatePrepareCommit:
		return oncelogv1.TransactionState_TRANSACTION_STATE_PREPARE_COMMIT
	case txn.StatePrepareAbort:
		return oncelogv1.TransactionState_TRANSACTION_STATE_PREPARE_ABORT
	case txn.StateCompleteCommit:
		return oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_COMMIT
	case txn.StateCompleteAbort:
		return oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_ABORT
	case txn.StatePrepared:
		return oncelogv1.TransactionState_TRANSACTION_STATE_PREPARED
	}
	return oncelogv1.TransactionState_TRANSACTION_STATE_UNSPECIFIED
}

func stateOf(p oncelogv1.TransactionState) (txn.State, bool) {
	for _, s := range []txn.State{
		txn.StateEmpty, txn.StateOngoing, txn.StatePrepareCommit, txn.StatePrepareAbort,
		txn.StateCompleteCommit, txn.StateCompleteAbort, txn.StatePrepared,
	} {
		if stateProto(s) == p {
			return s, true
		}
	}
	return 0, false
}

func verdictProto(v txn.Verdict) oncelogv1.EnlistVerdict {
	switch v {
	case txn.VerdictAccepted:
		return oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED
	case txn.VerdictDecided:
		return oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED
	case txn.VerdictStray:
		return oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY
	case txn.VerdictThrottled:
		return oncelogv1.EnlistVerdict_ENLIST_VERDICT_THROTTLED
	}
	return oncelogv1.EnlistVerdict_ENLIST_VERDICT_UNSPECIFIED
}

func markerProto(m txn.Marker) *oncelogv1.Marker {
	p := &oncelogv1.Marker{
		Txn:           refProto(m.Ref),
		Commit:        m.Outcome == txn.Committed,
		Reason:        reasonProto(m.Reason),
		CompleteBelow: refProto(m.CompleteBelow),
	}
	for _, pr := range m.Progress {
		p.Progress = append(p.Progress, &oncelogv1.MarkerProgress{PartitionId: pr.Partition, NextSequence: pr.NextSequence})
	}
	return p
}

// markerAnswer returns what a shard answered, and false for what no shard of
// this version answers.
func markerAnswer(r oncelogv1.MarkerResult) (txn.MarkerAnswer, bool) {
	switch r {
	case oncelogv1.MarkerResult_MARKER_RESULT_APPLIED:
		return txn.MarkerApplied, true
	case oncelogv1.MarkerResult_MARKER_RESULT_ALREADY:
		return txn.MarkerAlready, true
	case oncelogv1.MarkerResult_MARKER_RESULT_MISSING_DATA:
		return txn.MarkerMissingData, true
	case oncelogv1.MarkerResult_MARKER_RESULT_CONFLICT:
		return txn.MarkerConflict, true
	default:
		return 0, false
	}
}

func topicProto(cat *catalog.Catalog, t catalog.Topic, withPartitions bool) *oncelogv1.Topic {
	p := &oncelogv1.Topic{
		Name: t.Name, TopicId: t.ID,
		PartitionCount:    uint32(len(t.Partitions)),
		ReplicationFactor: t.ReplicationFactor,
		CreatedAtMs:       t.CreatedAt,
		Config:            configProto(t),
		ConfigVersion:     t.ConfigVersion,
	}
	if !withPartitions {
		return p
	}
	for i, id := range t.Partitions {
		part, _ := cat.Partition(id)
		p.Partitions = append(p.Partitions, &oncelogv1.Partition{
			Partition: uint32(i), PartitionId: id, ShardId: part.ShardID,
		})
	}
	return p
}

func nodeProto(n catalog.Node) *oncelogv1.Node {
	return &oncelogv1.Node{NodeId: n.ID, ClientAddress: n.ClientAddress, PeerAddress: n.PeerAddress}
}

// moveProto converts a move; nil for none.
func moveProto(m catalog.Move) *oncelogv1.ShardMove {
	if !m.Active() {
		return nil
	}
	return &oncelogv1.ShardMove{
		Add: m.Add, AddLife: m.AddLife, Remove: m.Remove, Cancelled: m.Cancelled, StartedAtMs: m.StartedAt,
	}
}

// partitionProto names a partition with all that is known of it. A partition
// that was deleted has only its id.
func partitionProto(cat *catalog.Catalog, id uint64) *oncelogv1.PartitionRef {
	ref := &oncelogv1.PartitionRef{PartitionId: id}
	if p, ok := cat.Partition(id); ok {
		t, _ := cat.TopicByID(p.TopicID)
		ref.Topic, ref.Partition = t.Name, p.Index
	}
	return ref
}
