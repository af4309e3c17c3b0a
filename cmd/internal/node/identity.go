package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/partition"
)

// Files at the top of a data directory that say whose it is.
const (
	coordinatorFile = coordinator.IdentityFile
	partitionFile   = partition.IdentityFile
)

// makeDir makes a directory, and those above it that are missing, durably: a
// power cut must not take a node's whole data away with the name of its folder.
func makeDir(dir string) error {
	var parents []string // of what is missing, the nearest first
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		_, err := os.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parents = append(parents, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range parents {
		if err := syncDir(p); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ownedBy refuses a directory that holds the file of the other kind of node.
func ownedBy(dir, file, kind string) error {
	if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, fmt.Sprintf("%s belongs to a %s", dir, kind))
	}
	return nil
}
