package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc/peer"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/access"
)

// transactionService is the part of the gRPC edge that producers use.
type transactionService struct {
	oncelogv1.UnimplementedTransactionServiceServer
	*Coordinator
}

// InitProducer implements the contract. The epoch is durable before the wait
// for earlier transactions begins, so a caller that gives up has fenced all the
// same.
func (s *transactionService) InitProducer(ctx context.Context, req *oncelogv1.InitProducerRequest) (*oncelogv1.InitProducerResponse, error) {
	if err := s.checkInitProducer(req); err != nil {
		return nil, err
	}
	if err := s.signing(); err != nil {
		return nil, err
	}
	over, err := s.beginInit(ctx, req.GetTransactionalId())
	if err != nil {
		return nil, err
	}
	defer over()
	if req.GetTransactionalId() == "" {
		return s.idempotentProducer(ctx)
	}
	who := access.From(ctx)
	res, err := proposeTxn[txn.InitProducerResult](ctx, s.Coordinator, txn.InitProducer{
		TransactionalID: req.GetTransactionalId(),
		Timeout:         s.timeout(req),
		RequestID:       requestID(req.GetRequestId()),
		ClientHost:      clientName(ctx, req.GetClientId()),
		KeepPrepared:    req.GetKeepPrepared(),
		Owner:           s.ownerFor(who),
		Exclusive:       s.cfg.Access.Enabled(),
	})
	if err != nil {
		return nil, err
	}
	switch res.Code {
	case txn.CodeNotOwner:
		return nil, notOwner(who, req.GetTransactionalId())
	case txn.CodePreparedExists:
		return nil, preparedExists(res.Prepared)
	default:
	}
	if err := s.initProducerError(res); err != nil {
		return nil, err
	}
	if !res.Repeated {
		s.counters.initialised(res.Epoch)
	}
	if !res.Closed.IsZero() {
		s.counters.aborted.add(txn.ReasonFenced, 1)
		s.log.Info("producer fenced", "transactional_id", req.GetTransactionalId(), "producer_id", res.ProducerID,
			"epoch", res.Epoch, "aborted_txn_number", res.Closed.Number)
	}
	out := &oncelogv1.InitProducerResponse{
		ProducerId:    res.ProducerID,
		Epoch:         res.Epoch,
		ProducerToken: s.sign(who, res.ProducerID, res.Epoch),
	}
	if res.Previous.Number != 0 {
		out.Previous = &oncelogv1.PreviousTransaction{
			Txn: refProto(res.Previous), Outcome: outcomeProto(res.PreviousOutcome), Reason: reasonProto(res.PreviousReason),
		}
	}
	if !res.Prepared.IsZero() {
		out.Prepared = refProto(res.Prepared)
	}
	if len(res.Incomplete) > 0 && !req.GetNoWait() {
		// The epoch is durable: however the wait ends, the answer says what is
		// incomplete, and that is worth more than an error.
		_ = s.awaitMarkers(ctx, func() bool { return len(s.state.txns.Incomplete(res.ProducerID)) == 0 })
	}
	s.state.read(func() {
		out.IncompleteShards = s.state.txns.Incomplete(res.ProducerID)
		if d, ok := s.state.txns.Describe(req.GetTransactionalId()); ok && d.ProducerID == res.ProducerID {
			out.TimeoutMs = d.Timeout
		}
	})
	return out, nil
}

func (s *transactionService) checkInitProducer(req *oncelogv1.InitProducerRequest) error {
	if err := checkName("transactional_id", req.GetTransactionalId(), false); err != nil {
		return err
	}
	if err := checkName("client_id", req.GetClientId(), false); err != nil {
		return err
	}
	if len(req.GetRequestId()) > maxRequestID {
		return tooLong("request_id", maxRequestID)
	}
	if t := s.timeout(req); t < s.cfg.Txn.MinTimeout || t > s.maxTimeout() {
		return s.problem(txn.ProblemTimeout)
	}
	return nil
}

// timeout is what the command carries: the settings of a node never reach the
// state machine in another way.
func (s *transactionService) timeout(req *oncelogv1.InitProducerRequest) txn.Millis {
	if t := req.GetTimeoutMs(); t != 0 {
		return t
	}
	return s.cfg.DefaultTimeout.Milliseconds()
}

// maxTimeout is the longest timeout that a producer may ask for.
func (c *Coordinator) maxTimeout() txn.Millis {
	return min(c.cfg.MaxTimeout.Milliseconds(), c.cfg.Txn.MaxTimeout)
}

func (s *transactionService) initProducerError(res txn.InitProducerResult) error {
	switch res.Code {
	case txn.CodeOK:
		return nil
	case txn.CodeFenced:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED,
			"this request was carried out before, and a newer one has taken over since", epochPair(res.Epoch)...)
	case txn.CodeLimit:
		s.quotas.refused.add(quotaAllIDs, 1)
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, "the cluster holds as many transactional ids as it may",
			apierrors.KeyField, "transactional_id", apierrors.KeyLimit, strconv.Itoa(s.cfg.Txn.MaxIDs))
	default:
		return s.problem(res.Problem)
	}
}

// ownerFor returns whose a transactional id becomes. Without permissions what nobody has
// shown to be his stays free, for the time when they are turned on.
func (c *Coordinator) ownerFor(who access.Principal) string {
	if !c.cfg.Access.Enabled() && !who.Authenticated() {
		return ""
	}
	return who.Name
}

// notOwner is told to who may write under a name that is another's.
func notOwner(who access.Principal, id string) error {
	e := access.Denied(who, acl.Write, acl.TransactionalID, id)
	e.Message = fmt.Sprintf("transactional id %q belongs to another principal than %s, until it is deleted", id, who.Name)
	return e
}

// idempotentProducer hands out a producer id without transactions.
func (s *transactionService) idempotentProducer(ctx context.Context) (*oncelogv1.InitProducerResponse, error) {
	id, err := s.idBlock.take(ctx, func() (first, count uint64, err error) {
		res, err := proposeTxn[txn.AllocateProducerIDsResult](ctx, s.Coordinator, txn.AllocateProducerIDs{Count: idBlockSize})
		if err == nil && res.Code != txn.CodeOK {
			err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "no producer ids: "+res.Problem.String())
		}
		return res.First, uint64(res.Count), err
	})
	if err != nil {
		return nil, apierrors.From(err)
	}
	return &oncelogv1.InitProducerResponse{ProducerId: id, ProducerToken: s.sign(access.From(ctx), id, 0)}, nil
}

// EndTransaction implements the contract: the commit point.
func (s *transactionService) EndTransaction(ctx context.Context, req *oncelogv1.EndTransactionRequest) (*oncelogv1.EndTransactionResponse, error) {
	if err := s.checkEnd(ctx, req); err != nil {
		return nil, err
	}
	cmd, unknown, err := s.endCommand(ctx, req)
	if err != nil {
		return nil, err
	}
	res, err := s.decide(ctx, cmd)
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
		s.countEnd(req.GetCommit(), res.EndTransactionResult)
	}
	if req.GetWaitApplied() && len(res.Pending) > 0 {
		if err := s.awaitApplied(ctx, cmd.Ref); err != nil {
			return nil, err
		}
	}
	return &oncelogv1.EndTransactionResponse{
		Outcome: outcomeProto(res.Outcome), Reason: reasonProto(res.Reason), CurrentEpoch: res.CurrentEpoch,
	}, nil
}

func (s *transactionService) countEnd(commit bool, res txn.EndTransactionResult) {
	if commit {
		s.counters.committed.Add(1)
	} else {
		s.counters.aborted.add(txn.ReasonClient, 1)
	}
	if !res.Superseded.IsZero() {
		s.counters.aborted.add(txn.ReasonSuperseded, 1)
	}
}

func (s *transactionService) checkEnd(ctx context.Context, req *oncelogv1.EndTransactionRequest) error {
	if err := checkTxn(req.GetTxn()); err != nil {
		return err
	}
	if err := s.signing(); err != nil {
		return err
	}
	if !s.tokenOf(access.From(ctx), req.GetProducerToken(), req.GetTxn().GetProducerId(), req.GetTxn().GetEpoch()) {
		return invalidToken()
	}
	if err := checkCount("partitions", len(req.GetPartitions()), maxList); err != nil {
		return err
	}
	if len(req.GetOffsets()) > 0 && !req.GetCommit() {
		return apierrors.InvalidArgument("offsets", "an abort moves no offsets; send them with a commit only")
	}
	for i, p := range req.GetPartitions() {
		if err := checkPartition(p.GetPartition(), func() string { return fmt.Sprintf("partitions[%d].partition", i) }); err != nil {
			return err
		}
	}
	return checkOffsets(req.GetOffsets())
}

// endCommand builds the command. Partitions are resolved from what this node
// has applied, after it has caught up if one is not found; the command checks
// them again.
//
// A commit that names what does not exist is put to the core all the same, as
// one that cannot succeed: it may be the repetition of a commit that did, before
// the topic was deleted, and must get the first answer. unknown is for when it
// does not.
func (s *transactionService) endCommand(ctx context.Context, req *oncelogv1.EndTransactionRequest) (cmd txn.EndTransaction, unknown, err error) {
	cmd = txn.EndTransaction{Ref: refOf(req.GetTxn()), Commit: req.GetCommit()}
	var commits []group.Commit
	unknown = s.withCatalog(ctx, func() error {
		var noPartition, noInput error
		cmd.Participants, noPartition = s.participants(req)
		commits, noInput = s.commitsOf(req.GetOffsets())
		return cmp.Or(noPartition, noInput)
	})
	switch apierrors.CodeOf(unknown) {
	case oncelogv1.ErrorCode_ERROR_CODE_UNSPECIFIED,
		oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION:
	default: // catching up failed
		return cmd, nil, unknown
	}
	if len(commits) > 0 {
		cmd.OffsetsPayload = group.AppendCommits(nil, commits)
	}
	if len(cmd.OffsetsPayload) > txn.MaxOffsetsPayload {
		return cmd, nil, tooLong("offsets", txn.MaxOffsetsPayload)
	}
	return cmd, unknown, nil
}

// noShard is the id of no shard; a commit that names it is refused.
const noShard = 0

// participants groups the named partitions by shard. A partition that is gone
// holds nothing, so an abort may name it; in a commit it belongs to noShard.
// The caller holds the state still.
func (s *transactionService) participants(req *oncelogv1.EndTransactionRequest) (out []txn.Participant, unknown error) {
	index := map[uint64]int{}
	for i, p := range req.GetPartitions() {
		part, ok := resolve(s.state.catalog, p.GetPartition())
		if !ok && !req.GetCommit() {
			continue
		}
		if !ok {
			part = catalog.Partition{ShardID: noShard}
		}
		if !ok && unknown == nil {
			unknown = s.noParticipant(fmt.Sprintf("partitions[%d].partition", i), p.GetPartition())
		}
		at, named := index[part.ShardID]
		if !named {
			at = len(out)
			index[part.ShardID] = at
			out = append(out, txn.Participant{Shard: part.ShardID})
		}
		out[at].Progress = append(out[at].Progress, txn.Progress{Partition: part.ID, NextSequence: p.GetNextSequence()})
	}
	return out, unknown
}

// noParticipant is what a commit is told that covers what does not exist.
func (s *transactionService) noParticipant(field string, ref *oncelogv1.PartitionRef) error {
	e := apierrors.From(unknownPartition(s.state.catalog, field, ref))
	return &apierrors.Error{Code: oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN, Message: e.Message, Metadata: e.Metadata}
}

// endError turns a refusal into what the contract says about it.
func (s *transactionService) endError(ref txn.Ref, res endResult) error {
	switch res.Code {
	case txn.CodeOK:
		return nil
	case txn.CodeUnknownID:
		return unknownProducer(ref.ProducerID)
	case txn.CodeFenced:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED, "", epochPair(res.CurrentEpoch)...)
	case txn.CodeConflict:
		return conflict(res.Outcome, res.Reason, res.CurrentEpoch)
	case txn.CodeForgotten:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN, "", epochPair(res.CurrentEpoch)...)
	case txn.CodeUnsettledSends:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS, "", apierrors.KeyShards, joinIDs(res.Unsettled))
	case txn.CodeThrottled:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_THROTTLED, "")
	case txn.CodeStaleMember:
		return s.staleMember(res.group)
	case txn.CodePreparedExists:
		return preparedExists(res.Prepared)
	default:
		switch res.Problem {
		case txn.ProblemEpoch, txn.ProblemNumber, txn.ProblemNotPrepared:
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN, res.Problem.String(), apierrors.KeyField, "txn")
		default:
			return s.problem(res.Problem)
		}
	}
}

// awaitApplied waits until every shard has applied the decision. The decision
// stands whatever comes of the wait, and the same call again waits again.
func (s *transactionService) awaitApplied(ctx context.Context, ref txn.Ref) error {
	err := s.awaitMarkers(ctx, func() bool { return s.state.txns.Phase(ref) != txn.PhaseCompleting })
	if errors.Is(err, errWaitedEnough) {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_DEADLINE,
			"the transaction is decided as asked, but some shard has not applied it yet; repeat the call to wait on")
	}
	return err
}

// GetOutcome implements the contract.
func (s *transactionService) GetOutcome(ctx context.Context, req *oncelogv1.GetOutcomeRequest) (*oncelogv1.GetOutcomeResponse, error) {
	if err := checkTxn(req.GetTxn()); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var rep txn.OutcomeReport
	s.state.read(func() { rep = s.state.txns.GetOutcome(refOf(req.GetTxn())) })
	return &oncelogv1.GetOutcomeResponse{
		Outcome: statusProto(rep.Status), Reason: reasonProto(rep.Reason), DecidedAtMs: rep.DecidedAt,
		PendingShards: rep.Pending, Damaged: rep.Damaged,
	}, nil
}

// problem turns what the core finds wrong with a request into an error.
func (c *Coordinator) problem(p txn.Problem) error {
	rules := c.cfg.Txn
	switch p {
	case txn.ProblemTimeout:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT,
			fmt.Sprintf("timeout_ms must be between %d and %d", rules.MinTimeout, c.maxTimeout()), apierrors.KeyField, "timeout_ms")
	case txn.ProblemTooMany:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
			fmt.Sprintf("a transaction may have %d shards and %d partitions", rules.MaxParticipants, rules.MaxPartitionsPerTxn),
			apierrors.KeyField, "partitions", apierrors.KeyLimit, strconv.Itoa(rules.MaxPartitionsPerTxn))
	case txn.ProblemShard, txn.ProblemPartition:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN, p.String(), apierrors.KeyField, "partitions")
	case txn.ProblemDuplicate:
		return apierrors.InvalidArgument("partitions", "a partition is named twice")
	case txn.ProblemEpoch:
		return apierrors.InvalidArgument("epoch", p.String())
	case txn.ProblemID, txn.ProblemEpochExhausted:
		return apierrors.InvalidArgument("transactional_id", p.String())
	default:
		return apierrors.InvalidArgument("request", p.String())
	}
}

func conflict(o txn.Outcome, r txn.Reason, epoch uint32) error {
	message := "the transaction was committed"
	reason := ""
	if o == txn.Aborted {
		reason = r.String()
		message = "the transaction was aborted: " + strings.ToLower(reason)
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, message,
		append(epochPair(epoch), apierrors.KeyOutcome, o.String(), apierrors.KeyReason, reason)...)
}

func unknownProducer(id uint64) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER,
		fmt.Sprintf("no transactional id has producer id %d; it may have expired", id))
}

func epochPair(epoch uint32) []string {
	return []string{apierrors.KeyCurrentEpoch, strconv.FormatUint(uint64(epoch), 10)}
}

func joinIDs(ids []uint64) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = strconv.FormatUint(id, 10)
	}
	return strings.Join(parts, ",")
}

// clientName is what operators see: what the client calls itself, and where it
// calls from.
func clientName(ctx context.Context, id string) string {
	host := ""
	if p, ok := peer.FromContext(ctx); ok {
		host = p.Addr.String()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	name := host
	switch {
	case id != "" && host != "":
		name = id + "@" + host
	case id != "":
		name = id
	}
	return name[:min(len(name), maxName)]
}
