package coordinator

import (
	"fmt"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/txn"
)

// partitionSet is the catalogue as the group core asks it.
type partitionSet struct{ *catalog.Catalog }

// HasPartition implements [group.Catalog].
func (s partitionSet) HasPartition(id uint64) bool {
	_, ok := s.Partition(id)
	return ok
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

// offsetsPayload encodes the offsets of a commit for its command. The caller
// holds the state still.
func (c *Coordinator) offsetsPayload(all []*oncelogv1.GroupOffsets) ([]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	if err := checkCount("offsets", len(all), group.MaxCommits); err != nil {
		return nil, err
	}
	commits := make([]group.Commit, 0, len(all))
	for i, g := range all {
		commit, err := c.commitOf(fmt.Sprintf("offsets[%d]", i), g)
		if err != nil {
			return nil, err
		}
		commits = append(commits, commit)
	}
	payload := group.AppendCommits(nil, commits)
	if len(payload) > txn.MaxOffsetsPayload {
		return nil, tooLong("offsets", txn.MaxOffsetsPayload)
	}
	return payload, nil
}

// commitOf checks and converts the offsets of one group.
func (c *Coordinator) commitOf(field string, g *oncelogv1.GroupOffsets) (group.Commit, error) {
	if err := checkName(field+".group_id", g.GetGroupId(), true); err != nil {
		return group.Commit{}, err
	}
	if err := checkName(field+".member_id", g.GetMemberId(), false); err != nil {
		return group.Commit{}, err
	}
	if err := checkCount(field+".offsets", len(g.GetOffsets()), maxList); err != nil {
		return group.Commit{}, err
	}
	commit := group.Commit{Group: g.GetGroupId(), Member: g.GetMemberId(), Generation: g.GetGeneration()}
	for i, o := range g.GetOffsets() {
		at := fmt.Sprintf("%s.offsets[%d]", field, i)
		p, err := resolve(c.state.catalog, at+".partition", o.GetPartition())
		if err != nil {
			return group.Commit{}, err
		}
		if len(o.GetMetadata()) > maxMetadata {
			return group.Commit{}, tooLong(at+".metadata", maxMetadata)
		}
		e := group.Entry{Partition: p.ID, Offset: o.GetOffset(), Metadata: o.GetMetadata()}
		if o.ExpectedOffset != nil {
			e.Expected, e.HasExpected = o.GetExpectedOffset(), true
		}
		commit.Entries = append(commit.Entries, e)
	}
	return commit, nil
}
