package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// settings are the command line's.
type settings struct {
	hunter
	names   *regexp.Regexp
	workers int
	verbose bool
	note    bool // the seeds that found mutants late
}

// late is after how many seeds a mutant is found late: its hunt then begins with
// the seed that found it.
const late = 5

func parseFlags(args []string) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	names := flags.String("run", "", "hunt those whose names match this regular expression")
	flags.Uint64Var(&s.start, "start", 1, "the first seed")
	flags.IntVar(&s.most, "seeds", 0, "how many seeds each mutant gets; 0: its own limit")
	flags.IntVar(&s.hits, "hits", 1, "how many seeds must find a mutant: the rate is written as hits/seeds")
	flags.IntVar(&s.workers, "j", min(2, runtime.NumCPU()), "how many mutants are hunted at a time")
	flags.DurationVar(&s.wall, "wall", 15*time.Minute, "how long a hunt may take")
	flags.BoolVar(&s.verbose, "v", false, "say what each bug is and what was seen of it")
	flags.BoolVar(&s.note, "note", false, "note in the mutants' files which seeds found those that are found late")
	build := flags.Bool("build", false, "plant and compile only")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if s.names, err = regexp.Compile(*names); err != nil {
		return nil, err
	}
	if s.hits < 1 || s.workers < 1 || flags.NArg() > 0 {
		return nil, errors.New("-hits and -j must be above 0, and there are no arguments")
	}
	if *build {
		s.hits = 0
	}
	return s, nil
}

// run hunts mutants and reports whether all were killed.
func run(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	s, err := parseFlags(args)
	if err != nil {
		return false, err
	}
	if s.root, err = moduleRoot(ctx); err != nil {
		return false, err
	}
	all, err := load(os.DirFS(filepath.Join(s.root, "cmd", "internal", "mutants", "planted")))
	if err != nil {
		return false, err
	}
	var chosen []*mutant
	for _, m := range all {
		if s.names.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return false, fmt.Errorf("no mutant is named like %q", s.names)
	}
	if s.work, err = os.MkdirTemp("", "mutants-"); err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(s.work) }()
	t := newTable(out, chosen, s.hits, s.verbose)
	began := time.Now()
	s.huntAll(ctx, chosen, func(r *result) {
		t.row(r)
		if s.note && r.killed() && r.first.tried > late {
			err = errors.Join(err, s.remember(r))
		}
	})
	if err != nil {
		return false, err
	}
	return t.sum(time.Since(began)) && ctx.Err() == nil, ctx.Err()
}

// remember notes the seed that found a mutant in its file.
func (s *settings) remember(r *result) error {
	file := filepath.Join(s.root, "cmd", "internal", "mutants", "planted", r.name+".mutant")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(remember(string(text), r.first.seed)), 0o644) //nolint:gosec // a source file
}

// moduleRoot returns the folder of go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if filepath.Base(file) != "go.mod" {
		return "", errors.New("this must be run inside the module")
	}
	return filepath.Dir(file), nil
}

// huntAll hunts several mutants at a time; done is called for one at a time.
func (s *settings) huntAll(ctx context.Context, all []*mutant, done func(*result)) {
	queue := make(chan *mutant)
	var workers sync.WaitGroup
	var one sync.Mutex
	for range s.workers {
		workers.Go(func() {
			for m := range queue {
				r := s.hunt(ctx, m)
				if ctx.Err() != nil {
					continue
				}
				one.Lock()
				done(r)
				one.Unlock()
			}
		})
	}
	for _, m := range all {
		queue <- m
	}
	close(queue)
	workers.Wait()
}
