package raftstore_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"sync"

	"github.com/oncelog/oncelog/raftstore"
)

// chain is a machine whose state is a hash over everything it applied, in
// order: any lost, repeated or reordered command shows.
type chain struct {
	mu    sync.Mutex
	hash  uint64
	count uint64
	last  uint64
}

var crcTable = crc64.MakeTable(crc64.ECMA)

func (c *chain) Apply(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Index <= c.last {
		panic(fmt.Sprintf("applied %d after %d", e.Index, c.last))
	}
	c.last = e.Index
	c.count++
	c.hash = crc64.Update(c.hash, crcTable, e.Data)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], c.hash)
	rows.Set(binary.BigEndian.AppendUint64(nil, c.count), b[:])
	return c.count, nil
}

func (c *chain) Snapshot() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := binary.BigEndian.AppendUint64(nil, c.hash)
	return binary.BigEndian.AppendUint64(b, c.count), nil
}

func (c *chain) Restore(index uint64, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hash, c.count, c.last = 0, 0, index
	if index == 0 {
		return nil
	}
	if len(data) != 16 {
		return fmt.Errorf("snapshot of %d bytes", len(data))
	}
	c.hash, c.count = binary.BigEndian.Uint64(data), binary.BigEndian.Uint64(data[8:])
	return nil
}

func (c *chain) state() (hash, count uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hash, c.count
}
