package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/workload"
)

// work is which workloads run, and how large.
type work struct {
	Workload   string
	Clients    int
	Partitions int32         // of every topic
	Think      time.Duration // mean pause between transactions of one client
	Timeout    time.Duration // of transactions
	Abort      workload.Share
	Pad        int // most bytes added to a record
	InFlight   int // batches under way per partition; 0: the SDK's
	Hurries    workload.Share
	// Retention of the topics; 0: for ever.
	Retention      time.Duration
	RetentionBytes int64
	// Compacted is how many keys the records of a topic have that is compacted; 0: there
	// is none.
	Compacted int
	// Subscribe has the chain done by members that the groups give partitions to:
	// with this session timeout and max poll interval, with instance ids or not, by
	// the range assignor or the sticky one.
	Subscribe        bool
	Session, MaxPoll time.Duration
	Static, Range    bool
}

// keptTopic is a topic beside those that keep little, which keeps all: what it has
// is relocated.
const keptTopic = "kept"

// compactedTopic is a topic beside the others that is compacted by key.
const compactedTopic = "compacted"

// Workloads of a seed.
const (
	workAppend   = "append"   // transactions over several partitions, and plain records
	workTransfer = "transfer" // sums that are 0 at every commit point
	workProcess  = "process"  // three chained levels of read-process-write
	workHijack   = "hijack"   // clients that take ids from each other, and an operator
	workChurn    = "churn"    // a new epoch for every transaction, ids that expire
	workLarge    = "large"    // large records
	workMeddle   = "meddle"   // nothing but readers, and a meddler
)

func drawWork(r *rand.Rand) work {
	w := work{
		Workload:   pick(r, workAppend, workAppend, workTransfer, workTransfer, workProcess, workProcess, workHijack, workChurn, workLarge),
		Clients:    1 + r.IntN(3),
		Partitions: int32(2 + r.IntN(4)),
		Think:      pick(r, 50*time.Millisecond, 100*time.Millisecond, 300*time.Millisecond),
		Timeout:    pick(r, time.Second, 3*time.Second, 10*time.Second),
		Abort:      pick(r, workload.Share(0), 0.2, 0.5),
		InFlight:   pick(r, 0, 0, 1),
	}
	if w.Workload == workLarge {
		w.Pad = pick(r, 4<<10, 64<<10)
		w.Think = 300 * time.Millisecond
	}
	return w
}

// drawRetention has the topics of some plans keep little. Its chance is its own, so
// that the rest of a plan is the same with it and without. Where what was written
// has to be there for what comes next, everything is kept.
func drawRetention(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x6b656570))
	if p.Work.Workload == workProcess || p.Work.Workload == workTransfer || p.Work.Workload == workMeddle || r.IntN(2) == 0 {
		return
	}
	p.Work.Retention = pick(r, 0, 500*time.Millisecond, 3*time.Second)
	p.Work.RetentionBytes = pick(r, int64(0), 300, 3000)
	p.Sizes.RetentionInterval = pick(r, 100*time.Millisecond, time.Second)
	p.Sizes.RelocateBytes = pick(r, uint64(500), 5000, 0)
}

// drawCompaction has some plans write to a topic that is compacted. Its chance is its
// own, too.
func drawCompaction(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x636f6d70))
	if p.Work.Workload == workProcess || p.Work.Workload == workMeddle || r.IntN(3) > 0 {
		return
	}
	p.Work.Compacted = pick(r, 2, 10, 50)
	p.Sizes.CompactionKeys = pick(r, 0, 3)
	p.Sizes.RetentionInterval = pick(r, 100*time.Millisecond, time.Second)
	if p.Sizes.RelocateBytes == 0 {
		p.Sizes.RelocateBytes = pick(r, uint64(5000), 0)
	}
}

// kept reports whether the topics keep what is written to them for ever.
func (w work) kept() bool { return w.Retention == 0 && w.RetentionBytes == 0 }

// config is how a topic is kept.
func (w work) config(topic string) *oncelogv1.TopicConfig {
	c := &oncelogv1.TopicConfig{}
	if topic == keptTopic {
		return c
	}
	if topic == compactedTopic {
		c.CleanupPolicy = oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT
		return c
	}
	if w.Retention > 0 {
		c.RetentionMs = proto.Int64(w.Retention.Milliseconds())
	}
	if w.RetentionBytes > 0 {
		c.RetentionBytes = proto.Int64(w.RetentionBytes)
	}
	return c
}

// drawMembership decides how the members of groups get their partitions. It draws
// on its own, so that the rest of a seed is what it was before there was a choice.
func drawMembership(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x67726f757073))
	if p.Work.Workload != workProcess || r.IntN(2) == 0 {
		return
	}
	p.Work.Subscribe = true
	p.Work.Session = pick(r, time.Second, 2*time.Second, 4*time.Second)
	p.Work.MaxPoll = pick(r, time.Minute, time.Minute, 3*time.Second)
	p.Work.Static = r.IntN(3) == 0
	p.Work.Range = r.IntN(4) == 0
}

// drawHurries has the clients of some worlds not wait for the answers to their
// commits. Without them a commit remains unknown only when its coordinators are away
// for all of CallTimeout, and then it mostly has not arrived. It draws on its own, and so
// that the seeds with which mutants begin ("seen at") are the worlds that they were.
func drawHurries(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x68757317))
	if r.IntN(6) == 0 {
		p.Work.Hurries = pick(r, workload.Share(0.05), 0.3)
	}
}

func (w work) topic(name string) workload.Topic {
	return workload.Topic{Name: name, Partitions: w.Partitions}
}

// topics are the topics of the workload.
func (w work) topics() []workload.Topic {
	if w.Workload == workProcess {
		return []workload.Topic{w.topic("level0"), w.topic("level1"), w.topic("level2"), w.topic("level3")}
	}
	out := []workload.Topic{w.topic("records")}
	if !w.kept() {
		out = append(out, w.topic(keptTopic))
	}
	if w.Compacted > 0 {
		out = append(out, w.compacted())
	}
	return out
}

// compacted is the topic that is compacted: of few partitions, so that it has
// segments.
func (w work) compacted() workload.Topic { return workload.Topic{Name: compactedTopic, Partitions: 2} }

// levels of the chain of read-process-write.
const levels = 3

// follower is a group that commits positions without transactions.
const follower = "follower"

func level(i int) string { return fmt.Sprintf("level%d", i) }

// groups are the consumer groups whose positions count.
func (w work) groups() []string {
	if w.Workload != workProcess {
		return nil
	}
	var out []string
	for i := range levels {
		out = append(out, fmt.Sprintf("group%d", i))
	}
	return append(out, follower)
}

// rules is what the workload promises to the checkers.
func (w work) rules(healed bool) history.Rules {
	r := history.Rules{Healed: healed}
	if w.Compacted > 0 {
		r.Compacted = map[string]int{compactedTopic: w.Compacted}
	}
	switch w.Workload {
	case workTransfer:
		r.Banks = []string{"records"}
	case workProcess:
		for i := range levels {
			r.Flows = append(r.Flows, history.Flow{Group: fmt.Sprintf("group%d", i), From: level(i), To: level(i + 1)})
		}
	}
	return r
}

// producer is what all clients that write have in common.
func (w work) producer(k workload.Kind, topic string, ids ...string) workload.Config {
	return workload.Config{
		Kind: k, IDs: ids, Output: w.topic(topic), Think: w.Think, Aborts: w.Abort, Pad: w.Pad, MaxInFlight: w.InFlight,
		Flushes: 0.3, Asks: 0.1, Gaps: 0.3, Overtime: 0.01, Hurries: w.Hurries,
		TransactionTimeout: w.Timeout, DeliveryTimeout: w.Timeout, CallTimeout: 8 * time.Second,
	}
}

func (w work) reader(topic string, uncommitted bool) workload.Config {
	return workload.Config{
		Kind: workload.Read, Input: w.topic(topic), Uncommitted: uncommitted, Trimmed: !w.kept() && topic != keptTopic, Restarts: 0.05, Think: 300 * time.Millisecond,
		CallTimeout: 8 * time.Second,
	}
}

// configs are the clients of the workload; each has a number of its own.
func (w work) configs() []workload.Config {
	var out []workload.Config
	add := func(c workload.Config) {
		c.Client = uint32(len(out) + 1)
		out = append(out, c)
	}
	switch w.Workload {
	case workProcess:
		w.process(add)
	case workHijack:
		for range w.Clients + 1 {
			c := w.producer(workload.Append, "records", "shared1", "shared2")
			c.PerInit = 4
			add(c)
		}
		add(workload.Config{
			Kind: workload.Operate, IDs: []string{"shared1", "shared2"}, Input: w.topic("records"),
			Think: 2 * time.Second, CallTimeout: 8 * time.Second,
		})
	case workMeddle:
	default:
		for i := range w.Clients {
			kind := workload.Append
			if w.Workload == workTransfer {
				kind = workload.Transfer
			}
			c := w.producer(kind, "records", fmt.Sprintf("id%d", i))
			if w.Workload == workChurn {
				c.IDs = append(c.IDs, fmt.Sprintf("id%d.b", i), fmt.Sprintf("id%d.c", i))
				c.PerInit = 1
			}
			add(c)
		}
		if w.Workload == workAppend {
			add(w.producer(workload.Plain, "records"))
		}
	}
	if w.Workload != workProcess {
		add(w.reader("records", false))
		add(w.reader("records", true))
	}
	if !w.kept() {
		seldom := w.producer(workload.Append, keptTopic, "seldom")
		seldom.Think = time.Second
		add(seldom)
		add(w.reader(keptTopic, false))
	}
	if w.Compacted > 0 {
		for _, kind := range []workload.Kind{workload.Append, workload.Plain} {
			c := w.producer(kind, compactedTopic, "compacting")
			c.Output, c.Keys, c.Pad, c.Think = w.compacted(), w.Compacted, 300, 100*time.Millisecond
			add(c)
		}
		for _, uncommitted := range []bool{false, true} {
			c := w.reader(compactedTopic, uncommitted)
			c.Input, c.Trimmed, c.Restarts = w.compacted(), false, 0.2
			add(c)
		}
	}
	return out
}

// process adds a chain: a source, three levels, each done by one or two
// members, and readers of both ends.
func (w work) process(add func(workload.Config)) {
	source := w.producer(workload.Append, level(0), "source")
	source.Think = 2 * w.Think
	add(source)
	for i := range levels {
		members := 1 + (w.Clients+i)%2
		if w.Subscribe {
			members++
		}
		for m := range members {
			c := w.producer(workload.Process, level(i+1), fmt.Sprintf("level%d.%d", i, m))
			c.Input, c.Group = w.topic(level(i)), fmt.Sprintf("group%d", i)
			c.Restarts, c.Steals = 0.05, 0.2
			c.Aborts /= 4
			if w.subscribe(&c, m); !w.Subscribe {
				for p := int32(m); p < w.Partitions; p += int32(members) {
					c.Assigned = append(c.Assigned, p)
				}
			}
			add(c)
		}
	}
	add(w.reader(level(levels), false))
	c := workload.Config{
		Kind: workload.Follow, Input: w.topic(level(1)), Group: follower, Restarts: 0.05, Think: 200 * time.Millisecond,
		CallTimeout: 8 * time.Second,
	}
	w.subscribe(&c, 0)
	add(c)
}

// subscribe makes a client a member that is given its partitions, if the seed has
// such; m is its number within the group.
func (w work) subscribe(c *workload.Config, m int) {
	if !w.Subscribe {
		return
	}
	c.Subscribe, c.Session, c.MaxPoll, c.Range, c.Steals = true, w.Session, w.MaxPoll, w.Range, 0
	if w.Static {
		c.Instance = fmt.Sprintf("%s.%d", c.Group, m)
	}
}
