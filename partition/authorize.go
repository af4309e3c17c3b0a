package partition

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

// permits decides whether the caller may do the operation to the topic of a partition,
// before anything else is said of it. It is asked for every partition of a request and
// before everything that a stream sends: a permission that was taken away ends streams.
//
// The rules are those that the coordinator sent with its last heartbeat. A node that has
// heard nothing for MaxStaleness does not know what has been taken away since, and serves
// nobody but super users.
//
// A partition that is named twice, by topic and by id, is taken by its id. Then both topics
// have to be allowed, and whoever may do it to the one that is named, only, is told what
// the absence of the other is told.
func (n *Node) permits(who access.Principal, op acl.Operation, ref *oncelogv1.PartitionRef) *apierrors.Error {
	a := n.cfg.Access
	if !a.Enabled() {
		return nil
	}
	if who.Over(n.run.Wall()) {
		return access.TokenOver()
	}
	if a.IsSuper(who) {
		return nil
	}
	if err := n.rulesAreFresh(); err != nil {
		return err
	}
	may := func(topic string) bool { return a.Allows(who, op, acl.Resource{Kind: acl.Topic, Name: topic}) }
	id, named := ref.GetPartitionId(), ref.GetTopic()
	if (id == 0 || named != "") && !may(named) {
		return access.Denied(who, op, acl.Topic, named)
	}
	if id == 0 {
		return nil
	}
	rt, found := n.routing.get().find(ref)
	switch {
	case found && may(rt.ref.GetTopic()):
		return nil
	case named != "" && found:
		return unknownPartition(&oncelogv1.PartitionRef{Topic: named, Partition: ref.GetPartition(), PartitionId: id})
	case named != "", a.AllowsEvery(who, op, acl.Topic):
		return nil
	}
	return access.Denied(who, op, acl.Topic, "#"+strconv.FormatUint(id, 10))
}

// rulesAreFresh refuses to decide by rules that may have changed long ago.
func (n *Node) rulesAreFresh() *apierrors.Error {
	if _, known := n.cfg.Access.Version(); !known {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the node has not heard from the coordinator who may do what")
	}
	age := n.run.Since(n.started) - time.Duration(n.counters.heardAt.Load())
	if age > n.cfg.MaxStaleness {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
			"the node has heard nothing from the coordinator for "+age.Truncate(time.Second).String()+", and who may do what may have changed since")
	}
	return nil
}

// tokenOf reports whether a producer token is the caller's. Without permissions those
// that are anybody's count as well: permissions are turned on node by node.
func (n *Node) tokenOf(who access.Principal, token []byte, producerID uint64, epoch uint32) bool {
	return n.keys.CheckFor(who.Name, token, producerID, epoch) ||
		!n.cfg.Access.Enabled() && n.keys.Check(token, producerID, epoch)
}

// learnRules takes the rules that a heartbeat or the disk brought.
func (n *Node) learnRules(t *oncelogv1.AclTable) {
	if t != nil {
		n.cfg.Access.Set(t.GetVersion(), access.RulesOf(t.GetRules()))
	}
}

// permitsOnCluster decides about an operation on the cluster. A stream asks again before
// everything that it sends.
func (n *Node) permitsOnCluster(who access.Principal, op acl.Operation) error {
	if !n.cfg.Access.Enabled() {
		return nil
	}
	if who.Over(n.run.Wall()) {
		return access.TokenOver()
	}
	if n.cfg.Access.IsSuper(who) {
		return nil
	}
	if err := n.rulesAreFresh(); err != nil {
		return err
	}
	if !n.cfg.Access.Allows(who, op, acl.TheCluster) {
		return access.Denied(who, op, acl.Cluster, acl.ClusterName)
	}
	return nil
}

// channelz stands for all methods of that service, which tells who is connected.
const channelz = "/grpc.channelz.v1.Channelz/"

// Authorize decides whether a call of the client address may be made at all; the listener
// asks it before the service. What the methods of LogService take they ask for themselves,
// partition by partition; see [Node.permits]. A method that is not here is refused.
func (n *Node) Authorize(ctx context.Context, method string) error {
	if !n.cfg.Access.Enabled() {
		return nil
	}
	if strings.HasPrefix(method, channelz) {
		method = channelz
	}
	switch method {
	case oncelogv1.LogService_Append_FullMethodName, oncelogv1.LogService_AppendStream_FullMethodName,
		oncelogv1.LogService_Fetch_FullMethodName, oncelogv1.LogService_ListOffsets_FullMethodName,
		oncelogv1.LogService_DeleteRecords_FullMethodName, oncelogv1.LogService_DescribeProducers_FullMethodName,
		oncelogv1.LogService_DescribePartitions_FullMethodName:
		return nil
	case oncelogv1.StatusService_GetStatus_FullMethodName, channelz:
		return n.permitsOnCluster(access.From(ctx), acl.Describe)
	case oncelogv1.DebugService_GetDiagnostics_FullMethodName:
		return n.permitsOnCluster(access.From(ctx), acl.Alter)
	case oncelogv1.ShardBackupService_ReadShardBackup_FullMethodName: // it has every record
		return n.permitsOnCluster(access.From(ctx), acl.All)
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "there is no rule about who may call "+method)
}
