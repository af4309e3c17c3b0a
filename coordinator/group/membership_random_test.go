package group

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// growing is a catalogue whose topics grow and go. Partition ids are never used
// again.
type growing struct {
	topics map[string][]uint64
	last   uint64
}

func (c *growing) HasPartition(p uint64) bool {
	for _, all := range c.topics {
		if slices.Contains(all, p) {
			return true
		}
	}
	return false
}

func (c *growing) TopicPartitions(topic string) []uint64 { return c.topics[topic] }

// frozen is the catalogue of one moment.
func (c *growing) frozen() *growing {
	f := &growing{topics: map[string][]uint64{}}
	for t, all := range c.topics {
		f.topics[t] = slices.Clone(all)
	}
	return f
}

// party drives one group with everything that can happen to it, and knows from
// the commands alone who may have lost what.
type party struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	m    *Machine
	cat  *growing
	log  []func(*Machine)
	next int // member ids are never used again
}

func (w *party) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, step %d: %s", w.seed, len(w.log), fmt.Sprintf(format, args...))
}

// apply runs a command. letGo says who may lose which partitions by it.
func (w *party) apply(cmd Command, letGo func(member string, p uint64) bool) Result {
	w.t.Helper()
	decoded, err := DecodeCommand(AppendCommand(nil, cmd))
	if err != nil || !reflect.DeepEqual(decoded, cmd) {
		w.fail("%+v decoded as %+v, %v", cmd, decoded, err)
	}
	before, generation := w.owners(), w.m.Generation("g")
	then := w.cat.frozen()
	w.log = append(w.log, func(m *Machine) { m.Apply(then, decoded) })
	r := w.m.Apply(then, decoded)
	if err := w.m.CheckAgainst(then); err != nil {
		w.fail("after %+v: %v", cmd, err)
	}
	after := w.owners()
	for p, was := range before {
		if after[p] != was && !letGo(was.member, p) {
			w.fail("%+v took partition %d from %s, which had not let go, for %s", cmd, p, was.member, after[p].member)
		}
	}
	for p, is := range after {
		if before[p] != is && (is.since != w.m.Generation("g") || is.since <= generation) {
			w.fail("%+v gave partition %d since %d, generation was %d", cmd, p, is.since, generation)
		}
	}
	return r
}

func (w *party) owners() map[uint64]ownership {
	out := map[uint64]ownership{}
	if d, ok := w.m.Describe("g"); ok {
		for _, p := range d.Partitions {
			if p.Member != "" {
				out[p.Partition] = ownership{p.Member, p.Since}
			}
		}
	}
	return out
}

func (w *party) anyMember() (Member, bool) {
	all := w.m.Members("g")
	if len(all) == 0 {
		return Member{}, false
	}
	return all[w.rng.IntN(len(all))], true
}

func keeps(string, uint64) bool { return false }

func (w *party) topics() []string {
	out := []string{fmt.Sprint("t", w.rng.IntN(3))}
	for w.rng.IntN(2) == 0 {
		out = append(out, fmt.Sprint("t", w.rng.IntN(3)))
	}
	return out
}

func (w *party) join() {
	w.next++
	cmd := join("g", fmt.Sprint("m", w.next), w.topics()...)
	cmd.Assignor = Assignor(1 + w.rng.IntN(2))
	if w.rng.IntN(2) == 0 {
		cmd.Instance = fmt.Sprint("i", w.rng.IntN(3))
	}
	before, _ := w.m.Holder("g", cmd.Instance)
	r := w.apply(cmd, func(member string, _ uint64) bool { return before != "" && member == before })
	if !r.OK() {
		w.fail("%+v refused: %+v", cmd, r)
	}
}

func (w *party) step() {
	mm, some := w.anyMember()
	switch n := w.rng.IntN(20); {
	case n < 4 || !some:
		w.join()
	case n < 5: // subscribes anew
		cmd := join("g", mm.ID, w.topics()...)
		cmd.Instance = mm.Instance
		w.apply(cmd, keeps)
	case n < 7:
		w.apply(LeaveGroup{Group: "g", Member: mm.ID}, func(member string, _ uint64) bool { return member == mm.ID })
	case n < 8:
		lost := []LostMember{{"g", mm.ID, mm.Joined}}
		w.apply(ExpireMembers{Members: lost}, func(member string, _ uint64) bool { return member == mm.ID })
		w.apply(ExpireMembers{Members: lost}, keeps)
	case n < 9:
		topic := fmt.Sprint("t", w.rng.IntN(3))
		for range 1 + w.rng.IntN(4) {
			w.cat.last++
			w.cat.topics[topic] = append(w.cat.topics[topic], w.cat.last)
		}
		w.apply(TopicsChanged{Topics: []string{topic}}, keeps)
	case n < 10:
		topic := fmt.Sprint("t", w.rng.IntN(3))
		gone := w.cat.topics[topic]
		delete(w.cat.topics, topic)
		w.apply(RemovePartitions{Partitions: gone}, func(_ string, p uint64) bool { return slices.Contains(gone, p) })
	default:
		cmd := ReleasePartitions{Group: "g", Member: mm.ID, Generation: w.m.Generation("g"), Partitions: mm.Revoking}
		switch w.rng.IntN(6) {
		case 0:
			cmd.Generation = w.rng.Uint64N(cmd.Generation + 2)
		case 1:
			cmd.Partitions = []uint64{w.rng.Uint64N(w.cat.last + 2)}
		case 2:
			cmd.Partitions = cmd.Partitions[:len(cmd.Partitions)/2]
		}
		if len(cmd.Partitions) == 0 {
			cmd.Partitions = nil
		}
		named := func(member string, p uint64) bool { return member == mm.ID && slices.Contains(cmd.Partitions, p) }
		w.apply(cmd, named)
		w.apply(cmd, keeps) // a late copy changes nothing
	}
}

// TestMembershipAtRandom: a partition leaves its owner only when that one has let
// go, has left, was lost or replaced; whoever gets it owns it since a generation
// that nobody has seen before; everything is always meant for somebody. A replay,
// and a snapshot with the tail, end in the same state.
func TestMembershipAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		w := &party{
			t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), m: New(),
			cat: &growing{topics: map[string][]uint64{}},
		}
		var snapshot []byte
		tail := 0
		for range 80 {
			w.step()
			if w.rng.IntN(20) == 0 {
				snapshot, tail = w.m.Snapshot(), len(w.log)
			}
		}
		replayed, restored := New(), New()
		if snapshot != nil {
			if err := restored.Restore(snapshot); err != nil {
				w.fail("restore: %v", err)
			}
		}
		for i, apply := range w.log {
			apply(replayed)
			if i >= tail {
				apply(restored)
			}
		}
		if !slices.Equal(replayed.Snapshot(), w.m.Snapshot()) || !slices.Equal(restored.Snapshot(), w.m.Snapshot()) {
			w.fail("a replay ends in another state")
		}
	}
}
