package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// victim is the program that is built with every bug.
const victim = "./cmd/internal/mutants/victim"

// violation is one that the victim reports, see its type line.
type violation struct{ Invariant, Text string }

// seedReport is what the victim says about a seed.
type seedReport struct {
	Seed       uint64      `json:"seed"`
	Violations []violation `json:"violations"`
}

// hunter builds mutants and runs seeds of them.
type hunter struct {
	root  string // of the module
	work  string // folder for what is built
	start uint64 // the first seed
	most  int    // seeds per mutant; 0: the mutant's own limit
	wall  time.Duration
	hits  int // seeds that must find a mutant; then the hunt is over

	healthyOnce sync.Once
	healthyPath string
	healthyErr  error
}

// result is what became of a mutant.
type result struct {
	*mutant
	failure error // it is stale, or does not compile
	hits    int   // seeds that found it
	first   hit
	tried   int // seeds
	took    time.Duration
	timeout bool
	built   bool           // only that was asked for
	other   map[string]int // unexpected violations, by invariant: seeds
	sample  string         // the first of those
	sick    []uint64       // seeds that fail without the mutant, too
}

// hit is a seed that found a mutant.
type hit struct {
	seed  uint64
	tried int // seeds until then
	violation
}

func (r *result) killed() bool { return r.hits > 0 }
func (r *result) ok() bool     { return r.failure == nil && (r.killed() || r.built) && len(r.sick) == 0 }

// hunt plants a mutant and lets it be found.
func (h *hunter) hunt(ctx context.Context, m *mutant) *result {
	began := time.Now()
	r := &result{mutant: m, other: map[string]int{}}
	defer func() { r.took = time.Since(began) }()
	p, err := h.plant(m)
	if err != nil {
		r.failure = err
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, h.wall)
	defer cancel()
	switch {
	case h.hits == 0:
		r.built = true
		r.failure = h.goBuild(ctx, append([]string{"-overlay", p.overlay}, p.packages...)...)
	case m.test != "":
		r.failure = h.test(ctx, p, r)
	default:
		r.failure = h.hunted(ctx, p, r)
	}
	if r.timeout = ctx.Err() != nil; r.timeout {
		r.failure = nil
	}
	return r
}

// hunted runs seeds until enough of them have found the mutant.
func (h *hunter) hunted(ctx context.Context, p planting, r *result) error {
	program, err := h.compile(ctx, r.name, "-overlay", p.overlay, victim)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(program) }()
	h.search(ctx, program, r)
	return r.failure
}

// search runs seeds of a victim until enough of them have found the mutant.
func (h *hunter) search(ctx context.Context, program string, r *result) {
	limit := r.seeds
	if h.most > 0 {
		limit = h.most
	}
	more := func() bool {
		return r.tried < limit && r.hits < h.hits && ctx.Err() == nil && r.failure == nil
	}
	// A rate is measured without those that are known to find it.
	if h.hits == 1 {
		for _, seed := range r.seenAt {
			if more() {
				h.run(ctx, program, r, seed, 1)
			}
		}
	}
	// The victim ends early when a seed has run away, or killed it.
	for known := r.tried; more(); {
		h.run(ctx, program, r, h.start+uint64(r.tried-known), limit-r.tried)
	}
}

// run runs at most n seeds from next on in one process.
func (h *hunter) run(ctx context.Context, program string, r *result, next uint64, n int) {
	told := 0
	stderr, err := h.seeds(ctx, program, r.mutant, next, n, func(s seedReport) (more bool) {
		told++
		h.judge(ctx, r, s)
		return r.hits < h.hits
	})
	if err == nil || ctx.Err() != nil || told == n || r.hits >= h.hits {
		return
	}
	if stderr == "" && told > 0 {
		return // a seed that ran away has said so itself, and ended the process
	}
	h.judge(ctx, r, seedReport{next + uint64(told), []violation{{"crash", err.Error() + ": " + stderr}}})
}

// judge takes what one seed has shown.
func (h *hunter) judge(ctx context.Context, r *result, s seedReport) {
	r.tried++
	seen := map[string]bool{}
	for _, v := range s.Violations {
		if r.expects(v.Invariant) {
			h.found(ctx, r, hit{seed: s.Seed, tried: r.tried, violation: v})
			return
		}
		if !seen[v.Invariant] {
			seen[v.Invariant] = true
			r.other[v.Invariant]++
		}
		if r.sample == "" {
			r.sample = fmt.Sprintf("seed %d: %s: %s", s.Seed, v.Invariant, v.Text)
		}
	}
}

// found takes a hit, unless the seed fails without the mutant.
func (h *hunter) found(ctx context.Context, r *result, at hit) {
	sick, err := h.sick(ctx, r.mutant, at.seed)
	switch {
	case err != nil:
		r.failure = err
	case sick:
		r.sick = append(r.sick, at.seed)
	default:
		if r.hits++; r.hits == 1 {
			r.first = at
		}
	}
}

// sick reports whether a seed shows what is expected of a mutant without it.
func (h *hunter) sick(ctx context.Context, m *mutant, seed uint64) (sick bool, err error) {
	h.healthyOnce.Do(func() { h.healthyPath, h.healthyErr = h.compile(ctx, "healthy", victim) })
	if h.healthyErr != nil {
		return false, h.healthyErr
	}
	told := false
	stderr, err := h.seeds(ctx, h.healthyPath, m, seed, 1, func(s seedReport) bool {
		told = true
		sick = slices.ContainsFunc(s.Violations, func(v violation) bool { return m.expects(v.Invariant) })
		return true
	})
	if !told && ctx.Err() == nil {
		return false, fmt.Errorf("seed %d without the mutant: %w: %s", seed, err, stderr)
	}
	return sick, nil
}

// seeds runs a victim and hands its reports to take until that wants no more.
func (h *hunter) seeds(ctx context.Context, program string, m *mutant, start uint64, n int, take func(seedReport) (more bool)) (stderr string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-start", strconv.FormatUint(start, 10), "-seeds", strconv.Itoa(n), "-script", m.script)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewReader(out)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var s seedReport
		if err := json.Unmarshal(text, &s); err != nil {
			cancel()
			return "", errors.Join(fmt.Errorf("the victim writes %q", text), cmd.Wait())
		}
		if !take(s) {
			cancel()
			break
		}
	}
	err = cmd.Wait()
	return head(complaint.String()), err
}

// head returns the first lines of what a program that crashed has written: they
// say why, and the stacks of all its goroutines follow.
func head(text string) string {
	const most = 600
	return strings.TrimSpace(text[:min(len(text), most)])
}
