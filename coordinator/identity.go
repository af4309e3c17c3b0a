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
// members of its cluster. Raft knows none of them: with another log the node
// would vote a second time in one term, and with a longer list of members the new
// ones would found a second cluster beside the one in the log. Addresses are not
// part of it: they may change.
type identity struct {
	node    uint64
	members []uint64 // ascending, this one included
	// instance is drawn when the directory is made.
	instance string
	// log is the name of the log's database.
	log string
	// joined: a majority of the others remembers the instance, and this node may
	// vote.
	joined bool
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
	return id, r.Close()
}

// openIdentity reads whose the directory is, or makes it this node's if it has
// neither an identity nor a log.
func openIdentity(cfg Config) (identity, error) {
	mine := identity{node: cfg.NodeID, log: cfg.LogID, instance: rand.Text()}
	for _, m := range cfg.Members {
		mine.members = append(mine.members, m.ID)
	}
	slices.Sort(mine.members)
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
		mine.joined = mine.needed() == 0
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
	case !slices.Equal(id.members, mine.members):
		return identity{}, fmt.Errorf("%s belongs to a cluster with the coordinator nodes %v, and this start names %v: the members of a "+
			"cluster cannot be changed yet, so start it with those it was created with, or give another data directory",
			place, id.members, mine.members)
	case id.log != mine.log:
		return identity{}, fmt.Errorf("the log in %s is not the one that this node had, which was deleted or replaced: with it the node "+
			"lost its votes and must not run; bring the log back: %w", place, raftstore.ErrCorrupt)
	case !id.joined && len(groups) > 0:
		return identity{}, fmt.Errorf("%s is older than the log beside it: %w", datafile.PathOf(cfg.Files, IdentityFile), raftstore.ErrCorrupt)
	}
	return id, nil
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
