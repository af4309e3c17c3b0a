package main

import (
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// TestPage holds CONFORMANCE.md to the list of ids and to the tests of the tree.
// That they pass is for `make conformance`, and for every other run of the tests.
func TestPage(t *testing.T) {
	t.Parallel()
	p, err := readPage(root)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := readTests(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range p.check(tests) {
		t.Error(problem)
	}
	if len(p.rows) < 400 || len(tests) < 400 {
		t.Errorf("%d rows, %d tests: was anything read?", len(p.rows), len(tests))
	}
}

// small is a page and a tree that fit.
func small() (*page, testTree) {
	at := test{"some/dir", "TestIt"}
	p := &page{ids: []string{"TX-01", "TX-02", "TX-03"}}
	for _, line := range []string{
		"| TX-01 | one | covered | `some/dir.TestIt` |",
		"| TX-02 | two | not applicable | there is no such thing |",
		"| TX-03 | three | different | it is better. `some/dir.TestIt` |",
	} {
		r, ok := parseRow(line)
		if !ok {
			panic(line)
		}
		p.rows = append(p.rows, r)
	}
	return p, testTree{at: {"TX-01", "TX-03"}, {"some/dir", "TestOther"}: nil}
}

func TestPageNoticesWhatIsWrong(t *testing.T) {
	t.Parallel()
	p, tests := small()
	if problems := p.check(tests); len(problems) > 0 {
		t.Fatalf("a page that fits: %q", problems)
	}
	for want, change := range map[string]func(p *page, tests testTree){
		"is missing":               func(p *page, _ testTree) { p.rows = p.rows[:2] },
		"a second time":            func(p *page, _ testTree) { p.rows = append(p.rows, p.rows[1]) },
		"no such id":               func(p *page, _ testTree) { p.rows[1].id = "TX-99" },
		"names no test":            func(p *page, _ testTree) { p.rows[0].tests = nil },
		"does not say why":         func(p *page, _ testTree) { p.rows[1].why = "" },
		"what the scenario is":     func(p *page, _ testTree) { p.rows[2].text = "" },
		"is neither":               func(p *page, _ testTree) { p.rows[0].verdict = "done" },
		"there is no test":         func(_ *page, tests testTree) { delete(tests, test{"some/dir", "TestIt"}) },
		"does not say that it":     func(_ *page, tests testTree) { tests[test{"some/dir", "TestIt"}] = []string{"TX-03"} },
		"does not name the test":   func(_ *page, tests testTree) { tests[test{"some/dir", "TestOther"}] = []string{"TX-02"} },
		"different, and does not ": func(p *page, _ testTree) { p.rows[2].why = "" },
	} {
		p, tests := small()
		change(p, tests)
		if problems := strings.Join(p.check(tests), "\n"); !strings.Contains(problems, want) {
			t.Errorf("%q: not noticed, but %q", want, problems)
		}
	}
}

// TestTreeReadsNamesAndComments: a test says what it covers in its comment, in its
// body, or in its files of scenarios.
func TestTreeReadsNamesAndComments(t *testing.T) {
	t.Parallel()
	tests, err := readTests(root)
	if err != nil {
		t.Fatal(err)
	}
	for at, id := range map[test]string{
		{"coordinator/conformance", "TestEndTransaction"}: "TC-45", // the name of a subtest
		{"coordinator/txn", "TestScenarios"}:              "MD-04", // a file of scenarios
		{"cmd/internal/e2e", "TestFencingOnCommit"}:       "TX-06", // a comment
	} {
		if !slices.Contains(tests[at], id) {
			t.Errorf("%s: %v, want %s among them", at, tests[at], id)
		}
	}
}

const goodRun = `{"Action":"run","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt"}
{"Action":"output","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt","Output":"    it_test.go:1: figures: cells 12\n"}
{"Action":"pass","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt/TX-01_one"}
{"Action":"pass","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt"}
{"Action":"pass","Package":"github.com/oncelog/oncelog/some/dir"}
`

func TestRun(t *testing.T) {
	t.Parallel()
	p, _ := small()
	r, err := readRun(strings.NewReader(goodRun))
	if err != nil {
		t.Fatal(err)
	}
	if problems := r.check(p); len(problems) > 0 {
		t.Fatalf("a good run: %q", problems)
	}
	want := "conformance: 12 cells, 1 scenarios played; of 3 scenarios of Kafka's tests 1 covered, 1 different on purpose, 1 not applicable"
	if got := r.figures(p); got != want {
		t.Errorf("figures %q, want %q", got, want)
	}
}

func TestRunNoticesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(run string) string{
		"a test fails": func(run string) string {
			return strings.ReplaceAll(run, `"pass","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt"}`,
				`"fail","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt"}`)
		},
		"a scenario is skipped": func(run string) string {
			return strings.ReplaceAll(run, `"pass","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt/`,
				`"skip","Package":"github.com/oncelog/oncelog/some/dir","Test":"TestIt/`)
		},
		"a test did not run": func(run string) string {
			return strings.ReplaceAll(run, `"Test":"TestIt"`, `"Test":"TestOther"`)
		},
		"a package fails": func(run string) string {
			return strings.ReplaceAll(run, `"pass","Package":"github.com/oncelog/oncelog/some/dir"}`, `"fail","Package":"github.com/oncelog/oncelog/some/dir"}`)
		},
		"nothing ran": func(string) string { return "" },
	} {
		p, _ := small()
		r, err := readRun(strings.NewReader(change(goodRun)))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.check(p)) == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
	if _, err := readRun(strings.NewReader("{")); err == nil {
		t.Error("half an event was read")
	}
}
