package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test on a fake clock: pauses and timeouts cost nothing, and no
// goroutine may be left at its end.
func bubble(t *testing.T, test func(t *testing.T, f *fake)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newFake(t)) })
}

// producer returns a transactional producer.
func (f *fake) producer(c *Client, opts ...ProducerOption) *Producer {
	f.t.Helper()
	p, err := c.InitTransactions(within(f.t), "id", opts...)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func (f *fake) begin(p *Producer) *Tx {
	f.t.Helper()
	tx, err := p.Begin(within(f.t))
	if err != nil {
		f.t.Fatal(err)
	}
	return tx
}

// to is a record for partition 0 of topic t.
func to(value string) *Record { return (&Record{Topic: "t", Value: []byte(value)}).WithPartition(0) }

func (f *fake) send(tx *Tx, values ...string) {
	f.t.Helper()
	for _, v := range values {
		if err := tx.Send(within(f.t), to(v)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect checks class and sentinel of an error.
func expect(t *testing.T, err error, class Class, sentinel error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, which is not an *Error", err)
	}
	if ClassOf(err) != class {
		t.Errorf("class is %v, want %v: %v", ClassOf(err), class, err)
	}
	if sentinel != nil && !errors.Is(err, sentinel) {
		t.Errorf("%v is not %v", err, sentinel)
	}
	return e
}

// holds checks what read_committed sees in a partition.
func (f *fake) holds(p *fakePartition, want ...string) {
	f.t.Helper()
	if got := f.committed(p); !slices.Equal(got, want) {
		f.t.Errorf("%s/%d shows %q, want %q", p.topic, p.index, got, want)
	}
}

// read polls until n records have come and returns their values.
func read(ctx context.Context, t *testing.T, k *Consumer, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		b, err := k.Poll(ctx)
		must(t, err)
		out = append(out, values(b)...)
	}
	return out
}

func values(b *Batch) []string {
	var out []string
	for r := range b.Records() {
		out = append(out, string(r.Value))
	}
	return out
}

// numbers returns "0" to n-1.
func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i)
	}
	return out
}

// soon is a context that ends after d of fake time.
func soon(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
