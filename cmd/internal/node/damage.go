package node

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// noteDamage has the next start repair a data directory of which the log is damaged.
func (n *Partition) noteDamage(dir string, err error) {
	if !errors.Is(err, raftstore.ErrCorrupt) {
		return
	}
	if failed := partition.NoteDamage(datafile.Directory(dir), err); failed != nil {
		n.log.Error("cannot write down that the log is damaged", "error", failed)
		return
	}
	if errors.Is(err, raftstore.ErrUnreadable) {
		n.log.Error("the log is damaged: the next start keeps the shards that can be read as a whole, and has the others made anew from their peers",
			"data_dir", dir, "damage", err)
		return
	}
	n.log.Error("the log is damaged: the next start gives this data directory up, and has its replicas made anew from their peers",
		"data_dir", dir, "damage", err)
}

// salvaged is what the copy of what is whole of a log is called, until it is the log.
func salvaged(dir string) string { return dir + ".salvaged" }

// salvage copies what is whole of a log.
func salvage(dir string, log *slog.Logger) ([]partition.LostReplica, error) {
	groups, err := pebblelog.Salvage(pebblelog.Config{Dir: dir, SeparateValuesFrom: SeparateFrom, Logger: log}, salvaged(dir))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(salvaged(dir)))
	}
	lost := make([]partition.LostReplica, 0, len(groups))
	for _, g := range groups {
		log.Error("a shard is damaged", "shard", g.Group, "life", g.Life, "damage", g.Err)
		lost = append(lost, partition.LostReplica{Shard: uint64(g.Group), Life: g.Life, Damage: g.Err.Error()})
	}
	return lost, syncDir(filepath.Dir(dir))
}

// replaceLog puts the copy in the place of the log. If there is none, that was done.
func replaceLog(dir string) error {
	if _, err := os.Stat(salvaged(dir)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := putAside(dir); err != nil {
		return err
	}
	if err := os.Rename(salvaged(dir), dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// putAside renames a directory, in the place of one that was put aside before, and is
// content if it is gone already.
func putAside(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	aside := dir + ".damaged"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Rename(dir, aside); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}
