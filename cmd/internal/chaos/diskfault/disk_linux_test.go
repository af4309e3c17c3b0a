package diskfault

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/logtest"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// serveVariable makes the test binary a disk's process.
const serveVariable = "DISKFAULT_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveVariable); dir != "" {
		if err := Serve(filepath.Join(dir, "disk"), filepath.Join(dir, "mnt"), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// use is how a test uses a disk.
type use struct {
	t *testing.T
	*Disk
	dir string
}

// newDisk mounts a disk, or skips the test where there is no FUSE.
func newDisk(t *testing.T) use {
	t.Helper()
	u := use{t: t, dir: t.TempDir()}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveVariable+"="+u.dir)
	cmd.Stderr = os.Stderr
	var err error
	u.Disk, err = Start(cmd)
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("%v", err)
	}
	u.ok(err)
	t.Cleanup(func() { u.ok(u.Close()) })
	return u
}

func (u use) path(name string) string { return filepath.Join(u.dir, "mnt", name) }

func (u use) stats() Stats {
	u.t.Helper()
	s, err := u.Stats()
	u.ok(err)
	return s
}

func (u use) ok(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

// open opens a file that is created if it is missing.
func (u use) open(name string) *os.File {
	u.t.Helper()
	f, err := os.OpenFile(u.path(name), os.O_RDWR|os.O_CREATE, 0o644)
	u.ok(err)
	return f
}

// save writes a file durably, its name included.
func (u use) save(name, text string) {
	u.t.Helper()
	f := u.open(name)
	u.ok(f.Truncate(0))
	_, err := f.WriteString(text)
	u.ok(err)
	u.ok(f.Sync())
	u.ok(f.Close())
	u.syncDir(filepath.Dir(name))
}

func (u use) syncDir(name string) {
	u.t.Helper()
	f, err := os.Open(u.path(name))
	u.ok(err)
	u.ok(f.Sync())
	u.ok(f.Close())
}

// write writes at an offset without a sync.
func (u use) write(name string, off int64, text string) {
	u.t.Helper()
	f := u.open(name)
	_, err := f.WriteAt([]byte(text), off)
	u.ok(err)
	u.ok(f.Close())
}

func (u use) want(name, text string) {
	u.t.Helper()
	got, err := os.ReadFile(u.path(name))
	u.ok(err)
	if string(got) != text {
		u.t.Errorf("%s: %q, want %q", name, shortened(got), shortened([]byte(text)))
	}
}

func shortened(b []byte) []byte { return b[:min(len(b), 60)] }

func (u use) wantNames(dir string, names ...string) {
	u.t.Helper()
	entries, err := os.ReadDir(u.path(dir))
	u.ok(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		u.t.Errorf("%s: %q, want %q", dir, got, names)
	}
}

// TestPassesThrough: without faults it is a file system as any other.
func TestPassesThrough(t *testing.T) {
	u := newDisk(t)
	u.ok(os.MkdirAll(u.path("a/b"), 0o755))
	big := strings.Repeat("0123456789abcdef", 50_000)
	u.save("a/b/big", big)
	u.write("a/b/big", 5, "XXX")
	u.want("a/b/big", big[:5]+"XXX"+big[8:])
	f, err := os.OpenFile(u.path("a/log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	u.ok(err)
	for i := range 3 {
		_, err := fmt.Fprintf(f, "line %d\n", i)
		u.ok(err)
	}
	u.ok(f.Close())
	u.want("a/log", "line 0\nline 1\nline 2\n")
	u.ok(os.Rename(u.path("a/log"), u.path("a/b/log")))
	u.ok(os.Truncate(u.path("a/b/log"), 6))
	u.want("a/b/log", "line 0")
	u.ok(os.WriteFile(u.path("a/b/log"), []byte("new"), 0o600)) // with O_TRUNC
	u.want("a/b/log", "new")
	u.wantNames("a", "b")
	u.wantNames("a/b", "big", "log")
	u.ok(os.RemoveAll(u.path("a")))
	u.wantNames(".")
	if _, err := os.Stat(u.path("a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a removed directory: %v", err)
	}
}

// TestPowerCutLosesBytes: what was not synced is gone, what was is there.
func TestPowerCutLosesBytes(t *testing.T) {
	u := newDisk(t)
	u.save("f", "synced text")
	u.write("f", 0, "OVER")
	u.write("f", 7, "written and made longer")
	u.ok(os.Truncate(u.path("f"), 9))
	u.want("f", "OVERed wr")
	u.ok(u.PowerCut())
	u.want("f", "synced text")
	u.write("f", 11, " and more")
	u.ok(u.PowerCut())
	u.want("f", "synced text")
	if s := u.stats(); s.LostBytes != 4+23+9 {
		t.Errorf("lost %d bytes", s.LostBytes)
	}
	u.save("f", "short")
	u.ok(u.PowerCut())
	u.want("f", "short")
}

// TestSyncSavesWhatItIsAbout: an fsync of one file saves no other, and not its
// name; fdatasync and O_DSYNC save as fsync does.
func TestSyncSavesWhatItIsAbout(t *testing.T) {
	u := newDisk(t)
	u.save("f", "")
	u.save("g", "")
	u.save("h", "")
	f, g := u.open("f"), u.open("g")
	for _, file := range []*os.File{f, g} {
		_, err := file.WriteString("text")
		u.ok(err)
	}
	u.ok(syscall.Fdatasync(int(f.Fd())))
	u.ok(f.Close())
	u.ok(g.Close())
	h, err := os.OpenFile(u.path("h"), os.O_WRONLY|syscall.O_DSYNC, 0)
	u.ok(err)
	_, err = h.WriteString("text")
	u.ok(err)
	u.ok(h.Close())
	fresh := u.open("fresh")
	u.ok(fresh.Sync())
	u.ok(fresh.Close())
	u.ok(u.PowerCut())
	u.want("f", "text")
	u.want("g", "")
	u.want("h", "text")
	u.wantNames(".", "f", "g", "h")
}

// TestPowerCutLosesNames: new, renamed and removed files, as long as their
// directory was not synced.
func TestPowerCutLosesNames(t *testing.T) {
	u := newDisk(t)
	u.ok(os.Mkdir(u.path("dir"), 0o755))
	u.syncDir(".")
	for _, name := range []string{"kept", "moved", "over", "removed"} {
		u.save("dir/"+name, name)
	}
	change := func() {
		u.ok(os.WriteFile(u.path("dir/new"), []byte("new"), 0o644))
		u.ok(os.Rename(u.path("dir/moved"), u.path("dir/over")))
		u.ok(os.Remove(u.path("dir/removed")))
		u.ok(os.MkdirAll(u.path("dir/sub/deep"), 0o755))
		u.ok(os.WriteFile(u.path("dir/sub/file"), nil, 0o644))
		u.wantNames("dir", "kept", "new", "over", "sub")
		u.want("dir/over", "moved")
	}
	change()
	u.ok(u.PowerCut())
	u.wantNames("dir", "kept", "moved", "over", "removed")
	for _, name := range []string{"kept", "moved", "over", "removed"} {
		u.want("dir/"+name, name)
	}
	change()
	u.syncDir("dir")
	u.ok(u.PowerCut())
	u.wantNames("dir", "kept", "new", "over", "sub")
	u.wantNames("dir/sub") // its own entries were not synced
	u.want("dir/over", "moved")
	u.want("dir/new", "") // nor the file's bytes
	if kept, err := os.ReadDir(filepath.Join(u.dir, "disk", "attic")); err != nil || len(kept) != 0 {
		t.Errorf("still kept for a power cut: %v %v", kept, err)
	}
}

// TestTornPowerCut: with a generator, of every file a prefix of the writes stays,
// torn between sectors, and nothing else.
func TestTornPowerCut(t *testing.T) {
	u := newDisk(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	lengths := map[int]int{}
	const writes, size = 4, 4 * sector
	for range 300 {
		u.save("f", strings.Repeat("-", size))
		f := u.open("f")
		for i := range writes {
			_, err := f.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, size), int64(size+i*size))
			u.ok(err)
		}
		_, err := f.WriteAt([]byte("first"), 0) // the last of the writes
		u.ok(err)
		u.ok(f.Close())
		u.ok(u.TornPowerCut(rng.Uint64()))
		got, err := os.ReadFile(u.path("f"))
		u.ok(err)
		u.checkPrefix(got, size)
		lengths[len(got)]++
	}
	if len(lengths) < 5 || lengths[size] == 0 || lengths[size+writes*size] == 0 {
		t.Errorf("not everything happens: %v", lengths)
	}
}

// checkPrefix checks that a file of TestTornPowerCut is what a prefix of its
// writes leads to.
func (u use) checkPrefix(got []byte, size int) {
	u.t.Helper()
	if len(got)%sector != 0 || len(got) < size {
		u.t.Errorf("a length of %d", len(got))
	}
	for i, c := range got[size:] {
		if c != byte('a'+i/size) {
			u.t.Fatalf("byte %d is %q", size+i, c)
		}
	}
	last := strings.HasPrefix(string(got), "first")
	if last && len(got) != 5*size || !last && !strings.HasPrefix(string(got), "-----") {
		u.t.Errorf("the last write: %q, of %d bytes", got[:8], len(got))
	}
}

// TestSyncFails: a failed fsync says so, and its bytes are lost even if a later
// one succeeds, as with a kernel that has dropped the dirty pages.
func TestSyncFails(t *testing.T) {
	u := newDisk(t)
	u.save("f", "before")
	f := u.open("f")
	_, err := f.WriteAt([]byte("lost"), 0)
	u.ok(err)
	u.ok(u.Set(Faults{SyncFails: true}))
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync: %v, want EIO", err)
	}
	u.ok(u.Set(Faults{}))
	u.ok(f.Sync())
	u.ok(f.Close())
	u.want("f", "lostre")
	u.ok(u.PowerCut())
	u.want("f", "before")
	if s := u.stats(); s.FailedSyncs != 1 {
		t.Errorf("%d failed fsyncs", s.FailedSyncs)
	}
}

// TestSyncLies: an fsync that says it worked, and a power cut.
func TestSyncLies(t *testing.T) {
	u := newDisk(t)
	u.save("f", "before")
	u.ok(u.Set(Faults{SyncLies: true}))
	u.save("f", "after")
	u.save("g", "new")
	u.ok(u.PowerCut())
	u.want("f", "before")
	u.wantNames(".", "f")
}

// TestSyncDelay: an fsync takes as long as it is told, a write does not.
func TestSyncDelay(t *testing.T) {
	u := newDisk(t)
	const delay = 100 * time.Millisecond
	u.ok(u.Set(Faults{SyncDelay: delay}))
	f := u.open("f")
	_, err := f.WriteString("text")
	u.ok(err)
	begin := time.Now()
	u.ok(f.Sync())
	if took := time.Since(begin); took < delay {
		t.Errorf("fsync took %v", took)
	}
	u.ok(f.Close())
}

func TestFull(t *testing.T) {
	u := newDisk(t)
	u.save("f", "text")
	f := u.open("f")
	u.ok(u.Set(Faults{Full: true}))
	if _, err := f.WriteAt([]byte("more"), 4); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v, want ENOSPC", err)
	}
	if err := syscall.Fallocate(int(f.Fd()), keepSize, 0, 1<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("fallocate: %v, want ENOSPC", err)
	}
	if err := os.WriteFile(u.path("g"), nil, 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v, want ENOSPC", err)
	}
	if err := os.Mkdir(u.path("d"), 0o755); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("mkdir: %v, want ENOSPC", err)
	}
	if free := u.free(); free != 0 {
		t.Errorf("%d bytes are free", free)
	}
	u.ok(os.Rename(u.path("f"), u.path("h")))
	u.want("h", "text")
	u.ok(u.Set(Faults{Low: 1 << 20}))
	if free := u.free(); free != 1<<20 {
		t.Errorf("%d bytes are free, want 1 MiB", free)
	}
	_, err := f.WriteAt([]byte("more"), 4)
	u.ok(err)
	u.ok(f.Close())
	u.ok(u.Set(Faults{}))
	if free := u.free(); free <= 1<<20 {
		t.Errorf("%d bytes are free", free)
	}
	if s := u.stats(); s.Refused != 4 {
		t.Errorf("%d writes were refused", s.Refused)
	}
}

func (u use) free() uint64 {
	u.t.Helper()
	usage, err := vfs.Default.GetDiskUsage(u.path(""))
	u.ok(err)
	return usage.AvailBytes
}

// TestRefusesWhatItCannotTakeBack: a link or device would escape the notes.
func TestRefusesWhatItCannotTakeBack(t *testing.T) {
	u := newDisk(t)
	u.save("f", "text")
	for what, err := range map[string]error{
		"link":    os.Link(u.path("f"), u.path("g")),
		"symlink": os.Symlink("f", u.path("g")),
		"fifo":    syscall.Mkfifo(u.path("g"), 0o600),
	} {
		if !errors.Is(err, syscall.ENOTSUP) {
			t.Errorf("%s: %v, want ENOTSUP", what, err)
		}
	}
	f := u.open("f")
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 1<<20); !errors.Is(err, syscall.ENOTSUP) {
		t.Errorf("fallocate that makes a file longer: %v, want ENOTSUP", err)
	}
	u.ok(syscall.Fallocate(int(f.Fd()), keepSize, 0, 1<<20))
	u.ok(f.Close())
	u.want("f", "text")
}

// TestLogStore: the log device of the nodes is as it should be on such a disk,
// also when the power is cut whenever it is closed.
func TestLogStore(t *testing.T) {
	open := func(u use) raftstore.LogStore {
		s, err := pebblelog.Open(pebblelog.Config{Dir: u.path("log")})
		u.ok(err)
		m := &mounted{Store: s, on: u}
		u.t.Cleanup(func() { u.ok(m.Close()) })
		return m
	}
	logtest.Run(t, logtest.Harness{
		Open: func(t *testing.T) raftstore.LogStore { return open(newDisk(t)) },
		Reopen: func(t *testing.T, s raftstore.LogStore) raftstore.LogStore {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			u := s.(*mounted).on
			u.ok(u.PowerCut())
			return open(u)
		},
	})
}

// mounted remembers where a store lives, and can be closed again.
type mounted struct {
	*pebblelog.Store
	on     use
	closed bool
}

func (m *mounted) Close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	return m.Store.Close()
}
