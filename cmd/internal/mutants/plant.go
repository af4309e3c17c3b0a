package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// planting is a mutant that the compiler can be given.
type planting struct {
	overlay  string   // file that says which sources are replaced
	packages []string // that differ
}

// plant writes the sources that differ, and the overlay.
func (h *hunter) plant(m *mutant) (planting, error) {
	files, err := m.plant(func(file string) ([]byte, error) { return os.ReadFile(h.source(file)) })
	if err != nil {
		return planting{}, err
	}
	folder := filepath.Join(h.work, m.name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return planting{}, err
	}
	p := planting{overlay: filepath.Join(folder, "overlay.json")}
	replace := map[string]string{}
	for i, file := range slices.Sorted(maps.Keys(files)) {
		planted := filepath.Join(folder, fmt.Sprintf("%d_%s", i, filepath.Base(file)))
		if err := os.WriteFile(planted, []byte(files[file]), 0o644); err != nil {
			return planting{}, err
		}
		replace[h.source(file)] = planted
		p.packages = append(p.packages, "./"+filepath.ToSlash(filepath.Dir(file)))
	}
	p.packages = slices.Compact(p.packages) // files are sorted
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return planting{}, err
	}
	return p, os.WriteFile(p.overlay, overlay, 0o644)
}

// source returns where a file of the module is.
func (h *hunter) source(file string) string { return filepath.Join(h.root, filepath.FromSlash(file)) }

// unoptimised is what the victims are built with: most are caught by one of their
// first seeds, so that what a hunt takes is the time of the compiler.
const unoptimised = "-gcflags=github.com/oncelog/oncelog/...=-N -l"

// compile builds a program.
func (h *hunter) compile(ctx context.Context, name string, args ...string) (program string, err error) {
	program = filepath.Join(h.work, name+".victim")
	return program, h.goBuild(ctx, append([]string{unoptimised, "-ldflags=-s -w", "-o", program}, args...)...)
}

func (h *hunter) goBuild(ctx context.Context, args ...string) error {
	if out, err := h.goTool(ctx, append([]string{"build"}, args...)...); err != nil {
		return fmt.Errorf("it does not compile: %w\n%s", err, out)
	}
	return nil
}

func (h *hunter) goTool(ctx context.Context, args ...string) (out string, err error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = h.root
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// failedTest finds the tests at the top that have failed.
var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// test runs the tests that are to find a mutant, without it and with it. Vet is
// for lint.
func (h *hunter) test(ctx context.Context, p planting, r *result) error {
	args := []string{"test", "-vet=off", "-run", "^(" + strings.Join(r.expect, "|") + ")$"}
	switch out, err := h.goTool(ctx, append(args, r.test)...); {
	case err != nil:
		return fmt.Errorf("%s fails without the mutant, too: %w\n%s", r.test, err, head(out))
	case strings.Contains(out, "no tests to run"):
		return fmt.Errorf("%s has none of the tests %s", r.test, strings.Join(r.expect, ", "))
	}
	out, err := h.goTool(ctx, append(args, "-failfast", "-overlay", p.overlay, r.test)...)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	failed := failedTest.FindAllStringSubmatchIndex(out, -1)
	if len(failed) == 0 {
		return fmt.Errorf("go test: %w\n%s", err, head(out))
	}
	for _, at := range failed {
		name := out[at[2]:at[3]]
		if r.expects(name) {
			r.hits++
			r.first = hit{violation: violation{name, strings.TrimSpace(out[at[0]:])}}
			return nil
		}
		r.other[name]++
	}
	return nil
}
