package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

// closeTimeout bounds a graceful stop. It is below the ten seconds after which
// most supervisors lose their patience.
const closeTimeout = 8 * time.Second

// RunCoordinator runs a coordinator node until ctx ends, and stops it
// gracefully. It returns an error when the node could not start or go on.
func RunCoordinator(ctx context.Context, cfg *config.Coordinator, log *slog.Logger, options ...Option) error {
	n, err := StartCoordinator(cfg, log, options...)
	if err != nil {
		return err
	}
	return runUntil(ctx, n)
}

// RunPartition is RunCoordinator for a partition node.
func RunPartition(ctx context.Context, cfg *config.Partition, log *slog.Logger, options ...Option) error {
	n, err := StartPartition(ctx, cfg, log, options...)
	if err != nil {
		if stopped(ctx, err) {
			return nil
		}
		return err
	}
	return runUntil(ctx, n)
}

// stopped reports whether a node did not start because it was stopped before it
// had joined.
func stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// running is a node of either kind.
type running interface {
	Close(ctx context.Context)
	Failed() <-chan error
}

func runUntil(ctx context.Context, nodes ...running) error {
	failed := make(chan error, len(nodes))
	stop := make(chan struct{})
	defer close(stop)
	for _, n := range nodes {
		go func() {
			select {
			case err := <-n.Failed():
				failed <- err
			case <-stop:
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	closeAll(context.WithoutCancel(ctx), nodes)
	return err
}

// closeAll stops nodes one after the other, those that were started last first:
// partition nodes go before the coordinators that they report to.
func closeAll(ctx context.Context, nodes []running) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	for i := len(nodes) - 1; i >= 0; i-- {
		nodes[i].Close(ctx)
	}
}

// RunDev runs a whole cluster in this process until ctx ends. ready is called
// once every node serves.
func RunDev(ctx context.Context, cfg *config.Dev, log *slog.Logger, ready func()) error {
	coordinators, partitions := cfg.Cluster()
	log = slog.New(&leaving{Handler: log.Handler(), stopped: ctx.Done()})
	var nodes []running
	fail := func(err error) error {
		closeAll(context.WithoutCancel(ctx), nodes)
		return err
	}
	all, err := serveMetrics(cfg.MetricsListen, log)
	if err != nil {
		return err
	}
	if all != nil {
		nodes = append(nodes, all)
	}
	for i := range coordinators {
		n, err := startCoordinator(&coordinators[i], all.registry(), log)
		if err != nil {
			return fail(fmt.Errorf("coordinator %d: %w", i+1, err))
		}
		nodes = append(nodes, n)
	}
	for i := range partitions {
		n, err := startPartition(ctx, &partitions[i], all.registry(), log)
		if stopped(ctx, err) {
			return fail(nil)
		}
		if err != nil {
			return fail(fmt.Errorf("partition node %d: %w", i+1, err))
		}
		nodes = append(nodes, n)
	}
	ready()
	return runUntil(ctx, nodes...)
}

// leaving is a handler without the warnings of nodes that are stopped one after the
// other: that the others are gone is what was asked for.
type leaving struct {
	slog.Handler
	stopped <-chan struct{}
}

// Enabled implements slog.Handler.
func (l *leaving) Enabled(ctx context.Context, level slog.Level) bool {
	select {
	case <-l.stopped:
		return level != slog.LevelWarn && l.Handler.Enabled(ctx, level)
	default:
		return l.Handler.Enabled(ctx, level)
	}
}

// WithAttrs implements slog.Handler.
func (l *leaving) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &leaving{Handler: l.Handler.WithAttrs(attrs), stopped: l.stopped}
}

// WithGroup implements slog.Handler.
func (l *leaving) WithGroup(name string) slog.Handler {
	return &leaving{Handler: l.Handler.WithGroup(name), stopped: l.stopped}
}
