package pebblelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/raftstore"
)

// A write-ahead log is a sequence of chunks in blocks, none across the end of a
// block; a batch that does not fit is continued in the next block.
//
//	offset  bytes  content, least significant byte first
//	     0      4  masked CRC-32C of what follows
//	     4      2  length of the payload
//	     6      1  kind: 9 whole batch, 10 its start, 11 its middle, 12 its end
//	     7      4  number of the log, its low half
//	    11      8  Pebble's own idea of how far the log was synced
//	    19         payload: 12 bytes of Pebble's, our mark, the changes
//
// The first log of a new database is older than its format: Pebble raises that when
// the log is there. Its chunks have the kinds 5 to 8 and do not say how far it was
// synced: the payload begins at 11.
//
// A chunk that cannot be read ends the log: a crash tore it. Pebble asks later
// chunks whether it had been synced, but begins with the next block, and its idea
// of how far that was falls behind with every batch that crosses a block. So every
// batch begins with a mark that says which number it has, and up to which number
// batches were durable when it was written. One that says so of a batch that
// cannot be read proves damage. Only of what was written last nobody can say
// whether a crash or something else took it.
const (
	walBlock       = 32 << 10
	walHeader      = 19
	walFirstHeader = 11 // in the first log of a database

	walFirstWhole              = 5
	walWhole, walStart, walEnd = 9, 10, 12

	batchHeader = 12
	logDataKind = 3 // Pebble's kind of a change that is only in the write-ahead log
	markBytes   = 16
	markAt      = batchHeader + 2
)

// mark writes the mark of a batch, which placeMark has made room for.
func mark(repr []byte, number, synced uint64) {
	binary.BigEndian.PutUint64(repr[markAt:], number)
	binary.BigEndian.PutUint64(repr[markAt+8:], synced)
}

// readMark reads the mark of a batch that begins with payload.
func readMark(payload []byte) (number, synced uint64, ok bool) {
	if len(payload) < markAt+markBytes || payload[batchHeader] != logDataKind || payload[batchHeader+1] != markBytes {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(payload[markAt:]), binary.BigEndian.Uint64(payload[markAt+8:]), true
}

// scanWAL fails with raftstore.ErrCorrupt if the log has lost what was synced.
func scanWAL(fs vfs.FS, path string, log walFile) error {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := walScan{log: log, bad: -1, header: walFirstHeader}
	if log.first > 0 {
		s.read, s.known = log.first-1, true
	}
	block := make([]byte, walBlock)
	for start := int64(0); ; start += walBlock {
		n, err := io.ReadFull(f, block)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if err := s.block(start, block[:n]); err != nil {
			return fmt.Errorf("%s, a write-ahead log, %w: %w", path, err, raftstore.ErrCorrupt)
		}
	}
}

// walScan is how far a log was read.
type walScan struct {
	log walFile
	// read is the number of the last batch that was read to its end, if known.
	read, reading uint64
	known         bool
	// bad is where the first chunk is that cannot be read, or -1.
	bad int64
	// header is the size of the log's chunk headers, as far as it is known: all are of
	// one size. Less than that at the end of a block is padding, and no chunk.
	header int
}

func (s *walScan) block(start int64, b []byte) error {
	for at := 0; at+s.header <= len(b); {
		kind, header, payload, ok := readChunk(b[at:], uint32(s.log.number))
		if !ok {
			if s.bad < 0 {
				s.bad = start + int64(at)
			}
			at++
			continue
		}
		s.header = header
		at += header + len(payload)
		number, synced, marked := uint64(0), uint64(0), false
		if kind == walWhole || kind == walStart {
			number, synced, marked = readMark(payload)
		}
		switch {
		case s.bad >= 0 && marked && s.known && synced > s.read:
			return fmt.Errorf("cannot be read at byte %d, in batch %d, and batch %d was written when those up to %d were durable",
				s.bad, s.read+1, number, synced)
		case s.bad >= 0:
			continue
		case marked:
			s.reading = number
		case kind == walStart && len(payload) < markAt+markBytes && s.known:
			// So little of it fits in front of the block's end that the mark does not.
			// Every batch behind the first one has a mark, and their numbers are dense.
			s.reading = s.read + 1
		}
		if (kind == walWhole || kind == walEnd) && s.reading > 0 {
			s.read, s.known = s.reading, true
		}
	}
	return nil
}

// readChunk reads the chunk at the start of b, which has walFirstHeader bytes at least.
// Its kind is one of those from walWhole on, however old the log is.
func readChunk(b []byte, number uint32) (kind byte, header int, payload []byte, ok bool) {
	length := int(binary.LittleEndian.Uint16(b[4:]))
	kind, header = b[6], walHeader
	if kind >= walFirstWhole && kind < walWhole {
		kind, header = kind-walFirstWhole+walWhole, walFirstHeader
	}
	if kind < walWhole || kind > walEnd || binary.LittleEndian.Uint32(b[7:]) != number || header+length > len(b) {
		return 0, 0, nil, false
	}
	sum := crc32.Checksum(b[6:header+length], castagnoli)
	if (sum>>15|sum<<17)+0xa282ead8 != binary.LittleEndian.Uint32(b) {
		return 0, 0, nil, false
	}
	return kind, header, b[header : header+length], true
}
