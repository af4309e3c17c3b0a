package group

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// model is a second implementation that keeps the whole history and looks
// everything up in it from the end. It knows only what decides whether a
// command is accepted and what a reader would see.
type model struct {
	gone    map[uint64]bool
	history map[string][]event
	floor   uint64
}

type event struct {
	kind      string // "born", "member", "left", "own", "disown", "offset", "forget"
	member    string
	partition uint64
	at        uint64 // generation
	offset    uint64
	plain     bool
}

func (m *model) last(group string, p uint64, kinds ...string) (event, bool) {
	h := m.history[group]
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].partition == p && slices.Contains(kinds, h[i].kind) {
			return h[i], true
		}
	}
	return event{}, false
}

func (m *model) owner(group string, p uint64) (string, uint64) {
	if e, ok := m.last(group, p, "own", "disown"); ok && e.kind == "own" {
		return e.member, e.at
	}
	return "", 0
}

func (m *model) offset(group string, p uint64) (event, bool) {
	e, ok := m.last(group, p, "offset", "forget")
	return e, ok && e.kind == "offset"
}

func (m *model) generation(group string) uint64 {
	if len(m.history[group]) == 0 {
		return m.floor
	}
	g := uint64(0)
	for _, e := range m.history[group] {
		g = max(g, e.at)
	}
	return g
}

func (m *model) isMember(group, id string) bool {
	h := m.history[group]
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].member == id && (h[i].kind == "member" || h[i].kind == "left") {
			return h[i].kind == "member"
		}
	}
	return false
}

func (m *model) exists(p uint64) bool { return p >= 1 && p <= partitions && !m.gone[p] }

func (m *model) add(group string, e event) {
	if len(m.history[group]) == 0 {
		m.history[group] = []event{{kind: "born", at: m.floor}}
	}
	m.history[group] = append(m.history[group], e)
}

func (m *model) assign(c AssignPartitions) bool {
	for _, p := range c.Partitions {
		if !m.exists(p) {
			return false
		}
	}
	gen := m.generation(c.Group)
	m.add(c.Group, event{kind: "member", member: c.Member, at: gen})
	for p := uint64(1); p <= partitions; p++ {
		owner, _ := m.owner(c.Group, p)
		switch wants := slices.Contains(c.Partitions, p); {
		case wants && owner != c.Member:
			m.add(c.Group, event{kind: "own", member: c.Member, partition: p, at: gen + 1})
		case !wants && owner == c.Member:
			m.add(c.Group, event{kind: "disown", partition: p, at: gen + 1})
		}
	}
	return true
}

func (m *model) accepts(by TxnRef, c Commit) bool {
	for i, e := range c.Entries {
		if !m.exists(e.Partition) {
			return false
		}
		if slices.ContainsFunc(c.Entries[:i], func(o Entry) bool { return o.Partition == e.Partition }) {
			return false
		}
		now, has := m.offset(c.Group, e.Partition)
		if by.Number == 0 && has && now.plain && now.member == c.Member && c.Member != "" && now.offset == e.Offset {
			continue // it did so before, whoever owns the partition by now
		}
		owner, since := m.owner(c.Group, e.Partition)
		if owner != c.Member {
			return false
		}
		if owner != "" && (since > c.Generation || c.Generation > m.generation(c.Group)) {
			return false
		}
		switch {
		case e.HasExpected && has && now.offset == e.Expected:
		case !e.HasExpected && (!has || c.Member == ""):
		default:
			return false
		}
	}
	return true
}

func (m *model) move(by TxnRef, c Commit) {
	for _, e := range c.Entries {
		m.add(c.Group, event{kind: "offset", member: c.Member, partition: e.Partition, offset: e.Offset, plain: by.Number == 0})
	}
}

const partitions = 6

func (m *model) HasPartition(p uint64) bool { return m.exists(p) }

// TopicPartitions: nobody subscribes here.
func (m *model) TopicPartitions(string) []uint64 { return nil }

type world struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	m     *Machine
	model *model
	log   []func(*Machine) // for the replay
	at    int64
}

func (w *world) pick(ids ...string) string { return ids[w.rng.IntN(len(ids))] }

func (w *world) group() string  { return w.pick("g", "h") }
func (w *world) member() string { return w.pick("a", "b", "c") }

func (w *world) some() []uint64 {
	var out []uint64
	for range w.rng.IntN(4) {
		out = append(out, 1+w.rng.Uint64N(partitions))
	}
	return out
}

// commit makes a commit that is right more often than not.
func (w *world) commit() Commit {
	g := w.group()
	c := Commit{Group: g, Generation: w.m.Generation(g)}
	if w.rng.IntN(3) == 0 {
		c.Generation = w.rng.Uint64N(c.Generation + 2)
	}
	c.Member = w.pick("", "a", "b", "c")
	for _, p := range w.some() {
		if owner, _, _ := w.m.Owner(g, p); owner != c.Member && w.rng.IntN(6) > 0 {
			continue
		}
		o := w.m.Offsets(g, []uint64{p})[0]
		e := Entry{Partition: p, Offset: w.rng.Uint64N(8), HasExpected: o.Committed, Expected: o.Offset.Next}
		if w.rng.IntN(6) == 0 {
			e.HasExpected, e.Expected = w.rng.IntN(2) == 0, w.rng.Uint64N(8)
		}
		c.Entries = append(c.Entries, e)
	}
	return c
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, step %d: %s", w.seed, len(w.log), fmt.Sprintf(format, args...))
}

// apply runs a command and compares whether it was accepted.
func (w *world) apply(cmd Command, accepted bool) {
	w.t.Helper()
	// The command goes through its bytes, as it does in the log.
	decoded, err := DecodeCommand(AppendCommand(nil, cmd))
	if err != nil || !reflect.DeepEqual(decoded, cmd) {
		w.fail("%+v decoded as %+v, %v", cmd, decoded, err)
	}
	gone := map[uint64]bool{}
	for p := range w.model.gone {
		gone[p] = true
	}
	then := &model{gone: gone} // the catalogue of this moment
	w.log = append(w.log, func(m *Machine) { m.Apply(then, decoded) })
	if r := w.m.Apply(then, decoded); r.OK() != accepted {
		w.fail("%+v answered %+v, the model says %v", cmd, r.Refusal, accepted)
	}
}

func (w *world) step() {
	w.at += w.rng.Int64N(20) - 5
	switch w.rng.IntN(20) {
	case 0, 1, 2, 3:
		c := AssignPartitions{At: w.at, Group: w.group(), Member: w.member(), Host: w.pick("", "x"), Partitions: w.some()}
		w.apply(c, w.model.assign(c))
	case 4:
		w.leave(LeaveGroup{At: w.at, Group: w.group(), Member: w.member()})
	case 5:
		w.remove()
	case 6:
		w.delete(DeleteGroup{At: w.at, Group: w.group()})
	case 7:
		w.forget(DeleteOffsets{At: w.at, Group: w.group(), Partitions: w.some(), Force: w.rng.IntN(2) == 0})
	case 8:
		w.reset()
	case 9, 10, 11, 12:
		w.transaction()
	default:
		c := CommitOffsets{At: w.at, Commit: w.commit()}
		ok := w.model.accepts(TxnRef{}, c.Commit)
		if ok {
			w.model.move(TxnRef{}, c.Commit)
		}
		w.apply(c, ok)
	}
}

func (w *world) transaction() {
	c, by, at := w.commit(), TxnRef{1, 0, uint64(len(w.log) + 1)}, w.at
	commits, err := DecodeCommits(AppendCommits(nil, []Commit{c}))
	if err != nil || !reflect.DeepEqual(commits, []Commit{c}) {
		w.fail("%+v decoded as %+v, %v", c, commits, err)
	}
	ok := w.model.accepts(by, c)
	if r := w.m.CheckCommits(w.model, by, commits); r.OK() != ok {
		w.fail("commit %+v checked as %+v, the model says %v", c, r, ok)
	}
	if !ok {
		return
	}
	w.model.move(by, c)
	w.m.ApplyCommits(at, by, commits)
	w.log = append(w.log, func(m *Machine) { m.ApplyCommits(at, by, commits) })
}

func (w *world) leave(c LeaveGroup) {
	ok := w.model.isMember(c.Group, c.Member)
	if ok {
		gen := w.model.generation(c.Group)
		w.model.add(c.Group, event{kind: "left", member: c.Member, at: gen})
		for p := uint64(1); p <= partitions; p++ {
			if owner, _ := w.model.owner(c.Group, p); owner == c.Member {
				w.model.add(c.Group, event{kind: "disown", partition: p, at: gen + 1})
			}
		}
	}
	w.apply(c, ok)
}

// remove deletes a partition, and sometimes brings all of them back, under
// their old ids, which the catalogue never does but a group need not know.
func (w *world) remove() {
	if len(w.model.gone) > 1 {
		w.model.gone = map[uint64]bool{}
		return
	}
	p := 1 + w.rng.Uint64N(partitions)
	w.model.gone[p] = true
	for _, g := range []string{"g", "h"} {
		gen := w.model.generation(g)
		if owner, _ := w.model.owner(g, p); owner != "" {
			w.model.add(g, event{kind: "disown", partition: p, at: gen + 1})
		}
		if _, has := w.model.offset(g, p); has {
			w.model.add(g, event{kind: "forget", partition: p})
		}
	}
	w.apply(RemovePartitions{At: w.at, Partitions: []uint64{p}}, true)
}

func (w *world) delete(c DeleteGroup) {
	ok := len(w.model.history[c.Group]) > 0
	for _, id := range []string{"a", "b", "c"} {
		ok = ok && !w.model.isMember(c.Group, id)
	}
	if ok {
		w.model.floor = max(w.model.floor, w.model.generation(c.Group))
		delete(w.model.history, c.Group)
	}
	w.apply(c, ok)
}

func (w *world) forget(c DeleteOffsets) {
	ok := len(w.model.history[c.Group]) > 0
	for _, p := range c.Partitions {
		owner, _ := w.model.owner(c.Group, p)
		ok = ok && (owner == "" || c.Force)
	}
	if ok {
		for _, p := range c.Partitions {
			w.model.add(c.Group, event{kind: "forget", partition: p})
		}
	}
	w.apply(c, ok)
}

func (w *world) reset() {
	p := 1 + w.rng.Uint64N(partitions)
	c := ResetOffsets{
		At: w.at, Group: w.group(), Force: w.rng.IntN(2) == 0,
		Entries: []Entry{{Partition: p, Offset: w.rng.Uint64N(8)}},
	}
	owner, _ := w.model.owner(c.Group, p)
	ok := w.model.exists(p) && (owner == "" || c.Force)
	if ok {
		w.model.add(c.Group, event{kind: "offset", partition: p, offset: c.Entries[0].Offset, plain: true})
	}
	w.apply(c, ok)
}

// compare looks at everything both of them know.
func (w *world) compare() {
	w.t.Helper()
	if err := w.m.Check(); err != nil {
		w.fail("%v", err)
	}
	for _, g := range []string{"g", "h"} {
		if w.m.Has(g) != (len(w.model.history[g]) > 0) {
			w.fail("group %s: exists %v", g, w.m.Has(g))
		}
		if w.m.Has(g) && w.m.Generation(g) != w.model.generation(g) {
			w.fail("group %s: generation %d, model %d", g, w.m.Generation(g), w.model.generation(g))
		}
		for _, id := range []string{"a", "b", "c"} {
			if _, ok := w.m.Member(g, id); ok != w.model.isMember(g, id) {
				w.fail("group %s: %s is a member: %v", g, id, ok)
			}
		}
		for p := uint64(1); p <= partitions; p++ {
			owner, since, _ := w.m.Owner(g, p)
			if wantOwner, wantSince := w.model.owner(g, p); owner != wantOwner || since != wantSince {
				w.fail("group %s partition %d: owner %q since %d, model %q since %d", g, p, owner, since, wantOwner, wantSince)
			}
			o := w.m.Offsets(g, []uint64{p})[0]
			if want, has := w.model.offset(g, p); o.Committed != has || has && o.Offset.Next != want.offset {
				w.fail("group %s partition %d: offset %+v, model %+v %v", g, p, o, want, has)
			}
		}
	}
}

// TestAgainstModel runs random commands against the model, and at the end
// compares the state with a replay and with a snapshot plus the tail.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	runs := uint64(60)
	if testing.Short() {
		runs = 20
	}
	for seed := range runs {
		w := &world{
			t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), m: New(),
			model: &model{gone: map[uint64]bool{}, history: map[string][]event{}},
		}
		var snapshot []byte
		tail := 0
		for range 200 {
			w.step()
			w.compare()
			if w.rng.IntN(50) == 0 {
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
		want := w.m.Snapshot()
		if !slices.Equal(replayed.Snapshot(), want) {
			w.fail("a replay ends in another state")
		}
		if !slices.Equal(restored.Snapshot(), want) {
			w.fail("snapshot and tail end in another state")
		}
	}
}
