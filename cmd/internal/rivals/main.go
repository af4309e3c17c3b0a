// Command rivals measures appends to oncelog beside etcd and NATS JetStream: three nodes
// each, on this machine and this disk, taking turns in one run, so that the ratios
// mean something where the figures do not.
//
// It is a module of its own, so that their dependencies are nobody else's. Run it
// with `make rivals`; docs/FIGURES.md tells what came out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Limits of the flags.
const (
	maxRounds   = 100
	maxDuration = 10 * time.Minute
)

type options struct {
	binary   string
	dir      string
	duration time.Duration
	rounds   int
	systems  string
}

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	if len(args) > 0 && args[0] == nodeCommand {
		return runNode(args[1:])
	}
	var o options
	f := flag.NewFlagSet("rivals", flag.ExitOnError)
	f.StringVar(&o.binary, "binary", "bin/oncelog", "the oncelog program")
	f.StringVar(&o.dir, "dir", "", "folder for data, deleted afterwards (default: the system's for temporary files)")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "time for one load of one system in one round")
	f.IntVar(&o.rounds, "rounds", 5, "rounds; medians are reported")
	f.StringVar(&o.systems, "systems", strings.Join(systemNames(), ","), "what to measure; the first is what the others are compared with")
	_ = f.Parse(args) // ends the program
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, o)
}

func (o *options) check() error {
	switch {
	case o.duration < 100*time.Millisecond || o.duration > maxDuration:
		return fmt.Errorf("duration %s: 100ms to %s", o.duration, maxDuration)
	case o.rounds < 1 || o.rounds > maxRounds:
		return fmt.Errorf("%d rounds: 1 to %d", o.rounds, maxRounds)
	}
	return nil
}

func run(ctx context.Context, o options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	systems, err := chosen(o.systems)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "oncelog-rivals-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	defer func() {
		for _, s := range systems {
			s.stop()
		}
	}()
	for _, s := range systems {
		fmt.Fprintf(os.Stderr, "starting three nodes of %s\n", s.name())
		if err := start(ctx, s, o.binary, dir); err != nil {
			return err
		}
	}
	table := newTable(systems)
	for round := range o.rounds {
		for _, l := range loads {
			for i := range systems {
				s := systems[(round+i)%len(systems)]
				m, err := measure(ctx, s, l, o.duration)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name(), l, err)
				}
				fmt.Fprintf(os.Stderr, "round %d, %s, %s: %.0f/s, p50 %s, p99 %s\n", round+1, l, s.name(), m.rate, m.p50, m.p99)
				table.add(s, l, m)
			}
		}
	}
	return table.write(os.Stdout)
}
