package catalog

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/golden"
)

// everyCommand is one of each kind, with every field set.
func everyCommand() []Command {
	return []Command{
		InitCluster{At: 5, ClusterID: "c", KeySecret: []byte{1, 2}, Settings: Settings{1, 2, 3}},
		UpdateSettings{At: 5, Settings: Settings{1, 2, 3}},
		AddKey{At: 5, Secret: []byte{1, 2}},
		ActivateKey{At: 5, ID: 300},
		RemoveKey{At: 5, ID: 1},
		RegisterNode{At: 5, ID: 1, ClientAddress: "a", PeerAddress: "b", Instance: "i"},
		UnregisterNode{At: 5, ID: 1},
		CreateTopic{At: 5, Name: "t", Partitions: 2, ReplicationFactor: 3, Nodes: []uint64{1, 300}},
		CreatePartitions{At: 5, Name: "t", Total: 4},
		DeleteTopic{At: -1, Name: "t"},
		DrainShard{At: 5, ID: 2},
		RemoveShard{At: 5, ID: 2},
		CreateTopic{At: 5, Name: "t", Partitions: 2, Retention: Retention{300, 1}},
		AlterTopic{At: 5, TopicID: 300, SetBytes: true, Retention: Retention{0, 7}, CheckVersion: true, Version: 4},
		DeleteTopic{At: 5, Name: "t", ID: 300},
		RegisterNode{At: 5, ID: 1, ClientAddress: "a", PeerAddress: "b", Instance: "i", Known: true},
		DrainNode{At: 5, ID: 300, Undo: true},
		LoseDisk{At: 5, ID: 300},
		MoveReplica{At: 5, Shard: 2, From: 1, To: 300},
		CancelMove{At: 5, Shard: 300},
		ReportMembers{At: 5, Shard: 2, Index: 300, Seen: 7, Members: []Replica{{1, 0}, {300, 2}}},
		Rebalance{At: 5},
		EndRebalance{At: 5, Since: 300},
		AddACLs{At: 5, Rules: []acl.Rule{{Principal: "a", Kind: acl.Topic, Pattern: acl.Prefixed, Name: "t", Operation: acl.Read, Permission: acl.Deny}}},
		RemoveACLs{At: 5, Rules: []acl.Rule{{Principal: "*", Kind: acl.Cluster, Pattern: acl.Literal, Name: "oncelog", Operation: acl.All, Permission: acl.Allow}}},
		LoseDisk{At: 5, ID: 300, Instance: "i"},
		UnregisterNode{At: 5, ID: 300, Instance: "i"},
		// Of version 2.
		CreateTopic{At: 5, Name: "t", Partitions: 2, Nodes: []uint64{300}, Cleanup: Cleanup{PolicyCompact, 300, 7}},
		AlterTopic{At: 5, TopicID: 300, SetPolicy: true, SetDeleteRetention: true, Cleanup: Cleanup{PolicyCompactDelete, 0, 7}},
		AlterTopic{At: 5, TopicID: 300, SetMinLag: true, Retention: Retention{0, 7}, CheckVersion: true, Version: 4},
		// Of level 2, as are the two above that name a directory.
		LoseReplica{At: 5, Shard: 2, Node: 300, Life: 7},
	}
}

func TestCommandGolden(t *testing.T) {
	t.Parallel()
	var samples []golden.Sample
	for _, cmd := range everyCommand() {
		name := strings.TrimPrefix(reflect.TypeOf(cmd).String(), "catalog.")
		samples = append(samples, golden.Sample{Name: name, Bytes: AppendCommand(nil, cmd)})
	}
	golden.Check(t, "catalogue-command", commandVersion, samples)
	for i, s := range golden.Read(t, "catalogue-command", 1) {
		if got, err := DecodeCommand(s.Bytes); err != nil || !reflect.DeepEqual(got, everyCommand()[i]) {
			t.Errorf("%s of version 1 is decoded as %+v, %v", s.Name, got, err)
		}
	}
	for i, s := range golden.Read(t, "catalogue-command", 2) {
		b, want := s.Bytes, everyCommand()[i]
		got, err := DecodeCommand(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is decoded as %+v, %v", s.Name, got, err)
		}
		for n := range b {
			if _, err := DecodeCommand(b[:n]); err == nil {
				t.Errorf("%s cut to %d bytes is decoded", s.Name, n)
			}
		}
		if _, err := DecodeCommand(append(b, 0)); !errors.Is(err, codec.ErrTrailing) {
			t.Errorf("%s with a byte too many: %v", s.Name, err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{{3, 1, 0}, {0, 1, 0}, {2, kindRebalance, 0}, {2, kindCreateTopic, 0, 0, 0, 0, 0}} {
		if _, err := DecodeCommand(b); !errors.Is(err, ErrVersion) {
			t.Errorf("%v: %v", b, err)
		}
	}
	if _, err := DecodeCommand([]byte{1, 99, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("kind: %v", err)
	}
	if _, err := DecodeCommand(codec.AppendUvarint([]byte{1, kindActivateKey, 0}, 1<<32)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a 33 bit key id: %v", err)
	}
	if _, err := DecodeCommand(make([]byte, MaxCommandBytes+1)); !errors.Is(err, codec.ErrTooLong) {
		t.Errorf("length: %v", err)
	}
	if err := New().Restore([]byte{9}); !errors.Is(err, ErrVersion) {
		t.Errorf("version of a snapshot: %v", err)
	}
	if got := AppendCommand([]byte("kept"), nil); string(got) != "kept" {
		t.Errorf("nil command appends %q", got)
	}
}

// TestOversizedCommandReachesApply: what is too long is refused by the
// catalogue, never by the decoder of the log.
func TestOversizedCommandReachesApply(t *testing.T) {
	t.Parallel()
	cmd, err := DecodeCommand(AppendCommand(nil, CreateTopic{Name: strings.Repeat("x", 100_000)}))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, cluster(t, 1, Settings{}), cmd, CodeInvalidTopicName)
}

func populated(t testing.TB) *Catalog {
	t.Helper()
	c := cluster(t, 3, Settings{ShardsPerNode: 1, DefaultPartitions: 2})
	must(t, c, AddKey{At: 3, Secret: secret(2)})
	must(t, c, CreateTopic{At: 4, Name: "gone"})
	must(t, c, CreateTopic{At: 5, Name: "t", Partitions: 3, ReplicationFactor: 1, Retention: Retention{Bytes: 5}})
	must(t, c, DeleteTopic{At: 6, Name: "gone"})
	must(t, c, DrainShard{At: 7, ID: 2})
	must(t, c, AlterTopic{At: 8, TopicID: 2, SetMillis: true, Retention: Retention{Millis: 300}})
	must(t, c, CreateTopic{At: 9, Name: "three", ReplicationFactor: 3})
	node4 := node(4)
	node4.At = 10
	must(t, c, node4)
	three, _ := c.Resolve("three", 0)
	s := must(t, c, MoveReplica{At: 11, Shard: three.ShardID, From: 3, To: 4}).Shard
	must(t, c, ReportMembers{At: 12, Shard: s.ID, Index: 300, Seen: s.Version, Members: []Replica{{1, 0}, {2, 0}, {4, 1}}})
	must(t, c, MoveReplica{At: 13, Shard: s.ID, From: 1, To: 3})
	must(t, c, CancelMove{At: 14, Shard: s.ID})
	must(t, c, DrainNode{At: 15, ID: 1})
	must(t, c, Rebalance{At: 16})
	must(t, c, AddACLs{At: 17, Rules: []acl.Rule{
		rule("bob", acl.Topic, acl.Prefixed, "t", acl.Read, acl.Deny), rule(acl.Any, acl.Cluster, acl.Literal, acl.ClusterName, acl.Describe, acl.Allow),
	}})
	must(t, c, AlterTopic{At: 17, TopicID: 3, SetPolicy: true, SetMinLag: true, Cleanup: Cleanup{Policy: PolicyCompact, MinLag: 300}})
	return c
}

// A snapshot of version 1 has no retention: everything is kept.
func TestRestoreOfVersion1(t *testing.T) {
	t.Parallel()
	b := golden.Read(t, "catalogue-snapshot", 1)[0].Bytes
	c := New()
	if err := c.Restore(b); err != nil {
		t.Fatal(err)
	}
	check(t, c)
	topic, _ := c.Topic("t")
	if len(topic.Partitions) != 3 || topic.Retention != (Retention{}) || topic.Cleanup != (Cleanup{}) {
		t.Errorf("%+v", topic)
	}
	for _, v := range []byte{0, snapshotVersion + 1} {
		b[0] = v
		if err := New().Restore(b); !errors.Is(err, ErrVersion) {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

func TestSnapshotGolden(t *testing.T) {
	t.Parallel()
	c := populated(t)
	golden.Check(t, "catalogue-snapshot", snapshotVersion, []golden.Sample{{Name: "everything", Bytes: c.Snapshot()}})
	b := golden.Read(t, "catalogue-snapshot", snapshotVersion)[0].Bytes
	r := New()
	if err := r.Restore(b); err != nil {
		t.Fatal(err)
	}
	check(t, r)
	if !slices.Equal(r.Snapshot(), b) {
		t.Error("the restored state has another snapshot")
	}
	if !reflect.DeepEqual(r.ShardsOf(1), c.ShardsOf(1)) || !reflect.DeepEqual(r.Keys(), c.Keys()) || !reflect.DeepEqual(r.Nodes(), c.Nodes()) {
		t.Error("the restored state answers differently")
	}
}

func TestEmptySnapshot(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	if err := c.Restore(New().Snapshot()); err != nil {
		t.Fatal(err)
	}
	if c.ClusterID() != "" || c.Version() != 0 {
		t.Error("something is left")
	}
}

func TestRestoreRefusesDamage(t *testing.T) {
	t.Parallel()
	b := populated(t).Snapshot()
	c := cluster(t, 1, Settings{})
	before := c.Snapshot()
	for n := range b {
		if err := c.Restore(b[:n]); err == nil {
			t.Fatalf("a snapshot cut to %d bytes is restored", n)
		}
		if !slices.Equal(c.Snapshot(), before) {
			t.Fatalf("a failed restore of %d bytes changed the state", n)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, cmd := range everyCommand() {
		f.Add(AppendCommand(nil, cmd))
	}
	snapshot := populated(f).Snapshot()
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := DecodeCommand(b)
		if err != nil {
			return
		}
		again, err := DecodeCommand(AppendCommand(nil, cmd))
		if err != nil || !reflect.DeepEqual(again, cmd) {
			t.Fatalf("%+v, then %+v, %v", cmd, again, err)
		}
		c := New()
		if err := c.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		c.Apply(cmd)
		check(t, c)
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(populated(f).Snapshot())
	f.Add(New().Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		c := New()
		if c.Restore(b) != nil {
			return
		}
		again := New()
		if err := again.Restore(c.Snapshot()); err != nil || !slices.Equal(again.Snapshot(), c.Snapshot()) {
			t.Fatalf("restored twice: %v", err)
		}
	})
}
