package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one wrong setting.
type Problem struct {
	// Key is its name in the file.
	Key string
	// Source says where the value came from: a file and line, a variable, a
	// flag; empty: nowhere.
	Source string
	// Text says what is wrong, with the value and the limit, and what to do.
	Text string
	// Missing: the key is required and was not given.
	Missing bool
}

// String returns one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.Source != "" {
		b.WriteString(p.Source + ": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + " ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error is everything that is wrong with a configuration, so that it can be put
// right in one go.
type Error struct{ Problems []Problem }

// Error returns one line per problem.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// asError returns the problems as an error; nil if there are none.
func asError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &Error{Problems: problems}
}

// wrong is the problem of a value that its kind refuses.
func wrong(k Key, source string, texts []string, err error) Problem {
	return Problem{Key: k.Name, Source: source, Text: fmt.Sprintf("is %q: it %v", strings.Join(texts, ","), err)}
}

// missing is the problem of a required key that was not given.
func missing(k Key) Problem {
	return Problem{
		Key: k.Name, Missing: true,
		Text: fmt.Sprintf("is missing: give --%s, %s, or %s in the file (%s)", k.Flag(), k.Env(), k.Name, k.Unit()),
	}
}

// unknown is the problem of a name that is no setting.
func unknown(source, what, name string, known []string) Problem {
	text := fmt.Sprintf("unknown %s %q", what, name)
	if near := nearest(name, known); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return Problem{Source: source, Text: text}
}

// nearest returns the known name that takes the fewest edits to reach, or
// nothing if none is near.
func nearest(name string, known []string) string {
	best, fewest := "", max(2, len(name)/2)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < fewest {
			best, fewest = k, d
		}
	}
	return best
}

// distance is Levenshtein's: insertions, deletions and replacements of bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
