package partition

import "sync"

// entryBuffers is memory in which entries of appends are encoded, as *[]byte. Raft
// takes a copy of what is proposed, so it serves the next one as soon as a proposal
// is answered; see [raftstore.Group.ProposeAsync].
var entryBuffers sync.Pool

// maxKeptBuffer bounds what is kept: an entry of a single large batch is rare.
const maxKeptBuffer = 2 * maxAppendBytes

// entryBuffer returns an empty slice with room for n bytes.
func entryBuffer(n int) []byte {
	if b, ok := entryBuffers.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:0]
	}
	// Of one size where possible, so that it fits the next one, too.
	return make([]byte, 0, max(n, min(maxKeptBuffer, 2*n)))
}

// keepBuffer takes a buffer back. Nobody may use it any more.
func keepBuffer(b []byte) {
	if cap(b) <= maxKeptBuffer {
		entryBuffers.Put(&b)
	}
}
