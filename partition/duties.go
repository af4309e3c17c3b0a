package partition

import (
	"slices"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
)

// runDuties does what the leader of a shard owes besides requests: the shard's
// log has the partitions that the coordinator assigned, producers that no longer
// exist are forgotten, logs start where retention wants it, and a replica takes the
// place of another (moves.go). All are derived
// from state and assignment each time, so nothing is lost with a leader. What every
// replica does for itself is to let go of entries that nobody needs.
func (s *shard) runDuties() {
	n := s.node
	var cursor uint64 // CheckProducers goes around by producer id
	nextCheck := n.run.Now().Add(n.cfg.CheckProducersInterval)
	nextRetention := n.run.Now().Add(n.cfg.RetentionInterval)
	for n.ctx.Err() == nil && !task.Closed(s.gone) {
		wait := n.cfg.RetentionInterval
		if lead := s.group.Leadership(); lead.Ready {
			if !s.syncPartitions(lead.Term) {
				wait = n.cfg.RetryDelay
			}
			if busy := s.move(lead.Term); busy || s.handOver() {
				wait = n.cfg.RetryDelay
			}
			if now := n.run.Now(); !now.Before(nextCheck) {
				cursor = s.checkProducers(lead.Term, cursor)
				nextCheck = now.Add(n.cfg.CheckProducersInterval)
			}
			if now := n.run.Now(); !now.Before(nextRetention) {
				s.retain(lead.Term)
				s.relocate(lead.Term)
				nextRetention = now.Add(n.cfg.RetentionInterval)
			}
			wait = min(wait, max(min(nextCheck.Sub(n.run.Now()), nextRetention.Sub(n.run.Now())), time.Millisecond))
		}
		s.trim()
		n.run.WaitFor(wait, s.duty, s.gone, n.ctx.Done())
	}
}

func (n *Node) nowMillis() int64 { return n.run.Wall().UnixMilli() }

// syncPartitions brings the assigned partitions into the shard's log. False:
// try again.
func (s *shard) syncPartitions(term uint64) bool {
	a := s.assigned.Load()
	cmd, needed := s.partitionChanges(a)
	if !needed {
		return true
	}
	data, err := pstate.EncodeSyncPartitions(nil, cmd)
	if err != nil {
		s.node.log.Error("assignment cannot be applied", "shard", s.id, "error", err)
		return false
	}
	ctx, cancel := s.node.run.WithTimeout(s.node.ctx, s.node.cfg.CallTimeout)
	defer cancel()
	value, err := s.proposeWait(ctx, term, data)
	res, ok := value.(pstate.SyncResult)
	if err != nil || !ok {
		return false
	}
	switch res.Code {
	case pstate.SyncApplied:
		s.node.log.Info("partitions changed", "shard", s.id, "version", cmd.Version, "added", len(res.Added), "removed", len(res.Removed))
		task.Signal(s.node.beat)
		return true
	case pstate.SyncOld:
		return true
	case pstate.SyncLimit:
		s.node.log.Error("the shard cannot host so many partitions", "shard", s.id, "partitions", len(a.GetPartitions()))
	case pstate.SyncGap, pstate.SyncUnknownPartition:
	}
	return false
}

// partitionChanges compares the assignment with the shard's state.
func (s *shard) partitionChanges(a *oncelogv1.ShardAssignment) (cmd pstate.SyncPartitions, needed bool) {
	var have []pstate.PartitionStatus
	s.machine.read(func(st *pstate.State) {
		cmd.From = st.CatalogVersion()
		if needed = a.GetVersion() > cmd.From; needed {
			have = st.Partitions()
		}
	})
	if !needed {
		return cmd, false
	}
	cmd.At, cmd.Version = s.node.nowMillis(), a.GetVersion()
	known := make(map[uint64]pstate.PartitionInfo, len(have))
	for _, p := range have {
		known[p.ID] = p.PartitionInfo
	}
	for _, p := range a.GetPartitions() {
		info := pstate.PartitionInfo{ID: p.GetPartitionId(), TopicID: p.GetTopicId(), Topic: p.GetTopic(), Index: p.GetPartition(), Retention: retentionOf(p), Cleanup: cleanupOf(p)}
		if known[info.ID] != info {
			cmd.Add = append(cmd.Add, info)
		}
		delete(known, info.ID)
	}
	for id := range known {
		cmd.Remove = append(cmd.Remove, id)
	}
	slices.Sort(cmd.Remove)
	return cmd, true
}

// checkProducers asks which of the producers that the shard remembers are gone
// and forgets those, one page per call. It returns where to go on.
func (s *shard) checkProducers(term, after uint64) (next uint64) {
	n := s.node
	var ids []uint64
	s.machine.read(func(st *pstate.State) {
		page := st.FlooredProducers(after, MaxListElements)
		if len(page) == MaxListElements {
			next = page[len(page)-1]
		}
		ids = slices.DeleteFunc(page, func(id uint64) bool {
			p, ok := st.Producer(id)
			return !ok || p.Open > 0
		})
	})
	if len(ids) == 0 {
		return next
	}
	ctx, cancel := n.run.WithTimeout(n.ctx, n.cfg.CallTimeout)
	defer cancel()
	resp, err := n.cfg.Coordinator.CheckProducers(ctx, &oncelogv1.CheckProducersRequest{ProducerIds: ids})
	if err != nil {
		n.log.Debug("check of producers failed", "shard", s.id, "error", err)
		return after
	}
	// Only what was asked about: the answer must not reach further.
	gone := slices.DeleteFunc(slices.Clone(resp.GetGone()), func(id uint64) bool {
		_, asked := slices.BinarySearch(ids, id)
		return !asked
	})
	if len(gone) == 0 {
		return next
	}
	data, err := pstate.EncodeForget(nil, pstate.Forget{At: n.nowMillis(), Producers: gone})
	if err == nil {
		_, err = s.proposeWait(ctx, term, data)
	}
	if err != nil {
		n.log.Debug("forgetting producers failed", "shard", s.id, "error", err)
		return after
	}
	return next
}
