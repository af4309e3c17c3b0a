package pebblelog

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// batch collects changes. The first error is kept for Commit: a batch that
// could not be built must not be written in part.
type batch struct {
	db  *pebble.DB
	b   *pebble.Batch // made at the first use: many passes write nothing
	err error
}

func (b *batch) get() *pebble.Batch {
	if b.b == nil {
		b.b = b.db.NewBatch()
	}
	return b.b
}

func (b *batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *batch) Empty() bool { return b.b == nil && b.err == nil }

// rangeDeleteAbove is the number of keys from which one range tombstone is
// cheaper, over its life, than one tombstone per key.
const rangeDeleteAbove = 64

func (b *batch) deleteEntries(g raftstore.GroupID, from, to uint64) {
	if to < from {
		return
	}
	if to-from >= rangeDeleteAbove {
		b.note(b.get().DeleteRange(entryKey(g, from), entryKey(g, to+1), nil))
		return
	}
	for i := from; i <= to; i++ {
		b.note(b.get().Delete(entryKey(g, i), nil))
	}
}

func (b *batch) Append(g raftstore.GroupID, entries []*raftpb.Entry, last uint64) {
	for _, e := range entries {
		data := e.GetData()
		op := b.get().SetDeferred(17, entryHeader+len(data))
		appendEntryKey(op.Key[:0], g, e.GetIndex())
		binary.BigEndian.PutUint64(op.Value, e.GetTerm())
		op.Value[8] = byte(e.GetType())
		copy(op.Value[entryHeader:], data)
		b.note(op.Finish())
	}
	b.deleteEntries(g, entries[len(entries)-1].GetIndex()+1, last)
}

func (b *batch) SetHardState(g raftstore.GroupID, hs raftstore.HardState) {
	b.note(b.get().Set(groupKey(kindHard, g), encodeHard(hs), nil))
}

func (b *batch) SetMembers(g raftstore.GroupID, cs *raftpb.ConfState) {
	data, err := proto.Marshal(cs)
	b.note(err)
	b.note(b.get().Set(groupKey(kindMembers, g), data, nil))
}

func (b *batch) SetSnapshot(g raftstore.GroupID, s raftstore.Snapshot) {
	op := b.get().SetDeferred(9, snapshotHeader+len(s.Data))
	appendGroupKey(op.Key[:0], kindSnapshot, g)
	binary.BigEndian.PutUint64(op.Value, s.Index)
	binary.BigEndian.PutUint64(op.Value[8:], s.Term)
	binary.BigEndian.PutUint32(op.Value[16:], crc32.Checksum(s.Data, castagnoli))
	copy(op.Value[snapshotHeader:], s.Data)
	b.note(op.Finish())
}

func (b *batch) Compact(g raftstore.GroupID, first, index, term uint64) {
	b.deleteEntries(g, first, index)
	b.note(b.get().Set(groupKey(kindCompacted, g), encodeInts(index, term), nil))
}

func (b *batch) SetTrim(g raftstore.GroupID, index uint64) {
	b.note(b.get().Set(groupKey(kindTrim, g), encodeInts(index), nil))
}

func (b *batch) Reset(g raftstore.GroupID, index, term uint64) {
	b.note(b.get().DeleteRange(groupKey(kindEntry, g), groupEnd(kindEntry, g), nil))
	b.note(b.get().DeleteRange(groupKey(kindRow, g), groupEnd(kindRow, g), nil))
	b.note(b.get().Set(groupKey(kindCompacted, g), encodeInts(index, term), nil))
}

func (b *batch) DeleteGroup(g raftstore.GroupID) {
	for _, kind := range kinds {
		b.note(b.get().DeleteRange(groupKey(kind, g), groupEnd(kind, g), nil))
	}
}

func (b *batch) Rows(g raftstore.GroupID) raftstore.RowWriter { return rowWriter{b, g} }

type rowWriter struct {
	b *batch
	g raftstore.GroupID
}

func (w rowWriter) Set(key, value []byte) {
	op := w.b.get().SetDeferred(9+len(key), len(value))
	appendGroupKey(op.Key[:0], kindRow, w.g)
	copy(op.Key[9:], key)
	copy(op.Value, value)
	w.b.note(op.Finish())
}

func (w rowWriter) Delete(key []byte) { w.b.note(w.b.get().Delete(rowKey(w.g, key), nil)) }

func (w rowWriter) DeleteRange(lo, hi []byte) {
	w.b.note(w.b.get().DeleteRange(rowKey(w.g, lo), rowKey(w.g, hi), nil))
}
