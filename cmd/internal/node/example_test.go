package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// A whole cluster in this process, an aborted and a committed transaction, and
// what a reader sees of them.
func Example() {
	dir, err := os.MkdirTemp("", "oncelog-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, stop := context.WithCancel(context.Background())
	cfg := config.DefaultDev()
	cfg.DataDir, cfg.BasePort = dir, 16100
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- node.RunDev(ctx, cfg, slog.New(slog.DiscardHandler), func() { close(ready) }) }()
	defer func() { stop(); <-done }()
	<-ready

	if err := payTwice(ctx, "127.0.0.1:16100"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// the payment that failed was aborted
	// alice pays bob 10
}

func payTwice(ctx context.Context, server string) error {
	c, err := client.Dial(ctx, []string{server})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: "payments"}); err != nil {
		return err
	}
	p, err := c.InitTransactions(ctx, "teller-1")
	if err != nil {
		return err
	}
	pay := func(text string, fail error) error {
		return p.Transact(ctx, func(tx *client.Tx) error {
			if err := tx.Send(ctx, &client.Record{Topic: "payments", Value: []byte(text)}); err != nil {
				return err
			}
			return fail // nil commits, anything else aborts
		})
	}
	if err := pay("alice pays bob 1,000,000", fmt.Errorf("not enough money")); err != nil {
		fmt.Println("the payment that failed was aborted")
	}
	if err := pay("alice pays bob 10", nil); err != nil {
		return err
	}
	in, err := c.Consume(ctx, "", []string{"payments"})
	if err != nil {
		return err
	}
	b, err := in.Poll(ctx)
	if err != nil {
		return err
	}
	for r := range b.Records() {
		fmt.Println(string(r.Value))
	}
	return nil
}
