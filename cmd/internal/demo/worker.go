package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/oncelog/oncelog/client"
)

// Topics of the demo. They have equally many partitions, so that the counts of a
// word are in the partition that the word is in.
const (
	topicLines  = "lines"
	topicWords  = "words"
	topicCounts = "counts"
)

// Stages of the work.
const (
	// StageSplit turns lines into words.
	StageSplit = "split"
	// StageCount turns words into running counts.
	StageCount = "count"
)

// Records that a worker takes in one transaction at most.
const (
	maxLinesPerTransaction = 50
	maxWordsPerTransaction = 200
)

// WorkerConfig says what a worker does.
type WorkerConfig struct {
	// Servers are client addresses of coordinators.
	Servers []string
	// Stage is StageSplit or StageCount.
	Stage string
	// Name is the worker's transactional id. A worker with the name of another one
	// fences it.
	Name string
	// Partitions are those that the worker reads.
	Partitions []int32
}

// RunWorker is the life of a worker process: it works until its commands end or
// ctx does, and reports on events.
func RunWorker(ctx context.Context, cfg WorkerConfig, commands io.Reader, events io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &worker{cfg: cfg, events: json.NewEncoder(events), hold: newHold()}
	go func() {
		w.hold.obey(commands)
		cancel() // whoever gave the commands is gone
	}()
	err := w.run(ctx)
	switch {
	case err == nil, ctx.Err() != nil:
		return nil
	case errors.Is(err, client.ErrFenced):
		w.report(event{Kind: kindFenced, Error: err.Error()})
		return nil
	default:
		w.report(event{Kind: kindFailed, Error: err.Error()})
		return err
	}
}

type worker struct {
	cfg    WorkerConfig
	events *json.Encoder
	hold   *hold

	client *client.Client
	stage  stage
}

// stage is what a worker does with the records that it reads.
type stage interface {
	// input is the topic that is read, and limit how much of it at once.
	input() (topic string, limit int)
	// restore reads back what earlier lives have committed, and returns how many
	// records that were.
	restore(ctx context.Context, c *client.Client, partitions []int32) (int, error)
	// transform returns what a batch leads to. It may be called again for the same
	// batch, and must not change what the next call sees.
	transform(b *client.Batch) []*client.Record
	// committed takes over what the last transform has computed.
	committed()
}

func newStage(name string) (stage, error) {
	switch name {
	case StageSplit:
		return split{}, nil
	case StageCount:
		return newCounter(), nil
	default:
		return nil, fmt.Errorf("unknown stage %q", name)
	}
}

func (w *worker) run(ctx context.Context) (err error) {
	if w.stage, err = newStage(w.cfg.Stage); err != nil {
		return err
	}
	if w.client, err = client.Dial(ctx, w.cfg.Servers, client.WithClientID("demo-"+w.cfg.Name)); err != nil {
		return err
	}
	defer w.client.Close()
	// The order matters: InitTransactions ends what an earlier life left open and
	// bars it from committing, so that positions and state are final when read.
	producer, err := w.client.InitTransactions(ctx, w.cfg.Name)
	if err != nil {
		return err
	}
	defer producer.Close()
	restored, err := w.stage.restore(ctx, w.client, w.cfg.Partitions)
	if err != nil {
		return err
	}
	topic, limit := w.stage.input()
	consumer, err := w.client.Consume(ctx, StageGroup(w.cfg.Stage), nil,
		client.WithPartitions(topic, w.cfg.Partitions...), client.WithMaxPollRecords(limit))
	if err != nil {
		return err
	}
	defer consumer.Close()
	w.report(event{Kind: kindReady, Restored: restored})
	for {
		batch, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		if err := w.transact(ctx, producer, batch); err != nil {
			return err
		}
	}
}

// StageGroup is the consumer group of a stage.
func StageGroup(stage string) string { return "demo-" + stage }

// transact handles a batch in one transaction. client.Process does this and the
// loop around it; it is spelled out here because the demo reports every
// transaction, and stops in the middle of some.
func (w *worker) transact(ctx context.Context, producer *client.Producer, batch *client.Batch) error {
	var done event
	attempts := 0
	err := producer.Transact(ctx, func(tx *client.Tx) error {
		attempts++
		if err := tx.SendOffsets(ctx, batch); err != nil {
			return err
		}
		out := w.stage.transform(batch)
		if err := tx.Send(ctx, out...); err != nil {
			return err
		}
		done = event{Kind: kindCommitted, Transaction: tx.ID().String(), Read: batch.Len(), Written: len(out)}
		if !w.hold.wanted() {
			return nil
		}
		if err := tx.Flush(ctx); err != nil {
			return err
		}
		held := done
		held.Kind = kindHeld
		w.report(held)
		return w.hold.wait(ctx)
	})
	if err != nil {
		return err
	}
	w.stage.committed()
	done.Aborted = attempts - 1
	w.report(done)
	return nil
}

// report writes an event. If nobody reads it the commands have ended, too.
func (w *worker) report(e event) { _ = w.events.Encode(e) }

// hold is what the worker has been told about stopping before a commit.
type hold struct {
	mu    sync.Mutex
	armed bool
	free  chan struct{} // closed by commandGo
}

func newHold() *hold { return &hold{free: make(chan struct{})} }

// obey takes commands until they end.
func (h *hold) obey(commands io.Reader) {
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		h.mu.Lock()
		switch lines.Text() {
		case commandHold:
			if !h.armed {
				h.armed, h.free = true, make(chan struct{})
			}
		case commandGo:
			if h.armed {
				h.armed = false
				close(h.free)
			}
		}
		h.mu.Unlock()
	}
}

func (h *hold) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.armed
}

// wait returns when the hold is over.
func (h *hold) wait(ctx context.Context) error {
	h.mu.Lock()
	free, armed := h.free, h.armed
	h.mu.Unlock()
	if !armed {
		return nil
	}
	select {
	case <-free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
