package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/group"
)

// Defaults and bounds of what the contract says about heartbeats of members.
const (
	defaultSessionMs   = 45_000
	defaultRebalanceMs = 60_000
	// maxGroupHeartbeat bounds the time between two heartbeats, and how long one
	// may wait for news.
	maxGroupHeartbeat = 5 * time.Second
)

// GroupHeartbeat implements the contract. A member that has nothing to say, and
// that nothing has changed for, costs neither a log entry nor a round of Raft.
func (s *groupService) GroupHeartbeat(ctx context.Context, req *oncelogv1.GroupHeartbeatRequest) (*oncelogv1.GroupHeartbeatResponse, error) {
	if err := checkGroupHeartbeat(req); err != nil {
		return nil, err
	}
	if err := s.leading(); err != nil {
		return nil, err
	}
	// Before the member is made, too: it must not be found without a session.
	s.sessions.heard(req.GetGroupId(), req.GetMemberId(), s.rt.Now())
	news, err := s.takeWord(ctx, req)
	if err != nil {
		return nil, err
	}
	member, generation, err := s.findMember(ctx, req)
	if err != nil {
		return nil, err
	}
	s.sessions.heard(req.GetGroupId(), req.GetMemberId(), s.rt.Now())
	interval := min(millis(member.SessionTimeout)/3, maxGroupHeartbeat)
	if !news && generation == req.GetGeneration() && req.GetMaxWaitMs() > 0 {
		if err := s.awaitNews(ctx, req, min(interval, time.Duration(req.GetMaxWaitMs())*time.Millisecond)); err != nil {
			return nil, err
		}
	}
	return s.standing(ctx, req, interval)
}

// takeWord puts what the member says through the log, unless it is known already.
func (s *groupService) takeWord(ctx context.Context, req *oncelogv1.GroupHeartbeatRequest) (news bool, err error) {
	if req.GetSubscription() != nil {
		news, err = s.takeSubscription(ctx, req)
		if err != nil {
			return false, err
		}
	}
	if owns := s.ownsAny(req); !owns {
		return news, nil
	}
	res, err := proposeGroup(ctx, s.Coordinator, group.ReleasePartitions{
		At: s.now(), Group: req.GetGroupId(), Member: req.GetMemberId(),
		Generation: req.GetGeneration(), Partitions: req.GetReleasedPartitionIds(),
	})
	if err != nil {
		return false, err
	}
	if res.Code == group.CodeUnknownMember {
		return false, s.unknownMember(req)
	}
	return true, s.groupError(res.Refusal)
}

// ownsAny reports whether the member owns anything of what it releases, as far as
// is known here.
func (s *groupService) ownsAny(req *oncelogv1.GroupHeartbeatRequest) (owns bool) {
	s.state.read(func() {
		owns = slices.ContainsFunc(req.GetReleasedPartitionIds(), func(p uint64) bool {
			owner, since, _ := s.state.groups.Owner(req.GetGroupId(), p)
			return owner == req.GetMemberId() && since <= req.GetGeneration()
		})
	})
	return owns
}

// takeSubscription joins the member, or changes what it asks for.
func (s *groupService) takeSubscription(ctx context.Context, req *oncelogv1.GroupHeartbeatRequest) (news bool, err error) {
	sub := req.GetSubscription()
	cmd := group.Subscribe{
		At: s.now(), Group: req.GetGroupId(), Member: req.GetMemberId(), Instance: req.GetInstanceId(),
		ClientID: sub.GetClientId(), Host: clientName(ctx, ""), Topics: sub.GetTopics(),
		SessionTimeout:   orDefault(sub.GetSessionTimeoutMs(), defaultSessionMs),
		RebalanceTimeout: orDefault(sub.GetRebalanceTimeoutMs(), defaultRebalanceMs),
		Assignor:         group.AssignorSticky,
	}
	if sub.GetAssignor() == oncelogv1.GroupAssignor_GROUP_ASSIGNOR_RANGE {
		cmd.Assignor = group.AssignorRange
	}
	if s.asksForTheSame(cmd) {
		return false, nil
	}
	res, err := proposeGroup(ctx, s.Coordinator, cmd)
	if err != nil {
		return false, err
	}
	switch {
	case res.Code == group.CodeLimitExceeded && res.Have == group.MaxPartitions:
		return false, tooLong("subscription.topics (partitions)", group.MaxPartitions)
	case res.Code == group.CodeLimitExceeded && res.Have == group.MaxSubscribers:
		return false, tooLong("members", group.MaxSubscribers)
	case res.Code == group.CodeInvalidMember:
		return false, apierrors.InvalidArgument("instance_id", "must stay the same for the life of a member")
	}
	return res.Changed, s.groupError(res.Refusal)
}

// asksForTheSame reports whether the member has what it asks for, as far as is
// known here: repeating a subscription costs no log entry.
func (s *groupService) asksForTheSame(cmd group.Subscribe) (same bool) {
	s.state.read(func() {
		m, known := s.state.groups.Member(cmd.Group, cmd.Member)
		topics := slices.Clone(cmd.Topics)
		slices.Sort(topics)
		same = known && m.Subscribed && m.Instance == cmd.Instance && m.ClientID == cmd.ClientID && m.Assignor == cmd.Assignor &&
			m.SessionTimeout == cmd.SessionTimeout && m.RebalanceTimeout == cmd.RebalanceTimeout &&
			slices.Equal(m.Topics, slices.Compact(topics))
	})
	return same
}

func orDefault(v uint32, def int64) int64 {
	if v == 0 {
		return def
	}
	return int64(v)
}

// findMember returns the member as it is. That there is none is said only by a
// state that is surely not an old one.
func (s *groupService) findMember(ctx context.Context, req *oncelogv1.GroupHeartbeatRequest) (member group.Member, generation uint64, err error) {
	var known bool
	look := func() {
		member, known = s.state.groups.Member(req.GetGroupId(), req.GetMemberId())
		generation = s.state.groups.Generation(req.GetGroupId())
	}
	s.state.read(look)
	if !known {
		if err := s.current(ctx); err != nil {
			return member, 0, err
		}
		s.state.read(look)
	}
	switch {
	case !known:
		return member, 0, s.unknownMember(req)
	case !member.Subscribed:
		return member, 0, s.groupError(group.Refusal{Code: group.CodeMixedMembers, Group: req.GetGroupId()})
	case member.Instance != req.GetInstanceId():
		return member, 0, apierrors.InvalidArgument("instance_id", "must stay the same for the life of a member")
	}
	return member, generation, nil
}

// unknownMember says why a member is not one any more.
func (s *groupService) unknownMember(req *oncelogv1.GroupHeartbeatRequest) error {
	var holder string
	s.state.read(func() { holder, _ = s.state.groups.Holder(req.GetGroupId(), req.GetInstanceId()) })
	if holder != "" && holder != req.GetMemberId() {
		return s.groupError(group.Refusal{Code: group.CodeFencedInstance, Group: req.GetGroupId(), Owner: holder})
	}
	return s.groupError(group.Refusal{Code: group.CodeUnknownMember, Group: req.GetGroupId()})
}

// awaitNews waits until something has changed in the group, or for so long.
func (s *groupService) awaitNews(ctx context.Context, req *oncelogv1.GroupHeartbeatRequest, longest time.Duration) error {
	ctx, cancel := s.beforeDeadline(ctx)
	defer cancel()
	ctx, cancelWait := s.rt.WithTimeout(ctx, longest)
	defer cancelWait()
	err := s.await(ctx, s.state.rebalanced.next, func() bool {
		return s.state.groups.Generation(req.GetGroupId()) != req.GetGeneration()
	})
	if errors.Is(err, errWaitedEnough) {
		return nil
	}
	return err
}

// standing answers with everything if anything has changed. Positions must not be
// old ones: a member that began at one would read its input twice.
func (s *groupService) standing(ctx context.Context, req *oncelogv1.GroupHeartbeatRequest, interval time.Duration) (*oncelogv1.GroupHeartbeatResponse, error) {
	res := &oncelogv1.GroupHeartbeatResponse{HeartbeatIntervalMs: uint32(interval.Milliseconds())}
	s.state.read(func() { res.Generation = s.state.groups.Generation(req.GetGroupId()) })
	if res.GetGeneration() == req.GetGeneration() {
		return res, nil
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	if _, _, err := s.findMember(ctx, req); err != nil {
		return nil, err
	}
	var held group.Refusal
	s.state.read(func() {
		groups := s.state.groups
		member, _ := groups.Member(req.GetGroupId(), req.GetMemberId())
		res.Generation, res.RevokedPartitionIds = groups.Generation(req.GetGroupId()), member.Revoking
		for _, p := range member.Partitions {
			if _, revoked := slices.BinarySearch(member.Revoking, p); revoked {
				continue
			}
			_, since, _ := groups.Owner(req.GetGroupId(), p)
			a := &oncelogv1.GroupAssignment{Partition: partitionProto(s.state.catalog, p), OwnedSinceGeneration: since}
			if since > req.GetGeneration() {
				if r := groups.CheckHeld(req.GetGroupId(), []uint64{p}); !r.OK() {
					held = r
				}
				if o := groups.Offsets(req.GetGroupId(), []uint64{p})[0]; o.Committed {
					a.Offset = &o.Offset.Next
				}
			}
			res.Assigned = append(res.Assigned, a)
		}
	})
	// The member is alive, as was noted; where it is to read from is not known yet.
	if err := s.groupError(held); err != nil {
		return nil, err
	}
	return res, nil
}

func checkGroupHeartbeat(req *oncelogv1.GroupHeartbeatRequest) error {
	if err := checkMember(req.GetGroupId(), req.GetMemberId()); err != nil {
		return err
	}
	if err := checkName("instance_id", req.GetInstanceId(), false); err != nil {
		return err
	}
	if err := checkCount("released_partition_ids", len(req.GetReleasedPartitionIds()), maxList); err != nil {
		return err
	}
	if sub := req.GetSubscription(); sub != nil {
		return checkSubscription(sub)
	}
	return nil
}

func checkSubscription(sub *oncelogv1.GroupSubscription) error {
	switch n := len(sub.GetTopics()); {
	case n == 0:
		return apierrors.InvalidArgument("subscription.topics", "must name at least one topic")
	case n > group.MaxTopics:
		return tooLong("subscription.topics", group.MaxTopics)
	}
	for i, t := range sub.GetTopics() {
		if err := checkName(fmt.Sprintf("subscription.topics[%d]", i), t, true); err != nil {
			return err
		}
	}
	if _, known := oncelogv1.GroupAssignor_name[int32(sub.GetAssignor())]; !known {
		return apierrors.InvalidArgument("subscription.assignor", "must be sticky or range")
	}
	if err := checkTimeout("subscription.session_timeout_ms", sub.GetSessionTimeoutMs(), group.MaxSessionTimeout); err != nil {
		return err
	}
	if err := checkTimeout("subscription.rebalance_timeout_ms", sub.GetRebalanceTimeoutMs(), group.MaxRebalanceTimeout); err != nil {
		return err
	}
	return checkName("subscription.client_id", sub.GetClientId(), false)
}

func checkTimeout(field string, ms uint32, longest int64) error {
	switch {
	case ms == 0: // the default
		return nil
	case int64(ms) < group.MinSessionTimeout:
		return apierrors.InvalidArgument(field, fmt.Sprintf("must be at least %d", group.MinSessionTimeout))
	case int64(ms) > longest:
		return tooLong(field, int(longest))
	default:
		return nil
	}
}

// subscriptionProto is what a member asked for; nil if it names its partitions.
func subscriptionProto(m group.Member) *oncelogv1.GroupSubscription {
	if !m.Subscribed {
		return nil
	}
	sub := &oncelogv1.GroupSubscription{
		Topics: m.Topics, SessionTimeoutMs: uint32(m.SessionTimeout), RebalanceTimeoutMs: uint32(m.RebalanceTimeout),
		Assignor: oncelogv1.GroupAssignor_GROUP_ASSIGNOR_STICKY, ClientId: m.ClientID,
	}
	if m.Assignor == group.AssignorRange {
		sub.Assignor = oncelogv1.GroupAssignor_GROUP_ASSIGNOR_RANGE
	}
	return sub
}
