package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// method is one RPC of the contract at one address that serves it.
type method struct {
	desc    protoreflect.MethodDescriptor
	address string
}

func (m method) path() string {
	return fmt.Sprintf("/%s/%s", m.desc.Parent().FullName(), m.desc.Name())
}

// methods returns every RPC of the contract with every kind of address that
// serves it, so that a new one is tested without anybody thinking of it.
func methods(t *testing.T, w *world) []method {
	t.Helper()
	c, p := w.Node(cluster.Coordinator, 1), w.Node(cluster.Partition, 1)
	serving := map[protoreflect.Name][]string{
		"CatalogService": {c.Client}, "TransactionService": {c.Client}, "GroupService": {c.Client},
		"StatusService": {c.Client, p.Client}, "LogService": {p.Client},
		"NodeService": {c.Peer}, "ShardService": {p.Peer}, "RaftService": {c.Peer, p.Peer},
		"MemberService": {c.Peer}, "CoordinatorService": {c.Client}, "PlacementService": {c.Client}, "AclService": {c.Client},
		"BackupService": {c.Client}, "ShardBackupService": {p.Client},
		"DebugService": {c.Client, p.Client},
	}
	var all []method
	protoregistry.GlobalFiles.RangeFilesByPackage("oncelog.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			addresses, ok := serving[s.Name()]
			if !ok {
				t.Errorf("nobody has said who serves %s", s.FullName())
			}
			for j := range s.Methods().Len() {
				for _, a := range addresses {
					all = append(all, method{s.Methods().Get(j), a})
				}
			}
		}
		return true
	})
	if len(all) < 30 {
		t.Fatalf("only %d methods were found", len(all))
	}
	return all
}

// call sends one message, as it is, and waits for the end of the call, whatever
// its kind.
func (m method) call(ctx context.Context, cc *grpc.ClientConn, message []byte) (answers int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	stream, err := cc.NewStream(ctx, duplex, m.path(), grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		return 0, err
	}
	// The end of the stream, if the message was too much for it, says why.
	if err := stream.SendMsg(&message); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	_ = stream.CloseSend()
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return answers, err
		}
		answers++
	}
}

// filler makes values for the fields of a message.
type filler struct {
	number  func(bits int, signed bool) uint64
	text    string
	bytes   []byte
	enum    protoreflect.EnumNumber
	lists   int // length of the outermost lists
	maximum int // depth of nested messages
}

// fill sets every field of a message; of a oneof the last member wins.
func (f filler) fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.IsMap():
		case fd.IsList():
			n := 1
			if depth == 0 {
				n = f.lists
			}
			list := m.Mutable(fd).List()
			for range n {
				list.Append(f.value(fd, list.NewElement(), depth))
			}
		default:
			m.Set(fd, f.value(fd, m.NewField(fd), depth))
		}
	}
}

func (f filler) value(fd protoreflect.FieldDescriptor, empty protoreflect.Value, depth int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		if depth < f.maximum {
			f.fill(empty.Message(), depth+1)
		}
		return empty
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(f.text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(f.bytes)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(f.enum)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(f.number(32, false)))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(f.number(64, false))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(f.number(32, true)))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(f.number(64, true)))
	default:
		return empty
	}
}

func largest(bits int, signed bool) uint64 {
	if signed {
		return 1<<(bits-1) - 1
	}
	return math.MaxUint64 >> (64 - bits)
}

func smallest(bits int, signed bool) uint64 {
	if signed {
		return 1 << (bits - 1) // the most negative number
	}
	return unheardOf(bits, signed)
}

func unheardOf(int, bool) uint64 { return 987_654_321 }

// fillers are kinds of garbage that decode.
var fillers = map[string]filler{
	"missing": {number: func(int, bool) uint64 { return 0 }, lists: 0, maximum: 0},
	"huge": {
		number: largest, text: strings.Repeat("x", 300), bytes: []byte(strings.Repeat("\xff", 300)),
		enum: math.MaxInt32, lists: 2, maximum: 5,
	},
	"negative": {number: smallest, text: "\x00/../ \u202e", bytes: []byte{0}, enum: -1, lists: 1, maximum: 5},
	"many":     {number: unheardOf, text: "no/such/thing", bytes: []byte{1}, enum: 1, lists: 10_001, maximum: 1},
	"unheard of": {
		number: unheardOf, text: "no-such-thing", bytes: []byte("no such thing"), enum: 1, lists: 1, maximum: 5,
	},
}

// welcome are answers without an error that garbage may get.
func welcome(kind string, m method) bool {
	switch m.desc.Name() {
	case "Rebalance", "GetFormatLevel":
		return true // the one has a switch, the other asks for nothing
	case "RemoveAcls":
		if kind != "huge" && kind != "negative" {
			return true // all, or those of somebody who has none
		}
	}
	switch name := m.desc.Name(); kind {
	case "missing":
		// Nothing has to be said to these, or nothing is asked of them.
		switch name {
		case "InitProducer", "GetMetadata", "DescribeCluster", "ListTopics", "ListGroups", "ListTransactions", "GetStatus", "GetDiagnostics", "WatchTransactions",
			"ListCoordinators", "ListAcls", "AppendStream", "DescribePartitions", "ListOffsets", "DeleteRecords", "Enlist", "CheckProducers", "WriteMarkers", "Exchange", "CreateBackup":
			return true
		}
	case "unheard of", "many", "huge", "negative":
		switch name {
		// Questions about what is not there have an answer without an error.
		case "GetStatus", "GetDiagnostics", "WatchTransactions", "DescribeCluster", "GetMetadata", "GetOutcome", "ListTransactions", "ListGroups", "ListTopics",
			"ListCoordinators", "LeaveGroup", "CheckProducers", "AppendStream", "AddAcls":
			return true
		// Refusals are inside the answer.
		case "WriteMarkers", "Enlist", "OpenBackup":
			return true
		// A name that nobody has used yet is a good name for something new.
		case "CreateTopic", "InitProducer":
			return kind == "unheard of" || kind == "many" && name == "InitProducer"
		case "RegisterNode":
			return kind == "unheard of"
		}
	}
	return false
}

// typed checks that a failure says what it is: by an ErrorInfo of the contract,
// or, where gRPC refuses before a handler runs, by gRPC's own code.
func typed(m method, err error) error {
	st, _ := status.FromError(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == apierrors.Domain {
			if info.GetReason() == "INTERNAL" {
				return fmt.Errorf("the server has no name for it: %w", err)
			}
			return nil
		}
	}
	switch {
	case st.Code() == codes.ResourceExhausted: // larger than a frame may be
		return nil
	case st.Code() == codes.Internal && strings.Contains(st.Message(), "unmarshal"): // bytes that do not decode
		return nil
	case m.desc.Parent().Name() == "RaftService" && (st.Code() == codes.FailedPrecondition || st.Code() == codes.InvalidArgument):
		return nil // between nodes, and stated in the contract
	default:
		return fmt.Errorf("untyped: %w", err)
	}
}

// victim is what garbage must leave as it is.
type bystander struct {
	topic, group, id string
	tx               client.TxID
}

// newBystander makes a topic with records, a group with a position, and an open
// transaction.
func newBystander(t *testing.T, w *world) bystander {
	t.Helper()
	c := w.client(t)
	b := bystander{topic: w.topic(t, "bystander", 1), group: unique(t, "group"), id: unique(t, "id")}
	produce(t, c, b.topic, numbered("plain", 5)...)
	ctx := withPatience(t)
	k, err := c.Consume(ctx, b.group, []string{b.topic}, client.WithManualAssignment())
	if err != nil {
		t.Fatal(err)
	}
	batch, err := k.Poll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Commit(ctx, batch); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, producer(t, c, b.id))
	send(t, tx, b.topic, "open")
	w.awaitOpen(t, tx.ID())
	b.tx = tx.ID()
	eventually(t, "the coordinator has announced itself", func() error { // which changes the list of coordinators
		list, err := c.Admin().ListCoordinators(ctx)
		if err == nil && list.GetMembers()[0].GetInstanceId() == "" {
			err = errors.New("it has not")
		}
		return err
	})
	return b
}

// picture describes everything about a bystander and, with all, what the whole
// cluster has.
func (b bystander) picture(t *testing.T, w *world, all bool) string {
	t.Helper()
	var out strings.Builder
	note := func(m proto.Message, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(prototext.MarshalOptions{Multiline: true}.Format(m))
	}
	ctx := withPatience(t)
	cc := w.conn(t, w.Node(cluster.Coordinator, 1).Client)
	txns, groups := oncelogv1.NewTransactionServiceClient(cc), oncelogv1.NewGroupServiceClient(cc)
	note(txns.DescribeTransaction(ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: b.id}))
	note(groups.DescribeGroup(ctx, &oncelogv1.DescribeGroupRequest{GroupId: b.group}))
	note(w.status(t, b.topic, 0), nil)
	for _, r := range w.visible(t, b.topic, rawReadAll) {
		note(r, nil)
	}
	if all {
		catalog := oncelogv1.NewCatalogServiceClient(cc)
		note(catalog.ListTopics(ctx, &oncelogv1.ListTopicsRequest{}))
		note(groups.ListGroups(ctx, &oncelogv1.ListGroupsRequest{}))
		meta, err := catalog.GetMetadata(ctx, &oncelogv1.GetMetadataRequest{Topics: []string{b.topic}})
		note(meta, err)
	}
	// The text format varies its spaces on purpose.
	return strings.ReplaceAll(out.String(), "  ", " ")
}

func (b bystander) unchanged(t *testing.T, w *world, what, before string, all bool) {
	t.Helper()
	if after := b.picture(t, w, all); after != before {
		t.Errorf("%s changed something:\nbefore:\n%s\nafter:\n%s", what, before, after)
	}
}

func newMessage(t *testing.T, m method) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(m.desc.Input().FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt.New().Interface()
}

// Every RPC, with garbage of every kind, answers a typed error and changes
// nothing.
func TestGarbageForEveryRPC(t *testing.T) {
	w := ownCluster(t, cluster.Config{Coordinators: 1, Partitions: 1})
	b := newBystander(t, w)
	all := methods(t, w)
	for _, kind := range []string{"missing", "huge", "negative", "many", "unheard of"} {
		// What has a good name may be created; everything else must stay.
		whole := kind == "missing" || kind == "huge"
		before := b.picture(t, w, whole)
		for _, m := range all {
			msg := newMessage(t, m)
			fillers[kind].fill(msg.ProtoReflect(), 0)
			raw, err := proto.Marshal(msg)
			if err != nil {
				t.Fatal(err)
			}
			answers, err := m.call(t.Context(), w.conn(t, m.address), raw)
			switch {
			case err == nil && !welcome(kind, m):
				t.Errorf("%s with fields %s is welcome: %d answers", m.path(), kind, answers)
			case err != nil:
				if err := typed(m, err); err != nil {
					t.Errorf("%s with fields %s: %v", m.path(), kind, err)
				}
			}
		}
		b.unchanged(t, w, kind, before, whole)
	}

	before := b.picture(t, w, true)
	for _, m := range all {
		for what, raw := range map[string][]byte{
			"no protobuf":     []byte(strings.Repeat("\xff", 64)),
			"a cut message":   {0x0a, 0x7f, 'x'},
			"an oversize one": make([]byte, 18<<20),
		} {
			_, err := m.call(t.Context(), w.conn(t, m.address), raw)
			if err == nil {
				t.Errorf("%s takes %s", m.path(), what)
			} else if err := typed(m, err); err != nil {
				t.Errorf("%s with %s: %v", m.path(), what, err)
			}
		}
	}
	b.unchanged(t, w, "bytes that do not decode", before, true)
	w.stillServes(t, b)
}

// Messages with some wrong bits may well mean something; they must not bring
// anything down, nor touch what they do not name.
func TestFlippedBitsForEveryRPC(t *testing.T) {
	w := ownCluster(t, cluster.Config{Coordinators: 1, Partitions: 1})
	b := newBystander(t, w)
	before := b.picture(t, w, false)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, m := range methods(t, w) {
		switch {
		case m.desc.Parent().Name() == "RaftService":
			continue
		case m.desc.Name() == "Heartbeat", m.desc.Name() == "WatchTransactions":
			continue // they wait as they are told
		}
		msg := newMessage(t, m)
		fillers["unheard of"].fill(msg.ProtoReflect(), 0)
		raw, err := proto.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			if len(raw) == 0 {
				break
			}
			wrong := append([]byte(nil), raw...)
			for range 1 + rng.IntN(3) {
				wrong[rng.IntN(len(wrong))] ^= 1 << rng.IntN(8)
			}
			if _, err := m.call(ctx, w.conn(t, m.address), wrong); err != nil {
				if err := typed(m, err); err != nil {
					t.Errorf("%s with %x: %v", m.path(), wrong, err)
				}
			}
		}
	}
	b.unchanged(t, w, "flipped bits", before, false)
	w.stillServes(t, b)
}

// stillServes ends the bystander's transaction by an operator and does a new one.
func (w *world) stillServes(t *testing.T, b bystander) {
	t.Helper()
	for _, n := range w.Nodes() {
		if err := n.AwaitServing(withPatience(t)); err != nil {
			t.Fatal(err)
		}
	}
	w.abortByOperator(t, b.id)
	c := w.client(t)
	tx := begin(t, producer(t, c, b.id))
	send(t, tx, b.topic, "later")
	commit(t, tx)
	wantValues(t, "read_committed", w.readCommitted(t, c, b.topic), append(numbered("plain", 5), "later")...)
}
