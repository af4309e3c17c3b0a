package diskfault

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// handle is an open file.
type handle struct {
	*fs.LoopbackFile
	disk    *disk
	inode   uint64
	content *content // nil: opened for reading
	synced  bool     // every write is an fsync, too
}

var (
	_ fs.FileWriter          = (*handle)(nil)
	_ fs.FileAllocater       = (*handle)(nil)
	_ fs.FileSetattrer       = (*handle)(nil)
	_ fs.FileReleaser        = (*handle)(nil)
	_ fs.FilePassthroughFder = (*handle)(nil)
)

// Write implements fs.FileWriter.
func (h *handle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if h.content == nil {
		return 0, syscall.EBADF
	}
	if h.disk.full() {
		return 0, syscall.ENOSPC
	}
	n, err := h.content.write(data, off)
	if err != nil || !h.synced {
		return uint32(n), fs.ToErrno(err)
	}
	if !h.disk.synced() {
		h.content.refused()
		return 0, syscall.EIO
	}
	if !h.disk.present().SyncLies {
		h.content.synced()
	}
	return uint32(n), 0
}

// keepSize is FALLOC_FL_KEEP_SIZE: space is set aside, and no reader sees it.
const keepSize = 1

// Allocate implements fs.FileAllocater for what changes no byte.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	switch {
	case mode != keepSize:
		return syscall.ENOTSUP
	case h.disk.full():
		return syscall.ENOSPC
	default:
		return h.LoopbackFile.Allocate(ctx, off, size, mode)
	}
}

// Setattr implements fs.FileSetattrer. The kernel asks the node.
func (h *handle) Setattr(context.Context, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.ENOTSUP
}

// Release implements fs.FileReleaser.
func (h *handle) Release(ctx context.Context) syscall.Errno {
	if h.content != nil {
		h.disk.release(h.inode, h.content)
	}
	return h.LoopbackFile.Release(ctx)
}

// PassthroughFd implements fs.FilePassthroughFder: no, the kernel must not read
// and write by itself.
func (h *handle) PassthroughFd() (int, bool) { return 0, false }
