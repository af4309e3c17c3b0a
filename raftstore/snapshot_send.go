package raftstore

import (
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// maxSnapshotSends bounds the snapshots a node sends at the same time. More would
// take longer each, and keep the disk from reusing space meanwhile.
const maxSnapshotSends = 4

// snapshotSend is a snapshot on its way to a follower. It belongs to the loop.
type snapshotSend struct {
	to NodeID
	// index is that of the checkpoint: the follower goes on behind it.
	index uint64
	// source is nil after a failure: what is left is the pause before Raft hears
	// of it. It would send the next one at once.
	source *snapshotSource
	// reading: source is being read from outside of the loop.
	reading bool
	// chunk is the one that the follower has to take next, if loaded.
	chunk  SnapshotChunk
	loaded bool
	// pause is how many ticks nothing is done, quiet how many passed since the
	// chunk was sent, 0: it was not; idle how many since the follower took one.
	pause, quiet, idle int
}

// sendSnapshot starts a snapshot to a follower. Its fate is reported to Raft in
// any case that leaves this node leading.
func (l *loop) sendSnapshot(r *replica, to NodeID, m *raftpb.Message) {
	if old := r.sends[to]; old != nil {
		old.drop()
	}
	if r.sends == nil {
		r.sends = make(map[NodeID]*snapshotSend)
	}
	s := &snapshotSend{to: to, index: r.checkpointIndex, pause: l.cfg.ElectionTicks}
	r.sends[to] = s
	if l.snapshotSends() >= maxSnapshotSends {
		return
	}
	view, err := l.cfg.Log.View(r.id())
	if err != nil {
		l.cfg.Logger.Warn("snapshot not sent", "group", r.id(), "to", to, "error", err)
		return
	}
	l.sendSeq++
	l.counters.SnapshotsSent.Add(1)
	s.pause = 0
	s.source = &snapshotSource{
		view: view, msg: m, from: l.cfg.NodeID, group: r.id(), stream: l.incarnation + l.sendSeq,
		retain: r.cfg.RetainLog, limit: l.cfg.SnapshotChunkBytes,
	}
	l.advanceSend(r, s)
}

func (l *loop) snapshotSends() (n int) {
	for _, r := range l.order {
		for _, s := range r.sends {
			if s.source != nil {
				n++
			}
		}
	}
	return n
}

// drop gives up the view. Whoever is reading it does that in the end.
func (s *snapshotSend) drop() {
	if s.source != nil && !s.reading {
		s.source.close()
	}
	s.source = nil
}

// dropSends ends all sending, of which Raft needs not hear.
func (r *replica) dropSends() {
	for _, s := range r.sends {
		s.drop()
	}
	r.sends = nil
}

// failSend gives up; Raft hears of it after a pause.
func (l *loop) failSend(r *replica, s *snapshotSend, reason string, err error) {
	l.cfg.Logger.Warn(reason, "group", r.id(), "to", s.to, "chunk", s.chunk.Seq, "error", err)
	s.drop()
	s.pause = l.cfg.ElectionTicks
}

// advanceSend does the next step: sends what is loaded, or has it loaded.
func (l *loop) advanceSend(r *replica, s *snapshotSend) {
	switch {
	case s.source == nil || s.reading || s.pause > 0:
	case s.loaded:
		l.sendChunk(r, s)
	case l.snapshotBudget > 0:
		s.reading = true
		source := s.source
		l.background(func() {
			chunk, err := source.next()
			if !l.later(func() { l.chunkRead(r, s, source, chunk, err) }) {
				source.close()
			}
		})
	}
}

func (l *loop) chunkRead(r *replica, s *snapshotSend, source *snapshotSource, chunk SnapshotChunk, err error) {
	s.reading = false
	switch {
	case s.source != source || r.sends[s.to] != s:
		source.close()
	case err != nil:
		l.failSend(r, s, "snapshot not read", err)
	default:
		l.snapshotBudget -= int64(len(chunk.Data))
		l.counters.SnapshotBytesSent.Add(uint64(len(chunk.Data)))
		s.chunk, s.loaded = chunk, true
		l.sendChunk(r, s)
	}
}

func (l *loop) sendChunk(r *replica, s *snapshotSend) {
	s.quiet = 1
	source, seq := s.source, s.chunk.Seq
	l.cfg.Transport.SendChunk(s.to.Process(), s.chunk, func(a SnapshotAnswer) {
		l.later(func() {
			if s.source == source && r.sends[s.to] == s && s.loaded && s.chunk.Seq == seq && s.quiet > 0 {
				l.chunkAnswered(r, s, a)
			}
		})
	})
}

// chunkAnswered takes the follower's answer to the chunk that was sent last.
func (l *loop) chunkAnswered(r *replica, s *snapshotSend, a SnapshotAnswer) {
	s.quiet = 0
	switch {
	case a.Err != nil:
		s.pause = max(l.cfg.ElectionTicks/2, 1)
	case a.Done:
		s.drop()
		delete(r.sends, s.to)
		r.rn.ReportSnapshot(uint64(s.to), raft.SnapshotFinish)
		r.touch()
	case a.Next > s.chunk.Seq:
		s.idle, s.loaded, s.chunk.Data = 0, false, nil
		l.advanceSend(r, s)
	case a.Next == s.chunk.Seq: // it did not get that far
		s.pause = max(l.cfg.ElectionTicks/2, 1)
	default: // it was restarted, and what it had staged is gone
		s.source.rewind()
		s.loaded, s.pause = false, max(l.cfg.ElectionTicks/2, 1)
	}
}

// tickSends counts the time of all that is being sent, and lets go on what had to
// wait.
func (r *replica) tickSends() {
	if len(r.sends) == 0 {
		return // as nearly always
	}
	timeout := int(r.loop.cfg.SnapshotTimeout/r.loop.cfg.TickInterval) + 1
	for _, to := range slices.Sorted(maps.Keys(r.sends)) {
		s := r.sends[to]
		s.pause = max(s.pause-1, 0)
		switch {
		case s.source == nil && s.pause == 0:
			delete(r.sends, to)
			r.rn.ReportSnapshot(uint64(to), raft.SnapshotFailure)
			r.touch()
			continue
		case s.source == nil:
			continue
		}
		if s.idle++; s.idle > timeout {
			r.loop.failSend(r, s, "snapshot not taken in time", nil)
			continue
		}
		if s.quiet > 0 {
			if s.quiet++; s.quiet <= max(timeout/4, 1) {
				continue // the answer may yet come
			}
		}
		r.loop.advanceSend(r, s)
	}
}

// tickSnapshotBudget adds what may be sent in a tick. What is not used is not
// saved up.
func (l *loop) tickSnapshotBudget() {
	perTick := max(int64(float64(l.cfg.SnapshotBytesPerSecond)*l.cfg.TickInterval.Seconds()), 1)
	l.snapshotBudget = min(l.snapshotBudget+perTick, perTick)
}
