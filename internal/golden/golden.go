// Package golden holds formats to the bytes that were once written.
//
// A golden file has samples of one version of one format, a line each: a name
// and the bytes in hexadecimal. A test writes the samples with today's code and
// compares, and reads those of the file back. A change of a format gets a new
// version with a file of its own; the files of older versions stay, and are read
// for as long as the format's table in FORMATS.md names them.
package golden

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var write = flag.Bool("golden", false, "write the golden files of formats; for a version that was never released")

// Sample is an example of a format.
type Sample struct {
	// Name says what it is, in one word.
	Name  string
	Bytes []byte
}

// Path is where the golden file of a format is, from the folder of the package
// that owns it.
func Path(format string, version int) string {
	return filepath.Join("testdata", "formats", fmt.Sprintf("%s_v%d.golden", format, version))
}

// Check fails t unless the samples are those of the golden file, byte by byte.
func Check(t testing.TB, format string, version int, samples []Sample) {
	t.Helper()
	if *write {
		Write(t, format, version, samples)
	}
	want := Read(t, format, version)
	if len(want) != len(samples) {
		t.Errorf("%s: %d samples, the golden file has %d (go test -golden writes it)", format, len(samples), len(want))
		return
	}
	for i, s := range samples {
		if w := want[i]; s.Name != w.Name || string(s.Bytes) != string(w.Bytes) {
			t.Errorf("%s: this code writes\n%s %x\nand version %d was\n%s %x\nA changed format is another version.",
				format, s.Name, s.Bytes, version, w.Name, w.Bytes)
		}
	}
}

// Writing reports whether golden files are to be written.
func Writing() bool { return *write }

// Write replaces a golden file.
func Write(t testing.TB, format string, version int, samples []Sample) {
	t.Helper()
	var text strings.Builder
	for _, s := range samples {
		if s.Name == "" || strings.ContainsAny(s.Name, " \n") {
			t.Fatalf("a sample's name is one word: %q", s.Name)
		}
		fmt.Fprintf(&text, "%s %x\n", s.Name, s.Bytes)
	}
	path := Path(format, version)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Read returns the samples of a golden file.
func Read(t testing.TB, format string, version int) []Sample {
	t.Helper()
	text, err := os.ReadFile(Path(format, version))
	if err != nil {
		t.Fatal(err)
	}
	var samples []Sample
	for line := range strings.Lines(string(text)) {
		name, digits, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		b, err := hex.DecodeString(digits)
		if !ok || err != nil {
			t.Fatalf("%s: not a sample: %q", Path(format, version), line)
		}
		samples = append(samples, Sample{Name: name, Bytes: b})
	}
	if len(samples) == 0 {
		t.Fatalf("%s is empty", Path(format, version))
	}
	return samples
}
