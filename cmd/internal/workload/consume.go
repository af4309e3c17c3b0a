package workload

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// reading is a consumer: every Consume is another reader in the history.
type reading struct {
	*client.Consumer
	note *history.Reader
	// noted is where it stands according to the history.
	noted client.Offsets

	// Of members that are given their partitions:
	mu sync.Mutex
	// begun counts how often a partition was begun of which no record was read yet:
	// the next one may be anywhere.
	begun map[client.TopicPartition]bool
}

// polled is what a Poll returned. All methods do nothing with nil.
type polled struct {
	in      *reading
	batch   *client.Batch
	records []*client.Record
	moves   []history.Move // in the order of partitions
}

// pollLimit bounds a Poll: a silent partition must not keep a client from being
// stopped.
const pollLimit = 500 * time.Millisecond

// consume opens a consumer, anywhere in what it has to read if start says so; nil
// when the client was stopped before.
func (w *worker) consume(ctx context.Context, partitions []int32, isolation client.Isolation, start client.Offsets) (*reading, error) {
	r := &reading{note: w.note.Reader(isolationOf(isolation)), noted: client.Offsets{}}
	size := w.cfg.MaxRecords
	if w.cfg.Kind == Read {
		size *= 10
	}
	opts := []client.ConsumerOption{
		client.WithMaxPollRecords(size), client.WithIsolation(isolation),
		client.WithoutReset(), // a gap has to be in the history
	}
	if w.cfg.Subscribe {
		r.begun = map[client.TopicPartition]bool{}
		opts = append(opts, r.subscription(&w.cfg)...)
	} else {
		opts = append(opts, client.WithPartitions(w.cfg.Input.Name, partitions...))
	}
	for {
		err := w.insist(ctx, func(ctx context.Context) error { return w.join(ctx, r, opts) })
		switch {
		case err == nil:
			if r.begun == nil {
				r.Seek(start)
				r.notePositions(r.Partitions())
			}
			return r, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		if err := plausible(err); err != nil || w.stopped() {
			return nil, err
		}
		if !w.think(ctx) {
			return nil, ctx.Err()
		}
	}
}

// join opens a consumer; with a group that reads its positions, too.
func (w *worker) join(ctx context.Context, r *reading, opts []client.ConsumerOption) (err error) {
	if w.cfg.Group == "" {
		r.Consumer, err = w.c.Consume(ctx, "", nil, opts...)
		return err
	}
	if w.cfg.Subscribe {
		r.Consumer, err = w.c.Consume(ctx, w.cfg.Group, []string{w.cfg.Input.Name}, opts...)
		return err
	}
	call := w.note.FetchOffsets(w.cfg.Group)
	if r.Consumer, err = w.c.Consume(ctx, w.cfg.Group, nil, opts...); err != nil {
		call.Failed(codeOf(err))
		return err
	}
	var positions []history.Position
	at := r.Position()
	for _, tp := range r.Partitions() {
		p := history.Position{Partition: partitionOf(tp), Offset: at[tp]}
		if p.Offset == 0 {
			p.Offset = -1 // a batch is never empty, so nobody commits position 0
		}
		positions = append(positions, p)
	}
	call.Done(positions)
	return nil
}

func isolationOf(i client.Isolation) history.Isolation {
	if i == client.ReadUncommitted {
		return history.ReadUncommitted
	}
	return history.ReadCommitted
}

func partitionOf(tp client.TopicPartition) history.Partition {
	return history.Partition{Topic: tp.Topic, Index: tp.Partition}
}

// notePositions writes down where the consumer stands.
func (r *reading) notePositions(partitions []client.TopicPartition) {
	at := r.Position()
	for _, tp := range partitions {
		r.note.Position(partitionOf(tp), at[tp])
		r.noted[tp] = at[tp]
	}
}

// poll reads; nil when there was nothing to read for a while. What was read is
// written down by note.
func (w *worker) poll(ctx context.Context, r *reading) (*polled, error) {
	bounded, cancel := w.Runtime.WithTimeout(ctx, min(pollLimit, w.cfg.CallTimeout))
	b, err := r.Poll(bounded)
	cancel()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case noAnswer(err):
		r.noteSkipped(nil)
		return nil, nil
	case w.cfg.Trimmed && r.skipped(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	p := &polled{in: r, batch: b, records: slices.Collect(b.Records())}
	read, from := b.Offsets(), b.StartOffsets()
	r.noteSkipped(read)
	for tp, next := range read {
		p.moves = append(p.moves, history.Move{Partition: partitionOf(tp), From: r.noted[tp], Next: next})
	}
	slices.SortFunc(p.moves, func(a, b history.Move) int { return a.Partition.Compare(b.Partition) })
	for i := range p.moves {
		m := &p.moves[i]
		tp := client.TopicPartition{Topic: m.Partition.Topic, Partition: m.Partition.Index}
		if r.begun != nil {
			m.From = from[tp]
			r.noteStart(tp, m.From)
		}
		r.noted[tp] = m.Next
	}
	return p, p.decode()
}

// skipped goes on at the start of a log of which retention has removed what was to
// be read next. False: that is not what the error says.
func (r *reading) skipped(err error) bool {
	var e *client.Error
	if !errors.As(err, &e) || e.Code != "OFFSET_OUT_OF_RANGE" {
		return false
	}
	tp := client.TopicPartition{Topic: e.Topic, Partition: e.Partition}
	if e.LogStart <= r.Position()[tp] {
		return false
	}
	r.noteSkipped(nil)
	r.Seek(client.Offsets{tp: e.LogStart})
	r.notePositions([]client.TopicPartition{tp})
	return true
}

// noteSkipped writes down that positions have moved on although nothing of their
// partitions was handed out: over records that are hidden, at any time.
func (r *reading) noteSkipped(read client.Offsets) {
	if r.begun != nil {
		return // noteStart does, when there is a batch: the partition may be another's by now
	}
	at := r.Position()
	for _, tp := range r.Partitions() {
		if _, ok := read[tp]; !ok && at[tp] != r.noted[tp] {
			r.note.Read(partitionOf(tp), r.noted[tp], at[tp], nil)
			r.noted[tp] = at[tp]
		}
	}
}

// decode refuses what no workload has written.
func (p *polled) decode() error {
	for _, r := range p.records {
		if _, err := history.DecodeValue(r.Value); err != nil {
			return err
		}
	}
	return nil
}

// note writes down what was read, in a transaction or outside of any.
func (p *polled) note(t *history.Txn) {
	if p == nil {
		return
	}
	seen := make(map[history.Partition][]history.Seen)
	for _, r := range p.records {
		at := history.Partition{Topic: r.Topic, Index: r.Partition}
		v, err := history.DecodeValue(r.Value)
		if err != nil {
			continue // poll has refused it
		}
		seen[at] = append(seen[at], history.Seen{Offset: r.Offset, Value: v})
	}
	for _, m := range p.moves {
		p.in.note.ReadIn(t, m.Partition, m.From, m.Next, seen[m.Partition])
	}
}

// rewound writes down where the consumer stands if a transaction took it back.
func (p *polled) rewound() {
	if p == nil {
		return
	}
	at := p.in.Position()
	for _, m := range p.moves {
		tp := client.TopicPartition{Topic: m.Partition.Topic, Partition: m.Partition.Index}
		if position, reads := at[tp]; reads && position != m.Next {
			p.in.note.Position(m.Partition, at[tp])
			p.in.noted[tp] = at[tp]
		}
	}
}

// close ends a consumer. That the group could not be told is no failure.
func (w *worker) close(r *reading) error { return plausible(r.Close()) }

// turn draws which partitions a member takes next.
func (w *worker) turn() []int32 {
	if w.hits(w.cfg.Steals) {
		return w.cfg.all()
	}
	return w.cfg.assigned()
}

// subscription is what makes a consumer a member that is given its partitions.
func (r *reading) subscription(cfg *Config) []client.ConsumerOption {
	opts := []client.ConsumerOption{
		client.WithSessionTimeout(cfg.Session), client.WithMaxPollInterval(cfg.MaxPoll),
		client.WithOnAssigned(func(_ *client.Consumer, partitions []client.TopicPartition) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, tp := range partitions {
				r.begun[tp] = true
			}
		}),
	}
	if cfg.Range {
		opts = append(opts, client.WithAssignor(client.AssignorRange))
	}
	if cfg.Instance != "" {
		opts = append(opts, client.WithGroupInstanceID(cfg.Instance))
	}
	return opts
}

// noteStart writes down where a member stood before a batch: where the history has
// it, past records that are hidden, or, if the partition was given to it anew,
// anywhere.
func (r *reading) noteStart(tp client.TopicPartition, start int64) {
	r.mu.Lock()
	begun := r.begun[tp]
	r.mu.Unlock()
	noted, known := r.noted[tp]
	switch {
	case known && noted == start:
	case begun:
		r.mu.Lock()
		delete(r.begun, tp)
		r.mu.Unlock()
		r.note.Position(partitionOf(tp), start)
	case known && noted < start:
		r.note.Read(partitionOf(tp), noted, start, nil)
	}
}
