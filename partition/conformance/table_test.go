package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into the tables, instead of comparing it with them")

// table is a file of testdata: words, and then grids. A grid has a name, a row
// for every state or fault and a column for every relation or call; each of its
// cells says what happens.
type table struct {
	words string
	grids []*grid
}

type grid struct {
	name    string
	columns []string
	rows    []row
}

type row struct {
	name  string
	cells []string // one per column
}

// find returns the grid of a name; nil: there is none.
func (tb *table) find(name string) *grid {
	i := slices.IndexFunc(tb.grids, func(g *grid) bool { return g.name == name })
	if i < 0 {
		return nil
	}
	return tb.grids[i]
}

// text prints the table as its file has it.
func (tb *table) text() string {
	var out bytes.Buffer
	out.WriteString(tb.words)
	for i, g := range tb.grids {
		if i > 0 {
			out.WriteString("\n")
		}
		g.print(&out)
	}
	return out.String()
}

func (g *grid) print(out *bytes.Buffer) {
	all := append([]row{{"", g.columns}}, g.rows...)
	widths := make([]int, len(g.columns)+1)
	for _, r := range all {
		for i, cell := range append([]string{r.name}, r.cells...) {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	fmt.Fprintf(out, "== %s\n", g.name)
	for i, r := range all {
		var line []string
		for j, cell := range append([]string{r.name}, r.cells...) {
			line = append(line, fmt.Sprintf("%-*s", widths[j], cell))
		}
		fmt.Fprintln(out, strings.TrimRight(strings.Join(line, " | "), " "))
		if i == 0 {
			for j, w := range widths {
				line[j] = strings.Repeat("-", w)
			}
			fmt.Fprintln(out, strings.Join(line, "-+-"))
		}
	}
}

// parse reads a table. It refuses rows that have another number of cells than
// the grid has columns, cells without a word, and names that come twice.
func parse(text string) (*table, error) {
	tb := &table{}
	var g *grid
	for i, line := range strings.SplitAfter(text, "\n") {
		words := strings.TrimSpace(line)
		name, begins := strings.CutPrefix(words, "== ")
		switch {
		case begins:
			if tb.find(name) != nil {
				return nil, fmt.Errorf("line %d: a second grid %q", i+1, name)
			}
			g = &grid{name: name}
			tb.grids = append(tb.grids, g)
		case g == nil:
			tb.words += line
		case words == "" || strings.Trim(words, "-+") == "":
		case g.columns == nil:
			g.columns = split(line)[1:]
		default:
			if err := g.add(split(line)); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	return tb, nil
}

func (g *grid) add(cells []string) error {
	switch {
	case len(cells) != len(g.columns)+1:
		return fmt.Errorf("%d cells for %d columns", len(cells)-1, len(g.columns))
	case slices.Contains(cells, ""):
		return fmt.Errorf("an empty cell in row %q", cells[0])
	case slices.ContainsFunc(g.rows, func(r row) bool { return r.name == cells[0] }):
		return fmt.Errorf("a second row %q", cells[0])
	}
	g.rows = append(g.rows, row{cells[0], cells[1:]})
	return nil
}

func split(line string) []string {
	cells := strings.Split(line, "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

// compare returns what is different between what happened and what is written.
// Both must have the same cells, in the same order.
func (g *grid) compare(written *grid) (found []string) {
	if written == nil {
		return []string{"it is not in the file"}
	}
	if !slices.Equal(g.columns, written.columns) {
		return []string{fmt.Sprintf("the columns are %q, the file has %q", g.columns, written.columns)}
	}
	for i := range max(len(g.rows), len(written.rows)) {
		if i >= len(g.rows) || i >= len(written.rows) || g.rows[i].name != written.rows[i].name {
			return append(found, fmt.Sprintf("the rows are %q, the file has %q", names(g.rows), names(written.rows)))
		}
		for j, column := range g.columns {
			if got, want := g.rows[i].cells[j], written.rows[i].cells[j]; got != want {
				found = append(found, fmt.Sprintf("%s, %s: %q, want %q", g.rows[i].name, column, got, want))
			}
		}
	}
	return found
}

func names(rows []row) (out []string) {
	for _, r := range rows {
		out = append(out, r.name)
	}
	return out
}

// check holds what happened to a file, or writes the file.
func check(t *testing.T, file string, grids []*grid) {
	t.Helper()
	path := filepath.Join("testdata", file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written, err := parse(string(text))
	if err != nil && !*rewrite {
		t.Fatalf("%s: %v", path, err)
	}
	cells := 0
	for _, g := range grids {
		cells += len(g.rows) * len(g.columns)
	}
	if *rewrite {
		words, _, _ := strings.Cut(string(text), "\n== ")
		now := table{words: strings.TrimRight(words, "\n") + "\n\n", grids: grids}
		if err := os.WriteFile(path, []byte(now.text()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, g := range grids {
		for _, problem := range g.compare(written.find(g.name)) {
			t.Errorf("%s, %s: %s", path, g.name, problem)
		}
	}
	if len(written.grids) != len(grids) {
		t.Errorf("%s has %d grids, %d happened", path, len(written.grids), len(grids))
	}
	t.Logf("figures: cells %d", cells)
}

// TestTablesAreReadAsWritten: a table comes back from its text.
func TestTablesAreReadAsWritten(t *testing.T) {
	t.Parallel()
	tb := table{words: "# words | with a bar\n\n", grids: []*grid{
		{"one", []string{"this", "next"}, []row{{"open", []string{"A → 1/2/3", "B"}}, {"ended so", []string{"C", "-"}}}},
		{"two", []string{"x"}, []row{{"y", []string{"z"}}}},
	}}
	back, err := parse(tb.text())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "text", back.text(), tb.text())
	equal(t, "cells", fmt.Sprint(*back.grids[0]), fmt.Sprint(*tb.grids[0]))
}

// TestTablesMustBeComplete: whatever is missing, too much or different is told.
func TestTablesMustBeComplete(t *testing.T) {
	t.Parallel()
	const good = "== g\n | a | b\n--+-\nr | 1 | 2\ns | 3 | 4\n"
	happened, err := parse(good)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"an empty cell":     strings.Replace(good, "3", " ", 1),
		"a cell less":       strings.Replace(good, " | 4", "", 1),
		"a cell more":       good + "t | 5 | 6 | 7\n",
		"a row twice":       good + "r | 1 | 2\n",
		"a grid twice":      good + good,
		"a row less":        strings.Replace(good, "r | 1 | 2\n", "", 1),
		"a row more":        good + "t | 5 | 6\n",
		"rows in disorder":  "== g\n | a | b\ns | 3 | 4\nr | 1 | 2\n",
		"another column":    strings.Replace(good, "b", "c", 1),
		"another answer":    strings.Replace(good, "2", "two", 1),
		"another grid":      strings.Replace(good, "g", "h", 1),
		"nothing but words": "# nothing\n",
	} {
		written, err := parse(text)
		if err == nil && len(happened.grids[0].compare(written.find("g"))) == 0 {
			t.Errorf("%s: not noticed", what)
		}
	}
	if same := happened.grids[0].compare(happened.grids[0]); len(same) > 0 {
		t.Errorf("differs from itself: %q", same)
	}
}
