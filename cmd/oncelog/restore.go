package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/backup"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

const restoreLong = `Restore makes data directories of nodes that begin a new cluster with the state of a
backup. The new cluster may have other addresses, other coordinators and other
partition nodes; start its nodes as those of a new cluster, with these directories.

Every node needs a directory that was made here. On one machine, make all of them at
once. On several, run the command on each, with the same --cluster-id, --coordinators
and --nodes, and the directories of that machine. Make the directory of a node once,
and never again after it has run: a node that forgot its votes could lose data.

Nothing of the old cluster goes on unnoticed: transactions that were open at the cut
are aborted, every transactional id gets a new epoch, groups keep their positions and
lose their members, and producers begin anew. A client of the old cluster that turns
to the new one may be ahead of it: its positions are out of range, and it goes on as
its reset says.`

func newRestoreCommand(a *app) *cobra.Command {
	var (
		from, cluster               string
		coordinators, nodes         []uint
		makeCoordinators, makeNodes []string
	)
	c := &cobra.Command{
		Use: "restore --from DIR --coordinator ID=DIR --node ID=DIR", Short: "Begin a cluster with a backup", Args: takes(0, 0),
		Long: restoreLong,
		Example: `  oncelog restore --from /backups/2026-11-23 --coordinator 1=/data/c1 --node 1=/data/p1

  # on each of three machines, with another --coordinator and --node
  oncelog restore --from /backups/2026-11-23 --cluster-id orders-2 \
    --coordinators 1,2,3 --nodes 1,2,3 --coordinator 1=/data/c --node 1=/data/p`,
	}
	f := c.Flags()
	f.StringVar(&from, "from", "", "directory of the backup")
	f.StringVar(&cluster, "cluster-id", "", "id of the new cluster, never used before: letters, digits, '.', '_' and '-'; drawn if all nodes are made at once")
	f.UintSliceVar(&coordinators, "coordinators", nil, "ids of all coordinators (default: those that are made)")
	f.UintSliceVar(&nodes, "nodes", nil, "ids of all partition nodes (default: as in the backup)")
	f.StringArrayVar(&makeCoordinators, "coordinator", nil, "ID=DIR: make the data directory of a coordinator; may be repeated")
	f.StringArrayVar(&makeNodes, "node", nil, "ID=DIR: make the data directory of a partition node; may be repeated")
	return localCommand(a, c, func(_ context.Context, s *session, _ []string) error {
		plan := backup.Plan{ClusterID: cluster, Coordinators: ids(coordinators), Nodes: ids(nodes)}
		if from == "" {
			return &usageError{fmt.Errorf("'%s' needs --from: the directory of a backup", c.CommandPath())}
		}
		var err error
		if plan.MakeCoordinators, err = directories("--coordinator", makeCoordinators); err != nil {
			return err
		}
		if plan.MakeNodes, err = directories("--node", makeNodes); err != nil {
			return err
		}
		return s.restore(from, plan)
	})
}

func ids(values []uint) (out []uint64) {
	for _, v := range values {
		out = append(out, uint64(v))
	}
	return out
}

// directories reads what to make.
func directories(flag string, values []string) (map[uint64]string, error) {
	out := map[uint64]string{}
	for _, v := range values {
		text, dir, ok := strings.Cut(v, "=")
		id, err := strconv.ParseUint(text, 10, 32)
		switch {
		case !ok || err != nil || id == 0 || dir == "":
			return nil, &usageError{fmt.Errorf("%s is %q: it must be ID=DIR, such as 1=/data/1", flag, v)}
		case out[id] != "":
			return nil, &usageError{fmt.Errorf("%s names node %d twice", flag, id)}
		}
		out[id] = dir
	}
	return out, nil
}

func (s *session) restore(from string, plan backup.Plan) error {
	if len(plan.MakeCoordinators)+len(plan.MakeNodes) == 0 {
		return &usageError{errors.New("nothing is to be made: give --coordinator or --node")}
	}
	if plan.ClusterID == "" {
		if err := s.madeAtOnce(from, plan); err != nil {
			return err
		}
		plan.ClusterID = backup.NewClusterID()
	}
	if len(plan.Coordinators) == 0 {
		plan.Coordinators = slices.Sorted(maps.Keys(plan.MakeCoordinators))
	}
	read := newMeter(s.app, "read", 0)
	plan.Progress = read.add
	r, err := backup.Restore(from, plan)
	read.clear()
	if errors.Is(err, backup.ErrNotEmpty) {
		return &helpError{err, "Give each node a directory that is new or empty; keep the old one until the cluster works."}
	}
	if err != nil {
		return err
	}
	type made struct {
		Role      string `json:"role" yaml:"role"`
		NodeID    uint64 `json:"node_id" yaml:"node_id"`
		Directory string `json:"directory" yaml:"directory"`
	}
	shown := struct {
		ClusterID   string `json:"cluster_id" yaml:"cluster_id"`
		BackupID    string `json:"backup_id" yaml:"backup_id"`
		Directories []made `json:"directories" yaml:"directories"`
	}{ClusterID: r.Plan.ClusterID, BackupID: r.ID}
	for _, kind := range []struct {
		role string
		dirs map[uint64]string
	}{{"coordinator", plan.MakeCoordinators}, {"partition", plan.MakeNodes}} {
		for _, id := range slices.Sorted(maps.Keys(kind.dirs)) {
			shown.Directories = append(shown.Directories, made{kind.role, id, kind.dirs[id]})
		}
	}
	return s.print(shown, func(w io.Writer) error {
		t := output.NewTable("role", "node_id", "directory", "cluster_id")
		for _, d := range shown.Directories {
			t.Row(d.Role, d.NodeID, d.Directory, shown.ClusterID)
		}
		return t.Write(w)
	})
}

// madeAtOnce refuses to draw a cluster id that other machines would have to know.
func (s *session) madeAtOnce(from string, plan backup.Plan) error {
	nodes := plan.Nodes
	if len(nodes) == 0 {
		all, err := backup.Nodes(from)
		if err != nil {
			return err
		}
		nodes = all
	}
	for _, id := range plan.Coordinators {
		if plan.MakeCoordinators[id] == "" {
			return &usageError{fmt.Errorf("coordinator %d is made elsewhere: give the same --cluster-id everywhere, one that was never used", id)}
		}
	}
	for _, id := range nodes {
		if plan.MakeNodes[id] == "" {
			return &usageError{fmt.Errorf("partition node %d is made elsewhere: give the same --cluster-id everywhere, one that was never used; or name all nodes of the new cluster with --nodes", id)}
		}
	}
	if len(plan.MakeCoordinators) == 0 {
		return &usageError{errors.New("no coordinator is made: give --coordinator, or --cluster-id and --coordinators")}
	}
	return nil
}
