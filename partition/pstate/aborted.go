package pstate

import (
	"cmp"
	"iter"
	"slices"
)

// abortedEntry hides the records of one transaction in one partition from a
// sequence on: 48 bytes. One entry is enough for a transaction however its
// batches lie between those of others, because the reference is part of it;
// the offsets keep it from hiding what the same reference may store later (a
// forged one that turned into a real one, or a producer that was forgotten).
type abortedEntry struct {
	producer uint64
	number   uint64
	first    uint64 // offset of the first record
	end      uint64 // offset after the last record
	minSeq   uint64
	epoch    uint32
}

func (e *abortedEntry) ref() TxnRef { return TxnRef{e.producer, e.epoch, e.number} }

func (e *abortedEntry) compare(ref TxnRef, first uint64) int {
	if c := e.ref().Compare(ref); c != 0 {
		return c
	}
	return cmp.Compare(e.first, first)
}

// maxChunk is the most entries in one chunk: 12 KiB.
const maxChunk = 256

// abortedIndex holds the entries of a partition by (reference, first offset),
// in chunks, so that adding one moves a few kilobytes and not the whole index,
// and finding one is two bisections.
type abortedIndex struct {
	chunks [][]abortedEntry // none is empty
	len    int
}

// after returns the place of the first entry that is after (ref, first).
func (x *abortedIndex) after(ref TxnRef, first uint64) (chunk, i int) {
	past := func(e *abortedEntry) int {
		if e.compare(ref, first) > 0 {
			return 1
		}
		return -1
	}
	chunk, _ = slices.BinarySearchFunc(x.chunks, 0, func(in []abortedEntry, _ int) int {
		return past(&in[len(in)-1])
	})
	if chunk == len(x.chunks) {
		return chunk, 0
	}
	i, _ = slices.BinarySearchFunc(x.chunks[chunk], 0, func(e abortedEntry, _ int) int { return past(&e) })
	return chunk, i
}

func (x *abortedIndex) add(e abortedEntry) {
	x.len++
	c, i := x.after(e.ref(), e.first)
	if c == len(x.chunks) { // after everything there is
		if c == 0 {
			x.chunks = append(x.chunks, []abortedEntry{e})
			return
		}
		c--
		i = len(x.chunks[c])
	}
	in := slices.Insert(x.chunks[c], i, e)
	x.chunks[c] = in
	if len(in) <= maxChunk {
		return
	}
	cut := len(in) / 2
	if i == len(in)-1 { // entries that come in order leave full chunks behind
		cut = i
	}
	x.chunks = slices.Insert(x.chunks, c+1, slices.Clone(in[cut:]))
	x.chunks[c] = slices.Clip(in[:cut])
}

// find returns the entry that covers a record of ref at this offset.
func (x *abortedIndex) find(ref TxnRef, offset uint64) (abortedEntry, bool) {
	if x.len == 0 || !ref.Transactional() {
		return abortedEntry{}, false
	}
	c, i := x.after(ref, offset)
	if i--; i < 0 {
		if c--; c < 0 {
			return abortedEntry{}, false
		}
		i = len(x.chunks[c]) - 1
	}
	e := x.chunks[c][i]
	return e, e.ref() == ref && offset < e.end
}

// trim drops the entries that lie wholly below an offset.
func (x *abortedIndex) trim(start uint64) {
	x.len = 0
	kept := x.chunks[:0]
	for _, in := range x.chunks {
		in = slices.DeleteFunc(in, func(e abortedEntry) bool { return e.end <= start })
		if len(in) > 0 {
			kept = append(kept, in)
			x.len += len(in)
		}
	}
	clear(x.chunks[len(kept):])
	x.chunks = kept
}

func (x *abortedIndex) all() iter.Seq[*abortedEntry] {
	return func(yield func(*abortedEntry) bool) {
		for _, in := range x.chunks {
			for i := range in {
				if !yield(&in[i]) {
					return
				}
			}
		}
	}
}
