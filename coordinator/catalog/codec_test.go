package catalog

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
)

type goldenCommand struct {
	cmd Command
	hex string
}

// golden holds logged commands readable for ever: never change a line.
func golden() []goldenCommand {
	return []goldenCommand{
		{InitCluster{At: 5, ClusterID: "c", KeySecret: []byte{1, 2}, Settings: Settings{1, 2, 3}}, "01010a016302" + "0102010203"},
		{UpdateSettings{At: 5, Settings: Settings{1, 2, 3}}, "01020a010203"},
		{AddKey{At: 5, Secret: []byte{1, 2}}, "01030a020102"},
		{ActivateKey{At: 5, ID: 300}, "01040aac02"},
		{RemoveKey{At: 5, ID: 1}, "01050a01"},
		{RegisterNode{At: 5, ID: 1, ClientAddress: "a", PeerAddress: "b", Instance: "i"}, "01060a01016101620169"},
		{UnregisterNode{At: 5, ID: 1}, "01070a01"},
		{CreateTopic{At: 5, Name: "t", Partitions: 2, ReplicationFactor: 3, Nodes: []uint64{1, 300}}, "01080a017402030201ac02"},
		{CreatePartitions{At: 5, Name: "t", Total: 4}, "01090a01740400"},
		{DeleteTopic{At: -1, Name: "t"}, "010a010174"},
		{DrainShard{At: 5, ID: 2}, "010b0a02"},
		{RemoveShard{At: 5, ID: 2}, "010c0a02"},
		{CreateTopic{At: 5, Name: "t", Partitions: 2, Retention: Retention{300, 1}}, "010d0a0174020000ac0201"},
		{AlterTopic{At: 5, TopicID: 300, SetBytes: true, Retention: Retention{0, 7}, CheckVersion: true, Version: 4}, "010e0aac0200010007" + "0104"},
		{DeleteTopic{At: 5, Name: "t", ID: 300}, "010f0a0174ac02"},
	}
}

func TestCommandGolden(t *testing.T) {
	t.Parallel()
	for _, g := range golden() {
		if got := hex.EncodeToString(AppendCommand(nil, g.cmd)); got != g.hex {
			t.Errorf("%T is encoded as %s, golden %s", g.cmd, got, g.hex)
		}
		b, _ := hex.DecodeString(g.hex)
		got, err := DecodeCommand(b)
		if err != nil || !reflect.DeepEqual(got, g.cmd) {
			t.Errorf("golden %T is decoded as %+v, %v", g.cmd, got, err)
		}
		for n := range b {
			if _, err := DecodeCommand(b[:n]); err == nil {
				t.Errorf("%T cut to %d bytes is decoded", g.cmd, n)
			}
		}
		if _, err := DecodeCommand(append(b, 0)); !errors.Is(err, codec.ErrTrailing) {
			t.Errorf("%T with a byte too many: %v", g.cmd, err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	if _, err := DecodeCommand([]byte{2, 1, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("version: %v", err)
	}
	if _, err := DecodeCommand([]byte{1, 99, 0}); !errors.Is(err, ErrCorrupt) {
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
	c := cluster(t, 2, Settings{ShardsPerNode: 1, DefaultPartitions: 2})
	must(t, c, AddKey{At: 3, Secret: secret(2)})
	must(t, c, CreateTopic{At: 4, Name: "gone"})
	must(t, c, CreateTopic{At: 5, Name: "t", Partitions: 3, ReplicationFactor: 1, Retention: Retention{Bytes: 5}})
	must(t, c, DeleteTopic{At: 6, Name: "gone"})
	must(t, c, DrainShard{At: 7, ID: 2})
	must(t, c, AlterTopic{At: 8, TopicID: 2, SetMillis: true, Retention: Retention{Millis: 300}})
	return c
}

// A snapshot of version 1 has no retention: everything is kept.
func TestRestoreOfVersion1(t *testing.T) {
	t.Parallel()
	one := strings.Repeat("01", MinKeyBytes)
	v1 := "01" + "05" + "0e" + "0474657374" + "000000" + "01" + "01" + "01" + "01" + "02" +
		"01" + "01" + "20" + one + "02" + "01" + "01" + "08636c69656e743a31" + "06706565723a31" + "046469736b" + "02" +
		"01" + "020101" + "00" + "05" + "01" + "01" + "0174" + "01" + "0a" + "01" + "0102"
	b, err := hex.DecodeString(v1)
	if err != nil {
		t.Fatal(err)
	}
	c := New()
	if err := c.Restore(b); err != nil {
		t.Fatal(err)
	}
	topic, _ := c.Topic("t")
	if !reflect.DeepEqual(topic, Topic{ID: 1, Name: "t", ReplicationFactor: 1, CreatedAt: 5, Partitions: []uint64{1}}) {
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
	one, two := strings.Repeat("01", MinKeyBytes), strings.Repeat("02", MinKeyBytes)
	want := "02" + // version
		"09" + "10" + "0474657374" + "010200" + // catalogue version 9, now 8, "test", settings
		"01" + "02" + "02" + "05" + "05" + // active key, last key, topic, partition, shard
		"02" + "01" + "20" + one + "02" + "02" + "20" + two + "06" + // keys
		"02" + // nodes
		"01" + "08636c69656e743a31" + "06706565723a31" + "046469736b" + "02" +
		"02" + "08636c69656e743a31" + "06706565723a31" + "046469736b" + "02" +
		"04" + // shards: id, replicas, state, version
		"02" + "020102" + "01" + "08" +
		"03" + "020102" + "00" + "07" +
		"04" + "0101" + "00" + "09" +
		"05" + "0102" + "00" + "09" +
		"01" + // topics: id, name, replication factor, created, retention, version of it, partitions with shards
		"02" + "0174" + "01" + "0a" + "ac0205" + "01" + "03" + "0304" + "0405" + "0504"
	c := populated(t)
	if got := hex.EncodeToString(c.Snapshot()); got != want {
		t.Errorf("snapshot is\n%s, golden\n%s", got, want)
	}
	b, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
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
	for _, g := range golden() {
		f.Add(AppendCommand(nil, g.cmd))
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
