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
	s   *Store
	b   *pebble.Batch // made at the first use: many passes write nothing
	err error
	// gens are the generations of the groups that this batch installs.
	gens map[raftstore.GroupID]uint32
}

// gen is the generation that this batch writes to.
func (b *batch) gen(g raftstore.GroupID) uint32 {
	if gen, ok := b.gens[g]; ok {
		return gen
	}
	return b.s.gen(g)
}

func (b *batch) get() *pebble.Batch {
	if b.b == nil {
		b.b = b.s.db.NewBatch()
		b.note(b.b.LogData(make([]byte, markBytes), nil)) // see mark
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
	gen := b.gen(g)
	if to-from >= rangeDeleteAbove {
		b.note(b.get().DeleteRange(entryKey(g, gen, from), entryKey(g, gen, to+1), nil))
		return
	}
	for i := from; i <= to; i++ {
		b.note(b.get().Delete(entryKey(g, gen, i), nil))
	}
}

func (b *batch) Append(g raftstore.GroupID, entries []*raftpb.Entry, last uint64) {
	b.setEntries(g, b.gen(g), entries)
	b.deleteEntries(g, entries[len(entries)-1].GetIndex()+1, last)
}

func (b *batch) setEntries(g raftstore.GroupID, gen uint32, entries []*raftpb.Entry) {
	for _, e := range entries {
		data := e.GetData()
		op := b.get().SetDeferred(genHeader+8, entryHeader+len(data))
		appendEntryKey(op.Key[:0], g, gen, e.GetIndex())
		binary.BigEndian.PutUint64(op.Value, e.GetTerm())
		op.Value[8] = byte(e.GetType())
		copy(op.Value[entryHeader:], data)
		b.note(op.Finish())
	}
}

func (b *batch) StageEntries(g raftstore.GroupID, entries []*raftpb.Entry) {
	b.setEntries(g, b.gen(g)+1, entries)
}

func (b *batch) StageRow(g raftstore.GroupID, key, value []byte) {
	rowWriter{b, g, b.gen(g) + 1}.Set(key, value)
}

func (b *batch) DiscardStaged(g raftstore.GroupID) { b.deleteGen(g, b.gen(g)+1) }

func (b *batch) deleteGen(g raftstore.GroupID, gen uint32) {
	for _, kind := range []byte{kindEntry, kindRow} {
		b.note(b.get().DeleteRange(genKey(kind, g, gen), genEnd(kind, g, gen), nil))
	}
}

func (b *batch) Install(g raftstore.GroupID, index, term uint64) {
	gen := b.gen(g)
	b.deleteGen(g, gen)
	b.note(b.get().Set(groupKey(kindGen, g), encodeInts(uint64(gen)+1), nil))
	b.note(b.get().Set(groupKey(kindCompacted, g), encodeInts(index, term), nil))
	b.setGen(g, gen+1)
}

func (b *batch) setGen(g raftstore.GroupID, gen uint32) {
	if b.gens == nil {
		b.gens = map[raftstore.GroupID]uint32{}
	}
	b.gens[g] = gen
}

func (b *batch) SetHardState(g raftstore.GroupID, hs raftstore.HardState) {
	b.note(b.get().Set(groupKey(kindHard, g), encodeHard(hs), nil))
}

func (b *batch) SetMembers(g raftstore.GroupID, cs *raftpb.ConfState) {
	data, err := proto.Marshal(cs)
	b.note(err)
	b.note(b.get().Set(groupKey(kindMembers, g), data, nil))
}

func (b *batch) SetLife(g raftstore.GroupID, life uint32) {
	b.note(b.get().Set(groupKey(kindLife, g), binary.BigEndian.AppendUint64(nil, uint64(life)), nil))
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

func (b *batch) DeleteGroup(g raftstore.GroupID) {
	for _, kind := range kinds {
		b.note(b.get().DeleteRange(groupKey(kind, g), groupEnd(kind, g), nil))
	}
	b.setGen(g, 0)
}

func (b *batch) Rows(g raftstore.GroupID) raftstore.RowWriter { return rowWriter{b, g, b.gen(g)} }

type rowWriter struct {
	b   *batch
	g   raftstore.GroupID
	gen uint32
}

func (w rowWriter) Set(key, value []byte) {
	op := w.b.get().SetDeferred(genHeader+len(key), len(value))
	appendGenKey(op.Key[:0], kindRow, w.g, w.gen)
	copy(op.Key[genHeader:], key)
	copy(op.Value, value)
	w.b.note(op.Finish())
}

func (w rowWriter) Delete(key []byte) { w.b.note(w.b.get().Delete(rowKey(w.g, w.gen, key), nil)) }

func (w rowWriter) DeleteRange(lo, hi []byte) {
	w.b.note(w.b.get().DeleteRange(rowKey(w.g, w.gen, lo), rowKey(w.g, w.gen, hi), nil))
}
