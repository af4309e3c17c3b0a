package arch

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// format is a row of FORMATS.md.
type format struct {
	name     string
	versions []int
	constant string // folder.name
}

var formatRow = regexp.MustCompile("^\\| ([a-z-]+) \\| ([0-9, ]+) \\| `([A-Za-z0-9/.]+)` \\|")

func formats(t *testing.T) []format {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "FORMATS.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []format
	for line := range strings.Lines(string(page)) {
		m := formatRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		f := format{name: m[1], constant: m[3]}
		for _, text := range strings.Split(m[2], ", ") {
			v, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("FORMATS.md: versions of %s: %v", f.name, err)
			}
			f.versions = append(f.versions, v)
		}
		all = append(all, f)
	}
	if len(all) < 10 {
		t.Fatalf("FORMATS.md has %d rows that can be read", len(all))
	}
	return all
}

// golden returns the golden file of a version, from the root.
func (f format) golden(version int) string {
	dir := f.constant[:strings.LastIndex(f.constant, ".")]
	return path.Join(dir, "testdata", "formats", f.name+"_v"+strconv.Itoa(version)+".golden")
}

// TestFormatsHaveGoldenFiles: a format that is changed without a new version is
// found by the users whose data it was. So each has a constant for its version, a
// row that says where it is, and a file of bytes for every version that is read.
func TestFormatsHaveGoldenFiles(t *testing.T) {
	t.Parallel()
	constants := versionConstants(t)
	var files []string
	for _, f := range formats(t) {
		newest, ok := constants[f.constant]
		if !ok {
			t.Errorf("FORMATS.md: %s: there is no constant %s", f.name, f.constant)
		}
		if newest != f.versions[len(f.versions)-1] {
			t.Errorf("FORMATS.md: %s: the newest version is %d, %s is %d", f.name, f.versions[len(f.versions)-1], f.constant, newest)
		}
		delete(constants, f.constant)
		for _, v := range f.versions {
			files = append(files, f.golden(v))
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.golden(v))))
			if err != nil || len(text) == 0 {
				t.Errorf("FORMATS.md: %s: version %d has no golden file: write %s with go test -golden (%v)", f.name, v, f.golden(v), err)
			}
			if !tested(t, f.constant, f.name) {
				t.Errorf("FORMATS.md: %s: no test of its package calls golden.Check or golden.Read with %q", f.name, f.name)
			}
		}
	}
	for name := range constants {
		t.Errorf("%s is the version of a format that FORMATS.md does not have", name)
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(p) != ".golden" {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err == nil && !slices.Contains(files, filepath.ToSlash(rel)) {
			t.Errorf("%s is not in FORMATS.md", rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// versionConstants returns the constants that are the version of a format, by
// folder and name: integers called version or ...Version.
func versionConstants(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, f := range tree(t) {
		if f.test || f.generated || strings.HasPrefix(f.dir, "cmd/") && f.dir != "cmd/internal/backup" || f.dir == "client" || f.dir == "client/clienttest" {
			continue
		}
		if f.dir == "client/sink/postgres" {
			continue // a table, which the database describes
		}
		for _, d := range f.syntax.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					if name.Name != "version" && !strings.HasSuffix(name.Name, "Version") || strings.HasPrefix(name.Name, "oldest") || i >= len(spec.Values) {
						continue
					}
					if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.INT {
						if v, err := strconv.Atoi(lit.Value); err == nil {
							found[f.dir+"."+name.Name] = v
						}
					}
				}
			}
		}
	}
	return found
}

// tested reports whether a test next to the constant names the format's golden
// file.
func tested(t *testing.T, constant, format string) bool {
	t.Helper()
	dir := constant[:strings.LastIndex(constant, ".")]
	for _, f := range tree(t) {
		if !f.test || f.dir != dir {
			continue
		}
		named := false
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			named = named || ok && lit.Kind == token.STRING && lit.Value == strconv.Quote(format)
			return !named
		})
		if named {
			return true
		}
	}
	return false
}

// TestDecodersOwnAFormat: whoever reads bytes with package codec reads a format,
// which needs a version.
func TestDecodersOwnAFormat(t *testing.T) {
	t.Parallel()
	owners := map[string]bool{"api/codec": true}
	for _, f := range formats(t) {
		owners[f.constant[:strings.LastIndex(f.constant, ".")]] = true
	}
	for _, f := range tree(t) {
		if f.test || strings.HasPrefix(f.dir, "cmd/") && f.dir != "cmd/internal/backup" || owners[f.dir] {
			continue
		}
		if slices.Contains(f.imports(), module+"/api/codec") {
			t.Errorf("%s reads or writes with api/codec, and its package owns no format of FORMATS.md", f.path)
		}
	}
}
