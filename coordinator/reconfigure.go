package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/raftstore"
)

// Who is to be a member is replicated state, and who votes is the configuration of
// the Raft group. The leader reads off the two what is to be done next, does it, and
// looks again; a new leader does the same. Every step may have happened already, or
// happen twice: they say what is to be so, and not what is to be changed.

const (
	// reconfigurePause is how long a leader waits before it looks again at a change
	// that cannot go on yet.
	reconfigurePause = 100 * time.Millisecond
	// majorityPatience is for how long the removal of a voter that would leave no
	// majority is tried: then the voter is kept, so that another one can be replaced.
	majorityPatience = 5 * time.Second
	// handoverLag is how many entries the member that takes the leader's place may
	// lack when the leader hands over.
	handoverLag = 256
)

// stepKind is what is to be done next about the members.
type stepKind uint8

const (
	stepNone     stepKind = iota // all is as it is to be
	stepWait                     // for a process, for entries to arrive, for Raft
	stepFound                    // write down the first members
	stepLearn                    // node: add it to the group as a learner
	stepPromote                  // node: have it vote; old: and that one not, if it is not 0
	stepExpel                    // node: take it out of the group
	stepHandOver                 // node: have it lead
	stepSettle                   // node: it votes
	stepForget                   // node: it is gone
)

type step struct {
	do        stepKind
	node, old uint64
}

// nextStep returns what is to be done for the group's members to be those that are
// wanted. self leads, and has committed entries up to commit.
func nextStep(wanted *membership.Membership, actual []raftstore.Member, self, commit uint64) step {
	if !wanted.Founded() {
		return step{do: stepFound}
	}
	in := func(id uint64) (raftstore.Member, bool) {
		i := slices.IndexFunc(actual, func(m raftstore.Member) bool { return uint64(m.ID) == id })
		if i < 0 {
			return raftstore.Member{}, false
		}
		return actual[i], true
	}
	if slices.ContainsFunc(actual, func(m raftstore.Member) bool { return m.Leaving }) {
		return step{do: stepWait} // for the joint configuration to end
	}
	// A learner whose addition was called off while it was under way.
	for _, m := range actual {
		if _, ok := wanted.Member(uint64(m.ID)); !ok {
			return step{do: stepExpel, node: uint64(m.ID)}
		}
	}
	x, changing := wanted.Changing()
	if !changing {
		return step{}
	}
	a, inGroup := in(x.ID)
	_, oldInGroup := in(x.Replaces)
	switch {
	case inGroup && a.Voter && !x.Voter && oldInGroup:
		return step{do: stepExpel, node: x.Replaces}
	case inGroup && a.Voter && !x.Voter:
		return step{do: stepSettle, node: x.ID}
	case x.Leaving && inGroup && x.ID == self:
		return handOver(actual, self, 0)
	case x.Leaving && inGroup:
		return step{do: stepExpel, node: x.ID}
	case x.Leaving:
		return step{do: stepForget, node: x.ID}
	case inGroup && x.Replaces == self && a.Active && a.Match+handoverLag >= commit:
		return handOver(actual, self, x.ID)
	case inGroup && x.Replaces == self:
		return step{do: stepWait}
	case inGroup:
		return step{do: stepPromote, node: x.ID, old: x.Replaces}
	case x.Instance != "":
		return step{do: stepLearn, node: x.ID}
	default:
		return step{do: stepWait}
	}
}

// handOver has the voter lead that is furthest: a leader that is to go hands over
// first, so that its group is not without one for an election.
func handOver(actual []raftstore.Member, self, learner uint64) step {
	var best raftstore.Member
	for _, m := range actual {
		if id := uint64(m.ID); id != self && id != learner && m.Voter && m.Active && (best.ID == 0 || m.Match > best.Match) {
			best = m
		}
	}
	switch {
	case best.ID != 0:
		return step{do: stepHandOver, node: uint64(best.ID)}
	case learner != 0: // nobody else votes
		return step{do: stepPromote, node: learner, old: self}
	default:
		return step{do: stepExpel, node: self}
	}
}

// reconfigure carries changes of the members out, for as long as this node leads.
func (d *duties) reconfigure(ctx context.Context) {
	var (
		told    string    // the failure that was logged last
		refused time.Time // since when a removal is refused; zero: it is not
	)
	for ctx.Err() == nil {
		changed := d.placed.next()
		s, err := d.lookAtMembers(ctx)
		if err == nil && s.do == stepNone {
			told = ""
			d.rt.Wait(changed, ctx.Done())
			continue
		}
		if err == nil {
			err = d.take(ctx, s)
		}
		if !errors.Is(err, raftstore.ErrNoMajority) {
			refused = time.Time{}
		} else if s.do == stepExpel {
			if refused.IsZero() {
				refused = d.rt.Now()
			}
			if d.rt.Since(refused) >= majorityPatience {
				d.keepVoter(ctx, s.node, err)
			}
		}
		if err == nil && s.do != stepWait {
			continue
		}
		if err != nil && !errors.Is(err, raftstore.ErrNotCaughtUp) && !errors.Is(err, raftstore.ErrMembershipBusy) && err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			d.log.Warn("a change of the coordinators has to wait", "coordinator", s.node, "error", err)
		}
		d.pauseUntil(ctx, reconfigurePause, changed)
	}
}

// lookAtMembers returns what is to be done.
func (d *duties) lookAtMembers(ctx context.Context) (s step, err error) {
	actual, err := d.group.Members(ctx)
	if err != nil {
		return step{}, err
	}
	commit := d.group.Status().Commit
	d.state.read(func() { s = nextStep(d.state.members, actual, d.cfg.NodeID, commit) })
	return s, nil
}

// take does one step.
func (d *duties) take(ctx context.Context, s step) error {
	ctx, cancel := d.rt.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	node := raftstore.NodeID(s.node)
	switch s.do {
	case stepFound:
		return d.settleMembers(ctx, membership.Found{Members: d.firstMembers()})
	case stepLearn:
		d.log.Info("a coordinator begins to receive the log", "coordinator", s.node)
		return d.group.AddLearner(ctx, node)
	case stepPromote:
		return d.group.ChangeMembers(ctx, raftstore.MemberChange{Promote: node, Remove: raftstore.NodeID(s.old)})
	case stepExpel:
		return d.group.Remove(ctx, node)
	case stepHandOver:
		d.log.Info("this coordinator hands over, for it is to leave", "to", s.node)
		return d.group.TransferLeader(ctx, node)
	case stepSettle:
		d.log.Info("a coordinator votes from now on", "coordinator", s.node)
		return d.settleMembers(ctx, membership.Settle{ID: s.node})
	case stepForget:
		d.log.Info("a coordinator has left", "coordinator", s.node)
		return d.settleMembers(ctx, membership.Forget{ID: s.node})
	default:
		return nil
	}
}

func (d *duties) settleMembers(ctx context.Context, cmd membership.Command) error {
	res, err := proposeMember(ctx, d.Coordinator, cmd)
	if err == nil && res.Code != membership.CodeOK {
		err = fmt.Errorf("%T: %v", cmd, res.Code)
	}
	return err
}

// firstMembers are the voters of a new cluster, with the addresses that this node's
// settings have.
func (d *duties) firstMembers() []membership.Member {
	var out []membership.Member
	for _, id := range d.group.Status().Members {
		m, _ := d.member(uint64(id))
		out = append(out, membership.Member{ID: uint64(id), ClientAddress: m.ClientAddress, PeerAddress: m.PeerAddress})
	}
	return out
}

// keepVoter takes a removal back that would leave no majority: while it waits no
// other change can begin, not even one that would help.
func (d *duties) keepVoter(ctx context.Context, node uint64, why error) {
	d.log.Error("a coordinator is kept: without it no majority would be up", "coordinator", node, "error", why)
	ctx, cancel := d.rt.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	if err := d.settleMembers(ctx, membership.Keep{ID: node}); err != nil {
		d.logFailure(ctx, "keeping a coordinator", err)
	}
}

// checkMajority refuses a change after which the failure of the new member alone, or
// what is down already, would leave no majority. A cluster of one or two stands no
// failure anyway, and may grow.
func checkMajority(actual []raftstore.Member, self, removed uint64, added bool) error {
	voters, up := 0, 0
	for _, m := range actual {
		if !m.Voter || uint64(m.ID) == removed {
			continue
		}
		voters++
		if m.Active || uint64(m.ID) == self {
			up++
		}
	}
	spare := up
	if added {
		if voters++; voters <= 2 {
			spare++
		}
	}
	if need := voters/2 + 1; spare < need {
		text := fmt.Sprintf("of the %d voters after the change %d must be up, and %d are", voters, need, up)
		if added {
			text += " without the new one"
		}
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NO_MAJORITY, text,
			apierrors.KeyUp, strconv.Itoa(up), apierrors.KeyVoters, strconv.Itoa(voters))
	}
	return nil
}
