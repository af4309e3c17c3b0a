package datafile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/golden"
)

var format = Format{File: "f", What: "node identity", Magic: "oltest.", First: 1, Last: 2}

// TestDamageIsNamed changes every bit and cuts at every byte.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	dir := Directory(t.TempDir())
	path := filepath.Join(string(dir), "f")
	if _, _, ok, err := format.Read(dir); ok || err != nil {
		t.Errorf("no file: %v %v", ok, err)
	}
	for _, text := range []string{"payload", "payload 2"} {
		if err := format.Write(dir, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, v, ok, err := format.Read(dir); !ok || err != nil || string(got) != "payload 2" || v != 2 {
		t.Errorf("%q of version %d: %v %v", got, v, ok, err)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, _, err := format.Read(dir)
		if !errors.Is(err, ErrDamaged) || !strings.HasPrefix(err.Error(), path+": node identity file is damaged: ") {
			t.Fatalf("%x: %v", b, err)
		}
	}
	for i := range whole {
		refused(whole[:i])
		for bit := range 8 {
			bad := bytes.Clone(whole)
			bad[i] ^= 1 << bit
			refused(bad)
		}
	}
	refused(append(bytes.Clone(whole), 0))
}

// TestNewerFile: another version is not damage, and is told as what it is.
func TestNewerFile(t *testing.T) {
	t.Parallel()
	dir := Directory(t.TempDir())
	newer := format
	newer.Last = 3
	if err := newer.Write(dir, []byte("x")); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := format.Read(dir)
	want := string(dir) + "/f: node identity: version 3 is unknown, this program reads version 1 to 2; a newer program wrote it"
	if !errors.Is(err, codec.ErrVersion) || errors.Is(err, ErrDamaged) || !strings.HasPrefix(err.Error(), want) {
		t.Error(err)
	}
	older := format
	older.Last = 1
	if err := older.Write(dir, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, v, ok, err := format.Read(dir); string(got) != "x" || v != 1 || !ok || err != nil {
		t.Errorf("%q of version %d: %v %v", got, v, ok, err)
	}
}

// memory is Files without a disk.
type memory map[string][]byte

func (m memory) Read(name string) ([]byte, bool, error) { data, ok := m[name]; return data, ok, nil }

func (m memory) Write(name string, data []byte) error { m[name] = bytes.Clone(data); return nil }

// TestFormat: the frame is the same for every version.
func TestFormat(t *testing.T) {
	t.Parallel()
	files := memory{}
	if err := format.Write(files, []byte("payload")); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "data-file", frameVersion, []golden.Sample{{Name: "version-2", Bytes: files["f"]}})
	files["f"] = golden.Read(t, "data-file", 1)[0].Bytes
	if got, v, ok, err := format.Read(files); string(got) != "payload" || v != 2 || !ok || err != nil {
		t.Errorf("%q of version %d: %v %v", got, v, ok, err)
	}
	if PlaceOf(files) != "the disk" || PathOf(files, "f") != "f" {
		t.Error("a disk without a directory has a path")
	}
}
