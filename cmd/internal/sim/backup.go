package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// What becomes of backups, for Reach.
const (
	backupTaken   = "a backup was taken"
	backupRefused = "a backup was given up"
)

// drawBackups has backups taken in some plans. Its chance is its own, so that the rest
// of a plan is the same with them and without.
func drawBackups(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x6261636b))
	// A backup is read by the rules that every cluster has.
	if r.IntN(8) != 0 || txn.New(p.Sizes.rules()).Config() != txn.New(coordinator.Rules()).Config() {
		return
	}
	for range 1 + r.IntN(3) {
		p.Backups = append(p.Backups, between(r, 2*time.Second, p.Horizon))
	}
	slices.Sort(p.Backups)
}

// keptShard is a shard's part of a backup.
type keptShard struct {
	cut    *oncelogv1.ShardCut
	pieces [][]byte
}

// startBackups has somebody take the backups of the plan, and look whether a cluster
// could begin with each.
func (s *simulation) startBackups() {
	begin := s.w.now
	for i, at := range s.plan.Backups {
		p := s.w.newProc(fmt.Sprintf("backup-%d", i))
		s.w.at(at, nil, func() {
			p.start(func() {
				ctx, cancel := task.New(p).WithTimeout(s.context(p), 20*time.Second)
				defer cancel()
				if err := s.backUp(ctx, p, rand.New(rand.NewPCG(s.plan.Seed, uint64(begin+at)))); err != nil {
					s.log.Info("BACKUP given up", "error", err)
					s.reach.hit(backupRefused)
					return
				}
				s.reach.hit(backupTaken)
			})
		})
	}
}

// backUp takes one backup. An error says that the cluster did not make it; what is
// wrong with one that was made is a violation.
func (s *simulation) backUp(ctx context.Context, p *Proc, r *rand.Rand) error {
	c, err := sdk.Dial(ctx, s.cluster.seeds(), sdk.WithLogger(s.logFor(p)), sdk.WithClientID(p.name))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var (
		cut   *oncelogv1.BackupCut
		state []byte
	)
	if err := c.Admin().CreateBackup(ctx, &oncelogv1.CreateBackupRequest{HoldMs: pick(r, int64(0), 200, 5000)}, func(m *oncelogv1.CreateBackupResponse) error {
		if cut == nil {
			cut = m.GetCut()
			return nil
		}
		state = append(state, m.GetData()...)
		return nil
	}); err != nil {
		return err
	}
	var shards []keptShard
	for _, shard := range cut.GetShards() {
		kept := keptShard{cut: shard}
		if err := c.Admin().ReadShardBackup(ctx, cut.GetBackupId(), shard, func(data []byte) error {
			if len(data) > 0 { // else it is the end of what was full before
				kept.pieces = append(kept.pieces, bytes.Clone(data))
			}
			return nil
		}); err != nil {
			return err
		}
		shards = append(shards, kept)
	}
	if s.spoil != nil {
		state, shards = s.spoil(state, shards)
	}
	if err := restorable(r, state, shards); err != nil {
		s.complain("backup", err.Error())
	}
	return nil
}

// restorable makes the beginning of another cluster from a backup, of as many nodes as
// there were, or of others.
func restorable(r *rand.Rand, state []byte, shards []keptShard) error {
	contents, err := coordinator.OpenBackup(state)
	if err != nil {
		return err
	}
	home := coordinator.NewHome{Coordinators: []uint64{1, 2, 3}[:1+r.IntN(3)], NewHome: catalog.NewHome{
		ClusterID: "restored", Instances: map[uint64]string{}, Indexes: map[uint64]uint64{},
	}}
	for _, n := range pick(r, contents.Nodes, contents.Nodes, []uint64{1}, []uint64{2, 7}, []uint64{11, 12, 13, 14}) {
		home.Instances[n] = fmt.Sprintf("restored-%d", n)
	}
	for _, shard := range shards {
		home.Indexes[shard.cut.GetShardId()] = shard.cut.GetIndex()
	}
	begin, hosted, err := coordinator.Restored(state, home)
	if err != nil {
		return err
	}
	if again, _, err := coordinator.Restored(state, home); err != nil || !bytes.Equal(again, begin) {
		return fmt.Errorf("one backup and one home make two beginnings: %w", err)
	}
	after, err := coordinator.OpenBackup(begin)
	switch {
	case err != nil:
		return err
	case after.Open != 0:
		return fmt.Errorf("a cluster begins with %d transactions of the one before", after.Open)
	case after.Topics != contents.Topics || after.Groups != contents.Groups || after.Offsets != contents.Offsets || after.TransactionalIDs != contents.TransactionalIDs:
		return fmt.Errorf("a backup has %+v, and the cluster that begins with it %+v", contents, after)
	}
	for _, h := range hosted {
		if err := restorableShard(h, shards); err != nil {
			return fmt.Errorf("shard %d: %w", h.ID, err)
		}
	}
	return nil
}

// restorableShard imports a shard's part into the log of a new node, which then has the
// partitions that the coordinators know of.
func restorableShard(h catalog.HostedShard, shards []keptShard) error {
	i := slices.IndexFunc(shards, func(k keptShard) bool { return k.cut.GetShardId() == h.ID })
	if i < 0 {
		return errors.New("the backup has no part of it")
	}
	part := shards[i]
	var members []raftstore.NodeID
	for _, n := range h.Replicas {
		members = append(members, raftstore.NodeID(n))
	}
	log, group := memlog.New(nil), raftstore.GroupID(h.ID)
	in := raftstore.NewImport(log, group, part.cut.GetIndex(), part.cut.GetTerm(), members)
	for _, piece := range part.pieces {
		if err := in.Add(piece); err != nil {
			return err
		}
	}
	if err := in.Close(); err != nil {
		return err
	}
	snap, err := log.Snapshot(group)
	if err != nil {
		return err
	}
	contents, err := partition.OpenCheckpoint(snap.Data)
	if err != nil {
		return err
	}
	for _, p := range contents.Partitions {
		// What was stored is where the rows say.
		if last := uint64(p.Applied); last > p.Start && len(rowsOf(log, group)) == 0 {
			return fmt.Errorf("partition %d has records up to %d, and the part has no rows", p.ID, last)
		}
	}
	return nil
}
