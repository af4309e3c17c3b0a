package coordinator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strconv"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/raftstore"
)

// now is the leader's time as it is stamped into commands.
func (c *Coordinator) now() int64 { return c.rt.Wall().UnixMilli() }

// propose puts one command through the log and returns what it returned when
// it was applied here.
func propose[R any](ctx context.Context, c *Coordinator, entry []byte) (R, error) {
	var none R
	if !c.opened.Load() {
		return none, notJoined()
	}
	result, _, err := c.group.Propose(ctx, entry)
	if err != nil {
		return none, c.raftError(err)
	}
	switch r := result.(type) {
	case undecodable:
		return none, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "the command could not be read back: "+r.err.Error())
	case R:
		return r, nil
	default:
		return none, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "unexpected result of a command")
	}
}

func proposeTxn[R any](ctx context.Context, c *Coordinator, cmd txn.Command) (R, error) {
	if !txn.WithinLimits(cmd) {
		// It would not decode: no log entry for what can only be skipped.
		var none R
		return none, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, "the request is too large",
			apierrors.KeyField, "request")
	}
	return propose[R](ctx, c, txn.AppendCommand([]byte{entryTxn}, c.now(), cmd))
}

func proposeCatalog(ctx context.Context, c *Coordinator, cmd catalog.Command) (catalog.Result, error) {
	entry := catalog.AppendCommand([]byte{entryCatalog}, cmd)
	if err := checkEntry(entry, catalog.MaxCommandBytes); err != nil {
		return catalog.Result{}, err
	}
	return propose[catalog.Result](ctx, c, entry)
}

func proposeGroup(ctx context.Context, c *Coordinator, cmd group.Command) (group.Result, error) {
	entry := group.AppendCommand([]byte{entryGroup}, cmd)
	if err := checkEntry(entry, group.MaxCommandBytes); err != nil {
		return group.Result{}, err
	}
	return propose[group.Result](ctx, c, entry)
}

func proposeMember(ctx context.Context, c *Coordinator, cmd membership.Command) (membership.Result, error) {
	entry := membership.AppendCommand([]byte{entryMember}, cmd)
	if err := checkEntry(entry, membership.MaxCommandBytes); err != nil {
		return membership.Result{}, err
	}
	return propose[membership.Result](ctx, c, entry)
}

// checkEntry refuses an entry whose core would not read it.
func checkEntry(entry []byte, limit int) error {
	if len(entry)-1 <= limit { // the first byte is not the core's
		return nil
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, "the request is too large",
		apierrors.KeyField, "request", apierrors.KeyLimit, strconv.Itoa(limit))
}

// raftError turns what the store says into what the contract says.
func (c *Coordinator) raftError(err error) error {
	var notLeader *raftstore.NotLeaderError
	switch {
	case errors.As(err, &notLeader):
		return c.notLeader(uint64(notLeader.Leader))
	case errors.Is(err, raftstore.ErrNotMember):
		return c.notLeader(0) // removed in the meantime; whoever leads, it is not this node
	case errors.Is(err, raftstore.ErrDiskLow):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, diskLow(c.cfg.NodeID))
	case errors.Is(err, raftstore.ErrOverloaded):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "")
	case errors.Is(err, raftstore.ErrUnknownResult):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, "")
	case errors.Is(err, raftstore.ErrProposalTooLarge):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, "the request is too large", apierrors.KeyField, "request")
	case errors.Is(err, raftstore.ErrStopped), errors.Is(err, raftstore.ErrGroupNotFound):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node is stopping")
	default:
		return apierrors.From(err)
	}
}

// requestID makes the identity of an InitProducer from the client's, or a fresh
// one.
func requestID(s string) txn.RequestID {
	var id txn.RequestID
	if s == "" {
		_, _ = rand.Read(id[:]) // never fails (crypto/rand)
		return id
	}
	sum := sha256.Sum256([]byte(s))
	copy(id[:], sum[:])
	return id
}

func diskLow(node uint64) string {
	return "the disk of coordinator " + strconv.FormatUint(node, 10) + " is below min_free_bytes; make room"
}
