package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"
)

// A follower that needs entries which are gone gets a snapshot: the checkpoint,
// all rows and, if the log is the data, all entries up to the checkpoint. That may
// be most of a disk, so it is neither a message nor ever in memory as a whole.
//
// Raft's MsgSnap says only that one is needed. The leader takes a view of the
// group and sends it in chunks, one at a time, each with a checksum and at the
// rate of Config.SnapshotBytesPerSecond; the follower stages every chunk in its
// log store and answers which one it waits for. A chunk without an answer is sent
// again, so a broken connection costs one chunk, and a follower that was
// restarted, and forgot, has it start over from the same view. With the last
// chunk the follower hands the MsgSnap that came with the first one to Raft, and
// what is staged takes the place of the group's state in one write. See
// snapshot_send.go and snapshot_receive.go.

// MaxCheckpointBytes is the largest state of a machine that a follower accepts in
// a snapshot, because Machine.Restore takes it from memory. Rows and entries have
// no such limit.
const MaxCheckpointBytes = 1 << 30

// MaxSnapshotChunkBytes is the largest Config.SnapshotChunkBytes. A chunk exceeds
// the size that is set by at most one row or entry.
const MaxSnapshotChunkBytes = 4 << 20

// SnapshotChunk is a part of a snapshot on its way to a follower.
type SnapshotChunk struct {
	Group GroupID
	From  NodeID
	// Stream tells one snapshot from any other that the sender ever sent.
	Stream uint64
	// Seq counts the chunks of a stream from 0.
	Seq uint64
	// Last: no chunk follows.
	Last bool
	// Header is the MsgSnap of the chunk 0, whose snapshot has a manifest for its
	// data; nil in all others. It must not be modified.
	Header *raftpb.Message
	// Data is encoded by this package; at most MaxSnapshotChunkBytes and one row or
	// entry. Sum is its CRC32C.
	Data []byte
	Sum  uint32
}

// SnapshotAnswer is what a follower says to a chunk.
type SnapshotAnswer struct {
	// Next is the Seq it waits for: 0 of a stream that it does not know.
	Next uint64
	// Done says that it needs nothing more of the stream.
	Done bool
	// Err says why the chunk was not taken. It will be sent again.
	Err error
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// manifest describes a snapshot; it is the data of Raft's own.
type manifest struct {
	// compacted and compactedTerm name the entry before the first that is sent.
	compacted, compactedTerm uint64
	checkpointBytes          uint64
}

// manifestVersion also says how chunks are encoded.
const manifestVersion = 1

func (m manifest) encode() []byte {
	b := []byte{manifestVersion}
	for _, v := range []uint64{m.compacted, m.compactedTerm, m.checkpointBytes} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeManifest(b []byte) (m manifest, err error) {
	if len(b) == 0 || b[0] != manifestVersion {
		return m, fmt.Errorf("%w: manifest %x has a version that is not %d", ErrBadSnapshot, b[:min(len(b), 1)], manifestVersion)
	}
	d := decoder{b: b[1:]}
	m = manifest{d.uvarint(), d.uvarint(), d.uvarint()}
	switch {
	case d.bad || len(d.b) > 0:
		return m, fmt.Errorf("%w: damaged manifest", ErrBadSnapshot)
	case m.checkpointBytes > MaxCheckpointBytes:
		return m, fmt.Errorf("%w: checkpoint of %d bytes, limit is %d", ErrBadSnapshot, m.checkpointBytes, MaxCheckpointBytes)
	}
	return m, nil
}

// The data of a chunk is a sequence of records: a kind, then its fields. Byte
// strings and integers are uvarints, a string's bytes follow its length.
const (
	recordCheckpoint = 'c' // a piece of the machine's state
	recordRow        = 'r' // key, value
	recordEntry      = 'e' // index, term, type, data
)

func appendBytes(b, s []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }

func appendCheckpoint(b, piece []byte) []byte { return appendBytes(append(b, recordCheckpoint), piece) }

func appendRow(b, key, value []byte) []byte {
	return appendBytes(appendBytes(append(b, recordRow), key), value)
}

func appendEntry(b []byte, e *raftpb.Entry) []byte {
	b = binary.AppendUvarint(append(b, recordEntry), e.GetIndex())
	b = binary.AppendUvarint(b, e.GetTerm())
	b = binary.AppendUvarint(b, uint64(e.GetType()))
	return appendBytes(b, e.GetData())
}

// decoder reads what was encoded; bad is set by the first thing that is not.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

// chunkContents is what a chunk holds. Its bytes are the chunk's.
type chunkContents struct {
	checkpoint [][]byte
	rows       [][2][]byte
	entries    []*raftpb.Entry
}

var errDamagedChunk = fmt.Errorf("%w: damaged chunk", ErrBadSnapshot)

func decodeChunk(data []byte) (c chunkContents, err error) {
	d := decoder{b: data}
	for len(d.b) > 0 && !d.bad {
		kind := d.b[0]
		d.b = d.b[1:]
		switch kind {
		case recordCheckpoint:
			c.checkpoint = append(c.checkpoint, d.bytes())
		case recordRow:
			c.rows = append(c.rows, [2][]byte{d.bytes(), d.bytes()})
		case recordEntry:
			index, term, typ, data := d.uvarint(), d.uvarint(), d.uvarint(), d.bytes()
			if typ > uint64(raftpb.EntryConfChangeV2) {
				d.bad = true
			}
			e := &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryType(int32(typ & 0xff)).Enum()}
			if len(data) > 0 {
				e.Data = data
			}
			c.entries = append(c.entries, e)
		default:
			d.bad = true
		}
	}
	if d.bad {
		return chunkContents{}, errDamagedChunk
	}
	return c, nil
}
