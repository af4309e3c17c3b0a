package raftstore

import (
	"errors"
	"fmt"
	"runtime"
)

// Raft calls the following when an invariant is broken, or its storage fails; it must
// not go on. The loop turns it into the end of the store.
func (l *raftLogger) Fatal(v ...any) { panic(brokenInvariant{fmt.Sprint(v...), causeIn(v)}) }
func (l *raftLogger) Fatalf(f string, v ...any) {
	panic(brokenInvariant{fmt.Sprintf(f, v...), causeIn(v)})
}
func (l *raftLogger) Panic(v ...any) { panic(brokenInvariant{fmt.Sprint(v...), causeIn(v)}) }
func (l *raftLogger) Panicf(f string, v ...any) {
	panic(brokenInvariant{fmt.Sprintf(f, v...), causeIn(v)})
}

// brokenInvariant is what Raft panics with: as a rule the log has lost what this
// node had acknowledged, such as when it was started on an older disk. With a cause
// that is an error of the log device, it could not be read.
type brokenInvariant struct {
	text  string
	cause error
}

func causeIn(v []any) error {
	for _, a := range v {
		if err, ok := a.(error); ok {
			return err
		}
	}
	return nil
}

// brokenBy makes an error of what Raft panicked with: a broken invariant, or an error of
// its storage, which it hands on as it is. Nil without a panic; any other goes on.
func brokenBy(p any) error {
	switch p := p.(type) {
	case nil:
		return nil
	case brokenInvariant:
		if errors.Is(p.cause, ErrUnreadable) {
			return p.cause
		}
		return fmt.Errorf("%w: the log lost what this node had acknowledged, and the node must not go on: %s", ErrCorrupt, p.text)
	case runtime.Error:
	case error:
		return p
	}
	panic(p)
}
