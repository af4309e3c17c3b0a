package otel_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/otel"
)

// A processor of one's own that goes on with the trace of each record.
func Example() {
	ctx := context.Background()
	provider := sdktrace.NewTracerProvider() // with an exporter
	tracer := provider.Tracer("billing")
	c, err := client.Dial(ctx, []string{"127.0.0.1:7100"}, otel.WithTracing(provider))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	in, err := c.Consume(ctx, "billing", []string{"orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := c.InitTransactions(ctx, "billing-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	err = client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
		for r := range b.Records() {
			ctx, span := tracer.Start(otel.ContextOf(tx.Context(), r), "bill")
			err := tx.Send(ctx, &client.Record{Topic: "invoices", Key: r.Key, Value: r.Value})
			span.End()
			if err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Println(err)
}
