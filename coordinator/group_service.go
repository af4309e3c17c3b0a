package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/group"
)

// groupService is the part of the gRPC edge that consumers use.
type groupService struct {
	oncelogv1.UnimplementedGroupServiceServer
	*Coordinator
}

// AssignPartitions implements the contract.
func (s *groupService) AssignPartitions(ctx context.Context, req *oncelogv1.AssignPartitionsRequest) (*oncelogv1.AssignPartitionsResponse, error) {
	if err := checkMember(req.GetGroupId(), req.GetMemberId()); err != nil {
		return nil, err
	}
	if err := checkName("client_id", req.GetClientId(), false); err != nil {
		return nil, err
	}
	ids, err := s.partitionIDs(ctx, req.GetPartitions())
	if err != nil {
		return nil, err
	}
	res, err := proposeGroup(ctx, s.Coordinator, group.AssignPartitions{
		At: s.now(), Group: req.GetGroupId(), Member: req.GetMemberId(),
		ClientID: req.GetClientId(), Host: clientName(ctx, ""), Partitions: ids,
	})
	if err != nil {
		return nil, err
	}
	if err := s.groupError(res.Refusal); err != nil {
		return nil, err
	}
	out := &oncelogv1.AssignPartitionsResponse{Generation: res.Generation}
	if len(ids) > 0 { // the core takes none for all
		out.Offsets = s.offsetsProto(res.Offsets)
	}
	return out, nil
}

// LeaveGroup implements the contract.
func (s *groupService) LeaveGroup(ctx context.Context, req *oncelogv1.LeaveGroupRequest) (*oncelogv1.LeaveGroupResponse, error) {
	if err := checkMember(req.GetGroupId(), req.GetMemberId()); err != nil {
		return nil, err
	}
	res, err := proposeGroup(ctx, s.Coordinator,
		group.LeaveGroup{At: s.now(), Group: req.GetGroupId(), Member: req.GetMemberId()})
	if err != nil {
		return nil, err
	}
	switch res.Code {
	case group.CodeUnknownGroup, group.CodeUnknownMember: // left before
	default:
		if err := s.groupError(res.Refusal); err != nil {
			return nil, err
		}
	}
	return &oncelogv1.LeaveGroupResponse{}, nil
}

// CommitOffsets implements the contract.
func (s *groupService) CommitOffsets(ctx context.Context, req *oncelogv1.CommitOffsetsRequest) (*oncelogv1.CommitOffsetsResponse, error) {
	if err := checkGroupOffsets("offsets", req.GetOffsets()); err != nil {
		return nil, err
	}
	var commit group.Commit
	err := s.withCatalog(ctx, func() (unknown error) {
		commit, unknown = s.commitOf("offsets", req.GetOffsets())
		return unknown
	})
	if err != nil {
		return nil, err
	}
	res, err := proposeGroup(ctx, s.Coordinator, group.CommitOffsets{At: s.now(), Commit: commit})
	if err != nil {
		return nil, err
	}
	if err := s.groupError(res.Refusal); err != nil {
		return nil, err
	}
	return &oncelogv1.CommitOffsetsResponse{}, nil
}

// FetchOffsets implements the contract: linearizable, for a consumer that reads
// an old position reads its input twice.
func (s *groupService) FetchOffsets(ctx context.Context, req *oncelogv1.FetchOffsetsRequest) (*oncelogv1.FetchOffsetsResponse, error) {
	if err := checkName("group_id", req.GetGroupId(), true); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	ids, err := s.partitionIDs(ctx, req.GetPartitions())
	if err != nil {
		return nil, err
	}
	var (
		offsets []group.PartitionOffset
		held    group.Refusal
	)
	s.state.read(func() {
		if len(ids) > 0 {
			held = s.state.groups.CheckHeld(req.GetGroupId(), ids)
		}
		offsets = s.visibleOffsets(ctx, s.state.groups.Offsets(req.GetGroupId(), ids))
	})
	if err := s.groupError(held); err != nil {
		return nil, err
	}
	return &oncelogv1.FetchOffsetsResponse{Offsets: s.offsetsProto(offsets)}, nil
}

// ListGroups implements the contract.
func (s *groupService) ListGroups(ctx context.Context, req *oncelogv1.ListGroupsRequest) (*oncelogv1.ListGroupsResponse, error) {
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	res := &oncelogv1.ListGroupsResponse{}
	s.state.read(func() {
		page, more := s.state.groups.List(after, limit)
		may := s.visible(ctx, acl.Group)
		for _, g := range page {
			if !may(g.ID) {
				continue
			}
			res.Groups = append(res.Groups, &oncelogv1.GroupListing{
				GroupId: g.ID, Generation: g.Generation, Members: uint32(g.Members), Partitions: uint32(g.Offsets),
			})
		}
		if more && len(page) > 0 {
			res.NextPageToken = pageToken(page[len(page)-1].ID)
		}
	})
	return res, nil
}

// DescribeGroup implements the contract.
func (s *groupService) DescribeGroup(ctx context.Context, req *oncelogv1.DescribeGroupRequest) (*oncelogv1.DescribeGroupResponse, error) {
	if err := checkName("group_id", req.GetGroupId(), true); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var (
		d     group.Description
		known bool
	)
	s.state.read(func() { d, known = s.state.groups.Describe(req.GetGroupId()) })
	if !known {
		return nil, s.groupError(group.Refusal{Code: group.CodeUnknownGroup, Group: req.GetGroupId()})
	}
	res := &oncelogv1.DescribeGroupResponse{GroupId: d.ID, Generation: d.Generation}
	for _, m := range d.Members {
		res.Members = append(res.Members, &oncelogv1.GroupMember{
			MemberId: m.ID, ClientId: memberClient(m), JoinedAtMs: m.JoinedAt, Partitions: uint32(len(m.Partitions)),
			Subscription: subscriptionProto(m), InstanceId: m.Instance, RevokedPartitionIds: m.Revoking,
		})
	}
	for _, p := range d.Partitions {
		part := &oncelogv1.GroupPartition{
			Committed: s.offsetsProto([]group.PartitionOffset{p.PartitionOffset})[0],
			MemberId:  p.Member, OwnedSinceGeneration: p.Since, NextMemberId: p.Target,
		}
		if p.Held.Number > 0 {
			part.Prepared = &oncelogv1.TxnRef{ProducerId: p.Held.ProducerID, Epoch: p.Held.Epoch, TxnNumber: p.Held.Number}
		}
		res.Partitions = append(res.Partitions, part)
	}
	return res, nil
}

// DeleteGroup implements the contract.
func (s *groupService) DeleteGroup(ctx context.Context, req *oncelogv1.DeleteGroupRequest) (*oncelogv1.DeleteGroupResponse, error) {
	if err := checkName("group_id", req.GetGroupId(), true); err != nil {
		return nil, err
	}
	res, err := proposeGroup(ctx, s.Coordinator, group.DeleteGroup{At: s.now(), Group: req.GetGroupId()})
	if err != nil {
		return nil, err
	}
	if err := s.groupError(res.Refusal); err != nil {
		return nil, err
	}
	return &oncelogv1.DeleteGroupResponse{}, nil
}

func checkMember(groupID, memberID string) error {
	if err := checkName("group_id", groupID, true); err != nil {
		return err
	}
	return checkName("member_id", memberID, true)
}

// partitionIDs resolves a list of partitions.
func (s *groupService) partitionIDs(ctx context.Context, refs []*oncelogv1.PartitionRef) ([]uint64, error) {
	if err := checkCount("partitions", len(refs), maxList); err != nil {
		return nil, err
	}
	for i, ref := range refs {
		if err := checkPartition(ref, func() string { return fmt.Sprintf("partitions[%d]", i) }); err != nil {
			return nil, err
		}
	}
	var ids []uint64
	err := s.withCatalog(ctx, func() error {
		ids = make([]uint64, 0, len(refs))
		for i, ref := range refs {
			p, ok := resolve(s.state.catalog, ref)
			if !ok {
				return unknownPartition(s.state.catalog, fmt.Sprintf("partitions[%d]", i), ref)
			}
			ids = append(ids, p.ID)
		}
		return nil
	})
	return ids, err
}

// visibleOffsets leaves out what is of topics that the caller may not see. The caller
// holds the state still.
func (s *groupService) visibleOffsets(ctx context.Context, offsets []group.PartitionOffset) []group.PartitionOffset {
	if !s.cfg.Access.Enabled() {
		return offsets
	}
	may := s.visible(ctx, acl.Topic)
	return slices.DeleteFunc(offsets, func(o group.PartitionOffset) bool {
		p, _ := s.state.catalog.Partition(o.Partition)
		t, ok := s.state.catalog.TopicByID(p.TopicID)
		return ok && !may(t.Name)
	})
}

func (s *groupService) offsetsProto(offsets []group.PartitionOffset) []*oncelogv1.CommittedOffset {
	out := make([]*oncelogv1.CommittedOffset, 0, len(offsets))
	s.state.read(func() {
		for _, o := range offsets {
			p := &oncelogv1.CommittedOffset{
				Partition: partitionProto(s.state.catalog, o.Partition),
				Metadata:  o.Offset.Metadata, CommittedAtMs: o.Offset.CommittedAt,
			}
			if o.Committed {
				p.Offset = &o.Offset.Next
			}
			out = append(out, p)
		}
	})
	return out
}

func memberClient(m group.Member) string {
	if m.ClientID == "" {
		return m.Host
	}
	return m.ClientID + "@" + m.Host
}

// groupError turns a refusal into what the contract says about it.
func (c *Coordinator) groupError(r group.Refusal) error {
	switch r.Code {
	case group.CodeOK:
		return nil
	case group.CodeStaleMember:
		return c.staleMember(r)
	case group.CodeUnknownGroup:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP, "no group is named "+strconv.Quote(r.Group), apierrors.KeyGroup, r.Group)
	case group.CodeUnknownPartition:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION, "", apierrors.KeyPartitionID, strconv.FormatUint(r.Partition, 10))
	case group.CodeOffsetHeld:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNSTABLE_OFFSET_COMMIT,
			fmt.Sprintf("group %q: a prepared transaction is to move the position in partition %d", r.Group, r.Partition),
			apierrors.KeyGroup, r.Group, apierrors.KeyPartitionID, strconv.FormatUint(r.Partition, 10))
	case group.CodeGroupNotEmpty:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_GROUP_NOT_EMPTY,
			fmt.Sprintf("group %q has %d members", r.Group, r.Have), apierrors.KeyGroup, r.Group)
	case group.CodeDuplicatePartition:
		return apierrors.InvalidArgument("offsets", fmt.Sprintf("partition %d is named twice", r.Partition))
	case group.CodeMetadataTooLarge:
		return tooLong("offsets.metadata", maxMetadata)
	case group.CodeLimitExceeded:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
			fmt.Sprintf("it would take %d, the limit is %d", r.Need, r.Have),
			apierrors.KeyField, "group", apierrors.KeyLimit, strconv.FormatUint(r.Have, 10))
	case group.CodeUnknownMember:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_MEMBER,
			fmt.Sprintf("group %q has no such member: it has left, or was lost", r.Group), apierrors.KeyGroup, r.Group)
	case group.CodeFencedInstance:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED_INSTANCE_ID,
			fmt.Sprintf("group %q: member %q has taken the place of this one", r.Group, r.Owner),
			apierrors.KeyGroup, r.Group, apierrors.KeyMember, r.Owner)
	case group.CodeMixedMembers:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL,
			fmt.Sprintf("the members of group %q do it the other way: subscribe to topics, or name their partitions", r.Group),
			apierrors.KeyGroup, r.Group)
	case group.CodeInvalidSubscription:
		return apierrors.InvalidArgument("subscription", "a topic, a timeout or the assignor is not allowed")
	case group.CodeInvalidGroup:
		return apierrors.InvalidArgument("group_id", "must have 1 to 249 bytes")
	case group.CodeInvalidMember:
		return apierrors.InvalidArgument("member_id", "must have 1 to 249 bytes")
	default:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "unexpected answer of the group core: "+r.Code.String())
	}
}

// staleMember says who owns the partition or where the position is.
func (c *Coordinator) staleMember(r group.Refusal) error {
	if r.Code != group.CodeStaleMember {
		return c.groupError(r)
	}
	why := r.Reason.String()
	var message string
	switch r.Reason {
	case group.ReasonOffsetMoved:
		message = fmt.Sprintf("group %q: somebody else moved the position in partition %d", r.Group, r.Partition)
		if r.HasCommitted {
			message += fmt.Sprintf(" to %d", r.Committed)
		}
	case group.ReasonGeneration:
		message = fmt.Sprintf("group %q: partition %d changed hands since generation %d", r.Group, r.Partition, r.Need)
	default:
		message = fmt.Sprintf("group %q: the member does not own partition %d", r.Group, r.Partition)
		if r.Owner != "" {
			message += fmt.Sprintf("; %q does", r.Owner)
		}
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER, message,
		apierrors.KeyGroup, r.Group, apierrors.KeyPartitionID, strconv.FormatUint(r.Partition, 10), apierrors.KeyWhy, why)
}
