package raftstore

import (
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"
)

// snapshotSource cuts a view of a group into chunks. It is used by one goroutine
// at a time, which may be one outside of the loop: it reads from the disk.
type snapshotSource struct {
	view   LogView
	msg    *raftpb.Message // what Raft wanted to send
	from   NodeID
	group  GroupID
	stream uint64
	retain bool
	limit  int // bytes in a chunk

	state      LogState
	checkpoint Snapshot

	seq   uint64
	phase int
	pos   int    // in the checkpoint
	row   []byte // the least key of the rows to come
	entry uint64 // the next
}

// What comes next.
const (
	phaseHeader = iota
	phaseCheckpoint
	phaseRows
	phaseEntries
	phaseEnd
)

// rewind starts over.
func (s *snapshotSource) rewind() {
	s.seq, s.phase, s.pos, s.row = 0, phaseHeader, 0, nil
	s.entry = s.manifest().compacted + 1
}

// open reads what the header tells.
func (s *snapshotSource) open() (err error) {
	if s.state, err = s.view.Load(); err != nil {
		return err
	}
	if s.checkpoint, err = s.view.Snapshot(); err != nil {
		return err
	}
	if n := len(s.checkpoint.Data); n > MaxCheckpointBytes {
		return fmt.Errorf("raftstore: the checkpoint of group %d has %d bytes, a snapshot can have %d", s.group, n, MaxCheckpointBytes)
	}
	s.rewind()
	return nil
}

// manifest tells how the follower's log begins: where the log is the data, as
// this one does; else behind the checkpoint.
func (s *snapshotSource) manifest() manifest {
	m := manifest{s.checkpoint.Index, s.checkpoint.Term, uint64(len(s.checkpoint.Data))}
	if s.retain {
		m.compacted, m.compactedTerm = s.state.CompactedIndex, s.state.CompactedTerm
	}
	return m
}

// next returns the next chunk.
func (s *snapshotSource) next() (SnapshotChunk, error) {
	if s.checkpoint.Index == 0 {
		if err := s.open(); err != nil {
			return SnapshotChunk{}, err
		}
	}
	c := SnapshotChunk{Group: s.group, From: s.from, Stream: s.stream, Seq: s.seq}
	if s.phase == phaseHeader {
		c.Header = s.header()
		s.phase++
	} else if err := s.fill(&c); err != nil {
		return SnapshotChunk{}, err
	}
	c.Sum = crc32.Checksum(c.Data, castagnoli)
	c.Last = s.phase == phaseEnd
	s.seq++
	return c, nil
}

// header is the MsgSnap that tells of the view: it may be newer than the
// checkpoint that Raft saw.
func (s *snapshotSource) header() *raftpb.Message {
	m := s.msg
	return &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index, Commit: m.Commit,
		Snapshot: &raftpb.Snapshot{
			Data: s.manifest().encode(),
			Metadata: &raftpb.SnapshotMetadata{
				ConfState: s.state.Members, Index: &s.checkpoint.Index, Term: &s.checkpoint.Term,
			},
		},
	}
}

// fill adds data until the chunk is full or there is no more.
func (s *snapshotSource) fill(c *SnapshotChunk) error {
	if data := s.checkpoint.Data; s.phase == phaseCheckpoint {
		n := min(s.limit, len(data)-s.pos)
		if n > 0 {
			c.Data = appendCheckpoint(c.Data, data[s.pos:s.pos+n])
		}
		if s.pos += n; s.pos == len(data) {
			s.phase++
		}
	}
	if s.phase == phaseRows && len(c.Data) < s.limit {
		full := false
		err := s.view.Rows().Scan(s.row, nil, func(key, value []byte) bool {
			if full = len(c.Data) >= s.limit; full {
				s.row = append(s.row[:0], key...)
				return false
			}
			c.Data = appendRow(c.Data, key, value)
			return true
		})
		if err != nil {
			return err
		}
		if !full {
			s.phase++
		}
	}
	for s.phase == phaseEntries && len(c.Data) < s.limit {
		if s.entry > s.checkpoint.Index {
			s.phase++
			break
		}
		entries, err := s.view.Entries(s.entry, s.checkpoint.Index+1, uint64(s.limit-len(c.Data)))
		if err != nil {
			return err
		}
		for _, e := range entries {
			c.Data = appendEntry(c.Data, e)
		}
		s.entry += uint64(len(entries))
	}
	return nil
}

func (s *snapshotSource) close() { _ = s.view.Close() }
