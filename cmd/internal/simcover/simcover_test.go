package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root of the module.
const root = "../../.."

// TestListFitsTheCode: every entry names a function that there is, and a text that
// stands in it.
func TestListFitsTheCode(t *testing.T) {
	t.Parallel()
	list, err := readUnreachable("unreachable.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("the list is empty")
	}
	for _, e := range list {
		f, err := readSource(root, e.file)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for i, line := range f.lines {
			found = found || f.in(i+1) == e.function && strings.Contains(line, e.text)
		}
		if !found {
			t.Errorf("%v: there is no such function, or it has no such line", e)
		}
	}
}

// TestFiguresOfASmallFile: blocks are counted once however many processes have
// passed them, and what is excused counts only where it was not reached.
func TestFiguresOfASmallFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a", "a.go"), `package a

type T struct{}

func (t *T) F(n int) int {
	if n < 0 {
		panic("negative")
	}
	if n > 9 {
		return 9
	}
	return n
}
`)
	text := strings.Join([]string{
		"mode: set",
		module + "a/a.go:5.26,6.11 1 1",
		module + "a/a.go:6.11,8.3 1 0",
		module + "a/a.go:9.11,11.3 1 0",
		module + "a/a.go:9.11,11.3 1 1", // another process
		module + "a/a.go:12.2,12.10 1 0",
	}, "\n")
	p, err := parse(dir, text)
	if err != nil {
		t.Fatal(err)
	}
	if c := p.counts("a"); c != (counts{statements: 4, reached: 2}) {
		t.Errorf("%+v", c)
	}
	stale := p.excuse([]entry{
		{"a/a.go", "T.F", "n < 0"}, {"a/a.go", "T.F", "n > 9"}, {"a/a.go", "T.F", "nowhere"}, {"a/a.go", "G", ""}, {"b/b.go", "F", ""},
	})
	if want := []string{"a/a.go T.F: nowhere", "a/a.go G", "b/b.go F"}; !slices.Equal(stale, want) {
		t.Errorf("stale are %q", stale)
	}
	c := p.counts("a")
	if c != (counts{statements: 4, reached: 2, excused: 1}) || c.raw() != 50 || int(c.reachable()) != 66 {
		t.Errorf("%+v: %v, %v", c, c.raw(), c.reachable())
	}
	var out strings.Builder
	p.listMissing(&out, "a")
	if out.String() != "  a/a.go:12 T.F: return n\n" {
		t.Errorf("missing: %q", out.String())
	}
}

// TestListsThatAreWrong: without a reason, or without a function.
func TestListsThatAreWrong(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a/a.go F\n", "# why\n\na/a.go F\n", "# why\na/a.go\n"} {
		file := filepath.Join(t.TempDir(), "list.txt")
		write(t, file, text)
		if list, err := readUnreachable(file); err == nil {
			t.Errorf("%q was read as %v", text, list)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
