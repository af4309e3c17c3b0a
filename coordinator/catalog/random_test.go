package catalog

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// instanceOf returns the data directory of a node, none, or another one.
func instanceOf(rng *rand.Rand, c *Catalog, id uint64) string {
	n, _ := c.Node(id)
	return []string{"", n.Instance, "another"}[rng.IntN(3)]
}

// randomCommand makes commands that are mostly right.
func randomCommand(rng *rand.Rand, at int64, c *Catalog) Command {
	name := fmt.Sprint("t", rng.IntN(6))
	var nodes []uint64
	for id := range uint64(6) {
		if rng.IntN(3) > 0 {
			nodes = append(nodes, id+1)
		}
	}
	if rng.IntN(2) == 0 {
		nodes = nil
	}
	switch rng.IntN(27) {
	case 0:
		return InitCluster{At: at, ClusterID: name, KeySecret: secret(1)}
	case 1:
		return UpdateSettings{At: at, Settings: Settings{ShardsPerNode: rng.Uint32N(4), DefaultPartitions: rng.Uint32N(5)}}
	case 2:
		return AddKey{At: at, Secret: secret(byte(rng.IntN(20)))}
	case 3:
		return ActivateKey{At: at, ID: rng.Uint32N(20)}
	case 4:
		return RemoveKey{At: at, ID: rng.Uint32N(20)}
	case 5, 6:
		r := node(rng.Uint64N(6))
		r.At, r.PeerAddress, r.Known = at, fmt.Sprint("peer", rng.IntN(2)), rng.IntN(4) == 0
		return r
	case 7:
		id := rng.Uint64N(7)
		return UnregisterNode{At: at, ID: id, Instance: instanceOf(rng, c, id)}
	case 8, 9:
		return CreateTopic{
			At: at, Name: name, Partitions: rng.Uint32N(9), ReplicationFactor: rng.Uint32N(5), Nodes: nodes,
			Retention: Retention{Millis: rng.Uint64N(3)},
			Cleanup:   Cleanup{Policy: Policy(rng.IntN(4)), MinLag: rng.Uint64N(2)},
		}
	case 10:
		return CreatePartitions{At: at, Name: name, Total: rng.Uint32N(20), Nodes: nodes}
	case 11:
		d := DeleteTopic{At: at, Name: name}
		switch rng.IntN(3) {
		case 0:
			d.ID = rng.Uint64N(20)
		case 1:
			d.Name, d.ID = "", 1+rng.Uint64N(20)
		}
		return d
	case 14, 15:
		return AlterTopic{
			At: at, TopicID: rng.Uint64N(20), SetMillis: rng.IntN(2) == 0, SetBytes: rng.IntN(2) == 0,
			Retention:    Retention{Millis: rng.Uint64N(3), Bytes: rng.Uint64N(3) * (MaxRetention/2 + 1)},
			SetPolicy:    rng.IntN(3) == 0,
			SetMinLag:    rng.IntN(3) == 0,
			Cleanup:      Cleanup{Policy: Policy(rng.IntN(4)), MinLag: rng.Uint64N(3) * (MaxRetention/2 + 1)},
			CheckVersion: rng.IntN(2) == 0, Version: rng.Uint64N(2),
		}
	case 16:
		return DrainNode{At: at, ID: rng.Uint64N(7), Undo: rng.IntN(3) > 0}
	case 17:
		id := rng.Uint64N(20)
		return LoseDisk{At: at, ID: id, Instance: instanceOf(rng, c, id)}
	case 18:
		if plan := c.Plan([]uint64{1, 2, 3, 4, 5, 6}); len(plan) > 0 {
			m := plan[rng.IntN(len(plan))]
			m.At = at
			return m
		}
		return Rebalance{At: at}
	case 19:
		return MoveReplica{At: at, Shard: rng.Uint64N(20), From: rng.Uint64N(7), To: rng.Uint64N(7)}
	case 20:
		return CancelMove{At: at, Shard: rng.Uint64N(20)}
	case 21, 22:
		return randomReport(rng, at, c)
	case 23:
		return EndRebalance{At: at, Since: c.Balancing() + rng.Uint64N(2)}
	case 24:
		return AddACLs{At: at, Rules: randomRules(rng)}
	case 25:
		return RemoveACLs{At: at, Rules: randomRules(rng)}
	case 26:
		return LoseReplica{At: at, Shard: rng.Uint64N(20), Node: rng.Uint64N(7), Life: rng.Uint32N(3)}
	case 12:
		return DrainShard{At: at, ID: rng.Uint64N(40)}
	default:
		return RemoveShard{At: at, ID: rng.Uint64N(40)}
	}
}

// randomReport is what the group of a shard may say: that its move is done, or that
// nothing has happened, now or before.
func randomReport(rng *rand.Rand, at int64, c *Catalog) Command {
	r := ReportMembers{At: at, Shard: rng.Uint64N(20), Index: rng.Uint64N(300)}
	if shards := c.Shards(); len(shards) > 0 {
		s := shards[rng.IntN(len(shards))]
		r.Shard, r.Index, r.Seen, r.Members = s.ID, s.MembersIndex+rng.Uint64N(5), s.Version-rng.Uint64N(2), s.Members()
		if s.Move.Active() && rng.IntN(2) == 0 {
			r.Members = s.moved().Members()
		}
	}
	return r
}

// history watches what may never happen, whatever the commands.
type history struct {
	partitions map[uint64]Partition
	topics     map[uint64]string
	shards     map[uint64]Shard
	gone       map[uint64]bool // partitions and shards and topics, told apart by kind below
}

const (
	goneTopic = 1 << 60
	goneShard = 1 << 61
)

// see compares the catalogue with everything it ever was.
func (h *history) see(c *Catalog) error {
	for _, id := range slices.Sorted(maps.Keys(c.parts)) {
		if old, ok := h.partitions[id]; ok && old != c.parts[id] || h.gone[id] {
			return fmt.Errorf("partition %d moved or came back", id)
		}
		h.partitions[id] = c.parts[id]
	}
	for id := range h.partitions {
		if _, ok := c.parts[id]; !ok {
			h.gone[id] = true
		}
	}
	for id, topic := range c.topics {
		if old, ok := h.topics[id]; ok && old != topic.Name || h.gone[goneTopic|id] {
			return fmt.Errorf("topic %d was renamed or came back", id)
		}
		h.topics[id] = topic.Name
	}
	for id := range h.topics {
		if _, ok := c.topics[id]; !ok {
			h.gone[goneTopic|id] = true
		}
	}
	for id, s := range c.shards {
		old, ok := h.shards[id]
		if ok && s.MembersIndex == old.MembersIndex && !reflect.DeepEqual(old.Members(), s.Members()) || h.gone[goneShard|id] {
			return fmt.Errorf("shard %d moved without a report or came back", id)
		}
		if ok && s.MembersIndex < old.MembersIndex || s.LastLife < old.LastLife {
			return fmt.Errorf("shard %d went back in time", id)
		}
		for _, m := range s.Members() {
			if ok && !old.Has(m) {
				return fmt.Errorf("shard %d has %+v, which was no member and was not to be one", id, m)
			}
		}
		h.shards[id] = s
	}
	for id := range h.shards {
		if _, ok := c.shards[id]; !ok {
			h.gone[goneShard|id] = true
		}
	}
	return nil
}

// changedShards returns the shards that a node would see differ.
func changedShards(before, after map[uint64]HostedShard) []uint64 {
	var out []uint64
	for _, id := range slices.Sorted(maps.Keys(after)) {
		a, b := after[id], before[id]
		a.Version, b.Version = 0, 0
		if !reflect.DeepEqual(a, b) {
			out = append(out, id)
		}
	}
	return out
}

func hostedByID(c *Catalog) map[uint64]HostedShard {
	out := map[uint64]HostedShard{}
	for _, s := range c.Shards() {
		out[s.ID], _ = c.Hosted(s.ID)
	}
	return out
}

// TestRandomCommands runs random commands and checks after each one that the
// invariants hold, that nothing that was handed out moves or comes back, and
// that versions tell exactly which shards changed. At the end a replay and a
// snapshot with the tail give the same bytes.
func TestRandomCommands(t *testing.T) {
	t.Parallel()
	runs := uint64(30)
	if testing.Short() {
		runs = 8
	}
	for seed := range runs {
		rng := rand.New(rand.NewPCG(seed, 7))
		c := New()
		h := &history{map[uint64]Partition{}, map[uint64]string{}, map[uint64]Shard{}, map[uint64]bool{}}
		var log []Command
		var snapshot []byte
		tail := 0
		at := int64(0)
		for step := range 250 {
			at += rng.Int64N(20) - 5
			cmd := randomCommand(rng, at, c)
			decoded, err := DecodeCommand(AppendCommand(nil, cmd))
			if err != nil || !reflect.DeepEqual(decoded, cmd) {
				t.Fatalf("seed %d, step %d: %+v decoded as %+v, %v", seed, step, cmd, decoded, err)
			}
			before, version := hostedByID(c), c.Version()
			r := c.Apply(decoded)
			log = append(log, decoded)
			if err := c.Check(); err != nil {
				t.Fatalf("seed %d, step %d: %+v: %v", seed, step, cmd, err)
			}
			if err := h.see(c); err != nil {
				t.Fatalf("seed %d, step %d: %+v: %v", seed, step, cmd, err)
			}
			if r.Changed && r.Code != CodeOK || r.Changed != (c.Version() == version+1) {
				t.Fatalf("seed %d, step %d: %+v: %+v", seed, step, cmd, r)
			}
			after := hostedByID(c)
			var touched []uint64
			for _, s := range c.Shards() {
				if s.Version > version {
					touched = append(touched, s.ID)
				}
			}
			if want := changedShards(before, after); !slices.Equal(touched, want) {
				t.Fatalf("seed %d, step %d: %+v: versions say %v changed, the shards %v", seed, step, cmd, touched, want)
			}
			if rng.IntN(60) == 0 {
				snapshot, tail = c.Snapshot(), len(log)
			}
		}
		replayed, restored := New(), New()
		if snapshot != nil {
			if err := restored.Restore(snapshot); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for i, cmd := range log {
			replayed.Apply(cmd)
			if i >= tail {
				restored.Apply(cmd)
			}
		}
		if !slices.Equal(replayed.Snapshot(), c.Snapshot()) || !slices.Equal(restored.Snapshot(), c.Snapshot()) {
			t.Fatalf("seed %d: replay, or snapshot and tail, end in another state", seed)
		}
	}
}
