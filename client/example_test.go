package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/oncelog/oncelog/client"
)

// Several records in several topics, all or none.
func ExampleProducer_Transact() {
	ctx := context.Background()
	c, err := client.Dial(ctx, []string{"localhost:7100"})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	p, err := c.InitTransactions(ctx, "transfers-1")
	if err != nil {
		return
	}
	err = p.Transact(ctx, func(tx *client.Tx) error {
		return tx.Send(ctx,
			&client.Record{Topic: "debits", Key: []byte("alice"), Value: []byte("10")},
			&client.Record{Topic: "credits", Key: []byte("bob"), Value: []byte("10")})
	})
	fmt.Println(err)
}

// The same with the handle: what Transact does, step by step.
func ExampleProducer_Begin() {
	pay := func(ctx context.Context, p *client.Producer) error {
		tx, err := p.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Abort(ctx) }() // harmless after Commit
		if err := tx.Send(ctx, &client.Record{Topic: "debits", Key: []byte("alice"), Value: []byte("10")}); err != nil {
			return err
		}
		err = tx.Commit(ctx)
		if errors.Is(err, client.ErrOutcomeUnknown) {
			// The answer was lost because ctx ended. The same decision is asked for
			// again, with another context; it is never made twice.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			return tx.Commit(last)
		}
		return err
	}
	_ = pay
}

// A database decides: what it has committed is what becomes visible. decide writes rows
// and the name of the transaction, and commits them; decided tells whether it did.
func ExampleTx_Prepare() {
	transfer := func(ctx context.Context, c *client.Client, p *client.Producer, decide func(ctx context.Context, name string) error) error {
		tx, err := p.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Abort(ctx) }() // harmless once it is prepared
		if err := tx.Send(ctx, &client.Record{Topic: "debits", Key: []byte("alice"), Value: []byte("10")}); err != nil {
			return err
		}
		if err := tx.Prepare(ctx); err != nil {
			return err // the deferred Abort ends it
		}
		if err := decide(ctx, tx.ID().String()); err != nil {
			return err // decided or not: the next start finds out, see recovered
		}
		return c.CompletePrepared(ctx, tx.ID(), true)
	}
	// At the next start: what the last life has prepared gets its word.
	recovered := func(ctx context.Context, c *client.Client, decided func(ctx context.Context, name string) (bool, error)) (*client.Producer, error) {
		p, err := c.InitTransactions(ctx, "transfers-1", client.WithKeepPrepared())
		if err != nil {
			return nil, err
		}
		if id, ok := p.Prepared(); ok {
			commit, err := decided(ctx, id.String())
			if err != nil {
				return nil, err
			}
			if err := c.CompletePrepared(ctx, id, commit); err != nil {
				return nil, err
			}
		}
		return p, nil
	}
	_, _ = transfer, recovered
}

// Consume, transform, produce, exactly once. To scale out, run it in more
// instances: the group shares the partitions of the topic among them, and each has
// a transactional id of its own.
func ExampleProcess() {
	run := func(ctx context.Context, c *client.Client, instance string) error {
		in, err := c.Consume(ctx, "billing", []string{"orders"})
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		out, err := c.InitTransactions(ctx, "billing-"+instance)
		if err != nil {
			return err
		}
		return client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
			for r := range b.Records() {
				invoice := append([]byte("invoice for "), r.Value...)
				if err := tx.Send(ctx, &client.Record{Topic: "invoices", Key: r.Key, Value: invoice}); err != nil {
					return err
				}
			}
			return nil // offsets, commit, and reading again after an abort: done for you
		})
	}
	_ = run
}

// Reading without transactions: at least once.
func ExampleClient_Consume() {
	run := func(ctx context.Context, c *client.Client) error {
		in, err := c.Consume(ctx, "mailer", []string{"invoices"}, client.WithStart(client.StartLatest))
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		for {
			b, err := in.Poll(ctx)
			if err != nil {
				return err
			}
			for r := range b.Records() {
				fmt.Printf("%s/%d@%d: %s\n", r.Topic, r.Partition, r.Offset, r.Value)
			}
			if err := in.Commit(ctx, b); err != nil {
				return err
			}
		}
	}
	_ = run
}

// A program whose state is a log reads it back before it goes on.
func ExampleConsumer_ReadToEnd() {
	restore := func(ctx context.Context, c *client.Client) (map[string]string, error) {
		// First take over: it ends what an earlier life left open.
		if _, err := c.InitTransactions(ctx, "balances-1"); err != nil {
			return nil, err
		}
		in, err := c.Consume(ctx, "", []string{"balances"})
		if err != nil {
			return nil, err
		}
		defer func() { _ = in.Close() }()
		state := make(map[string]string)
		err = in.ReadToEnd(ctx, func(b *client.Batch) error {
			for r := range b.Records() {
				state[string(r.Key)] = string(r.Value)
			}
			return nil
		})
		return state, err
	}
	_ = restore
}

// A process that crashed while it committed asks how that ended.
func ExampleProducer_Previous() {
	resume := func(ctx context.Context, c *client.Client, stored client.TxID) error {
		p, err := c.InitTransactions(ctx, "transfers-1")
		if err != nil {
			return err
		}
		if id, outcome := p.Previous(); id == stored {
			fmt.Println("the last transaction was", outcome)
		}
		return nil
	}
	_ = resume
}

func ExampleDial() {
	c, err := client.Dial(context.Background(), []string{"c1:7000", "c2:7000", "c3:7000"},
		client.WithClientID("shop"),
		client.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	p, err := c.IdempotentProducer(context.Background(), client.WithLinger(0))
	if err != nil {
		return
	}
	_ = p.Send(context.Background(), &client.Record{Topic: "clicks", Value: []byte("home")})
	fmt.Println(p.Close())
}

// Records with one key go to one partition, the one that Kafka's clients choose.
func ExampleMurmur2Partitioner() {
	for _, key := range []string{"alice", "bob", "alice"} {
		fmt.Println(key, client.Murmur2Partitioner(&client.Record{Key: []byte(key)}, 12))
	}
	// Output:
	// alice 9
	// bob 6
	// alice 9
}
