package pebblelog

import (
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/raftstore"
)

// Lost is a group of which something cannot be read.
type Lost struct {
	Group raftstore.GroupID
	// Life is in which life the node was a member.
	Life uint32
	// Err says what is damaged, and wraps raftstore.ErrCorrupt.
	Err error
}

// salvageBytes is how much is written at once.
const salvageBytes = 1 << 20

// Salvage makes a database in the directory to, which is removed before, of those
// groups in cfg.Dir that can be read as a whole, and returns the others. cfg.Dir is not
// changed. When it returns, the copy is durable but for the name of its directory.
//
// Every block of tables and of values has a checksum, and one that holds a key of a
// group is read to walk over the group's keys. So what was copied is what was written,
// provided that the files are those that were: a write-ahead log, a manifest or a
// table that is missing or damaged concerns all groups, and is an error, as are marks
// of groups that cannot be read. Errors that wrap raftstore.ErrCorrupt mean that the
// damage cannot be confined to groups; after any error to is to be ignored.
func Salvage(cfg Config, to string) ([]Lost, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	cfg.readOnly = true
	from, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	lost, err := from.salvage(cfg, to)
	return lost, errors.Join(err, from.Close())
}

func (s *Store) salvage(cfg Config, to string) (lost []Lost, err error) {
	groups, err := s.Groups()
	if err != nil {
		return nil, err
	}
	if err := cfg.FS.RemoveAll(to); err != nil {
		return nil, fmt.Errorf("pebblelog: remove %s: %w", to, err)
	}
	cfg.Dir, cfg.readOnly, cfg.OnFailure = to, false, nil
	into, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	c := copier{from: s.present(), to: into, b: into.NewBatch().(*batch)}
	for _, g := range groups {
		err := c.group(g)
		if errors.Is(err, raftstore.ErrCorrupt) && c.failed == nil {
			// A part of it may have been copied.
			c.b.DeleteGroup(g)
			life, unknown := s.life(g)
			if unknown != nil {
				return nil, errors.Join(unknown, into.Close())
			}
			lost = append(lost, Lost{Group: g, Life: life, Err: err})
			err = nil
		}
		if err != nil {
			return nil, errors.Join(err, into.Close())
		}
	}
	// It is the same log for whoever remembers its name.
	c.b.note(c.b.get().Set([]byte{kindFormat}, encodeFormat(s.id), nil))
	return lost, errors.Join(c.write(true), into.Close())
}

// life returns in which life the node was a member of a group.
func (s *Store) life(g raftstore.GroupID) (uint32, error) {
	var life uint64
	_, err := s.present().get(groupKey(kindLife, g), func(v []byte) error { return decodeInts("life", v, &life) })
	if err == nil && life > math.MaxUint32 {
		err = fmt.Errorf("life %d in group %d: %w", life, g, raftstore.ErrCorrupt)
	}
	return uint32(life), err
}

// copier copies keys as they are.
type copier struct {
	from reader
	to   *Store
	b    *batch
	// failed says that writing did.
	failed error
}

func (c *copier) group(g raftstore.GroupID) error {
	for _, kind := range kinds {
		err := c.from.scan(groupKey(kind, g), groupEnd(kind, g), func(k, v []byte) (bool, error) {
			op := c.b.get().SetDeferred(len(k), len(v))
			copy(op.Key, k)
			copy(op.Value, v)
			c.b.note(op.Finish())
			if c.b.b.Len() < salvageBytes {
				return true, nil
			}
			return true, c.write(false)
		})
		if err != nil {
			return fmt.Errorf("group %d: %w", g, err)
		}
	}
	return nil
}

// write writes what was collected.
func (c *copier) write(sync bool) error {
	c.failed = c.to.Commit(c.b, sync)
	c.b = c.to.NewBatch().(*batch)
	return c.failed
}
