package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/workload"
)

// Times of a run. A fault may last longer than any of them.
const (
	// transactionTimeout of all producers.
	transactionTimeout = 3 * time.Second
	callTimeout        = 6 * time.Second
	deliveryTimeout    = 6 * time.Second
	// impatience is the callTimeout of some, who often do not know what came of a
	// commit.
	impatience = 700 * time.Millisecond
)

// plan is what a seed draws.
type plan struct {
	seed uint64
	// disks: nodes keep their data on disks that can fail.
	disks bool
	steps []step
	crews []crewPlan
}

// step is a fault.
type step struct {
	at     time.Duration // since the faults began
	length time.Duration
	fault  *fault
	seed   uint64 // of whom it hits
}

// crewPlan is a process of clients.
type crewPlan struct {
	name    string
	clients []workload.Config
}

// String returns the plan for people.
func (p *plan) String() string {
	var b strings.Builder
	for _, s := range p.steps {
		fmt.Fprintf(&b, "%6.1fs %4.1fs  %s\n", s.at.Seconds(), s.length.Seconds(), s.fault.name)
	}
	return b.String()
}

// draw draws a plan whose faults fill a time. only, if not empty, names the
// faults to draw from; disks says whether those of disks are possible.
func draw(seed uint64, fill time.Duration, disks bool, only []string) *plan {
	rng := rand.New(rand.NewPCG(seed, 0))
	p := &plan{seed: seed, disks: disks, crews: crews()}
	cards := slices.DeleteFunc(faults(), func(f *fault) bool {
		return f.disk && !disks || len(only) > 0 && !slices.Contains(only, f.name)
	})
	if len(cards) == 0 {
		return p
	}
	var deck []*fault
	for at := between(rng, 0, time.Second); ; {
		if len(deck) == 0 {
			deck = slices.Clone(cards)
			rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		s := step{at: at, length: between(rng, time.Second, 4*time.Second), fault: deck[0], seed: rng.Uint64()}
		if s.fault.long {
			s.length += transactionTimeout
		}
		deck = deck[1:]
		if s.at+s.length > fill {
			return p
		}
		p.steps = append(p.steps, s)
		if rng.IntN(4) == 0 {
			at += between(rng, 0, s.length) // the next one comes on top
		} else {
			at += s.length + between(rng, 0, 2*time.Second)
		}
	}
}

// between draws a time of at least low and less than high.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// Topics.
var (
	topicRecords  = workload.Topic{Name: "records", Partitions: 6}
	topicAccounts = workload.Topic{Name: "accounts", Partitions: 4}
)

// levels is the number of stages of the chain of read-process-write.
const levels = 3

func level(i int) workload.Topic {
	return workload.Topic{Name: fmt.Sprintf("level-%d", i), Partitions: 4}
}

func group(i int) string { return fmt.Sprintf("stage-%d", i) }

// follower is a group that commits without transactions.
const follower = "follower"

func topics() []workload.Topic {
	out := []workload.Topic{topicRecords, topicAccounts}
	for i := range levels + 1 {
		out = append(out, level(i))
	}
	return out
}

func groups() []string {
	out := []string{follower}
	for i := range levels {
		out = append(out, group(i))
	}
	return out
}

// rules are what the workloads promise to the checkers.
func rules() history.Rules {
	r := history.Rules{Banks: []string{topicAccounts.Name}}
	for i := range levels {
		r.Flows = append(r.Flows, history.Flow{Group: group(i), From: level(i).Name, To: level(i + 1).Name})
	}
	return r
}

// crews are the processes of clients, whose clients have no numbers yet.
func crews() []crewPlan {
	writer := workload.Config{
		Aborts: 0.2, Flushes: 0.4, Asks: 0.1, Gaps: 0.3, Overtime: 0.01, Think: 40 * time.Millisecond,
		TransactionTimeout: transactionTimeout, DeliveryTimeout: deliveryTimeout, CallTimeout: callTimeout,
	}
	with := func(kind workload.Kind, change func(*workload.Config)) workload.Config {
		c := writer
		c.Kind = kind
		change(&c)
		return c
	}
	write := func(kind workload.Kind, to workload.Topic, ids ...string) workload.Config {
		return with(kind, func(c *workload.Config) { c.Output, c.IDs = to, ids })
	}
	read := func(from workload.Topic, uncommitted bool) workload.Config {
		return with(workload.Read, func(c *workload.Config) {
			c.Input, c.Uncommitted, c.Restarts, c.Think = from, uncommitted, 0.03, 100*time.Millisecond
		})
	}
	thief := write(workload.Append, topicRecords, "shared-1", "shared-2")
	thief.PerInit, thief.CallTimeout = 5, impatience
	hasty := write(workload.Transfer, topicAccounts, "transfer-2")
	hasty.CallTimeout = impatience
	long := write(workload.Append, topicRecords, "long")
	long.Pad, long.Think = 100<<10, 200*time.Millisecond
	source := write(workload.Append, level(0), "source")
	source.MaxRecords = 2
	return []crewPlan{
		{"writers", []workload.Config{
			write(workload.Append, topicRecords, "append-1"), long,
			write(workload.Transfer, topicAccounts, "transfer-1"), hasty,
		}},
		{"thieves", []workload.Config{thief, thief, with(workload.Operate, func(c *workload.Config) {
			c.IDs, c.Think = []string{"shared-1", "shared-2"}, time.Second
			c.Input, c.Group = level(0), group(0)
		})}},
		{"members-1", append(members(with, 0, 2), source)},
		{"members-2", append(members(with, 1, 3), write(workload.Plain, topicRecords))},
		{"readers", []workload.Config{
			read(topicRecords, false), read(topicRecords, true), read(topicAccounts, false), read(level(levels), false),
			with(workload.Follow, func(c *workload.Config) {
				c.Input, c.Group, c.Restarts = level(1), follower, 0.02
			}),
		}},
	}
}

// members are one member of every stage's group, with some of the partitions.
func members(with func(workload.Kind, func(*workload.Config)) workload.Config, partitions ...int32) []workload.Config {
	var out []workload.Config
	for i := range levels {
		out = append(out, with(workload.Process, func(c *workload.Config) {
			c.Input, c.Output, c.Group = level(i), level(i+1), group(i)
			c.IDs = []string{fmt.Sprintf("%s-%d", group(i), partitions[0])}
			c.Assigned, c.Aborts, c.Restarts, c.Steals = partitions, 0.05, 0.03, 0.2
			c.MaxRecords = 10
		}))
	}
	return out
}
