package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/backup"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newBackupCommand(a *app) *cobra.Command {
	var (
		to   string
		hold time.Duration
	)
	c := &cobra.Command{
		Use: "backup --to DIR", Short: "Take a backup of a cluster while it works", Args: takes(0, 0),
		Long: `Backup writes all of a cluster to a directory: topics, records, positions of
groups, transactional ids. It is one moment of the cluster: of every transaction it
has everything or nothing. For a few milliseconds, while the cut is made, the
coordinators answer nobody; sends and reads go on. Then the data is copied, at a
bounded rate.

DIR must not exist, or be empty. It has its name only once it is whole. What was
interrupted is begun anew. Keys that sign tokens are not in it; records are, as they
were sent: keep it as you keep the nodes' disks.

'oncelog restore' begins a cluster with it.`,
		Example: `  oncelog backup --to /backups/2026-11-23
  oncelog backup verify /backups/2026-11-23`,
	}
	c.Flags().StringVar(&to, "to", "", "directory to write to")
	c.Flags().DurationVar(&hold, "hold", time.Second, "how long the coordinators may be silent, at most 5s; no backup if that is not enough")
	c = clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		switch {
		case to == "":
			return &usageError{fmt.Errorf("'%s' needs --to: a directory", c.CommandPath())}
		case hold < time.Millisecond || hold > 5*time.Second:
			return &usageError{fmt.Errorf("--hold is %s: it must be from 1ms to 5s", hold)}
		}
		return s.takeBackup(ctx, to, hold)
	})
	c.AddCommand(newBackupVerifyCommand(a), newBackupDescribeCommand(a))
	return c
}

func (s *session) takeBackup(ctx context.Context, to string, hold time.Duration) error {
	cl, err := s.dial(ctx)
	if err != nil {
		return err
	}
	// It may take hours; what must not take long is the next piece.
	ctx, progress, stop := s.stall(ctx)
	defer stop()
	copied := newMeter(s.app, "copied", 0)
	m, err := backup.Take(ctx, cl.Admin(), to, backup.Options{
		HoldMillis: hold.Milliseconds(), Program: node.Version(),
		Progress: func(n int) { copied.add(n); progress() },
	})
	copied.clear()
	if errors.Is(err, backup.ErrNotEmpty) {
		return &helpError{err, "Give --to a directory that is new or empty: a backup is never mixed with another."}
	}
	if err != nil {
		return about{fmt.Sprintf("no backup, %s had come", output.Bytes(copied.bytes())), err}
	}
	return s.printManifest(to, m)
}

// shownBackup is a backup for programs.
type shownBackup struct {
	Directory   string       `json:"directory" yaml:"directory"`
	BackupID    string       `json:"backup_id" yaml:"backup_id"`
	ClusterID   string       `json:"cluster_id" yaml:"cluster_id"`
	TakenAtMS   int64        `json:"taken_at_ms" yaml:"taken_at_ms"`
	HeldUS      int64        `json:"held_us" yaml:"held_us"`
	Program     string       `json:"program" yaml:"program"`
	Bytes       uint64       `json:"bytes" yaml:"bytes"`
	Coordinator shownPart    `json:"coordinator" yaml:"coordinator"`
	Shards      []shownShard `json:"shards" yaml:"shards"`
}

type shownPart struct {
	Bytes  uint64 `json:"bytes" yaml:"bytes"`
	SHA256 string `json:"sha256" yaml:"sha256"`
}

type shownShard struct {
	ShardID    uint64           `json:"shard_id" yaml:"shard_id"`
	Index      uint64           `json:"index" yaml:"index"`
	Term       uint64           `json:"term" yaml:"term"`
	Part       shownPart        `json:"part" yaml:"part"`
	Partitions []shownPartition `json:"partitions" yaml:"partitions"`
}

type shownPartition struct {
	Topic       string `json:"topic" yaml:"topic"`
	Partition   uint32 `json:"partition" yaml:"partition"`
	PartitionID uint64 `json:"partition_id" yaml:"partition_id"`
	Start       uint64 `json:"start_offset" yaml:"start_offset"`
	Stable      uint64 `json:"stable_offset" yaml:"stable_offset"`
	End         uint64 `json:"end_offset" yaml:"end_offset"`
}

func shownPartOf(p backup.Part) shownPart { return shownPart{p.Bytes, hex.EncodeToString(p.Sum[:])} }

func (s *session) printManifest(dir string, m backup.Manifest) error {
	shown := shownBackup{
		Directory: dir, BackupID: m.ID, ClusterID: m.ClusterID, TakenAtMS: m.TakenAt, HeldUS: m.Held, Program: m.Program,
		Bytes: m.Bytes(), Coordinator: shownPartOf(m.Coordinator), Shards: []shownShard{},
	}
	for _, shard := range m.Shards {
		out := shownShard{ShardID: shard.ID, Index: shard.Index, Term: shard.Term, Part: shownPartOf(shard.Part), Partitions: []shownPartition{}}
		for _, p := range shard.Partitions {
			out.Partitions = append(out.Partitions, shownPartition{p.Topic, p.Index, p.ID, p.Start, p.Stable, p.End})
		}
		shown.Shards = append(shown.Shards, out)
	}
	return s.print(shown, func(w io.Writer) error {
		if err := output.Fields(w,
			"directory", dir, "backup_id", m.ID, "cluster_id", m.ClusterID, "taken_at", output.Time(m.TakenAt),
			"held", (time.Duration(m.Held) * time.Microsecond).String(), "program", m.Program,
			"shards", len(m.Shards), "bytes", m.Bytes()); err != nil {
			return err
		}
		t := output.NewTable("topic", "partition", "shard_id", "start_offset", "stable_offset", "end_offset")
		for _, shard := range m.Shards {
			for _, p := range shard.Partitions {
				t.Row(p.Topic, p.Index, shard.ID, p.Start, p.Stable, p.End)
			}
		}
		return t.Write(w)
	})
}

func newBackupDescribeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "describe DIR", Short: "Show what a backup says that it has", Args: takes(1, 1),
		Long: `Describe reads the manifest of a backup: when it was taken, of what, and which
records it has. It does not look at the data: 'oncelog backup verify' does.`,
	}
	return localCommand(a, c, func(_ context.Context, s *session, args []string) error {
		m, err := backup.Describe(args[0])
		if err != nil {
			return err
		}
		return s.printManifest(args[0], m)
	})
}

func newBackupVerifyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "verify DIR", Short: "Read all of a backup and check it", Args: takes(1, 1),
		Long: `Verify reads every byte of a backup: checksums, the states of coordinators and
shards, and that the records are there which they are about. It exits with 1 and names
the file if anything is not as it was written.`,
	}
	return localCommand(a, c, func(_ context.Context, s *session, args []string) error {
		m, err := backup.Describe(args[0])
		if err != nil {
			return err
		}
		read := newMeter(s.app, "read", m.Bytes())
		r, err := backup.Verify(args[0], read.add)
		read.clear()
		if err != nil {
			return err
		}
		type verified struct {
			Directory        string `json:"directory" yaml:"directory"`
			BackupID         string `json:"backup_id" yaml:"backup_id"`
			Bytes            uint64 `json:"bytes" yaml:"bytes"`
			Topics           int    `json:"topics" yaml:"topics"`
			Groups           int    `json:"groups" yaml:"groups"`
			Positions        int    `json:"positions" yaml:"positions"`
			TransactionalIDs int    `json:"transactional_ids" yaml:"transactional_ids"`
			Open             int    `json:"open_transactions" yaml:"open_transactions"`
		}
		v := verified{args[0], r.ID, r.Bytes(), r.Topics, r.Groups, r.Offsets, r.TransactionalIDs, r.Open}
		return s.print(v, func(w io.Writer) error {
			return output.Fields(w, "directory", v.Directory, "backup_id", v.BackupID, "bytes", v.Bytes, "topics", v.Topics,
				"groups", v.Groups, "positions", v.Positions, "transactional_ids", v.TransactionalIDs, "open_transactions", v.Open, "verified", "yes")
		})
	})
}

// localCommand makes c a command that prints, and talks to nobody.
func localCommand(a *app, c *cobra.Command, run func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	cfg := config.DefaultClient()
	config.AddFlags(c.Flags(), cfg)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.load(c, cfg); err != nil {
			return err
		}
		return run(c.Context(), newSession(a, cfg), args)
	}
	return c
}
