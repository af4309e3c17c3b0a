package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a worker's process as the demo sees it.
type process struct {
	cfg      WorkerConfig
	cmd      *exec.Cmd
	commands io.WriteCloser
	log      string
	done     chan struct{} // closed when the process is gone and its events are read

	mu      sync.Mutex
	seen    map[string]event         // last event by kind
	waiting map[string]chan struct{} // closed at the first event of a kind
	killed  bool
}

// WorkerArgs returns the arguments with which the program becomes a worker.
func WorkerArgs(cfg WorkerConfig) []string {
	args := []string{"demo", "worker", "--stage", cfg.Stage, "--name", cfg.Name, "--servers", strings.Join(cfg.Servers, ",")}
	for _, p := range cfg.Partitions {
		args = append(args, "--partition", strconv.Itoa(int(p)))
	}
	return args
}

// startWorker starts a worker process. Its events go to tell, in order, from one
// goroutine.
func startWorker(binary, dir string, cfg WorkerConfig, tell func(*process, event)) (*process, error) {
	p := &process{
		cfg: cfg, done: make(chan struct{}), log: filepath.Join(dir, "worker-"+cfg.Name+".log"),
		seen: make(map[string]event), waiting: make(map[string]chan struct{}),
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	p.cmd = exec.Command(binary, WorkerArgs(cfg)...)
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = childAttributes()
	commands, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.commands = commands
	events, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker %s: %w", cfg.Name, err)
	}
	go p.listen(events, tell)
	return p, nil
}

// listen reads events to their end, which is that of the process.
func (p *process) listen(events io.Reader, tell func(*process, event)) {
	defer close(p.done)
	lines := bufio.NewScanner(events)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Kind: kindFailed, Error: fmt.Sprintf("it printed %q", lines.Text())}
		}
		p.note(e)
		tell(p, e)
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	killed := p.killed
	_, told := p.seen[kindFailed]
	p.mu.Unlock()
	if err != nil && !killed && !told {
		e := event{Kind: kindFailed, Error: err.Error()}
		p.note(e)
		tell(p, e)
	}
}

func (p *process) note(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, again := p.seen[e.Kind]; !again {
		close(p.signal(e.Kind))
	}
	p.seen[e.Kind] = e
}

// signal returns the channel that is closed at the first event of a kind.
func (p *process) signal(kind string) chan struct{} {
	c, ok := p.waiting[kind]
	if !ok {
		c = make(chan struct{})
		p.waiting[kind] = c
	}
	return c
}

// happened is closed once the worker has reported an event of the kind.
func (p *process) happened(kind string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(kind)
}

// last returns the last event of a kind.
func (p *process) last(kind string) event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[kind]
}

// await waits for the first event of a kind.
func (p *process) await(ctx context.Context, kind string) error {
	happened := p.happened(kind)
	select {
	case <-happened:
		return nil
	case <-p.done:
		select {
		case <-happened:
			return nil
		default:
			return fmt.Errorf("worker %s ended before it was %s: %s", p.cfg.Name, kind, p.last(kindFailed).Error)
		}
	case <-ctx.Done():
		return fmt.Errorf("worker %s is not %s: %w", p.cfg.Name, kind, ctx.Err())
	}
}

// command tells the worker something. A worker that is gone does not hear it.
func (p *process) command(word string) { _, _ = io.WriteString(p.commands, word+"\n") }

// pause stops the process where it is; resume lets it go on.
func (p *process) pause() error  { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.cmd.Process.Kill() // an error: it has ended
	<-p.done
}

// stopLimit is how long a worker has to end by itself.
const stopLimit = 5 * time.Second

// stop ends the process politely, and if that takes too long not.
func (p *process) stop() {
	_ = p.commands.Close()
	_ = p.resume() // a stopped process would not notice
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
	}
}
