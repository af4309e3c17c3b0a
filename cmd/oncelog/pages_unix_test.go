//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pageTimeout bounds a page. It is generous: test machines are busy.
const pageTimeout = 3 * time.Minute

// TestOperationsPage does what docs/OPERATIONS.md says, block after block, with real
// processes: upgrade, backup, lost disks, restore.
func TestOperationsPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and stops two dozen nodes")
	}
	t.Parallel()
	blocks := shellBlocks(t, "docs/OPERATIONS.md", "")
	if len(blocks) < 8 {
		t.Fatalf("%d blocks were found", len(blocks))
	}
	out := runPage(t, strings.Join(blocks, "\n"))
	for _, want := range []string{"VERIFIED:           yes", "the disk of node 2 is declared lost"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not print %q:\n%s", want, out)
		}
	}
}

// TestTour pastes the five minutes of the README.
func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	blocks := shellBlocks(t, "README.md", "## Five minutes")
	port := freePort(t)
	out := runPage(t, blocks[0], fmt.Sprintf("ONCELOG_BASE_PORT=%d", port), fmt.Sprintf("ONCELOG_SERVERS=127.0.0.1:%d", port))
	if strings.Count(out, "\n1000\n") != 2 {
		t.Errorf("a reader is to see 1000 records, twice:\n%s", out)
	}
	for _, want := range []string{"1,000 records are stored in orders", "up to 5 more records wait for open transactions", "aborted: admin"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not print %q:\n%s", want, out)
		}
	}
}

// TestCompletion: what the README has people put into their shells is understood by the
// shells that are here.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, script := range map[string]string{
		"bash": "source <(oncelog completion bash); type __start_oncelog",
		"zsh":  "autoload -U compinit; compinit -D -u; source <(oncelog completion zsh); whence _oncelog",
		"fish": "oncelog completion fish | source; complete -C 'oncelog top'",
	} {
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("there is no %s here", shell)
			continue
		}
		out, err := program(t, t.TempDir(), exec.CommandContext(t.Context(), shell, "-c", script)).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "oncelog") && !strings.Contains(string(out), "topic") {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}

// shellBlocks returns the shell of a page, from a heading to the next one of its level;
// "": of the whole page.
func shellBlocks(t *testing.T, page, heading string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	if heading != "" {
		_, after, ok := strings.Cut(rest, "\n"+heading+"\n")
		if !ok {
			t.Fatalf("%s has no %q", page, heading)
		}
		rest, _, _ = strings.Cut(after, "\n## ")
	}
	for {
		_, after, ok := strings.Cut(rest, "\n```sh\n")
		if !ok {
			return blocks
		}
		block, after, ok := strings.Cut(after, "\n```")
		if !ok {
			t.Fatalf("%s: a block has no end", page)
		}
		blocks, rest = append(blocks, block), after
	}
}

// freePort returns a port at which a development cluster finds room.
func freePort(t *testing.T) int {
	t.Helper()
	for port := 29000; port < 29900; port += 10 {
		free := true
		for _, at := range []int{port, port + 1, port + 100, port + 101} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", at))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no ports are free")
	return 0
}

// program gives a command an environment in which `oncelog`, and `bin/oncelog` of the
// directory, are this very test as the program.
func program(t *testing.T, dir string, cmd *exec.Cmd, environ ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	wrapper := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", programVariable, self)
	if err := os.WriteFile(filepath.Join(bin, "oncelog"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir}, environ...)
	return cmd
}

// runPage runs a script of which every command has to succeed, and returns what it prints.
// Nothing that it starts outlives it.
func runPage(t *testing.T, script string, environ ...string) string {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash here")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), pageTimeout)
	defer cancel()
	printed, err := os.Create(filepath.Join(dir, "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	cmd := program(t, dir, exec.CommandContext(ctx, "bash", "-eu", "-o", "pipefail", "-c", script), environ...)
	// A file and no pipe: what it leaves in the background must not be waited for.
	cmd.Stdout, cmd.Stderr = printed, printed
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	everybody := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = everybody
	runErr := cmd.Run()
	if err := everybody(); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
	text, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	if runErr != nil {
		logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, path := range logs {
			if log, err := os.ReadFile(path); err == nil {
				t.Logf("%s ends with\n%s", filepath.Base(path), log[max(0, len(log)-1000):])
			}
		}
		t.Fatalf("%v:\n%s", runErr, text)
	}
	return string(text)
}
