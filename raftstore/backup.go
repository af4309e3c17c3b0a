package raftstore

import (
	"context"
	"fmt"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// Backup is a group as it was at one moment. It keeps the device from reusing space
// until it is closed, and ends with the store. It is used by one goroutine at a time.
type Backup struct {
	// Index and Term name the last entry that is in it.
	Index, Term uint64

	source *snapshotSource
	opened bool
}

// Backup returns the group with everything that was committed, anywhere, before the
// call. It works on every member; the errors are those of ReadIndex, and the disk's.
func (g *Group) Backup(ctx context.Context) (*Backup, error) {
	if _, err := g.ReadIndex(ctx); err != nil {
		return nil, err
	}
	var kept keptBackup
	if err := g.store.do(ctx, func() { kept.put(g.store.loop.backup(g.replica)) }); err != nil {
		kept.abandon()
		return nil, err
	}
	return kept.backup, kept.err
}

// keptBackup is on its way from the loop to its caller, who may not wait for it any more:
// then nobody else would ever close it.
type keptBackup struct {
	mu        sync.Mutex
	backup    *Backup
	err       error
	abandoned bool
}

func (k *keptBackup) put(b *Backup, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.abandoned && b != nil {
		b.Close()
		return
	}
	k.backup, k.err = b, err
}

func (k *keptBackup) abandon() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.abandoned = true; k.backup != nil {
		k.backup.Close()
	}
}

// backup has a checkpoint of what is applied written, so that whoever restores the
// group has no entry to apply: its members are others than those of the log.
func (l *loop) backup(r *replica) (*Backup, error) {
	switch {
	case l.failed != nil:
		return nil, ErrStopped
	case r.removed:
		return nil, ErrGroupNotFound
	case r.departed:
		return nil, ErrNotMember
	}
	if r.applied > r.checkpointIndex {
		batch := l.cfg.Log.NewBatch()
		if err := r.checkpoint(batch); err != nil {
			return nil, err
		}
		if !l.commit(batch, false) { // see maybeCheckpoint
			return nil, l.failed
		}
		r.compacted()
	}
	view, err := l.cfg.Log.View(r.id())
	if err != nil {
		return nil, err
	}
	return &Backup{Index: r.applied, Term: r.appliedTerm, source: &snapshotSource{
		view: view, group: r.id(), retain: r.cfg.RetainLog, limit: l.cfg.SnapshotChunkBytes,
	}}, nil
}

// Next returns the next piece, for a [BackupReader]: at most
// Config.SnapshotChunkBytes and one entry or row. last: nothing follows.
func (b *Backup) Next() (data []byte, last bool, err error) {
	if !b.opened {
		if err := b.source.open(); err != nil {
			return nil, false, err
		}
		if b.source.checkpoint.Index != b.Index {
			return nil, false, fmt.Errorf("group %d: %w: checkpoint at %d instead of %d", b.source.group, ErrCorrupt, b.source.checkpoint.Index, b.Index)
		}
		b.opened = true
		b.source.phase = phaseCheckpoint
		return b.source.manifest().encode(), false, nil
	}
	c, err := b.source.next()
	return c.Data, c.Last, err
}

// Close ends the backup.
func (b *Backup) Close() { b.source.close() }

// BackupReader reads what [Backup.Next] returned. It checks that it is all there, and
// in order; that it is undamaged is for whoever keeps it to know.
type BackupReader struct {
	// Index is the one of the backup.
	Index uint64
	// Row and Entry, if there, are told of every row and every entry that is not
	// empty. The bytes are valid during the call.
	Row   func(key, value []byte) error
	Entry func(index uint64, data []byte) error

	manifest
	begun      bool
	entry      uint64 // the next
	checkpoint []byte
}

// Add takes the next piece.
func (r *BackupReader) Add(data []byte) error {
	_, err := r.add(data)
	return err
}

func (r *BackupReader) add(data []byte) (chunkContents, error) {
	if !r.begun {
		m, err := decodeManifest(data)
		if err == nil && m.compacted > r.Index {
			err = fmt.Errorf("%w: it begins behind entry %d and ends with %d", ErrBadSnapshot, m.compacted, r.Index)
		}
		r.manifest, r.entry, r.begun = m, m.compacted+1, err == nil
		return chunkContents{}, err
	}
	c, err := decodeChunk(data)
	if err != nil {
		return c, err
	}
	for _, piece := range c.checkpoint {
		if uint64(len(r.checkpoint)+len(piece)) > r.checkpointBytes {
			return c, fmt.Errorf("%w: more checkpoint than the %d bytes that were stated", ErrBadSnapshot, r.checkpointBytes)
		}
		r.checkpoint = append(r.checkpoint, piece...)
	}
	for _, row := range c.rows {
		if r.Row != nil {
			if err := r.Row(row[0], row[1]); err != nil {
				return c, err
			}
		}
	}
	for _, e := range c.entries {
		if e.GetIndex() != r.entry || e.GetIndex() > r.Index {
			return c, fmt.Errorf("%w: entry %d instead of %d of %d", ErrBadSnapshot, e.GetIndex(), r.entry, r.Index)
		}
		r.entry++
		if r.Entry != nil && e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 {
			if err := r.Entry(e.GetIndex(), e.GetData()); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// First is the index of the first entry.
func (r *BackupReader) First() uint64 { return r.compacted + 1 }

// Close returns the machine's state after the entry Index, if everything is there.
func (r *BackupReader) Close() (checkpoint []byte, err error) {
	in := receiving{manifest: r.manifest, checkpoint: r.checkpoint, entry: r.entry, index: r.Index}
	if !r.begun {
		return nil, fmt.Errorf("%w: it is empty", ErrBadSnapshot)
	}
	if err := in.checkComplete(); err != nil {
		return nil, err
	}
	return r.checkpoint, nil
}

// Import writes a group that a log store does not have from its backup, with members
// of its own. The store is not in use otherwise. A member of the group begins with it
// as if it had been there all the time, so no two members that were imported for one
// cluster may come from different backups, and none may be imported again once it has
// run.
type Import struct {
	log     LogStore
	group   GroupID
	members []NodeID
	term    uint64
	reader  BackupReader
	// first is the term of entry 1, if the backup begins with it.
	first uint64
}

// NewImport begins to import a group whose backup ends with the entry (index, term).
func NewImport(log LogStore, group GroupID, index, term uint64, members []NodeID) *Import {
	return &Import{log: log, group: group, members: members, term: term, reader: BackupReader{Index: index}}
}

// Add writes the next piece of the backup.
func (i *Import) Add(data []byte) error {
	c, err := i.reader.add(data)
	if err != nil {
		return err
	}
	batch := i.log.NewBatch()
	for _, row := range c.rows {
		batch.StageRow(i.group, row[0], row[1])
	}
	entries := c.entries
	if len(entries) > 0 && entries[0].GetIndex() == 1 {
		// Whoever joins later must not get a log from its beginning: the members are
		// not those that the log tells. Entry 1 is the first leader's own.
		if len(entries[0].GetData()) > 0 {
			return fmt.Errorf("group %d: %w: entry 1 has data", i.group, ErrBadSnapshot)
		}
		i.first = entries[0].GetTerm()
		entries = entries[1:]
	}
	if len(entries) > 0 {
		batch.StageEntries(i.group, entries)
	}
	return i.log.Commit(batch, false)
}

// Close makes the group one that [Store.CreateGroup] opens, durably.
func (i *Import) Close() error {
	data, err := i.reader.Close()
	if err != nil {
		return err
	}
	compacted, compactedTerm := i.reader.compacted, i.reader.compactedTerm
	if compacted == 0 {
		compacted, compactedTerm = 1, i.first
	}
	batch := i.log.NewBatch()
	batch.Install(i.group, compacted, compactedTerm)
	importState(batch, i.group, i.members, Snapshot{Index: i.reader.Index, Term: i.term, Data: data})
	return i.log.Commit(batch, true)
}

// ImportState writes a group that a log store does not have from a machine's state
// alone, as if that were the checkpoint after entry 1.
func ImportState(log LogStore, group GroupID, data []byte, members []NodeID) error {
	batch := log.NewBatch()
	batch.Install(group, 1, 1)
	importState(batch, group, members, Snapshot{Index: 1, Term: 1, Data: data})
	return log.Commit(batch, true)
}

func importState(batch LogBatch, group GroupID, members []NodeID, s Snapshot) {
	cs := &raftpb.ConfState{}
	for _, m := range members {
		cs.Voters = append(cs.Voters, uint64(m))
	}
	batch.SetMembers(group, cs)
	batch.SetHardState(group, HardState{Term: s.Term, Commit: s.Index})
	batch.SetSnapshot(group, s)
}
