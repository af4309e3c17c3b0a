package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"

	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/workload"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/task"
)

// client is one place at which a workload runs. Its process may die and have a
// successor, which may come while the old one only seems to be dead.
type client struct {
	s      *simulation
	config workload.Config
	lives  []*life // the last is the present one; earlier ones may only seem dead
	proc   *Proc   // of the present life
}

// life is one instance of a client.
type life struct {
	proc  *Proc
	stop  chan struct{}
	ended bool // its Run has returned
}

// over reports whether nothing will come from the life any more.
func (l *life) over() bool { return l.ended || !l.proc.alive }

// errReplaced ends an instance that finds out that it has a successor. A
// stubborn one goes on and takes the id back.
var errReplaced = errors.New("sim: replaced by a successor")

// newClient starts the first life.
func (s *simulation) newClient(cfg workload.Config) *client {
	c := &client{s: s, config: cfg}
	s.all = append(s.all, c)
	c.succeed()
	return c
}

// crash ends the present life.
func (c *client) crash() {
	c.proc.kill()
	c.s.net.processEnded(c.proc)
}

// succeed begins another life, whether the last one has ended or not.
func (c *client) succeed() {
	s := c.s
	cfg := c.config
	proc := s.w.newProc(fmt.Sprintf("k%d.%d", cfg.Client, len(c.lives)+1))
	l := &life{proc: proc, stop: make(chan struct{})}
	c.lives, c.proc = append(c.lives, l), proc
	random := rand.New(rand.NewPCG(s.plan.Seed, proc.id<<8|3))
	stubborn := s.plan.Work.Workload == workHijack || random.IntN(8) == 0
	proc.start(func() {
		ctx := s.context(proc)
		err := workload.Run(ctx, workload.Env{
			Runtime: task.New(proc), Rand: random, History: s.history, Stop: l.stop,
			At: func(_ context.Context, p workload.Point) error {
				if p != workload.Ended {
					return nil
				}
				s.progress[c]++
				if !stubborn && l != c.lives[len(c.lives)-1] {
					return errReplaced
				}
				return nil
			},
			Dial: func(ctx context.Context) (*sdk.Client, error) {
				return sdk.Dial(s.carry(ctx, proc), s.cluster.seeds(), sdk.WithLogger(s.logFor(proc)), sdk.WithClientID(proc.name))
			},
		}, cfg)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errReplaced) {
			s.complain("client", err.Error())
		}
		l.ended = true
		if errors.Is(err, errReplaced) { // it has closed nothing, and its SDK would go on
			s.w.at(0, nil, func() {
				proc.kill()
				s.net.processEnded(proc)
			})
		}
	})
}

// context is the one that a process begins with.
func (s *simulation) context(p *Proc) context.Context { return s.carry(context.Background(), p) }

// carry has the SDK run on the simulated machine.
func (s *simulation) carry(ctx context.Context, p *Proc) context.Context {
	return dial.With(task.With(ctx, task.New(p)), s.net.dialer(p))
}

func (s *simulation) logFor(p *Proc) *slog.Logger { return s.log.With("node", p.name) }
