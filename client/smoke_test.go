package client

import (
	"fmt"
	"slices"
	"testing"
)

func TestTransactionIsReadBack(t *testing.T) {
	f := newFake(t)
	topic := f.topic("t", 3)
	c := f.dial()
	ctx := within(t)
	p, err := c.InitTransactions(ctx, "id")
	if err != nil {
		t.Fatal(err)
	}
	err = p.Transact(ctx, func(tx *Tx) error {
		for i := range 30 {
			r := &Record{Topic: "t", Value: []byte(fmt.Sprint(i))}
			if err := tx.Send(ctx, r.WithPartition(int32(i%3))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range topic.parts {
		if got := f.committed(p); len(got) != 10 || got[0] != fmt.Sprint(i) {
			t.Errorf("partition %d holds %v", i, got)
		}
	}
	k, err := c.Consume(ctx, "g", []string{"t"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 30 {
		b, err := k.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for r := range b.Records() {
			got = append(got, string(r.Value))
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 30 {
		t.Errorf("read %d different records: %v", len(got), got)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
