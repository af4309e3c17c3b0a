package partition

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/datafile"
)

// FuzzDataFiles: a node that finds any bytes at all in the place of its
// files names the damage or takes what they say; it never panics.
func FuzzDataFiles(f *testing.F) {
	dir := f.TempDir()
	id := identity{node: 7, instance: "i", cluster: "c"}
	if err := id.write(datafile.Directory(dir)); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, identityFile.File))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte(identityMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		for _, name := range []string{identityFile.File, assignmentFile.File, damageFile.File} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := openIdentity(datafile.Directory(dir), 7, ""); err == nil && got.node != 7 {
			t.Errorf("node 7 took the identity of node %d", got.node)
		}
		_, _ = loadDamage(datafile.Directory(dir))
		_, _ = loadAssignment(datafile.Directory(dir)) // must only not panic: its error is the node's to judge
		if got, err := decodeIdentity(data); err == nil {
			b := codec.AppendUint64(nil, got.node)
			b = codec.AppendString(codec.AppendString(b, got.instance), got.cluster)
			if again, err := decodeIdentity(b); err != nil || again != got {
				t.Errorf("%+v comes back as %+v, %v", got, again, err)
			}
		}
	})
}
