package catalog

import (
	"maps"
	"slices"
)

func (c *Catalog) registerNode(cmd RegisterNode) Result {
	if !validNode(cmd) {
		return refuse(CodeInvalidNode)
	}
	old, known := c.nodes[cmd.ID]
	switch {
	case !known && cmd.Known:
		return refuse(CodeNodeRemoved)
	case known && old.Instance == "" && cmd.Known:
		// Whatever directory this is, it is one that was lost.
		return refuse(CodeNodeRemoved)
	case known && old.Instance != "" && old.Instance != cmd.Instance:
		return Result{Code: CodeNodeMismatch, Node: old}
	case !known && len(c.nodes) >= MaxNodes:
		return refuseNumbers(CodeLimitExceeded, len(c.nodes)+1, MaxNodes)
	}
	node := Node{
		ID:            cmd.ID,
		ClientAddress: cmd.ClientAddress,
		PeerAddress:   cmd.PeerAddress,
		Instance:      cmd.Instance,
		RegisteredAt:  c.now,
	}
	if known {
		node.RegisteredAt, node.Draining = old.RegisteredAt, old.Draining
	}
	c.nodes[cmd.ID] = node
	return Result{Changed: node != old, Node: node}
}

func validNode(cmd RegisterNode) bool {
	return cmd.ID > 0 &&
		cmd.ClientAddress != "" && len(cmd.ClientAddress) <= MaxAddressBytes &&
		cmd.PeerAddress != "" && len(cmd.PeerAddress) <= MaxAddressBytes &&
		cmd.Instance != "" && len(cmd.Instance) <= MaxInstanceBytes
}

// means reports whether a command that names a data directory is about the node as it
// is: a late copy of one is not to hit what has the same id now.
func means(instance string, n Node) bool { return instance == "" || instance == n.Instance }

// unregisterNode only forgets a node that hosts nothing and is to host nothing. After
// that even a new data directory under the same id hurts nobody: no shard lists it as
// a voter, and in a shard that it gets it has a new life.
func (c *Catalog) unregisterNode(cmd UnregisterNode) Result {
	node, ok := c.nodes[cmd.ID]
	if !ok || !means(cmd.Instance, node) {
		return refuse(CodeUnknownNode)
	}
	held := 0
	for _, s := range c.shards { // counted: the order does not matter
		if slices.Contains(s.Replicas, cmd.ID) || s.Move.Add == cmd.ID {
			held++
		}
	}
	if held > 0 {
		return refuseNumbers(CodeNodeInUse, 0, held)
	}
	delete(c.nodes, cmd.ID)
	return Result{Changed: true, Node: node}
}

// drainNode refuses to begin what can never be done: every shard of the node needs
// another active node that is none of its replicas.
func (c *Catalog) drainNode(cmd DrainNode) Result {
	node, ok := c.nodes[cmd.ID]
	switch {
	case !ok:
		return refuse(CodeUnknownNode)
	case node.Draining == !cmd.Undo:
		return Result{Node: node}
	}
	if !cmd.Undo {
		active := slices.DeleteFunc(c.usableNodes(nil), func(id uint64) bool { return id == cmd.ID })
		for _, s := range c.Shards() {
			if slices.Contains(s.Replicas, cmd.ID) && len(s.Replicas) > len(active) {
				return refuseNumbers(CodeInsufficientNodes, len(s.Replicas), len(active))
			}
		}
	}
	for id, s := range c.shards { // each by itself: the order does not matter
		// What was to come here has no use any more.
		if !cmd.Undo && s.Move.Add == cmd.ID && !s.Move.Cancelled {
			s.Move.Cancelled, s.Version = true, c.version+1
			c.shards[id] = s
		}
	}
	node.Draining = !cmd.Undo
	c.nodes[cmd.ID] = node
	return Result{Changed: true, Node: node}
}

// loseDisk takes a node's data directory away. That of a node without replicas, too,
// may be lost.
func (c *Catalog) loseDisk(cmd LoseDisk) Result {
	node, ok := c.nodes[cmd.ID]
	switch {
	case !ok:
		return refuse(CodeUnknownNode)
	case node.Instance == "" || !means(cmd.Instance, node):
		return Result{Node: node} // lost already
	}
	lost := map[uint64]Shard{}
	for _, s := range c.Shards() {
		replica, adds := slices.Contains(s.Replicas, cmd.ID), s.Move.Add == cmd.ID
		if !replica && !adds {
			continue
		}
		s = s.losing(cmd.ID, replica, adds)
		if need, ok := s.survives(); !ok {
			return refuseNumbers(CodeNoMajority, need, int(s.ID))
		}
		s.Version = c.version + 1
		lost[s.ID] = s
	}
	maps.Copy(c.shards, lost)
	node.Instance = ""
	c.nodes[cmd.ID] = node
	return Result{Changed: true, Node: node}
}

// losing returns the shard without the copies of a node: the one that it has as one of
// Replicas, and the one that a move has made there.
func (s Shard) losing(node uint64, replica, adds bool) Shard {
	if replica && !slices.Contains(s.Lost, node) {
		s.Lost = slices.Sorted(slices.Values(append(slices.Clone(s.Lost), node)))
	}
	// What a move has copied there is gone as well, and it may be a voter by now.
	if adds {
		s.Move.Cancelled, s.Move.AddLost = true, true
	}
	return s
}

// loseReplica takes one copy away. A late command names a life that is over.
func (c *Catalog) loseReplica(cmd LoseReplica) Result {
	s, ok := c.shards[cmd.Shard]
	if !ok {
		return Result{}
	}
	lost := Replica{cmd.Node, cmd.Life}
	replica := slices.Contains(s.Members(), lost) && !slices.Contains(s.Lost, cmd.Node)
	adds := s.Move.Active() && lost == Replica{s.Move.Add, s.Move.AddLife} && !s.Move.AddLost
	if !replica && !adds {
		return Result{Shard: s}
	}
	s = s.losing(cmd.Node, replica, adds)
	if need, ok := s.survives(); !ok {
		return refuseNumbers(CodeNoMajority, need, int(s.ID))
	}
	s.Version = c.version + 1
	c.shards[s.ID] = s
	return Result{Changed: true, Shard: s}
}

// survives reports whether the copies that are left of a shard are a majority of its
// members, with or without its move; or how many are lost.
func (s Shard) survives() (lost int, ok bool) {
	lost = len(s.Lost)
	if s.Move.Active() {
		lost = max(lost, len(s.moved().Lost))
	}
	return lost, lost <= (len(s.Replicas)-1)/2
}
