package meddle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
)

// Env is what a meddler works with.
type Env struct {
	Runtime *task.Runtime
	Rand    *rand.Rand
	// Dial connects to a node, Client makes a client of the SDK.
	Dial   func(address string) (grpc.ClientConnInterface, error)
	Client func(ctx context.Context) (*client.Client, error)
	// Coordinators and CoordinatorPeers are the addresses of the coordinators, for
	// clients and for nodes.
	Coordinators, CoordinatorPeers []string
	// Propose puts an entry into the log of a Raft group, as its leader would, and
	// returns what came of it when it was applied. Group 0 is the coordinators', any
	// other a shard. ErrNotApplied: there is no telling whether it will be.
	Propose func(ctx context.Context, group uint64, entry []byte) (any, error)
	// Stop, when closed, has the meddler finish its act and return.
	Stop <-chan struct{}
	// Acts is how many it performs.
	Acts int
	// Twins: the network repeats requests, at any time.
	Twins bool
	// Alone: nobody else writes to the cluster, so that what all share may be used
	// up.
	Alone bool
	// Txn and Shard are the rules of the cluster.
	Txn   txn.Config
	Shard pstate.Config
	// Lies is told of a producer whose commits claim what was never sent: the alarm
	// of a shard about it is none.
	Lies func(producer uint64)
	// Violation is told of everything that must not be, Reached of every act that
	// came to its end.
	Violation func(text string)
	Reached   func(act string)
}

// Pauses and patience.
const (
	think       = 40 * time.Millisecond         // most between two acts
	patience    = 4 * time.Second               // with one request, all its attempts
	attempt     = 1500 * time.Millisecond       // one attempt
	retryPause  = 60 * time.Millisecond         // between two
	txnTimeout  = int64(10 * time.Second / 1e6) // of transactions, in milliseconds
	settleTries = 40                            // looks at something that will be
	maxWidening = 1000                          // attempts at rules that must be wide again: a shard may have no leader for long
)

// meddler performs acts. Once a request of an act has got no answer, lost is set,
// and the rest of the act does and judges nothing: what is there is not known any
// more.
type meddler struct {
	Env
	ctx     context.Context
	seats   map[place]string // who leads, as far as is known
	conns   map[string]grpc.ClientConnInterface
	grounds []*ground
	names   int

	act    string
	began  time.Time
	lost   bool
	unsure bool // a request of this act may be carried out later
	shaky  bool // so may an attempt of the last request

	rotated  bool // another key signs, of which not every node may have heard
	defaults bool // those of new topics have been changed

	preparing []*producer // with a transaction that may be prepared
}

// Run performs acts until there were enough of them, Stop is closed or ctx ends.
func Run(ctx context.Context, env Env) {
	m := &meddler{Env: env, ctx: ctx, seats: map[place]string{}, conns: map[string]grpc.ClientConnInterface{}}
	var total int
	for _, a := range acts {
		total += a.weight
	}
	for n := 0; n < env.Acts && !m.over(); n++ {
		at := m.Rand.IntN(total)
		for _, a := range acts {
			if at -= a.weight; at < 0 {
				m.perform(a)
				break
			}
		}
		m.Runtime.WaitFor(time.Duration(m.Rand.Int64N(int64(think))), m.Stop, ctx.Done())
	}
	m.perform(act{name: "last word", run: (*meddler).settlePrepared})
	for _, g := range m.grounds {
		m.perform(act{name: "last look", run: func(m *meddler) { m.inspect(g) }})
	}
}

// over reports whether there is to be no further act.
func (m *meddler) over() bool { return m.ctx.Err() != nil || task.Closed(m.Stop) }

// act is a story with a beginning and an end.
type act struct {
	name   string
	weight int
	alone  bool // only where nobody else is bothered
	run    func(m *meddler)
}

func (m *meddler) perform(a act) {
	if a.alone && !m.Alone {
		return
	}
	m.act, m.began, m.lost, m.unsure = a.name, m.Runtime.Now(), false, false
	a.run(m)
	if !m.lost {
		m.Reached(a.name)
	}
}

// loose reports whether earlier requests may have been carried out again.
func (m *meddler) loose() bool { return m.Twins || m.unsure }

// aged reports whether this act has gone on for so long that what expires after
// so many milliseconds may have.
func (m *meddler) aged(expiration int64) bool {
	return 2*m.Runtime.Since(m.began).Milliseconds() > expiration
}

// violation reports what must not be.
func (m *meddler) violation(format string, args ...any) {
	m.Violation(m.act + ": " + fmt.Sprintf(format, args...))
}

// check reports a violation unless ok, or unless the act has lost its footing.
func (m *meddler) check(ok bool, format string, args ...any) {
	if !ok && !m.lost {
		m.violation(format, args...)
	}
}

// name makes a name that nobody has used.
func (m *meddler) name(of string) string {
	m.names++
	return fmt.Sprintf("meddle.%s%d", of, m.names)
}

// wait pauses an act.
func (m *meddler) wait(d time.Duration) {
	if !m.lost {
		m.Runtime.Sleep(d, m.ctx.Done())
	}
}

// upTo draws a number from 1 to n.
func (m *meddler) upTo(n int) int { return 1 + m.Rand.IntN(n) }

// chance is true once in n times.
func (m *meddler) chance(n int) bool { return m.Rand.IntN(n) == 0 }

func pick[T any](m *meddler, values ...T) T { return values[m.Rand.IntN(len(values))] }
