package chaos

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/chaos/diskfault"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// diskFaults are what befalls disks.
func diskFaults() []*fault {
	return []*fault{
		{name: "slow-fsync", disk: true, run: (*scene).slowSync},
		{name: "fsync-fails", disk: true, run: (*scene).syncFails},
		{name: "disk-full", disk: true, run: (*scene).diskFull},
		{name: "disk-low", disk: true, run: (*scene).diskLow},
		{name: "power-cut", disk: true, run: func(s *scene) error { return s.powerCut(s.someNode()) }},
		{name: "power-cut-role", disk: true, run: func(s *scene) error { return s.powerCut(s.of(s.role())...) }},
		{name: "power-cut-all", disk: true, run: func(s *scene) error { return s.powerCut(s.cluster.Nodes()...) }},
	}
}

// sick gives nodes faults of their disks for the fault's time.
func (s *scene) sick(nodes []*cluster.Node, f diskfault.Faults) error {
	err := each(nodes, func(n *cluster.Node) error { return s.disks[n].Set(f) })
	s.wait()
	return errors.Join(err, each(nodes, func(n *cluster.Node) error { return s.disks[n].Set(diskfault.Faults{}) }))
}

// slowSync makes fsync slow, on one node or on all.
func (s *scene) slowSync() error {
	f := diskfault.Faults{SyncDelay: between(s.rng, 20*time.Millisecond, 600*time.Millisecond)}
	nodes := []*cluster.Node{s.someLeader()}
	if s.rng.IntN(3) == 0 {
		nodes = s.cluster.Nodes()
	}
	what := fmt.Sprintf("fsync takes %v", f.SyncDelay.Round(time.Millisecond))
	return s.seized(nodes, what, func(nodes []*cluster.Node) error { return s.sick(nodes, f) })
}

// endLimit is how long a node may take to end after its disk has failed.
const endLimit = 20 * time.Second

// syncFails makes fsync fail on a node, which has to end by itself: with a disk
// that does not say what it keeps, nothing can be acknowledged (I12). It is
// started again on what the disk has kept.
func (s *scene) syncFails() error {
	n := s.someLeader()
	return s.seized([]*cluster.Node{n}, "fsync fails", func([]*cluster.Node) error {
		disk := s.disks[n]
		before, err := disk.Stats()
		if err == nil {
			err = disk.Set(diskfault.Faults{SyncFails: true})
		}
		if err != nil {
			return err
		}
		ended := s.awaitEnd(n)
		_ = n.Kill() // an error: it has ended
		after, err := disk.Stats()
		if !ended && s.ctx.Err() == nil && after.FailedSyncs > before.FailedSyncs {
			err = errors.Join(err, fmt.Errorf("I12: %v goes on %v after an fsync has failed", n, endLimit))
		}
		return errors.Join(err, s.lose(n), disk.Set(diskfault.Faults{}), s.raise(n))
	})
}

// awaitEnd waits for a node to end by itself.
func (s *scene) awaitEnd(n *cluster.Node) bool {
	for limit := time.Now().Add(endLimit); n.Exited() == nil; s.pause(20 * time.Millisecond) {
		if time.Now().After(limit) || s.ctx.Err() != nil {
			return false
		}
	}
	return true
}

// diskFull leaves a node no space at all. It may end by itself, or refuse all
// work until there is space again.
func (s *scene) diskFull() error {
	n := s.someLeader()
	return s.seized([]*cluster.Node{n}, "the disk is full", func(nodes []*cluster.Node) error {
		err := s.sick(nodes, diskfault.Faults{Full: true})
		if n.Exited() != nil {
			s.tell("%v has ended", n)
			err = errors.Join(err, s.raise(n))
		}
		return err
	})
}

// diskLow leaves a node less space than it is told to keep free: it has to refuse
// work, and to go on when there is space again.
func (s *scene) diskLow() error {
	nodes := []*cluster.Node{s.someNode()}
	if s.rng.IntN(3) == 0 {
		nodes = s.of(s.role())
	}
	return s.seized(nodes, "little space", func(nodes []*cluster.Node) error {
		return s.sick(nodes, diskfault.Faults{Low: 1 << 20})
	})
}

// powerCut kills nodes and loses what they have not synced.
func (s *scene) powerCut(nodes ...*cluster.Node) error {
	return s.seized(nodes, "power cut", func(nodes []*cluster.Node) error {
		err := each(nodes, (*cluster.Node).Kill)
		for _, n := range nodes {
			err = errors.Join(err, s.lose(n))
		}
		s.pause(between(s.rng, 0, s.length))
		return errors.Join(err, each(nodes, s.raise))
	})
}

// lose loses what a node that was killed has not synced: all of it, or a part.
func (s *scene) lose(n *cluster.Node) error {
	if s.rng.IntN(2) == 0 {
		return s.disks[n].PowerCut()
	}
	return s.disks[n].TornPowerCut(s.rng.Uint64())
}
