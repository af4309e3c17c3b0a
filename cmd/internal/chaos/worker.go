package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/workload"
)

// WorkerSpec is what a process of clients is told, as one line of JSON on its
// standard input. When that ends, the clients finish what they are at.
type WorkerSpec struct {
	// Servers are client addresses of coordinators.
	Servers []string `json:"servers"`
	// Seed is drawn from by all its clients, each in its own way.
	Seed uint64 `json:"seed"`
	// Clients each have a connection of their own.
	Clients []workload.Config `json:"clients"`
}

// workerLine is a line on a worker's standard output: an event, or the end of a
// client.
type workerLine struct {
	Event *history.Event `json:"event,omitempty"`
	Ended uint32         `json:"ended,omitempty"`
	Error string         `json:"error,omitempty"`
}

// RunWorker is a process of clients: it runs them until in ends, and writes what
// they do to out, each event before its client goes on, so that nothing that was
// done is unknown when the process is killed.
func RunWorker(ctx context.Context, in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	var spec WorkerSpec
	if err := json.Unmarshal(line, &spec); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		_, _ = io.Copy(io.Discard, reader) // until it ends, however
	}()
	w := &workerOutput{lines: json.NewEncoder(out)}
	recorder := history.NewRecorder(func() int64 { return time.Now().UnixNano() })
	recorder.Tee(func(e history.Event) { w.put(workerLine{Event: &e}) })
	var clients sync.WaitGroup
	for _, cfg := range spec.Clients {
		env := workload.Env{
			Rand: rand.New(rand.NewPCG(spec.Seed, uint64(cfg.Client))), History: recorder, Stop: stop,
			Dial: func(ctx context.Context) (*client.Client, error) {
				return client.Dial(ctx, spec.Servers, client.WithClientID(fmt.Sprintf("chaos-%d", cfg.Client)),
					client.WithRequestTimeout(requestTimeout))
			},
		}
		clients.Go(func() {
			end := workerLine{Ended: cfg.Client}
			if err := workload.Run(ctx, env, cfg); err != nil {
				end.Error = err.Error()
			}
			w.put(end)
		})
	}
	clients.Wait()
	return w.failure()
}

// requestTimeout bounds one attempt of a client's call: it is shorter than the
// faults last, so that clients look elsewhere meanwhile.
const requestTimeout = 2 * time.Second

// workerOutput writes lines; the first failure sticks.
type workerOutput struct {
	mu    sync.Mutex
	lines *json.Encoder
	err   error
}

func (w *workerOutput) put(l workerLine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, w.lines.Encode(l))
}

func (w *workerOutput) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
