package coordinator

import (
	"errors"
	"fmt"
	"slices"

	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/datafile"
)

// backup returns the state for a backup: a snapshot without keys. The caller holds
// the state still.
func (r *replica) backup() []byte {
	return joinSnapshot(r.catalog.Backup(), r.groups.Snapshot(), r.txns.Snapshot(), r.members.Snapshot())
}

// Contents are what a backup of the coordinators' state has.
type Contents struct {
	ClusterID string
	// Coordinators and Nodes are the members of the cluster, ascending.
	Coordinators, Nodes []uint64
	// Shards have their partitions.
	Shards []catalog.HostedShard
	// How many there are: Open of transactions, Owed of decisions that shards have yet
	// to acknowledge.
	Topics, Groups, Offsets, TransactionalIDs, Open, Owed int
}

// OpenBackup reads the coordinators' part of a backup, and checks it.
func OpenBackup(state []byte) (Contents, error) {
	r, err := openBackup(state)
	if err != nil {
		return Contents{}, err
	}
	counts := r.txns.Counts()
	c := Contents{
		ClusterID: r.catalog.ClusterID(), Topics: r.catalog.TopicCount(), Groups: r.groups.Count(), Offsets: r.groups.OffsetCount(),
		TransactionalIDs: counts.IDs, Open: counts.Open, Owed: counts.Owed,
	}
	for _, m := range r.members.Members() {
		c.Coordinators = append(c.Coordinators, m.ID)
	}
	for _, n := range r.catalog.Nodes() {
		c.Nodes = append(c.Nodes, n.ID)
	}
	for _, s := range r.catalog.Shards() {
		h, _ := r.catalog.Hosted(s.ID)
		c.Shards = append(c.Shards, h)
	}
	return c, nil
}

func openBackup(state []byte) (*replica, error) {
	if len(state) == 0 {
		return nil, errors.New("coordinator: the state is empty")
	}
	if err := CheckSnapshot(Rules(), state); err != nil {
		return nil, err
	}
	r := NewOffline(Rules(), nil).r
	return r, r.Restore(1, state)
}

// NewHome is the cluster in which a backup is to go on.
type NewHome struct {
	catalog.NewHome
	// Coordinators are its first coordinators, at least one.
	Coordinators []uint64
}

// Restored returns the state with which the coordinators of a new cluster begin,
// and where its shards are. The same backup and home give
// the same bytes.
//
// Nobody goes on unnoticed who worked with the old cluster: every transactional id
// gets a new epoch, which aborts its open transaction, and keeps a prepared one, for the
// word about it is in a system that was not restored; groups lose their members and
// keep their offsets; and tokens are signed with a new key.
func Restored(backup []byte, home NewHome) (state []byte, shards []catalog.HostedShard, err error) {
	r, err := openBackup(backup)
	if err != nil {
		return nil, nil, err
	}
	if code := r.catalog.Rehome(home.NewHome); code != catalog.CodeOK {
		return nil, nil, fmt.Errorf("coordinator: the new cluster %q with %d partition nodes is refused: %s", home.ClusterID, len(home.Instances), code)
	}
	found := membership.Found{}
	for _, id := range home.Coordinators {
		found.Members = append(found.Members, membership.Member{ID: id})
	}
	r.members = membership.New()
	if res := r.members.Apply(found); res.Code != membership.CodeOK {
		return nil, nil, fmt.Errorf("coordinator: the new coordinators %v are refused: %s", home.Coordinators, res.Code)
	}
	r.dismiss()
	if err := r.fenceAll(); err != nil {
		return nil, nil, err
	}
	if state, err = r.Snapshot(); err != nil {
		return nil, nil, err
	}
	if err := CheckSnapshot(Rules(), state); err != nil {
		return nil, nil, err
	}
	for _, s := range r.catalog.Shards() {
		h, _ := r.catalog.Hosted(s.ID)
		shards = append(shards, h)
	}
	return state, shards, nil
}

// dismiss has the members of all groups leave.
func (r *replica) dismiss() {
	list, _ := r.groups.List("", group.MaxGroups)
	for _, g := range list {
		for _, m := range r.groups.Members(g.ID) {
			r.groups.Apply(partitionSet{r.catalog}, group.LeaveGroup{At: r.groups.Now(), Group: g.ID, Member: m.ID})
		}
	}
}

// fenceAll gives every transactional id the next epoch. One that has none left can
// begin no transaction any more, in the old cluster neither.
func (r *replica) fenceAll() error {
	for after := uint64(0); ; {
		page := r.txns.List(txn.ListFilter{}, 0, after, maxPage)
		for _, s := range page.Items {
			res := r.txns.FenceProducer(r.txns.Now(), txn.FenceProducer{TransactionalID: s.TransactionalID, Epoch: s.Epoch})
			if res.Code != txn.CodeOK && res.Problem != txn.ProblemEpochExhausted {
				return fmt.Errorf("coordinator: transactional id %q cannot be fenced: %s", s.TransactionalID, res.Code)
			}
		}
		if after = page.Next; after == 0 {
			return nil
		}
	}
}

// MakeIdentity makes a data directory that of a coordinator of a restored cluster,
// which begins with the given ones. instance and log are as in Config: whoever has a
// second directory with the same of them would vote twice.
func MakeIdentity(files datafile.Files, node uint64, coordinators []uint64, instance, log string) error {
	id := identity{node: node, members: slices.Sorted(slices.Values(coordinators)), instance: instance, log: log, joined: true}
	return id.write(files)
}
