package coordinator

import (
	"errors"
	"fmt"
	"slices"

	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/txn"
)

// check looks at what the invariants of the cores do not: what one core remembers
// of what another knows, and whether answers to different questions about one
// state agree.
func (r *replica) check() error {
	return errors.Join(r.checkGroups(), r.checkOwed(), r.checkIDs(), r.checkShards())
}

// checkGroups: every partition of a group exists, all that is subscribed to is
// meant for somebody, and a group is described as it is listed and as its parts
// are.
func (r *replica) checkGroups() error {
	if err := r.groups.CheckAgainst(partitionSet{r.catalog}); err != nil {
		return err
	}
	for _, by := range r.groups.Holders() {
		if r.txns.Phase(txn.Ref{ProducerID: by.ProducerID, Epoch: by.Epoch, Number: by.Number}) != txn.PhasePrepared {
			return fmt.Errorf("coordinator: transaction %v holds offsets, and is not prepared", by)
		}
	}
	list, more := r.groups.List("", group.MaxGroups)
	offsets := 0
	for _, g := range list {
		d, _ := r.groups.Describe(g.ID)
		for _, p := range d.Partitions {
			if _, ok := r.catalog.Partition(p.Partition); !ok {
				return fmt.Errorf("coordinator: group %q has partition %d, which does not exist", g.ID, p.Partition)
			}
			if p.Offset.CommittedAt > r.groups.Now() {
				return fmt.Errorf("coordinator: a position of group %q is of the future", g.ID)
			}
			if owner, since, _ := r.groups.Owner(g.ID, p.Partition); owner != p.Member || since != p.Since {
				return fmt.Errorf("coordinator: two owners of partition %d in group %q", p.Partition, g.ID)
			}
		}
		for _, m := range d.Members {
			if alone, ok := r.groups.Member(g.ID, m.ID); !ok || alone.JoinedAt != m.JoinedAt || !slices.Equal(alone.Partitions, m.Partitions) {
				return fmt.Errorf("coordinator: member %q of group %q is described in two ways", m.ID, g.ID)
			}
		}
		if _, stranger := r.groups.Member(g.ID, ""); stranger || !r.groups.Has(g.ID) || r.groups.Generation(g.ID) != g.Generation || d.Generation != g.Generation || len(d.Members) != g.Members {
			return fmt.Errorf("coordinator: group %q is described in two ways", g.ID)
		}
		offsets += g.Offsets
	}
	if more || len(list) != r.groups.Count() || offsets != r.groups.OffsetCount() || len(r.groups.Members("")) > 0 || r.groups.Has("") || r.groups.Generation("") != 0 {
		return errors.New("coordinator: groups that are not listed")
	}
	return nil
}

// checkOwed: markers are owed to shards and cover partitions that exist, and are
// counted as they are listed.
func (r *replica) checkOwed() error {
	total := 0
	work := r.txns.Work(r.txns.Now(), 1)
	for _, shard := range work.Shards {
		if !r.catalog.HasShard(shard) {
			return fmt.Errorf("coordinator: markers are owed to shard %d, which does not exist", shard)
		}
		n := 0
		for m := range r.txns.Owed(shard) {
			n++
			for _, p := range m.Progress {
				if !r.catalog.HasPartition(shard, p.Partition) {
					return fmt.Errorf("coordinator: a marker covers partition %d, which does not exist", p.Partition)
				}
			}
			if r.txns.Phase(m.Ref) != txn.PhaseCompleting {
				return fmt.Errorf("coordinator: a marker is owed of transaction %v, which is not completing", m.Ref)
			}
		}
		if n == 0 || n != r.txns.OwedCount(shard) {
			return fmt.Errorf("coordinator: shard %d is owed %d markers, or %d", shard, n, r.txns.OwedCount(shard))
		}
		total += n
	}
	for m := range r.txns.Owed(noShard) {
		return fmt.Errorf("coordinator: a marker of %v is owed to nobody", m.Ref)
	}
	if total != r.txns.Counts().Owed || r.txns.OwedCount(noShard) != 0 {
		return fmt.Errorf("coordinator: %d markers are owed, or %d", total, r.txns.Counts().Owed)
	}
	return nil
}

// checkIDs: a transactional id is described as it is listed and as it is found by
// its producer id, and nothing that is under way counts as complete everywhere.
func (r *replica) checkIDs() error {
	seen, open, prepared := 0, 0, 0
	for page := r.txns.List(txn.ListFilter{}, 0, 0, maxPage); ; page = r.txns.List(txn.ListFilter{}, 0, page.Next, maxPage) {
		for _, s := range page.Items {
			seen++
			d, ok := r.txns.Describe(s.TransactionalID)
			who, known := r.txns.Lookup(s.ProducerID)
			if !ok || !known || who.TransactionalID != s.TransactionalID || d.ProducerID != s.ProducerID || d.Epoch != s.Epoch || d.State != s.State {
				return fmt.Errorf("coordinator: id %q is described in two ways, as %v and as %v", s.TransactionalID, s.State, d.State)
			}
			below, _ := r.txns.CompleteBelow(s.ProducerID)
			for _, c := range d.Completing {
				if c.Ref.Less(below) {
					return fmt.Errorf("coordinator: transaction %v is completing, and complete everywhere", c.Ref)
				}
			}
			if d.Prepared != nil {
				if prepared++; d.Prepared.Ref.Less(below) {
					return fmt.Errorf("coordinator: transaction %v is prepared, and complete everywhere", d.Prepared.Ref)
				}
			}
			if d.Open != nil {
				if open++; d.Open.Ref.Less(below) {
					return fmt.Errorf("coordinator: transaction %v is open, and complete everywhere", d.Open.Ref)
				}
			}
		}
		if page.Next == 0 {
			break
		}
	}
	counts := r.txns.Counts()
	if _, known := r.txns.CompleteBelow(0); known || seen != counts.IDs || open != counts.Open || prepared != counts.Prepared || len(r.txns.Incomplete(0)) > 0 {
		return fmt.Errorf("coordinator: %d ids with %d open transactions are listed, of %d and %d", seen, open, counts.IDs, counts.Open)
	}
	return nil
}

// checkShards: shards have the partitions that are said to be in them.
func (r *replica) checkShards() error {
	total := 0
	for _, s := range r.catalog.Shards() {
		h, ok := r.catalog.Hosted(s.ID)
		if !ok || len(h.Partitions) != r.catalog.PartitionsIn(s.ID) {
			return fmt.Errorf("coordinator: shard %d has %d partitions, or %d", s.ID, len(h.Partitions), r.catalog.PartitionsIn(s.ID))
		}
		total += len(h.Partitions)
	}
	if _, known := r.catalog.Hosted(catalog.FirstShardID - 1); known || total != r.catalog.PartitionCount() {
		return fmt.Errorf("coordinator: %d partitions are in shards, of %d", total, r.catalog.PartitionCount())
	}
	return nil
}
