package partition

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

const (
	fine        = oncelogv1.ErrorCode_ERROR_CODE_UNSPECIFIED
	refused     = oncelogv1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED
	notNow      = oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE
	noPartition = oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION
)

// guardedNode is a node of topics "mine" (partition 7) and "theirs" (partition 8), as far as
// permissions go.
func guardedNode() *Node {
	n := &Node{
		cfg:     Config{Access: access.New([]string{"root"}), MaxStaleness: time.Minute},
		routing: newRouting(), started: time.Now(),
	}
	n.routing.set(&oncelogv1.HeartbeatResponse{Shards: []*oncelogv1.ShardAssignment{{ShardId: 2, Partitions: []*oncelogv1.AssignedPartition{
		{PartitionId: 7, Topic: "mine"}, {PartitionId: 8, Topic: "theirs"},
	}}}})
	return n
}

func readRule(who, topic string) *oncelogv1.AclTable {
	return &oncelogv1.AclTable{Version: 3, Rules: access.RulesProto([]acl.Rule{
		{Principal: who, Kind: acl.Topic, Pattern: acl.Literal, Name: topic, Operation: acl.Read, Permission: acl.Allow},
	})}
}

func reads(n *Node, who access.Principal, ref *oncelogv1.PartitionRef) oncelogv1.ErrorCode {
	return apierrors.CodeOf(failure(n.permits(who, acl.Read, ref)))
}

func TestPermissionsByNameAndID(t *testing.T) {
	t.Parallel()
	n := guardedNode()
	n.learnRules(readRule("alice", "mine"))
	alice := access.Principal{Name: "alice"}
	for _, tt := range []struct {
		topic string
		id    uint64
		want  oncelogv1.ErrorCode
	}{
		{"mine", 0, fine},
		{"theirs", 0, refused},
		{"nowhere", 0, refused},
		{"", 0, refused},
		{"mine", 7, fine},
		{"", 7, fine},
		{"", 8, refused},
		{"", 9, refused},
		// The name does not lend its permission to another's id, and what is told is what
		// find tells of an id that is not there.
		{"mine", 8, noPartition},
		{"mine", 9, fine},
		{"theirs", 7, refused},
	} {
		if got := reads(n, alice, &oncelogv1.PartitionRef{Topic: tt.topic, PartitionId: tt.id}); got != tt.want {
			t.Errorf("%q %d: %s, want %s", tt.topic, tt.id, apierrors.Name(got), apierrors.Name(tt.want))
		}
		if got := reads(n, access.Principal{Name: "root"}, &oncelogv1.PartitionRef{Topic: tt.topic, PartitionId: tt.id}); got != fine {
			t.Errorf("root, %q %d: %s", tt.topic, tt.id, apierrors.Name(got))
		}
	}
	there := n.permits(alice, acl.Read, &oncelogv1.PartitionRef{Topic: "mine", PartitionId: 8})
	_, _, missing := n.find(alice, acl.Read, "partition", &oncelogv1.PartitionRef{Topic: "mine", PartitionId: 9})
	missing.Metadata[apierrors.KeyPartitionID] = "8"
	if !proto.Equal(there.Proto(), missing.Proto()) {
		t.Errorf("another's partition is told from none: %v, %v", there, missing)
	}
	n.learnRules(readRule("alice", acl.Any))
	if got := reads(n, alice, &oncelogv1.PartitionRef{PartitionId: 9}); got != fine {
		t.Errorf("who may read everything, an unknown id: %s", apierrors.Name(got))
	}
}

// TestOldRulesServeNobody: a node that is cut off does not go on for ever with permissions
// that may have been taken away.
func TestOldRulesServeNobody(t *testing.T) {
	t.Parallel()
	n := guardedNode()
	alice, root, ref := access.Principal{Name: "alice"}, access.Principal{Name: "root"}, &oncelogv1.PartitionRef{Topic: "mine"}
	if got := reads(n, alice, ref); got != notNow {
		t.Errorf("before there are rules: %s", apierrors.Name(got))
	}
	n.learnRules(readRule("alice", "mine"))
	if got := reads(n, alice, ref); got != fine {
		t.Errorf("with rules: %s", apierrors.Name(got))
	}
	n.started = time.Now().Add(-2 * time.Minute)
	if got := reads(n, alice, ref); got != notNow {
		t.Errorf("with old rules: %s", apierrors.Name(got))
	}
	if got := reads(n, root, ref); got != fine {
		t.Errorf("a super user: %s", apierrors.Name(got))
	}
	n.counters.heardAt.Store((2 * time.Minute).Nanoseconds())
	if got := reads(n, alice, ref); got != fine {
		t.Errorf("after a heartbeat: %s", apierrors.Name(got))
	}
	alice.Until = time.Now().Add(-time.Second)
	if got := reads(n, alice, ref); got != notNow {
		t.Errorf("with a token that has ended: %s", apierrors.Name(got))
	}
	n.cfg.Access = nil
	if got := reads(n, access.Principal{}, ref); got != fine {
		t.Errorf("without permissions: %s", apierrors.Name(got))
	}
}

// TestRulesAreKept: a node that starts without a coordinator has the rules that it had, and
// a coordinator that was deposed does not bring old ones back.
func TestRulesAreKept(t *testing.T) {
	t.Parallel()
	old := &oncelogv1.HeartbeatResponse{Version: 9, Acls: &oncelogv1.AclTable{Version: 5}}
	for _, tt := range []struct {
		got  *oncelogv1.AclTable
		want uint64
	}{{nil, 5}, {&oncelogv1.AclTable{Version: 4}, 5}, {&oncelogv1.AclTable{Version: 6}, 6}} {
		merged, changed := mergeAssignment(old, &oncelogv1.HeartbeatResponse{Version: 9, Acls: tt.got})
		if merged.GetAcls().GetVersion() != tt.want || changed != (tt.want != 5) {
			t.Errorf("%v: version %d, changed %v", tt.got, merged.GetAcls().GetVersion(), changed)
		}
	}
	if merged, changed := mergeAssignment(nil, &oncelogv1.HeartbeatResponse{Acls: &oncelogv1.AclTable{}}); merged.GetAcls() == nil || !changed {
		t.Error("that there are no rules is not learnt")
	}
}

// pieces is a stream of ReadShardBackup whose reader loses its permission after the first
// piece.
type pieces struct {
	grpc.ServerStreamingServer[oncelogv1.ReadShardBackupResponse]
	ctx  context.Context
	sent int
	lose func()
}

func (p *pieces) Context() context.Context { return p.ctx }

func (p *pieces) Send(*oncelogv1.ReadShardBackupResponse) error {
	p.sent++
	p.lose()
	return nil
}

// TestABackupEndsWithThePermission: it has every record, and was sent to its end whatever
// had become of its reader's permission, or token.
func TestABackupEndsWithThePermission(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what string
		lose func(n *Node)
		want oncelogv1.ErrorCode
	}{
		{"taken away", func(n *Node) { n.learnRules(&oncelogv1.AclTable{Version: 4}) }, refused},
		{"expired", func(n *Node) { n.started = time.Now().Add(-2 * time.Minute) }, notNow},
	} {
		n := guardedNode()
		n.closing, n.cfg.BackupBytesPerSecond = make(chan struct{}), 1<<30
		n.learnRules(&oncelogv1.AclTable{Version: 3, Rules: access.RulesProto([]acl.Rule{
			{Principal: "alice", Kind: acl.Cluster, Pattern: acl.Literal, Name: acl.ClusterName, Operation: acl.All, Permission: acl.Allow},
		})})
		n.backups.held = map[string]*heldBackup{"b": {shards: map[uint64]*raftstore.Backup{2: smallBackup(t)}}}
		stream := &pieces{ctx: access.With(t.Context(), access.Principal{Name: "alice"}), lose: func() { tt.lose(n) }}
		err := shardBackupService{n: n}.ReadShardBackup(&oncelogv1.ReadShardBackupRequest{BackupId: "b", ShardId: 2}, stream)
		if apierrors.CodeOf(err) != tt.want || stream.sent != 1 {
			t.Errorf("%s: %v after %d pieces", tt.what, err, stream.sent)
		}
	}
	n := guardedNode()
	if err := n.permitsOnCluster(access.Principal{Name: "root", Until: time.Now().Add(-time.Second)}, acl.All); apierrors.CodeOf(err) != notNow {
		t.Errorf("with a token that has ended: %v", err)
	}
}

// smallBackup is one of a group with nothing in it.
func smallBackup(t *testing.T) *raftstore.Backup {
	t.Helper()
	store, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: memlog.New(nil), MinFreeBytes: -1, StallTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	g, err := store.CreateGroup(raftstore.GroupConfig{
		ID: 2, Members: []raftstore.NodeID{1}, Machine: newMachine(pstate.Config{}, newWaiters()), RetainLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := g.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
