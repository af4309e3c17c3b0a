// Command first is the first program of the README: one transaction over two
// topics. deploy/smoke.sh runs it against the compose cluster.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/oncelog/oncelog/client"
)

func main() {
	ctx := context.Background()
	c, err := client.Dial(ctx, []string{"127.0.0.1:7100", "127.0.0.1:7110", "127.0.0.1:7120"})
	if err != nil {
		log.Fatal(err)
	}
	p, err := c.InitTransactions(ctx, "teller-1") // fences whoever used this id before
	if err != nil {
		log.Fatal(err)
	}
	err = p.Transact(ctx, func(tx *client.Tx) error { // may run again; both records are visible, or neither
		return tx.Send(ctx,
			&client.Record{Topic: "debits", Key: []byte("alice"), Value: []byte("10")},
			&client.Record{Topic: "credits", Key: []byte("bob"), Value: []byte("10")})
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("committed", c.Close())
}
