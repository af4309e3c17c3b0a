package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// root is the top of the module, seen from this package.
var root = filepath.Join("..", "..", "..")

func planted(t *testing.T) []*mutant {
	t.Helper()
	all, err := load(os.DirFS("planted"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPlantedMutantsApply finds those that have become stale without compiling
// anything.
func TestPlantedMutantsApply(t *testing.T) {
	t.Parallel()
	all := planted(t)
	if len(all) < 25 {
		t.Errorf("%d mutants: at least 25 are promised", len(all))
	}
	known := regexp.MustCompile(`^(I[1-9]|I1[0-3]|linearizable|panic|node stopped|client|answers|state|runaway|crash)$`)
	for _, m := range all {
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(m.name) {
			t.Errorf("%s: a name is words in lower case with dashes between them", m.name)
		}
		for _, e := range m.expect {
			if !known.MatchString(e) && (m.test == "" || !strings.HasPrefix(e, "Test")) {
				t.Errorf("%s: nothing reports %q", m.name, e)
			}
		}
		files, err := m.plant(func(file string) ([]byte, error) { return os.ReadFile(filepath.Join(root, file)) })
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		for file := range files {
			shipping := regexp.MustCompile(`^(raftstore|coordinator|partition|client|api|internal)/.*\.go$`).MatchString(file)
			if !shipping || strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s: %s does not ship", m.name, file)
			}
		}
	}
}

const good = `stands for: F1, Redpanda
  3036
bug: reads too far
expect: I3, I8 , panic
seeds: 20
script: slow

@ a/b.go
 	if x {
-		return 1
+		return 2
 	}
@ c.go

-one
`

func TestParse(t *testing.T) {
	t.Parallel()
	m, err := parse("name", good)
	if err != nil {
		t.Fatal(err)
	}
	if m.name != "name" || m.standsFor != "F1, Redpanda 3036" || m.bug != "reads too far" || m.seeds != 20 || m.script != "slow" {
		t.Errorf("%+v", m)
	}
	if strings.Join(m.expect, ";") != "I3;I8;panic" {
		t.Errorf("expect %q", m.expect)
	}
	want := []edit{
		{"a/b.go", "\tif x {\n\t\treturn 1\n\t}\n", "\tif x {\n\t\treturn 2\n\t}\n"},
		{"c.go", "\none\n", "\n"},
	}
	if len(m.edits) != 2 || m.edits[0] != want[0] || m.edits[1] != want[1] {
		t.Errorf("edits %+v", m.edits)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"no stands for":        strings.Replace(good, "stands for: F1, Redpanda\n  3036\n", "", 1),
		"no bug":               strings.Replace(good, "bug: reads too far\n", "", 1),
		"no expectation":       strings.Replace(good, "I3, I8 , panic", "", 1),
		"a hole in them":       strings.Replace(good, "I3, I8 , panic", "I3,,I8", 1),
		"no edit":              strings.SplitN(good, "@", 2)[0],
		"an unknown field":     "colour: red\n" + good,
		"a line that is none":  "red\n" + good,
		"a continuation first": "  red\n" + good,
		"no seeds":             strings.Replace(good, "20", "0", 1),
		"words for seeds":      strings.Replace(good, "20", "many", 1),
		"words for a seed":     "seen at: here\n" + good,
		"a seed for a test":    "seen at: 5\ntest: a/b\n" + good,
		"an unmarked line":     strings.Replace(good, "-one", "one", 1),
		"an edit of nothing":   strings.Replace(good, "-one", " one", 1),
		"an edit of nowhere":   strings.Replace(good, "-one", "+one", 1),
	} {
		if m, err := parse("name", text); err == nil {
			t.Errorf("%s: %+v", what, m)
		}
	}
}

func TestRemember(t *testing.T) {
	t.Parallel()
	text := remember(good, 7)
	for _, seed := range []uint64{7, 8} {
		text = remember(text, seed)
		m, err := parse("name", text)
		if err != nil || len(m.seenAt) != 1 || m.seenAt[0] != seed || len(m.edits) != 2 || m.standsFor != "F1, Redpanda 3036" {
			t.Errorf("%+v, %v", m, err)
		}
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	_, err := load(fstest.MapFS{"b.mutant": {Data: []byte(good)}, "a.mutant": {Data: []byte("bug: x\n")}, "c.txt": {}})
	if err == nil || !strings.Contains(err.Error(), "a.mutant") {
		t.Errorf("%v", err)
	}
	all, err := load(fstest.MapFS{"b.mutant": {Data: []byte(good)}, "a.mutant": {Data: []byte(good)}})
	if err != nil || len(all) != 2 || all[0].name != "a" || all[1].name != "b" {
		t.Errorf("%v %v", all, err)
	}
}

func TestPlant(t *testing.T) {
	t.Parallel()
	read := func(text string) func(string) ([]byte, error) {
		return func(file string) ([]byte, error) {
			if file != "f.go" {
				return nil, os.ErrNotExist
			}
			return []byte(text), nil
		}
	}
	twice := &mutant{edits: []edit{{"f.go", "a\n", "b\n"}, {"f.go", "b\nc\n", "d\n"}}}
	// The second edit sees what the first has made of the file.
	if files, err := twice.plant(read("a\nc\nxa\n")); err != nil || len(files) != 1 || files["f.go"] != "d\nxa\n" {
		t.Errorf("%q %v", files, err)
	}
	for what, text := range map[string]string{
		"the lines are gone":         "x\n",
		"they are there twice":       "a\na\nc\n",
		"only the end of a line":     "xa\nc\n",
		"only the beginning of one":  "ax\nc\n",
		"the second edit finds none": "a\n",
	} {
		if files, err := twice.plant(read(text)); err == nil || !strings.HasPrefix(err.Error(), "stale: ") {
			t.Errorf("%s: %q %v", what, files, err)
		}
	}
	lost := &mutant{edits: []edit{{"g.go", "a\n", "b\n"}}}
	if _, err := lost.plant(read("a\n")); err == nil || !strings.HasPrefix(err.Error(), "stale: ") {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestExpects(t *testing.T) {
	t.Parallel()
	m := &mutant{expect: []string{"I1", "node stopped"}}
	for invariant, want := range map[string]bool{
		"I1": true, "I1 duplicate": true, "node stopped": true, "I11": false, "I11 liveness": false, "node": false, "": false,
	} {
		if m.expects(invariant) != want {
			t.Errorf("%q: %v", invariant, !want)
		}
	}
}
