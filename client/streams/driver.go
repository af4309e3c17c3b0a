package streams

import (
	"errors"
	"slices"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
	"github.com/oncelog/oncelog/client/streams/state"
)

// Driver runs a topology without a cluster, one record at a time, by a clock of its
// own: for tests of topologies. Every topic has one partition, and every record a
// transaction, so what Send returns has happened altogether or not at all.
//
// It runs what [App] runs; only what comes from the cluster, such as rebalances, is
// not there. For that see package [github.com/oncelog/oncelog/client/clienttest].
//
// A Driver is for one goroutine. It is a [Scope]: stores are read through it.
type Driver struct {
	plan  *engine.Plan
	tasks []*engine.Task
	cfg   driverConfig
	now   time.Time

	logs    map[string][]*client.Record // what was written to a topic
	read    map[string]int              // of it, what Read has returned
	pending []*client.Record            // written by the transaction
}

// DriverOption configures NewDriver.
type DriverOption func(*driverConfig)

type driverConfig struct {
	start   time.Time
	backend state.Backend
	decode  func(*DecodeError) error
}

// DriverStart sets the time that the clock begins with. Default 1970-01-01.
func DriverStart(at time.Time) DriverOption { return func(c *driverConfig) { c.start = at } }

// DriverState sets where stores are kept. Default: in memory.
func DriverState(b state.Backend) DriverOption { return func(c *driverConfig) { c.backend = b } }

// DriverDecodeError is [WithDecodeError] for a driver.
func DriverDecodeError(f func(*DecodeError) error) DriverOption {
	return func(c *driverConfig) { c.decode = f }
}

// NewDriver returns a driver of a topology, or what is wrong with that.
func NewDriver(t *Topology, opts ...DriverOption) (*Driver, error) {
	cfg := driverConfig{start: time.UnixMilli(0), backend: state.NewMemory()}
	for _, o := range opts {
		o(&cfg)
	}
	plan, err := t.plan()
	if err != nil {
		return nil, err
	}
	d := &Driver{plan: plan, cfg: cfg, now: cfg.start, logs: map[string][]*client.Record{}, read: map[string]int{}}
	for i, g := range plan.Groups {
		var states []state.State
		for _, s := range g.Stores {
			st, err := cfg.backend.Open(state.ID{Application: plan.Application, Store: s.Name})
			if err != nil {
				return nil, errors.Join(err, d.Close())
			}
			states = append(states, st)
		}
		task, err := engine.NewTask(engine.ID{Group: i}, g, states, d.now.UnixMilli())
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.tasks = append(d.tasks, task)
	}
	return d, nil
}

// Close gives the stores back to where they are kept.
func (d *Driver) Close() error {
	var errs []error
	for _, t := range d.tasks {
		errs = append(errs, t.Close())
	}
	d.tasks = nil
	return errors.Join(errs...)
}

// Now returns the time by the driver's clock.
func (d *Driver) Now() time.Time { return d.now }

// Advance moves the clock on, and calls the punctuators of the wall clock on the
// way, each at its time.
func (d *Driver) Advance(by time.Duration) error {
	for end := d.now.Add(by); ; {
		next, due := end, false
		for _, t := range d.tasks {
			if ms, ok := t.NextPunctuation(); ok && !time.UnixMilli(ms).After(next) {
				next, due = time.UnixMilli(ms), true
			}
		}
		d.now = next
		if !due {
			return nil
		}
		err := d.transaction(func() error {
			for _, t := range d.tasks {
				if err := t.Punctuate(d.now.UnixMilli(), d.out); err != nil {
					return &TaskError{Task: t.ID().String(), Err: err}
				}
			}
			return d.cascade()
		})
		if err != nil {
			return err
		}
	}
}

// Dropped returns how many records were left out: too late for their window, or
// skipped by DriverDecodeError.
func (d *Driver) Dropped() (n uint64) {
	for _, t := range d.tasks {
		n += t.Dropped()
	}
	return n
}

func (d *Driver) scope(store string) (*engine.Store, error) {
	for _, t := range d.tasks {
		if s := t.Store(store); s != nil {
			return s, nil
		}
	}
	return nil, noStore(store)
}

// send takes a record of an input topic through the topology.
func (d *Driver) send(r *client.Record) error {
	if d.plan.GroupOf(r.Topic) < 0 {
		return &TopologyError{Step: "Input", Name: r.Topic, Reason: "nothing reads the topic"}
	}
	return d.transaction(func() error {
		if err := d.out(r); err != nil {
			return err
		}
		return d.cascade()
	})
}

// transaction runs fn and commits what it did, or takes it back.
func (d *Driver) transaction(fn func() error) error {
	d.pending = nil
	err := fn()
	for _, t := range d.tasks {
		if err == nil {
			err = t.Flush(d.out)
		}
	}
	if err != nil {
		for _, r := range slices.Backward(d.pending) {
			d.logs[r.Topic] = d.logs[r.Topic][:r.Offset]
		}
		for _, t := range d.tasks {
			t.Rollback()
		}
		return err
	}
	for _, t := range d.tasks {
		err := t.Commit(func(topic string) int64 { return int64(len(d.logs[topic])) })
		if err != nil {
			return err
		}
	}
	return nil
}

// out writes a record to its topic.
func (d *Driver) out(r *client.Record) error {
	r.Offset = int64(len(d.logs[r.Topic]))
	if r.Timestamp.IsZero() {
		r.Timestamp = d.now
	}
	d.logs[r.Topic] = append(d.logs[r.Topic], r)
	d.pending = append(d.pending, r)
	return nil
}

// cascade processes what was written to topics that are read, in its order.
func (d *Driver) cascade() error {
	for done := 0; ; done++ {
		if done == len(d.pending) {
			return nil
		}
		r := d.pending[done]
		g := d.plan.GroupOf(r.Topic)
		if g < 0 {
			continue
		}
		t := d.tasks[g]
		if err := processed(t, t.Process(r, d.now.UnixMilli(), d.out), r, d.cfg.decode); err != nil {
			return err
		}
	}
}

// processed judges how the processing of a record ended.
func processed(t *engine.Task, err error, r *client.Record, skip func(*DecodeError) error) error {
	var bad *DecodeError
	switch {
	case err == nil:
		return nil
	case skip != nil && errors.As(err, &bad):
		if err = skip(bad); err == nil {
			t.Drop()
			return nil
		}
	}
	return &TaskError{Task: t.ID().String(), Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Err: err}
}

// DriverInput sends records to a topic of a driver.
type DriverInput[K, V any] struct {
	d     *Driver
	topic Topic[K, V]
}

// Input returns what sends records to a topic of a driver.
func Input[K, V any](d *Driver, topic Topic[K, V]) DriverInput[K, V] {
	return DriverInput[K, V]{d: d, topic: topic}
}

// Send sends a record with the driver's time. It returns when everything that
// follows from it is done. After an error nothing of it has happened.
func (in DriverInput[K, V]) Send(key K, value V) error {
	return in.SendRecord(Record[K, V]{Key: key, Value: value, Timestamp: in.d.now})
}

// SendAt is Send of a record with another timestamp.
func (in DriverInput[K, V]) SendAt(at time.Time, key K, value V) error {
	return in.SendRecord(Record[K, V]{Key: key, Value: value, Timestamp: at})
}

// SendRecord is Send of any record.
func (in DriverInput[K, V]) SendRecord(r Record[K, V]) error {
	raw, err := in.topic.encode(r)
	if err != nil {
		return err
	}
	return in.d.send(raw)
}

// Delete sends a record without a value: to a table, that the key is removed.
func (in DriverInput[K, V]) Delete(key K) error {
	b, err := in.topic.Key.Encode(key)
	if err != nil {
		return err
	}
	return in.d.send(&client.Record{Topic: in.topic.Name, Key: b, Timestamp: in.d.now})
}

// DriverOutput reads what a driver has written to a topic.
type DriverOutput[K, V any] struct {
	d     *Driver
	topic Topic[K, V]
}

// Output returns what reads records of a topic of a driver: output, internal, or
// input.
func Output[K, V any](d *Driver, topic Topic[K, V]) DriverOutput[K, V] {
	return DriverOutput[K, V]{d: d, topic: topic}
}

// Read returns the records that have been written since the last Read of the topic.
func (out DriverOutput[K, V]) Read() ([]Record[K, V], error) {
	log := out.d.logs[out.topic.Name]
	var records []Record[K, V]
	for _, raw := range log[out.d.read[out.topic.Name]:] {
		r, err := out.topic.decode(raw)
		if err != nil {
			return records, err
		}
		records = append(records, r)
	}
	out.d.read[out.topic.Name] = len(log)
	return records, nil
}
