package clienttest_test

import (
	"context"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// TestRetryAfter: who is told when to come again comes no sooner, and not much later,
// whatever it asks; and a send ends at its deadline, however long it is told to wait.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const asked = 7 * time.Second
	refusal := apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "").After(asked)
	for method, call := range map[string]func(w *world, c *client.Client) func(){
		"InitProducer": func(w *world, c *client.Client) func() {
			return func() { w.producer(c, "id") }
		},
		"AppendStream": func(w *world, c *client.Client) func() {
			p := w.producer(c, "id")
			return func() { w.write(p, "1") }
		},
		"Fetch": func(w *world, c *client.Client) func() {
			w.write(w.producer(c, "id"), "1")
			return func() { w.poll(w.consume(c)) }
		},
		"ListOffsets": func(w *world, c *client.Client) func() {
			w.write(w.producer(c, "id"), "1")
			return func() { w.poll(w.consume(c)) }
		},
		"DescribeProducers": func(w *world, c *client.Client) func() {
			return func() {
				_, err := c.Admin().DescribeProducers(w.patient(), client.TopicPartition{Topic: "t"})
				w.must(err)
			}
		},
	} {
		t.Run(method, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				run := call(w, w.Client())
				times := 1
				if method == "Fetch" {
					times = 3 // one for each partition: they are read side by side
				}
				fault := w.Inject(clienttest.Fault{Method: method, Err: refusal, Times: times})
				began := time.Now()
				run()
				if took := time.Since(began); fault.Hits() != times || took < asked || took > asked+time.Second {
					t.Errorf("%d refusals, and it took %v", fault.Hits(), took)
				}
			})
		})
	}
	t.Run("deadline", func(t *testing.T) {
		bubble(t, one, func(w *world) {
			const timeout = 3 * time.Second
			p := w.producer(w.Client(), "id", client.WithDeliveryTimeout(timeout))
			w.Inject(clienttest.Fault{Method: "AppendStream", Err: refusal})
			tx := w.begin(p)
			began := time.Now()
			err := tx.Send(w.patient(), &client.Record{Topic: "t", Value: []byte("1")})
			if err == nil {
				err = tx.Flush(context.WithoutCancel(w.patient()))
			}
			if took := time.Since(began); err == nil || took < timeout || took > timeout+time.Second {
				t.Errorf("%v after %v", err, took)
			}
		})
	})
}
