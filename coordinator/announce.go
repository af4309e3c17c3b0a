package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/internal/task"
)

// Every coordinator announces its data directory and its addresses to the leader,
// which writes them into the log. A member that starts with an old list learns the
// new one from the answer; one that was removed while it was away learns that.
//
// Who joins asks that way before it takes part in Raft, once somebody has added it.
// The first directory that asks for an id gets it, for ever: when the process dies
// before it has voted and comes back without its disk, the log has the other
// directory's name, and it is refused. Its vote may be counted already.

const (
	announceTimeout = time.Second
	// announcePause is the longest pause between two attempts, firstAnnouncePause the
	// first.
	announcePause      = 200 * time.Millisecond
	firstAnnouncePause = 10 * time.Millisecond
	// lonelyAfter is how long a member without a leader waits before it asks again
	// whether it is one.
	lonelyAfter = 10 * time.Second
	// firstWait is how long a member that starts waits for a leader before it asks
	// everybody whom it knows.
	firstWait = 2 * time.Second
)

// AnnounceMember implements the contract.
func (s *memberService) AnnounceMember(ctx context.Context, req *oncelogv1.AnnounceMemberRequest) (*oncelogv1.AnnounceMemberResponse, error) {
	res, err := s.takeAnnouncement(ctx, req)
	return res, s.peerFacing(err)
}

func (s *memberService) takeAnnouncement(ctx context.Context, req *oncelogv1.AnnounceMemberRequest) (*oncelogv1.AnnounceMemberResponse, error) {
	if err := checkAnnouncement(req); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	if err := s.checkLevel(req.GetMaxFormatLevel()); err != nil {
		return nil, err
	}
	cmd := membership.Announce{
		ID: req.GetNodeId(), Instance: req.GetInstanceId(), Joining: req.GetJoining(),
		ClientAddress: req.GetClientAddress(), PeerAddress: req.GetPeerAddress(),
	}
	var (
		cluster string
		known   membership.Member
	)
	s.state.read(func() {
		cluster = s.state.catalog.ClusterID()
		known, _ = s.state.members.Member(cmd.ID)
	})
	if req.GetClusterId() != "" && req.GetClusterId() != cluster {
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
			"the coordinator's log belongs to cluster "+strconv.Quote(req.GetClusterId())+", this is "+strconv.Quote(cluster),
			apierrors.KeyClusterID, cluster)
	}
	out := membership.Result{Code: membership.CodeOK}
	if known.Instance != cmd.Instance || known.ClientAddress != cmd.ClientAddress || known.PeerAddress != cmd.PeerAddress {
		var err error
		if out, err = proposeMember(ctx, s.Coordinator, cmd); err != nil {
			return nil, err
		}
	}
	res := &oncelogv1.AnnounceMemberResponse{}
	switch out.Code {
	case membership.CodeOK:
		res.Standing = oncelogv1.MemberStanding_MEMBER_STANDING_MEMBER
	case membership.CodeUnknownMember:
		res.Standing = oncelogv1.MemberStanding_MEMBER_STANDING_UNKNOWN
	case membership.CodeRemoved:
		res.Standing = oncelogv1.MemberStanding_MEMBER_STANDING_REMOVED
	default:
		return nil, membershipError(out, cmd.ID)
	}
	if out.Changed {
		s.log.Info("a coordinator announced itself", "coordinator", cmd.ID, "instance", cmd.Instance,
			"client_address", cmd.ClientAddress, "peer_address", cmd.PeerAddress)
	}
	s.state.read(func() { res.Coordinators = s.coordinatorProtos() })
	return res, nil
}

func checkAnnouncement(req *oncelogv1.AnnounceMemberRequest) error {
	switch {
	case req.GetNodeId() == 0:
		return apierrors.InvalidArgument("node_id", "must be at least 1")
	case req.GetInstanceId() == "":
		return apierrors.InvalidArgument("instance_id", "must not be empty")
	case len(req.GetInstanceId()) > membership.MaxInstanceBytes:
		return tooLong("instance_id", membership.MaxInstanceBytes)
	case len(req.GetClusterId()) > catalog.MaxClusterIDBytes:
		return tooLong("cluster_id", catalog.MaxClusterIDBytes)
	}
	if err := checkName("client_address", req.GetClientAddress(), true); err != nil {
		return err
	}
	return checkName("peer_address", req.GetPeerAddress(), true)
}

// announcement is what this node says of itself.
func (c *Coordinator) announcement(joining bool) *oncelogv1.AnnounceMemberRequest {
	req := &oncelogv1.AnnounceMemberRequest{NodeId: c.cfg.NodeID, InstanceId: c.identity.get().instance, Joining: joining, MaxFormatLevel: c.cfg.MaxFormatLevel}
	for _, m := range c.cfg.Members {
		if m.ID == c.cfg.NodeID {
			req.ClientAddress, req.PeerAddress = m.ClientAddress, m.PeerAddress
		}
	}
	c.state.read(func() { req.ClusterId = c.state.catalog.ClusterID() })
	return req
}

// askToJoin returns once the leader has this node's directory in the log. An error
// is one that repeating cannot help, or ctx's.
func (c *Coordinator) askToJoin(ctx context.Context) error {
	told := ""
	tell := func(text string, args ...any) {
		if key := fmt.Sprint(text, args); key != told {
			told = key
			c.log.Info(text, args...)
		}
	}
	for n := 0; ; n++ {
		switch standing, err := c.announceOnce(ctx, c.announcement(true), n); {
		case ctx.Err() != nil:
			return ctx.Err()
		case refusedForGood(err):
			return fmt.Errorf("coordinator %d must not join: %w", c.cfg.NodeID, err)
		case err != nil:
			tell("waiting for the leader of the cluster to join it", "error", err)
		case standing == oncelogv1.MemberStanding_MEMBER_STANDING_MEMBER:
			return nil
		case standing == oncelogv1.MemberStanding_MEMBER_STANDING_REMOVED:
			return removedError(c.cfg.NodeID)
		default:
			tell("nobody has added this coordinator yet: use `oncelog coordinator add`")
		}
		c.pause(ctx, announcePause)
	}
}

// announce tells the leader of this member, and again whenever there has been no
// leader for a while.
func (c *Coordinator) announce(ctx context.Context) {
	c.awaitLeader(ctx)
	for told := ""; ctx.Err() == nil; {
		pause := firstAnnouncePause
		standing, err := c.announceOnce(ctx, c.announcement(false), 0)
		for n := 1; err != nil && ctx.Err() == nil; n++ {
			switch text := err.Error(); {
			case apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
				apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NODE_TOO_OLD:
				c.fail(fmt.Errorf("coordinator %d must not vote: %w", c.cfg.NodeID, err))
				return
			case refusedForGood(err) && text != told:
				told = text
				c.log.Error("the leader does not take this coordinator's announcement", "error", err)
			}
			c.pause(ctx, pause)
			pause = min(2*pause, announcePause)
			standing, err = c.announceOnce(ctx, c.announcement(false), n)
		}
		if standing == oncelogv1.MemberStanding_MEMBER_STANDING_REMOVED {
			if c.announcement(false).GetClusterId() != "" || len(c.founders()) == 0 {
				c.leaveForGood()
				return
			}
			// It has applied nothing: perhaps these are the addresses of another cluster.
			c.log.Error("this coordinator is no member of the cluster that its settings name")
		}
		c.awaitLoneliness(ctx)
	}
}

// awaitLeader returns when a leader is known, or none is after firstWait.
func (c *Coordinator) awaitLeader(ctx context.Context) {
	for ctx.Err() == nil {
		lead, changed := c.group.LeadershipChanged()
		if lead.Leader != 0 || c.rt.WaitFor(firstWait, changed, ctx.Done()) == task.Expired {
			return
		}
	}
}

// awaitLoneliness returns when there has been no leader for a while, or at the end
// of ctx.
func (c *Coordinator) awaitLoneliness(ctx context.Context) {
	for ctx.Err() == nil {
		lead, changed := c.group.LeadershipChanged()
		if lead.Leader != 0 {
			c.rt.Wait(changed, ctx.Done())
			continue
		}
		if c.rt.WaitFor(lonelyAfter, changed, ctx.Done()) == task.Expired {
			return
		}
	}
}

// announceOnce asks the leader if one is known, else one of those that may know it:
// the n-th time the n-th of them.
func (c *Coordinator) announceOnce(ctx context.Context, req *oncelogv1.AnnounceMemberRequest, n int) (oncelogv1.MemberStanding, error) {
	ctx, cancel := c.rt.WithTimeout(ctx, announceTimeout)
	defer cancel()
	if c.opened.Load() {
		lead := c.group.Leadership()
		if lead.IsLeader {
			res, err := (&memberService{Coordinator: c}).takeAnnouncement(ctx, req)
			return res.GetStanding(), err
		}
		if m, ok := c.member(uint64(lead.Leader)); ok && n%2 == 0 {
			return c.announceAt(ctx, m.PeerAddress, req)
		}
	}
	others := c.acquaintances()
	if len(others) == 0 {
		return 0, errors.New("no other coordinator is known")
	}
	return c.announceAt(ctx, others[n%len(others)], req)
}

// announceAt asks one coordinator, and the leader that it points to.
func (c *Coordinator) announceAt(ctx context.Context, address string, req *oncelogv1.AnnounceMemberRequest) (oncelogv1.MemberStanding, error) {
	for hops := 0; ; hops++ {
		res, err := c.askAt(ctx, address, req)
		if err == nil {
			c.book.hear(res.GetCoordinators())
			return res.GetStanding(), nil
		}
		e := apierrors.From(err)
		hint := e.Metadata[apierrors.KeyLeaderAddress]
		if e.Code != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER || hint == "" || hint == address || hops == 2 {
			return 0, e
		}
		address = hint
	}
}

func (c *Coordinator) askAt(ctx context.Context, address string, req *oncelogv1.AnnounceMemberRequest) (*oncelogv1.AnnounceMemberResponse, error) {
	conn, release, err := c.dialMember(address)
	if err != nil {
		return nil, err
	}
	defer release()
	return oncelogv1.NewMemberServiceClient(conn).AnnounceMember(ctx, req)
}

// dialMember connects to another member for one call.
func (c *Coordinator) dialMember(address string) (conn grpc.ClientConnInterface, release func(), err error) {
	if conn, err = c.cfg.DialPeer(address); err != nil {
		return nil, nil, err
	}
	closer, ok := conn.(io.Closer)
	return conn, func() {
		if ok {
			_ = closer.Close()
		}
	}, nil
}

// refusedForGood reports an answer that repeating the announcement cannot change.
func refusedForGood(err error) bool {
	switch apierrors.CodeOf(err) {
	case oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
		oncelogv1.ErrorCode_ERROR_CODE_NODE_TOO_OLD, oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT, oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED:
		return true
	default:
		return false
	}
}

// awaitRemoval ends this node when it has been removed from the Raft group.
func (c *Coordinator) awaitRemoval(ctx context.Context) {
	if c.rt.Wait(c.departed, ctx.Done()) == 0 {
		c.leaveForGood()
	}
}

// leaveForGood writes down that this node is no member any more, and ends it. What
// it cannot write down it is told again at the next start.
func (c *Coordinator) leaveForGood() {
	if c.cfg.Files != nil {
		if err := c.identity.change(c.cfg.Files, func(id *identity) (bool, error) {
			changed := !id.removed
			id.removed = true
			return changed, nil
		}); err != nil {
			c.log.Error("cannot write down that this coordinator was removed", "error", err)
		}
	}
	c.fail(removedError(c.cfg.NodeID))
}
