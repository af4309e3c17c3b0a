package main

import (
	"context"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func (f *fakeCluster) ListGroups(context.Context, *oncelogv1.ListGroupsRequest) (*oncelogv1.ListGroupsResponse, error) {
	return &oncelogv1.ListGroupsResponse{Groups: []*oncelogv1.GroupListing{{GroupId: "billing", Generation: 5, Members: 1, Partitions: 2}}}, nil
}

func (f *fakeCluster) DescribeGroup(_ context.Context, req *oncelogv1.DescribeGroupRequest) (*oncelogv1.DescribeGroupResponse, error) {
	if req.GetGroupId() == "idle" {
		return &oncelogv1.DescribeGroupResponse{GroupId: "idle", Generation: 2, Partitions: []*oncelogv1.GroupPartition{
			{Committed: &oncelogv1.CommittedOffset{Partition: &oncelogv1.PartitionRef{Topic: "orders", PartitionId: 100}, Offset: new(uint64(1)), CommittedAtMs: fakeTime}},
		}}, nil
	}
	if req.GetGroupId() != "billing" {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP, apierrors.KeyGroup, req.GetGroupId())
	}
	committed := uint64(0)
	ref := func(i uint32) *oncelogv1.PartitionRef {
		return &oncelogv1.PartitionRef{Topic: "orders", Partition: i, PartitionId: 100 + uint64(i)}
	}
	return &oncelogv1.DescribeGroupResponse{
		GroupId: "billing", Generation: 5,
		Members: []*oncelogv1.GroupMember{
			{
				MemberId: "m-1", ClientId: "oncelog-go", JoinedAtMs: fakeTime, Partitions: 2, RevokedPartitionIds: []uint64{101},
				Subscription: &oncelogv1.GroupSubscription{
					Topics: []string{"orders"}, SessionTimeoutMs: 45000, RebalanceTimeoutMs: 60000, Assignor: oncelogv1.GroupAssignor_GROUP_ASSIGNOR_STICKY,
				},
			},
			{
				MemberId: "m-2", ClientId: "oncelog-go", JoinedAtMs: fakeTime, InstanceId: "second",
				Subscription: &oncelogv1.GroupSubscription{
					Topics: []string{"orders"}, SessionTimeoutMs: 45000, RebalanceTimeoutMs: 60000, Assignor: oncelogv1.GroupAssignor_GROUP_ASSIGNOR_STICKY,
				},
			},
		},
		Partitions: []*oncelogv1.GroupPartition{
			{Committed: &oncelogv1.CommittedOffset{Partition: ref(0), Offset: &committed, CommittedAtMs: fakeTime}, MemberId: "m-1", NextMemberId: "m-1", OwnedSinceGeneration: 4},
			{Committed: &oncelogv1.CommittedOffset{Partition: ref(1)}, MemberId: "m-1", NextMemberId: "m-2", OwnedSinceGeneration: 5},
		},
	}, nil
}

func (f *fakeCluster) DeleteGroup(_ context.Context, req *oncelogv1.DeleteGroupRequest) (*oncelogv1.DeleteGroupResponse, error) {
	switch req.GetGroupId() {
	case "billing":
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_GROUP_NOT_EMPTY, apierrors.KeyGroup, req.GetGroupId())
	case "idle":
		return &oncelogv1.DeleteGroupResponse{}, nil
	default:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP, apierrors.KeyGroup, req.GetGroupId())
	}
}

func (f *fakeCluster) FetchOffsets(_ context.Context, _ *oncelogv1.FetchOffsetsRequest) (*oncelogv1.FetchOffsetsResponse, error) {
	one := uint64(1)
	return &oncelogv1.FetchOffsetsResponse{Offsets: []*oncelogv1.CommittedOffset{
		{Partition: &oncelogv1.PartitionRef{Topic: "orders", Partition: 0, PartitionId: 100}, Offset: &one},
	}}, nil
}

func (f *fakeCluster) CommitOffsets(_ context.Context, req *oncelogv1.CommitOffsetsRequest) (*oncelogv1.CommitOffsetsResponse, error) {
	if req.GetOffsets().GetGroupId() == "billing" {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER, apierrors.KeyGroup, "billing")
	}
	return &oncelogv1.CommitOffsetsResponse{}, nil
}
