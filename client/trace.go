package client

import (
	"context"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Headers of a W3C trace context, as HTTP has them.
const (
	headerTraceparent = "traceparent"
	headerTracestate  = "tracestate"
)

// TraceContext is a W3C trace context (https://www.w3.org/TR/trace-context): what
// names a span to whoever goes on with its trace. The zero value is none.
type TraceContext struct {
	// Parent is the value of traceparent, 55 bytes of text.
	Parent string
	// State is the value of tracestate, at most 512 bytes; often empty.
	State string
}

// TraceContext returns the trace context in the headers of the record: that of its
// producer's span, if the producer traces.
func (r *Record) TraceContext() TraceContext {
	var t TraceContext
	for _, h := range r.Headers {
		switch h.Key {
		case headerTraceparent:
			t.Parent = string(h.Value)
		case headerTracestate:
			t.State = string(h.Value)
		}
	}
	return t
}

// Tracer makes spans of what a client does; it is called by several goroutines.
// Package [github.com/oncelog/oncelog/client/otel] is one for OpenTelemetry.
type Tracer interface {
	// Start begins a span, as a child of the one in ctx, and returns a context that
	// has it. end ends it; err is nil if all went well. end is called once at most:
	// a transaction that the program forgets never ends.
	Start(ctx context.Context, s Span) (spanned context.Context, end func(err error))
	// TraceContext returns the trace context of the span in ctx, zero if there is
	// none.
	TraceContext(ctx context.Context) TraceContext
}

// WithTracer has spans made of transactions, records, commits and runs of Process,
// and writes their trace context into the headers traceparent and tracestate of the
// records that are sent, in place of any that the program has put there. Default:
// nothing is traced, and headers are left alone.
func WithTracer(t Tracer) Option { return func(c *config) { c.tracer = t } }

// SpanKind says what a span is about.
type SpanKind uint8

// Kinds of spans.
const (
	// SpanTransaction lasts from Begin to the end of the transaction.
	SpanTransaction SpanKind = iota + 1
	// SpanSend lasts from Send to the moment at which the record is durable.
	SpanSend
	// SpanCommit is a call of Commit.
	SpanCommit
	// SpanAbort is an Abort of a transaction that was open.
	SpanAbort
	// SpanProcess is one run of the closure of Process over one batch, with its commit.
	SpanProcess
)

// String returns the kind in one lower case word.
func (k SpanKind) String() string {
	switch k {
	case SpanTransaction:
		return "transaction"
	case SpanSend:
		return "send"
	case SpanCommit:
		return "commit"
	case SpanAbort:
		return "abort"
	case SpanProcess:
		return "process"
	default:
		return "unknown"
	}
}

// Span describes a span that begins. It has no keys and no values of records.
type Span struct {
	// Kind says what it is about, and which other fields are set.
	Kind SpanKind
	// TxID is the transaction; of an idempotent producer's records Number is 0.
	TxID TxID
	// Within has the span of the transaction, of SpanSend, SpanCommit and SpanAbort
	// in one. The context of the call may have none, or one that is about part of
	// the transaction.
	Within context.Context
	// Topic and Partition of SpanSend; Partition is -1 where it is chosen later.
	Topic     string
	Partition int32
	// Group of the consumer, and Records of the batch, of SpanProcess.
	Group   string
	Records int
	// Causes are the trace contexts in the records of SpanProcess, each once, the
	// first 128.
	Causes []TraceContext
}

// maxCauses is OpenTelemetry's limit on the links of a span.
const maxCauses = 128

// start begins a span if there is somebody to begin one.
func (c *config) start(ctx context.Context, s Span) (context.Context, func(error)) {
	if c.tracer == nil {
		return ctx, func(error) {}
	}
	return c.tracer.Start(ctx, s)
}

// causes returns the trace contexts of the records of a batch.
func (b *Batch) causes() (out []TraceContext) {
	seen := map[TraceContext]bool{{}: true}
	for r := range b.Records() {
		if t := r.TraceContext(); !seen[t] && len(out) < maxCauses {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// traced is what a record is sent with when it is traced.
type traced struct {
	context TraceContext
	end     func(error)
}

// startSend begins the span of a record; nil: nobody traces.
func (w *writer) startSend(ctx context.Context, r *Record) *traced {
	tracer := w.c.cfg.tracer
	if tracer == nil {
		return nil
	}
	p := int32(-1)
	if r.pinned {
		p = r.Partition
	}
	ctx, end := tracer.Start(ctx, Span{Kind: SpanSend, TxID: w.id, Within: w.within, Topic: r.Topic, Partition: p})
	return &traced{context: tracer.TraceContext(ctx), end: end}
}

// headers are those of the record with the trace context, which takes the place of
// one that a record brings which is passed on.
func (t *traced) headers(of []Header) []Header {
	if t == nil || t.context.Parent == "" {
		return of
	}
	out := make([]Header, 0, len(of)+2)
	for _, h := range of {
		if h.Key != headerTraceparent && h.Key != headerTracestate {
			out = append(out, h)
		}
	}
	out = append(out, Header{Key: headerTraceparent, Value: []byte(t.context.Parent)})
	if t.context.State != "" {
		out = append(out, Header{Key: headerTracestate, Value: []byte(t.context.State)})
	}
	return out
}

func (t *traced) ended(err error) {
	if t != nil {
		t.end(err)
	}
}

// endAll ends the spans of records.
func endAll(spans []*traced, err error) {
	for _, t := range spans {
		t.ended(err)
	}
}

// requestTrace is what a server is told with an append: the trace context of the
// transaction, else of the first record that has one.
func (w *writer) requestTrace(b *sentBatch) *oncelogv1.TraceContext {
	if w.c.cfg.tracer == nil {
		return nil
	}
	t := TraceContext{}
	if w.within != nil {
		t = w.c.cfg.tracer.TraceContext(w.within)
	} else {
		for _, s := range b.spans {
			if t = s.context; t.Parent != "" {
				break
			}
		}
	}
	if t.Parent == "" {
		return nil
	}
	return &oncelogv1.TraceContext{Traceparent: t.Parent, Tracestate: t.State}
}
