package arch

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOnlyWhatHasNoGoroutinesIsLeftOutOfRace holds the Makefile's RACE_SKIP to its
// reason: neither such a package nor its tests start a goroutine.
func TestOnlyWhatHasNoGoroutinesIsLeftOutOfRace(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^RACE_SKIP *:= *(.*)$`).FindSubmatch(text)
	if line == nil {
		t.Fatal("the Makefile has no RACE_SKIP")
	}
	skip := regexp.MustCompile(strings.ReplaceAll(string(line[1]), "$$", "$"))
	left := map[string]bool{}
	for _, f := range tree(t) {
		if !skip.MatchString(path.Join(module, f.dir)) {
			continue
		}
		left[f.dir] = true
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			starts := false
			switch n := n.(type) {
			case *ast.GoStmt:
				starts = true
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				starts = ok && sel.Sel.Name == "Go"
			}
			if starts {
				t.Errorf("%s:%d starts a goroutine, and RACE_SKIP leaves the package out", f.path, f.line(n.Pos()))
			}
			return true
		})
	}
	if len(left) < 10 {
		t.Errorf("RACE_SKIP names only %v", left)
	}
}
