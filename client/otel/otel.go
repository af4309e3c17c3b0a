package otel

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// scope is the name under which spans are made.
const scope = "github.com/oncelog/oncelog/client"

// WithTracing is the option of [client.Dial] that has spans made by p. Whether a
// transaction is traced is for the sampler of p to say.
func WithTracing(p trace.TracerProvider) client.Option {
	t := &tracer{tracer: p.Tracer(scope)}
	calls := client.WithDialOptions(grpc.WithStatsHandler(otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(p),
		otelgrpc.WithPropagators(t.format),
		otelgrpc.WithFilter(func(i *stats.RPCTagInfo) bool { return called[i.FullMethodName] }),
	)))
	own := client.WithTracer(t)
	return client.Options(own, calls)
}

// called are the calls that get a span: those that something waits for. Streams last
// as long as the client, and heartbeats and metadata are nobody's.
var called = map[string]bool{
	oncelogv1.TransactionService_InitProducer_FullMethodName:   true,
	oncelogv1.TransactionService_EndTransaction_FullMethodName: true,
	oncelogv1.TransactionService_GetOutcome_FullMethodName:     true,
	oncelogv1.GroupService_CommitOffsets_FullMethodName:        true,
}

// ContextOf returns a context whose spans are children of the span with which a record
// was sent. If it was sent without one, that is ctx.
func ContextOf(ctx context.Context, r *client.Record) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier(r.TraceContext()))
}

// LinkTo returns a link to the span with which a record was sent, for spans that are
// about several records; false if it was sent without one.
func LinkTo(r *client.Record) (trace.Link, bool) { return linkTo(r.TraceContext()) }

func linkTo(t client.TraceContext) (trace.Link, bool) {
	to := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier(t)))
	return trace.Link{SpanContext: to}, to.IsValid()
}

func carrier(t client.TraceContext) propagation.MapCarrier {
	return propagation.MapCarrier{"traceparent": t.Parent, "tracestate": t.State}
}

// tracer implements [client.Tracer].
type tracer struct {
	tracer trace.Tracer
	format propagation.TraceContext
}

// Start implements [client.Tracer].
func (t *tracer) Start(ctx context.Context, s client.Span) (context.Context, func(error)) {
	options := []trace.SpanStartOption{trace.WithAttributes(attributesOf(s)...), trace.WithSpanKind(kindOf(s.Kind))}
	for _, c := range s.Causes {
		if link, ok := linkTo(c); ok {
			options = append(options, trace.WithLinks(link))
		}
	}
	outer := ctx
	ctx, span := t.tracer.Start(parent(ctx, s.Within), nameOf(s), options...)
	if s.Kind == client.SpanProcess || s.Kind == client.SpanTransaction {
		ctx = around(ctx, outer)
	}
	return ctx, func(err error) {
		if err != nil {
			fail(span, err)
		}
		span.End()
	}
}

// TraceContext implements [client.Tracer].
func (t *tracer) TraceContext(ctx context.Context) client.TraceContext {
	c := propagation.MapCarrier{}
	t.format.Inject(ctx, c)
	return client.TraceContext{Parent: c["traceparent"], State: c["tracestate"]}
}

// outerKey is where a context has the spans that are around a transaction.
type outerKey struct{}

// around notes the span of outer as one that is around the one in ctx.
func around(ctx, outer context.Context) context.Context {
	spans, _ := outer.Value(outerKey{}).([]trace.SpanContext)
	return context.WithValue(ctx, outerKey{}, append(slices.Clip(spans), trace.SpanContextFromContext(outer)))
}

// parent returns the context whose span is the parent of something that belongs to a
// transaction: the caller's, if that is about a part of the transaction, and else the
// transaction's. Mostly callers have the context in which they began the transaction.
func parent(ctx, within context.Context) context.Context {
	if within == nil {
		return ctx
	}
	own := trace.SpanContextFromContext(ctx)
	outer, _ := within.Value(outerKey{}).([]trace.SpanContext)
	if !own.IsValid() || slices.ContainsFunc(outer, own.Equal) {
		return trace.ContextWithSpan(ctx, trace.SpanFromContext(within))
	}
	return ctx
}

func kindOf(k client.SpanKind) trace.SpanKind {
	switch k {
	case client.SpanSend:
		return trace.SpanKindProducer
	case client.SpanProcess:
		return trace.SpanKindConsumer
	default:
		return trace.SpanKindInternal
	}
}

// nameOf has no names that are made up as one goes, such as transactional ids.
func nameOf(s client.Span) string {
	switch {
	case s.Topic != "":
		return s.Kind.String() + " " + s.Topic
	case s.Group != "":
		return s.Kind.String() + " " + s.Group
	default:
		return s.Kind.String()
	}
}

// fail says why a span failed: by the code, for the text may hold an application's
// own words.
func fail(span trace.Span, err error) {
	code := "application"
	var e *client.Error
	switch {
	case errors.As(err, &e):
		code = e.Code
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = "CONTEXT_ENDED"
	}
	span.SetAttributes(attrErrorType.String(code))
	span.SetStatus(codes.Error, code)
}
