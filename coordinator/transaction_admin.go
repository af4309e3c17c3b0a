package coordinator

import (
	"context"
	"errors"
	"strconv"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
)

// ListTransactions implements the contract.
func (s *transactionService) ListTransactions(ctx context.Context, req *oncelogv1.ListTransactionsRequest) (*oncelogv1.ListTransactionsResponse, error) {
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	filter := txn.ListFilter{IDContains: req.GetIdContains(), OlderThan: req.GetOlderThanMs()}
	if filter.OlderThan < 0 {
		return nil, apierrors.InvalidArgument("older_than_ms", "must not be negative")
	}
	if err := checkName("id_contains", req.GetIdContains(), false); err != nil {
		return nil, err
	}
	if err := checkCount("states", len(req.GetStates()), maxPage); err != nil {
		return nil, err
	}
	for _, p := range req.GetStates() {
		state, ok := stateOf(p)
		if !ok {
			return nil, apierrors.InvalidArgument("states", "unknown state")
		}
		filter.States = append(filter.States, state)
	}
	token, err := parsePageToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	after := uint64(0)
	if token != "" {
		if after, err = strconv.ParseUint(token, 10, 64); err != nil {
			return nil, apierrors.InvalidArgument("page_token", "must be the next_page_token of an earlier page")
		}
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	res := &oncelogv1.ListTransactionsResponse{}
	s.state.read(func() {
		page, may := s.state.txns.List(filter, s.now(), after, limit), s.visible(ctx, acl.TransactionalID)
		for _, t := range page.Items {
			if !may(t.TransactionalID) {
				continue
			}
			res.Transactions = append(res.Transactions, &oncelogv1.TransactionListing{
				TransactionalId: t.TransactionalID,
				Txn:             refProto(t.Last),
				State:           stateProto(t.State),
				AgeMs:           t.Age,
				Completing:      uint32(t.Completing),
				ClientId:        t.ClientHost,
			})
		}
		if page.Next != 0 {
			res.NextPageToken = pageToken(strconv.FormatUint(page.Next, 10))
		}
	})
	return res, nil
}

// DescribeTransaction implements the contract.
func (s *transactionService) DescribeTransaction(ctx context.Context, req *oncelogv1.DescribeTransactionRequest) (*oncelogv1.DescribeTransactionResponse, error) {
	if err := checkName("transactional_id", req.GetTransactionalId(), req.GetProducerId() == 0); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var res *oncelogv1.DescribeTransactionResponse
	s.state.read(func() {
		id := req.GetTransactionalId()
		if id == "" {
			who, _ := s.state.txns.Lookup(req.GetProducerId())
			id = who.TransactionalID
		}
		if d, ok := s.state.txns.Describe(id); ok {
			res = s.describe(d)
		}
	})
	if res == nil {
		if req.GetTransactionalId() == "" {
			return nil, unknownProducer(req.GetProducerId())
		}
		return nil, unknownID(req.GetTransactionalId())
	}
	return res, nil
}

// describe converts a description; the caller holds the state still.
func (s *transactionService) describe(d txn.Description) *oncelogv1.DescribeTransactionResponse {
	res := &oncelogv1.DescribeTransactionResponse{
		TransactionalId: d.TransactionalID, ProducerId: d.ProducerID, Epoch: d.Epoch,
		State: stateProto(d.State), TimeoutMs: d.Timeout, ClientId: d.ClientHost, LastUpdateMs: d.UpdatedAt,
		LastTxnNumber: d.Last, Owner: ownerOf(d),
	}
	if o := d.Open; o != nil {
		res.Open = &oncelogv1.OpenTransaction{Txn: refProto(o.Ref), StartedAtMs: o.StartedAt, DeadlineMs: o.Deadline}
		for _, p := range o.Participants {
			part := &oncelogv1.TransactionParticipant{ShardId: p.Shard}
			for _, id := range p.Partitions {
				part.Partitions = append(part.Partitions, &oncelogv1.PartitionProgress{Partition: partitionProto(s.state.catalog, id)})
			}
			res.Open.Participants = append(res.Open.Participants, part)
		}
	}
	if t := d.Prepared; t != nil {
		res.Prepared = &oncelogv1.PreparedTransaction{Txn: refProto(t.Ref), StartedAtMs: t.StartedAt, PreparedAtMs: t.PreparedAt}
		for _, p := range t.Participants {
			res.Prepared.Participants = append(res.Prepared.Participants,
				&oncelogv1.TransactionParticipant{ShardId: p.Shard, Partitions: s.progressProto(p.Progress)})
		}
	}
	for _, t := range d.Completing {
		res.Completing = append(res.Completing, s.decided(t))
	}
	for _, t := range d.Outcomes {
		res.Outcomes = append(res.Outcomes, s.decided(t))
	}
	return res
}

// ownerOf returns whose id it is; empty: nobody's, as far as is known.
func ownerOf(d txn.Description) string {
	if d.Owner == acl.Anonymous {
		return ""
	}
	return d.Owner
}

func (s *transactionService) decided(t txn.DecidedTransaction) *oncelogv1.DecidedTransaction {
	p := &oncelogv1.DecidedTransaction{
		Txn: refProto(t.Ref), Outcome: outcomeProto(t.Outcome), Reason: reasonProto(t.Reason),
		DecidedAtMs: t.DecidedAt, Damaged: t.Damaged,
	}
	for _, shard := range t.Participants {
		p.Participants = append(p.Participants, &oncelogv1.TransactionParticipant{
			ShardId: shard.Shard, Applied: shard.Acknowledged, Partitions: s.progressProto(shard.Progress),
		})
	}
	return p
}

// progressProto converts what a commit covers; the caller holds the state still.
func (s *transactionService) progressProto(progress []txn.Progress) (out []*oncelogv1.PartitionProgress) {
	for _, pr := range progress {
		out = append(out, &oncelogv1.PartitionProgress{
			Partition: partitionProto(s.state.catalog, pr.Partition), NextSequence: pr.NextSequence,
		})
	}
	return out
}

// AbortTransaction implements the contract. Without a TxnRef it aborts what is
// open or prepared when the call arrives, and only that.
func (s *transactionService) AbortTransaction(ctx context.Context, req *oncelogv1.AbortTransactionRequest) (*oncelogv1.AbortTransactionResponse, error) {
	if err := checkName("transactional_id", req.GetTransactionalId(), true); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var (
		d     txn.Description
		known bool
	)
	s.state.read(func() { d, known = s.state.txns.Describe(req.GetTransactionalId()) })
	if !known {
		return nil, unknownID(req.GetTransactionalId())
	}
	ref := refOf(req.GetTxn())
	switch {
	case req.GetTxn() != nil && ref.ProducerID != d.ProducerID:
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN,
			"the transaction belongs to another transactional id", apierrors.KeyField, "txn")
	case req.GetTxn() == nil && d.Prepared != nil:
		ref = d.Prepared.Ref
	case req.GetTxn() == nil && d.Open == nil:
		return &oncelogv1.AbortTransactionResponse{}, nil
	case req.GetTxn() == nil:
		ref = d.Open.Ref
	}
	res, err := proposeTxn[txn.AbortTransactionResult](ctx, s.Coordinator, txn.AbortTransaction{Ref: ref, Force: req.GetForce()})
	if err != nil {
		return nil, err
	}
	if err := s.abortError(ref, res); err != nil {
		return nil, err
	}
	if d.Open != nil && d.Open.Ref == ref || d.Prepared != nil && d.Prepared.Ref == ref {
		s.counters.aborted.add(txn.ReasonAdmin, 1)
	}
	s.log.Info("transaction aborted by an operator", "transactional_id", req.GetTransactionalId(),
		"producer_id", ref.ProducerID, "epoch", ref.Epoch, "txn_number", ref.Number)
	if req.GetWaitApplied() && len(res.Pending) > 0 {
		if err := s.awaitApplied(ctx, ref); err != nil {
			return nil, err
		}
	}
	return &oncelogv1.AbortTransactionResponse{Txn: refProto(ref)}, nil
}

func (s *transactionService) abortError(ref txn.Ref, res txn.AbortTransactionResult) error {
	switch res.Code {
	case txn.CodeOK:
		return nil
	case txn.CodeUnknownID:
		return unknownProducer(ref.ProducerID)
	case txn.CodeConflict:
		return conflict(txn.Committed, txn.ReasonNone, res.CurrentEpoch)
	case txn.CodeFenced:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED, "", epochPair(res.CurrentEpoch)...)
	case txn.CodeForgotten:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN, "", epochPair(res.CurrentEpoch)...)
	case txn.CodePreparedExists:
		return preparedExists(ref)
	default:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN, "no such transaction is open", apierrors.KeyField, "txn")
	}
}

// FenceProducer implements the contract.
func (s *transactionService) FenceProducer(ctx context.Context, req *oncelogv1.FenceProducerRequest) (*oncelogv1.FenceProducerResponse, error) {
	if err := checkName("transactional_id", req.GetTransactionalId(), true); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var (
		d     txn.Description
		known bool
	)
	s.state.read(func() { d, known = s.state.txns.Describe(req.GetTransactionalId()) })
	if !known {
		return nil, unknownID(req.GetTransactionalId())
	}
	epoch := d.Epoch
	if req.Epoch != nil {
		epoch = req.GetEpoch()
	}
	res, err := proposeTxn[txn.FenceProducerResult](ctx, s.Coordinator,
		txn.FenceProducer{TransactionalID: req.GetTransactionalId(), Epoch: epoch})
	switch {
	case err != nil:
		return nil, err
	case res.Code == txn.CodeUnknownID:
		return nil, unknownID(req.GetTransactionalId())
	case res.Code != txn.CodeOK:
		return nil, s.problem(res.Problem)
	}
	if !res.Closed.IsZero() {
		s.counters.aborted.add(txn.ReasonFenced, 1)
	}
	s.counters.fenced.Add(1)
	s.log.Info("producer fenced by an operator", "transactional_id", req.GetTransactionalId(), "epoch", res.CurrentEpoch)
	return &oncelogv1.FenceProducerResponse{ProducerId: res.ProducerID, Epoch: res.CurrentEpoch}, nil
}

// DeleteTransactionalId implements the contract: it aborts what is open and
// waits for the shards, then removes exactly the producer id that it found.
func (s *transactionService) DeleteTransactionalId(ctx context.Context, req *oncelogv1.DeleteTransactionalIdRequest) (*oncelogv1.DeleteTransactionalIdResponse, error) { //nolint:staticcheck // the generated interface names the method
	if err := checkName("transactional_id", req.GetTransactionalId(), true); err != nil {
		return nil, err
	}
	cmd := txn.DeleteID{TransactionalID: req.GetTransactionalId()}
	for {
		res, err := proposeTxn[txn.DeleteIDResult](ctx, s.Coordinator, cmd)
		if err != nil {
			return nil, err
		}
		switch res.Code {
		case txn.CodeOK:
			return &oncelogv1.DeleteTransactionalIdResponse{}, nil
		case txn.CodeUnknownID:
			if cmd.ProducerID != 0 {
				return &oncelogv1.DeleteTransactionalIdResponse{}, nil
			}
			return nil, unknownID(req.GetTransactionalId())
		case txn.CodePreparedExists:
			return nil, preparedExists(res.Prepared)
		default: // incomplete
		}
		if !res.Closed.IsZero() {
			s.counters.aborted.add(txn.ReasonAdmin, 1)
		}
		cmd.ProducerID = res.ProducerID
		pending := res.Pending
		err = s.awaitMarkers(ctx, func() bool {
			pending = s.state.txns.Incomplete(cmd.ProducerID)
			return len(pending) == 0
		})
		if errors.Is(err, errWaitedEnough) {
			return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_TRANSACTION_IN_PROGRESS,
				"shards have not applied the end of an earlier transaction yet", apierrors.KeyShards, joinIDs(pending))
		}
		if err != nil {
			return nil, err
		}
	}
}

func unknownID(id string) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER, "no transactional id is named "+strconv.Quote(id))
}
