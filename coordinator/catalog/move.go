package catalog

import (
	"slices"
)

func (c *Catalog) moveReplica(cmd MoveReplica) Result {
	s, ok := c.shards[cmd.Shard]
	if !ok {
		return refuse(CodeUnknownShard)
	}
	to, ok := c.nodes[cmd.To]
	if !ok {
		return refuse(CodeUnknownNode)
	}
	again := s.Move.Add == cmd.To && s.Move.Remove == cmd.From && !s.Move.Cancelled
	inPlace := cmd.From == cmd.To && slices.Contains(s.Lost, cmd.From)
	switch {
	case again:
		return Result{Shard: s}
	case s.Move.Active():
		return Result{Code: CodeMoveUnderWay, Shard: s}
	case to.Draining:
		return refuse(CodeNodeDraining)
	case !slices.Contains(s.Replicas, cmd.From), slices.Contains(s.Replicas, cmd.To) && !inPlace:
		return Result{Code: CodeInvalidMove, Shard: s}
	}
	from, into := c.moves()
	switch {
	case from[cmd.From] >= MaxMovesPerNode:
		return refuseNumbers(CodeTooManyMoves, int(cmd.From), MaxMovesPerNode)
	case into[cmd.To] >= MaxMovesPerNode:
		return refuseNumbers(CodeTooManyMoves, int(cmd.To), MaxMovesPerNode)
	}
	s.LastLife++
	s.Move = Move{Add: cmd.To, AddLife: s.LastLife, Remove: cmd.From, StartedAt: c.now}
	s.Version = c.version + 1
	c.shards[s.ID] = s
	return Result{Changed: true, Shard: s}
}

// moves counts the moves under way by the node that they take from and copy to.
func (c *Catalog) moves() (from, into map[uint64]int) {
	from, into = map[uint64]int{}, map[uint64]int{}
	for _, s := range c.shards { // counted: the order does not matter
		if s.Move.Active() {
			from[s.Move.Remove]++
			into[s.Move.Add]++
		}
	}
	return from, into
}

// cancelMove only asks: the group may have taken the new replica already.
func (c *Catalog) cancelMove(cmd CancelMove) Result {
	s, ok := c.shards[cmd.Shard]
	switch {
	case !ok:
		return refuse(CodeUnknownShard)
	case !s.Move.Active() || s.Move.Cancelled:
		return Result{Shard: s}
	}
	s.Move.Cancelled = true
	s.Version = c.version + 1
	c.shards[s.ID] = s
	return Result{Changed: true, Shard: s}
}

// reportMembers ends a move. Its end is known by the members themselves, which no
// other move can have, for their lives are used once; a report from before is known
// by its index. That a cancelled move is undone is another matter: the group looks
// as if nothing had been done yet. There the report must come from a log that has
// the cancellation: a leader acts on no version below that of its log, so nobody
// will add the replica after that.
func (c *Catalog) reportMembers(cmd ReportMembers) Result {
	next, code := c.judge(cmd)
	if code != CodeOK || !next.ended {
		return Result{Code: code, Shard: next.Shard}
	}
	next.Version = c.version + 1
	c.shards[next.ID] = next.Shard
	return Result{Changed: true, Shard: next.Shard}
}

// Ends reports whether a report would end a move.
func (c *Catalog) Ends(cmd ReportMembers) bool {
	next, _ := c.judge(cmd)
	return next.ended
}

// judged is a shard after a report, which may have ended its move.
type judged struct {
	Shard
	ended bool
}

func (c *Catalog) judge(cmd ReportMembers) (judged, Code) {
	s, ok := c.shards[cmd.Shard]
	switch {
	case !ok:
		return judged{}, CodeUnknownShard
	case !s.Move.Active() || cmd.Index <= s.MembersIndex:
		return judged{Shard: s}, CodeOK
	}
	next := s.moved()
	switch {
	case slices.Equal(cmd.Members, next.Members()):
		next.MembersIndex = cmd.Index
		return judged{next, true}, CodeOK
	case !slices.Equal(cmd.Members, s.Members()):
		return judged{Shard: s}, CodeUnexpectedMembers
	case !s.Move.Cancelled || cmd.Seen < s.Version:
		return judged{Shard: s}, CodeOK
	}
	s.Move = Move{}
	return judged{s, true}, CodeOK
}

// moved returns the shard as it is when its move is done.
func (s Shard) moved() Shard {
	m := s.Move
	lives := map[uint64]uint32{m.Add: m.AddLife}
	nodes := []uint64{m.Add}
	for _, n := range s.Replicas {
		if n == m.Remove {
			continue
		}
		nodes = append(nodes, n)
		if life := s.Lives[n]; life > 0 {
			lives[n] = life
		}
	}
	slices.Sort(nodes)
	lost := slices.DeleteFunc(slices.Clone(s.Lost), func(n uint64) bool { return n == m.Remove })
	if m.AddLost {
		lost = append(lost, m.Add)
	}
	if slices.Sort(lost); len(lost) == 0 {
		lost = nil
	}
	s.Replicas, s.Lives, s.Lost, s.Move = nodes, lives, lost, Move{}
	return s
}

// rebalance only notes the wish: a leader reads the moves off the state.
func (c *Catalog) rebalance(Rebalance) Result {
	if c.balancing != 0 {
		return Result{}
	}
	c.balancing = c.version + 1
	return Result{Changed: true}
}

func (c *Catalog) endRebalance(cmd EndRebalance) Result {
	if c.balancing == 0 || c.balancing != cmd.Since {
		return Result{}
	}
	c.balancing = 0
	return Result{Changed: true}
}
