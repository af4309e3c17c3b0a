package coordinator

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/oncelog/oncelog/api/codec"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/raftstore"
)

const (
	identityVersion = 1
	identityMagic   = "olcoord"
	// maxMembers bounds the coordinators of a cluster.
	maxMembers = 64
)

// IdentityFile is the name of the file that says whose data directory it is.
const IdentityFile = "coordinator"

var identityFile = datafile.Format{
	File: IdentityFile, What: "coordinator identity", Magic: identityMagic, First: identityVersion, Last: identityVersion,
}

// identity binds a data directory to one coordinator, to its log, and to the
// members that its cluster began with. Raft knows none of them: with another log
// the node would vote a second time in one term, and with another list of members
// it could found a second cluster. Who the members are now is in the log.
type identity struct {
	node uint64
	// members are those that the cluster began with, ascending, this one included;
	// none: this one came later.
	members []uint64
	// instance is drawn when the directory is made.
	instance string
	// log is the name of the log's database.
	log string
	// joined: a majority of the others remembers the instance, or it is in the
	// cluster's log, and this node may take part in Raft.
	joined bool
	// removed: the node is no member any more.
	removed bool
	// others are the instances of other members that this node remembers,
	// ascending by member.
	others []memberInstance
}

type memberInstance struct {
	node     uint64
	instance string
}

func (id identity) write(files datafile.Files) error {
	b := codec.AppendUvarint(nil, id.node)
	b = codec.AppendUvarint(b, uint64(len(id.members)))
	for _, m := range id.members {
		b = codec.AppendUvarint(b, m)
	}
	b = codec.AppendString(b, id.instance)
	b = codec.AppendString(b, id.log)
	b = codec.AppendBool(b, id.joined)
	b = codec.AppendUvarint(b, uint64(len(id.others)))
	for _, o := range id.others {
		b = codec.AppendUvarint(b, o.node)
		b = codec.AppendString(b, o.instance)
	}
	b = codec.AppendBool(b, id.removed)
	return identityFile.Write(files, b)
}

func decodeIdentity(b []byte) (identity, error) {
	r := codec.NewReader(b)
	id := identity{node: r.Uvarint()}
	for range r.Count(maxMembers) {
		id.members = append(id.members, r.Uvarint())
	}
	id.instance = r.String(catalog.MaxInstanceBytes)
	id.log = r.String(catalog.MaxInstanceBytes)
	id.joined = r.Bool()
	for range r.Count(maxMembers) {
		id.others = append(id.others, memberInstance{node: r.Uvarint(), instance: r.String(catalog.MaxInstanceBytes)})
	}
	id.removed = r.Bool()
	return id, r.Close()
}

// openIdentity reads whose the directory is, or makes it this node's if it has
// neither an identity nor a log.
func openIdentity(cfg Config) (identity, error) {
	mine := identity{node: cfg.NodeID, log: cfg.LogID, instance: rand.Text()}
	if !cfg.Join {
		for _, m := range cfg.Members {
			mine.members = append(mine.members, m.ID)
		}
		slices.Sort(mine.members)
	}
	payload, _, ok, err := identityFile.Read(cfg.Files)
	if err != nil {
		return identity{}, err
	}
	groups, err := cfg.Store.Groups()
	if err != nil {
		return identity{}, fmt.Errorf("list groups: %w", err)
	}
	if !ok {
		if len(groups) > 0 {
			return identity{}, fmt.Errorf("%s is missing beside a log that is in use; without it nobody knows whose log that is: %w",
				datafile.PathOf(cfg.Files, IdentityFile), raftstore.ErrCorrupt)
		}
		mine.joined = len(mine.members) == 1
		return mine, mine.write(cfg.Files)
	}
	id, err := decodeIdentity(payload)
	if err != nil {
		return identity{}, identityFile.Damaged(cfg.Files, err)
	}
	place := datafile.PlaceOf(cfg.Files)
	switch {
	case id.node != mine.node:
		return identity{}, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
			fmt.Sprintf("%s belongs to coordinator node %d, this is node %d", place, id.node, mine.node),
			apierrors.KeyNodeID, strconv.FormatUint(id.node, 10))
	case id.removed:
		return identity{}, fmt.Errorf("%s: %w", place, removedError(id.node))
	case !id.joined && !cfg.Join && !slices.Equal(id.members, mine.members):
		return identity{}, fmt.Errorf("%s belongs to a cluster that begins with the coordinator nodes %v, and this start names %v: start it "+
			"with those, or delete the directory, which has no data yet", place, id.members, mine.members)
	case id.log != mine.log:
		return identity{}, fmt.Errorf("the log in %s is not the one that this node had, which was deleted or replaced: with it the node "+
			"lost its votes and must not run; bring the log back: %w", place, raftstore.ErrCorrupt)
	case !id.joined && len(groups) > 0:
		return identity{}, fmt.Errorf("%s is older than the log beside it: %w", datafile.PathOf(cfg.Files, IdentityFile), raftstore.ErrCorrupt)
	case !id.joined && cfg.Join && len(id.members) > 0:
		// It never voted for the cluster that it was to begin.
		id.members = nil
		return id, id.write(cfg.Files)
	}
	return id, nil
}

// ErrRemoved ends a node that is no member of the cluster any more.
var ErrRemoved = errors.New("coordinator: no member any more")

func removedError(node uint64) error { return fmt.Errorf("%w: %s", ErrRemoved, removedText(node)) }

// removedText is what a node is told that is no member any more.
func removedText(node uint64) string {
	return fmt.Sprintf("coordinator %d was removed from the cluster, and its directory is of no use any more: delete it; to bring the "+
		"machine back, add it as a new coordinator with `oncelog coordinator add`", node)
}

// needed is how many other members must remember a new instance before it may
// vote: a majority of the others, so that of two instances of one member at most
// one can have it.
func (id identity) needed() int {
	others := len(id.members) - 1
	if others == 0 {
		return 0
	}
	return others/2 + 1
}

// remember takes the instance of another member; errOtherInstance if it had
// another one before. changed: it is new.
func (id *identity) remember(node uint64, instance string) (changed bool, err error) {
	i, known := slices.BinarySearchFunc(id.others, node, func(o memberInstance, n uint64) int {
		switch {
		case o.node < n:
			return -1
		case o.node > n:
			return 1
		}
		return 0
	})
	switch {
	case known && id.others[i].instance != instance:
		return false, errOtherInstance
	case known:
		return false, nil
	}
	id.others = slices.Insert(slices.Clone(id.others), i, memberInstance{node, instance})
	return true, nil
}

var errOtherInstance = errors.New("coordinator: the member had another data directory before")
