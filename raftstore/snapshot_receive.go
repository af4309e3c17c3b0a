package raftstore

import (
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"
)

// maxSnapshotsReceived bounds the snapshots a node receives at the same time: the
// checkpoint of each is in memory until it is installed.
const maxSnapshotsReceived = 4

var (
	errStaleSnapshot = errors.New("raftstore: snapshot of a leader that is none any more")
	errOtherLife     = errors.New("raftstore: snapshot for another life of this node in the group")
	errChecksum      = fmt.Errorf("%w: wrong checksum of a chunk", ErrBadSnapshot)
	errTooMany       = fmt.Errorf("%w: too many snapshots at once", ErrOverloaded)
)

// receiving is a snapshot that is being staged. It belongs to the loop.
type receiving struct {
	from   NodeID
	stream uint64
	next   uint64 // the Seq that is waited for
	msg    *raftpb.Message
	manifest
	index, term uint64
	entry       uint64 // the next
	checkpoint  []byte
	complete    bool // handed to Raft
	idle        int  // ticks since the last chunk
}

// receivedChunk is a chunk with whom to tell.
type receivedChunk struct {
	chunk SnapshotChunk
	done  func(SnapshotAnswer)
}

// DeliverChunk takes a part of a snapshot from another node. It never blocks. done
// is called exactly once, from the owner loop or inline, and must not block. The
// store owns the chunk from now on.
func (s *Store) DeliverChunk(c SnapshotChunk, done func(SnapshotAnswer)) {
	if !s.in.addChunk(receivedChunk{c, done}, int64(len(c.Data))) {
		s.counters.InboundDropped.Add(1)
		done(SnapshotAnswer{Err: ErrOverloaded})
	}
}

// receiveChunk stages a chunk and answers it. The staging is not synced: the write
// that installs it is, and comes after it in the same log.
func (l *loop) receiveChunk(c receivedChunk) {
	if l.failed != nil {
		c.done(SnapshotAnswer{Err: ErrStopped})
		return
	}
	batch := l.cfg.Log.NewBatch()
	answer := l.takeChunk(c.chunk, batch)
	if !l.commit(batch, false) {
		answer = SnapshotAnswer{Err: ErrStopped}
	}
	c.done(answer)
}

func (l *loop) takeChunk(c SnapshotChunk, batch LogBatch) SnapshotAnswer {
	r := l.replicas[c.Group]
	switch {
	case r == nil:
		return SnapshotAnswer{Err: ErrGroupNotFound}
	case l.diskLow:
		return SnapshotAnswer{Err: ErrDiskLow}
	case crc32.Checksum(c.Data, castagnoli) != c.Sum:
		return SnapshotAnswer{Err: errChecksum}
	}
	in := r.receiving
	known := in != nil && in.from == c.From && in.stream == c.Stream
	switch {
	case known && in.complete:
		return SnapshotAnswer{Done: true}
	case c.Seq == 0 && !known:
		return r.beginReceiving(c, batch)
	case !known:
		return SnapshotAnswer{}
	case c.Seq != in.next:
		return SnapshotAnswer{Next: in.next}
	}
	err := r.stageChunk(in, c, batch)
	if err == nil && c.Last {
		err = in.checkComplete()
	}
	if err != nil {
		// What is staged is of no use, and the sender has to start over.
		l.cfg.Logger.Warn("snapshot refused", "group", c.Group, "from", c.From, "error", err)
		r.dropReceiving(batch)
		return SnapshotAnswer{Err: err}
	}
	in.next++
	in.idle = 0
	l.counters.SnapshotBytesReceived.Add(uint64(len(c.Data)))
	if c.Last {
		in.complete = true
		l.complete = append(l.complete, r)
		r.step(in.msg)
		r.touch()
	}
	return SnapshotAnswer{Next: in.next, Done: c.Last}
}

// beginReceiving takes the header of a snapshot. An earlier one that is not yet
// complete makes room: its sender sends no more, or has lost its office.
func (r *replica) beginReceiving(c SnapshotChunk, batch LogBatch) SnapshotAnswer {
	meta := c.Header.GetSnapshot().GetMetadata()
	m, err := decodeManifest(c.Header.GetSnapshot().GetData())
	switch {
	case c.Header.GetType() != raftpb.MsgSnap || NodeID(c.Header.GetFrom()).Process() != c.From || meta.GetIndex() == 0 || m.compacted > meta.GetIndex():
		return SnapshotAnswer{Err: errDamagedChunk}
	case err != nil:
		return SnapshotAnswer{Err: err}
	case c.Header.GetTo() != uint64(r.self):
		return SnapshotAnswer{Err: errOtherLife}
	case c.Header.GetTerm() < r.hard.Term:
		return SnapshotAnswer{Err: errStaleSnapshot}
	case meta.GetIndex() <= r.hard.Commit: // Raft tells the leader how far this node is
		r.step(c.Header)
		r.touch()
		return SnapshotAnswer{Done: true}
	case r.receiving == nil && r.loop.snapshotsReceived() >= maxSnapshotsReceived:
		return SnapshotAnswer{Err: errTooMany}
	}
	r.dropReceiving(batch)
	r.receiving = &receiving{
		from: c.From, stream: c.Stream, next: 1, msg: c.Header,
		manifest: m, index: meta.GetIndex(), term: meta.GetTerm(), entry: m.compacted + 1,
	}
	return SnapshotAnswer{Next: 1}
}

func (l *loop) snapshotsReceived() (n int) {
	for _, r := range l.order {
		if r.receiving != nil {
			n++
		}
	}
	return n
}

// stageChunk adds what a chunk holds to the batch.
func (r *replica) stageChunk(in *receiving, c SnapshotChunk, batch LogBatch) error {
	contents, err := decodeChunk(c.Data)
	if err != nil {
		return err
	}
	for _, piece := range contents.checkpoint {
		if uint64(len(in.checkpoint)+len(piece)) > in.checkpointBytes {
			return fmt.Errorf("%w: more checkpoint than the %d bytes that were stated", ErrBadSnapshot, in.checkpointBytes)
		}
		in.checkpoint = append(in.checkpoint, piece...)
	}
	for _, row := range contents.rows {
		batch.StageRow(r.id(), row[0], row[1])
	}
	for _, e := range contents.entries {
		if e.GetIndex() != in.entry || e.GetIndex() > in.index {
			return fmt.Errorf("%w: entry %d instead of %d of %d", ErrBadSnapshot, e.GetIndex(), in.entry, in.index)
		}
		in.entry++
	}
	if len(contents.entries) > 0 {
		batch.StageEntries(r.id(), contents.entries)
	}
	return nil
}

func (in *receiving) checkComplete() error {
	if uint64(len(in.checkpoint)) != in.checkpointBytes || in.entry != in.index+1 {
		return fmt.Errorf("%w: it ends with %d of %d bytes of checkpoint and entry %d of %d", ErrBadSnapshot,
			len(in.checkpoint), in.checkpointBytes, in.entry-1, in.index)
	}
	return nil
}

// dropReceiving forgets what is being received.
func (r *replica) dropReceiving(batch LogBatch) {
	if r.receiving != nil {
		r.receiving = nil
		batch.DiscardStaged(r.id())
	}
}

// dropUnwanted drops what Raft was given in this turn and did not want.
func (l *loop) dropUnwanted() {
	if l.failed != nil {
		return
	}
	for _, r := range l.complete {
		if in := r.receiving; in != nil && in.complete {
			batch := l.cfg.Log.NewBatch()
			r.dropReceiving(batch)
			l.commit(batch, false)
		}
	}
	clear(l.complete)
	l.complete = l.complete[:0]
}

// tickReceiving drops a snapshot whose sender went away.
func (r *replica) tickReceiving() {
	in := r.receiving
	if in == nil || in.complete {
		return
	}
	if in.idle++; in.idle > int(r.loop.cfg.SnapshotTimeout/r.loop.cfg.TickInterval)+1 {
		batch := r.loop.cfg.Log.NewBatch()
		r.dropReceiving(batch)
		r.loop.commit(batch, false)
	}
}

// install adds the received snapshot that Raft has accepted to the batch.
func (r *replica) install(batch LogBatch, meta *raftpb.SnapshotMetadata) {
	in := r.receiving
	if in == nil || !in.complete || in.index != meta.GetIndex() || in.term != meta.GetTerm() {
		// Raft gets a MsgSnap only from takeChunk.
		panic(brokenInvariant{text: fmt.Sprintf("group %d: a snapshot at %d that was not received", r.id(), meta.GetIndex())})
	}
	batch.Install(r.id(), in.compacted, in.compactedTerm)
	batch.SetSnapshot(r.id(), Snapshot{Index: in.index, Term: in.term, Data: in.checkpoint})
	batch.SetMembers(r.id(), meta.GetConfState())
	r.compacting, r.compactingTerm = 0, 0 // of the log that goes
	// Before the write, and not after: who reads an entry meanwhile must know
	// which are gone.
	r.log.reset(in.compacted, in.compactedTerm, in.index)
}

// installed takes note that the snapshot is durable.
func (r *replica) installed() error {
	in := r.receiving
	r.receiving = nil
	if err := r.cfg.Machine.Restore(in.index, in.checkpoint); err != nil {
		return fmt.Errorf("group %d: restore received snapshot at %d: %w", r.id(), in.index, err)
	}
	r.applied, r.appliedTerm = in.index, in.term
	r.checkpointIndex, r.checkpointBytes, r.checkpointSize = in.index, 0, uint64(len(in.checkpoint))
	r.log.checkpointed(in.index, in.term)
	r.members = in.msg.GetSnapshot().GetMetadata().GetConfState()
	r.membersTaken()
	r.loop.counters.SnapshotsReceived.Add(1)
	return nil
}
