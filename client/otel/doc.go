// Package otel traces what a client does with OpenTelemetry.
//
//	c, err := client.Dial(ctx, seeds, otel.WithTracing(tracerProvider))
//
// A transaction is a span from Begin to its end; the records that it sends, its
// commit, and the calls of the coordinator are spans below it, and so are, of nodes
// with the setting tracing_endpoint, appends, decision and markers. Each record carries
// the W3C trace context of its span in the headers traceparent and tracestate, and
// [ContextOf] gives whoever reads it a context to go on with. A run of
// [client.Process] is a span that links to the producers of its records.
//
// Spans hold topics, groups, transactional ids, numbers and codes; no keys, values or
// other headers.
package otel
