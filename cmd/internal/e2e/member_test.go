package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
)

// memberVariable makes the test binary a member of a group that copies a topic:
// servers, group, input, output and transactional id, with bars between them.
const memberVariable = "E2E_MEMBER"

// memberSession is the session timeout of members that are killed and stopped.
const memberSession = 2 * time.Second

// runMember copies until it is told to stop. It prints how long it took from
// joining to the first record.
func runMember(task string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	f := strings.Split(task, "|")
	c, err := client.Dial(ctx, strings.Split(f[0], ","))
	if err != nil {
		return err
	}
	defer c.Close()
	out, err := c.InitTransactions(ctx, f[4], client.WithTransactionTimeout(3*time.Second))
	if err != nil {
		return err
	}
	began := time.Now()
	in, err := c.Consume(ctx, f[1], []string{f[2]}, client.WithMaxPollRecords(20), client.WithSessionTimeout(memberSession))
	if err != nil {
		return err
	}
	first := true
	err = client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
		if first {
			fmt.Fprintf(os.Stdout, "from joining to the first record: %v\n", time.Since(began).Round(time.Millisecond))
			first = false
		}
		for r := range b.Records() {
			if err := tx.Send(ctx, &client.Record{Topic: f[3], Key: r.Key, Value: r.Value}); err != nil {
				return err
			}
		}
		return nil
	})
	if ctx.Err() == nil {
		return err
	}
	return in.Close()
}

// memberProcess is a member in a process of its own.
type memberProcess struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan error
}

// startMember starts a member of the group, and writes until it has read something.
func (w *world) startMember(t *testing.T, write func(int), name, group, in, out string) *memberProcess {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &memberProcess{t: t, name: name, cmd: exec.Command(binary), done: make(chan error, 1)}
	task := strings.Join([]string{strings.Join(w.Servers(), ","), group, in, out, group + "." + name}, "|")
	m.cmd.Env = append(os.Environ(), memberVariable+"="+task)
	m.cmd.Stderr = os.Stderr
	said, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.cmd.Process.Kill() })
	lines := make(chan string, 1)
	go func() {
		for scan := bufio.NewScanner(said); scan.Scan(); {
			lines <- scan.Text()
		}
		m.done <- m.cmd.Wait()
	}()
	for ctx := withPatience(t); ; {
		select {
		case line := <-lines:
			t.Logf("member %s: %s", name, line)
			return m
		case err := <-m.done:
			t.Fatalf("member %s ended: %v", name, err)
		case <-ctx.Done():
			t.Fatalf("member %s has read nothing", name)
		default:
			write(1)
		}
	}
}

func (m *memberProcess) signal(s syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatalf("member %s: %v", m.name, err)
	}
}

// leaves stops the member politely.
func (m *memberProcess) leaves() {
	m.t.Helper()
	m.signal(syscall.SIGTERM)
	select {
	case err := <-m.done:
		if err != nil {
			m.t.Errorf("member %s: %v", m.name, err)
		}
	case <-withPatience(m.t).Done():
		m.t.Fatalf("member %s does not end", m.name)
	}
}

// Members of a group come, go, are killed and are stopped for longer than their
// session, while a producer goes on writing: the output has every record once.
// Covers SY-02, ST-10 of CONFORMANCE.md.
func TestGroupOfProcessesCopiesExactlyOnce(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, group := w.topic(t, "in", 6), w.topic(t, "out", 3), unique(t, "group")
	feed := producer(t, c, unique(t, "feed"))
	var written []string
	write := func(n int) {
		t.Helper()
		for range n {
			tx := begin(t, feed)
			for range 6 {
				v := fmt.Sprintf("v%d", len(written))
				if err := tx.Send(withPatience(t), &client.Record{Topic: in, Key: []byte(v), Value: []byte(v)}); err != nil {
					t.Fatal(err)
				}
				written = append(written, v)
			}
			commit(t, tx)
		}
	}
	// moves waits until the group has got over what happened to it: it is given
	// something to do, and does it.
	moves := func(what string) {
		t.Helper()
		began := time.Now()
		write(20)
		eventually(t, what, func() error {
			if n := w.groupTotal(t, group, in, 6); n < int64(len(written)) {
				return fmt.Errorf("%d of %d records are processed", n, len(written))
			}
			return nil
		})
		t.Logf("%s: everything processed %v later", what, time.Since(began).Round(time.Millisecond))
	}
	a := w.startMember(t, write, "a", group, in, out)
	b := w.startMember(t, write, "b", group, in, out)
	d := w.startMember(t, write, "d", group, in, out)
	moves("three members")
	a.leaves()
	moves("one left")
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	moves("one was killed")
	d.signal(syscall.SIGSTOP)
	e := w.startMember(t, write, "e", group, in, out)
	moves("the last but one is stopped")
	d.signal(syscall.SIGCONT)
	moves("it goes on")
	d.leaves()
	e.leaves()
	wantValues(t, "output", w.readCommitted(t, c, out), written...)
}
