package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Where things are, from the top of the repository.
const (
	pageFile = "CONFORMANCE.md"
	idsFile  = "cmd/internal/conformance/testdata/ids.txt"
)

// verdict is what the page says of a scenario.
type verdict string

const (
	covered       verdict = "covered"
	notApplicable verdict = "not applicable"
	different     verdict = "different"
)

// page is CONFORMANCE.md.
type page struct {
	ids  []string // all that there are, in their order
	rows []row
}

// row is one scenario of the page.
type row struct {
	line    int
	id      string
	text    string
	verdict verdict
	why     string
	tests   []test
}

// test is a test function, or a file of scenarios of a core.
type test struct {
	dir, name string // coordinator/txn, TestScenarios
}

func (t test) String() string { return t.dir + "." + t.name }

// reference is a test as the page names it: `coordinator/txn.TestScenarios`.
var reference = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz|Example)[A-Za-z0-9_]+)`")

// scenarioID is the id of a scenario. It stands at the beginning of a row of the
// page, and in the names and comments of tests.
var scenarioID = regexp.MustCompile(`\b[A-Z]{2}1?-\d\d\b`)

func readPage(root string) (*page, error) {
	p := &page{}
	ids, err := os.ReadFile(filepath.Join(root, idsFile))
	if err != nil {
		return nil, err
	}
	p.ids = strings.Fields(string(ids))
	f, err := os.Open(filepath.Join(root, pageFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if r, ok := parseRow(lines.Text()); ok {
			r.line = n
			p.rows = append(p.rows, r)
		}
	}
	return p, lines.Err()
}

// parseRow reads "| ID | scenario | verdict | why and where |".
func parseRow(line string) (r row, ok bool) {
	cells := strings.Split(line, "|")
	if len(cells) < 2 || scenarioID.FindString(cells[1]) == "" {
		return r, false
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	cells = append(cells, "", "", "", "")
	r = row{id: cells[1], text: cells[2], verdict: verdict(cells[3])}
	for _, m := range reference.FindAllStringSubmatch(cells[4], -1) {
		r.tests = append(r.tests, test{m[1], m[2]})
	}
	r.why = strings.Trim(reference.ReplaceAllString(cells[4], ""), " ,;.")
	return r, true
}

// check compares the page with the list of ids and with the tests in the tree. It
// returns what is wrong.
func (p *page) check(tests testTree) (problems []string) {
	note := func(r row, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s:%d: %s: ", pageFile, r.line, r.id)+fmt.Sprintf(format, args...))
	}
	seen := map[string]bool{}
	claimed := map[string][]test{}
	for _, r := range p.rows {
		if !slices.Contains(p.ids, r.id) {
			note(r, "no such id in %s", idsFile)
		}
		if seen[r.id] {
			note(r, "a second time")
		}
		seen[r.id] = true
		claimed[r.id] = r.tests
		if r.text == "" {
			note(r, "does not say what the scenario is")
		}
		switch r.verdict {
		case covered:
			if len(r.tests) == 0 {
				note(r, "covered, and names no test")
			}
		case notApplicable, different:
			if r.why == "" {
				note(r, "%s, and does not say why", r.verdict)
			}
		default:
			note(r, "is neither %s, %s nor %s, but %q", covered, notApplicable, different, r.verdict)
		}
		for _, t := range r.tests {
			if ids, exists := tests[t]; !exists {
				note(r, "there is no test %s", t)
			} else if !slices.Contains(ids, r.id) {
				note(r, "the test %s does not say that it covers it", t)
			}
		}
	}
	for _, id := range p.ids {
		if !seen[id] {
			problems = append(problems, fmt.Sprintf("%s: %s is missing", pageFile, id))
		}
	}
	for _, t := range tests.sorted() {
		for _, id := range tests[t] {
			if slices.Contains(p.ids, id) && !slices.Contains(claimed[id], t) {
				problems = append(problems, fmt.Sprintf("%s: the row of %s does not name the test %s, which says that it covers it", pageFile, id, t))
			}
		}
	}
	return problems
}

// count returns how many rows have each verdict.
func (p *page) count() map[verdict]int {
	n := map[verdict]int{}
	for _, r := range p.rows {
		n[r.verdict]++
	}
	return n
}

func compareTests(a, b test) int {
	return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name))
}
