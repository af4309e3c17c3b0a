package coordinator

import (
	"strconv"

	"github.com/oncelog/oncelog/api/acl"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// permission asks for what a request needs. The state is held still.
type permission func(a *asker, req any)

// of makes a permission from one that knows the type of its request.
func of[Req any](ask func(*asker, *Req)) permission {
	return func(a *asker, req any) {
		r, ok := req.(*Req)
		if !ok {
			a.cluster(acl.All) // nobody but super users: what it is, is not known
			return
		}
		ask(a, r)
	}
}

// onCluster asks for an operation on the cluster.
func onCluster(op acl.Operation) permission { return func(a *asker, _ any) { a.cluster(op) } }

// anybody is for lists, which are cut to what the caller may see, and for what everybody
// needs who may do anything.
func anybody(*asker, any) {}

// channelz stands for all methods of that service, which tells who is connected.
const channelz = "/grpc.channelz.v1.Channelz/"

// permissions says what every method of the client address takes. SECURITY.md has them
// as a table; a test holds that every method is here.
var permissions = map[string]permission{
	v1.AclService_AddAcls_FullMethodName:    onCluster(acl.Alter),
	v1.AclService_RemoveAcls_FullMethodName: onCluster(acl.Alter),
	v1.AclService_ListAcls_FullMethodName:   onCluster(acl.Describe),

	v1.CatalogService_CreateTopic_FullMethodName: of(func(a *asker, r *v1.CreateTopicRequest) {
		if !a.may(acl.Create, acl.Cluster, acl.ClusterName) {
			a.need(acl.Create, acl.Topic, r.GetName())
		}
	}),
	v1.CatalogService_AlterTopic_FullMethodName: of(func(a *asker, r *v1.AlterTopicRequest) {
		a.topicID(acl.AlterConfigs, r.GetTopicId())
	}),
	v1.CatalogService_DeleteTopic_FullMethodName: of(func(a *asker, r *v1.DeleteTopicRequest) {
		if r.GetName() != "" || r.GetTopicId() == 0 {
			a.need(acl.Delete, acl.Topic, r.GetName())
		}
		if r.GetTopicId() != 0 {
			a.topicID(acl.Delete, r.GetTopicId())
		}
	}),
	v1.CatalogService_ListTopics_FullMethodName:      anybody,
	v1.CatalogService_GetMetadata_FullMethodName:     anybody,
	v1.CatalogService_DescribeCluster_FullMethodName: onCluster(acl.Describe),

	v1.PlacementService_DrainNode_FullMethodName:   onCluster(acl.Alter),
	v1.PlacementService_RemoveNode_FullMethodName:  onCluster(acl.Alter),
	v1.PlacementService_ReplaceDisk_FullMethodName: onCluster(acl.Alter),
	v1.PlacementService_MoveReplica_FullMethodName: onCluster(acl.Alter),
	v1.PlacementService_CancelMove_FullMethodName:  onCluster(acl.Alter),
	v1.PlacementService_Rebalance_FullMethodName:   onCluster(acl.Alter),
	v1.PlacementService_MoveLeader_FullMethodName:  onCluster(acl.Alter),

	v1.CoordinatorService_ListCoordinators_FullMethodName:  onCluster(acl.Describe),
	v1.CoordinatorService_AddCoordinator_FullMethodName:    onCluster(acl.Alter),
	v1.CoordinatorService_RemoveCoordinator_FullMethodName: onCluster(acl.Alter),

	v1.StatusService_GetStatus_FullMethodName:     onCluster(acl.Describe),
	v1.DebugService_GetDiagnostics_FullMethodName: onCluster(acl.Alter), // settings and stacks are for operators
	channelz: onCluster(acl.Describe),

	// A backup has every record.
	v1.BackupService_CreateBackup_FullMethodName: onCluster(acl.All),

	v1.GroupService_AssignPartitions_FullMethodName: of(func(a *asker, r *v1.AssignPartitionsRequest) {
		a.need(acl.Read, acl.Group, r.GetGroupId())
		a.described(r.GetPartitions())
	}),
	v1.GroupService_GroupHeartbeat_FullMethodName: of(func(a *asker, r *v1.GroupHeartbeatRequest) {
		a.need(acl.Read, acl.Group, r.GetGroupId())
		for _, topic := range judged(r.GetSubscription().GetTopics()) {
			a.need(acl.Describe, acl.Topic, topic)
		}
	}),
	v1.GroupService_LeaveGroup_FullMethodName: of(func(a *asker, r *v1.LeaveGroupRequest) {
		a.need(acl.Read, acl.Group, r.GetGroupId())
	}),
	v1.GroupService_CommitOffsets_FullMethodName: of(func(a *asker, r *v1.CommitOffsetsRequest) {
		a.offsets(r.GetOffsets(), "offsets")
	}),
	v1.GroupService_FetchOffsets_FullMethodName: of(func(a *asker, r *v1.FetchOffsetsRequest) {
		a.need(acl.Describe, acl.Group, r.GetGroupId())
		a.described(r.GetPartitions())
	}),
	v1.GroupService_ListGroups_FullMethodName: anybody,
	v1.GroupService_DescribeGroup_FullMethodName: of(func(a *asker, r *v1.DescribeGroupRequest) {
		a.need(acl.Describe, acl.Group, r.GetGroupId())
	}),
	v1.GroupService_DeleteGroup_FullMethodName: of(func(a *asker, r *v1.DeleteGroupRequest) {
		a.need(acl.Delete, acl.Group, r.GetGroupId())
	}),

	v1.TransactionService_InitProducer_FullMethodName: of(func(a *asker, r *v1.InitProducerRequest) {
		switch {
		case r.GetTransactionalId() != "":
			a.need(acl.Write, acl.TransactionalID, r.GetTransactionalId())
		case !a.c.cfg.Access.AllowsSome(a.who, acl.Write, acl.Topic):
			a.need(acl.Write, acl.Topic, acl.Any) // KIP-679: who may write anywhere may do so idempotently
		}
	}),
	v1.TransactionService_EndTransaction_FullMethodName: of((*asker).end),
	v1.TransactionService_PrepareTransaction_FullMethodName: of(func(a *asker, r *v1.PrepareTransactionRequest) {
		a.end(asCommit(r))
	}),
	v1.TransactionService_CompletePrepared_FullMethodName: of(func(a *asker, r *v1.CompletePreparedRequest) {
		a.producer(acl.Write, r.GetTxn().GetProducerId())
	}),
	v1.TransactionService_GetOutcome_FullMethodName: of(func(a *asker, r *v1.GetOutcomeRequest) {
		a.producer(acl.Describe, r.GetTxn().GetProducerId())
	}),
	v1.TransactionService_ListTransactions_FullMethodName:  anybody,
	v1.TransactionService_WatchTransactions_FullMethodName: anybody,
	v1.TransactionService_DescribeTransaction_FullMethodName: of(func(a *asker, r *v1.DescribeTransactionRequest) {
		if r.GetTransactionalId() == "" {
			a.producer(acl.Describe, r.GetProducerId())
			return
		}
		a.need(acl.Describe, acl.TransactionalID, r.GetTransactionalId())
	}),
	v1.TransactionService_AbortTransaction_FullMethodName: of(func(a *asker, r *v1.AbortTransactionRequest) {
		a.need(acl.Alter, acl.TransactionalID, r.GetTransactionalId())
	}),
	v1.TransactionService_FenceProducer_FullMethodName: of(func(a *asker, r *v1.FenceProducerRequest) {
		a.need(acl.Alter, acl.TransactionalID, r.GetTransactionalId())
	}),
	v1.TransactionService_DeleteTransactionalId_FullMethodName: of(func(a *asker, r *v1.DeleteTransactionalIdRequest) {
		a.need(acl.Delete, acl.TransactionalID, r.GetTransactionalId())
	}),
}

// described asks whether partitions may be seen.
func (a *asker) described(refs []*v1.PartitionRef) {
	for i, ref := range judged(refs) {
		a.partition(acl.Describe, ref, "partitions["+strconv.Itoa(i)+"]")
	}
}
