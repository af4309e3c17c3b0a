package raftstore

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Disk is what a store knows of the space on its device.
type Disk struct {
	// FreeBytes is what was left when it was last looked at, MinFreeBytes the
	// low-water mark; 0 and 0 without one, or before the first look.
	FreeBytes, MinFreeBytes uint64
	// Low: less is left than the mark. The store refuses proposals with
	// ErrDiskLow, and hands its leaderships to members that can take over.
	Low bool
}

// Disk returns what was seen of the device at the last look, about a second ago.
func (s *Store) Disk() Disk {
	d := s.loop.disk.Load()
	if d == nil {
		return Disk{}
	}
	return *d
}

// diskWatch is the loop's view of the space on its device.
type diskWatch struct {
	disk    atomic.Pointer[Disk] // for others than the loop
	diskLow bool
	// offered counts the rounds in which leaderships were offered to others.
	offered uint64
}

// watchDisk looks at the device, at every tick of every second or so: a statfs is
// not free.
func (l *loop) watchDisk() {
	every := max(1, uint64(time.Second/l.cfg.TickInterval))
	if l.cfg.MinFreeBytes <= 0 || l.ticks%every != 1%every {
		return
	}
	free, err := l.cfg.Log.FreeBytes()
	if err != nil {
		return // an unknown amount is no reason to refuse
	}
	low := free < uint64(l.cfg.MinFreeBytes)
	if low != l.diskLow {
		l.cfg.Logger.Warn("disk low-water mark crossed", "free_bytes", free, "min_free_bytes", l.cfg.MinFreeBytes, "low", low)
	}
	crossed := low && !l.diskLow
	l.diskLow = low
	l.disk.Store(&Disk{FreeBytes: free, MinFreeBytes: uint64(l.cfg.MinFreeBytes), Low: low})
	// An offer that was not taken is over after an election timeout.
	if rounds := l.ticks / every; crossed || low && rounds%max(1, 2*uint64(l.cfg.ElectionTicks)/every) == 0 {
		l.offerLeaderships()
	}
}

// offerLeaderships asks a follower of each group that is led here to take over: a
// leader that refuses every proposal holds up a group that others could serve.
// Nobody knows whose disk is low as well; those do not take the offer, so each
// round asks the next one.
func (l *loop) offerLeaderships() {
	l.offered++
	for _, r := range l.order {
		if r.role != raft.StateLeader || r.transfer != nil {
			continue
		}
		if to := r.successor(l.offered); to != 0 {
			l.cfg.Logger.Debug("disk is low: leadership is offered to another member", "group", r.id(), "to", to)
			r.rn.TransferLeader(to)
			r.touch()
		}
	}
}

// successor returns one of the followers that keep up, another one each round; 0
// without any. Whether one was heard of lately is not asked: Raft forgets that
// once in an election timeout, which may always be now.
func (r *replica) successor(round uint64) uint64 {
	var able []uint64
	r.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id != uint64(r.self) && typ == raft.ProgressTypePeer && pr.State == tracker.StateReplicate {
			able = append(able, id)
		}
	})
	if len(able) == 0 {
		return 0
	}
	return able[round%uint64(len(able))]
}

// refuses reports whether a message is not taken because of the disk: the wish
// that this node leads, where it could only refuse proposals.
func (l *loop) refuses(m *raftpb.Message) bool {
	return l.diskLow && m.GetType() == raftpb.MsgTimeoutNow
}
