package catalog

import (
	"maps"
	"slices"
)

// ValidTopicName reports whether name is a topic name by Kafka's rules: 1 to
// 249 characters of [a-zA-Z0-9._-], and not "." or "..".
func ValidTopicName(name string) bool {
	return validName(name, MaxTopicNameBytes) && name != "." && name != ".."
}

func validName(name string, limit int) bool {
	if name == "" || len(name) > limit {
		return false
	}
	for i := range len(name) {
		switch ch := name[i]; {
		case 'a' <= ch && ch <= 'z', 'A' <= ch && ch <= 'Z', '0' <= ch && ch <= '9':
		case ch == '.', ch == '_', ch == '-':
		default:
			return false
		}
	}
	return true
}

// createTopic checks everything before it changes anything: a refused topic
// leaves no shards behind.
func (c *Catalog) createTopic(cmd CreateTopic) Result {
	if !ValidTopicName(cmd.Name) {
		return refuse(CodeInvalidTopicName)
	}
	if !cmd.Retention.valid() || !cmd.Cleanup.valid() {
		return refuse(CodeInvalidRetention)
	}
	if t, ok := c.Topic(cmd.Name); ok {
		return Result{Code: CodeTopicExists, Topic: t}
	}
	if len(c.topics) >= MaxTopics {
		return refuseNumbers(CodeLimitExceeded, len(c.topics)+1, MaxTopics)
	}
	nodes := c.usableNodes(cmd.Nodes)
	count := cmd.Partitions
	if count == 0 {
		count = c.Settings().DefaultPartitions
	}
	rf := cmd.ReplicationFactor
	if rf == 0 {
		rf = c.settings.DefaultReplicationFactor
	}
	if rf == 0 {
		rf = uint32(min(3, max(1, len(nodes))))
	}
	plan, refused, ok := c.planPartitions(0, int(count), int(rf), nodes)
	if !ok {
		return refused
	}
	c.lastTopic++
	t := Topic{ID: c.lastTopic, Name: cmd.Name, ReplicationFactor: rf, CreatedAt: c.now, Retention: cmd.Retention, Cleanup: cmd.Cleanup}
	c.topicIDs[t.Name] = t.ID
	i, _ := slices.BinarySearch(c.names, t.Name)
	c.names = slices.Insert(c.names, i, t.Name)
	return Result{Changed: true, Topic: c.addPartitions(t, plan)}
}

func (c *Catalog) createPartitions(cmd CreatePartitions) Result {
	t, ok := c.Topic(cmd.Name)
	if !ok {
		return refuse(CodeUnknownTopic)
	}
	have := len(t.Partitions)
	if int64(cmd.Total) <= int64(have) {
		r := refuseNumbers(CodeInvalidPartitions, int(cmd.Total), have)
		r.Topic = t
		return r
	}
	nodes := c.usableNodes(cmd.Nodes)
	plan, refused, ok := c.planPartitions(t.ID, int(cmd.Total)-have, int(t.ReplicationFactor), nodes)
	if !ok {
		return refused
	}
	return Result{Changed: true, Topic: c.addPartitions(t, plan)}
}

// addPartitions carries out a plan: new shards first, then the partitions.
func (c *Catalog) addPartitions(t Topic, plan placement) Topic {
	next := c.version + 1 // the version this command will have
	for _, s := range plan.newShards {
		c.lastShard = s.ID
		c.shards[s.ID] = s
	}
	ids := slices.Clone(t.Partitions)
	for _, shard := range plan.shards {
		c.lastPartition++
		p := Partition{
			ID: c.lastPartition, TopicID: t.ID, Index: uint32(len(ids)), ShardID: shard,
		}
		ids = append(ids, p.ID)
		c.parts[p.ID] = p
		c.byShard[shard] = append(c.byShard[shard], p.ID)
		c.touch(shard, next)
	}
	t.Partitions = ids
	c.topics[t.ID] = t
	return t
}

// touch notes that a shard changed in the given version.
func (c *Catalog) touch(shard, version uint64) {
	s := c.shards[shard]
	s.Version = version
	c.shards[shard] = s
}

func (r Retention) valid() bool { return r.Millis <= MaxRetention && r.Bytes <= MaxRetention }

func (c Cleanup) valid() bool {
	return c.Policy <= PolicyCompactDelete && c.MinLag <= MaxRetention && c.DeleteRetention <= MaxRetention
}

func (c Cleanup) withDefaults() Cleanup {
	if c.DeleteRetention == 0 {
		c.DeleteRetention = DefaultDeleteRetention
	}
	return c
}

// alterTopic changes how a topic is kept. Its shards learn it with their new
// version. What is as it was asked for already changes nothing, whatever its
// version: the command is repeated when its answer was lost.
func (c *Catalog) alterTopic(cmd AlterTopic) Result {
	t, ok := c.topics[cmd.TopicID]
	if !ok {
		return refuse(CodeUnknownTopic)
	}
	want, cleanup := t.altered(cmd)
	switch {
	case !want.valid() || !cleanup.valid():
		return refuse(CodeInvalidRetention)
	case want == t.Retention && cleanup == t.Cleanup:
		return Result{Topic: t}
	case cmd.CheckVersion && cmd.Version != t.ConfigVersion:
		r := refuseNumbers(CodeTopicChanged, int(cmd.Version), int(t.ConfigVersion))
		r.Topic = t
		return r
	}
	keeps, compacts := t.hosted()
	t.Retention, t.Cleanup = want, cleanup
	t.ConfigVersion++
	c.topics[t.ID] = t
	if r, k := t.hosted(); r != keeps || k != compacts {
		for _, id := range t.Partitions {
			c.touch(c.parts[id].ShardID, c.version+1)
		}
	}
	return Result{Changed: true, Topic: t}
}

// altered returns how the topic is kept when a command is carried out.
func (t Topic) altered(cmd AlterTopic) (Retention, Cleanup) {
	r, c := t.Retention, t.Cleanup
	if cmd.SetMillis {
		r.Millis = cmd.Retention.Millis
	}
	if cmd.SetBytes {
		r.Bytes = cmd.Retention.Bytes
	}
	if cmd.SetPolicy {
		c.Policy = cmd.Cleanup.Policy
	}
	if cmd.SetMinLag {
		c.MinLag = cmd.Cleanup.MinLag
	}
	if cmd.SetDeleteRetention {
		c.DeleteRetention = cmd.Cleanup.DeleteRetention
	}
	return r, c
}

// topicToDelete finds what the command means. An id that was handed out and is
// not there was deleted: the command is done, and never hits another topic that
// has the name by now.
func (c *Catalog) topicToDelete(cmd DeleteTopic) (t Topic, code Code) {
	if cmd.ID == 0 {
		t, ok := c.Topic(cmd.Name)
		if !ok {
			return Topic{}, CodeUnknownTopic
		}
		return t, CodeOK
	}
	t, ok := c.topics[cmd.ID]
	if cmd.ID > c.lastTopic || ok && cmd.Name != "" && cmd.Name != t.Name {
		return Topic{}, CodeUnknownTopic
	}
	return t, CodeOK
}

// deleteTopic removes the partitions at once: an append that arrives later is
// told that there is no such partition, and a commit that names one is told
// INVALID. The shards learn it with their new version.
func (c *Catalog) deleteTopic(cmd DeleteTopic) Result {
	t, code := c.topicToDelete(cmd)
	if code != CodeOK || t.ID == 0 {
		return refuse(code)
	}
	removed := map[uint64][]uint64{}
	for _, id := range t.Partitions {
		shard := c.parts[id].ShardID
		removed[shard] = append(removed[shard], id)
		delete(c.parts, id)
	}
	result := Result{Changed: true, Topic: t}
	for _, shard := range slices.Sorted(maps.Keys(removed)) {
		c.byShard[shard] = slices.DeleteFunc(c.byShard[shard], func(id uint64) bool {
			_, found := slices.BinarySearch(removed[shard], id)
			return found
		})
		c.touch(shard, c.version+1)
		result.Removed = append(result.Removed, ShardPartitions{Shard: shard, Partitions: removed[shard]})
	}
	delete(c.topics, t.ID)
	delete(c.topicIDs, t.Name)
	i, _ := slices.BinarySearch(c.names, t.Name)
	c.names = slices.Delete(c.names, i, i+1)
	return result
}
