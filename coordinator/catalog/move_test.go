package catalog

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// three returns a catalogue of nodes 1 to n with one topic in three copies on nodes
// 1 to 3, in one shard.
func three(t testing.TB, n uint64) (*Catalog, Shard) {
	t.Helper()
	c := cluster(t, 3, Settings{})
	must(t, c, UpdateSettings{Settings: Settings{ShardsPerNode: 1}})
	must(t, c, CreateTopic{Name: "t", ReplicationFactor: 3, Nodes: []uint64{1, 2, 3}})
	for id := uint64(4); id <= n; id++ {
		must(t, c, node(id))
	}
	return c, c.Shards()[0]
}

func members(nodes ...uint64) []Replica {
	var out []Replica
	for _, n := range nodes {
		out = append(out, Replica{Node: n})
	}
	return out
}

func TestMoveReplica(t *testing.T) {
	t.Parallel()
	c, s := three(t, 5)
	refused(t, c, MoveReplica{Shard: 99, From: 3, To: 4}, CodeUnknownShard)
	refused(t, c, MoveReplica{Shard: s.ID, From: 3, To: 9}, CodeUnknownNode)
	refused(t, c, MoveReplica{Shard: s.ID, From: 4, To: 5}, CodeInvalidMove)
	refused(t, c, MoveReplica{Shard: s.ID, From: 3, To: 2}, CodeInvalidMove)
	refused(t, c, MoveReplica{Shard: s.ID, From: 3, To: 3}, CodeInvalidMove)
	must(t, c, DrainNode{ID: 5})
	refused(t, c, MoveReplica{Shard: s.ID, From: 3, To: 5}, CodeNodeDraining)
	must(t, c, DrainNode{ID: 5, Undo: true})

	r := must(t, c, MoveReplica{At: 70, Shard: s.ID, From: 3, To: 4})
	if want := (Move{Add: 4, AddLife: 1, Remove: 3, StartedAt: 70}); r.Shard.Move != want || r.Shard.Version != c.Version() {
		t.Fatalf("%+v, want %+v", r.Shard, want)
	}
	if r := must(t, c, MoveReplica{Shard: s.ID, From: 3, To: 4}); r.Changed {
		t.Error("a repetition changed something")
	}
	if r := refused(t, c, MoveReplica{Shard: s.ID, From: 3, To: 5}, CodeMoveUnderWay); r.Shard.Move.Add != 4 {
		t.Errorf("the refusal tells %+v", r.Shard.Move)
	}
	// All four have it, and none may delete it.
	for node, life := range map[uint64]uint32{1: 0, 3: 0, 4: 1} {
		now, _ := c.Shard(s.ID)
		if m, ok := now.Member(node); !ok || m != (Replica{node, life}) || !now.Has(m) || c.ShardsOf(node) == nil {
			t.Errorf("node %d is %+v, %v", node, m, ok)
		}
	}
	refused(t, c, UnregisterNode{ID: 4}, CodeNodeInUse)

	done := ReportMembers{Shard: s.ID, Index: 40, Members: []Replica{{1, 0}, {2, 0}, {4, 1}}}
	refused(t, c, ReportMembers{Shard: 99}, CodeUnknownShard)
	refused(t, c, ReportMembers{Shard: s.ID, Index: 40, Members: members(1, 2, 4)}, CodeUnexpectedMembers)
	if r := must(t, c, ReportMembers{Shard: s.ID, Index: 40, Seen: 1 << 40, Members: members(1, 2, 3)}); r.Changed {
		t.Error("nothing was done yet")
	}
	r = must(t, c, done)
	want := Shard{
		ID: s.ID, Replicas: []uint64{1, 2, 4}, Version: c.Version(),
		Lives: map[uint64]uint32{4: 1}, LastLife: 1, MembersIndex: 40,
	}
	if !reflect.DeepEqual(r.Shard, want) {
		t.Errorf("%+v, want %+v", r.Shard, want)
	}
	if r.Shard.Has(Replica{3, 0}) || c.ShardsOf(3) != nil && c.ShardsOf(3)[0].ID == s.ID {
		t.Error("node 3 is still to keep the shard")
	}
	if r := must(t, c, done); r.Changed {
		t.Error("a repeated report changed something")
	}

	// Back again: another life; and a late report of before is about nothing.
	r = must(t, c, MoveReplica{Shard: s.ID, From: 4, To: 3})
	if r.Shard.Move.AddLife != 2 || r.Shard.Has(Replica{3, 0}) || !r.Shard.Has(Replica{3, 2}) {
		t.Errorf("%+v", r.Shard)
	}
	if r := must(t, c, done); r.Changed {
		t.Error("a late report changed something")
	}
}

func TestCancelMove(t *testing.T) {
	t.Parallel()
	c, s := three(t, 4)
	refused(t, c, CancelMove{Shard: 99}, CodeUnknownShard)
	if r := must(t, c, CancelMove{Shard: s.ID}); r.Changed {
		t.Error("cancelled nothing")
	}
	before := must(t, c, MoveReplica{Shard: s.ID, From: 1, To: 4}).Shard
	now := must(t, c, CancelMove{Shard: s.ID}).Shard
	refused(t, c, MoveReplica{Shard: s.ID, From: 1, To: 4}, CodeMoveUnderWay)
	undone := ReportMembers{Shard: s.ID, Index: 10, Seen: before.Version, Members: members(1, 2, 3)}
	if r := must(t, c, undone); r.Changed {
		t.Error("who has not heard of the cancellation may still add the node")
	}
	undone.Seen = now.Version
	with := undone
	with.Members = append(members(1, 2, 3), Replica{4, 1})
	refused(t, c, with, CodeUnexpectedMembers) // a learner still
	if r := must(t, c, undone); !r.Changed || r.Shard.Move.Active() || r.Shard.Has(Replica{4, 1}) {
		t.Errorf("%+v", r.Shard)
	}
	// What was done before the cancellation stays done.
	must(t, c, MoveReplica{Shard: s.ID, From: 1, To: 4})
	must(t, c, CancelMove{Shard: s.ID})
	r := must(t, c, ReportMembers{Shard: s.ID, Index: 20, Members: []Replica{{2, 0}, {3, 0}, {4, 2}}})
	if !slices.Equal(r.Shard.Replicas, []uint64{2, 3, 4}) {
		t.Errorf("%+v", r.Shard)
	}
}

func TestMovesPerNode(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{ShardsPerNode: 4})
	must(t, c, CreateTopic{Name: "t", ReplicationFactor: 3})
	must(t, c, node(4))
	shards := c.Shards()
	for _, s := range shards[:MaxMovesPerNode] {
		must(t, c, MoveReplica{Shard: s.ID, From: 1, To: 4})
	}
	r := refused(t, c, MoveReplica{Shard: shards[MaxMovesPerNode].ID, From: 2, To: 4}, CodeTooManyMoves)
	if r.Need != 4 || r.Have != MaxMovesPerNode {
		t.Errorf("%+v", r)
	}
	must(t, c, node(5))
	if r := refused(t, c, MoveReplica{Shard: shards[MaxMovesPerNode].ID, From: 1, To: 5}, CodeTooManyMoves); r.Need != 1 {
		t.Errorf("%+v", r)
	}
}

func TestDrainNode(t *testing.T) {
	t.Parallel()
	c, s := three(t, 3)
	refused(t, c, DrainNode{ID: 9}, CodeUnknownNode)
	if r := refused(t, c, DrainNode{ID: 1}, CodeInsufficientNodes); r.Need != 3 || r.Have != 2 {
		t.Errorf("%+v", r)
	}
	must(t, c, node(4))
	if r := must(t, c, DrainNode{ID: 1}); !r.Changed || !r.Node.Draining {
		t.Errorf("%+v", r)
	}
	if r := must(t, c, DrainNode{ID: 1}); r.Changed {
		t.Error("drained twice")
	}
	refused(t, c, DrainNode{ID: 2}, CodeInsufficientNodes)
	refused(t, c, CreateTopic{Name: "u", ReplicationFactor: 4}, CodeInsufficientNodes)
	must(t, c, CreateTopic{Name: "u", ReplicationFactor: 1, Partitions: 5})
	for _, shard := range c.ShardsOf(1) {
		if len(shard.Replicas) == 1 {
			t.Errorf("a draining node got shard %d", shard.ID)
		}
	}
	again := node(1)
	again.PeerAddress = "elsewhere"
	if r := must(t, c, again); !r.Node.Draining {
		t.Error("a restart ended the draining")
	}
	// The plan is read off the state, and goes only where it may.
	if p := c.Plan([]uint64{1, 2, 3}); p != nil {
		t.Errorf("moved to a node that is down: %+v", p)
	}
	for done := 0; ; done++ {
		plan := c.Plan([]uint64{2, 3, 4})
		if len(plan) == 0 {
			if done == 0 {
				t.Error("nothing was moved")
			}
			break
		}
		for _, m := range plan {
			now := must(t, c, m).Shard
			must(t, c, ReportMembers{Shard: m.Shard, Index: now.MembersIndex + 9, Members: now.moved().Members()})
		}
	}
	if c.ShardsOf(1) != nil {
		t.Errorf("node 1 still has %+v", c.ShardsOf(1))
	}
	refused(t, c, UnregisterNode{ID: 1, Instance: "another disk"}, CodeUnknownNode)
	must(t, c, UnregisterNode{ID: 1, Instance: node(1).Instance})
	old := node(1)
	old.Known = true
	refused(t, c, old, CodeNodeRemoved)
	must(t, c, node(1))
	_ = s
}

// A node that lost its disk comes back under its id: its replicas are made anew in
// its place.
func TestLoseDisk(t *testing.T) {
	t.Parallel()
	c, s := three(t, 3)
	refused(t, c, LoseDisk{ID: 9}, CodeUnknownNode)
	if r := must(t, c, LoseDisk{ID: 2}); !r.Changed || r.Node.Instance != "" {
		t.Errorf("%+v", r)
	}
	if r := must(t, c, LoseDisk{ID: 2}); r.Changed {
		t.Error("lost twice")
	}
	if r := refused(t, c, LoseDisk{ID: 3}, CodeNoMajority); r.Need != 2 || r.Have != s.ID {
		t.Errorf("%+v", r)
	}
	if c.ShardsOf(2) != nil {
		t.Error("a lost replica is still to be kept")
	}
	old := node(2)
	old.Known = true
	refused(t, c, old, CodeNodeRemoved)
	if p := c.Plan([]uint64{1, 2, 3}); p != nil {
		t.Errorf("planned for a node without a disk: %+v", p)
	}
	fresh := node(2)
	fresh.Instance = "another disk"
	must(t, c, fresh)
	// A late copy of what took the first disk away.
	if r := must(t, c, LoseDisk{ID: 2, Instance: node(2).Instance}); r.Changed || r.Node.Instance != fresh.Instance {
		t.Errorf("%+v", r)
	}
	plan := c.Plan([]uint64{1, 2, 3})
	if len(plan) != len(c.Shards()) || plan[0].From != 2 || plan[0].To != 2 {
		t.Fatalf("plan %+v", plan)
	}
	now := must(t, c, plan[0]).Shard
	if m, ok := now.Member(2); !ok || m.Life != 1 {
		t.Fatalf("%+v", now)
	}
	// The disk is lost once more while the move is under way: what it has copied,
	// and perhaps made a voter, counts as lost.
	must(t, c, LoseDisk{ID: 2, Instance: fresh.Instance})
	now, _ = c.Shard(now.ID)
	if _, ok := now.Member(2); ok || !now.Move.Cancelled {
		t.Fatalf("%+v", now)
	}
	after := must(t, c, ReportMembers{Shard: now.ID, Index: 50, Members: []Replica{{1, 0}, {2, 1}, {3, 0}}}).Shard
	if !slices.Equal(after.Lost, []uint64{2}) {
		t.Fatalf("%+v", after)
	}
	must(t, c, fresh)
	again := must(t, c, MoveReplica{Shard: now.ID, From: 2, To: 2}).Shard
	done := must(t, c, ReportMembers{Shard: now.ID, Index: 60, Members: []Replica{{1, 0}, {2, again.Move.AddLife}, {3, 0}}}).Shard
	if done.Lost != nil || done.Lives[2] != 2 || done.Has(Replica{2, 1}) {
		t.Errorf("%+v", done)
	}
	single := cluster(t, 1, Settings{})
	must(t, single, CreateTopic{Name: "copy"})
	refused(t, single, LoseDisk{ID: 1}, CodeNoMajority)
}

// A node says of its own data directory that it is lost, and a late copy of that does
// not take the one that came after it.
func TestLoseDiskOfOneInstance(t *testing.T) {
	t.Parallel()
	c, _ := three(t, 3)
	old, fresh := node(2), node(2)
	fresh.Instance = "another disk"
	late := LoseDisk{ID: 2, Instance: old.Instance}
	if r := must(t, c, late); !r.Changed || r.Node.Instance != "" {
		t.Errorf("%+v", r)
	}
	if r := must(t, c, late); r.Changed {
		t.Error("lost twice")
	}
	must(t, c, fresh)
	if r := must(t, c, late); r.Changed || r.Node.Instance != fresh.Instance {
		t.Errorf("a late copy: %+v", r)
	}
	refused(t, c, LoseDisk{ID: 3, Instance: node(3).Instance}, CodeNoMajority)
}

// A node's copy of one shard is lost, and nothing else: it is made anew in place, in
// another life. What names a life that is over is too late.
func TestLoseReplica(t *testing.T) {
	t.Parallel()
	c, s := three(t, 3)
	if r := must(t, c, LoseReplica{Shard: 99, Node: 2}); r.Changed {
		t.Error("a shard that there is not")
	}
	for _, none := range []LoseReplica{{Shard: s.ID, Node: 9}, {Shard: s.ID, Node: 2, Life: 1}} {
		if r := must(t, c, none); r.Changed {
			t.Errorf("%+v changed %+v", none, r.Shard)
		}
	}
	first := LoseReplica{Shard: s.ID, Node: 2}
	if r := must(t, c, first); !r.Changed || !slices.Equal(r.Shard.Lost, []uint64{2}) {
		t.Errorf("%+v", r)
	}
	if r := must(t, c, first); r.Changed {
		t.Error("lost twice")
	}
	if r := refused(t, c, LoseReplica{Shard: s.ID, Node: 3}, CodeNoMajority); r.Need != 2 || r.Have != s.ID {
		t.Errorf("%+v", r)
	}
	if n, _ := c.Node(2); n.Instance == "" || len(c.ShardsOf(2)) != len(c.Shards())-1 {
		t.Errorf("node %+v keeps %d shards of %d", n, len(c.ShardsOf(2)), len(c.Shards()))
	}
	plan := c.Plan([]uint64{1, 2, 3})
	if len(plan) != 1 || plan[0].Shard != s.ID || plan[0].From != 2 || plan[0].To != 2 {
		t.Fatalf("plan %+v", plan)
	}
	now := must(t, c, plan[0]).Shard
	if m, ok := now.Member(2); !ok || m.Life != 1 {
		t.Fatalf("%+v", now)
	}
	if r := must(t, c, first); r.Changed {
		t.Error("a late one hit the next copy")
	}
	// The next one is damaged as well, and may be a voter already.
	must(t, c, LoseReplica{Shard: s.ID, Node: 2, Life: 1})
	now, _ = c.Shard(s.ID)
	if _, ok := now.Member(2); ok || !now.Move.Cancelled || !now.Move.AddLost {
		t.Fatalf("%+v", now)
	}
	after := must(t, c, ReportMembers{Shard: s.ID, Index: 50, Members: []Replica{{1, 0}, {2, 1}, {3, 0}}}).Shard
	if !slices.Equal(after.Lost, []uint64{2}) {
		t.Fatalf("%+v", after)
	}
	must(t, c, MoveReplica{Shard: s.ID, From: 2, To: 2})
	done := must(t, c, ReportMembers{Shard: s.ID, Index: 60, Members: []Replica{{1, 0}, {2, 2}, {3, 0}}}).Shard
	if done.Lost != nil || done.Lives[2] != 2 || done.Has(Replica{2, 1}) {
		t.Errorf("%+v", done)
	}
	if r := must(t, c, first); r.Changed {
		t.Error("a late one hit the last copy")
	}
}

// shardGroup is a dumb model of a shard's group: what its log says of its members,
// and leaders who may have heard less than others.
type shardGroup struct {
	voters, learners []Replica
	index            uint64
	seen             uint64
	views            []Shard // what some node or other has been told
}

func (g *shardGroup) report(id uint64) ReportMembers {
	m := slices.Concat(g.voters, g.learners)
	slices.SortFunc(m, func(a, b Replica) int {
		if a.Node != b.Node {
			return int(a.Node) - int(b.Node)
		}
		return int(a.Life) - int(b.Life)
	})
	return ReportMembers{Shard: id, Index: g.index, Seen: g.seen, Members: m}
}

// lead lets a leader with some view do one thing. It does nothing by a view that is
// older than its log.
func (g *shardGroup) lead(view Shard) {
	if view.Version < g.seen {
		return
	}
	g.index++
	if view.Version > g.seen {
		g.seen = view.Version
		return
	}
	m := view.Move
	if !m.Active() {
		return
	}
	add := Replica{m.Add, m.AddLife}
	switch learner := slices.Contains(g.learners, add); {
	case slices.Contains(g.voters, add):
	case m.Cancelled && learner:
		g.learners = nil
	case m.Cancelled:
	case !learner:
		g.learners = []Replica{add}
	default:
		g.learners = nil
		g.voters = slices.DeleteFunc(slices.Clone(g.voters), func(r Replica) bool { return r.Node == m.Remove })
		g.voters = append(g.voters, add)
	}
}

// TestRandomMoves lets groups with old and new leaders carry out moves while reports
// come late and twice and moves are cancelled. What the catalogue says may be deleted
// is never a member again, and in the end group and catalogue agree.
func TestRandomMoves(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		c := cluster(t, 5, Settings{})
		must(t, c, CreateTopic{Name: "t", ReplicationFactor: 3})
		groups := map[uint64]*shardGroup{}
		var reports []ReportMembers
		released := map[string]bool{}
		lives := map[uint64][]Replica{}
		for _, s := range c.Shards() {
			groups[s.ID] = &shardGroup{voters: s.Members(), seen: s.Version}
			lives[s.ID] = s.Members()
		}
		step := func(id uint64, calm bool) {
			g := groups[id]
			s, _ := c.Shard(id)
			switch n := rng.IntN(12); {
			case calm || n < 4:
				if !calm && len(g.views) > 0 && rng.IntN(3) == 0 {
					s = g.views[rng.IntN(len(g.views))]
				}
				g.views = append(g.views, s)
				g.lead(s)
				r := g.report(id)
				reports = append(reports, r)
				if calm {
					c.Apply(r)
				}
			case n < 8 && len(reports) > 0:
				c.Apply(reports[rng.IntN(len(reports))])
			case n == 8:
				c.Apply(CancelMove{Shard: id})
			case n == 9 && rng.IntN(4) == 0:
				lost := lives[id][rng.IntN(len(lives[id]))]
				c.Apply(LoseReplica{Shard: id, Node: lost.Node, Life: lost.Life})
			default:
				c.Apply(MoveReplica{Shard: id, From: 1 + rng.Uint64N(5), To: 1 + rng.Uint64N(5)})
			}
			s, _ = c.Shard(id)
			if s.Move.Active() {
				lives[id] = append(lives[id], Replica{s.Move.Add, s.Move.AddLife})
			}
			for _, r := range lives[id] {
				key := fmt.Sprint(id, r)
				released[key] = released[key] || !s.Has(r)
				if released[key] && (slices.Contains(g.voters, r) || slices.Contains(g.learners, r)) {
					t.Fatalf("seed %d: %+v of shard %d was released and is a member", seed, r, id)
				}
			}
			if err := c.Check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		ids := c.Shards()
		for range 400 {
			step(ids[rng.IntN(len(ids))].ID, false)
		}
		for _, s := range ids {
			for range 8 {
				step(s.ID, true)
			}
			now, _ := c.Shard(s.ID)
			want := groups[s.ID].report(s.ID).Members
			if now.Move.Active() || !slices.Equal(now.Members(), want) {
				t.Fatalf("seed %d: shard %+v, its group %+v", seed, now, want)
			}
		}
	}
}
