package pebblelog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/raftstore"
)

// Keys: one byte for the kind, then the group id as 8 big-endian bytes, then
// what the kind needs. Integers in values are big-endian too.
//
// Entries and rows carry the generation of the group's state, 4 bytes. What is
// received of a snapshot is written under the next one, and one small write,
// which names that as the present, puts it in place of the old.
//
//	'!'              format version (1 byte), name of the database
//	'c' group        members: marshalled raftpb.ConfState
//	'e' group gen index  entry: term (8), type (1), data
//	'g' group        present generation (8); 0 if it is not there
//	'h' group        hard state: term, vote, commit (8 each)
//	'r' group gen key  row of the machine
//	'l' group        life in which this node is a member (8); 0 if it is not there
//	'm' group        mark up to which the log may be trimmed: index (8)
//	's' group        checkpoint: index, term (8 each), CRC32C of data (4), data
//	't' group        compacted up to: index, term (8 each)
const (
	kindFormat    = '!'
	kindMembers   = 'c'
	kindEntry     = 'e'
	kindGen       = 'g'
	kindHard      = 'h'
	kindLife      = 'l'
	kindRow       = 'r'
	kindTrim      = 'm'
	kindSnapshot  = 's'
	kindCompacted = 't'

	formatVersion = 1

	genHeader      = 13 // of a key with a generation
	maxNameBytes   = 64
	entryHeader    = 9
	snapshotHeader = 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// kinds are the kinds of keys that belong to a group.
var kinds = [...]byte{kindMembers, kindEntry, kindGen, kindHard, kindLife, kindRow, kindTrim, kindSnapshot, kindCompacted}

func groupKey(kind byte, g raftstore.GroupID) []byte { return appendGroupKey(nil, kind, g) }

func appendGroupKey(b []byte, kind byte, g raftstore.GroupID) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), uint64(g))
}

// genKey is how the keys of a generation begin.
func genKey(kind byte, g raftstore.GroupID, gen uint32) []byte {
	return appendGenKey(make([]byte, 0, genHeader), kind, g, gen)
}

func appendGenKey(b []byte, kind byte, g raftstore.GroupID, gen uint32) []byte {
	return binary.BigEndian.AppendUint32(appendGroupKey(b, kind, g), gen)
}

func entryKey(g raftstore.GroupID, gen uint32, index uint64) []byte {
	return appendEntryKey(make([]byte, 0, genHeader+8), g, gen, index)
}

func appendEntryKey(b []byte, g raftstore.GroupID, gen uint32, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendGenKey(b, kindEntry, g, gen), index)
}

// genEnd returns the first key behind those of a generation.
func genEnd(kind byte, g raftstore.GroupID, gen uint32) []byte {
	if gen+1 == 0 {
		return groupEnd(kind, g)
	}
	return genKey(kind, g, gen+1)
}

// groupEnd returns the first key behind those of a kind and group.
func groupEnd(kind byte, g raftstore.GroupID) []byte {
	if g+1 == 0 {
		return []byte{kind + 1}
	}
	return groupKey(kind, g+1)
}

func rowKey(g raftstore.GroupID, gen uint32, key []byte) []byte {
	return append(appendGenKey(make([]byte, 0, genHeader+len(key)), kindRow, g, gen), key...)
}

// keyName says what is at a key.
func keyName(key []byte) string {
	if len(key) < 9 {
		if len(key) == 1 && key[0] == kindFormat {
			return "format version"
		}
		return fmt.Sprintf("key %q", key)
	}
	group := binary.BigEndian.Uint64(key[1:])
	rest := key[9:]
	switch {
	case key[0] == kindMembers && len(rest) == 0:
		return fmt.Sprintf("members of group %d", group)
	case key[0] == kindEntry && len(rest) == 12:
		return fmt.Sprintf("entry %d of group %d", binary.BigEndian.Uint64(rest[4:]), group)
	case key[0] == kindEntry:
		return fmt.Sprintf("entries of group %d", group)
	case key[0] == kindGen && len(rest) == 0:
		return fmt.Sprintf("generation of group %d", group)
	case key[0] == kindLife && len(rest) == 0:
		return fmt.Sprintf("life in group %d", group)
	case key[0] == kindTrim && len(rest) == 0:
		return fmt.Sprintf("trim mark of group %d", group)
	case key[0] == kindHard && len(rest) == 0:
		return fmt.Sprintf("hard state of group %d", group)
	case key[0] == kindRow && len(rest) >= 4:
		return fmt.Sprintf("row %q of group %d", rest[4:], group)
	case key[0] == kindSnapshot && len(rest) == 0:
		return fmt.Sprintf("checkpoint of group %d", group)
	case key[0] == kindCompacted && len(rest) == 0:
		return fmt.Sprintf("compaction mark of group %d", group)
	}
	return fmt.Sprintf("key %q", key)
}

func encodeFormat(name string) []byte { return append([]byte{formatVersion}, name...) }

func decodeFormat(b []byte) (name string, err error) {
	r := codec.NewReader(b)
	r.Version("log device", formatVersion, formatVersion)
	if r.Err() != nil {
		return "", r.Err()
	}
	if name = string(b[1:]); name == "" || len(name) > maxNameBytes {
		return "", fmt.Errorf("a name of %d bytes: %w", len(name), raftstore.ErrCorrupt)
	}
	return name, nil
}

func encodeHard(hs raftstore.HardState) []byte { return encodeInts(hs.Term, hs.Vote, hs.Commit) }

func encodeInts(ints ...uint64) []byte {
	b := make([]byte, 0, 8*len(ints))
	for _, v := range ints {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// decodeInts reads len(ints) integers that must fill b.
func decodeInts(what string, b []byte, ints ...*uint64) error {
	if len(b) != 8*len(ints) {
		return fmt.Errorf("%s of %d bytes: %w", what, len(b), raftstore.ErrCorrupt)
	}
	for i, p := range ints {
		*p = binary.BigEndian.Uint64(b[8*i:])
	}
	return nil
}

func decodeEntry(g raftstore.GroupID, index uint64, b []byte) (*raftpb.Entry, error) {
	if len(b) < entryHeader {
		return nil, fmt.Errorf("entry %d of group %d has %d bytes: %w", index, g, len(b), raftstore.ErrCorrupt)
	}
	term := binary.BigEndian.Uint64(b)
	e := &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryType(b[8]).Enum()}
	if len(b) > entryHeader {
		e.Data = append([]byte(nil), b[entryHeader:]...)
	}
	return e, nil
}

func decodeSnapshot(g raftstore.GroupID, b []byte) (raftstore.Snapshot, error) {
	if len(b) < snapshotHeader {
		return raftstore.Snapshot{}, fmt.Errorf("checkpoint of group %d has %d bytes: %w", g, len(b), raftstore.ErrCorrupt)
	}
	s := raftstore.Snapshot{Index: binary.BigEndian.Uint64(b), Term: binary.BigEndian.Uint64(b[8:])}
	data := b[snapshotHeader:]
	if crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(b[16:]) {
		return raftstore.Snapshot{}, fmt.Errorf("checkpoint of group %d at %d: wrong checksum: %w", g, s.Index, raftstore.ErrCorrupt)
	}
	s.Data = append([]byte(nil), data...)
	return s, nil
}
