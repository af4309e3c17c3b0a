package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// packages are what is measured, with the least share of the statements, in
// percent, that must be reached: of all that can be.
var packages = []struct {
	dir     string
	minimum float64
}{
	{"coordinator/txn", 97},
	{"coordinator/group", 97},
	{"coordinator/catalog", 97},
	{"coordinator/membership", 95},
	{"partition/pstate", 97},
	{"coordinator", 0},
	{"partition", 0},
	{"partition/log", 0},
	{"raftstore", 0},
	{"client", 0},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "simcover:", err)
		os.Exit(1)
	}
}

func run() error {
	start := flag.Uint64("start", 1, "the first seed")
	seeds := flag.Uint64("seeds", 400, "how many seeds to run")
	workers := flag.Int("workers", runtime.NumCPU(), "processes that run seeds")
	verbose := flag.Bool("v", false, "print what was not reached")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "simcover")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is temporary
	text, err := measure(ctx, root, dir, *start, *seeds, *workers)
	if err != nil {
		return err
	}
	p, err := parse(root, text)
	if err != nil {
		return err
	}
	list, err := readUnreachable(filepath.Join(root, "cmd", "internal", "simcover", "unreachable.txt"))
	if err != nil {
		return err
	}
	if stale := p.excuse(list); len(stale) > 0 {
		return fmt.Errorf("unreachable.txt names what there is not (any more): %s", strings.Join(stale, "; "))
	}
	return report(p, *seeds, *verbose)
}

// report prints the figures.
func report(p *profile, seeds uint64, verbose bool) error {
	var low []string
	var figures []string
	for _, pkg := range packages {
		c := p.counts(pkg.dir)
		if c.statements == 0 {
			return fmt.Errorf("nothing is known of %s", pkg.dir)
		}
		_, _ = fmt.Fprintf(os.Stdout, "%-20s %5.1f %% of %4d statements", pkg.dir, c.raw(), c.statements)
		if c.excused > 0 {
			_, _ = fmt.Fprintf(os.Stdout, ", %5.1f %% of the %4d that can be reached", c.reachable(), c.statements-c.excused)
		}
		_, _ = fmt.Fprintln(os.Stdout)
		if pkg.minimum > 0 {
			figures = append(figures, fmt.Sprintf("%s %.1f %%", filepath.Base(pkg.dir), c.reachable()))
		}
		below := c.reachable() < pkg.minimum
		if below {
			low = append(low, fmt.Sprintf("%s has %.1f %%, and must have %.0f %%", pkg.dir, c.reachable(), pkg.minimum))
		}
		if below || verbose && pkg.minimum > 0 {
			p.listMissing(os.Stdout, pkg.dir)
		}
	}
	_, _ = fmt.Fprintf(os.Stdout, "sim-cover %d seeds, cores: %s\n", seeds, strings.Join(figures, ", "))
	if len(low) > 0 {
		return errors.New(strings.Join(low, "; "))
	}
	return nil
}

// measure runs the seeds and returns the counters in the text format of go tool
// cover.
func measure(ctx context.Context, root, dir string, start, seeds uint64, workers int) (string, error) {
	var dirs []string
	for _, p := range packages {
		dirs = append(dirs, "./"+p.dir)
	}
	binary, counters := filepath.Join(dir, "oncelog"), filepath.Join(dir, "counters")
	if err := os.Mkdir(counters, 0o755); err != nil {
		return "", err
	}
	// With main in it: only then are the counters written at the end.
	if _, err := output(ctx, root, "go", "build", "-cover", "-coverpkg="+strings.Join(append(dirs, "./cmd/oncelog"), ","), "-o", binary, "./cmd/oncelog"); err != nil {
		return "", err
	}
	var all sync.WaitGroup
	failed := make([]error, workers)
	for i := range workers {
		all.Go(func() {
			n := (seeds + uint64(workers) - 1 - uint64(i)) / uint64(workers)
			cmd := exec.CommandContext(ctx, binary, "sim", "work",
				strconv.FormatUint(start+uint64(i), 10), strconv.FormatUint(n, 10), strconv.Itoa(workers))
			cmd.Env = append(os.Environ(), "GOCOVERDIR="+counters)
			out, err := cmd.Output() // a failing seed is for `make sim` to report
			if err != nil {
				failed[i] = fmt.Errorf("worker %d: %w after %d bytes", i, err, len(out))
			}
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		return "", err
	}
	text := filepath.Join(dir, "profile.txt")
	if _, err := output(ctx, root, "go", "tool", "covdata", "textfmt", "-i="+counters, "-o="+text); err != nil {
		return "", err
	}
	data, err := os.ReadFile(text)
	return string(data), err
}

// output runs a command and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
