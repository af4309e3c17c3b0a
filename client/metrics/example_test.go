package metrics_test

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/metrics"
)

func Example() {
	ctx := context.Background()
	m := metrics.New()
	prometheus.MustRegister(m)
	c, err := client.Dial(ctx, []string{"127.0.0.1:7100"}, m.Option())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
}
