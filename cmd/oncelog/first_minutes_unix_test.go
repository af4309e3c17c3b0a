//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// bystanders are the processes of a test, in a folder of theirs.
type bystanders struct {
	t   *testing.T
	dir string
	ctx context.Context
}

// start runs the program until the test ends, and returns when it has printed a line with
// the text. A clock is that of its nodes, ahead of the machine's.
func (b bystanders) start(clock time.Duration, until string, args ...string) string {
	b.t.Helper()
	cmd := program(b.t, b.dir, exec.CommandContext(b.ctx, "bin/oncelog", args...))
	if clock != 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s", clockVariable, clock))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed, or its last words tell
		_ = w.Close()
		close(ended)
	}()
	b.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	lines := bufio.NewScanner(r)
	var said strings.Builder
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), until) {
			found := lines.Text()
			go func() { _, _ = io.Copy(io.Discard, r) }() // a full pipe would hold it
			return found
		}
	}
	b.t.Fatalf("oncelog %s ended without saying %q:\n%s", strings.Join(args, " "), until, said.String())
	return ""
}

// run runs the program to its end, and returns what it printed and its exit code.
func (b bystanders) run(args ...string) (string, int) {
	b.t.Helper()
	var out bytes.Buffer
	cmd := program(b.t, b.dir, exec.CommandContext(b.ctx, "bin/oncelog", args...))
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if b.ctx.Err() != nil {
		b.t.Fatalf("oncelog %s does not end: %s", strings.Join(args, " "), out.String())
	}
	if cmd.ProcessState == nil {
		b.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// TestFirstMinutes: whatever goes wrong when somebody begins is said in one sentence, with
// what to do about it. Real processes.
func TestFirstMinutes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), pageTimeout)
	defer cancel()
	b := bystanders{t, t.TempDir(), ctx}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := os.WriteFile(filepath.Join(b.dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, b.dir, exec.CommandContext(ctx, "true")) // makes bin/oncelog

	// A cluster whose coordinator shows a certificate, and a node with the disk of another program.
	addresses, release, err := cluster.ClaimAddresses(8)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	at := func(i int) string { return addresses[i] }
	for _, args := range [][]string{
		{"cert", "ca", "--dir", "ours"}, {"cert", "node", "127.0.0.1", "--dir", "ours", "--name", "node"},
		{"cert", "ca", "--dir", "theirs"}, {"cert", "client", "somebody", "--dir", "theirs"},
	} {
		if out, code := b.run(args...); code != 0 {
			t.Fatalf("%v: %s", args, out)
		}
	}
	secured := []string{"--tls-cert", "ours/node.crt", "--tls-key", "ours/node.key", "--tls-ca", "ours/ca.crt"}
	b.start(0, "msg=serving", append([]string{
		"coordinator", "--node-id", "1", "--data-dir", "c1", "--member", "1=" + at(0) + "/" + at(1), "--client-listen", at(0), "--peer-listen", at(1),
	}, secured...)...)
	partition := func(id, dir string, i int, more ...string) []string {
		return append(append([]string{
			"partition", "--node-id", id, "--data-dir", dir, "--coordinator", at(1), "--client-listen", at(i), "--peer-listen", at(i + 1),
		}, secured...), more...)
	}
	ask := func(args ...string) []string {
		return append(args, "--servers", at(0), "--tls-ca", "ours/ca.crt", "--tls-cert", "ours/node.crt", "--tls-key", "ours/node.key")
	}

	type mistake struct {
		name  string
		args  []string
		code  int
		parts []string
	}
	check := func(mistakes ...mistake) {
		t.Helper()
		for _, m := range mistakes {
			out, code := b.run(m.args...)
			if code != m.code {
				t.Errorf("%s: exit %d, want %d:\n%s", m.name, code, m.code, out)
			}
			said := ""
			for line := range strings.Lines(out) {
				if strings.Contains(line, m.parts[0]) {
					said = line
				}
			}
			for _, part := range m.parts {
				if !strings.Contains(said, part) {
					t.Errorf("%s: no line says %q:\n%s", m.name, m.parts, out)
					break
				}
			}
		}
	}
	check(
		mistake{"no arguments", nil, 0, []string{"'oncelog dev' starts all of it in one process"}},
		mistake{"a wrong flag", []string{"dev", "--prot", "1"}, exitUsage, []string{"unknown flag: --prot", "see 'oncelog dev --help'"}},
		mistake{"a port in use", append(partition("9", "p9", 4), "--client-listen", taken.Addr().String()), exitFailure,
			[]string{"client_listen", taken.Addr().String(), "another program has it; stop that one, or give --client-listen another port"}},
		mistake{"no directory can be there", partition("9", "file/below", 4), exitFailure,
			[]string{"data_dir", "there is a file where a directory is to be; give --data-dir another path"}},
		mistake{"no partition nodes", ask("cluster", "health"), exitFailure, []string{"no partition node has registered", "start one with `oncelog partition"}},
		mistake{"an unknown CA", []string{"cluster", "status", "--servers", at(0), "--tls-ca", "theirs/ca.crt", "--timeout", "1s"}, exitFailure,
			[]string{"This program does not trust the node: --tls-ca must have the CA of its certificate"}},
		mistake{"a foreign certificate", []string{
			"cluster", "status", "--servers", at(0), "--tls-ca", "ours/ca.crt", "--tls-cert", "theirs/somebody.crt", "--tls-key", "theirs/somebody.key", "--timeout", "1s",
		}, exitFailure, []string{"he node refuses this certificate", "must have its CA"}},
	)
	b.start(0, "msg=serving", partition("1", "p1", 2)...)
	check(
		mistake{"two nodes with one id", partition("1", "p1-again", 4), exitFailure,
			[]string{"node id 1 belongs to another data directory", "give this node an id of its own, or, if that directory is lost, say so with `oncelog node replace-disk`"}},
		mistake{"one directory twice", partition("1", "p1", 4), exitFailure, []string{"is in use by another process", "stop that, or give another data directory"}},
	)
	// A node may say it at any time, and goes on.
	said := b.start(time.Hour, "this node's clock is", partition("2", "p2", 4)...)
	if !strings.Contains(said, "1h0m0s ahead of that of the leading coordinator: let NTP set the clocks of both machines") {
		t.Errorf("a clock far off: %s", said)
	}
	check(mistake{"a clock far off", ask("cluster", "health"), exitFailure, []string{"the clock of partition node 2", "1h0m0s ahead of those of most nodes: let NTP set it"}})
	if out, code := b.run(ask("health", at(4))...); code != 0 {
		t.Errorf("a node whose clock is far off does not serve: %s", out)
	}
	// More has to stay free than any disk has.
	b.start(0, "disk low-water mark crossed", partition("3", "p3", 6, "--min-free-bytes", "1125899906842624")...)
	check(mistake{"a full disk", ask("cluster", "health"), exitFailure, []string{"the disk of partition node 3", "is low", "refuses writes"}})
}
