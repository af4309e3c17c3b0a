package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// testTree is every test function of the repository, with the ids of scenarios
// that it says it covers: in its comment, in its body, or, if it runs files of
// scenarios, in those.
type testTree map[test][]string

func (t testTree) sorted() []test { return slices.SortedFunc(maps.Keys(t), compareTests) }

// scenarioRunner is the name of the tests that run files of scenarios.
const scenarioRunner = "TestScenarios"

func readTests(root string) (testTree, error) {
	tree := testTree{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != root && skipped(root, p, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		return tree.add(p, path.Dir(filepath.ToSlash(rel)))
	})
	return tree, err
}

// skipped reports whether a folder holds no tests of scenarios. The tests of this
// program itself name scenarios that they do not cover.
func skipped(root, folder, name string) bool {
	own := folder == filepath.Join(root, "cmd", "internal", "conformance")
	return own || strings.HasPrefix(name, ".") || name == "testdata" || name == "bin"
}

// add reads one file of tests.
func (t testTree) add(file, dir string) error {
	source, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, d := range syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !isTest(fn.Name.Name) {
			continue
		}
		begin := fn.Pos()
		if fn.Doc != nil {
			begin = fn.Doc.Pos()
		}
		text := string(source[positions.Position(begin).Offset:positions.Position(fn.End()).Offset])
		if fn.Name.Name == scenarioRunner {
			stories, err := scenarioNames(filepath.Dir(file))
			if err != nil {
				return err
			}
			text += stories
		}
		ids := scenarioID.FindAllString(text, -1)
		slices.Sort(ids)
		t[test{dir, fn.Name.Name}] = slices.Compact(ids)
	}
	return nil
}

func isTest(name string) bool {
	return strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") || strings.HasPrefix(name, "Example")
}

// scenarioNames returns the names of all scenarios in the files of a core.
func scenarioNames(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "testdata", "scenarios", "*.txt"))
	if err != nil {
		return "", err
	}
	var names strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			if name, begins := strings.CutPrefix(line, "subtest "); begins {
				// An underscore is a letter to a regular expression.
				names.WriteString(strings.ReplaceAll(name, "_", " "))
			}
		}
	}
	return names.String(), nil
}
