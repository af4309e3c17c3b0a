package arch

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the module's path; every package path begins with it.
const module = "github.com/oncelog/oncelog"

// root is the top of the tree, seen from this package.
var root = filepath.Join("..", "..", "..")

// file is one Go file of the tree.
type file struct {
	path      string // slash-separated, from the root
	dir       string // of path; "." at the root
	test      bool   // a _test.go file
	generated bool
	lines     int
	syntax    *ast.File
	positions *token.FileSet
}

// imports returns the paths of the file's imports.
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.syntax.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// line returns the line of a position.
func (f *file) line(p token.Pos) int { return f.positions.Position(p).Line }

// tree returns every Go file of the tree.
func tree(t *testing.T) []*file {
	t.Helper()
	files, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var readTree = sync.OnceValues(func() ([]*file, error) {
	ignored, err := ignoredFolders()
	if err != nil {
		return nil, err
	}
	var files []*file
	positions := token.NewFileSet()
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			// testdata is nobody's package; other modules have rules of their own.
			_, err := os.Stat(filepath.Join(p, "go.mod"))
			other := rel != "." && (err == nil || strings.HasPrefix(d.Name(), "."))
			if other || d.Name() == "testdata" || slices.Contains(ignored, rel) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		source, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(positions, rel, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, &file{
			path: rel, dir: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"),
			generated: ast.IsGenerated(syntax),
			lines:     strings.Count(string(source), "\n"),
			syntax:    syntax, positions: positions,
		})
		return nil
	})
	return files, err
})

// ignoredFolders returns the top-level folders that .gitignore names.
func ignoredFolders() ([]string, error) {
	f, err := os.Open(filepath.Join(root, ".gitignore"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var folders []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "/"); ok && strings.HasSuffix(name, "/") {
			folders = append(folders, strings.TrimSuffix(name, "/"))
		}
	}
	return folders, nil
}
