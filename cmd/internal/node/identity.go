package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
)

// Files at the top of a data directory that say whose it is. partitionFile is
// written by package partition.
const (
	coordinatorFile = "coordinator.json"
	partitionFile   = "node"
)

// coordinatorIdentity binds a data directory to one coordinator node and to the
// members of its cluster. Raft knows neither: with the log of another node it
// would vote a second time in one term, and with a longer list of members the
// new ones would found a second cluster beside the one in the log. Addresses are
// not part of it: they may change.
type coordinatorIdentity struct {
	NodeID  uint64   `json:"node_id,string"`
	Members []uint64 `json:"members"`
}

func identityOf(cfg *config.Coordinator) coordinatorIdentity {
	id := coordinatorIdentity{NodeID: cfg.NodeID}
	for _, m := range cfg.Members {
		id.Members = append(id.Members, m.ID)
	}
	slices.Sort(id.Members)
	return id
}

// check refuses a directory of another node, or of another list of members. A
// directory without an identity is fine.
func (id coordinatorIdentity) check(dir string) error {
	if err := ownedBy(dir, partitionFile, "partition node"); err != nil {
		return err
	}
	path := filepath.Join(dir, coordinatorFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read whose the data directory is: %w", err)
	}
	var was coordinatorIdentity
	if err := json.Unmarshal(text, &was); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	if was.NodeID != id.NodeID {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
			fmt.Sprintf("%s belongs to coordinator node %d, this is node %d", dir, was.NodeID, id.NodeID))
	}
	if !slices.Equal(was.Members, id.Members) {
		return fmt.Errorf("%s belongs to a cluster with the coordinator nodes %s, and this start names %s: the members of a "+
			"cluster cannot be changed yet, so start it with those it was created with, or give another data directory",
			dir, numbers(was.Members), numbers(id.Members))
	}
	return nil
}

// write stores the identity, if the directory has none. The log's lock must be
// held. It is durable before the node says anything to another.
func (id coordinatorIdentity) write(dir string) error {
	path := filepath.Join(dir, coordinatorFile)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	text, err := json.Marshal(id)
	if err == nil {
		err = writeDurably(dir, path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write whose the data directory is: %w", err)
	}
	return nil
}

// writeDurably writes a file that is there completely or not at all.
func writeDurably(dir, path string, text []byte) error {
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

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

func numbers(ids []uint64) string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, strconv.FormatUint(id, 10))
	}
	return strings.Join(texts, ", ")
}
