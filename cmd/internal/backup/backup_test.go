package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/api/codec"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/golden"
)

// files is a directory in memory.
type files map[string][]byte

func (f files) Read(name string) ([]byte, bool, error) { b, ok := f[name]; return b, ok, nil }

func (f files) Write(name string, data []byte) error { f[name] = slices.Clone(data); return nil }

var sample = Manifest{
	ID: "ID", ClusterID: "cluster", Program: "v1", TakenAt: 1_700_000_000_000, Held: 4_200, Coordinator: Part{Bytes: 300, Sum: [32]byte{1, 2, 3}},
	Shards: []Shard{
		{Part: Part{Bytes: 1 << 40, Sum: [32]byte{9}}, ID: 2, Index: 70, Term: 3, Partitions: []Partition{
			{ID: 1, Topic: "orders", Index: 0, Start: 5, Stable: 90, End: 100}, {ID: 4, Topic: "orders", Index: 3},
		}},
		{Part: Part{Bytes: 8}, ID: 3, Index: 1, Term: 1},
	},
}

func TestFormats(t *testing.T) {
	t.Parallel()
	written := files{}
	if err := manifestFormat.Write(written, sample.encode()); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "backup-manifest", manifestVersion, []golden.Sample{{Name: "two-shards", Bytes: written[ManifestFile]}})
	for _, s := range golden.Read(t, "backup-manifest", manifestVersion) {
		payload, _, ok, err := manifestFormat.Read(files{ManifestFile: s.Bytes})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if m, err := decodeManifest(payload); err != nil || fmt.Sprint(m) != fmt.Sprint(sample) {
			t.Errorf("%s: %+v, %v", s.Name, m, err)
		}
	}
	path, part := writePart(t, "one", "and another")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if part.Bytes != uint64(len(b)) {
		t.Errorf("%d bytes, and there are %d", part.Bytes, len(b))
	}
	golden.Check(t, "backup-part", partVersion, []golden.Sample{{Name: "two-pieces", Bytes: b}})
	for _, s := range golden.Read(t, "backup-part", partVersion) {
		var got []string
		if _, err := readPieces(bytes.NewReader(s.Bytes), s.Name, func(p []byte) error { got = append(got, string(p)); return nil }); err != nil || !slices.Equal(got, []string{"one", "and another"}) {
			t.Errorf("%s: %q, %v", s.Name, got, err)
		}
	}
}

func writePart(t testing.TB, pieces ...string) (string, Part) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "part")
	w, err := createPart(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		if err := w.add([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.close()
	if err != nil {
		t.Fatal(err)
	}
	return path, part
}

// A version that is not known is not damage.
func TestOtherVersionsAreNamed(t *testing.T) {
	t.Parallel()
	path, part := writePart(t, "one")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(partMagic)] = partVersion + 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readPart(path, part, func(int) {}, func([]byte) error { return nil }); !errors.Is(err, codec.ErrVersion) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

// taken is a backup of a cluster in memory, with records in several shards.
func taken(t *testing.T) string {
	t.Helper()
	c := clienttest.Start(t, clienttest.WithNodes(2), clienttest.WithShardsPerNode(2))
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := cl.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: "t", Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	p, err := cl.InitTransactions(ctx, "id")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := p.Transact(ctx, func(tx *client.Tx) error {
			return tx.Send(ctx, &client.Record{Topic: "t", Key: fmt.Appendf(nil, "%d", i), Value: bytes.Repeat([]byte("v"), 500)})
		}); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "backup")
	m, err := Take(ctx, cl.Admin(), dir, Options{Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	records := uint64(0)
	for _, s := range m.Shards {
		for _, p := range s.Partitions {
			records += p.End
		}
	}
	if records != 20 || len(m.Shards) < 2 {
		t.Fatalf("%d records in %d shards", records, len(m.Shards))
	}
	return dir
}

// Whatever happens to a file of a backup is found, and the file is named, by verify
// and by restore; and nothing is left of what was not restored.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	dir := taken(t)
	r, err := Verify(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Topics != 1 || r.TransactionalIDs != 1 || r.Contents.ClusterID != r.Manifest.ClusterID {
		t.Errorf("%+v", r.Contents)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(r.Manifest.Shards)+2 {
		t.Fatalf("%d files", len(entries))
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		look := func(what string, now []byte) {
			t.Helper()
			if now == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, now, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.WriteFile(path, was, 0o600); err != nil {
					t.Fatal(err)
				}
			}()
			if _, err := Verify(dir, nil); !errors.Is(err, ErrDamaged) && !errors.Is(err, codec.ErrVersion) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of %s: verified with %v", what, e.Name(), err)
			}
			if now != nil && len(now) != len(was)-1 {
				return // one is enough of what takes long
			}
			to := filepath.Join(t.TempDir(), "node")
			plan := Plan{ClusterID: "new", Coordinators: []uint64{1}, Nodes: []uint64{1}, MakeNodes: map[uint64]string{1: to}}
			if _, err := Restore(dir, plan); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of %s: restored with %v", what, e.Name(), err)
			}
			if left, _ := filepath.Glob(to + "*"); len(left) > 0 {
				t.Errorf("%s of %s: left %v", what, e.Name(), left)
			}
		}
		look("loss", nil)
		look("an empty one", []byte{})
		look("a cut", was[:len(was)-1])
		look("a cut in half", was[:len(was)/2])
		look("more", append(slices.Clone(was), 0))
		for at := 0; at < len(was); at += max(len(was)/7, 1) {
			flipped := slices.Clone(was)
			flipped[at] ^= 1 << (at % 8)
			look(fmt.Sprintf("a bit at %d", at), flipped)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "stranger"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, nil); err == nil || !strings.Contains(err.Error(), "stranger") {
		t.Errorf("a stranger: %v", err)
	}
}

// A restore makes what is asked for, and nothing over something else.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	dir := taken(t)
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() string { return filepath.Join(t.TempDir(), "node") }
	for name, plan := range map[string]Plan{
		"a directory in use":    {ClusterID: "new", Coordinators: []uint64{1}, MakeNodes: map[uint64]string{1: used}},
		"the old cluster's id":  {ClusterID: m.ClusterID, Coordinators: []uint64{1}, MakeNodes: map[uint64]string{1: fresh()}},
		"no id":                 {Coordinators: []uint64{1}, MakeNodes: map[uint64]string{1: fresh()}},
		"no coordinators":       {ClusterID: "new", MakeNodes: map[uint64]string{1: fresh()}},
		"another coordinator":   {ClusterID: "new", Coordinators: []uint64{1}, MakeCoordinators: map[uint64]string{2: fresh()}},
		"a node of another one": {ClusterID: "new", Coordinators: []uint64{1}, MakeNodes: map[uint64]string{3: fresh()}},
	} {
		if _, err := Restore(dir, plan); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
	if _, err := Restore(filepath.Join(dir, "nothing"), Plan{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("from nothing: %v", err)
	}
}

// A backup that was interrupted is none, and the next one says so.
func TestWhatIsPartialIsNoBackup(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backup")
	if err := os.Mkdir(dir+".partial", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(t.Context(), nil, dir, Options{}); err == nil || !strings.Contains(err.Error(), ".partial") {
		t.Error(err)
	}
	if _, err := Describe(dir + ".partial"); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(sample.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		again, err := decodeManifest(m.encode())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Errorf("%+v became %+v: %v", m, again, err)
		}
	})
}

func FuzzPieces(f *testing.F) {
	path, _ := writePart(f, "one", "two")
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		total := partHeader
		size, err := readPieces(bytes.NewReader(b), "fuzz", func(p []byte) error { total += pieceHeader + len(p); return nil })
		if err == nil && (size != uint64(len(b)) || total != len(b)) {
			t.Errorf("%d of %d bytes", size, len(b))
		}
	})
}

func FuzzShard(f *testing.F) {
	f.Add(uint64(3), []byte{1, 1, 1, 2}, []byte{'c', 2, 'a', 'b'}, []byte{'e', 2, 1, 0, 1, 'x', 'e', 3, 1, 0, 0})
	f.Fuzz(func(_ *testing.T, index uint64, a, b, c []byte) {
		r := newShardReader(index)
		for _, piece := range [][]byte{a, b, c} {
			if r.Add(piece) != nil {
				return
			}
		}
		_, _ = r.contents()
	})
}

var _ datafile.Files = files{}
