package catalog

import (
	"errors"
	"maps"
	"slices"
	"strconv"
)

// Check verifies the invariants of the state. An error is a bug of this
// package or a snapshot that was not written by it.
func (c *Catalog) Check() error {
	return errors.Join(c.checkCluster(), c.checkNodes(), c.checkShards(), c.checkTopics(), c.checkACLs(), c.checkDerived())
}

func broken(what string, id uint64) error {
	return errors.New("catalog: " + what + " (" + strconv.FormatUint(id, 10) + ")")
}

func (c *Catalog) checkCluster() error {
	if c.balancing > c.version {
		return broken("rebalance asked for in the future", c.balancing)
	}
	if c.clusterID == "" {
		if len(c.keys)+len(c.nodes)+len(c.topics)+len(c.parts)+len(c.shards)+len(c.acls) > 0 || c.activeKey != 0 || c.settings != (Settings{}) {
			return errors.New("catalog: state before InitCluster")
		}
		return nil
	}
	if !validName(c.clusterID, MaxClusterIDBytes) || !validSettings(c.settings) {
		return errors.New("catalog: cluster id or settings break their limits")
	}
	// Where no key is active, a leader has yet to make one: backups have none.
	if len(c.keys) > MaxKeys || c.activeKey != 0 && c.keyIndex(c.activeKey) < 0 {
		return errors.New("catalog: too many keys, or the active key is missing")
	}
	var last uint32
	for _, k := range c.keys {
		if k.ID <= last || k.ID > c.lastKey || !validSecret(k.Secret) {
			return broken("key out of order or invalid", uint64(k.ID))
		}
		last = k.ID
	}
	return nil
}

func (c *Catalog) checkNodes() error {
	if len(c.nodes) > MaxNodes {
		return errors.New("catalog: too many nodes")
	}
	for _, n := range c.Nodes() {
		r := RegisterNode{ID: n.ID, ClientAddress: n.ClientAddress, PeerAddress: n.PeerAddress, Instance: n.Instance}
		if r.Instance == "" {
			r.Instance = "lost"
		}
		if !validNode(r) {
			return broken("node breaks its limits", n.ID)
		}
	}
	return nil
}

func (c *Catalog) checkShards() error {
	if c.lastShard < FirstShardID-1 {
		return broken("the next shard would get the coordinator's id", c.lastShard)
	}
	if len(c.shards) > MaxShards {
		return errors.New("catalog: too many shards")
	}
	for _, s := range c.Shards() {
		switch {
		case s.ID < FirstShardID || s.ID > c.lastShard:
			return broken("shard id was never handed out", s.ID)
		case len(s.Replicas) == 0 || len(s.Replicas) > MaxReplicationFactor:
			return broken("shard has too few or too many replicas", s.ID)
		case s.State > ShardDraining:
			return broken("shard state unknown", s.ID)
		case s.Version == 0 || s.Version > c.version:
			return broken("shard version is not one of the past", s.ID)
		}
		for i, n := range s.Replicas {
			if _, ok := c.nodes[n]; !ok || i > 0 && n <= s.Replicas[i-1] {
				return broken("shard replicas unsorted or on unknown nodes", s.ID)
			}
		}
		if err := c.checkMembers(s); err != nil {
			return err
		}
	}
	return nil
}

// checkMembers checks what moves have made, or are to make, of a shard's members.
func (c *Catalog) checkMembers(s Shard) error {
	used := map[uint32]bool{}
	for node, life := range s.Lives { // each by itself: the order does not matter
		if !slices.Contains(s.Replicas, node) || life == 0 || life > s.LastLife || used[life] {
			return broken("a life in a shard was never handed out, or twice", s.ID)
		}
		used[life] = true
	}
	for i, n := range s.Lost {
		if !slices.Contains(s.Replicas, n) || i > 0 && n <= s.Lost[i-1] {
			return broken("lost replicas unsorted or not the shard's", s.ID)
		}
	}
	m := s.Move
	if !m.Active() {
		if m != (Move{}) {
			return broken("half a move of a shard", s.ID)
		}
		return nil
	}
	_, known := c.nodes[m.Add]
	replica := slices.Contains(s.Replicas, m.Add)
	switch {
	case !known || !slices.Contains(s.Replicas, m.Remove):
		return broken("move of a shard between nodes that are not there", s.ID)
	case replica && (m.Add != m.Remove || !slices.Contains(s.Lost, m.Add)):
		return broken("move of a shard to a node that has it", s.ID)
	case m.AddLife == 0 || m.AddLife > s.LastLife || used[m.AddLife]:
		return broken("move of a shard with a life that was never handed out, or twice", s.ID)
	}
	return nil
}

func (c *Catalog) checkTopics() error {
	if len(c.topics) > MaxTopics || len(c.parts) > MaxPartitions {
		return errors.New("catalog: too many topics or partitions")
	}
	seen := 0
	for _, id := range slices.Sorted(maps.Keys(c.topics)) {
		t := c.topics[id]
		switch {
		case t.ID != id || id == 0 || id > c.lastTopic:
			return broken("topic id was never handed out", id)
		case !ValidTopicName(t.Name):
			return broken("topic name invalid", id)
		case !t.Retention.valid() || !t.Cleanup.valid():
			return broken("retention of a topic above its limit", id)
		case len(t.Partitions) == 0 || len(t.Partitions) > MaxPartitionsPerTopic:
			return broken("topic has too few or too many partitions", id)
		}
		var last uint64
		for i, pid := range t.Partitions {
			p, ok := c.parts[pid]
			s, placed := c.shards[p.ShardID]
			switch {
			case !ok || p.ID != pid || p.TopicID != id || int(p.Index) != i:
				return broken("partition does not fit its topic", pid)
			case pid <= last || pid > c.lastPartition:
				return broken("partition id was never handed out", pid)
			case !placed || len(s.Replicas) != int(t.ReplicationFactor):
				return broken("partition in no shard of its replication factor", pid)
			}
			last = pid
			seen++
		}
	}
	if seen != len(c.parts) {
		return errors.New("catalog: partitions without a topic")
	}
	return nil
}

// checkDerived compares what is kept for speed with what it is derived from.
func (c *Catalog) checkDerived() error {
	want := Catalog{topics: c.topics, parts: c.parts, topicIDs: map[string]uint64{}, byShard: map[uint64][]uint64{}}
	want.derive()
	if len(want.names) != len(c.topics) {
		return errors.New("catalog: two topics with one name")
	}
	if !maps.Equal(want.topicIDs, c.topicIDs) || !slices.Equal(want.names, c.names) {
		return errors.New("catalog: index of topic names is wrong")
	}
	indexed := 0
	for _, shard := range slices.Sorted(maps.Keys(c.byShard)) {
		if !slices.Equal(c.byShard[shard], want.byShard[shard]) {
			return broken("index of partitions by shard is wrong", shard)
		}
		indexed += len(c.byShard[shard])
	}
	if indexed != len(c.parts) {
		return errors.New("catalog: index of partitions by shard is incomplete")
	}
	return nil
}
