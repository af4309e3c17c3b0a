package coordinator

import (
	"context"
	"errors"
	"strconv"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// What a request needs before and while it is answered: that this node leads,
// and that the wait for something comes to an end whatever happens.

// leading refuses what only a leader may answer. It is no promise: another node
// may lead by now. It is asked before a request is judged by the state, for the
// state of a node that does not lead may be old or empty.
func (c *Coordinator) leading() error {
	if !c.opened.Load() {
		return notJoined()
	}
	lead := c.group.Leadership()
	if !lead.Ready {
		return c.notLeader(uint64(lead.Leader))
	}
	c.begin(lead.Term)
	return nil
}

// begin forgets what this leader remembers of earlier terms.
func (c *Coordinator) begin(term uint64) {
	c.registry.begin(term, c.rt.Now())
	c.sessions.begin(term)
}

// signing is leading for what hands out or checks producer tokens, which nobody
// can before the cluster has a key.
func (c *Coordinator) signing() error {
	if err := c.leading(); err != nil {
		return err
	}
	if !c.keys.Ready() {
		return uninitialised()
	}
	return nil
}

func uninitialised() error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the cluster is being initialised")
}

// current makes sure that this node leads and that its state is at least as new
// as the call: a deposed leader must not answer from what it has.
func (c *Coordinator) current(ctx context.Context) error {
	if err := c.leading(); err != nil {
		return err
	}
	if _, err := c.group.ReadIndex(ctx); err != nil {
		return c.raftError(err)
	}
	return nil
}

// notLeader names the leader by its client address; the service for nodes
// changes that to the peer address (see peerFacing). A leader that does not
// serve yet is not to be asked for by its own address.
func (c *Coordinator) notLeader(leader uint64) error {
	if leader == c.cfg.NodeID {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "this coordinator is taking over; try again")
	}
	term := strconv.FormatUint(c.group.Leadership().Term, 10)
	m, known := c.member(leader)
	if !known {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "this coordinator does not lead and knows no leader",
			apierrors.KeyTerm, term)
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER,
		"coordinator "+strconv.FormatUint(leader, 10)+" leads, at "+m.ClientAddress,
		apierrors.KeyLeaderNode, strconv.FormatUint(leader, 10),
		apierrors.KeyLeaderAddress, m.ClientAddress,
		apierrors.KeyTerm, term)
}

// errWaitedEnough ends a wait at the caller's deadline.
var errWaitedEnough = errors.New("coordinator: the deadline came first")

// await waits until cond holds, which it looks at, with the state held still,
// now and whenever a channel from watch is closed. Otherwise it returns
// errWaitedEnough when ctx ends, and what the caller is to be told when this
// node stops to lead, or to run.
func (c *Coordinator) await(ctx context.Context, watch func() <-chan struct{}, cond func() bool) error {
	for {
		changed := watch()
		lead, moved := c.group.LeadershipChanged()
		var holds bool
		c.state.read(func() { holds = cond() })
		switch {
		case holds:
			return nil
		case !lead.Ready:
			return c.notLeader(uint64(lead.Leader))
		}
		switch c.rt.Wait(changed, moved, ctx.Done(), c.closing) {
		case 2:
			return errWaitedEnough
		case 3:
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node is stopping")
		}
	}
}

// awaitMarkers waits for something that acknowledgements of markers bring
// about. They are logged at once while somebody waits.
func (c *Coordinator) awaitMarkers(ctx context.Context, cond func() bool) error {
	c.wanting.Add(1)
	defer c.wanting.Add(-1)
	task.Signal(c.hurry)
	ctx, cancel := c.beforeDeadline(ctx)
	defer cancel()
	return c.await(ctx, c.applied.next, cond)
}

// deadlineMargin is how long before a caller's deadline a wait gives up, so that
// the answer still arrives.
const deadlineMargin = 250 * time.Millisecond

// beforeDeadline returns a context that ends a little before ctx does.
func (c *Coordinator) beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if at, ok := ctx.Deadline(); ok {
		return c.rt.WithDeadline(ctx, at.Add(-deadlineMargin))
	}
	return c.rt.WithCancel(ctx)
}
