package diskfault

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
)

// sector is what a disk writes whole: a write that a power cut interrupts is torn
// between sectors.
const sector = 512

// content is what is known of one file's bytes. It is kept while the file is open
// for writing or has bytes that are not synced.
type content struct {
	mu    sync.Mutex
	file  *os.File // for reading and writing
	users int
	// doomed and pending are notes of what was not synced, oldest first. What is
	// doomed was refused by an fsync and is lost whatever comes.
	doomed, pending []change
}

// change is a note of how to take one change of a file's bytes back.
type change struct {
	off     int64
	length  int64  // written; -1: the file was cut to off
	old     []byte // what was at off before
	oldSize int64
}

// write writes and takes a note.
func (c *content) write(data []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	note, err := c.note(off, int64(len(data)))
	if err != nil {
		return 0, err
	}
	n, err := c.file.WriteAt(data, off)
	note.length = int64(n)
	c.pending = append(c.pending, note)
	return n, err
}

// resize changes the size and takes a note.
func (c *content) resize(size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	note, err := c.note(size, max(info.Size()-size, 0))
	if err != nil {
		return err
	}
	note.length = -1
	if err := c.file.Truncate(size); err != nil {
		return err
	}
	c.pending = append(c.pending, note)
	return nil
}

// note returns a change of length bytes at off with what is there now.
func (c *content) note(off, length int64) (change, error) {
	info, err := c.file.Stat()
	if err != nil {
		return change{}, err
	}
	n := change{off: off, length: length, oldSize: info.Size()}
	if there := min(length, n.oldSize-off); there > 0 {
		n.old = make([]byte, there)
		if _, err := c.file.ReadAt(n.old, off); err != nil && !errors.Is(err, io.EOF) {
			return change{}, err
		}
	}
	return n, nil
}

// synced forgets the notes.
func (c *content) synced() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = nil
}

// refused notes that an fsync failed.
func (c *content) refused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doomed = append(c.doomed, c.pending...)
	c.pending = nil
}

// idle reports whether the content need not be kept.
func (c *content) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.users == 0 && len(c.pending) == 0 && len(c.doomed) == 0
}

// revert takes back what was not synced and returns how many bytes that were.
// With a generator a part of it may have reached the disk: the oldest changes,
// and some sectors of the one after them.
func (c *content) revert(rng *rand.Rand) (lost int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep, torn := 0, int64(0)
	if rng != nil && len(c.pending) > 0 {
		keep = rng.IntN(len(c.pending) + 1)
		if keep < len(c.pending) {
			if sectors := c.pending[keep].length / sector; sectors > 0 {
				torn = rng.Int64N(sectors+1) * sector
			}
		}
	}
	if len(c.doomed) > 0 {
		keep, torn = 0, 0 // what came later lies on what is lost
	}
	for i := len(c.pending) - 1; i >= keep; i-- {
		stays := int64(0)
		if i == keep {
			stays = torn
		}
		lost += max(c.pending[i].length-stays, 0)
		err = errors.Join(err, c.pending[i].undo(c.file, stays))
	}
	for i := len(c.doomed) - 1; i >= 0; i-- {
		lost += max(c.doomed[i].length, 0)
		err = errors.Join(err, c.doomed[i].undo(c.file, 0))
	}
	c.pending, c.doomed = nil, nil
	return lost, err
}

// undo takes a change back, except for the first bytes of a write that stay.
func (n *change) undo(f *os.File, stays int64) error {
	size := n.oldSize
	if stays > 0 {
		size = max(size, n.off+stays)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if stays >= int64(len(n.old)) {
		return nil
	}
	_, err := f.WriteAt(n.old[stays:], n.off+stays)
	return err
}

// entry is a note of how to take one change of a directory back.
type entry struct {
	// dirs are the directories that were changed: an fsync of any saves it.
	dirs []uint64
	undo func() error
	// forget is called when it has become durable.
	forget func() error
}
