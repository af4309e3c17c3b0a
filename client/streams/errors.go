package streams

import (
	"errors"
	"fmt"

	"github.com/oncelog/oncelog/client"
)

// Sentinels, to be found with errors.Is.
var (
	// ErrTopology: the topology cannot work; a [*TopologyError] says why.
	ErrTopology = errors.New("the topology cannot work")
	// ErrPartitions: topics that are read together, or an internal topic that exists
	// already, do not have the number of partitions that they need.
	ErrPartitions = errors.New("the number of partitions does not fit")
	// ErrNotLocal: another instance has the key, or the store, or nobody has it now.
	ErrNotLocal = errors.New("this instance does not have it")
	// ErrNoStore: the topology has no such store, or the step did not name it.
	ErrNoStore = errors.New("no such store")
)

// TopologyError is something in a topology that cannot work.
type TopologyError struct {
	// Step is the call, such as "Count".
	Step string
	// Name is the topic or store that it is about.
	Name string
	// Reason says what is wrong, and what to do.
	Reason string
}

// Error returns step, name and reason.
func (e *TopologyError) Error() string {
	return fmt.Sprintf("streams: %s %q: %s", e.Step, e.Name, e.Reason)
}

// Unwrap returns ErrTopology.
func (e *TopologyError) Unwrap() error { return ErrTopology }

// DecodeError is a record of an input topic that its serde refuses.
type DecodeError struct {
	// Topic, Partition and Offset say which record.
	Topic     string
	Partition int32
	Offset    int64
	// Part is "key" or "value".
	Part string
	// Err is what the serde said.
	Err error
}

// Error returns place and cause.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("streams: %s of %s/%d@%d: %v", e.Part, e.Topic, e.Partition, e.Offset, e.Err)
}

// Unwrap returns what the serde said.
func (e *DecodeError) Unwrap() error { return e.Err }

func decodeError(r *client.Record, part string, err error) error {
	return &DecodeError{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Part: part, Err: err}
}

// EncodeError is a key or value that its serde cannot write.
type EncodeError struct {
	// Topic is where the record was to go, or the store.
	Topic string
	// Part is "key" or "value".
	Part string
	// Err is what the serde said.
	Err error
}

// Error returns place and cause.
func (e *EncodeError) Error() string {
	return fmt.Sprintf("streams: encode the %s for %s: %v", e.Part, e.Topic, e.Err)
}

// Unwrap returns what the serde said.
func (e *EncodeError) Unwrap() error { return e.Err }

// TaskError is a failure of a step, which ends [App.Run]: it would fail again.
type TaskError struct {
	// Task is the sub-topology and partition, such as "0_3".
	Task string
	// Topic, Partition and Offset say which record was processed; Topic is empty
	// during a punctuation.
	Topic     string
	Partition int32
	Offset    int64
	// Err is what the step returned.
	Err error
}

// Error returns task, place and cause.
func (e *TaskError) Error() string {
	if e.Topic == "" {
		return fmt.Sprintf("streams: task %s: %v", e.Task, e.Err)
	}
	return fmt.Sprintf("streams: task %s at %s/%d@%d: %v", e.Task, e.Topic, e.Partition, e.Offset, e.Err)
}

// Unwrap returns what the step returned.
func (e *TaskError) Unwrap() error { return e.Err }
