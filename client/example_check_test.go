package client_test

import (
	"fmt"
	"time"

	"github.com/oncelog/oncelog/client"
)

// What is wrong with an application, before it runs.
func ExampleCheckConfig() {
	findings := client.CheckConfig(client.Application{
		Name: "billing", Instances: 3,
		Producers: []client.AppProducer{{Name: "out", TransactionalID: "billing"}},
		Consumers: []client.AppConsumer{{
			Group: "billing", Topics: []string{"orders"}, Offsets: client.OffsetsTransaction, Producer: "out", Processing: 40 * time.Second,
		}},
	})
	for _, f := range findings {
		fmt.Println(f.Severity, f.Code)
		fmt.Println("  " + f.Breaks)
	}
	// Output:
	// broken SHARED_TRANSACTIONAL_ID
	//   The instances fence each other in turns, and little or nothing is committed.
	// warning TRANSACTION_TIMEOUT
	//   A slow moment of a node or of the program has batches aborted and processed again.
}
