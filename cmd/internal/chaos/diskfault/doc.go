// Package diskfault is a disk that can fail: a file system over a directory, on
// which fsync takes time or fails, space runs out, and a power cut loses what was
// written and not synced.
//
// A process on it runs as on any file system; what it reads is what it wrote.
// Everything that is written goes straight to the directory below, and notes are
// taken of how to take it back: the old bytes of every write, the old name of
// every renamed file. An fsync of a file forgets the notes of its bytes, one of a
// directory those of its entries. [Disk.PowerCut] follows the notes backwards.
//
// That is as little as POSIX promises, and less than most file systems keep: the
// fsync of a new file does not save its name. A process that survives here has
// synced everything that it told others about.
//
// It needs FUSE, which is Linux with /dev/fuse and, for other users than root,
// fusermount. [Available] tells.
package diskfault

import (
	"errors"
	"time"
)

// ErrUnavailable says that there is no FUSE on this machine.
var ErrUnavailable = errors.New("no FUSE")

// Faults are what is wrong with a disk. The zero Faults: nothing.
type Faults struct {
	// SyncDelay is how much longer every fsync takes.
	SyncDelay time.Duration
	// SyncFails makes every fsync fail with EIO. As with most kernels what it was to
	// save is lost, even if a later fsync succeeds.
	SyncFails bool
	// SyncLies makes every fsync succeed and save nothing. No program survives that;
	// it is for tests of those who are to notice.
	SyncLies bool
	// Full makes everything that needs space fail with ENOSPC.
	Full bool
	// Low makes the disk tell that this many bytes are free; 0: what is true.
	Low uint64
}

// Stats count what happened on a disk.
type Stats struct {
	// Syncs and FailedSyncs of files and directories.
	Syncs, FailedSyncs int64
	// Refused is the number of writes that failed for lack of space.
	Refused int64
	// LostBytes and LostNames were taken back by power cuts: bytes written, and
	// changes of directories.
	LostBytes, LostNames int64
}
