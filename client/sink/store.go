package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/oncelog/oncelog/client"
)

// MaxName is the longest name of a sink, in bytes: it names the group, too.
const MaxName = 249

// NoPosition says that a store has no position of a partition yet.
const NoPosition int64 = -1

// Partition is a partition of one life of a topic. Those of a topic that was deleted
// and created again have other ids, and offsets of the former say nothing in them.
type Partition struct {
	client.TopicPartition
	// ID is the id that the cluster gave to the partition, below 1<<63.
	ID uint64
}

// Claim is what a store tells the new owner of a partition.
type Claim struct {
	// Epoch is higher than that of every claim of the partition before, from 1.
	Epoch int64
	// Next is the offset of the first record that has not been taken, or NoPosition.
	Next int64
}

// Part is what is to be taken of one partition: records, and the move of its
// position past them.
type Part struct {
	// Partition that was claimed.
	Partition Partition
	// Epoch is that of the claim.
	Epoch int64
	// From is the position as the owner knows it, or NoPosition; To the one after.
	From, To int64
	// Records have offsets from From to below To, ascending. There may be gaps, and
	// none at all when only the position is to be set.
	Records []*client.Record
}

// Store keeps the positions of sinks in one transaction with what the records led
// to. It is safe for concurrent use, also by several processes.
//
// A failure that may pass, such as a lost connection, is marked with [Retriable]:
// the call is then repeated, whether or not it has taken effect. Every other one ends
// the sink. A call that returns an error may have taken effect only if the error is
// retriable.
type Store interface {
	// Claim makes the caller the owner of partitions, all or none: it raises their
	// epochs and returns them with the positions, in the order of partitions. Claims
	// and Applies of one partition happen one after the other, so that a claim either
	// sees what an Apply has moved or has it refused.
	//
	// Errors: *TopicChangedError when a position belongs to another life of the topic.
	Claim(ctx context.Context, sink string, partitions []Partition) ([]Claim, error)
	// Apply takes parts, of different partitions, in one transaction: all of them, or
	// nothing of any. A part counts if the partition has its epoch and stands at From.
	// If it has its epoch and stands at To, an earlier attempt was committed whose
	// answer was lost, and nothing is done. Without records no handler runs.
	//
	// Errors: *FencedError with the partitions that have another epoch or position.
	Apply(ctx context.Context, sink string, parts []Part) error
}

// Writer writes records so that writing them again changes nothing, whatever was
// written of the same partition after them. It is safe for concurrent use. A failure
// that may pass is marked with [Retriable].
type Writer interface {
	// Write returns when the records are durable. They are of one or more partitions,
	// in the order of their offsets within each.
	Write(ctx context.Context, records []*client.Record) error
}

// ErrFenced says that somebody else has claimed a partition since.
var ErrFenced = errors.New("another run of the sink has claimed the partition")

// FencedError names the partitions in which a Store found another epoch, or another
// position, than the caller expected. It is an ErrFenced.
type FencedError struct {
	// Partitions that the caller has lost.
	Partitions []client.TopicPartition
}

// Error names the partitions.
func (e *FencedError) Error() string {
	names := make([]string, len(e.Partitions))
	for i, tp := range e.Partitions {
		names[i] = tp.String()
	}
	return fmt.Sprintf("%s: %v", strings.Join(names, ", "), ErrFenced)
}

// Unwrap returns ErrFenced.
func (e *FencedError) Unwrap() error { return ErrFenced }

// TopicChangedError says that the position in the store belongs to a topic of the same
// name that was deleted. Nobody but its operator knows whether the records of the new one
// are to be added to what is there: delete the position, or give the sink another
// name.
type TopicChangedError struct {
	// Partition that was to be claimed, with the id that it has now.
	Partition Partition
	// Stored is the partition id of the position.
	Stored uint64
}

// Error names both lives of the topic.
func (e *TopicChangedError) Error() string {
	return fmt.Sprintf("the topic of %v was deleted and created again: the stored position is of partition id %d, and it has id %d now; "+
		"delete the position, or give the sink another name", e.Partition.TopicPartition, e.Stored, e.Partition.ID)
}

type retriableError struct{ err error }

func (e retriableError) Error() string { return e.err.Error() }
func (e retriableError) Unwrap() error { return e.err }

// Retriable marks a failure that may pass; nil stays nil.
func Retriable(err error) error {
	if err == nil {
		return nil
	}
	return retriableError{err}
}

// IsRetriable reports whether err was marked with Retriable.
func IsRetriable(err error) bool {
	var r retriableError
	return errors.As(err, &r)
}
