package client

import (
	"strings"
	"testing"
)

// A name that was stored is read back, whatever the transactional id has in it.
func TestParseTxID(t *testing.T) {
	t.Parallel()
	for _, id := range []TxID{
		{TransactionalID: "a", ProducerID: 1, Epoch: 0, Number: 1},
		{TransactionalID: "a:1/2/3", ProducerID: 1 << 63, Epoch: 1<<32 - 1, Number: 1<<64 - 1},
		{TransactionalID: ":/", ProducerID: 4711, Epoch: 3, Number: 12},
		{TransactionalID: strings.Repeat("x", maxNameBytes), ProducerID: 4711, Epoch: 3, Number: 12},
	} {
		got, err := ParseTxID(id.String())
		if err != nil || got != id {
			t.Errorf("%q is read as %v, %v", id.String(), got, err)
		}
	}
	for _, text := range []string{
		"", "a", "1/2/3", ":1/2/3", "a:1/2", "a:1/2/3/4", "a:1/2/x", "a:-1/2/3", "a:1/4294967296/3", "a: 1/2/3",
		strings.Repeat("x", maxNameBytes+1) + ":1/2/3",
	} {
		if id, err := ParseTxID(text); ClassOf(err) != ClassFatal || id != (TxID{}) {
			t.Errorf("%q is read as %v, %v", text, id, err)
		}
	}
}
