package node_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/pki"
)

// issuer signs tokens.
type issuer struct {
	signer jose.Signer
	file   string // of its keys
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "k", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return &issuer{signer: signer, file: file}
}

func (i *issuer) token(t testing.TB, subject string, ends time.Time) string {
	t.Helper()
	token, err := jwt.Signed(i.signer).Claims(jwt.Claims{
		Issuer: "tests", Audience: jwt.Audience{"oncelog"}, Subject: subject, Expiry: jwt.NewNumericDate(ends),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// bearer sends a token with every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// guarded is a cluster with permissions whose super user is root, and connections to it.
type guarded struct {
	*secured
	issuer *issuer
	conns  map[string]*grpc.ClientConn // "coordinator", "partition"
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	i := newIssuer(t)
	g := &guarded{issuer: i, conns: map[string]*grpc.ClientConn{}}
	g.secured = newSecuredWith(t, config.ClientAuthRequest, config.Access{
		Authorization: config.AuthorizationACL, SuperUsers: []string{"root"}, TokenKeys: i.file, TokenIssuer: "tests", TokenAudience: "oncelog",
	})
	creds := credentials.NewTLS(g.open(pki.Files{CA: g.file("ca.crt")}).AnyHost(pki.Nodes))
	for kind, address := range map[string]string{"coordinator": g.coordinator.ClientAddress(), "partition": g.partition.ClientAddress()} {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		g.conns[kind] = conn
	}
	return g
}

// as returns the option of a call of a principal.
func (g *guarded) as(who string) grpc.CallOption {
	return grpc.PerRPCCredentials(bearer(g.issuer.token(g, who, time.Now().Add(time.Hour))))
}

func (g *guarded) allow(ctx context.Context, rules ...acl.Rule) {
	g.Helper()
	for page := range slices.Chunk(rules, 1000) {
		if _, err := v1.NewAclServiceClient(g.conns["coordinator"]).AddAcls(ctx, &v1.AddAclsRequest{Rules: access.RulesProto(page)}, g.as("root")); err != nil {
			g.Fatal(err)
		}
	}
}

func allowed(who string, n need) acl.Rule {
	return acl.Rule{Principal: who, Kind: n.kind, Pattern: acl.Literal, Name: n.name, Operation: n.op, Permission: acl.Allow}
}

// need is a permission that a call takes.
type need struct {
	op   acl.Operation
	kind acl.Kind
	name string
	told string // under which name it is refused, if not under its own
}

// ground is what a request speaks of, which is there or not.
type ground struct {
	topic, group, id             string
	topicID, partition, producer uint64
	// byID returns what it takes to name something of the kind by its id.
	byID func(op acl.Operation, kind acl.Kind, name string, id uint64) need
	// pid and token are of an idempotent producer of the caller's.
	pid   uint64
	token []byte
}

func (w *ground) ref() *v1.PartitionRef { return &v1.PartitionRef{Topic: w.topic} }

func (w *ground) offsets() *v1.GroupOffsets {
	return &v1.GroupOffsets{GroupId: w.group, MemberId: "m", Offsets: []*v1.OffsetCommit{{Partition: w.ref()}}}
}

func (w *ground) appends() *v1.AppendRequest {
	return &v1.AppendRequest{Txn: &v1.TxnRef{ProducerId: w.pid}, ProducerToken: w.token, Partitions: []*v1.PartitionAppend{{
		Partition: w.ref(), Payload: &v1.PartitionAppend_Records{Records: &v1.RecordList{Records: []*v1.Record{{Value: []byte("v")}}}},
	}}}
}

func (w *ground) needTopic(op acl.Operation) need { return need{op, acl.Topic, w.topic, ""} }
func (w *ground) needGroup(op acl.Operation) need { return need{op, acl.Group, w.group, ""} }
func (w *ground) needID(op acl.Operation) need    { return need{op, acl.TransactionalID, w.id, ""} }

func cluster(op acl.Operation) func(*ground) []need {
	return func(*ground) []need { return []need{{op, acl.Cluster, acl.ClusterName, ""}} }
}

// calls are requests for every method of a client address, in every way in which they
// take other permissions. What they need is written down here a second time.
var calls = []struct {
	method  string
	request func(*ground) proto.Message
	needs   func(*ground) []need // none: a list, which is cut
	writes  bool                 // the caller needs a producer token
}{
	{v1.AclService_AddAcls_FullMethodName, func(*ground) proto.Message { return &v1.AddAclsRequest{} }, cluster(acl.Alter), false},
	{v1.AclService_RemoveAcls_FullMethodName, func(*ground) proto.Message { return &v1.RemoveAclsRequest{} }, cluster(acl.Alter), false},
	{v1.AclService_ListAcls_FullMethodName, func(*ground) proto.Message { return &v1.ListAclsRequest{} }, cluster(acl.Describe), false},
	{v1.CatalogService_CreateTopic_FullMethodName, func(w *ground) proto.Message {
		return &v1.CreateTopicRequest{Name: w.topic, ReplicationFactor: 9}
	}, func(w *ground) []need { return []need{w.needTopic(acl.Create)} }, false},
	{v1.CatalogService_AlterTopic_FullMethodName, func(w *ground) proto.Message { return &v1.AlterTopicRequest{TopicId: w.topicID} },
		func(w *ground) []need { return []need{w.byID(acl.AlterConfigs, acl.Topic, w.topic, w.topicID)} }, false},
	{v1.CatalogService_DeleteTopic_FullMethodName, func(w *ground) proto.Message { return &v1.DeleteTopicRequest{Name: w.topic} },
		func(w *ground) []need { return []need{w.needTopic(acl.Delete)} }, false},
	{v1.CatalogService_DeleteTopic_FullMethodName, func(w *ground) proto.Message { return &v1.DeleteTopicRequest{TopicId: w.topicID} },
		func(w *ground) []need { return []need{w.byID(acl.Delete, acl.Topic, w.topic, w.topicID)} }, false},
	{v1.CatalogService_ListTopics_FullMethodName, func(*ground) proto.Message { return &v1.ListTopicsRequest{} }, nil, false},
	{v1.CatalogService_GetMetadata_FullMethodName, func(w *ground) proto.Message {
		return &v1.GetMetadataRequest{Topics: []string{w.topic}, TopicIds: []uint64{w.topicID}}
	}, nil, false},
	{v1.CatalogService_DescribeCluster_FullMethodName, func(*ground) proto.Message { return &v1.DescribeClusterRequest{} }, cluster(acl.Describe), false},
	{v1.PlacementService_DrainNode_FullMethodName, func(*ground) proto.Message { return &v1.DrainNodeRequest{} }, cluster(acl.Alter), false},
	{v1.PlacementService_RemoveNode_FullMethodName, func(*ground) proto.Message { return &v1.RemoveNodeRequest{} }, cluster(acl.Alter), false},
	{v1.PlacementService_ReplaceDisk_FullMethodName, func(*ground) proto.Message { return &v1.ReplaceDiskRequest{} }, cluster(acl.Alter), false},
	{v1.PlacementService_MoveReplica_FullMethodName, func(*ground) proto.Message { return &v1.MoveReplicaRequest{} }, cluster(acl.Alter), false},
	{v1.PlacementService_CancelMove_FullMethodName, func(*ground) proto.Message { return &v1.CancelMoveRequest{} }, cluster(acl.Alter), false},
	{v1.PlacementService_Rebalance_FullMethodName, func(*ground) proto.Message { return &v1.RebalanceRequest{} }, cluster(acl.Alter), false},
	{v1.CoordinatorService_ListCoordinators_FullMethodName, func(*ground) proto.Message { return &v1.ListCoordinatorsRequest{} }, cluster(acl.Describe), false},
	{v1.CoordinatorService_AddCoordinator_FullMethodName, func(*ground) proto.Message { return &v1.AddCoordinatorRequest{} }, cluster(acl.Alter), false},
	{v1.CoordinatorService_RemoveCoordinator_FullMethodName, func(*ground) proto.Message { return &v1.RemoveCoordinatorRequest{NodeId: 9} }, cluster(acl.Alter), false},
	{v1.PlacementService_MoveLeader_FullMethodName, func(*ground) proto.Message { return &v1.MoveLeaderRequest{ShardId: 9999, ToNode: 9} }, cluster(acl.Alter), false},
	{v1.DebugService_GetDiagnostics_FullMethodName, func(*ground) proto.Message { return &v1.GetDiagnosticsRequest{} }, cluster(acl.Alter), false},
	{v1.BackupService_CreateBackup_FullMethodName, func(*ground) proto.Message { return &v1.CreateBackupRequest{HoldMs: -1} }, cluster(acl.All), false},
	{v1.ShardBackupService_ReadShardBackup_FullMethodName, func(*ground) proto.Message { return &v1.ReadShardBackupRequest{} }, cluster(acl.All), false},
	{v1.StatusService_GetStatus_FullMethodName, func(*ground) proto.Message { return &v1.GetStatusRequest{} }, cluster(acl.Describe), false},

	{v1.GroupService_AssignPartitions_FullMethodName, func(w *ground) proto.Message {
		return &v1.AssignPartitionsRequest{GroupId: w.group, MemberId: "m", Partitions: []*v1.PartitionRef{w.ref()}}
	}, func(w *ground) []need { return []need{w.needGroup(acl.Read), w.needTopic(acl.Describe)} }, false},
	{v1.GroupService_GroupHeartbeat_FullMethodName, func(w *ground) proto.Message {
		return &v1.GroupHeartbeatRequest{GroupId: w.group, MemberId: "m", Subscription: &v1.GroupSubscription{Topics: []string{w.topic}}}
	}, func(w *ground) []need { return []need{w.needGroup(acl.Read), w.needTopic(acl.Describe)} }, false},
	{v1.GroupService_LeaveGroup_FullMethodName, func(w *ground) proto.Message { return &v1.LeaveGroupRequest{GroupId: w.group, MemberId: "m"} },
		func(w *ground) []need { return []need{w.needGroup(acl.Read)} }, false},
	{v1.GroupService_CommitOffsets_FullMethodName, func(w *ground) proto.Message { return &v1.CommitOffsetsRequest{Offsets: w.offsets()} },
		func(w *ground) []need { return []need{w.needGroup(acl.Read), w.needTopic(acl.Read)} }, false},
	{v1.GroupService_FetchOffsets_FullMethodName, func(w *ground) proto.Message {
		return &v1.FetchOffsetsRequest{GroupId: w.group, Partitions: []*v1.PartitionRef{w.ref()}}
	}, func(w *ground) []need { return []need{w.needGroup(acl.Describe), w.needTopic(acl.Describe)} }, false},
	{v1.GroupService_FetchOffsets_FullMethodName, func(w *ground) proto.Message {
		return &v1.FetchOffsetsRequest{GroupId: w.group, Partitions: []*v1.PartitionRef{{PartitionId: w.partition}}}
	}, func(w *ground) []need {
		return []need{w.needGroup(acl.Describe), w.byID(acl.Describe, acl.Topic, w.topic, w.partition)}
	}, false},
	{v1.GroupService_ListGroups_FullMethodName, func(*ground) proto.Message { return &v1.ListGroupsRequest{} }, nil, false},
	{v1.GroupService_DescribeGroup_FullMethodName, func(w *ground) proto.Message { return &v1.DescribeGroupRequest{GroupId: w.group} },
		func(w *ground) []need { return []need{w.needGroup(acl.Describe)} }, false},
	{v1.GroupService_DeleteGroup_FullMethodName, func(w *ground) proto.Message { return &v1.DeleteGroupRequest{GroupId: w.group} },
		func(w *ground) []need { return []need{w.needGroup(acl.Delete)} }, false},

	{v1.TransactionService_InitProducer_FullMethodName, func(w *ground) proto.Message { return &v1.InitProducerRequest{TransactionalId: w.id} },
		func(w *ground) []need { return []need{w.needID(acl.Write)} }, false},
	{v1.TransactionService_InitProducer_FullMethodName, func(*ground) proto.Message { return &v1.InitProducerRequest{} },
		func(w *ground) []need { return []need{{acl.Write, acl.Topic, w.topic, acl.Any}} }, false},
	{v1.TransactionService_EndTransaction_FullMethodName, func(w *ground) proto.Message {
		return &v1.EndTransactionRequest{
			Txn: &v1.TxnRef{ProducerId: w.pid, TxnNumber: 1}, ProducerToken: w.token, Commit: true,
			Partitions: []*v1.PartitionProgress{{Partition: w.ref(), NextSequence: 1}}, Offsets: []*v1.GroupOffsets{w.offsets()},
		}
	}, func(w *ground) []need {
		return []need{w.needTopic(acl.Write), w.needGroup(acl.Read), w.needTopic(acl.Read)}
	}, true},
	{v1.TransactionService_PrepareTransaction_FullMethodName, func(w *ground) proto.Message {
		return &v1.PrepareTransactionRequest{
			Txn: &v1.TxnRef{ProducerId: w.pid, TxnNumber: 1}, ProducerToken: w.token,
			Partitions: []*v1.PartitionProgress{{Partition: w.ref(), NextSequence: 1}}, Offsets: []*v1.GroupOffsets{w.offsets()},
		}
	}, func(w *ground) []need {
		return []need{w.needTopic(acl.Write), w.needGroup(acl.Read), w.needTopic(acl.Read)}
	}, true},
	{v1.TransactionService_CompletePrepared_FullMethodName, func(w *ground) proto.Message {
		return &v1.CompletePreparedRequest{Txn: &v1.TxnRef{ProducerId: w.producer, TxnNumber: 1}}
	}, func(w *ground) []need { return []need{w.byID(acl.Write, acl.TransactionalID, w.id, w.producer)} }, false},
	{v1.TransactionService_GetOutcome_FullMethodName, func(w *ground) proto.Message {
		return &v1.GetOutcomeRequest{Txn: &v1.TxnRef{ProducerId: w.producer, TxnNumber: 1}}
	}, func(w *ground) []need { return []need{w.byID(acl.Describe, acl.TransactionalID, w.id, w.producer)} }, false},
	{v1.TransactionService_ListTransactions_FullMethodName, func(*ground) proto.Message { return &v1.ListTransactionsRequest{} }, nil, false},
	{v1.TransactionService_WatchTransactions_FullMethodName, func(*ground) proto.Message { return &v1.WatchTransactionsRequest{NoFollow: true} }, nil, false},
	{v1.TransactionService_DescribeTransaction_FullMethodName, func(w *ground) proto.Message { return &v1.DescribeTransactionRequest{TransactionalId: w.id} },
		func(w *ground) []need { return []need{w.needID(acl.Describe)} }, false},
	{v1.TransactionService_DescribeTransaction_FullMethodName, func(w *ground) proto.Message { return &v1.DescribeTransactionRequest{ProducerId: w.producer} },
		func(w *ground) []need { return []need{w.byID(acl.Describe, acl.TransactionalID, w.id, w.producer)} }, false},
	{v1.TransactionService_AbortTransaction_FullMethodName, func(w *ground) proto.Message { return &v1.AbortTransactionRequest{TransactionalId: w.id} },
		func(w *ground) []need { return []need{w.needID(acl.Alter)} }, false},
	{v1.TransactionService_FenceProducer_FullMethodName, func(w *ground) proto.Message { return &v1.FenceProducerRequest{TransactionalId: w.id} },
		func(w *ground) []need { return []need{w.needID(acl.Alter)} }, false},
	{v1.TransactionService_DeleteTransactionalId_FullMethodName, func(w *ground) proto.Message {
		return &v1.DeleteTransactionalIdRequest{TransactionalId: w.id}
	}, func(w *ground) []need { return []need{w.needID(acl.Delete)} }, false},

	{v1.LogService_Append_FullMethodName, func(w *ground) proto.Message { return w.appends() },
		func(w *ground) []need { return []need{w.needTopic(acl.Write)} }, true},
	{v1.LogService_AppendStream_FullMethodName, func(w *ground) proto.Message {
		return &v1.AppendStreamRequest{Requests: []*v1.AppendRequest{w.appends()}}
	}, func(w *ground) []need { return []need{w.needTopic(acl.Write)} }, true},
	{v1.LogService_Fetch_FullMethodName, func(w *ground) proto.Message { return &v1.FetchRequest{Partition: w.ref()} },
		func(w *ground) []need { return []need{w.needTopic(acl.Read)} }, false},
	{v1.LogService_Fetch_FullMethodName, func(w *ground) proto.Message {
		return &v1.FetchRequest{Partition: &v1.PartitionRef{PartitionId: w.partition}}
	}, func(w *ground) []need { return []need{w.byID(acl.Read, acl.Topic, w.topic, w.partition)} }, false},
	{v1.LogService_ListOffsets_FullMethodName, func(w *ground) proto.Message {
		return &v1.ListOffsetsRequest{Queries: []*v1.OffsetQuery{{Partition: w.ref(), Target: &v1.OffsetQuery_Position{Position: v1.StartPosition_START_POSITION_LATEST}}}}
	}, func(w *ground) []need { return []need{w.needTopic(acl.Describe)} }, false},
	{v1.LogService_DeleteRecords_FullMethodName, func(w *ground) proto.Message {
		return &v1.DeleteRecordsRequest{Deletions: []*v1.RecordDeletion{{Partition: &v1.PartitionRef{PartitionId: w.partition}}}}
	}, func(w *ground) []need { return []need{w.byID(acl.Delete, acl.Topic, w.topic, w.partition)} }, false},
	{v1.LogService_DescribeProducers_FullMethodName, func(w *ground) proto.Message { return &v1.DescribeProducersRequest{Partition: w.ref()} },
		func(w *ground) []need { return []need{w.needTopic(acl.Read)} }, false},
	{v1.LogService_DescribePartitions_FullMethodName, func(w *ground) proto.Message {
		return &v1.DescribePartitionsRequest{Partitions: []*v1.PartitionRef{w.ref()}}
	}, func(w *ground) []need { return []need{w.needTopic(acl.Describe)} }, false},
}

// services says where each service is served: at the client address of which nodes, or,
// with none, to nodes only.
var services = map[protoreflect.Name][]string{
	"AclService": {"coordinator"}, "CatalogService": {"coordinator"}, "PlacementService": {"coordinator"}, "CoordinatorService": {"coordinator"},
	"GroupService": {"coordinator"}, "TransactionService": {"coordinator"}, "LogService": {"partition"}, "StatusService": {"coordinator", "partition"},
	"DebugService": {"coordinator", "partition"}, "BackupService": {"coordinator"}, "ShardBackupService": {"partition"},
	"NodeService": {}, "MemberService": {}, "ShardService": {}, "RaftService": {},
}

// methods returns all methods of the contract.
func methods(t *testing.T) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	out := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFilesByPackage("oncelog.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			if _, known := services[s.Name()]; !known {
				t.Errorf("%s: say in services who is served", s.FullName())
			}
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				out[fmt.Sprintf("/%s/%s", s.FullName(), m.Name())] = m
			}
		}
		return true
	})
	return out
}

// invoke makes a call and returns how it failed: a stream by its first answer.
func (g *guarded) invoke(ctx context.Context, node string, m protoreflect.MethodDescriptor, method string, req proto.Message, who string) error {
	g.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		g.Fatal(err)
	}
	resp := kind.New().Interface()
	if !m.IsStreamingServer() && !m.IsStreamingClient() {
		return g.conns[node].Invoke(ctx, method, req, resp, g.as(who))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := g.conns[node].NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, g.as(who))
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(resp); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if frame, ok := resp.(*v1.AppendStreamResponse); ok && len(frame.GetResponses()) > 0 {
		for _, r := range frame.GetResponses()[0].GetResults() {
			if r.GetError() != nil {
				return apierrors.FromProto(r.GetError())
			}
		}
		if e := frame.GetResponses()[0].GetError(); e != nil {
			return apierrors.FromProto(e)
		}
	}
	return nil
}

// TestEveryCallTakesItsPermissions walks the contract: for every method, and every
// permission that it takes, a caller who has all but that one is refused, by the same
// words whether or not there is what it names; one who has them all is not. A method
// that this test does not know fails it.
func TestEveryCallTakesItsPermissions(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	there, nowhere := g.grounds(ctx)
	all := methods(t)
	const elsewhere = "elsewhere" // a topic that lets everybody have a producer id

	caller := func(call, missing int) string { return fmt.Sprintf("call-%d-without-%d", call, missing) }
	var rules []acl.Rule
	for i, c := range calls {
		for _, w := range []*ground{there, nowhere} {
			var needs []need
			if c.needs != nil {
				needs = c.needs(w)
			}
			for missing := range len(needs) + 1 {
				who := caller(i, missing)
				if c.writes {
					rules = append(rules, allowed(who, need{acl.Write, acl.Topic, elsewhere, ""}))
				}
				for n, want := range needs {
					if n != missing {
						rules = append(rules, allowed(who, want))
					}
				}
			}
		}
	}
	g.allow(ctx, rules...)
	g.allow(ctx, allowed("last", need{acl.Describe, acl.Cluster, acl.ClusterName, ""}))
	status := all[v1.StatusService_GetStatus_FullMethodName]
	for g.invoke(ctx, "partition", status, v1.StatusService_GetStatus_FullMethodName, &v1.GetStatusRequest{}, "last") != nil {
		if ctx.Err() != nil {
			t.Fatal("the partition node does not hear of the rules")
		}
	}

	tested := map[string]bool{}
	for i, c := range calls {
		m := all[c.method]
		if m == nil {
			t.Fatalf("%s is no method", c.method)
		}
		tested[c.method] = true
		for _, node := range services[m.Parent().Name()] {
			g.tryCall(ctx, node, m, i, caller, there, nowhere)
		}
	}
	for _, method := range slices.Sorted(maps.Keys(all)) {
		m := all[method]
		if len(services[m.Parent().Name()]) > 0 {
			if !tested[method] {
				t.Errorf("%s: say in calls what it takes", method)
			}
			continue
		}
		for node := range g.conns {
			kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
			if err != nil {
				t.Fatal(err)
			}
			err = g.invoke(ctx, node, m, method, kind.New().Interface(), "root")
			if c := grpcCode(err); c != codes.Unimplemented {
				t.Errorf("%s is for nodes only, but the client address of a %s answers %v", method, node, err)
			}
		}
	}
}

func grpcCode(err error) codes.Code { return status.Code(err) }

// tryCall makes one call as everybody who lacks one permission, and as who lacks none.
func (g *guarded) tryCall(ctx context.Context, node string, m protoreflect.MethodDescriptor, i int, caller func(call, missing int) string, there, nowhere *ground) {
	g.Helper()
	c := calls[i]
	needs := 0
	if c.needs != nil {
		needs = len(c.needs(there))
	}
	for missing := range needs {
		who := caller(i, missing)
		var told [2]string
		for at, w := range []*ground{there, nowhere} {
			w := g.producing(ctx, w, who, c.writes)
			want := c.needs(w)[missing]
			err := g.invoke(ctx, node, m, c.method, c.request(w), who)
			e := apierrors.From(err)
			if err == nil || e.Code != v1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED {
				g.Errorf("%s at a %s without %s on %s %q: %v", c.method, node, want.op, want.kind, want.name, err)
				continue
			}
			name := want.name
			if want.told != "" {
				name = want.told
			}
			for key, value := range map[string]string{
				apierrors.KeyOperation: want.op.String(), apierrors.KeyResource: want.kind.String(), apierrors.KeyName: name, apierrors.KeyPrincipal: who,
			} {
				if e.Metadata[key] != value {
					g.Errorf("%s without %s on %s %q: %s is %q, not %q", c.method, want.op, want.kind, name, key, e.Metadata[key], value)
				}
			}
			told[at] = strings.ReplaceAll(fmt.Sprint(status.Convert(err).Code(), e.Message), name, "NAME")
		}
		if told[0] != told[1] {
			g.Errorf("%s tells what is there (%q) from what is not (%q)", c.method, told[0], told[1])
		}
	}
	who := caller(i, needs)
	err := g.invoke(ctx, node, m, c.method, c.request(g.producing(ctx, nowhere, who, c.writes)), who)
	if code := apierrors.CodeOf(err); code == v1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED || code == v1.ErrorCode_ERROR_CODE_AUTHENTICATION_FAILED || code == v1.ErrorCode_ERROR_CODE_INTERNAL {
		g.Errorf("%s at a %s with all that it takes: %v", c.method, node, err)
	}
}

// producing returns the ground with a producer id of the caller's, if it is to write.
func (g *guarded) producing(ctx context.Context, w *ground, who string, writes bool) *ground {
	g.Helper()
	if !writes {
		return w
	}
	res, err := v1.NewTransactionServiceClient(g.conns["coordinator"]).InitProducer(ctx, &v1.InitProducerRequest{}, g.as(who))
	if err != nil {
		g.Fatal(err)
	}
	out := *w
	out.pid, out.token = res.GetProducerId(), res.GetProducerToken()
	return &out
}

// grounds makes what is there, and names what is not.
func (g *guarded) grounds(ctx context.Context) (there, nowhere *ground) {
	g.Helper()
	there = &ground{topic: "orders", group: "readers", id: "writer"}
	coordinator := g.conns["coordinator"]
	made, err := v1.NewCatalogServiceClient(coordinator).CreateTopic(ctx, &v1.CreateTopicRequest{Name: there.topic}, g.as("root"))
	if err != nil {
		g.Fatal(err)
	}
	there.topicID, there.partition = made.GetTopic().GetTopicId(), made.GetTopic().GetPartitions()[0].GetPartitionId()
	if _, err := v1.NewGroupServiceClient(coordinator).CommitOffsets(ctx, &v1.CommitOffsetsRequest{
		Offsets: &v1.GroupOffsets{GroupId: there.group, Offsets: []*v1.OffsetCommit{{Partition: there.ref()}}},
	}, g.as("root")); err != nil {
		g.Fatal(err)
	}
	res, err := v1.NewTransactionServiceClient(coordinator).InitProducer(ctx, &v1.InitProducerRequest{TransactionalId: there.id}, g.as("root"))
	if err != nil {
		g.Fatal(err)
	}
	there.producer = res.GetProducerId()
	nowhere = &ground{topic: "no-topic", group: "no-group", id: "no-id", topicID: 1000, partition: 1000, producer: 1000}
	there.byID = func(op acl.Operation, kind acl.Kind, name string, id uint64) need {
		return need{op, kind, name, fmt.Sprintf("#%d", id)}
	}
	nowhere.byID = func(op acl.Operation, kind acl.Kind, _ string, id uint64) need {
		return need{op, kind, acl.Any, fmt.Sprintf("#%d", id)}
	}
	return there, nowhere
}
