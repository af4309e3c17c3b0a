package partition

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/oncelog/oncelog/api/codec"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

const (
	identityFile     = "node"
	identityMagic    = "olpnode1"
	maxInstanceBytes = 64
	maxClusterBytes  = 249
)

// identity is whose disk this is. A node must never run on another node's disk,
// nor on one of another cluster: its votes and its log belong to one place.
type identity struct {
	node     uint64
	instance string
	cluster  string // empty until the node has registered
}

// openIdentity reads the identity of a data directory, or gives it one. A
// directory of another node or instance is refused.
func openIdentity(dir string, node uint64, instance string) (identity, error) {
	path := filepath.Join(dir, identityFile)
	payload, ok, err := readDataFile(path, identityMagic)
	if err != nil {
		return identity{}, fmt.Errorf("read node identity: %w", err)
	}
	if !ok {
		id := identity{node: node, instance: instance}
		if id.instance == "" {
			id.instance = rand.Text()
		}
		return id, id.write(dir)
	}
	id, err := decodeIdentity(payload)
	if err != nil {
		return identity{}, fmt.Errorf("read node identity: %s: %w: %w", path, errDamaged, err)
	}
	if id.node != node || instance != "" && instance != id.instance {
		return identity{}, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
			fmt.Sprintf("%s belongs to node %d, instance %s", dir, id.node, id.instance),
			apierrors.KeyNodeID, fmt.Sprint(id.node))
	}
	return id, nil
}

// join makes the disk one of a cluster, for good.
func (id identity) join(dir, cluster string) (identity, error) {
	switch {
	case cluster == "" || len(cluster) > maxClusterBytes:
		return id, errors.New("partition: the coordinator named no cluster")
	case id.cluster == cluster:
		return id, nil
	case id.cluster != "":
		return id, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
			fmt.Sprintf("%s belongs to cluster %s, the coordinator to %s", dir, id.cluster, cluster),
			apierrors.KeyClusterID, id.cluster)
	}
	id.cluster = cluster
	return id, id.write(dir)
}

func (id identity) write(dir string) error {
	b := codec.AppendUint64(nil, id.node)
	b = codec.AppendString(b, id.instance)
	b = codec.AppendString(b, id.cluster)
	if err := writeDataFile(filepath.Join(dir, identityFile), identityMagic, b); err != nil {
		return fmt.Errorf("write node identity: %w", err)
	}
	return nil
}

func decodeIdentity(b []byte) (identity, error) {
	r := codec.NewReader(b)
	id := identity{node: r.Uint64(), instance: r.String(maxInstanceBytes), cluster: r.String(maxClusterBytes)}
	return id, r.Close()
}
