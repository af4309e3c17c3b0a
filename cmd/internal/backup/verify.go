package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/oncelog/oncelog/coordinator"
)

// Report is what Verify found.
type Report struct {
	Manifest
	coordinator.Contents
}

// Verify reads all of a backup and checks it: every byte, that the states of all
// machines hold their invariants, and that the records are there which they are
// about. progress, if it is not nil, is told how many bytes were read.
func Verify(dir string, progress func(bytes int)) (Report, error) {
	if progress == nil {
		progress = func(int) {}
	}
	m, state, err := open(dir, progress)
	if err != nil {
		return Report{}, err
	}
	r := Report{Manifest: m}
	if r.Contents, err = coordinator.OpenBackup(state); err != nil {
		return r, damaged(coordinatorPath(dir), "%v", err)
	}
	var ids []uint64
	for _, s := range m.Shards {
		ids = append(ids, s.ID)
	}
	if err := matches(r.Contents, ids); err != nil {
		return r, err
	}
	if err := noStrangers(dir, m); err != nil {
		return r, err
	}
	for _, s := range m.Shards {
		reader := newShardReader(s.Index)
		path := shardPath(dir, s.ID)
		if err := readPart(path, s.Part, progress, reader.Add); err != nil {
			return r, whole(path, err)
		}
		got, err := reader.partitions(r.Contents)
		if err != nil {
			return r, whole(path, err)
		}
		if !slices.Equal(got, s.Partitions) {
			return r, damaged(path, "its partitions are not those of %s", ManifestFile)
		}
	}
	return r, nil
}

// open reads the manifest and the coordinators' part.
func open(dir string, progress func(bytes int)) (Manifest, []byte, error) {
	m, err := Describe(dir)
	if err != nil {
		return m, nil, err
	}
	var state []byte
	err = readPart(coordinatorPath(dir), m.Coordinator, progress, func(piece []byte) error {
		state = append(state, piece...)
		return nil
	})
	return m, state, err
}

// whole makes sure that an error names the file, and that it is damage.
func whole(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || errors.Is(err, ErrDamaged) {
		return err
	}
	return damaged(path, "%v", err)
}

// noStrangers refuses files that are not the backup's.
func noStrangers(dir string, m Manifest) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	known := map[string]bool{ManifestFile: true, "coordinator": true}
	for _, s := range m.Shards {
		known[fmt.Sprintf("shard-%d", s.ID)] = true
	}
	for _, e := range entries {
		if !known[e.Name()] {
			return fmt.Errorf("%s: there is a file %q, which is not the backup's", dir, e.Name())
		}
	}
	return nil
}
