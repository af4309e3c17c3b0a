package node_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/otel"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// spans is a collector that keeps what nodes send.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex
	all []*otlp.Span
	of  map[*otlp.Span]string // service.name
}

// Export implements the collector's service.
func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		service := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.all = append(s.all, span)
				s.of[span] = service
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// serve returns the URL of the collector.
func (s *spans) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return "http://" + l.Addr().String()
}

// TestTracesOfACluster: a transaction is one trace, from the span of the program
// through append and decision to the markers, of nodes that were told of a collector;
// one that is not sampled is none.
func TestTracesOfACluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := &spans{of: map[*otlp.Span]string{}}
	dev := config.DefaultDev()
	dev.DataDir, dev.Replicas, dev.BasePort, dev.TracingEndpoint = t.TempDir(), 1, 18900, got.serve(t)
	running, stop := context.WithCancel(ctx)
	defer stop()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- node.RunDev(running, dev, testLog(), func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	server := "127.0.0.1:" + strconv.Itoa(dev.BasePort)
	commitAndAbort(ctx, t, server) // traced by nobody
	provider := sdktrace.NewTracerProvider()
	_, unsampled := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())).Tracer("test").Start(ctx, "unsampled")
	request, root := provider.Tracer("test").Start(ctx, "request")
	defer root.End()
	trace := root.SpanContext().TraceID()
	func() {
		c, err := client.Dial(ctx, []string{server}, otel.WithTracing(provider))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		p, err := c.InitTransactions(ctx, "traced")
		if err != nil {
			t.Fatal(err)
		}
		for _, ctx := range []context.Context{request, oteltrace.ContextWithSpan(ctx, unsampled)} {
			if err := p.Transact(ctx, func(tx *client.Tx) error {
				return tx.Send(ctx, &client.Record{Topic: "orders", Key: []byte("a"), Value: []byte("secret")})
			}); err != nil {
				t.Fatal(err)
			}
		}
		visible(ctx, t, c, 3)
	}()
	stop() // sends the last spans
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	got.mu.Lock()
	defer got.mu.Unlock()
	var found []string
	byID := map[string]*otlp.Span{}
	for _, s := range got.all {
		byID[string(s.GetSpanId())] = s
	}
	for _, s := range got.all {
		if hex.EncodeToString(s.GetTraceId()) != trace.String() {
			if s.GetName() != "oncelog.v1.TransactionService/InitProducer" { // a trace of its own
				t.Errorf("%q of %s is of another trace", s.GetName(), got.of[s])
			}
			continue
		}
		parent := "the client"
		if p := byID[string(s.GetParentSpanId())]; p != nil {
			parent = p.GetName()
		}
		found = append(found, fmt.Sprintf("%s: %s, below %s", got.of[s], s.GetName(), parent))
		for _, a := range s.GetAttributes() {
			if a.GetValue().GetStringValue() == "secret" {
				t.Errorf("%s of %q shows the payload", a.GetKey(), s.GetName())
			}
		}
	}
	slices.Sort(found)
	want := []string{
		"oncelog-coordinator: decide, below oncelog.v1.TransactionService/EndTransaction",
		"oncelog-coordinator: oncelog.v1.TransactionService/EndTransaction, below the client",
		"oncelog-coordinator: write marker, below decide",
		"oncelog-partition: append, below the client",
		"oncelog-partition: apply marker, below write marker",
	}
	if !slices.Equal(found, want) {
		t.Errorf("spans\n%q, want\n%q", found, want)
	}
}

// visible waits until a topic shows so many committed records.
func visible(ctx context.Context, t *testing.T, c *client.Client, records int) {
	t.Helper()
	in, err := c.Consume(ctx, "", []string{"orders"})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < records; {
		b, err := in.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += b.Len()
	}
}

// TestTracingWithoutACollector: a collector that is not there stops nothing.
func TestTracingWithoutACollector(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := coordinatorConfig(t.TempDir(), 1, 1)
	cfg.TracingEndpoint = "http://127.0.0.1:1"
	n, err := node.StartCoordinator(cfg, testLog())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(n.ClientAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := oncelogv1.NewStatusServiceClient(conn).GetStatus(ctx, &oncelogv1.GetStatusRequest{}); err != nil {
		t.Error(err)
	}
	began := time.Now()
	n.Close(ctx)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
}
