package partition

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/oncelog/oncelog/api/codec"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
)

const (
	identityVersion  = 1
	identityMagic    = "olpnode"
	maxInstanceBytes = 64
	maxClusterBytes  = 249
)

// IdentityFile is the name of the file that says whose data directory it is.
const IdentityFile = "node"

var identityFile = datafile.Format{
	File: IdentityFile, What: "node identity", Magic: identityMagic, First: identityVersion, Last: identityVersion,
}

// identity is whose disk this is. A node must never run on another node's disk,
// nor on one of another cluster: its votes and its log belong to one place.
type identity struct {
	node     uint64
	instance string
	cluster  string // empty until the node has registered
}

// openIdentity reads the identity of a disk, or gives it one. The disk of
// another node or instance is refused.
func openIdentity(files datafile.Files, node uint64, instance string) (identity, error) {
	payload, _, ok, err := identityFile.Read(files)
	if err != nil {
		return identity{}, err
	}
	if !ok {
		id := identity{node: node, instance: instance}
		if id.instance == "" {
			id.instance = rand.Text()
		}
		return id, id.write(files)
	}
	id, err := decodeIdentity(payload)
	if err != nil {
		return identity{}, identityFile.Damaged(files, err)
	}
	if id.node != node || instance != "" && instance != id.instance {
		return identity{}, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
			fmt.Sprintf("%s belongs to node %d, instance %s", datafile.PlaceOf(files), id.node, id.instance),
			apierrors.KeyNodeID, fmt.Sprint(id.node))
	}
	return id, nil
}

// join makes the disk one of a cluster. It is that for good once it is written, which
// comes after the log is there; see [Node.Start].
func (id identity) join(place, cluster string) (identity, error) {
	switch {
	case cluster == "" || len(cluster) > maxClusterBytes:
		return id, errors.New("partition: the coordinator named no cluster")
	case id.cluster == cluster:
		return id, nil
	case id.cluster != "":
		return id, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
			fmt.Sprintf("%s belongs to cluster %s, the coordinator to %s", place, id.cluster, cluster),
			apierrors.KeyClusterID, id.cluster)
	}
	id.cluster = cluster
	return id, nil
}

func (id identity) write(files datafile.Files) error {
	b := codec.AppendUint64(nil, id.node)
	b = codec.AppendString(b, id.instance)
	b = codec.AppendString(b, id.cluster)
	return identityFile.Write(files, b)
}

func decodeIdentity(b []byte) (identity, error) {
	r := codec.NewReader(b)
	id := identity{node: r.Uint64(), instance: r.String(maxInstanceBytes), cluster: r.String(maxClusterBytes)}
	return id, r.Close()
}
