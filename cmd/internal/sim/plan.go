package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Plan is everything that a seed decides before the first event: how large the
// world is, what the weather is like, and which faults come when. Faults are a
// list, so that a failing seed can be shrunk by leaving some out.
type Plan struct {
	Seed    uint64
	Horizon time.Duration // until which there are faults and work
	Sizes   sizes
	Weather weather
	Faults  []fault
	Work    work
	// Meddling: somebody tries everything besides.
	Meddling meddling
	// Operating: replicas move, and nodes come and go.
	Operating operating
	// Backups are when somebody begins to take one.
	Backups []time.Duration
}

// fault is one thing that goes wrong.
type fault struct {
	At, For time.Duration
	Kind    faultKind
	// Victim chooses among the nodes that the kind is about, Side a set of nodes
	// by its bits.
	Victim, Side uint64
	Amount       time.Duration
}

type faultKind string

// What may go wrong.
const (
	crashNode      faultKind = "crash"           // kill -9
	cutPower       faultKind = "power-cut"       // unsynced writes are lost, or torn
	crashLeader    faultKind = "crash-leader"    // of the coordinator, or of a shard
	crashAll       faultKind = "crash-group"     // every coordinator, or every partition node
	pauseNode      faultKind = "pause"           // SIGSTOP
	splitNodes     faultKind = "partition"       // two sides that cannot talk
	splitOneWay    faultKind = "one-way"         // one of which can
	cutPeers       faultKind = "peers-cut"       // a leader and the others of its kind cannot talk, and everybody else can
	clogNodes      faultKind = "swizzle-clog"    // one node after the other, and back in another order
	slowDisk       faultKind = "slow-fsync"      //
	fillDisk       faultKind = "disk-full"       //
	breakDisk      faultKind = "eio"             // the node must stop
	moveLeader     faultKind = "leader-transfer" //
	skewClock      faultKind = "clock"           // the wall clock jumps
	crashClient    faultKind = "client-crash"    // a successor takes over
	abandonClient  faultKind = "client-gone"     // nobody takes over
	pauseClient    faultKind = "client-zombie"   // a successor takes over, then the old one goes on
	lateClientCopy faultKind = "client-hijack"   // a second instance while the first works
)

// swarm gives the kinds weights; a seed leaves some out, so that each fault is
// sometimes alone.
var swarm = []struct {
	kind   faultKind
	weight int
	length time.Duration // the longest
}{
	{crashNode, 4, 800 * time.Millisecond},
	{cutPower, 4, 800 * time.Millisecond},
	{crashLeader, 5, 800 * time.Millisecond},
	{crashAll, 1, 500 * time.Millisecond},
	{pauseNode, 4, 2500 * time.Millisecond},
	{splitNodes, 4, 3 * time.Second},
	{splitOneWay, 3, 3 * time.Second},
	{cutPeers, 3, 3 * time.Second},
	{clogNodes, 1, 3 * time.Second},
	{slowDisk, 2, 3 * time.Second},
	{fillDisk, 1, 2 * time.Second},
	{breakDisk, 1, 800 * time.Millisecond},
	{moveLeader, 2, 0},
	{skewClock, 2, 0},
	{crashClient, 4, 0},
	{abandonClient, 1, 3 * time.Second},
	{pauseClient, 4, 4 * time.Second},
	{lateClientCopy, 2, 0},
}

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// Draw makes the plan of a seed. Some worlds have an operator and a stranger in
// them, see package meddle.
func Draw(seed uint64) Plan {
	r := rand.New(rand.NewPCG(seed, 0x706c616e))
	p := Plan{
		Seed:    seed,
		Horizon: between(r, 20*time.Second, 24*time.Second),
		Sizes: sizes{
			Coordinators: pick(r, 3, 3, 3, 1), Partitions: pick(r, 3, 3, 3, 4),
			ShardsPerNode:       1,
			CoordinatorSnapshot: pick(r, uint64(0), 20, 200),
			ShardSnapshot:       pick(r, uint64(0), 5, 20, 200),
			Tick:                pick(r, 50*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond),
			ElectionTicks:       10,
			Fsync:               pick(r, 0, 200*time.Microsecond, time.Millisecond, 10*time.Millisecond),
			ExpireGrace:         pick(r, 500*time.Millisecond, 5*time.Second),
			CheckProducers:      pick(r, 2*time.Second, time.Minute),
			EnlistInterval:      pick(r, 500*time.Millisecond, 3*time.Second),
		},
		Weather: weather{
			Loss:      pick(r, 0, 0, 0.002, 0.01, 0.05),
			Duplicate: pick(r, 0, 0, 0.02, 0.2),
			Delay:     pick(r, 500*time.Microsecond, time.Millisecond, 5*time.Millisecond, 20*time.Millisecond),
			Late:      pick(r, 0, 0.002, 0.02),
			LateBy:    pick(r, 500*time.Millisecond, 3*time.Second),
		},
	}
	p.Sizes.RequestIDsKept = 16
	if p.Weather.Duplicate > 0 {
		p.Sizes.RequestIDsKept = 1000
	}
	// With the default delays most transactions of a world end before anybody tells the
	// coordinator of them. In worlds that ask often they are told early, too.
	if p.Sizes.EnlistInterval < time.Second {
		p.Sizes.EnlistDelay, p.Sizes.AckDelay = 20*time.Millisecond, 20*time.Millisecond
	}
	p.Work = drawWork(r)
	drawMembership(&p)
	drawHurries(&p)
	p.Faults = drawFaults(r, p.Horizon)
	drawMeddling(&p) // retention and lost disks look whether there is somebody who meddles
	drawRetention(&p)
	drawCompaction(&p)
	drawOperator(&p)
	drawLostDisk(&p)
	drawReplacement(&p)
	drawBackups(&p)
	drawDamage(&p)
	return p
}

// drawFaults draws a Poisson schedule over a mix of kinds. One seed in eight has
// no fault at all.
func drawFaults(r *rand.Rand, horizon time.Duration) []fault {
	if r.IntN(8) == 0 {
		return nil
	}
	var kinds []int
	for i := range swarm {
		if r.IntN(2) == 0 {
			for range swarm[i].weight {
				kinds = append(kinds, i)
			}
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	mean := pick(r, 400*time.Millisecond, 1200*time.Millisecond, 3*time.Second)
	var out []fault
	for at := time.Second + between(r, 0, 2*mean); at < horizon-time.Second; at += time.Duration(r.ExpFloat64() * float64(mean)) {
		k := swarm[kinds[r.IntN(len(kinds))]]
		out = append(out, fault{
			At: at, For: between(r, 10*time.Millisecond, k.length), Kind: k.kind,
			Victim: r.Uint64(), Side: r.Uint64(),
			Amount: pick(r, -1500*time.Millisecond, -500*time.Millisecond, 500*time.Millisecond, 1500*time.Millisecond, 20*time.Second),
		})
	}
	return out
}

// without returns the plan without some of its faults.
func (p Plan) without(drop map[int]bool) Plan {
	kept := make([]fault, 0, len(p.Faults))
	for i, f := range p.Faults {
		if !drop[i] {
			kept = append(kept, f)
		}
	}
	p.Faults = kept
	return p
}

// String describes a plan in a few lines.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v of %s with %d clients, %d+%d nodes, loss %g, duplicates %g, delay %v, late %g up to %v, fsync up to %v, checkpoints every %d and %d entries\n",
		p.Seed, p.Horizon.Round(time.Millisecond), p.Work.Workload, p.Work.Clients, p.Sizes.Coordinators, p.Sizes.Partitions,
		p.Weather.Loss, p.Weather.Duplicate, p.Weather.Delay, p.Weather.Late, p.Weather.LateBy, p.Sizes.Fsync,
		p.Sizes.CoordinatorSnapshot, p.Sizes.ShardSnapshot)
	if !p.Work.kept() {
		fmt.Fprintf(&b, "  records may go after %v and beyond %d bytes (0: never), looked at every %v; relocated from %d bytes on\n",
			p.Work.Retention, p.Work.RetentionBytes, p.Sizes.RetentionInterval, p.Sizes.RelocateBytes)
	}
	if p.Work.Compacted > 0 {
		fmt.Fprintf(&b, "  a topic of %d keys is compacted, looked at every %v, %d keys at a time (0: all); relocated from %d bytes on\n",
			p.Work.Compacted, p.Sizes.RetentionInterval, p.Sizes.CompactionKeys, p.Sizes.RelocateBytes)
	}
	if p.Operating.Acts > 0 {
		fmt.Fprintf(&b, "  an operator does %d things, at most %v apart\n", p.Operating.Acts, p.Operating.Pause)
	}
	for _, at := range p.Backups {
		fmt.Fprintf(&b, "  a backup is taken %.3fs after the work has begun\n", at.Seconds())
	}
	for i, f := range p.Faults {
		fmt.Fprintf(&b, "  %3d  %8.3fs %s for %v\n", i, f.At.Seconds(), f.Kind, f.For.Round(time.Millisecond))
	}
	return b.String()
}
