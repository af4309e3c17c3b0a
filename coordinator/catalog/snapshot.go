package catalog

import (
	"maps"
	"slices"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/codec"
)

// snapshotVersion is the first byte of every snapshot. Version 1, the oldest that
// is read, has no retention of topics, version 2 no moves of replicas, and version 3 no
// cleanup of topics and no rules about permissions.
const (
	snapshotVersion       = 4
	oldestSnapshotVersion = 1
)

// Snapshot returns the state as bytes. Equal states give equal bytes.
func (c *Catalog) Snapshot() []byte {
	b := []byte{snapshotVersion}
	b = codec.AppendUvarint(b, c.version)
	b = codec.AppendVarint(b, c.now)
	b = codec.AppendString(b, c.clusterID)
	b = appendSettings(b, c.settings)
	b = codec.AppendUvarint(b, uint64(c.activeKey))
	b = codec.AppendUvarint(b, uint64(c.lastKey))
	b = codec.AppendUvarint(b, c.lastTopic)
	b = codec.AppendUvarint(b, c.lastPartition)
	b = codec.AppendUvarint(b, c.lastShard)
	b = codec.AppendUvarint(b, c.balancing)
	b = codec.AppendUvarint(b, uint64(len(c.keys)))
	for _, k := range c.keys {
		b = codec.AppendUvarint(b, uint64(k.ID))
		b = codec.AppendBytes(b, k.Secret)
		b = codec.AppendVarint(b, k.Created)
	}
	b = codec.AppendUvarint(b, uint64(len(c.nodes)))
	for _, n := range c.Nodes() {
		b = codec.AppendUvarint(b, n.ID)
		b = codec.AppendString(b, n.ClientAddress)
		b = codec.AppendString(b, n.PeerAddress)
		b = codec.AppendString(b, n.Instance)
		b = codec.AppendBool(codec.AppendVarint(b, n.RegisteredAt), n.Draining)
	}
	b = codec.AppendUvarint(b, uint64(len(c.shards)))
	for _, s := range c.Shards() {
		b = codec.AppendUvarint(b, s.ID)
		b = appendIDs(b, s.Replicas)
		b = append(b, byte(s.State))
		b = appendMembers(codec.AppendUvarint(b, s.Version), s)
	}
	b = codec.AppendUvarint(b, uint64(len(c.topics)))
	for _, id := range slices.Sorted(maps.Keys(c.topics)) {
		b = c.appendTopic(b, c.topics[id])
	}
	return appendRules(codec.AppendUvarint(b, c.aclVersion), c.acls)
}

// appendMembers writes what moves have made of a shard, and its move.
func appendMembers(b []byte, s Shard) []byte {
	b = codec.AppendUvarint(b, uint64(len(s.Lives)))
	for _, n := range slices.Sorted(maps.Keys(s.Lives)) {
		b = codec.AppendUvarint(codec.AppendUvarint(b, n), uint64(s.Lives[n]))
	}
	b = codec.AppendUvarint(b, uint64(s.LastLife))
	b = codec.AppendUvarint(b, s.MembersIndex)
	b = appendIDs(b, s.Lost)
	m := s.Move
	if b = codec.AppendBool(b, m.Active()); m.Active() {
		b = codec.AppendUvarint(codec.AppendUvarint(b, m.Add), uint64(m.AddLife))
		b = codec.AppendUvarint(b, m.Remove)
		b = codec.AppendBool(codec.AppendBool(b, m.Cancelled), m.AddLost)
		b = codec.AppendVarint(b, m.StartedAt)
	}
	return b
}

func readMembers(r *codec.Reader, s *Shard) {
	var last uint64
	for range r.Count(MaxReplicationFactor) {
		if s.Lives == nil {
			s.Lives = map[uint64]uint32{}
		}
		n := r.Uvarint()
		ascending(r, &last, n)
		s.Lives[n] = readUint32(r)
	}
	s.LastLife = readUint32(r)
	s.MembersIndex = r.Uvarint()
	s.Lost = readIDs(r)
	if r.Bool() {
		s.Move = Move{
			Add: r.Uvarint(), AddLife: readUint32(r), Remove: r.Uvarint(),
			Cancelled: r.Bool(), AddLost: r.Bool(), StartedAt: r.Varint(),
		}
		if !s.Move.Active() {
			r.Fail(ErrCorrupt)
		}
	}
}

// appendTopic writes a topic with its partitions, in index order.
func (c *Catalog) appendTopic(b []byte, t Topic) []byte {
	b = codec.AppendUvarint(b, t.ID)
	b = codec.AppendString(b, t.Name)
	b = codec.AppendUvarint(b, uint64(t.ReplicationFactor))
	b = codec.AppendVarint(b, t.CreatedAt)
	b = codec.AppendUvarint(appendRetention(b, t.Retention), t.ConfigVersion)
	b = appendCleanup(b, t.Cleanup)
	b = codec.AppendUvarint(b, uint64(len(t.Partitions)))
	for _, id := range t.Partitions {
		b = codec.AppendUvarint(b, id)
		b = codec.AppendUvarint(b, c.parts[id].ShardID)
	}
	return b
}

// Restore replaces the state by the one a snapshot holds. On an error the
// state is as before. The bytes are not referred to afterwards.
func (c *Catalog) Restore(snapshot []byte) error {
	r := codec.NewReader(snapshot)
	version := r.Version("catalogue snapshot", oldestSnapshotVersion, snapshotVersion)
	n := New()
	n.version = r.Uvarint()
	n.now = r.Varint()
	n.clusterID = r.String(MaxClusterIDBytes)
	n.settings = readSettings(r)
	n.activeKey = readUint32(r)
	n.lastKey = readUint32(r)
	n.lastTopic = r.Uvarint()
	n.lastPartition = r.Uvarint()
	n.lastShard = r.Uvarint()
	if version > 2 {
		n.balancing = r.Uvarint()
	}
	for range r.Count(MaxKeys) {
		n.keys = append(n.keys, Key{ID: readUint32(r), Secret: slices.Clone(r.Bytes(MaxKeyBytes)), Created: r.Varint()})
	}
	n.readNodes(r, version)
	n.readShards(r, version)
	n.readTopics(r, version)
	if version > 3 {
		n.aclVersion = r.Uvarint()
		n.acls = readRules(r, acl.MaxRules, acl.MaxPrincipalBytes)
	}
	if err := r.Close(); err != nil {
		return err
	}
	n.derive()
	if err := n.Check(); err != nil {
		return err
	}
	*c = *n
	return nil
}

// ascending fails the reader unless next comes after *last: a canonical
// snapshot is sorted, and a repeated key would be lost in the map.
func ascending(r *codec.Reader, last *uint64, next uint64) {
	if next <= *last {
		r.Fail(ErrCorrupt)
	}
	*last = next
}

func (c *Catalog) readNodes(r *codec.Reader, version byte) {
	var last uint64
	for range r.Count(MaxNodes) {
		n := Node{
			ID:            r.Uvarint(),
			ClientAddress: r.String(MaxAddressBytes),
			PeerAddress:   r.String(MaxAddressBytes),
			Instance:      r.String(MaxInstanceBytes),
			RegisteredAt:  r.Varint(),
		}
		if version > 2 {
			n.Draining = r.Bool()
		}
		ascending(r, &last, n.ID)
		c.nodes[n.ID] = n
	}
}

func (c *Catalog) readShards(r *codec.Reader, version byte) {
	var last uint64
	for range r.Count(MaxShards) {
		s := Shard{ID: r.Uvarint(), Replicas: readIDs(r), State: ShardState(r.Byte()), Version: r.Uvarint()}
		if version > 2 {
			readMembers(r, &s)
		}
		ascending(r, &last, s.ID)
		c.shards[s.ID] = s
	}
}

func (c *Catalog) readTopics(r *codec.Reader, version byte) {
	var last uint64
	for range r.Count(MaxTopics) {
		t := Topic{
			ID:                r.Uvarint(),
			Name:              r.String(MaxTopicNameBytes),
			ReplicationFactor: readUint32(r),
			CreatedAt:         r.Varint(),
		}
		if version > 1 {
			t.Retention, t.ConfigVersion = readRetention(r), r.Uvarint()
		}
		if version > 3 {
			t.Cleanup = readCleanup(r)
		}
		ascending(r, &last, t.ID)
		for i := range r.Count(MaxPartitionsPerTopic) {
			p := Partition{ID: r.Uvarint(), TopicID: t.ID, Index: uint32(i), ShardID: r.Uvarint()}
			if _, twice := c.parts[p.ID]; twice {
				r.Fail(ErrCorrupt)
			}
			t.Partitions = append(t.Partitions, p.ID)
			c.parts[p.ID] = p
		}
		c.topics[t.ID] = t
	}
}

// derive rebuilds what is not in snapshots.
func (c *Catalog) derive() {
	for _, id := range slices.Sorted(maps.Keys(c.topics)) {
		c.topicIDs[c.topics[id].Name] = id
	}
	c.names = slices.Sorted(maps.Keys(c.topicIDs))
	for _, id := range slices.Sorted(maps.Keys(c.parts)) {
		shard := c.parts[id].ShardID
		c.byShard[shard] = append(c.byShard[shard], id)
	}
}
