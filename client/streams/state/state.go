// Package state says how package streams keeps the state of its tasks on one
// machine, and keeps it in memory. Package pebblestate keeps it in files.
//
// What is kept here is a copy: the truth is the changelog in the cluster. A state
// is only ever changed by what is committed, together with the changelog position
// that it then has. So a crash leaves either the state before a commit or the one
// after it, and what is missing is read from the changelog.
package state

import "errors"

// ErrInUse is returned by [Backend.Open] while the state is open.
var ErrInUse = errors.New("the state is in use by another task")

// ID names the state of one store in one partition.
type ID struct {
	// Application is the application's id.
	Application string
	// Store is the name of the store.
	Store string
	// Partition is the number of the task.
	Partition int32
}

// Checkpoint says how far a state is. The zero value: it is empty.
type Checkpoint struct {
	// Topic is the id of the topic that the state is a copy of; ids are never used
	// again.
	Topic uint64
	// Next is the offset of the first record of the topic that is not in the state.
	Next int64
	// StreamTime is the highest timestamp that the task had seen, in milliseconds.
	StreamTime int64
}

// Entry is a key with its value; nil: the key is removed.
type Entry struct{ Key, Value []byte }

// Changes is what [State.Apply] does: Clear, then Entries in their order, then
// DropBefore.
type Changes struct {
	// Clear removes everything first.
	Clear bool
	// Entries are set or removed.
	Entries []Entry
	// DropBefore removes every key below it; nil: none.
	DropBefore []byte
	// Checkpoint of the state after the changes.
	Checkpoint Checkpoint
}

// Reader reads a state. What it returns must not be modified.
type Reader interface {
	// Get returns the value of a key; nil: there is none. Values are never nil.
	Get(key []byte) ([]byte, error)
	// Scan calls fn with the entries from a key on, up to and without another one,
	// in the order of their bytes, until fn returns false. from nil: the first; to
	// nil: no end. fn must neither keep nor modify what it is given, and not call
	// the state.
	Scan(from, to []byte, fn func(key, value []byte) bool) error
	// Checkpoint returns how far the state is.
	Checkpoint() Checkpoint
}

// State is the state of one store in one partition. One task changes it; any
// number read it meanwhile.
type State interface {
	Reader
	// View calls fn with the state as it is at one moment.
	View(fn func(r Reader) error) error
	// Apply makes changes, all of them or none.
	Apply(c Changes) error
	// Close ends the use of the state, which stays for the next Open.
	Close() error
}

// Backend keeps states. It is safe for concurrent use.
type Backend interface {
	// Open opens a state, empty if there is none. Errors: ErrInUse while it is open.
	Open(id ID) (State, error)
}
