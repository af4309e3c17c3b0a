package streams_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/streams"
	"github.com/oncelog/oncelog/client/streams/state"
	"github.com/oncelog/oncelog/client/streams/state/pebblestate"
)

var (
	firstSeed = flag.Uint64("start", 1, "first seed of TestRandomFaults")
	seeds     = flag.Uint64("seeds", 0, "how many seeds TestRandomFaults runs; 0: 2, and 1 with -short")
)

// TestRandomFaults counts words while instances are killed, hang, are cut off, lose
// power and come back, nodes crash, and messages are lost, late and without answer.
// Then all is healed, and every word of the input must be counted once: the counts
// of a word are 1, 2, 3 and so on up to how often the input has it, and the stores
// hold the last of them. The seed fixes the faults and their times, not the order in
// which goroutines run.
//
// Covers ST-09, SY-05 of CONFORMANCE.md.
func TestRandomFaults(t *testing.T) {
	n := *seeds
	if n == 0 {
		if n = 2; testing.Short() {
			n = 1
		}
	}
	for seed := *firstSeed; seed < *firstSeed+n; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(w *world) { newChaos(w, seed).run() }, clienttest.WithCoordinators(3), clienttest.WithNodes(3))
		})
	}
}

// faultsFor is how long faults happen.
const faultsFor = 30 * time.Second

// chaos is one run.
type chaos struct {
	w        *world
	rng      *rand.Rand
	seed     uint64
	slots    [3]*slot
	injected []*clienttest.Injected
	mending  []func()
	lives    int
	dead     []*instance // killed, whose Run has not returned yet
	tally    map[string]int
}

// slot is a machine: what its files have outlives the process.
type slot struct {
	name  string
	files *vfs.MemFS // nil: state in memory
	open  *pebblestate.Backend
	now   *instance
	host  string
}

func newChaos(w *world, seed uint64) *chaos {
	x := &chaos{w: w, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), tally: map[string]int{}}
	for i := range x.slots {
		x.slots[i] = &slot{name: fmt.Sprint("machine-", i)}
		if i > 0 {
			x.slots[i].files = vfs.NewCrashableMem()
		}
	}
	return x
}

func (x *chaos) between(least, most time.Duration) time.Duration {
	return least + time.Duration(x.rng.Int64N(int64(most-least)))
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// boot starts an instance on a machine, as a new process.
func (x *chaos) boot(s *slot) {
	x.lives++
	s.host = fmt.Sprintf("%s.%d", s.name, x.lives)
	var backend state.Backend = state.NewMemory()
	if s.files != nil {
		s.open = x.w.files(s.files)
		backend = s.open
	}
	id := s.name
	if x.rng.IntN(2) == 0 {
		id = s.host
	}
	s.now = x.w.start(s.host, wordCount(), streams.WithInstanceID(id), streams.WithState(backend),
		streams.WithWorkers(1+x.rng.IntN(2)), streams.WithStandbys(x.rng.IntN(2)), streams.WithProducerOptions(client.WithTransactionTimeout(3*time.Second)))
}

// kill ends a process without a word, and with the power of its machine.
func (x *chaos) kill(s *slot) {
	x.w.Isolate(x.w.Host(s.host))
	s.now.stop()
	x.dead = append(x.dead, s.now)
	if s.open != nil {
		s.files = s.files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: x.rng.IntN(101), RNG: x.rng})
		closing := s.open
		dead := s.now
		go func() { // when nobody uses it any more
			<-dead.done
			_ = closing.Close()
			dead.done <- context.Canceled
		}()
	}
}

// ended judges why an instance has ended by itself, and starts it anew.
func (x *chaos) ended(s *slot) {
	select {
	case err := <-s.now.done:
		if client.ClassOf(err) == 0 {
			x.w.t.Errorf("seed %d: %s: %v", x.seed, s.host, err)
		}
		x.tally["ended by itself"]++
		if s.open != nil {
			x.w.must(s.open.Close())
		}
		x.boot(s)
	default:
	}
}

func (x *chaos) run() {
	for _, s := range x.slots {
		x.boot(s)
	}
	feeding := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(feeding)
		x.feed(stop)
	}()
	for end := time.Now().Add(faultsFor); time.Now().Before(end); {
		x.fault()
		for _, s := range x.slots {
			x.ended(s)
		}
		<-time.After(x.between(20*time.Millisecond, 1500*time.Millisecond))
	}
	x.heal()
	close(stop)
	<-feeding
	x.check()
	for _, s := range x.slots {
		x.ended(s)
		s.now.end()
		if s.open != nil {
			x.w.must(s.open.Close())
		}
	}
	for _, i := range x.dead {
		<-i.done
	}
}

// feed writes lines until it is stopped. How a transaction ended it need not know.
func (x *chaos) feed(stop chan struct{}) {
	rng := rand.New(rand.NewPCG(x.seed, 2))
	text := strings.Fields("the quick brown fox jumps over the lazy dog and the cat")
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.Int64N(int64(500 * time.Millisecond)))):
		}
		_ = x.w.feeder.Transact(x.w.t.Context(), func(tx *client.Tx) error {
			for range 1 + rng.IntN(4) {
				line := strings.Join(text[rng.IntN(5):5+rng.IntN(7)], " ")
				r := (&client.Record{Topic: "lines", Value: []byte(line)}).WithPartition(rng.Int32N(3))
				if err := tx.Send(x.w.t.Context(), r); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// fault lets something happen, or ends something.
func (x *chaos) fault() {
	s := pick(x.rng, x.slots[:])
	switch x.rng.IntN(14) {
	case 0, 1:
		x.tally["kill"]++
		x.kill(s)
		x.boot(s)
	case 2:
		x.tally["stop"]++
		s.now.stop()
		x.dead = append(x.dead, s.now)
		if s.open != nil {
			err := <-s.now.done
			s.now.done <- err
			x.w.must(s.open.Close())
		}
		x.boot(s)
	case 3, 4:
		x.tally["hang"]++
		h := x.w.Host(s.host)
		h.Pause()
		x.mending = append(x.mending, h.Resume)
	case 5:
		x.tally["cut"]++
		n := pick(x.rng, append(x.w.Nodes(), x.w.Coordinators()...))
		x.w.CutOneWay(x.w.Host(s.host), n)
	case 6:
		x.tally["crash of a node"]++
		n := pick(x.rng, append(x.w.Nodes(), x.w.Coordinators()...))
		n.Crash()
		n.Start()
	case 7, 8, 9:
		x.tally["message"]++
		x.injected = append(x.injected, x.w.Inject(x.message(s)))
	case 10, 11: // a transaction times out under a worker that has all its tasks
		x.tally["late commits"]++
		in := x.w.Inject(clienttest.Fault{Method: "EndTransaction", From: x.w.Host(s.host), Match: clienttest.IsCommit, Hold: true})
		x.injected = append(x.injected, in)
		x.mending = append(x.mending, in.Remove)
	default:
		x.mend()
	}
	for len(x.mending) > 2 {
		x.mend()
	}
}

// mend ends the oldest hang, and now and then all cuts but those of the dead.
func (x *chaos) mend() {
	if len(x.mending) > 0 {
		x.mending[0]()
		x.mending = x.mending[1:]
	}
	if x.rng.IntN(2) == 0 {
		x.healNetwork()
	}
}

func (x *chaos) healNetwork() {
	x.w.Heal()
	alive := map[string]bool{}
	for _, s := range x.slots {
		alive[s.host] = true
	}
	for _, i := range x.dead {
		if name := i.host; !alive[name] {
			x.w.Isolate(x.w.Host(name))
		}
	}
}

// message is a fault of calls of an instance, or between nodes.
func (x *chaos) message(s *slot) clienttest.Fault {
	f := clienttest.Fault{
		Method: pick(x.rng, []string{
			"AppendStream", "EndTransaction", "EndTransaction", "EndTransaction", "InitProducer", "Fetch", "GroupHeartbeat",
			"GroupHeartbeat", "ListOffsets", "GetMetadata", "DescribePartitions", "CreateTopic", "WriteMarkers", "Enlist",
		}),
		Answer: x.rng.IntN(2) == 0, Times: 1 + x.rng.IntN(6), Skip: x.rng.IntN(4),
	}
	if f.Method != "WriteMarkers" && f.Method != "Enlist" && x.rng.IntN(2) == 0 {
		f.From = x.w.Host(s.host)
	}
	switch x.rng.IntN(5) {
	case 0, 1:
		f.Silent = f.Method != "Fetch" // a stream that loses a message must break, else nobody notices
	case 2:
		f.Delay, f.Times = x.between(time.Millisecond, 12*time.Second), 1
	case 3:
		f.Hold, f.Times = true, 1 // until the end
	}
	return f
}

func (x *chaos) heal() {
	for _, in := range x.injected {
		in.Remove()
	}
	for _, mend := range x.mending {
		mend()
	}
	x.mending = nil
	x.healNetwork()
}

// check waits until everything is counted, and compares.
func (x *chaos) check() {
	x.w.ExpireTransactions() // nobody may have settled the last ones
	want, total := map[string]int64{}, int64(0)
	for _, r := range x.w.Records("lines") {
		for _, word := range strings.Fields(string(r.Value)) {
			want[word]++
			total++
		}
	}
	x.w.until(fmt.Sprintf("seed %d: %d words are counted", x.seed, total), func() bool {
		for _, s := range x.slots {
			x.ended(s)
		}
		return int64(len(x.w.Records("counts"))) >= total
	})
	if got := x.w.result(); fmt.Sprint(got) != fmt.Sprint(want) {
		x.w.t.Errorf("seed %d: counts are %v, want %v", x.seed, got, want)
	}
	stored := map[string]int64{}
	x.w.until(fmt.Sprintf("seed %d: all tasks run", x.seed), func() bool {
		clear(stored)
		parts := 0
		for _, s := range x.slots {
			entries, at, err := streams.Query(s.now.App, words).All(1000)
			if err == nil {
				parts += len(at)
			}
			for _, e := range entries {
				stored[e.Key] = e.Value
			}
		}
		return parts == 3
	})
	if fmt.Sprint(stored) != fmt.Sprint(want) {
		x.w.t.Errorf("seed %d: stores have %v, want %v", x.seed, stored, want)
	}
	aborts := int64(0)
	for _, i := range x.dead {
		aborts += i.Stats().Aborts
	}
	x.w.t.Logf("seed %d: %d words; %v; %d aborts", x.seed, total, x.tally, aborts)
	if total < 50 {
		x.w.t.Errorf("seed %d: only %d words were fed", x.seed, total)
	}
}
