package coordinator

import (
	"context"
	"fmt"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
)

// partitionSet is the catalogue as the group core asks it.
type partitionSet struct{ *catalog.Catalog }

// HasPartition implements [group.Catalog].
func (s partitionSet) HasPartition(id uint64) bool {
	_, ok := s.Partition(id)
	return ok
}

// TopicPartitions implements [group.Catalog].
func (s partitionSet) TopicPartitions(topic string) []uint64 {
	t, _ := s.Topic(topic)
	return t.Partitions
}

// commitOffsets lets the offsets of one commit ride on its decision: the txn
// core asks whether they may move when everything else allows the commit, and
// moves them in the very step that decides it.
type commitOffsets struct {
	groups  *group.Machine
	catalog group.Catalog
	by      group.TxnRef
	commits []group.Commit
	at      int64
	refusal group.Refusal
}

// Check implements [txn.Offsets].
func (o *commitOffsets) Check() bool {
	o.refusal = o.groups.CheckCommits(o.catalog, o.by, o.commits)
	return o.refusal.OK()
}

// Move implements [txn.Offsets].
func (o *commitOffsets) Move() { o.groups.ApplyCommits(o.at, o.by, o.commits) }

// Hold implements [txn.Offsets].
func (o *commitOffsets) Hold() { o.groups.HoldCommits(o.at, o.by, o.commits) }

// checkOffsets checks the form of all offsets of one request.
func checkOffsets(all []*oncelogv1.GroupOffsets) error {
	if err := checkCount("offsets", len(all), group.MaxCommits); err != nil {
		return err
	}
	total := 0
	for i, g := range all {
		if err := checkGroupOffsets(fmt.Sprintf("offsets[%d]", i), g); err != nil {
			return err
		}
		if total += len(g.GetOffsets()); total > group.MaxPartitions {
			return tooLong("offsets", group.MaxPartitions)
		}
	}
	return nil
}

// checkGroupOffsets checks the form of the offsets of one group.
func checkGroupOffsets(field string, g *oncelogv1.GroupOffsets) error {
	if err := checkName(field+".group_id", g.GetGroupId(), true); err != nil {
		return err
	}
	if err := checkName(field+".member_id", g.GetMemberId(), false); err != nil {
		return err
	}
	if err := checkCount(field+".offsets", len(g.GetOffsets()), maxList); err != nil {
		return err
	}
	for i, o := range g.GetOffsets() {
		at := func() string { return fmt.Sprintf("%s.offsets[%d]", field, i) }
		if err := checkPartition(o.GetPartition(), func() string { return at() + ".partition" }); err != nil {
			return err
		}
		if len(o.GetMetadata()) > maxMetadata {
			return tooLong(at()+".metadata", maxMetadata)
		}
	}
	return nil
}

// commitOf converts the offsets of one group. A partition that does not exist
// becomes partition 0, which never does, so that the group refuses it; unknown
// says which it was. The caller holds the state still.
func (c *Coordinator) commitOf(field string, g *oncelogv1.GroupOffsets) (commit group.Commit, unknown error) {
	commit = group.Commit{Group: g.GetGroupId(), Member: g.GetMemberId(), Generation: g.GetGeneration()}
	commit.Entries = make([]group.Entry, 0, len(g.GetOffsets()))
	for i, o := range g.GetOffsets() {
		p, ok := resolve(c.state.catalog, o.GetPartition())
		if !ok && unknown == nil {
			unknown = unknownPartition(c.state.catalog, fmt.Sprintf("%s.offsets[%d].partition", field, i), o.GetPartition())
		}
		e := group.Entry{Partition: p.ID, Offset: o.GetOffset(), Metadata: o.GetMetadata()}
		if o.ExpectedOffset != nil {
			e.Expected, e.HasExpected = o.GetExpectedOffset(), true
		}
		commit.Entries = append(commit.Entries, e)
	}
	return commit, unknown
}

// commitsOf converts the offsets that ride on a commit; see commitOf.
func (c *Coordinator) commitsOf(all []*oncelogv1.GroupOffsets) (commits []group.Commit, unknown error) {
	for i, g := range all {
		commit, err := c.commitOf(fmt.Sprintf("offsets[%d]", i), g)
		if unknown == nil {
			unknown = err
		}
		commits = append(commits, commit)
	}
	return commits, unknown
}

// withCatalog runs fn, which resolves partitions, with the state held still,
// and once more after catching up when a partition was not found.
func (c *Coordinator) withCatalog(ctx context.Context, fn func() error) error {
	var unknown error
	c.state.read(func() { unknown = fn() })
	if unknown == nil {
		return nil
	}
	if err := c.current(ctx); err != nil {
		return err
	}
	c.state.read(func() { unknown = fn() })
	return unknown
}
