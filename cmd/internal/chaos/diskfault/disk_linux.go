package diskfault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is a mounted file system. Its methods are safe for concurrent use.
type disk struct {
	backing, attic, mountpoint string
	server                     *fuse.Server

	mu       sync.Mutex
	faults   Faults
	contents map[uint64]*content // by inode number
	entries  []*entry            // oldest first
	stored   int                 // names given in the attic
	stats    Stats
}

// Available returns nil if there is FUSE on this machine, else an error that
// wraps ErrUnavailable.
func Available() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return f.Close()
}

// mount mounts a disk, as Start says.
func mount(dir, mountpoint string) (*disk, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	d := &disk{
		backing: filepath.Join(dir, "data"), attic: filepath.Join(dir, "attic"), mountpoint: mountpoint,
		contents: make(map[uint64]*content),
	}
	for _, p := range []string{d.backing, d.attic, mountpoint} {
		if err := os.MkdirAll(p, 0o755); err != nil {
			return nil, err
		}
	}
	// Nothing is remembered by the kernel: a power cut changes files behind its back.
	never := time.Duration(0)
	root := &node{LoopbackNode: &fs.LoopbackNode{RootData: &fs.LoopbackRoot{Path: d.backing}}, disk: d}
	root.RootData.RootNode = root
	server, err := fs.Mount(mountpoint, root, &fs.Options{
		EntryTimeout: &never, AttrTimeout: &never, NegativeTimeout: &never,
		MountOptions: fuse.MountOptions{
			FsName: d.backing, Name: "diskfault", DirectMount: true, DisableXAttrs: true, DisableReadDirPlus: true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: mount %s: %w", ErrUnavailable, mountpoint, err)
	}
	d.server = server
	return d, nil
}

// set replaces the faults.
func (d *disk) set(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

func (d *disk) present() Faults {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.faults
}

// counts returns the present counts.
func (d *disk) counts() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// powerCut loses what was not synced, as Disk.PowerCut says.
func (d *disk) powerCut(rng *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, inode := range d.inodes() {
		c := d.contents[inode]
		lost, err := c.revert(rng)
		d.stats.LostBytes += lost
		errs = append(errs, err)
		d.dropIfIdle(inode, c)
	}
	keep := 0
	if rng != nil {
		keep = rng.IntN(len(d.entries) + 1)
	}
	for _, e := range slices.Backward(d.entries[keep:]) {
		errs = append(errs, e.undo())
		d.stats.LostNames++
	}
	for _, e := range d.entries[:keep] {
		errs = append(errs, e.forget())
	}
	d.entries = nil
	return errors.Join(errs...)
}

// inodes returns the files with notes, in order, so that equal generators lose
// equal bytes.
func (d *disk) inodes() []uint64 {
	var out []uint64
	for inode := range d.contents {
		out = append(out, inode)
	}
	slices.Sort(out)
	return out
}

// unmount ends the disk. What was not synced stays. Processes that have files
// open on it find it gone.
func (d *disk) unmount() error {
	err := d.server.Unmount()
	for range 20 {
		if err == nil {
			d.server.Wait()
			break
		}
		time.Sleep(50 * time.Millisecond) // somebody is still closing files
		err = d.server.Unmount()
	}
	if err != nil {
		// Whoever still has files open is served until this process ends.
		if err = detach(d.mountpoint); err != nil {
			return fmt.Errorf("unmount %s: %w", d.mountpoint, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.contents {
		_ = c.file.Close() // nothing is buffered in it
	}
	return nil
}

// detach takes a mountpoint away from under those who use it.
func detach(mountpoint string) error {
	var errs []error
	for _, program := range []string{"fusermount3", "fusermount"} {
		err := exec.Command(program, "-uz", mountpoint).Run()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// synced counts an fsync and reports whether it works.
func (d *disk) synced() bool {
	f := d.present()
	if f.SyncDelay > 0 {
		time.Sleep(f.SyncDelay)
		f = d.present()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.SyncFails {
		d.stats.FailedSyncs++
		return false
	}
	d.stats.Syncs++
	return true
}

// full reports whether there is no space for what is about to be written.
func (d *disk) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.faults.Full {
		d.stats.Refused++
	}
	return d.faults.Full
}

// acquire returns what is known of a file's bytes; release must follow.
func (d *disk) acquire(path string, inode uint64) (*content, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.contents[inode]
	if c == nil {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		c = &content{file: f}
		d.contents[inode] = c
	}
	c.mu.Lock()
	c.users++
	c.mu.Unlock()
	return c, nil
}

func (d *disk) release(inode uint64, c *content) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.mu.Lock()
	c.users--
	c.mu.Unlock()
	d.dropIfIdle(inode, c)
}

// dropIfIdle forgets a content that nobody needs. d.mu is held.
func (d *disk) dropIfIdle(inode uint64, c *content) {
	if d.contents[inode] == c && c.idle() {
		_ = c.file.Close() // nothing is buffered in it
		delete(d.contents, inode)
	}
}

// syncedElsewhere forgets the notes of a file that was synced through a handle
// that cannot write.
func (d *disk) syncedElsewhere(path string) error {
	inode, err := inodeOf(path)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.contents[inode]; c != nil {
		c.synced()
		d.dropIfIdle(inode, c)
	}
	return nil
}

// enter makes a change of directories and takes a note of it.
func (d *disk) enter(change func() (*entry, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := change()
	if err == nil {
		d.entries = append(d.entries, e)
	}
	return err
}

// saveEntries forgets the notes of a directory.
func (d *disk) saveEntries(dir uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	d.entries = slices.DeleteFunc(d.entries, func(e *entry) bool {
		saved := slices.Contains(e.dirs, dir)
		if saved {
			errs = append(errs, e.forget())
		}
		return saved
	})
	return errors.Join(errs...)
}

// store keeps a file that loses its name for a power cut to bring back, and
// returns where. d.mu is held.
func (d *disk) store(path string) (string, error) {
	d.stored++
	kept := filepath.Join(d.attic, strconv.Itoa(d.stored))
	return kept, os.Link(path, kept)
}
