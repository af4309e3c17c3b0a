package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say which seeds to run.
type Options struct {
	// Start is the first seed, Seeds how many there are.
	Start, Seeds uint64
	// Worker is a command that runs seeds as [Work] does; the first seed, the
	// number of seeds and the step are added to it. A seed has a process to itself
	// while it runs.
	Worker []string
	// Workers is how many of them run at the same time.
	Workers int
	// Out gets a line for every failing seed.
	Out io.Writer
	// Ran, unless nil, is told after every seed how many have run.
	Ran func(seeds uint64)
}

// Summary is the result of many seeds.
type Summary struct {
	Seeds, Failed uint64
	// Hash is that of all traces: equal for equal seeds and programs.
	Hash      uint64
	Simulated time.Duration
	Events    uint64
	Stats     Stats
	Reach     Reach
	Failures  []Verdict
	Elapsed   time.Duration
}

// CollectRarely has the garbage collector do little: a world is small and lives for
// a fifth of a second.
func CollectRarely() {
	debug.SetGCPercent(2000)
	debug.SetMemoryLimit(1 << 30)
}

// Work runs the seeds start, start+step, ... and writes a verdict as one line of
// JSON for each. It is what a worker process does.
func Work(ctx context.Context, out io.Writer, start, seeds, step uint64) error {
	CollectRarely()
	enc := json.NewEncoder(out)
	for i := range seeds {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := enc.Encode(Run(Draw(start+i*step), nil)); err != nil {
			return err
		}
	}
	return nil
}

// RunSeeds runs many seeds in worker processes.
func RunSeeds(ctx context.Context, o Options) (Summary, error) {
	begin := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	total := Summary{Reach: Reach{}}
	verdicts := make(chan Verdict)
	failures := make(chan error, o.Workers)
	var workers sync.WaitGroup
	for i := range uint64(o.Workers) {
		n := (o.Seeds + uint64(o.Workers) - 1 - i) / uint64(o.Workers)
		workers.Go(func() {
			if err := o.work(ctx, o.Start+i, n, verdicts); err != nil {
				failures <- err
				cancel()
			}
		})
	}
	go func() {
		workers.Wait()
		close(verdicts)
	}()
	for v := range verdicts {
		total.take(v)
		if len(v.Violations) > 0 {
			_, _ = io.WriteString(o.Out, v.report())
		}
		if o.Ran != nil {
			o.Ran(total.Seeds)
		}
	}
	total.Elapsed = time.Since(begin)
	sort.Slice(total.Failures, func(i, j int) bool { return total.Failures[i].Seed < total.Failures[j].Seed })
	select {
	case err := <-failures:
		return total, err
	default:
		return total, nil
	}
}

// work runs one worker process and passes its verdicts on.
func (o Options) work(ctx context.Context, start, seeds uint64, verdicts chan<- Verdict) error {
	if seeds == 0 {
		return nil
	}
	args := append(append([]string(nil), o.Worker[1:]...),
		strconv.FormatUint(start, 10), strconv.FormatUint(seeds, 10), strconv.Itoa(o.Workers))
	cmd := exec.CommandContext(ctx, o.Worker[0], args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	in := bufio.NewReader(out)
	seen := uint64(0)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		var v Verdict
		if err == nil {
			err = json.Unmarshal(line, &v)
		}
		if err != nil {
			return errors.Join(err, cmd.Wait())
		}
		verdicts <- v
		seen++
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the worker died at seed %d: %w\n%s", start+seen*uint64(o.Workers), err, stderr.String())
	}
	return nil
}

func (t *Summary) take(v Verdict) {
	t.Seeds++
	t.Hash ^= v.Hash // in any order
	t.Simulated += v.Simulated
	t.Events += v.Events
	t.Stats.Records += v.Stats.Records
	t.Stats.Commits += v.Stats.Commits
	t.Stats.Aborts += v.Stats.Aborts
	t.Stats.Unknown += v.Stats.Unknown
	t.Reach.add(v.Reach)
	if len(v.Violations) > 0 {
		t.Failed++
		t.Failures = append(t.Failures, v)
	}
}

// Write prints the figures in a few lines, of which the last is for machines.
func (t Summary) Write(w io.Writer) error {
	what, times := t.Reach.Rarest()
	missing := t.Reach.Missing()
	var faults []string
	for k, n := range t.Reach {
		if kind, ok := strings.CutPrefix(k, struckPrefix); ok {
			faults = append(faults, fmt.Sprintf("%s %d", kind, n))
		}
	}
	sort.Strings(faults)
	perMinute := float64(t.Seeds) / max(t.Elapsed.Minutes(), 1e-9)
	_, err := fmt.Fprintf(w, "faults  %s\nreach   %d of %d points (rarest: %s, %d times)\n%ssim     %d seeds, %d failed, %.0f s, %.0f seeds/min, %.1f h simulated, %d commits, %d aborts, %d unknown, traces %016x\n",
		strings.Join(faults, ", "), len(wanted())-len(missing), len(wanted()), what, times,
		unreached(missing), t.Seeds, t.Failed, t.Elapsed.Seconds(), perMinute, t.Simulated.Hours(),
		t.Stats.Commits, t.Stats.Aborts, t.Stats.Unknown, t.Hash)
	return err
}

func unreached(missing []string) string {
	if len(missing) == 0 {
		return ""
	}
	return "never   " + strings.Join(missing, "; ") + "\n"
}

// report is what is printed of a failing seed.
func (v Verdict) report() string {
	var b strings.Builder
	for i, x := range v.Violations {
		if i == 5 {
			fmt.Fprintf(&b, "     and %d more\n", len(v.Violations)-i)
			break
		}
		text, _, _ := strings.Cut(x.Text, "\n")
		fmt.Fprintf(&b, "FAIL seed %d %s: %s\n", v.Seed, x.Invariant, text)
	}
	fmt.Fprintf(&b, "     repro: oncelog sim --seed %d -v\n", v.Seed)
	return b.String()
}

// Replay runs one seed and shrinks the plan if it fails: it leaves out faults,
// in ever smaller groups, for as long as the same invariant is broken. The
// result is the verdict of the smallest plan found.
func Replay(seed uint64, log *slog.Logger, limit time.Duration) (p Plan, v Verdict) {
	p = Draw(seed)
	v = Run(p, nil)
	if len(v.Violations) == 0 {
		return p, Run(p, log)
	}
	p = shrink(p, v.Violations[0].Invariant, limit)
	return p, Run(p, log)
}

// shrink is delta debugging over the list of faults.
func shrink(p Plan, invariant string, limit time.Duration) Plan {
	begin := time.Now()
	fails := func(p Plan) bool {
		for _, x := range Run(p, nil).Violations {
			if x.Invariant == invariant {
				return true
			}
		}
		return false
	}
	for size := (len(p.Faults) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(p.Faults); {
			if time.Since(begin) > limit {
				return p
			}
			drop := map[int]bool{}
			for i := at; i < min(at+size, len(p.Faults)); i++ {
				drop[i] = true
			}
			if smaller := p.without(drop); fails(smaller) {
				p = smaller
			} else {
				at += size
			}
		}
	}
	return p
}
