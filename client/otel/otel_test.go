package otel_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/otel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a cluster with a client that traces.
type world struct {
	*clienttest.Cluster
	t        *testing.T
	c        *client.Client
	provider *sdktrace.TracerProvider
	spans    *tracetest.InMemoryExporter
}

func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Cluster: clienttest.Start(t), t: t, spans: tracetest.NewInMemoryExporter()}
		w.CreateTopic("t", 1)
		w.CreateTopic("out", 1)
		w.provider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
		w.c = w.Client(otel.WithTracing(w.provider))
		test(t, w)
	})
}

// span returns the only span of a name.
func (w *world) span(name string) tracetest.SpanStub {
	w.t.Helper()
	all := w.spansOf(name)
	if len(all) != 1 {
		w.t.Fatalf("%d spans %q, among %s", len(all), name, w.names())
	}
	return all[0]
}

func (w *world) spansOf(name string) (out []tracetest.SpanStub) {
	for _, s := range w.spans.GetSpans() {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

func (w *world) names() string {
	var names []string
	for _, s := range w.spans.GetSpans() {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// below fails the test unless a span is a child of another one.
func (w *world) below(child, parent tracetest.SpanStub) {
	w.t.Helper()
	if !child.Parent.Equal(parent.SpanContext) && child.Parent.SpanID() != parent.SpanContext.SpanID() {
		w.t.Errorf("%q is below %v, not below %q", child.Name, child.Parent.SpanID(), parent.Name)
	}
	if child.SpanContext.TraceID() != parent.SpanContext.TraceID() {
		w.t.Errorf("%q and %q are of two traces", child.Name, parent.Name)
	}
}

func (w *world) producer(id string) *client.Producer {
	w.t.Helper()
	p, err := w.c.InitTransactions(w.t.Context(), id)
	must(w.t, err)
	w.spans.Reset()
	return p
}

func to(topic, value string) *client.Record {
	return &client.Record{Topic: topic, Value: []byte(value)}
}

func TestTransactionIsOneTrace(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.producer("id")
		ctx, request := w.provider.Tracer("test").Start(t.Context(), "request")
		must(t, p.Transact(ctx, func(tx *client.Tx) error { return tx.Send(ctx, to("t", "secret")) }))
		request.End()
		outer, tx, send, commit := w.span("request"), w.span("transaction"), w.span("send t"), w.span("commit")
		w.below(tx, outer)
		w.below(send, tx)
		w.below(commit, tx)
		w.below(w.span("oncelog.v1.TransactionService/EndTransaction"), commit)
		if send.SpanKind != trace.SpanKindProducer {
			t.Errorf("kind of the send is %v", send.SpanKind)
		}
		for _, s := range w.spans.GetSpans() {
			for _, a := range s.Attributes {
				if strings.Contains(a.Value.String(), "secret") {
					t.Errorf("%s of %q shows the payload", a.Key, s.Name)
				}
			}
			if s.Status.Code == codes.Error {
				t.Errorf("%q failed: %s", s.Name, s.Status.Description)
			}
		}
		if got := w.spansOf("abort"); len(got) > 0 {
			t.Error("the deferred Abort of a committed transaction has a span")
		}
	})
}

// A record carries the context of its own span, in place of the one that it was read
// with; its reader goes on below it, and Process links to it.
func TestContextTravelsWithTheRecord(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.producer("feed")
		must(t, p.Transact(t.Context(), func(tx *client.Tx) error {
			r := to("t", "1")
			r.Headers = []client.Header{{Key: "mine", Value: []byte("kept")}, {Key: "traceparent", Value: []byte("old")}}
			err := tx.Send(t.Context(), r)
			if len(r.Headers) != 2 {
				t.Error("the headers of the program's own record were changed")
			}
			return err
		}))
		sent := w.span("send t")

		in, err := w.c.Consume(t.Context(), "g", []string{"t"})
		must(t, err)
		out := w.producer("copy")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		err = client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
			for r := range b.Records() {
				if len(r.Headers) != 2 || r.Headers[0].Key != "mine" {
					t.Errorf("headers %v", r.Headers)
				}
				own, span := w.provider.Tracer("test").Start(otel.ContextOf(tx.Context(), r), "handle")
				copied := to("out", string(r.Value))
				copied.Headers = r.Headers
				must(t, tx.Send(own, copied))
				span.End()
				must(t, tx.Send(ctx, to("out", "2"))) // with the context that Process was given
				if link, ok := otel.LinkTo(r); !ok || link.SpanContext.SpanID() != sent.SpanContext.SpanID() {
					t.Errorf("link %v, %t", link, ok)
				}
			}
			stop()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		handle := w.span("handle")
		w.below(handle, sent)
		process := w.span("process g")
		if len(process.Links) != 1 || process.Links[0].SpanContext.SpanID() != sent.SpanContext.SpanID() {
			t.Errorf("process links to %v", process.Links)
		}
		tx := w.span("transaction")
		w.below(tx, process)
		sends := w.spansOf("send out")
		if len(sends) != 2 {
			t.Fatalf("%d records were sent", len(sends))
		}
		slices.SortFunc(sends, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
		parents := []trace.SpanID{sends[0].Parent.SpanID(), sends[1].Parent.SpanID()}
		if !slices.Contains(parents, handle.SpanContext.SpanID()) || !slices.Contains(parents, tx.SpanContext.SpanID()) {
			t.Errorf("parents of the sends are %v, want %v and %v", parents, handle.SpanContext.SpanID(), tx.SpanContext.SpanID())
		}
		must(t, in.Close())
	})
}

// Ends that are none of success say so, with a code and no words.
func TestFailures(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.producer("id")
		tx, err := p.Begin(t.Context())
		must(t, err)
		must(t, tx.Send(t.Context(), to("t", "1")))
		must(t, tx.Flush(t.Context()))
		_, err = w.Host("thief").Client().InitTransactions(t.Context(), "id")
		must(t, err)
		if tx.Commit(t.Context()) == nil {
			t.Fatal("committed")
		}
		for _, name := range []string{"transaction", "commit"} {
			s := w.span(name)
			if s.Status.Code != codes.Error || s.Status.Description != "FENCED" || !slices.Contains(s.Attributes, attribute.String("error.type", "FENCED")) {
				t.Errorf("%q: %v %v", name, s.Status, s.Attributes)
			}
		}

		// A record that never arrives ends its span, too.
		q := w.producer("other")
		tx, err = q.Begin(t.Context())
		must(t, err)
		w.Nodes()[0].Pause()
		must(t, tx.Send(t.Context(), to("t", "2")))
		must(t, tx.Abort(t.Context()))
		if s := w.span("send t"); s.Status.Code != codes.Error {
			t.Errorf("the record that was lost: %v", s.Status)
		}
		if s := w.span("transaction"); s.Status.Code == codes.Error {
			t.Errorf("an abort that the program asked for: %v", s.Status)
		}
		w.Nodes()[0].Resume()
	})
}

// What is not sampled costs no header and no span.
func TestNotSampled(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		never := sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans), sdktrace.WithSampler(sdktrace.NeverSample()))
		c := w.Client(otel.WithTracing(never))
		p, err := c.IdempotentProducer(t.Context())
		must(t, err)
		w.spans.Reset()
		must(t, p.Send(t.Context(), to("t", "1")))
		must(t, p.Flush(t.Context()))
		if got := w.names(); got != "" {
			t.Errorf("spans: %s", got)
		}
		for _, r := range w.Records("t") {
			for _, h := range r.Headers {
				if h.Key == "traceparent" && !strings.HasSuffix(string(h.Value), "-00") {
					t.Errorf("the header says that it is sampled: %s", h.Value)
				}
			}
		}
	})
}
