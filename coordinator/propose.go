package coordinator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strconv"
	"sync"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/raftstore"
)

// now is the leader's time as it is stamped into commands.
func (c *Coordinator) now() int64 { return c.clock.Now().UnixMilli() }

// leadershipCheck is how often a waiting call looks whether this node still
// leads.
const leadershipCheck = 500 * time.Millisecond

// propose puts one command through the log and returns what it returned when
// it was applied here.
func propose[R any](ctx context.Context, c *Coordinator, entry []byte) (R, error) {
	var none R
	result, _, err := c.group.Propose(ctx, entry)
	if err != nil {
		return none, c.raftError(err)
	}
	switch r := result.(type) {
	case R:
		return r, nil
	case undecodable:
		return none, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT, "the request cannot be carried out: "+r.err.Error())
	default:
		return none, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "unexpected result of a command")
	}
}

func proposeTxn[R any](ctx context.Context, c *Coordinator, cmd txn.Command) (R, error) {
	return propose[R](ctx, c, txn.AppendCommand([]byte{entryTxn}, c.now(), cmd))
}

func proposeCatalog(ctx context.Context, c *Coordinator, cmd catalog.Command) (catalog.Result, error) {
	entry := catalog.AppendCommand([]byte{entryCatalog}, cmd)
	if len(entry) > catalog.MaxCommandBytes {
		return catalog.Result{}, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, "the request is too large",
			apierrors.KeyField, "request", apierrors.KeyLimit, strconv.Itoa(catalog.MaxCommandBytes))
	}
	return propose[catalog.Result](ctx, c, entry)
}

func proposeGroup[R any](ctx context.Context, c *Coordinator, cmd group.Command) (R, error) {
	return propose[R](ctx, c, group.AppendCommand([]byte{entryGroup}, cmd))
}

// current makes sure that this node leads and that its state is at least as new
// as the call: a deposed leader must not answer from what it has.
func (c *Coordinator) current(ctx context.Context) error {
	if st := c.group.Status(); !st.Ready {
		return c.notLeader(uint64(st.Leader))
	}
	if _, err := c.group.ReadIndex(ctx); err != nil {
		return c.raftError(err)
	}
	return nil
}

// await waits until cond holds, looking at the state after every change. It
// returns false when the context ends, or this node no longer leads, first.
func (c *Coordinator) await(ctx context.Context, cond func() bool) bool {
	c.wanting.Add(1)
	defer c.wanting.Add(-1)
	for {
		changed := c.applied.next()
		var holds bool
		c.state.read(func() { holds = cond() })
		if holds {
			return true
		}
		if !c.group.Status().Ready {
			return false
		}
		timer, release := c.clock.After(leadershipCheck)
		select {
		case <-changed:
		case <-timer:
		case <-ctx.Done():
			release()
			return false
		}
		release()
	}
}

// raftError turns what the store says into what the contract says.
func (c *Coordinator) raftError(err error) error {
	var notLeader *raftstore.NotLeaderError
	switch {
	case errors.As(err, &notLeader):
		return c.notLeader(uint64(notLeader.Leader))
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

// notLeader names the leader by its client address; the service for nodes
// changes that to the peer address (see peerFacing).
func (c *Coordinator) notLeader(leader uint64) error {
	m, known := c.member(leader)
	if !known {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "this coordinator does not lead and knows no leader",
			apierrors.KeyTerm, strconv.FormatUint(c.group.Status().Term, 10))
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER,
		"coordinator "+strconv.FormatUint(leader, 10)+" leads, at "+m.ClientAddress,
		apierrors.KeyLeaderNode, strconv.FormatUint(leader, 10),
		apierrors.KeyLeaderAddress, m.ClientAddress,
		apierrors.KeyTerm, strconv.FormatUint(c.group.Status().Term, 10))
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

// idBlock hands out producer ids of idempotent producers from a replicated
// block, so that most of them cost no log entry. What is left of a block when
// leadership ends is never handed out.
type idBlock struct {
	mu         sync.Mutex
	next, left uint64
}

// idBlockSize is how many ids are taken at once.
const idBlockSize = 1000

func (b *idBlock) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = 0
}

// take returns a producer id. Only one caller fetches a block at a time.
func (b *idBlock) take(fetch func() (first, count uint64, err error)) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		first, count, err := fetch()
		if err != nil {
			return 0, err
		}
		b.next, b.left = first, count
	}
	id := b.next
	b.next++
	b.left--
	return id, nil
}
