package backup

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// Plan is a cluster that is to go on from a backup.
type Plan struct {
	// ClusterID is the new cluster's id: the same for all of its nodes, and no other
	// cluster's ever.
	ClusterID string
	// Coordinators and Nodes are the ids of all its nodes. No Nodes: as in the backup.
	Coordinators, Nodes []uint64
	// MakeCoordinators and MakeNodes are the data directories that are made here, by
	// node. They do not exist, or are empty.
	MakeCoordinators, MakeNodes map[uint64]string
	// Progress, if there, is told how many bytes were read. What goes to several
	// directories is read for each.
	Progress func(bytes int)
}

// NewClusterID draws the id of a cluster.
func NewClusterID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Restored is what Restore made.
type Restored struct {
	Manifest
	Plan
}

// Restore makes data directories of nodes that begin a cluster with the state of a
// backup. Each is written under another name first. Of one node there must never be
// two that run: a directory that has run is not to be made again.
func Restore(dir string, plan Plan) (Restored, error) {
	if plan.Progress == nil {
		plan.Progress = func(int) {}
	}
	m, state, err := open(dir, plan.Progress)
	if err != nil {
		return Restored{}, err
	}
	contents, err := coordinator.OpenBackup(state)
	if err != nil {
		return Restored{}, damaged(coordinatorPath(dir), "%v", err)
	}
	if len(plan.Nodes) == 0 {
		plan.Nodes = contents.Nodes
	}
	if err := plan.check(); err != nil {
		return Restored{}, err
	}
	home := coordinator.NewHome{Coordinators: plan.Coordinators, NewHome: catalog.NewHome{
		ClusterID: plan.ClusterID, Instances: map[uint64]string{}, Indexes: map[uint64]uint64{},
	}}
	for _, n := range plan.Nodes {
		home.Instances[n] = instance(plan.ClusterID, n)
	}
	for _, s := range m.Shards {
		home.Indexes[s.ID] = s.Index
	}
	begin, shards, err := coordinator.Restored(state, home)
	if err != nil {
		return Restored{}, err
	}
	r := &restoring{from: dir, m: m, plan: plan, state: begin, shards: shards}
	for _, id := range slices.Sorted(maps.Keys(plan.MakeCoordinators)) {
		if err := r.make(plan.MakeCoordinators[id], func(dir string, log *pebblelog.Store) error { return r.coordinator(id, dir, log) }); err != nil {
			return Restored{}, fmt.Errorf("coordinator %d: %w", id, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(plan.MakeNodes)) {
		if err := r.make(plan.MakeNodes[id], func(dir string, log *pebblelog.Store) error { return r.node(id, dir, log) }); err != nil {
			return Restored{}, fmt.Errorf("partition node %d: %w", id, err)
		}
	}
	return Restored{Manifest: m, Plan: plan}, nil
}

// Nodes returns the ids of the partition nodes of the cluster that a backup is of.
func Nodes(dir string) ([]uint64, error) {
	_, state, err := open(dir, func(int) {})
	if err != nil {
		return nil, err
	}
	contents, err := coordinator.OpenBackup(state)
	if err != nil {
		return nil, damaged(coordinatorPath(dir), "%v", err)
	}
	return contents.Nodes, nil
}

// check refuses to make what is no node of the plan.
func (p Plan) check() error {
	for id := range p.MakeCoordinators {
		if !slices.Contains(p.Coordinators, id) {
			return fmt.Errorf("coordinator %d is not among the coordinators %v of the new cluster", id, p.Coordinators)
		}
	}
	for id := range p.MakeNodes {
		if !slices.Contains(p.Nodes, id) {
			return fmt.Errorf("partition node %d is not among the partition nodes %v of the new cluster", id, p.Nodes)
		}
	}
	return nil
}

// instance names the data directory of a node, on whatever machine it is made: the
// catalogue, which is made on others, has to know it.
func instance(cluster string, node uint64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "restored node %d of cluster %s", node, cluster))
	return "restored-" + hex.EncodeToString(sum[:12])
}

// restoring is a restore under way.
type restoring struct {
	from   string
	m      Manifest
	plan   Plan
	state  []byte
	shards []catalog.HostedShard
}

// make makes one data directory.
func (r *restoring) make(dir string, fill func(dir string, log *pebblelog.Store) error) (err error) {
	made, err := begin(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, made.end()) }()
	log, err := pebblelog.Open(pebblelog.Config{Dir: filepath.Join(made.tmp, "log"), SeparateValuesFrom: node.SeparateFrom})
	if err != nil {
		return err
	}
	err = fill(made.tmp, log)
	if err = errors.Join(err, log.Close()); err != nil {
		return err
	}
	if err := os.Chmod(made.tmp, 0o755); err != nil { //nolint:gosec // as of any data directory; secrets in it have modes of their own
		return err
	}
	return made.finish()
}

func (r *restoring) coordinator(id uint64, dir string, log *pebblelog.Store) error {
	var members []raftstore.NodeID
	for _, m := range r.plan.Coordinators {
		members = append(members, raftstore.NodeID(m))
	}
	if err := raftstore.ImportState(log, coordinator.GroupID, r.state, members); err != nil {
		return err
	}
	return coordinator.MakeIdentity(datafile.Directory(dir), id, r.plan.Coordinators, rand.Text(), log.ID())
}

func (r *restoring) node(id uint64, dir string, log *pebblelog.Store) error {
	for _, hosted := range r.shards {
		if !slices.Contains(hosted.Replicas, id) {
			continue
		}
		if err := r.shard(hosted, log); err != nil {
			return err
		}
	}
	return partition.MakeIdentity(datafile.Directory(dir), id, instance(r.plan.ClusterID, id), r.plan.ClusterID)
}

// shard imports a shard's part, and checks it on the way.
func (r *restoring) shard(hosted catalog.HostedShard, log *pebblelog.Store) error {
	i := slices.IndexFunc(r.m.Shards, func(s Shard) bool { return s.ID == hosted.ID })
	if i < 0 {
		return damaged(shardPath(r.from, hosted.ID), "the cluster has this shard, and the backup does not")
	}
	part := r.m.Shards[i]
	var members []raftstore.NodeID
	for _, n := range hosted.Replicas {
		members = append(members, raftstore.NodeID(n))
	}
	in := raftstore.NewImport(log, raftstore.GroupID(hosted.ID), part.Index, part.Term, members)
	reader := newShardReader(part.Index)
	path := shardPath(r.from, hosted.ID)
	if err := readPart(path, part.Part, r.plan.Progress, func(piece []byte) error {
		if err := reader.Add(piece); err != nil {
			return err
		}
		return in.Add(piece)
	}); err != nil {
		return whole(path, err)
	}
	if _, err := reader.contents(); err != nil {
		return whole(path, err)
	}
	return in.Close()
}
