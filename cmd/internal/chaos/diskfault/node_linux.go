package diskfault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a file or directory. What is not overridden is passed on as it is:
// looking, not changing.
type node struct {
	*fs.LoopbackNode
	disk *disk
}

// What would be changed without a note is refused, see below.
var (
	_ fs.NodeWrapChilder    = (*node)(nil)
	_ fs.NodeOpener         = (*node)(nil)
	_ fs.NodeCreater        = (*node)(nil)
	_ fs.NodeMkdirer        = (*node)(nil)
	_ fs.NodeRmdirer        = (*node)(nil)
	_ fs.NodeUnlinker       = (*node)(nil)
	_ fs.NodeRenamer        = (*node)(nil)
	_ fs.NodeSetattrer      = (*node)(nil)
	_ fs.NodeStatfser       = (*node)(nil)
	_ fs.NodeFsyncer        = (*node)(nil)
	_ fs.NodeOpendirHandler = (*node)(nil)
	_ fs.NodeLinker         = (*node)(nil)
	_ fs.NodeSymlinker      = (*node)(nil)
	_ fs.NodeMknoder        = (*node)(nil)
	_ fs.NodeTmpfiler       = (*node)(nil)
	_ fs.NodeCopyFileRanger = (*node)(nil)
)

// WrapChild implements fs.NodeWrapChilder.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), disk: n.disk}
}

// path returns where the node is kept.
func (n *node) path() string { return filepath.Join(n.disk.backing, n.Path(n.Root())) }

func inodeOf(path string) (uint64, error) {
	var st syscall.Stat_t
	err := syscall.Lstat(path, &st)
	return st.Ino, err
}

// Open implements fs.NodeOpener.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, err := n.open(n.path(), int(flags))
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	if flags&syscall.O_TRUNC != 0 {
		if err := h.content.resize(0); err != nil {
			return nil, 0, fs.ToErrno(errors.Join(err, h.LoopbackFile.Release(context.Background())))
		}
	}
	return h, 0, 0
}

// open opens a file; whatever may be written is known from here on.
func (n *node) open(path string, flags int) (*handle, error) {
	f, err := os.OpenFile(path, flags&^(os.O_APPEND|os.O_TRUNC|os.O_CREATE|os.O_EXCL), 0)
	if err != nil {
		return nil, err
	}
	h := &handle{LoopbackFile: fs.NewLoopbackFileFromOS(f), disk: n.disk, synced: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}
	if flags&syscall.O_ACCMODE == os.O_RDONLY {
		return h, nil
	}
	if h.inode, err = inodeOf(path); err == nil {
		h.content, err = n.disk.acquire(path, h.inode)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return h, nil
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if n.disk.full() {
		return nil, nil, 0, syscall.ENOSPC
	}
	dir, path := n.path(), filepath.Join(n.path(), name)
	var child *fs.Inode
	var errno syscall.Errno
	err := n.disk.enter(func() (*entry, error) {
		var plain fs.FileHandle
		child, plain, _, errno = n.LoopbackNode.Create(ctx, name, flags&^syscall.O_TRUNC|syscall.O_EXCL, mode, out)
		if errno != 0 {
			return nil, errno
		}
		if errno = plain.(fs.FileReleaser).Release(ctx); errno != 0 {
			return nil, errno
		}
		return added(dir, func() error { return os.Remove(path) })
	})
	if err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	h, err := n.open(path, int(flags))
	if err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	return child, h, 0, 0
}

// added is the note of a new name.
func added(dir string, undo func() error) (*entry, error) {
	inode, err := inodeOf(dir)
	return &entry{dirs: []uint64{inode}, undo: undo, forget: func() error { return nil }}, err
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	if n.disk.full() {
		return nil, syscall.ENOSPC
	}
	dir := n.path()
	err := n.disk.enter(func() (*entry, error) {
		if child, errno = n.LoopbackNode.Mkdir(ctx, name, mode, out); errno != 0 {
			return nil, errno
		}
		return added(dir, func() error { return os.RemoveAll(filepath.Join(dir, name)) })
	})
	return child, fs.ToErrno(err)
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	dir := n.path()
	return fs.ToErrno(n.disk.enter(func() (*entry, error) {
		if errno := n.LoopbackNode.Rmdir(ctx, name); errno != 0 {
			return nil, errno
		}
		return added(dir, func() error { return os.Mkdir(filepath.Join(dir, name), 0o755) })
	}))
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	dir, path := n.path(), filepath.Join(n.path(), name)
	return fs.ToErrno(n.disk.enter(func() (*entry, error) {
		kept, err := n.disk.store(path)
		if err != nil {
			return nil, err
		}
		if errno := n.LoopbackNode.Unlink(ctx, name); errno != 0 {
			return nil, errors.Join(errno, os.Remove(kept))
		}
		inode, err := inodeOf(dir)
		return &entry{
			dirs:   []uint64{inode},
			undo:   func() error { return os.Rename(kept, path) },
			forget: func() error { return os.Remove(kept) },
		}, err
	}))
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok || flags != 0 {
		return syscall.ENOTSUP
	}
	oldPath, newPath := filepath.Join(n.path(), name), filepath.Join(to.path(), newName)
	return fs.ToErrno(n.disk.enter(func() (*entry, error) {
		kept, err := n.disk.store(newPath)
		if errors.Is(err, os.ErrNotExist) {
			kept, err = "", nil
		}
		if err != nil {
			return nil, err
		}
		if err := os.Rename(oldPath, newPath); err != nil {
			return nil, err
		}
		from, err1 := inodeOf(filepath.Dir(oldPath))
		into, err2 := inodeOf(filepath.Dir(newPath))
		return &entry{
			dirs: []uint64{from, into},
			undo: func() error {
				err := os.Rename(newPath, oldPath)
				if kept != "" {
					err = errors.Join(err, os.Rename(kept, newPath))
				}
				return err
			},
			forget: func() error {
				if kept == "" {
					return nil
				}
				return os.Remove(kept)
			},
		}, errors.Join(err1, err2)
	}))
}

// Setattr implements fs.NodeSetattrer. Of sizes notes are taken; modes, owners and
// times are taken to be durable at once.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if err := n.resize(f, int64(size)); err != nil {
			return fs.ToErrno(err)
		}
		in.Valid &^= fuse.FATTR_SIZE
	}
	// Without the handle, whose own Setattr would come next.
	return n.LoopbackNode.Setattr(ctx, nil, in, out)
}

func (n *node) resize(f fs.FileHandle, size int64) error {
	if h, ok := f.(*handle); ok && h.content != nil {
		return h.content.resize(size)
	}
	path := n.path()
	inode, err := inodeOf(path)
	if err != nil {
		return err
	}
	c, err := n.disk.acquire(path, inode)
	if err != nil {
		return err
	}
	defer n.disk.release(inode, c)
	return c.resize(size)
}

// Statfs implements fs.NodeStatfser.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	errno := n.LoopbackNode.Statfs(ctx, out)
	f := n.disk.present()
	if errno == 0 && out.Bsize > 0 && (f.Low > 0 || f.Full) {
		out.Bfree = min(out.Bfree, f.Low/uint64(out.Bsize))
		out.Bavail = min(out.Bavail, f.Low/uint64(out.Bsize))
	}
	return errno
}

// Fsync implements fs.NodeFsyncer for files and directories. The directory below
// is not synced: only this process knows what its disk has saved.
func (n *node) Fsync(_ context.Context, f fs.FileHandle, _ uint32) syscall.Errno {
	h, file := f.(*handle)
	if !n.disk.synced() {
		if file && h.content != nil {
			h.content.refused()
		}
		return syscall.EIO
	}
	switch {
	case n.disk.present().SyncLies:
	case !file:
		inode, err := inodeOf(n.path())
		if err == nil {
			err = n.disk.saveEntries(inode)
		}
		return fs.ToErrno(err)
	case h.content != nil:
		h.content.synced()
	default:
		return fs.ToErrno(n.disk.syncedElsewhere(n.path()))
	}
	return 0
}

// OpendirHandle implements fs.NodeOpendirHandler without the fsync of its handle,
// so that Fsync above is asked.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, fuseFlags, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &dirHandle{h.(dirStream)}, fuseFlags, 0
}

// dirStream is what reading a directory takes.
type dirStream interface {
	fs.FileReaddirenter
	fs.FileReleasedirer
	fs.FileSeekdirer
}

type dirHandle struct{ dirStream }

// Link, Symlink, Mknod and Tmpfile would make what no note could take back.

// Link implements fs.NodeLinker.
func (n *node) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// Symlink implements fs.NodeSymlinker.
func (n *node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// Mknod implements fs.NodeMknoder.
func (n *node) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// Tmpfile implements fs.NodeTmpfiler.
func (n *node) Tmpfile(context.Context, uint32, uint32, *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.ENOTSUP
}

// CopyFileRange implements fs.NodeCopyFileRanger: the kernel reads and writes
// instead.
func (n *node) CopyFileRange(context.Context, fs.FileHandle, uint64, *fs.Inode, fs.FileHandle, uint64, uint64, uint64) (uint32, syscall.Errno) {
	return 0, syscall.ENOSYS
}
