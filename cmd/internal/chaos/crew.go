package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/workload"
)

// crew is a process of clients, as this process sees it.
type crew struct {
	name  string // unlike all others, also of those before it
	plan  crewPlan
	spec  WorkerSpec
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when the process is gone and everything it said was heard

	mu     sync.Mutex
	events []history.Event
	calls  map[uint64]history.Kind // of calls without an answer
	gotOn  map[uint32]time.Time    // when a client last achieved something
	errs   []error
	killed bool
	asked  bool  // to finish
	failed error // why the process ended, if that was not as it should
}

// startCrew starts a process.
func startCrew(command *exec.Cmd, name string, p crewPlan, spec WorkerSpec, log string) (*crew, error) {
	c := &crew{
		name: name, plan: p, spec: spec, cmd: command, done: make(chan struct{}),
		calls: make(map[uint64]history.Kind), gotOn: make(map[uint32]time.Time),
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own
	c.cmd.Stderr, c.cmd.SysProcAttr = f, childAttributes()
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go c.listen(out)
	return c, nil
}

// begin tells the process what to do.
func (c *crew) begin() error {
	line, err := json.Marshal(c.spec)
	if err != nil {
		return err
	}
	_, err = c.stdin.Write(append(line, '\n'))
	return err
}

// listen hears the process out.
func (c *crew) listen(out io.Reader) {
	defer close(c.done)
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // a piece of a line was not said
		}
		c.hear(line)
	}
	err := c.cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.killed:
	case err != nil:
		c.failed = fmt.Errorf("%s: %w", c.name, err)
	case !c.asked:
		c.failed = fmt.Errorf("%s ended before it was asked to", c.name)
	}
}

func (c *crew) hear(line []byte) {
	var l workerLine
	err := json.Unmarshal(line, &l)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.errs = append(c.errs, fmt.Errorf("%s said %q", c.name, line))
	case l.Event != nil:
		c.events = append(c.events, *l.Event)
		c.follow(l.Event)
	case l.Error != "":
		c.errs = append(c.errs, fmt.Errorf("%s: %s", c.name, l.Error))
	}
}

// follow notes when a client achieves something: a transaction is committed, a
// record durable, a partition read.
func (c *crew) follow(e *history.Event) {
	achieved := false
	switch e.Kind {
	case history.KindAck, history.KindRead, history.KindEnds:
		achieved = !c.transactional(e.Client)
	case history.KindCommit, history.KindCommitOffsets, history.KindFence, history.KindAdminAbort, history.KindFetchOffsets:
		c.calls[e.Call] = e.Kind
	case history.KindAnswer:
		kind, known := c.calls[e.Call]
		delete(c.calls, e.Call)
		switch {
		case !known:
		case kind == history.KindCommit:
			achieved = e.Outcome == history.Committed
		default:
			achieved = e.Outcome != history.Unknown && !c.transactional(e.Client)
		}
	default:
	}
	if achieved {
		c.gotOn[e.Client] = time.Unix(0, e.Time)
	}
}

// transactional reports whether only commits count for a client.
func (c *crew) transactional(client uint32) bool {
	for i := range c.spec.Clients {
		if cfg := &c.spec.Clients[i]; cfg.Client == client {
			return cfg.Kind == workload.Append || cfg.Kind == workload.Transfer || cfg.Kind == workload.Process
		}
	}
	return false
}

// waiting returns the clients that have achieved nothing since a time.
func (c *crew) waiting(since time.Time) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for i := range c.spec.Clients {
		if cfg := &c.spec.Clients[i]; !c.gotOn[cfg.Client].After(since) {
			out = append(out, fmt.Sprintf("%s: client %d (%s)", c.name, cfg.Client, cfg.Kind))
		}
	}
	return out
}

// pause stops the process where it is; resume lets it go on.
func (c *crew) pause() error  { return c.cmd.Process.Signal(syscall.SIGSTOP) }
func (c *crew) resume() error { return c.cmd.Process.Signal(syscall.SIGCONT) }

// kill ends the process as kill -9 does, and waits until it is gone.
func (c *crew) kill() {
	c.mu.Lock()
	c.killed = true
	c.mu.Unlock()
	_ = c.cmd.Process.Kill() // an error: it has ended
	<-c.done
}

// stop has the clients finish what they are at. When ctx ends first they are
// killed.
func (c *crew) stop(ctx context.Context) error {
	c.mu.Lock()
	c.asked = true
	c.mu.Unlock()
	_ = c.stdin.Close()
	_ = c.resume() // a stopped process would not notice
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.kill()
		return fmt.Errorf("%s did not finish: %w", c.name, ctx.Err())
	}
}

// journal returns what the process has recorded.
func (c *crew) journal() journal {
	c.mu.Lock()
	defer c.mu.Unlock()
	return journal{name: c.name, events: c.events[:len(c.events):len(c.events)]}
}

// failure returns what went wrong in the process.
func (c *crew) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(append([]error{c.failed}, c.errs...)...)
}
