// Package trace is how nodes tell a tracing system what they do for a transaction.
// They know none: cmd/internal/tracing is one. Nothing that a node decides, stores or
// answers depends on it.
package trace

import (
	"context"
	"sync"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Limits of a trace context, in bytes. W3C's traceparent has 55 in its first version;
// its tracestate should be propagated up to 512.
const (
	MaxParent = 64
	MaxState  = 512
)

// Context is a W3C trace context; the zero value is none.
type Context struct{ Parent, State string }

// FromProto returns what a message carries.
func FromProto(t *oncelogv1.TraceContext) Context {
	return Context{Parent: t.GetTraceparent(), State: t.GetTracestate()}
}

// Proto is the reverse of FromProto; nil for none.
func (c Context) Proto() *oncelogv1.TraceContext {
	if c.Parent == "" {
		return nil
	}
	return &oncelogv1.TraceContext{Traceparent: c.Parent, Tracestate: c.State}
}

// Check refuses a trace context that is too long.
func Check(field string, t *oncelogv1.TraceContext) *apierrors.Error {
	switch {
	case len(t.GetTraceparent()) > MaxParent:
		return apierrors.InvalidArgument(field+".traceparent", "is longer than 64 bytes")
	case len(t.GetTracestate()) > MaxState:
		return apierrors.InvalidArgument(field+".tracestate", "is longer than 512 bytes")
	}
	return nil
}

// Attribute is a fact about a span: a number, or a code. Never what a client has
// written.
type Attribute struct {
	Key  string
	Int  int64
	Text string // if not empty, instead of Int
}

// Tracer makes spans. Its methods are called at the same time by several tasks, and
// must not block.
type Tracer interface {
	// Start begins a span that cause led to, and returns its context. If cause is
	// not recorded, nothing is: the context is zero.
	Start(cause Context, name string, attributes ...Attribute) (Context, End)
	// Of returns the context of the call in ctx.
	Of(ctx context.Context) Context
}

// End ends a span; err is nil if all went well.
type End func(err error, attributes ...Attribute)

// Off traces nothing.
type Off struct{}

// Start implements Tracer.
func (Off) Start(Context, string, ...Attribute) (Context, End) { return Context{}, ignore }

// Of implements Tracer.
func (Off) Of(context.Context) Context { return Context{} }

func ignore(error, ...Attribute) {}

// Or returns t, and Off for nil.
func Or(t Tracer) Tracer {
	if t == nil {
		return Off{}
	}
	return t
}

// Memory remembers contexts by key for a while: the newest ones, up to a number.
// The zero value remembers nothing. It is safe for concurrent use.
type Memory[K comparable] struct {
	mu    sync.Mutex
	known map[K]Context
	order []K // a ring
	next  int
}

// NewMemory returns a memory of so many contexts.
func NewMemory[K comparable](size int) *Memory[K] {
	return &Memory[K]{known: map[K]Context{}, order: make([]K, size)}
}

// Put remembers a context, if there is one.
func (m *Memory[K]) Put(key K, c Context) {
	if m == nil || c.Parent == "" || len(m.order) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, again := m.known[key]; !again {
		delete(m.known, m.order[m.next])
		m.order[m.next] = key
		m.next = (m.next + 1) % len(m.order)
	}
	m.known[key] = c
}

// Get returns what is remembered, else the zero context.
func (m *Memory[K]) Get(key K) Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[key]
}
