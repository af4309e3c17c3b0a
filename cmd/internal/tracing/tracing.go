// Package tracing has nodes trace with OpenTelemetry: spans of calls, appends,
// decisions and markers, sent to a collector. A node begins no trace of its own: it
// records what a client has begun and sampled.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/trace"
)

// scope is the name under which spans are made.
const scope = "github.com/oncelog/oncelog"

// stopLimit bounds how long a node that stops tries to get rid of its last spans.
const stopLimit = 2 * time.Second

// Tracing is where the spans of one node go. A nil one is off. It implements
// [trace.Tracer].
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   oteltrace.Tracer
	format   propagation.TraceContext
}

// Open has the spans of a node sent to the OTLP collector at an http or https URL, in
// the background: that it cannot be reached is logged, and stops nothing. Empty: nil,
// which is off.
func Open(endpoint, role string, node uint64, version string, log *slog.Logger) (*Tracing, error) {
	if endpoint == "" {
		return nil, nil // none is wanted: no error
	}
	exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("spans cannot be sent to %s: %w", endpoint, err)
	}
	return New(sdktrace.NewBatchSpanProcessor(&logged{exporter: exporter, log: log}), role, node, version), nil
}

// New has the spans of a node given to a processor.
func New(p sdktrace.SpanProcessor, role string, node uint64, version string) *Tracing {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(p),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "oncelog-"+role),
			attribute.String("service.instance.id", role+"-"+strconv.FormatUint(node, 10)),
			attribute.String("service.version", version),
		)),
	)
	return &Tracing{provider: provider, tracer: provider.Tracer(scope)}
}

// Close sends what is left, for a while.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

// Tracer returns t as what nodes take; nil if it is off.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t
}

// traced are the calls of clients that get a span. Streams have none: they last as
// long as a client, and what they carry names its span itself.
var traced = map[string]bool{
	oncelogv1.TransactionService_InitProducer_FullMethodName:   true,
	oncelogv1.TransactionService_EndTransaction_FullMethodName: true,
	oncelogv1.TransactionService_GetOutcome_FullMethodName:     true,
	oncelogv1.GroupService_CommitOffsets_FullMethodName:        true,
	oncelogv1.LogService_Append_FullMethodName:                 true,
}

// ServerOptions are those of a listener for clients.
func (t *Tracing) ServerOptions() []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(t.format),
		otelgrpc.WithFilter(func(i *stats.RPCTagInfo) bool { return traced[i.FullMethodName] }),
	))}
}

// Start implements [trace.Tracer].
func (t *Tracing) Start(cause trace.Context, name string, attributes ...trace.Attribute) (trace.Context, trace.End) {
	ctx := t.format.Extract(context.Background(), carrier(cause))
	ctx, span := t.tracer.Start(ctx, name, oteltrace.WithAttributes(convert(attributes)...))
	if !span.IsRecording() {
		return trace.Context{}, func(error, ...trace.Attribute) {}
	}
	return t.Of(ctx), func(err error, more ...trace.Attribute) {
		span.SetAttributes(convert(more)...)
		if err != nil {
			span.SetStatus(codes.Error, codeOf(err))
		}
		span.End()
	}
}

// Of implements [trace.Tracer].
func (t *Tracing) Of(ctx context.Context) trace.Context {
	if !oteltrace.SpanContextFromContext(ctx).IsSampled() {
		return trace.Context{}
	}
	c := propagation.MapCarrier{}
	t.format.Inject(ctx, c)
	return trace.Context{Parent: c["traceparent"], State: c["tracestate"]}
}

// codeOf says why something failed without words, which may be a client's.
func codeOf(err error) string {
	var named *apierrors.Error
	if errors.As(err, &named) {
		return apierrors.Name(named.Code)
	}
	return err.Error() // of the coordinator's core, or a context's
}

func carrier(c trace.Context) propagation.MapCarrier {
	return propagation.MapCarrier{"traceparent": c.Parent, "tracestate": c.State}
}

func convert(attributes []trace.Attribute) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(attributes))
	for _, a := range attributes {
		if a.Text != "" {
			out = append(out, attribute.String(a.Key, a.Text))
		} else {
			out = append(out, attribute.Int64(a.Key, a.Int))
		}
	}
	return out
}

// logged is an exporter whose failures go to the node's log instead of standard error.
type logged struct {
	exporter sdktrace.SpanExporter
	log      *slog.Logger
}

// ExportSpans implements sdktrace.SpanExporter.
func (l *logged) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := l.exporter.ExportSpans(ctx, spans); err != nil {
		l.log.Warn("spans were lost: the collector did not take them", "spans", len(spans), "error", err)
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (l *logged) Shutdown(ctx context.Context) error { return l.exporter.Shutdown(ctx) }
