package output

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Table collects rows and prints them aligned. A cell never breaks the table:
// control characters are shown escaped.
type Table struct {
	columns []string
	rows    [][]string
}

// NewTable makes a table with the columns, named like fields of the contract.
func NewTable(columns ...string) *Table { return &Table{columns: columns} }

// Row adds a row, one value per column. Numbers are right as they are; use the
// functions of this package for times and sizes.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(t.columns))
	for i := range row {
		row[i] = absent
		if i < len(cells) {
			row[i] = cell(cells[i])
		}
	}
	t.rows = append(t.rows, row)
}

// Write prints the table.
func (t *Table) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := make([]string, len(t.columns))
	for i, c := range t.columns {
		header[i] = strings.ToUpper(c)
	}
	writeRow(tw, header)
	for _, row := range t.rows {
		writeRow(tw, row)
	}
	return tw.Flush()
}

// writeRow leaves no blanks at the end of a line: the last cell is not padded
// when nothing follows it.
func writeRow(w io.Writer, cells []string) {
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// absent stands for a value that there is not.
const absent = "-"

func cell(v any) string {
	text := fmt.Sprint(v)
	if text == "" {
		return absent
	}
	return Printable(text)
}

// Printable returns text with control characters escaped, so that what a
// producer wrote can neither break a table nor drive a terminal.
func Printable(text string) string {
	if !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unprintable(r) {
			quoted := fmt.Sprintf("%q", string(r))
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) }

// Fields prints names and values below each other: one thing, described.
func Fields(w io.Writer, pairs ...any) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(tw, "%s:\t%s\n", strings.ToUpper(fmt.Sprint(pairs[i])), cell(pairs[i+1]))
	}
	return tw.Flush()
}
