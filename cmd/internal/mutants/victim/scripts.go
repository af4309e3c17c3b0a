package main

import (
	"time"

	"github.com/oncelog/oncelog/cmd/internal/sim"
)

// scripts change the plan of a seed so that a bug shows that plans as they are
// drawn meet too seldom. The empty name leaves plans alone.
var scripts = map[string]func(sim.Plan) sim.Plan{
	"":               nil,
	"full-disks":     fullDisks,
	"elections":      elections,
	"lost-snapshots": lostSnapshots,
	"abandoned":      abandoned,
	"deposed":        deposed,
	"asleep":         asleep,
}

// fullDisks has disks run full and get room again, and nothing else go wrong: it
// is what makes a leader that stays leader refuse one proposal and take the next.
func fullDisks(p sim.Plan) sim.Plan {
	for i := range p.Faults {
		f := &p.Faults[i]
		f.Kind, f.For = "disk-full", min(f.For, 1500*time.Millisecond)
	}
	return p
}

// elections has power cuts of a moment come so often, and messages so late, that
// members are asked for their votes before and after them in the same term.
func elections(p sim.Plan) sim.Plan {
	p.Weather.Late, p.Weather.LateBy = 0.3, 500*time.Millisecond
	p.Sizes.Fsync = 100 * time.Millisecond
	for _, f := range p.Faults {
		f.Kind = "power-cut"
		for range 4 {
			f.For = min(f.For, 50*time.Millisecond)
			f.At += 150 * time.Millisecond
			f.Victim = f.Victim>>7 | f.Victim<<57
			p.Faults = append(p.Faults, f)
		}
	}
	return p
}

// lostSnapshots has coordinators be away for as long as it takes to need a snapshot,
// and again when it is on its way, for longer than anybody waits for them.
func lostSnapshots(p sim.Plan) sim.Plan {
	p.Weather.Loss = 0.15
	p.Sizes.Coordinators, p.Sizes.CoordinatorSnapshot = 3, 20
	faults := p.Faults
	p.Faults = nil
	for i, f := range faults {
		if i%3 != 0 {
			continue // one at a time, or nobody leads
		}
		f.Kind, f.For = "crash", 1500*time.Millisecond
		p.Faults = append(p.Faults, f)
		f.At, f.For = f.At+1700*time.Millisecond, 6*time.Second
		p.Faults = append(p.Faults, f)
	}
	return p
}

// abandoned has clients end in the middle of their work, and nothing else go
// wrong but for changes of leaders.
func abandoned(p sim.Plan) sim.Plan {
	for i := range p.Faults {
		if f := &p.Faults[i]; i%2 == 0 {
			f.Kind, f.For = "client-gone", time.Minute
		} else {
			f.Kind = "crash-leader"
		}
	}
	return p
}

// deposed has leaders of the coordinators be cut off from the others and from
// nobody else, while clients are taken over: some of whose successors find the
// new leader, and some of whose shards still ask the old one.
func deposed(p sim.Plan) sim.Plan {
	p.Sizes.Coordinators = 3
	for _, f := range p.Faults {
		f.Kind, f.Victim, f.For = "peers-cut", f.Victim&^1, 1500*time.Millisecond
		p.Faults = append(p.Faults, f)
		for i := range uint64(4) {
			f.Kind, f.Victim, f.At = "client-zombie", f.Victim+i, f.At+150*time.Millisecond
			p.Faults = append(p.Faults, f)
		}
	}
	return p
}

// asleep has leaders of the coordinators be paused for longer than an election
// takes while they are cut off from the others, and from nobody else: when they go
// on they do not know yet that somebody else has led meanwhile.
func asleep(p sim.Plan) sim.Plan {
	p.Sizes.Coordinators = 3
	faults := p.Faults
	p.Faults = nil
	for i, f := range faults {
		if i%4 != 0 {
			continue // each takes its time
		}
		f.Victim, f.Side = f.Victim&^1, 0
		f.Kind, f.For = "peers-cut", 4*time.Second
		p.Faults = append(p.Faults, f)
		f.Kind, f.For = "pause", 1800*time.Millisecond
		f.At += time.Millisecond
		p.Faults = append(p.Faults, f)
		for range 2 {
			f.Kind, f.Victim, f.At = "client-zombie", f.Victim+1, f.At+800*time.Millisecond
			p.Faults = append(p.Faults, f)
		}
	}
	return p
}
