package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// build builds the program: nodes and workers are processes of it.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "oncelog")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/oncelog/oncelog/cmd/oncelog").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

func smallText(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i := range 120 {
		fmt.Fprintf(&b, "line %d has word%d and word%d\n", i, i%7, i%11)
	}
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Covers ST-01, ST-02, ST-06, ST-08, ST-09, ST-10, ST-13, SY-05 of CONFORMANCE.md.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	t.Parallel()
	binary := build(t)
	t.Run("demo", func(t *testing.T) { testDemo(t, binary) })
	t.Run("interrupted", func(t *testing.T) { testInterrupted(t, binary) })
}

// testDemo runs everything, with a small text that is worked off at once: the
// failures must find work all the same.
func testDemo(t *testing.T, binary string) {
	dir := t.TempDir()
	var told bytes.Buffer
	report, err := Run(t.Context(), Config{
		Binary: binary, Files: []string{smallText(t)}, Dir: dir, Workers: 2, Partitions: 4,
		Feed: time.Millisecond, Limit: time.Minute, Progress: &told,
	})
	var failure *Failure
	if errors.As(err, &failure) {
		t.Log(failure.Logs)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	if !report.ExactlyOnce() || len(report.Killed) != 3 || report.Aborted < 2 || report.Hidden == 0 {
		var out bytes.Buffer
		_ = report.Write(&out)
		t.Errorf("%s\n%s", told.String(), out.String())
	}
	nothingLeft(t, binary, dir)
}

// testInterrupted: whoever interrupts the demo is not left with its processes
// and data.
func testInterrupted(t *testing.T, binary string) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	told := &trigger{on: "turn lines into words", do: cancel}
	_, err := Run(ctx, Config{
		Binary: binary, Files: []string{smallText(t)}, Dir: dir, Workers: 2, Partitions: 4,
		Feed: time.Hour, Limit: 2 * time.Hour, Progress: told,
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	nothingLeft(t, binary, dir)
}

// trigger calls do when something is told.
type trigger struct {
	on string
	do func()
}

func (w *trigger) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.on) {
		w.do()
	}
	return len(p), nil
}

// nothingLeft checks that no process runs the binary, and that the data is gone.
func nothingLeft(t *testing.T, binary, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v %v", left, err)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/exe") // nothing to check elsewhere
	for _, exe := range processes {
		if target, err := os.Readlink(exe); err == nil && target == binary {
			t.Errorf("%s still runs", exe)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := Config{Workers: 2, Partitions: 2, Feed: time.Second, Limit: time.Second}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"one worker":      func(c *Config) { c.Workers = 1 },
		"many workers":    func(c *Config) { c.Workers = 1000 },
		"idle workers":    func(c *Config) { c.Partitions = 1 },
		"many partitions": func(c *Config) { c.Partitions = 1000 },
		"no time to feed": func(c *Config) { c.Feed = 0 },
		"no time":         func(c *Config) { c.Limit = -1 },
	} {
		c := good
		spoil(&c)
		if err := c.Check(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
