package sim

import (
	"errors"
	"math"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// disk is what a process leaves behind when it dies: a log whose last writes
// may be lost, and small files. It is one device with one set of faults.
type disk struct {
	w     *World
	log   *memlog.Store
	files map[string][]byte

	fsync  time.Duration // the longest, when nothing is wrong
	slow   time.Duration // added while it is
	full   bool          // the low-water mark is crossed
	broken bool          // the next write fails with EIO
	// failedOnce: a write has failed, and the node must stop.
	failedOnce bool
	// damaged are the groups of which nothing can be read, leftOut those that a copy of
	// the log is without.
	damaged map[raftstore.GroupID]bool
	leftOut []raftstore.GroupID
	reach   Reach
	// checkpoint is told of every checkpoint that is written.
	checkpoint func(g raftstore.GroupID, s raftstore.Snapshot)
}

func newDisk(w *World, fsync time.Duration, r Reach) *disk {
	return &disk{
		w: w, log: memlog.New(nil), files: map[string][]byte{}, fsync: fsync, reach: r,
		damaged:    map[raftstore.GroupID]bool{},
		checkpoint: func(raftstore.GroupID, raftstore.Snapshot) {},
	}
}

// powerCut loses what was not synced, or some of it: the device may have
// written a part of what it was not asked to write yet, in order.
func (d *disk) powerCut() {
	unsynced := d.log.Unsynced()
	keep := 0
	if unsynced > 0 {
		d.reach.hit(writesLost)
		keep = d.w.net.IntN(unsynced + 1)
	}
	d.log = d.log.Crash(keep)
}

// device is the disk as one life of a process has it open. It implements
// raftstore.LogStore.
type device struct {
	*memlog.Store
	d *disk
	p *Proc
	r *task.Runtime
}

func (d *disk) open(p *Proc) *device { return &device{Store: d.log, d: d, p: p, r: task.New(p)} }

// Commit implements raftstore.LogStore. Until the sync has come back the batch
// is where other reads see it and a power cut may lose it.
func (v *device) Commit(b raftstore.LogBatch, sync bool) error {
	if !v.p.alive {
		return errors.New("sim: the process is dead")
	}
	if v.d.broken {
		v.d.broken, v.d.failedOnce = false, true
		v.d.reach.hit(writeFailed)
		return syscall.EIO
	}
	if err := v.Store.Commit(b.(watchedBatch).LogBatch, false); err != nil || !sync {
		return err
	}
	v.r.WaitFor(v.d.latency(), nil)
	return v.Store.Commit(v.Store.NewBatch(), true)
}

// NewBatch implements raftstore.LogStore.
func (v *device) NewBatch() raftstore.LogBatch {
	return watchedBatch{LogBatch: v.Store.NewBatch(), seen: v.d.checkpoint}
}

// Entries implements raftstore.LogStore.
func (v *device) Entries(g raftstore.GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if err := v.unreadable(g); err != nil {
		return nil, err
	}
	return v.Store.Entries(g, lo, hi, maxBytes)
}

// Term implements raftstore.LogStore.
func (v *device) Term(g raftstore.GroupID, index uint64) (uint64, error) {
	if err := v.unreadable(g); err != nil {
		return 0, err
	}
	return v.Store.Term(g, index)
}

// ReadEntry implements raftstore.LogStore.
func (v *device) ReadEntry(g raftstore.GroupID, index uint64, pos, n int) ([]byte, error) {
	if err := v.unreadable(g); err != nil {
		return nil, err
	}
	return v.Store.ReadEntry(g, index, pos, n)
}

// Snapshot implements raftstore.LogStore.
func (v *device) Snapshot(g raftstore.GroupID) (raftstore.Snapshot, error) {
	if err := v.unreadable(g); err != nil {
		return raftstore.Snapshot{}, err
	}
	return v.Store.Snapshot(g)
}

// View implements raftstore.LogStore.
func (v *device) View(g raftstore.GroupID) (raftstore.LogView, error) {
	if err := v.unreadable(g); err != nil {
		return nil, err
	}
	return v.Store.View(g)
}

// Rows implements raftstore.LogStore.
func (v *device) Rows(g raftstore.GroupID) raftstore.Rows { return deviceRows{v.Store.Rows(g), v, g} }

// deviceRows are the rows of a group on a device.
type deviceRows struct {
	raftstore.Rows
	v *device
	g raftstore.GroupID
}

// Get implements raftstore.Rows.
func (r deviceRows) Get(key []byte) (value []byte, ok bool, err error) {
	if err := r.v.unreadable(r.g); err != nil {
		return nil, false, err
	}
	return r.Rows.Get(key)
}

// Scan implements raftstore.Rows.
func (r deviceRows) Scan(lo, hi []byte, fn func(key, value []byte) bool) error {
	if err := r.v.unreadable(r.g); err != nil {
		return err
	}
	return r.Rows.Scan(lo, hi, fn)
}

// ScanReverse implements raftstore.Rows.
func (r deviceRows) ScanReverse(lo, hi []byte, fn func(key, value []byte) bool) error {
	if err := r.v.unreadable(r.g); err != nil {
		return err
	}
	return r.Rows.ScanReverse(lo, hi, fn)
}

func (d *disk) latency() time.Duration {
	l := 20 * time.Microsecond
	if d.fsync > 0 {
		l += time.Duration(d.w.net.Int64N(int64(d.fsync)))
	}
	if d.slow > 0 {
		l += time.Duration(d.w.net.Int64N(int64(d.slow)))
	}
	return l
}

// FreeBytes implements raftstore.LogStore.
func (v *device) FreeBytes() (uint64, error) {
	if v.d.full {
		v.d.reach.hit(diskFull)
		return 0, nil
	}
	return math.MaxUint64, nil
}

// directory is the small files of a partition node. It implements
// datafile.Files.
type directory struct {
	d *disk
	p *Proc
}

var _ datafile.Files = directory{}

// Read implements datafile.Files.
func (f directory) Read(name string) (data []byte, ok bool, err error) {
	data, ok = f.d.files[name]
	return data, ok, nil
}

// Write implements datafile.Files: a file is replaced as a whole or not at all.
func (f directory) Write(name string, data []byte) error {
	if f.p.alive {
		f.d.files[name] = append([]byte(nil), data...)
	}
	return nil
}
