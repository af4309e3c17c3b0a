package coordinator

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/golden"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// fileMap is the small files of a disk in memory.
type fileMap map[string][]byte

func (m fileMap) Read(name string) ([]byte, bool, error) { data, ok := m[name]; return data, ok, nil }

func (m fileMap) Write(name string, data []byte) error { m[name] = bytes.Clone(data); return nil }

// directories are the data directories of a cluster's members: files, and the
// name of the log, by member.
type directories struct {
	files map[uint64]fileMap
	logs  map[uint64]string
	// served are the services of those that run, by address.
	served *sync.Map
	// settings change what a member is started with.
	settings map[uint64]func(*Config)
	// places are the addresses of members that are not at those of their id.
	places map[uint64]uint64
}

// at is the id by whose addresses a member is reached.
func (d directories) at(m *member) uint64 {
	if place, ok := d.places[m.id]; ok {
		return place
	}
	return m.id
}

func (d directories) start(c *cluster, m *member) {
	c.t.Helper()
	c.start(m)
	d.served.Store(peerAddress(d.at(m)), m.peer)
}

func (d directories) stop(c *cluster, m *member) {
	d.served.Delete(peerAddress(d.at(m)))
	c.stop(m)
}

// guarded is a cluster of n whose members keep identities and talk to each other.
// Nobody is started yet.
func guarded(t *testing.T, n int, test func(t *testing.T, c *cluster, d directories)) {
	t.Helper()
	d := directories{files: map[uint64]fileMap{}, logs: map[uint64]string{}, served: &sync.Map{}, settings: map[uint64]func(*Config){}, places: map[uint64]uint64{}}
	for i := range n {
		d.files[uint64(i+1)], d.logs[uint64(i+1)] = fileMap{}, "log-1"
	}
	var c *cluster
	change := func(cfg *Config) {
		cfg.Files, cfg.LogID = d.files[cfg.NodeID], d.logs[cfg.NodeID]
		cfg.DialPeer = func(address string) (grpc.ClientConnInterface, error) {
			return memberConn{served: d.served, address: address}, nil
		}
		if change := d.settings[cfg.NodeID]; change != nil {
			change(cfg)
		}
	}
	inBubble(t, 0, change, func(t *testing.T, empty *cluster) {
		c = empty
		for i := range n {
			c.nodes = append(c.nodes, &member{id: uint64(i + 1), log: &disk{Store: memlog.New(nil)}})
		}
		t.Cleanup(func() {
			for _, m := range c.nodes {
				d.stop(c, m)
			}
		})
		test(t, c, d)
	})
}

// memberConn is a connection to whoever is at an address when it is used.
type memberConn struct {
	inProcess

	served  *sync.Map
	address string
}

func (x memberConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if peer, ok := x.served.Load(x.address); ok {
		return peer.(inProcess).Invoke(ctx, method, args, reply, opts...)
	}
	return status.Error(codes.Unavailable, "nobody listens")
}

// TestNewMembersIntroduceThemselves: a new cluster begins without any step, once
// all are there; after that each starts alone.
func TestNewMembersIntroduceThemselves(t *testing.T) {
	guarded(t, 3, func(t *testing.T, c *cluster, d directories) {
		d.start(c, c.nodes[0])
		d.start(c, c.nodes[1])
		pass(20 * introducePause)
		for _, m := range c.nodes[:2] {
			if m.c.opened.Load() {
				t.Errorf("member %d takes part before enough others know it", m.id)
			}
			_, err := m.catalog().DescribeCluster(c.ctx(), &oncelogv1.DescribeClusterRequest{})
			wantCode(t, err, "UNAVAILABLE")
			_, err = m.catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{})
			wantCode(t, err, "UNAVAILABLE")
		}
		d.start(c, c.nodes[2])
		c.until("all have joined", func() bool {
			return c.nodes[0].c.opened.Load() && c.nodes[1].c.opened.Load() && c.nodes[2].c.opened.Load()
		})
		c.leader()
		for _, m := range c.nodes {
			d.stop(c, m)
		}
		d.start(c, c.nodes[0])
		if !c.nodes[0].c.opened.Load() {
			t.Error("a member that has joined waits for the others")
		}
		d.start(c, c.nodes[1])
		c.leader()
	})
}

// filled makes a message in which every field is set, most of them plausibly.
func filled(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		var v protoreflect.Value
		switch {
		case f.IsMap() || f.ContainingOneof() != nil && !f.HasOptionalKeyword() && m.WhichOneof(f.ContainingOneof()) != nil:
			continue
		case f.Kind() == protoreflect.MessageKind && depth > 4:
			continue
		case f.Kind() == protoreflect.MessageKind && f.IsList():
			filled(m.Mutable(f).List().AppendMutable().Message(), depth+1)
			continue
		case f.Kind() == protoreflect.MessageKind:
			filled(m.Mutable(f).Message(), depth+1)
			continue
		case f.Kind() == protoreflect.StringKind:
			v = protoreflect.ValueOfString("x")
		case f.Kind() == protoreflect.BytesKind:
			v = protoreflect.ValueOfBytes([]byte("x"))
		case f.Kind() == protoreflect.BoolKind:
			v = protoreflect.ValueOfBool(true)
		case f.Kind() == protoreflect.EnumKind:
			v = protoreflect.ValueOfEnum(1)
		case f.Kind() == protoreflect.Int64Kind:
			v = protoreflect.ValueOfInt64(1000)
		case f.Kind() == protoreflect.Int32Kind:
			v = protoreflect.ValueOfInt32(1)
		case f.Kind() == protoreflect.Uint32Kind:
			v = protoreflect.ValueOfUint32(1)
		case f.Kind() == protoreflect.Uint64Kind:
			v = protoreflect.ValueOfUint64(1)
		default:
			panic("no value for a " + f.Kind().String())
		}
		if f.IsList() {
			m.Mutable(f).List().Append(v)
		} else {
			m.Set(f, v)
		}
	}
}

// TestEveryCallBeforeAMemberHasJoined: none is answered from a state that it does
// not have, and none ends in a panic.
func TestEveryCallBeforeAMemberHasJoined(t *testing.T) {
	guarded(t, 3, func(t *testing.T, c *cluster, d directories) {
		d.start(c, c.nodes[0])
		m := c.nodes[0]
		calls := 0
		for _, served := range []inProcess{m.client, m.peer} {
			for path := range served {
				service, name, _ := strings.Cut(path[1:], "/")
				if strings.HasSuffix(service, ".StatusService") || strings.HasSuffix(service, ".MemberService") {
					continue // what tells that it has not joined, and has it join
				}
				found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + name))
				if err != nil {
					t.Fatal(err)
				}
				method := found.(protoreflect.MethodDescriptor)
				for _, fill := range []bool{false, true} {
					req, resp := newMessage(t, method.Input()), newMessage(t, method.Output())
					if fill {
						filled(req, 0)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if err := served.Invoke(ctx, path, req.Interface(), resp.Interface()); err == nil {
						t.Errorf("%s was answered", path)
					}
					cancel()
					calls++
				}
			}
		}
		if calls < 40 {
			t.Errorf("only %d calls", calls)
		}
	})
}

func newMessage(t *testing.T, d protoreflect.MessageDescriptor) protoreflect.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt.New()
}

// lose replaces the data directory of a stopped member by a new one.
func (d directories) lose(m *member) {
	m.log = &disk{Store: memlog.New(nil)}
	d.files[m.id] = fileMap{}
	d.logs[m.id] += "-again"
}

// TestMemberThatLostItsDiskIsRefused: with one other, whichever it is.
func TestMemberThatLostItsDiskIsRefused(t *testing.T) {
	guarded(t, 3, func(t *testing.T, c *cluster, d directories) {
		for _, m := range c.nodes {
			d.start(c, m)
		}
		c.leader()
		// Two of them suffice to elect. One that has never been let in needs both others.
		c.until("all are let in", func() bool {
			return !slices.ContainsFunc(c.nodes, func(m *member) bool { return !m.c.opened.Load() })
		})
		for i, other := range []int{1, 2} {
			lost := c.nodes[0]
			for _, m := range c.nodes {
				d.stop(c, m)
			}
			before := maps.Clone(d.files[lost.id])
			log, logID := lost.log, d.logs[lost.id]
			d.lose(lost)
			d.start(c, lost)
			d.start(c, c.nodes[other])
			pass(20 * introducePause)
			select {
			case err := <-lost.c.Fatal():
				if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE || !strings.Contains(err.Error(), "bring that directory back") {
					t.Errorf("round %d: %v", i, err)
				}
			default:
				t.Errorf("round %d: it was not refused", i)
			}
			if lost.c.opened.Load() || c.nodes[other].c.group.Status().Ready {
				t.Errorf("round %d: it takes part", i)
			}
			// Its directory is found again.
			d.stop(c, lost)
			d.files[lost.id], d.logs[lost.id], lost.log = before, logID, log
			d.start(c, lost)
			c.leader()
		}
	})
}

// TestTwoInstancesOfAMember: at most one of them gets a majority of the others.
func TestTwoInstancesOfAMember(t *testing.T) {
	t.Parallel()
	for n := 2; n <= 9; n++ {
		id := identity{members: make([]uint64, n)}
		if others := n - 1; 2*id.needed() <= others || id.needed() > others {
			t.Errorf("%d members: %d of %d others", n, id.needed(), others)
		}
	}
}

// TestDirectoryOfAnother: whatever is wrong with a directory is said.
func TestDirectoryOfAnother(t *testing.T) {
	guarded(t, 1, func(t *testing.T, c *cluster, d directories) {
		m := c.nodes[0]
		d.start(c, m)
		c.leader()
		d.stop(c, m)
		whole, log := d.files[1], m.log
		try := func() error {
			t.Helper()
			store, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: m.log, StallTimeout: -1})
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{NodeID: m.id, Store: store, Members: []Member{{ID: m.id}}, DialPeer: c.shards.dial}
			c.change(&cfg)
			cfg.Files, cfg.LogID = d.files[1], d.logs[1]
			co, err := New(cfg)
			if err == nil {
				co.Close()
			}
			if err := store.Close(c.ctx()); err != nil {
				t.Error(err)
			}
			return err
		}
		expect := func(what string, target error, text string) {
			t.Helper()
			if err := try(); err == nil || target != nil && !errors.Is(err, target) || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v", what, err)
			}
			d.files[1], d.logs[1], m.log, m.id = maps.Clone(whole), "log-1", log, 1
		}
		m.id = 2
		expect("another node", nil, "the disk belongs to coordinator node 1, this is node 2")
		d.logs[1] = "log-2"
		expect("another log", raftstore.ErrCorrupt, "the log in the disk is not the one that this node had")
		d.files[1] = fileMap{}
		expect("no identity", raftstore.ErrCorrupt, "coordinator is missing beside a log that is in use")
		damaged := bytes.Clone(whole[IdentityFile])
		damaged[20] ^= 1
		d.files[1][IdentityFile] = damaged
		expect("a flipped bit", datafile.ErrDamaged, "coordinator: coordinator identity file is damaged")
		stale, err := openIdentityOf(d.files[1])
		if err != nil {
			t.Fatal(err)
		}
		stale.joined = false
		if err := stale.write(d.files[1]); err != nil {
			t.Fatal(err)
		}
		expect("an old file", raftstore.ErrCorrupt, "coordinator is older than the log beside it")
		if err := try(); err != nil {
			t.Errorf("its own: %v", err)
		}
	})
}

func openIdentityOf(files fileMap) (identity, error) {
	payload, _, _, err := identityFile.Read(files)
	if err != nil {
		return identity{}, err
	}
	return decodeIdentity(payload)
}

// TestIntroductionsAreChecked: what a member says of itself.
func TestIntroductionsAreChecked(t *testing.T) {
	guarded(t, 3, func(t *testing.T, c *cluster, d directories) {
		d.start(c, c.nodes[0])
		peer := oncelogv1.NewMemberServiceClient(c.nodes[0].peer)
		call := func(change func(*oncelogv1.IntroduceMemberRequest)) error {
			req := &oncelogv1.IntroduceMemberRequest{NodeId: 2, InstanceId: "i", ToNode: 1, Members: []uint64{1, 2, 3}}
			change(req)
			_, err := peer.IntroduceMember(c.ctx(), req)
			return err
		}
		for what, x := range map[string]struct {
			change func(*oncelogv1.IntroduceMemberRequest)
			code   string
		}{
			"no instance":     {func(r *oncelogv1.IntroduceMemberRequest) { r.InstanceId = "" }, "INVALID_ARGUMENT"},
			"a long instance": {func(r *oncelogv1.IntroduceMemberRequest) { r.InstanceId = strings.Repeat("x", 65) }, "LIMIT_EXCEEDED"},
			"many members":    {func(r *oncelogv1.IntroduceMemberRequest) { r.Members = make([]uint64, 65) }, "LIMIT_EXCEEDED"},
			"other members":   {func(r *oncelogv1.IntroduceMemberRequest) { r.Members = []uint64{1, 2, 4} }, "WRONG_CLUSTER"},
			"somebody else":   {func(r *oncelogv1.IntroduceMemberRequest) { r.ToNode = 3 }, "WRONG_CLUSTER"},
			"itself":          {func(r *oncelogv1.IntroduceMemberRequest) { r.NodeId = 1 }, "INVALID_ARGUMENT"},
			"nobody":          {func(r *oncelogv1.IntroduceMemberRequest) { r.NodeId = 9 }, "INVALID_ARGUMENT"},
		} {
			if err := call(x.change); codeName(err) != x.code {
				t.Errorf("%s: %v", what, err)
			}
		}
		same := func(*oncelogv1.IntroduceMemberRequest) {}
		wantCode(t, call(same), "")
		wantCode(t, call(same), "") // its answer was lost
		wantCode(t, call(func(r *oncelogv1.IntroduceMemberRequest) { r.InstanceId = "j" }), "NODE_ID_IN_USE")
		d.stop(c, c.nodes[0])
		d.start(c, c.nodes[0]) // it is durable
		peer = oncelogv1.NewMemberServiceClient(c.nodes[0].peer)
		wantCode(t, call(func(r *oncelogv1.IntroduceMemberRequest) { r.InstanceId = "j" }), "NODE_ID_IN_USE")
	})
}

// TestIdentityFormat: directories of older versions are read.
func TestIdentityFormat(t *testing.T) {
	t.Parallel()
	files := fileMap{}
	id := identity{
		node: 2, members: []uint64{1, 2, 3}, instance: "i", log: "l", joined: true,
		others: []memberInstance{{1, "a"}, {3, "c"}},
	}
	if err := id.write(files); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "coordinator-identity", identityVersion, []golden.Sample{{Name: "file", Bytes: files[IdentityFile]}})
	files[IdentityFile] = golden.Read(t, "coordinator-identity", 1)[0].Bytes
	again := fileMap{}
	got, err := openIdentityOf(files)
	if err == nil {
		err = got.write(again)
	}
	if err != nil || !bytes.Equal(again[IdentityFile], files[IdentityFile]) {
		t.Errorf("version 1 is read as %+v: %v", got, err)
	}
}

// FuzzIdentity: bytes that are read are an identity that is written so.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeIdentity(b)
		if err != nil {
			return
		}
		files := fileMap{}
		if err := id.write(files); err != nil {
			t.Fatal(err)
		}
		if _, err := openIdentityOf(files); err != nil {
			t.Errorf("%x: %v", b, err)
		}
	})
}
