package client

import (
	"cmp"
	"slices"
)

// Stats is what a client holds at a moment.
type Stats struct {
	// Producers of both kinds, and Consumers, that are open.
	Producers, Consumers int
	// OpenTransactions were begun and have not ended, those of unknown outcome
	// included.
	OpenTransactions int
	// BufferedBytes of records await their acknowledgement, of BufferBytes that may,
	// over all producers.
	BufferedBytes, BufferBytes int
	// BlockedSends wait for buffer memory.
	BlockedSends int
	// PrefetchedBytes were fetched and wait for Poll, over all consumers.
	PrefetchedBytes int
}

// Stats returns what the client holds now. It asks nobody.
func (c *Client) Stats() Stats {
	var s Stats
	for _, p := range c.open() {
		switch p := p.(type) {
		case *Producer:
			s.Producers++
			p.mu.Lock()
			tx := p.current
			p.mu.Unlock()
			if tx != nil && !tx.released() {
				s.OpenTransactions++
			}
			p.mem.addTo(&s)
		case *IdempotentProducer:
			s.Producers++
			p.w.mem.addTo(&s)
		case *Consumer:
			s.Consumers++
			s.PrefetchedBytes += p.prefetched()
		}
	}
	return s
}

// Consumers returns the consumers that are open, in the order in which they were
// made.
func (c *Client) Consumers() []*Consumer {
	var out []*Consumer
	for _, p := range c.open() {
		if k, ok := p.(*Consumer); ok {
			out = append(out, k)
		}
	}
	return out
}

// open returns the producers and consumers in the order in which they were made.
func (c *Client) open() []closer {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]closer, 0, len(c.parts))
	for p := range c.parts {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b closer) int { return cmp.Compare(c.parts[a], c.parts[b]) })
	return out
}

func (m *memory) addTo(s *Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.BufferedBytes += m.used
	s.BufferBytes += m.limit
	s.BlockedSends += len(m.waiters)
}

func (k *Consumer) prefetched() (bytes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.readers {
		for i := range r.chunks {
			bytes += r.chunks[i].bytes()
		}
	}
	return bytes
}

func (c *chunk) bytes() (n int) {
	for i := range c.batches {
		n += len(c.batches[i].raw)
	}
	return n
}

func (c *chunk) records() (n int) {
	for i := range c.batches {
		n += c.batches[i].visible
	}
	return n
}
