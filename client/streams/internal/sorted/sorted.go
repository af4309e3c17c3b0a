// Package sorted has a map from bytes to bytes that is read in the order of its
// keys: the state of a task in memory, and what a transaction has changed of it.
package sorted

import (
	"bytes"
	"slices"
)

// chunkEntries is how many entries a chunk has at most. Inserting moves half a
// chunk on average, and finding looks at log2 of the number of chunks.
const chunkEntries = 256

// Entry is a key and its value.
type Entry struct {
	// Key is what the map is ordered by, as bytes.
	Key []byte
	// Value; nil is kept apart from empty.
	Value []byte
}

// Map is an ordered map. The zero value is empty and ready. It keeps the slices
// that it is given. It is not safe for concurrent use while it is changed.
type Map struct {
	chunks []*chunk // ordered, none of them empty
	count  int
}

type chunk struct{ entries []Entry }

// Len returns the number of entries.
func (m *Map) Len() int { return m.count }

// Clear removes everything.
func (m *Map) Clear() { m.chunks, m.count = nil, 0 }

// find returns the chunk that a key is or would be in.
func (m *Map) find(key []byte) int {
	i, exact := slices.BinarySearchFunc(m.chunks, key, func(c *chunk, key []byte) int {
		return bytes.Compare(c.entries[0].Key, key)
	})
	if !exact && i > 0 {
		i--
	}
	return i
}

func (c *chunk) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(c.entries, key, func(e Entry, key []byte) int { return bytes.Compare(e.Key, key) })
}

// Get returns the value of a key and whether it is there.
func (m *Map) Get(key []byte) ([]byte, bool) {
	if len(m.chunks) == 0 {
		return nil, false
	}
	c := m.chunks[m.find(key)]
	i, ok := c.find(key)
	if !ok {
		return nil, false
	}
	return c.entries[i].Value, true
}

// Put sets the value of a key.
func (m *Map) Put(key, value []byte) {
	if len(m.chunks) == 0 {
		m.chunks = append(m.chunks, &chunk{entries: []Entry{{Key: key, Value: value}}})
		m.count = 1
		return
	}
	at := m.find(key)
	c := m.chunks[at]
	i, ok := c.find(key)
	if ok {
		c.entries[i].Value = value
		return
	}
	c.entries = slices.Insert(c.entries, i, Entry{Key: key, Value: value})
	m.count++
	if len(c.entries) > chunkEntries {
		half := len(c.entries) / 2
		upper := &chunk{entries: slices.Clone(c.entries[half:])}
		clear(c.entries[half:])
		c.entries = c.entries[:half]
		m.chunks = slices.Insert(m.chunks, at+1, upper)
	}
}

// Delete removes a key and reports whether it was there.
func (m *Map) Delete(key []byte) bool {
	if len(m.chunks) == 0 {
		return false
	}
	at := m.find(key)
	c := m.chunks[at]
	i, ok := c.find(key)
	if !ok {
		return false
	}
	c.entries = slices.Delete(c.entries, i, i+1)
	m.count--
	if len(c.entries) == 0 {
		m.chunks = slices.Delete(m.chunks, at, at+1)
	}
	return true
}

// DeleteBefore removes every key below one.
func (m *Map) DeleteBefore(key []byte) {
	for len(m.chunks) > 0 {
		c := m.chunks[0]
		i, _ := c.find(key)
		if i < len(c.entries) {
			m.count -= i
			c.entries = slices.Delete(c.entries, 0, i)
			return
		}
		m.count -= i
		m.chunks = slices.Delete(m.chunks, 0, 1)
	}
}

// Scan calls fn with the entries from a key on, up to and without another one, in
// order, until fn returns false. from nil: the first; to nil: no end. fn must not
// change the map.
func (m *Map) Scan(from, to []byte, fn func(e Entry) bool) {
	if len(m.chunks) == 0 {
		return
	}
	at := m.find(from)
	i, _ := m.chunks[at].find(from)
	for ; at < len(m.chunks); at, i = at+1, 0 {
		for _, e := range m.chunks[at].entries[i:] {
			if to != nil && bytes.Compare(e.Key, to) >= 0 || !fn(e) {
				return
			}
		}
	}
}
