package arch

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsShowExamples: code in a page that nobody compiles is wrong after the next
// change. So every block of Go in docs stands, line by line, in an example_test.go.
func TestDocsShowExamples(t *testing.T) {
	t.Parallel()
	examples := map[string]string{}
	for _, f := range tree(t) {
		if strings.HasPrefix(filepath.Base(f.path), "example") && f.test {
			text, err := os.ReadFile(filepath.Join(root, f.path))
			if err != nil {
				t.Fatal(err)
			}
			examples[f.path] = string(text)
		}
	}
	blocks := 0
	for page, text := range pages(t) {
		for _, m := range goBlock.FindAllStringSubmatch(text, -1) {
			blocks++
			found := false
			for _, example := range examples { // any of them: the order does not matter
				found = found || strings.Contains(example, m[1])
			}
			if !found {
				t.Errorf("%s: this is in no example_test.go:\n%s", page, m[1])
			}
		}
	}
	if blocks < 3 {
		t.Errorf("%d blocks of Go were found", blocks)
	}
}

// TestDocsLinkToWhatIsThere: a link into the tree leads somewhere.
func TestDocsLinkToWhatIsThere(t *testing.T) {
	t.Parallel()
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), target)); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}

// TestDocsNameWhatIsThere: an option, a sentinel or a start that a page names is declared
// in the SDK, and is not what it was called last year.
func TestDocsNameWhatIsThere(t *testing.T) {
	t.Parallel()
	declared := map[string]bool{}
	for _, f := range tree(t) {
		if f.test || !covers("client/...", f.dir) {
			continue
		}
		for name := range declaredNames(f.syntax) {
			declared[name] = true
		}
	}
	names := 0
	for page, text := range pages(t) {
		for _, m := range sdkName.FindAllStringSubmatch(text, -1) {
			if m[1] == "context." {
				continue
			}
			name := m[2]
			names++
			if !declared[name] {
				t.Errorf("%s names %s, which the SDK does not have", page, name)
			}
		}
	}
	if names < 50 {
		t.Errorf("%d names were found", names)
	}
}

// declaredNames returns the exported functions, constants, variables and types of a file.
func declaredNames(f *ast.File) map[string]bool {
	out := map[string]bool{}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			out[d.Name.Name] = true
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					out[s.Name.Name] = true
				case *ast.ValueSpec:
					for _, n := range s.Names {
						out[n.Name] = true
					}
				}
			}
		}
	}
	return out
}

var (
	sdkName = regexp.MustCompile(`(\bcontext\.)?\b((?:With|Err|Start|Assignor)[A-Z][A-Za-z]+)\b`)
	goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")
	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
)

// pages returns the pages of docs, by their path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) < 3 {
		t.Fatalf("docs has %d pages (%v)", len(files), err)
	}
	out := map[string]string{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out["docs/"+filepath.Base(path)] = string(text)
	}
	return out
}
