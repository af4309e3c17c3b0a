package conformance

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into the tables, instead of comparing it with them")

// table is one file of testdata: grids, each with a line of words above it.
type table struct {
	head  string // the comment at the beginning of the file
	grids []*grid
}

// grid crosses rows with columns; every combination has a cell.
type grid struct {
	name    string
	rows    []string
	columns []string
	cells   map[cell]string
}

// cell is the place of one answer.
type cell struct{ row, column string }

func newGrid(name string, rows, columns []string) *grid {
	return &grid{name: name, rows: rows, columns: columns, cells: map[cell]string{}}
}

// String prints the grid as it stands in the file.
func (g *grid) String() string {
	lines := [][]string{append([]string{""}, g.columns...)}
	for _, row := range g.rows {
		line := []string{row}
		for _, column := range g.columns {
			line = append(line, g.cells[cell{row, column}])
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(g.columns)+1)
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "== %s\n", g.name)
	for i, line := range lines {
		for j, text := range line {
			if j > 0 {
				b.WriteString(" | ")
			}
			b.WriteString(text + strings.Repeat(" ", widths[j]-utf8.RuneCountInString(text)))
		}
		b.WriteString("\n")
		if i == 0 {
			for j, w := range widths {
				if j > 0 {
					b.WriteString("-+-")
				}
				b.WriteString(strings.Repeat("-", w))
			}
			b.WriteString("\n")
		}
	}
	return trimLines(b.String())
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// parseTable reads a file that String wrote.
func parseTable(text string) (*table, error) {
	t := &table{}
	var g *grid
	for n, line := range strings.Split(text, "\n") {
		switch name, begins := strings.CutPrefix(line, "== "); {
		case begins:
			g = newGrid(name, nil, nil)
			t.grids = append(t.grids, g)
		case g == nil:
			t.head += line + "\n"
		case line == "" || strings.HasPrefix(line, "--"):
		case g.columns == nil:
			g.columns = fields(line)[1:]
		default:
			texts := fields(line)
			if len(texts) != len(g.columns)+1 {
				return nil, fmt.Errorf("line %d has %d cells, its columns are %d", n+1, len(texts)-1, len(g.columns))
			}
			if slices.Contains(g.rows, texts[0]) {
				return nil, fmt.Errorf("line %d: a second row %q", n+1, texts[0])
			}
			g.rows = append(g.rows, texts[0])
			for i, column := range g.columns {
				g.cells[cell{texts[0], column}] = texts[i+1]
			}
		}
	}
	return t, nil
}

func fields(line string) []string {
	texts := strings.Split(line, "|")
	for i := range texts {
		texts[i] = strings.TrimSpace(texts[i])
	}
	return texts
}

// compare holds what happened to a file of testdata: every cell must be there,
// and nothing else. It returns the number of cells.
func compare(t *testing.T, name string, got []*grid) int {
	t.Helper()
	path := filepath.Join("testdata", name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := parseTable(string(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if *rewrite {
		parts := []string{strings.TrimRight(want.head, "\n") + "\n"}
		for _, g := range got {
			parts = append(parts, g.String())
		}
		if err := os.WriteFile(path, []byte(strings.Join(parts, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cells := 0
	for _, g := range got {
		cells += len(g.cells)
		if *rewrite {
			continue
		}
		i := slices.IndexFunc(want.grids, func(w *grid) bool { return w.name == g.name })
		if i < 0 {
			t.Errorf("%s has no grid %q", path, g.name)
			continue
		}
		for _, p := range problems(g, want.grids[i]) {
			t.Errorf("%s, %s: %s", path, g.name, p)
		}
		want.grids = slices.Delete(want.grids, i, i+1)
	}
	for _, w := range want.grids {
		if !*rewrite {
			t.Errorf("%s has a grid %q that no test fills", path, w.name)
		}
	}
	return cells
}

// problems lists where what happened and what is written differ.
func problems(got, want *grid) (found []string) {
	note := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, row := range got.rows {
		for _, column := range got.columns {
			at := cell{row, column}
			text := want.cells[at]
			switch happened, tested := got.cells[at]; {
			case !tested:
				note("the test leaves out %q x %q", row, column)
			case text == "":
				note("no cell for %q x %q (it is %q)", row, column, happened)
			case text != happened:
				note("%q x %q: got %q, want %q", row, column, happened, text)
			}
		}
	}
	for _, row := range want.rows {
		for _, column := range want.columns {
			if _, tested := got.cells[cell{row, column}]; !tested {
				note("a cell %q x %q that no test fills", row, column)
			}
		}
	}
	return found
}

// TestTablesSurviveTheirFile: what is written is what is read, and damage is
// noticed.
func TestTablesSurviveTheirFile(t *testing.T) {
	t.Parallel()
	g := newGrid("a command", []string{"open", "not open"}, []string{"this", "next"})
	for i, row := range g.rows {
		for j, column := range g.columns {
			g.cells[cell{row, column}] = fmt.Sprintf("answer %d → %d", i, j)
		}
	}
	back, err := parseTable("# head\n\n" + g.String())
	if err != nil {
		t.Fatal(err)
	}
	if len(back.grids) != 1 || back.grids[0].String() != g.String() || back.head != "# head\n\n" {
		t.Fatalf("read back as head %q and\n%v", back.head, back.grids)
	}
	for _, damage := range []string{"\nopen | a | b\n", "\nclosed | a\n"} {
		if _, err := parseTable(g.String() + damage); err == nil {
			t.Errorf("%q was read", damage)
		}
	}
}

// TestTablesMustBeWhole: a cell that is missing, that nothing fills, or that says
// something else, is a failure each.
func TestTablesMustBeWhole(t *testing.T) {
	t.Parallel()
	full := func() *grid {
		g := newGrid("g", []string{"r"}, []string{"a", "b"})
		g.cells[cell{"r", "a"}], g.cells[cell{"r", "b"}] = "1", "2"
		return g
	}
	for name, change := range map[string]func(got, want *grid){
		"a cell less in the file":   func(_, want *grid) { delete(want.cells, cell{"r", "a"}) },
		"a cell less in the test":   func(got, _ *grid) { delete(got.cells, cell{"r", "b"}) },
		"a row more in the file":    func(_, want *grid) { want.rows = append(want.rows, "s") },
		"another answer":            func(got, _ *grid) { got.cells[cell{"r", "b"}] = "3" },
		"a column more in the test": func(got, _ *grid) { got.columns = append(got.columns, "c") },
	} {
		got, want := full(), full()
		if p := problems(got, want); len(p) > 0 {
			t.Fatalf("equal grids differ: %q", p)
		}
		change(got, want)
		if len(problems(got, want)) == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
}
