package catalog

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func secret(b byte) []byte { return slices.Repeat([]byte{b}, MinKeyBytes) }

func node(id uint64) RegisterNode {
	return RegisterNode{ID: id, ClientAddress: "client:1", PeerAddress: "peer:1", Instance: "disk"}
}

// cluster returns an initialized catalogue with nodes 1 to n.
func cluster(t testing.TB, n uint64, s Settings) *Catalog {
	t.Helper()
	c := New()
	must(t, c, InitCluster{At: 1, ClusterID: "test", KeySecret: secret(1), Settings: s})
	for id := range n {
		must(t, c, node(id+1))
	}
	return c
}

// must applies a command that has to be accepted.
func must(t testing.TB, c *Catalog, cmd Command) Result {
	t.Helper()
	version := c.Version()
	r := c.Apply(cmd)
	if r.Code != CodeOK {
		t.Fatalf("%+v refused: %+v", cmd, r)
	}
	if want := version + map[bool]uint64{true: 1}[r.Changed]; r.Version != want || c.Version() != want {
		t.Fatalf("%+v: version %d, want %d", cmd, r.Version, want)
	}
	check(t, c)
	return r
}

// refused applies a command that has to be refused and to change nothing but
// the time.
func refused(t testing.TB, c *Catalog, cmd Command, want Code) Result {
	t.Helper()
	before, now := c.Snapshot(), c.now
	r := c.Apply(cmd)
	if r.Code != want || r.Changed {
		t.Fatalf("%+v: %v (changed %v), want %v", cmd, r.Code, r.Changed, want)
	}
	if c.now == now && !slices.Equal(before, c.Snapshot()) {
		t.Fatalf("%+v was refused but changed the state", cmd)
	}
	check(t, c)
	return r
}

func check(t testing.TB, c *Catalog) {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestInitCluster(t *testing.T) {
	t.Parallel()
	c := New()
	refused(t, c, node(1), CodeNotInitialized)
	refused(t, c, nil, CodeInvalidCommand)
	refused(t, c, InitCluster{KeySecret: secret(1)}, CodeInvalidClusterID)
	refused(t, c, InitCluster{ClusterID: "a b", KeySecret: secret(1)}, CodeInvalidClusterID)
	refused(t, c, InitCluster{ClusterID: strings.Repeat("x", 65), KeySecret: secret(1)}, CodeInvalidClusterID)
	refused(t, c, InitCluster{ClusterID: "a", KeySecret: make([]byte, 31)}, CodeInvalidKey)
	refused(t, c, InitCluster{ClusterID: "a", KeySecret: make([]byte, 65)}, CodeInvalidKey)
	refused(t, c, InitCluster{ClusterID: "a", KeySecret: secret(1), Settings: Settings{ShardsPerNode: 65}}, CodeInvalidSettings)
	if c.ClusterID() != "" {
		t.Fatal("a refused command made the cluster")
	}
	given := secret(1)
	must(t, c, InitCluster{At: 7, ClusterID: "first", KeySecret: given})
	given[0] = 99 // the catalogue keeps a copy
	r := must(t, c, InitCluster{At: 8, ClusterID: "second", KeySecret: secret(2)})
	if r.Changed || r.ClusterID != "first" || c.ClusterID() != "first" {
		t.Errorf("the second one: %+v", r)
	}
	if key, ok := c.ActiveKey(); !ok || !reflect.DeepEqual(key, Key{ID: 1, Secret: secret(1), Created: 7}) {
		t.Errorf("active key %+v", key)
	}
	if got := c.Settings(); got != (Settings{ShardsPerNode: 1, DefaultPartitions: 1}) {
		t.Errorf("settings %+v", got)
	}
}

func TestUpdateSettings(t *testing.T) {
	t.Parallel()
	c := cluster(t, 2, Settings{})
	s := Settings{ShardsPerNode: 2, DefaultPartitions: 5, DefaultReplicationFactor: 1}
	if r := must(t, c, UpdateSettings{Settings: s}); !r.Changed {
		t.Error("nothing changed")
	}
	if r := must(t, c, UpdateSettings{Settings: s}); r.Changed {
		t.Error("the same settings changed something")
	}
	refused(t, c, UpdateSettings{Settings: Settings{DefaultPartitions: MaxPartitionsPerTopic + 1}}, CodeInvalidSettings)
	refused(t, c, UpdateSettings{Settings: Settings{DefaultReplicationFactor: MaxReplicationFactor + 1}}, CodeInvalidSettings)
	topic := must(t, c, CreateTopic{Name: "t"}).Topic
	if len(topic.Partitions) != 5 || topic.ReplicationFactor != 1 || len(c.Shards()) != 4 {
		t.Errorf("topic %+v in %d shards", topic, len(c.Shards()))
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	c := cluster(t, 0, Settings{})
	refused(t, c, AddKey{Secret: []byte("short")}, CodeInvalidKey)
	if r := must(t, c, AddKey{At: 9, Secret: secret(2)}); r.KeyID != 2 || !r.Changed {
		t.Errorf("added %+v", r)
	}
	if r := must(t, c, AddKey{Secret: secret(2)}); r.KeyID != 2 || r.Changed {
		t.Errorf("added again %+v", r)
	}
	if key, _ := c.ActiveKey(); key.ID != 1 {
		t.Errorf("an added key signs before it is activated: %d", key.ID)
	}
	refused(t, c, RemoveKey{ID: 1}, CodeKeyInUse)
	refused(t, c, ActivateKey{ID: 3}, CodeUnknownKey)
	refused(t, c, RemoveKey{ID: 3}, CodeUnknownKey)
	must(t, c, ActivateKey{ID: 2})
	if r := must(t, c, ActivateKey{ID: 2}); r.Changed {
		t.Error("activating the active key changed something")
	}
	before := c.Keys()
	must(t, c, RemoveKey{ID: 1})
	if len(before) != 2 || before[0].ID != 1 {
		t.Error("what a query returned was changed")
	}
	if _, ok := c.Key(1); ok || len(c.Keys()) != 1 {
		t.Error("the key is still there")
	}
	// A removed key's id is not handed out again, even to its own secret.
	if r := must(t, c, AddKey{Secret: secret(1)}); r.KeyID != 3 {
		t.Errorf("id %d", r.KeyID)
	}
	for i := byte(10); len(c.Keys()) < MaxKeys; i++ {
		must(t, c, AddKey{Secret: secret(i)})
	}
	refused(t, c, AddKey{Secret: secret(99)}, CodeLimitExceeded)
}

func TestRegisterNode(t *testing.T) {
	t.Parallel()
	c := cluster(t, 0, Settings{})
	first := node(3)
	first.At = 10
	if r := must(t, c, first); !r.Changed || r.Node != (Node{3, "client:1", "peer:1", "disk", 10, false}) {
		t.Errorf("registered %+v", r.Node)
	}
	first.At = 20
	if r := must(t, c, first); r.Changed {
		t.Error("the same again changed something")
	}
	first.PeerAddress = "elsewhere:1"
	if r := must(t, c, first); !r.Changed || r.Node.PeerAddress != "elsewhere:1" || r.Node.RegisteredAt != 10 {
		t.Errorf("moved %+v", r.Node)
	}
	wiped := first
	wiped.Instance = "another disk"
	if r := refused(t, c, wiped, CodeNodeMismatch); r.Node.Instance != "disk" {
		t.Errorf("the refusal tells %+v", r.Node)
	}
	long := strings.Repeat("x", 256)
	for _, edit := range []func(*RegisterNode){
		func(r *RegisterNode) { r.ID = 0 },
		func(r *RegisterNode) { r.ClientAddress = "" },
		func(r *RegisterNode) { r.PeerAddress = "" },
		func(r *RegisterNode) { r.Instance = "" },
		func(r *RegisterNode) { r.ClientAddress = long },
		func(r *RegisterNode) { r.PeerAddress = long },
		func(r *RegisterNode) { r.Instance = long },
	} {
		bad := node(4)
		edit(&bad)
		refused(t, c, bad, CodeInvalidNode)
	}
	must(t, c, node(1))
	if ns := c.Nodes(); len(ns) != 2 || ns[0].ID != 1 || ns[1].ID != 3 {
		t.Errorf("nodes %+v", ns)
	}
	must(t, c, CreateTopic{Name: "t", ReplicationFactor: 1, Nodes: []uint64{1}})
	if r := refused(t, c, UnregisterNode{ID: 1}, CodeNodeInUse); r.Have != 1 {
		t.Errorf("shards on the node: %d", r.Have)
	}
	refused(t, c, UnregisterNode{ID: 9}, CodeUnknownNode)
	must(t, c, UnregisterNode{ID: 3})
	if _, ok := c.Node(3); ok {
		t.Error("the node is still there")
	}
	for id := uint64(10); len(c.Nodes()) < MaxNodes; id++ {
		c.Apply(node(id))
	}
	refused(t, c, node(5), CodeLimitExceeded)
}

func TestValidTopicName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "A.b_c-9": true, "...": true, strings.Repeat("x", 249): true,
		"": false, ".": false, "..": false, strings.Repeat("x", 250): false,
		"a b": false, "a/b": false, "ä": false, "a\x00": false,
	} {
		if ValidTopicName(name) != want {
			t.Errorf("ValidTopicName(%q) = %v", name, !want)
		}
	}
}

func TestCreateTopic(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{})
	r := must(t, c, CreateTopic{At: 50, Name: "orders", Partitions: 4, ReplicationFactor: 3})
	want := Topic{ID: 1, Name: "orders", ReplicationFactor: 3, CreatedAt: 50, Partitions: []uint64{1, 2, 3, 4}}
	if !reflect.DeepEqual(r.Topic, want) {
		t.Errorf("topic %+v, want %+v", r.Topic, want)
	}
	wantShards := []Shard{
		{ID: 2, Replicas: []uint64{1, 2, 3}, Version: c.Version()},
		{ID: 3, Replicas: []uint64{1, 2, 3}, Version: c.Version()},
		{ID: 4, Replicas: []uint64{1, 2, 3}, Version: c.Version()},
	}
	if got := c.Shards(); !reflect.DeepEqual(got, wantShards) {
		t.Errorf("shards %+v, want %+v", got, wantShards)
	}
	if p, ok := c.Resolve("orders", 3); !ok || p != (Partition{ID: 4, TopicID: 1, Index: 3, ShardID: 2}) {
		t.Errorf("partition 3 is %+v", p)
	}
	if _, ok := c.Resolve("orders", 4); ok {
		t.Error("there is a partition too many")
	}
	if _, ok := c.Resolve("other", 0); ok {
		t.Error("a partition of no topic")
	}
	if !c.HasPartition(2, 4) || c.HasPartition(3, 4) || c.HasPartition(2, 5) || !c.HasShard(4) || c.HasShard(1) {
		t.Error("HasPartition or HasShard is wrong")
	}
	if r := refused(t, c, CreateTopic{Name: "orders"}, CodeTopicExists); r.Topic.ID != 1 {
		t.Errorf("the topic that exists is %+v", r.Topic)
	}
	refused(t, c, CreateTopic{Name: "a b"}, CodeInvalidTopicName)
	if r := refused(t, c, CreateTopic{Name: "t", ReplicationFactor: 4}, CodeInsufficientNodes); r.Need != 4 || r.Have != 3 {
		t.Errorf("need %d, have %d", r.Need, r.Have)
	}
	if r := refused(t, c, CreateTopic{Name: "t", ReplicationFactor: 3, Nodes: []uint64{1, 3, 3, 77}}, CodeInsufficientNodes); r.Have != 2 {
		t.Errorf("have %d usable nodes", r.Have)
	}
	refused(t, c, CreateTopic{Name: "t", ReplicationFactor: 10}, CodeInvalidReplicationFactor)
	refused(t, c, CreateTopic{Name: "t", ReplicationFactor: 1 << 31}, CodeInvalidReplicationFactor)
	refused(t, c, CreateTopic{Name: "t", Partitions: 10_001}, CodeInvalidPartitions)
	refused(t, c, CreateTopic{Name: "t", Partitions: 1<<32 - 1}, CodeInvalidPartitions)
	refused(t, cluster(t, 0, Settings{}), CreateTopic{Name: "t"}, CodeInsufficientNodes)
}

func TestDefaultReplicationFactorFollowsTheNodes(t *testing.T) {
	t.Parallel()
	for nodes, want := range map[uint64]uint32{1: 1, 2: 2, 3: 3, 5: 3} {
		c := cluster(t, nodes, Settings{})
		if got := must(t, c, CreateTopic{Name: "t"}).Topic.ReplicationFactor; got != want {
			t.Errorf("%d nodes: %d replicas, want %d", nodes, got, want)
		}
	}
}

func TestCreatePartitions(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{})
	must(t, c, CreateTopic{Name: "t", Partitions: 2, ReplicationFactor: 1})
	before, _ := c.Topic("t")
	refused(t, c, CreatePartitions{Name: "none", Total: 3}, CodeUnknownTopic)
	for _, total := range []uint32{0, 1, 2} {
		if r := refused(t, c, CreatePartitions{Name: "t", Total: total}, CodeInvalidPartitions); r.Have != 2 || r.Topic.ID != 1 {
			t.Errorf("refusal %+v", r)
		}
	}
	refused(t, c, CreatePartitions{Name: "t", Total: 10_001}, CodeInvalidPartitions)
	r := must(t, c, CreatePartitions{Name: "t", Total: 6})
	if !slices.Equal(r.Topic.Partitions, []uint64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("partitions %v", r.Topic.Partitions)
	}
	if !slices.Equal(before.Partitions, []uint64{1, 2}) {
		t.Error("what a query returned was changed")
	}
	for _, h := range []uint64{2, 3, 4} {
		if hosted, _ := c.Hosted(h); len(hosted.Partitions) != 2 {
			t.Errorf("shard %d hosts %+v", h, hosted.Partitions)
		}
	}
}

func TestDeleteTopic(t *testing.T) {
	t.Parallel()
	c := cluster(t, 2, Settings{})
	must(t, c, CreateTopic{Name: "a", Partitions: 3, ReplicationFactor: 1})
	must(t, c, CreateTopic{Name: "b", Partitions: 1, ReplicationFactor: 1})
	shard, _ := c.Shard(3)
	r := must(t, c, DeleteTopic{Name: "a"})
	want := []ShardPartitions{{2, []uint64{1, 3}}, {3, []uint64{2}}}
	if !reflect.DeepEqual(r.Removed, want) || r.Topic.ID != 1 {
		t.Errorf("removed %+v of %+v, want %+v", r.Removed, r.Topic, want)
	}
	if _, ok := c.Partition(1); ok || c.HasPartition(2, 1) || c.PartitionCount() != 1 || c.TopicCount() != 1 {
		t.Error("something is left of the topic")
	}
	if after, _ := c.Shard(3); after.Version != c.Version() || after.Version == shard.Version {
		t.Errorf("shard 3 is of version %d", after.Version)
	}
	refused(t, c, DeleteTopic{Name: "a"}, CodeUnknownTopic)
	// Its namesake is another topic with other partitions.
	if again := must(t, c, CreateTopic{Name: "a", Partitions: 1, ReplicationFactor: 1}).Topic; again.ID != 3 || again.Partitions[0] != 5 {
		t.Errorf("the namesake is %+v", again)
	}
}

// A request that is repeated, or comes late, never hits the next topic of the
// name.
func TestDeleteTopicByID(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	old := must(t, c, CreateTopic{Name: "a"}).Topic
	other := must(t, c, CreateTopic{Name: "b"}).Topic
	refused(t, c, DeleteTopic{Name: "a", ID: other.ID}, CodeUnknownTopic)
	refused(t, c, DeleteTopic{Name: "a", ID: other.ID + 1}, CodeUnknownTopic) // never handed out
	r := must(t, c, DeleteTopic{Name: "a", ID: old.ID})
	if r.Topic.ID != old.ID || len(r.Removed) != 1 {
		t.Fatalf("%+v", r)
	}
	next := must(t, c, CreateTopic{Name: "a"}).Topic
	if next.ID == old.ID || next.Partitions[0] == old.Partitions[0] {
		t.Fatalf("%+v after %+v", next, old)
	}
	for _, late := range []DeleteTopic{{Name: "a", ID: old.ID}, {ID: old.ID}} {
		if r := c.Apply(late); r.Code != CodeOK || r.Changed || len(r.Removed) > 0 {
			t.Fatalf("%+v", r)
		}
	}
	if now, ok := c.Topic("a"); !ok || now.ID != next.ID {
		t.Fatalf("%+v", now)
	}
	must(t, c, DeleteTopic{ID: next.ID})
}

// What is not asked for by the policy does not reach the nodes.
func TestCleanupPolicy(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{ShardsPerNode: 1, DefaultPartitions: 1})
	keep := Retention{Millis: 10}
	topic := must(t, c, CreateTopic{Name: "a", Retention: keep, Cleanup: Cleanup{Policy: PolicyCompact, MinLag: 5}}).Topic
	hosted := func() HostedPartition { return c.ShardsOf(1)[0].Partitions[0] }
	if p := hosted(); p.Retention != (Retention{}) || p.Cleanup != (Cleanup{PolicyCompact, 5, DefaultDeleteRetention}) {
		t.Errorf("compact: %+v", p)
	}
	must(t, c, AlterTopic{TopicID: topic.ID, SetPolicy: true, SetDeleteRetention: true, Cleanup: Cleanup{PolicyCompactDelete, 9, 7}})
	if p := hosted(); p.Retention != keep || p.Cleanup != (Cleanup{PolicyCompactDelete, 5, 7}) {
		t.Errorf("compact,delete: %+v", p)
	}
	version := c.Version()
	if r := must(t, c, AlterTopic{TopicID: topic.ID, SetPolicy: true, Cleanup: Cleanup{Policy: PolicyCompactDelete}}); r.Changed || c.Version() != version {
		t.Errorf("what is so already: %+v", r)
	}
	must(t, c, AlterTopic{TopicID: topic.ID, SetPolicy: true})
	if p := hosted(); p.Retention != keep || p.Cleanup != (Cleanup{}) {
		t.Errorf("delete: %+v", p)
	}
	for _, bad := range []Cleanup{{Policy: 3}, {MinLag: MaxRetention + 1}, {DeleteRetention: MaxRetention + 1}} {
		refused(t, c, CreateTopic{Name: "b", Cleanup: bad}, CodeInvalidRetention)
		refused(t, c, AlterTopic{TopicID: topic.ID, SetPolicy: true, SetMinLag: true, SetDeleteRetention: true, Cleanup: bad}, CodeInvalidRetention)
	}
}

func TestAlterTopic(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	topic := must(t, c, CreateTopic{Name: "a", Retention: Retention{Millis: 10, Bytes: 20}}).Topic
	refused(t, c, CreateTopic{Name: "b", Retention: Retention{Millis: MaxRetention + 1}}, CodeInvalidRetention)
	refused(t, c, AlterTopic{TopicID: 9}, CodeUnknownTopic)
	refused(t, c, AlterTopic{TopicID: topic.ID, SetBytes: true, Retention: Retention{Bytes: MaxRetention + 1}}, CodeInvalidRetention)

	first := AlterTopic{TopicID: topic.ID, SetMillis: true, Retention: Retention{Millis: 30, Bytes: 99}, CheckVersion: true}
	now := must(t, c, first).Topic
	if now.Retention != (Retention{30, 20}) || now.ConfigVersion != 1 {
		t.Fatalf("%+v", now)
	}
	h := c.ShardsOf(1)
	if h[0].Partitions[0].Retention != now.Retention || h[0].Version != c.Version() {
		t.Fatalf("%+v", h)
	}
	if r := c.Apply(first); r.Code != CodeOK || r.Changed {
		t.Fatalf("a repetition: %+v", r)
	}
	must(t, c, AlterTopic{TopicID: topic.ID, SetMillis: true, SetBytes: true}) // for ever
	if r := refused(t, c, first, CodeTopicChanged); r.Have != 2 || r.Topic.Retention != (Retention{}) {
		t.Fatalf("a late copy: %+v", r)
	}
}

func TestDrainAndRemoveShard(t *testing.T) {
	t.Parallel()
	c := cluster(t, 2, Settings{})
	must(t, c, CreateTopic{Name: "a", Partitions: 2, ReplicationFactor: 1})
	refused(t, c, DrainShard{ID: 9}, CodeUnknownShard)
	refused(t, c, RemoveShard{ID: 9}, CodeUnknownShard)
	refused(t, c, RemoveShard{ID: 2}, CodeShardInUse)
	must(t, c, DrainShard{ID: 2})
	if r := must(t, c, DrainShard{ID: 2}); r.Changed {
		t.Error("draining twice changed something")
	}
	if s, _ := c.Shard(2); s.State != ShardDraining || s.Version != c.Version() {
		t.Errorf("shard %+v", s)
	}
	if r := refused(t, c, RemoveShard{ID: 2}, CodeShardInUse); r.Have != 1 {
		t.Errorf("partitions in the shard: %d", r.Have)
	}
	// New partitions go elsewhere, to a new shard on the node that lost one.
	must(t, c, CreateTopic{Name: "b", Partitions: 4, ReplicationFactor: 1})
	if h, _ := c.Hosted(2); len(h.Partitions) != 1 {
		t.Errorf("a draining shard got partitions: %+v", h.Partitions)
	}
	must(t, c, DeleteTopic{Name: "a"})
	must(t, c, RemoveShard{ID: 2})
	if c.HasShard(2) {
		t.Error("the shard is still there")
	}
	must(t, c, UpdateSettings{Settings: Settings{ShardsPerNode: 3}})
	must(t, c, CreateTopic{Name: "c", ReplicationFactor: 1})
	if c.HasShard(2) {
		t.Error("a shard id was handed out twice")
	}
}

func TestShardsOf(t *testing.T) {
	t.Parallel()
	c := cluster(t, 2, Settings{})
	must(t, c, CreateTopic{Name: "a", Partitions: 3, ReplicationFactor: 1})
	got := c.ShardsOf(1)
	want := []HostedShard{{Shard: Shard{ID: 2, Replicas: []uint64{1}, Version: c.Version()}, Partitions: []HostedPartition{
		{ID: 1, TopicID: 1, TopicName: "a", Index: 0}, {ID: 3, TopicID: 1, TopicName: "a", Index: 2},
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("node 1 hosts %+v, want %+v", got, want)
	}
	if c.ShardsOf(9) != nil {
		t.Error("an unknown node hosts something")
	}
	if _, ok := c.Hosted(99); ok {
		t.Error("an unknown shard is hosted")
	}
	version := got[0].Version
	must(t, c, node(3)) // not the shard's business
	if h, _ := c.Hosted(2); h.Version != version {
		t.Errorf("version %d after %d", h.Version, version)
	}
}

func TestTopicsPaging(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	for _, name := range []string{"c", "a", "d", "b"} {
		must(t, c, CreateTopic{Name: name})
	}
	var names []string
	after := ""
	for {
		page, more := c.Topics(after, 3)
		for _, topic := range page {
			names = append(names, topic.Name)
		}
		if !more {
			break
		}
		after = page[len(page)-1].Name
	}
	if !slices.Equal(names, []string{"a", "b", "c", "d"}) {
		t.Errorf("topics %v", names)
	}
	if page, more := c.Topics("bb", 1); len(page) != 1 || page[0].Name != "c" || !more {
		t.Errorf("from between: %+v, %v", page, more)
	}
	if page, more := c.Topics("", -1); len(page) != 0 || !more {
		t.Errorf("nothing asked: %+v, %v", page, more)
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	must(t, c, CreateTopic{At: 100, Name: "a"})
	if got := must(t, c, CreateTopic{At: 50, Name: "b"}).Topic.CreatedAt; got != 100 || c.Now() != 100 {
		t.Errorf("created at %d, now %d", got, c.Now())
	}
}

func TestCodesHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range Codes() {
		if c.String() == "" || seen[c.String()] {
			t.Errorf("code %d is called %q", c, c.String())
		}
		seen[c.String()] = true
	}
	if codeEnd.String() != "CODE_31" {
		t.Errorf("an unknown code is called %v", codeEnd)
	}
}
