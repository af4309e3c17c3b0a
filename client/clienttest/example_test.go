package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// example takes the place of the *testing.T that a test has.
type example struct{ cleanups []func() }

func (e *example) Helper()           {}
func (e *example) Cleanup(fn func()) { e.cleanups = append(e.cleanups, fn) }
func (e *example) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (e *example) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (e *example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (e *example) end() {
	for i := range e.cleanups {
		e.cleanups[len(e.cleanups)-1-i]()
	}
}

// check ends an example that went wrong.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A cluster, a transaction, and what it wrote.
func ExampleStart() {
	t := &example{} // your *testing.T
	defer t.end()
	ctx := context.Background()

	cluster := clienttest.Start(t)
	cluster.CreateTopic("debits", 1)
	cluster.CreateTopic("credits", 1)

	p, err := cluster.Client().InitTransactions(ctx, "transfers-1")
	check(err)
	check(p.Transact(ctx, func(tx *client.Tx) error {
		return tx.Send(ctx,
			&client.Record{Topic: "debits", Key: []byte("alice"), Value: []byte("10")},
			&client.Record{Topic: "credits", Key: []byte("bob"), Value: []byte("10")})
	}))

	for _, topic := range []string{"debits", "credits"} {
		for _, r := range cluster.Records(topic) {
			fmt.Printf("%s: %s %s\n", topic, r.Key, r.Value)
		}
	}
	// Output:
	// debits: alice 10
	// credits: bob 10
}

// In a bubble of testing/synctest an hour takes no time.
func ExampleStart_synctest() {
	test := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cluster := clienttest.Start(t, clienttest.WithCoordinators(3), clienttest.WithNodes(3))
			cluster.CreateTopic("orders", 3)

			orders := cluster.Leader("orders", 0)
			orders.Crash()
			<-time.After(time.Hour)
			orders.Start()

			if n := len(cluster.Records("orders")); n != 0 {
				t.Errorf("%d orders in an empty topic", n)
			}
		})
	}
	_ = test // go test runs it, if it is called TestOrders
}

// The answer to a commit is lost. The client asks again, and the transaction is
// there once.
func ExampleCluster_LoseCommitAnswer() {
	t := &example{}
	defer t.end()
	ctx := context.Background()
	cluster := clienttest.Start(t)
	cluster.CreateTopic("orders", 1)
	p, err := cluster.Client().InitTransactions(ctx, "shop-1")
	check(err)

	lost := cluster.LoseCommitAnswer()
	err = p.Transact(ctx, func(tx *client.Tx) error {
		return tx.Send(ctx, &client.Record{Topic: "orders", Value: []byte("a book")})
	})
	fmt.Println("commit:", err)
	fmt.Println("answers lost:", lost.Hits())
	fmt.Println("records:", len(cluster.Records("orders")))
	// Output:
	// commit: <nil>
	// answers lost: 1
	// records: 1
}

// No answer to a commit comes through before its context ends. Nobody knows then
// how it went, until it is asked for.
func ExampleCluster_Inject() {
	t := &example{}
	defer t.end()
	ctx := context.Background()
	cluster := clienttest.Start(t)
	cluster.CreateTopic("orders", 1)
	p, err := cluster.Client().InitTransactions(ctx, "shop-1")
	check(err)
	tx, err := p.Begin(ctx)
	check(err)
	check(tx.Send(ctx, &client.Record{Topic: "orders", Value: []byte("a book")}))

	silence := cluster.Inject(clienttest.Fault{Method: "EndTransaction", Answer: true, Silent: true})
	impatient, cancel := context.WithCancel(ctx)
	go func() {
		silence.Await() // the commit has been decided
		cancel()
	}()
	err = tx.Commit(impatient)
	fmt.Println("unknown:", errors.Is(err, client.ErrOutcomeUnknown))

	silence.Remove()
	fmt.Println("asked again:", tx.Commit(ctx))
	// Output:
	// unknown: true
	// asked again: <nil>
}

// A node loses power in the middle of a transaction and comes back.
func ExampleNode_Crash() {
	t := &example{}
	defer t.end()
	ctx := context.Background()
	cluster := clienttest.Start(t)
	cluster.CreateTopic("orders", 1)
	p, err := cluster.Client().InitTransactions(ctx, "shop-1")
	check(err)

	check(p.Transact(ctx, func(tx *client.Tx) error {
		if err := tx.Send(ctx, &client.Record{Topic: "orders", Value: []byte("before")}); err != nil {
			return err
		}
		if err := tx.Flush(ctx); err != nil {
			return err
		}
		node := cluster.Leader("orders", 0)
		node.Crash()
		node.Start()
		return tx.Send(ctx, &client.Record{Topic: "orders", Value: []byte("after")})
	}))
	for _, r := range cluster.Records("orders") {
		fmt.Println(string(r.Value))
	}
	// Output:
	// before
	// after
}

// A process hangs in the middle of a transaction. Another one takes over, and what
// the first had not committed never shows, even when it wakes up.
func ExampleHost_Pause() {
	t := &example{}
	defer t.end()
	ctx := context.Background()
	cluster := clienttest.Start(t)
	cluster.CreateTopic("orders", 1)
	first, second := cluster.Host("first"), cluster.Host("second")

	old, err := first.Client().InitTransactions(ctx, "shop-1")
	check(err)
	tx, err := old.Begin(ctx)
	check(err)
	check(tx.Send(ctx, &client.Record{Topic: "orders", Value: []byte("of a zombie")}))
	check(tx.Flush(ctx))
	first.Pause()

	_, err = second.Client().InitTransactions(ctx, "shop-1")
	check(err)
	first.Resume()
	fmt.Println("fenced:", errors.Is(tx.Commit(ctx), client.ErrFenced))
	fmt.Println("records:", len(cluster.Records("orders")))
	// Output:
	// fenced: true
	// records: 0
}

// A program forgets to end its transaction. The cluster aborts it at its timeout.
func ExampleCluster_ExpireTransactions() {
	t := &example{}
	defer t.end()
	ctx := context.Background()
	cluster := clienttest.Start(t)
	cluster.CreateTopic("orders", 1)
	p, err := cluster.Client().InitTransactions(ctx, "shop-1", client.WithTransactionTimeout(time.Second))
	check(err)
	tx, err := p.Begin(ctx)
	check(err)
	check(tx.Send(ctx, &client.Record{Topic: "orders", Value: []byte("a book")}))
	check(tx.Flush(ctx))

	cluster.ExpireTransactions()
	fmt.Println("timed out:", errors.Is(tx.Commit(ctx), client.ErrTxTimeout))
	// Output:
	// timed out: true
}

// Two instances of a service share the work; when one goes, the other one goes on
// with all of it. Every order is billed once.
func Example_scaling() {
	t := &example{} // your *testing.T
	defer t.end()
	ctx, stop := context.WithCancel(context.Background())
	cluster := clienttest.Start(t)
	cluster.CreateTopic("orders", 4)
	cluster.CreateTopic("bills", 1)

	var running sync.WaitGroup
	bill := func(ctx context.Context, instance string) {
		c := cluster.Host(instance).Client()
		in, err := c.Consume(ctx, "billing", []string{"orders"})
		check(err)
		out, err := c.InitTransactions(ctx, "billing-"+instance)
		check(err)
		running.Go(func() {
			_ = client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
				for r := range b.Records() {
					if err := tx.Send(ctx, &client.Record{Topic: "bills", Value: r.Value}); err != nil {
						return err
					}
				}
				return nil
			})
			check(in.Close())
		})
	}
	shop, err := cluster.Client().InitTransactions(ctx, "shop")
	check(err)
	order := func(n int) {
		check(shop.Transact(ctx, func(tx *client.Tx) error {
			for i := range n {
				if err := tx.Send(ctx, &client.Record{Topic: "orders", Key: fmt.Appendf(nil, "customer %d", i), Value: []byte("a book")}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	bill(ctx, "1")
	order(100)
	second, leave := context.WithCancel(ctx)
	bill(second, "2")
	order(100)
	leave()
	order(100)
	for len(cluster.Records("bills")) < 300 {
		<-time.After(10 * time.Millisecond)
	}
	stop()
	running.Wait()
	fmt.Println(len(cluster.Records("bills")), "bills")
	// Output: 300 bills
}
