package pebblelog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
)

// chunk returns a whole batch with a mark, of size bytes with its header.
func chunk(kind byte, size int, log uint32, number, synced uint64) []byte {
	header := walHeader
	if kind < walWhole {
		header = walFirstHeader
	}
	b := make([]byte, size)
	binary.LittleEndian.PutUint16(b[4:], uint16(size-header))
	b[6] = kind
	binary.LittleEndian.PutUint32(b[7:], log)
	payload := b[header:]
	payload[batchHeader], payload[batchHeader+1] = logDataKind, markBytes
	mark(payload, number, synced)
	sum := crc32.Checksum(b[6:], castagnoli)
	binary.LittleEndian.PutUint32(b, (sum>>15|sum<<17)+0xa282ead8)
	return b
}

// sealed completes a chunk with this payload.
func sealed(kind byte, log uint32, payload []byte) []byte {
	b := append(make([]byte, walHeader), payload...)
	binary.LittleEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6] = kind
	binary.LittleEndian.PutUint32(b[7:], log)
	sum := crc32.Checksum(b[6:], castagnoli)
	binary.LittleEndian.PutUint32(b, (sum>>15|sum<<17)+0xa282ead8)
	return b
}

// A batch that begins just before the end of a block has its mark in the next one, or
// in both. Its number was not counted, so that a crash which tore the batch behind it,
// and not the one after that, was taken for damage: the node gave its directory up.
func TestMarkBehindABlock(t *testing.T) {
	t.Parallel()
	for left := 1; left < markAt+markBytes; left++ {
		t.Run(fmt.Sprintf("%d bytes left", left), func(t *testing.T) {
			t.Parallel()
			const log, split = 8, 2 // the batch that is split
			batch := chunk(walWhole, 100, log, split, split-1)[walHeader:]
			first := append(chunk(walWhole, walBlock-walHeader-left, log, split-1, 0), sealed(walStart, log, batch[:left])...)
			end := sealed(walEnd, log, batch[left:])
			torn, later := chunk(walWhole, 100, log, split+1, split), chunk(walWhole, 100, log, split+2, split)
			scan := func(parts ...[]byte) error {
				s := walScan{log: walFile{number: log, first: 1}, known: true, bad: -1, header: walFirstHeader}
				if err := s.block(0, first); err != nil {
					return err
				}
				return s.block(walBlock, slices.Concat(parts...))
			}
			if err := scan(end, torn, later); err != nil {
				t.Errorf("whole: %v", err)
			}
			torn[walHeader] ^= 1
			if err := scan(end, torn, later); err != nil {
				t.Errorf("torn behind it: %v", err)
			}
			end[walHeader] ^= 1
			if scan(end, torn, later) == nil {
				t.Error("a batch that was durable is gone, and nobody noticed")
			}
		})
	}
}

// What is left of a block that is too little for a header is padding. Where it was
// taken for a chunk that cannot be read, a healthy node gave its directory up.
func TestPaddingIsNoDamage(t *testing.T) {
	t.Parallel()
	for _, format := range []struct {
		kind   byte
		header int
	}{{walFirstWhole, walFirstHeader}, {walWhole, walHeader}} {
		for left := range format.header {
			t.Run(fmt.Sprintf("kind %d, %d bytes left", format.kind, left), func(t *testing.T) {
				const log = 8
				first := append(chunk(format.kind, 100, log, 1, 0), chunk(format.kind, walBlock-100-left, log, 2, 1)...)
				second := append(chunk(format.kind, 100, log, 3, 2), chunk(format.kind, 100, log, 4, 3)...)
				blocks := [][]byte{append(first, make([]byte, left)...), second}
				scan := func() error {
					s := walScan{log: walFile{number: log}, bad: -1, header: walFirstHeader}
					for i, b := range blocks {
						if err := s.block(int64(i)*walBlock, b); err != nil {
							return err
						}
					}
					return nil
				}
				if err := scan(); err != nil {
					t.Fatal(err)
				}
				// It is damage, if the batch before it is.
				blocks[0] = slices.Clone(blocks[0])
				blocks[0][walBlock-left-1] ^= 1
				if scan() == nil {
					t.Error("a batch that was durable is gone, and nobody noticed")
				}
			})
		}
	}
}
