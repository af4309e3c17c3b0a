package catalog

func (c *Catalog) drainShard(cmd DrainShard) Result {
	s, ok := c.shards[cmd.ID]
	if !ok {
		return refuse(CodeUnknownShard)
	}
	if s.State == ShardDraining {
		return Result{}
	}
	s.State = ShardDraining
	s.Version = c.version + 1
	c.shards[s.ID] = s
	return Result{Changed: true}
}

// removeShard asks for draining first, so that an empty shard cannot be
// removed between a leader's plan to use it and a command that does.
func (c *Catalog) removeShard(cmd RemoveShard) Result {
	s, ok := c.shards[cmd.ID]
	switch {
	case !ok:
		return refuse(CodeUnknownShard)
	case s.State != ShardDraining || len(c.byShard[cmd.ID]) > 0:
		return refuseNumbers(CodeShardInUse, 0, len(c.byShard[cmd.ID]))
	}
	delete(c.shards, cmd.ID)
	delete(c.byShard, cmd.ID)
	return Result{Changed: true}
}
