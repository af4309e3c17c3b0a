package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/internal/task"
)

// Point is a place in a transaction where its client may be stopped.
type Point string

// Points, in the order in which a transaction passes them.
const (
	// Begun: the transaction has a number, and nothing was sent.
	Begun Point = "begun"
	// Sent: its records are given to the SDK, and perhaps under way.
	Sent Point = "sent"
	// Flushed: its records are durable. Not every transaction passes it.
	Flushed Point = "flushed"
	// Ending: the end is in the history and is asked for next.
	Ending Point = "ending"
	// Unknown: the end was asked for, and the answer was lost.
	Unknown Point = "unknown"
	// Ended: the outcome is known.
	Ended Point = "ended"
)

// Env is what a client works with.
type Env struct {
	// Runtime runs the client's tasks; nil: the machine. The client that Dial makes
	// must have the same.
	Runtime *task.Runtime
	// Rand is drawn from by this client alone.
	Rand *rand.Rand
	// Dial connects to the cluster.
	Dial func(ctx context.Context) (*client.Client, error)
	// History is where everything is written down.
	History *history.Recorder
	// Stop, when closed, has the client finish what it is at and return.
	Stop <-chan struct{}
	// At is asked at every point; nil: nobody is. It may wait. With an error the
	// client ends on the spot, as if it had crashed: nothing is aborted or closed, and
	// Run returns the error. Whoever runs the client disposes of what Dial has made.
	At func(ctx context.Context, p Point) error
}

// worker is a client at work.
type worker struct {
	Env
	cfg  Config
	c    *client.Client
	note *history.Session

	transactions int           // begun so far
	recent       []client.TxID // that may be asked about
}

// Run works until Stop is closed or ctx ends, whose error it returns. Any other
// error is one of At, or something that must not happen.
func Run(ctx context.Context, env Env, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	w := &worker{Env: env, cfg: cfg, note: env.History.Session(cfg.Client)}
	if err := w.dial(ctx); err != nil {
		return w.ended(ctx, err)
	}
	var err error
	switch cfg.Kind {
	case Append, Transfer:
		err = w.produce(ctx)
	case Process:
		err = w.process(ctx)
	case Plain:
		err = w.plain(ctx)
	case Read:
		err = w.read(ctx)
	case Follow:
		err = w.follow(ctx)
	case Operate:
		err = w.operate(ctx)
	}
	var dead *crash
	if errors.As(err, &dead) {
		return dead.error
	}
	closing := w.c.Close()
	return w.ended(ctx, errors.Join(err, closing))
}

// ended names the client in an error, and lets the end of ctx be just that.
func (w *worker) ended(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && (noAnswer(err) || errors.Is(err, client.ErrClosed)):
		return ctx.Err()
	default:
		return fmt.Errorf("client %d: %w", w.cfg.Client, err)
	}
}

// crash is the end of a client on the spot.
type crash struct{ error }

// at passes a point.
func (w *worker) at(ctx context.Context, p Point) error {
	if w.At == nil {
		return nil
	}
	if err := w.At(ctx, p); err != nil {
		return &crash{err}
	}
	return nil
}

// dial connects, however long that takes.
func (w *worker) dial(ctx context.Context) error {
	return w.insist(ctx, func(ctx context.Context) (err error) {
		w.c, err = w.Dial(ctx)
		return err
	})
}

// errStopped ends the wait for an answer that never came.
var errStopped = errors.New("stopped before there was an answer")

// insist repeats a call until it is answered with something other than the end
// of its time.
func (w *worker) insist(ctx context.Context, call func(ctx context.Context) error) error {
	for {
		err := w.bounded(ctx, call)
		if !noAnswer(err) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.stopped() {
			return errStopped
		}
		w.Runtime.Sleep(retryPause, ctx.Done())
	}
}

// retryPause lies between two calls of which the first took its whole time; it
// matters where a call fails sooner.
const retryPause = 20 * time.Millisecond

// bounded makes one call.
func (w *worker) bounded(ctx context.Context, call func(ctx context.Context) error) error {
	return w.within(ctx, w.cfg.CallTimeout, call)
}

// within makes one call that may take so long.
func (w *worker) within(ctx context.Context, limit time.Duration, call func(ctx context.Context) error) error {
	ctx, cancel := w.Runtime.WithTimeout(ctx, limit)
	defer cancel()
	return call(ctx)
}

// stopped reports whether the client is to end.
func (w *worker) stopped() bool { return task.Closed(w.Stop) }

// over reports whether there is to be no further work.
func (w *worker) over() bool {
	return w.stopped() || w.cfg.Transactions > 0 && w.transactions >= w.cfg.Transactions
}

// think pauses between two pieces of work; false: there is to be no next one.
func (w *worker) think(ctx context.Context) bool {
	pause := time.Duration(w.Rand.Int64N(2*int64(w.cfg.Think) + 1))
	return w.Runtime.WaitFor(pause, w.Stop, ctx.Done()) == task.Expired
}

// hits draws whether something with a probability happens.
func (w *worker) hits(s Share) bool { return w.Rand.Float64() < float64(s) }

// upTo draws a number from 1 to n.
func (w *worker) upTo(n int) int { return 1 + w.Rand.IntN(n) }
