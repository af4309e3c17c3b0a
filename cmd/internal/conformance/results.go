package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// module is the path of every package of the repository.
const module = "github.com/oncelog/oncelog/"

// results is what a run of tests came to.
type results struct {
	// of tells of every test, by package folder and name with those of its
	// subtests, how it ended: pass, fail or skip.
	of       map[test]string
	packages map[string]string
	failures []string // what the failing tests printed
	// cells is how many cells of tables the tests have compared.
	cells int
}

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of a package that does not build
}

func readRun(in io.Reader) (*results, error) {
	r := &results{of: map[test]string{}, packages: map[string]string{}}
	printed := map[test]string{}
	decoder := json.NewDecoder(in)
	for {
		var e event
		err := decoder.Decode(&e)
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the output of go test -json: %w", err)
		}
		r.note(e, printed)
	}
}

// note takes one event. printed is what each test has printed so far.
func (r *results) note(e event, printed map[test]string) {
	dir := strings.TrimPrefix(e.Package, module)
	t := test{dir, e.Test}
	switch e.Action {
	case "output":
		printed[t] += e.Output
		r.figure(e.Output)
	case "build-output":
		r.failures = append(r.failures, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.packages[dir] = e.Action
		} else {
			r.of[t] = e.Action
		}
		if e.Action == "fail" {
			r.failures = append(r.failures, dir+" "+e.Test+"\n"+printed[t])
		}
		delete(printed, t)
	}
}

// figure adds what a test logs as "figures: cells 12".
func (r *results) figure(output string) {
	_, figures, found := strings.Cut(output, "figures: ")
	if !found {
		return
	}
	var n int
	if _, err := fmt.Sscanf(figures, "cells %d", &n); err == nil {
		r.cells += n
	}
}

// check returns what failed, and what of the page did not run although its
// package did.
func (r *results) check(p *page) (problems []string) {
	problems = append(problems, r.failures...)
	if len(r.packages) == 0 {
		problems = append(problems, "no test has run")
	}
	for _, dir := range slices.Sorted(maps.Keys(r.packages)) {
		if how := r.packages[dir]; how != "pass" {
			problems = append(problems, fmt.Sprintf("%s: %s", dir, how))
		}
	}
	for _, row := range p.rows {
		for _, t := range row.tests {
			if _, ran := r.packages[t.dir]; ran && !r.passed(t, row.id) {
				problems = append(problems, fmt.Sprintf("%s:%d: %s: %s has not run and passed", pageFile, row.line, row.id, t))
			}
		}
	}
	return problems
}

// passed reports whether a test, and every subtest of it that is named after the
// scenario, has passed.
func (r *results) passed(t test, id string) bool {
	if r.of[t] != "pass" {
		return false
	}
	for sub, how := range r.of { // all of them: the order does not matter
		if sub.dir == t.dir && strings.HasPrefix(sub.name, t.name+"/") && slices.Contains(idsIn(sub.name), id) && how != "pass" {
			return false
		}
	}
	return true
}

// idsIn returns the ids in the name of a subtest, whose blanks are underscores.
func idsIn(name string) []string {
	return scenarioID.FindAllString(strings.ReplaceAll(name, "_", " "), -1)
}

// scenarios counts the subtests that are named after a scenario, and the stories
// of the cores, which mostly are.
func (r *results) scenarios() (n int) {
	for t := range r.of { // a count: the order does not matter
		parts := strings.Split(t.name, "/")
		story := parts[0] == scenarioRunner && len(parts) == 3
		if story || len(parts) == 2 && len(idsIn(parts[1])) > 0 {
			n++
		}
	}
	return n
}

// figures is the line at the end.
func (r *results) figures(p *page) string {
	n := p.count()
	return fmt.Sprintf("conformance: %d cells, %d scenarios played; of %d scenarios of Kafka's tests %d covered, %d different on purpose, %d not applicable",
		r.cells, r.scenarios(), len(p.ids), n[covered], n[different], n[notApplicable])
}
