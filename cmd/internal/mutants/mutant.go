package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// defaultSeeds is how many seeds a hunt may take.
const defaultSeeds = 1000

// mutant is a bug to be planted.
type mutant struct {
	name      string
	standsFor string
	bug       string
	expect    []string // names of invariants, or of tests
	seeds     int      // limit of the hunt
	seenAt    []uint64 // seeds that have found it, tried before all others
	script    string   // of the victim; "": plans as they are drawn
	test      string   // package whose tests find it, instead of seeds; "": none
	edits     []edit
}

// edit replaces lines of one file.
type edit struct {
	file     string // slash-separated, from the root of the module
	old, new string // whole lines, each ended by a line feed
}

// load reads all mutants of a folder, by name.
func load(folder fs.FS) ([]*mutant, error) {
	names, err := fs.Glob(folder, "*.mutant")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []*mutant
	var failures []error
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, err
		}
		m, err := parse(strings.TrimSuffix(path.Base(name), ".mutant"), string(text))
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all = append(all, m)
	}
	return all, errors.Join(failures...)
}

// parse reads one mutant.
func parse(name, text string) (*mutant, error) {
	m := &mutant{name: name, seeds: defaultSeeds}
	head, body, _ := strings.Cut("\n"+text, "\n@ ")
	fields, err := parseFields(head)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		if err := m.set(f.name, f.value); err != nil {
			return nil, err
		}
	}
	if body != "" {
		for _, block := range strings.Split(body, "\n@ ") {
			e, err := parseEdit(block)
			if err != nil {
				return nil, err
			}
			m.edits = append(m.edits, e)
		}
	}
	return m, m.check()
}

type field struct{ name, value string }

// parseFields reads "name: value" lines, which indented lines continue.
func parseFields(head string) (fields []field, err error) {
	for _, line := range strings.Split(head, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case text == "":
		case line != strings.TrimLeft(line, " \t"):
			if len(fields) == 0 {
				return nil, fmt.Errorf("%q continues nothing", text)
			}
			fields[len(fields)-1].value += " " + text
		default:
			name, value, ok := strings.Cut(text, ":")
			if !ok {
				return nil, fmt.Errorf("%q is no field", text)
			}
			fields = append(fields, field{name, strings.TrimSpace(value)})
		}
	}
	return fields, nil
}

func (m *mutant) set(name, value string) (err error) {
	switch name {
	case "stands for":
		m.standsFor = value
	case "bug":
		m.bug = value
	case "expect":
		for _, e := range strings.Split(value, ",") {
			m.expect = append(m.expect, strings.TrimSpace(e))
		}
	case "seeds":
		if m.seeds, err = strconv.Atoi(value); err != nil || m.seeds < 1 {
			return fmt.Errorf("seeds: %q is no number above 0", value)
		}
	case "seen at":
		for _, word := range strings.Split(value, ",") {
			seed, err := strconv.ParseUint(strings.TrimSpace(word), 10, 64)
			if err != nil {
				return fmt.Errorf("seen at: %q is no seed", word)
			}
			m.seenAt = append(m.seenAt, seed)
		}
	case "script":
		m.script = value
	case "test":
		m.test = value
	default:
		return fmt.Errorf("unknown field %q", name)
	}
	return nil
}

// parseEdit reads a file's name and the lines of a diff.
func parseEdit(block string) (edit, error) {
	file, diff, _ := strings.Cut(block, "\n")
	e := edit{file: strings.TrimSpace(file)}
	for _, line := range strings.Split(strings.TrimRight(diff, "\n"), "\n") {
		if line == "" { // an empty line that stays, and lost its mark to an editor
			line = " "
		}
		mark, text := line[0], line[1:]+"\n"
		switch mark {
		case ' ':
			e.old, e.new = e.old+text, e.new+text
		case '-':
			e.old += text
		case '+':
			e.new += text
		default:
			return e, fmt.Errorf("%s: line %q begins with none of \" \", \"-\", \"+\"", e.file, line)
		}
	}
	if e.old == e.new || strings.TrimSpace(e.old) == "" {
		return e, fmt.Errorf("%s: an edit that changes nothing, or does not say where", e.file)
	}
	return e, nil
}

// check refuses what says too little.
func (m *mutant) check() error {
	switch {
	case m.standsFor == "":
		return errors.New("the field \"stands for\" is missing")
	case m.bug == "":
		return errors.New("the field \"bug\" is missing")
	case len(m.expect) == 0 || slices.Contains(m.expect, ""):
		return errors.New("the field \"expect\" names no invariant")
	case len(m.edits) == 0:
		return errors.New("there is no edit")
	case m.test != "" && len(m.seenAt) > 0:
		return errors.New("the field \"seen at\" names seeds, and a test finds it")
	}
	return nil
}

// remember returns the text of a mutant's file with another seed to begin with.
func remember(text string, seed uint64) string {
	head, body, _ := strings.Cut("\n"+text, "\n@ ")
	var kept []string
	for _, line := range strings.Split(head[1:], "\n") {
		if !strings.HasPrefix(line, "seen at:") {
			kept = append(kept, line)
		}
	}
	return strings.Join(append(kept, fmt.Sprintf("seen at:    %d", seed)), "\n") + "\n@ " + body
}

// expects reports whether a violation of this name is what the mutant is to be
// killed by: the invariant that is expected, or the invariant with more words.
func (m *mutant) expects(invariant string) bool {
	return slices.ContainsFunc(m.expect, func(e string) bool {
		return invariant == e || strings.HasPrefix(invariant, e+" ")
	})
}

// plant returns the changed text of every file that the mutant edits.
func (m *mutant) plant(read func(file string) ([]byte, error)) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		text, known := changed[e.file]
		if !known {
			b, err := read(e.file)
			if err != nil {
				return nil, fmt.Errorf("stale: %w", err)
			}
			text = string(b)
		}
		// Whole lines: the line feed before the first belongs to what is looked for.
		old := "\n" + e.old
		if n := strings.Count("\n"+text, old); n != 1 {
			return nil, fmt.Errorf("stale: %s has these lines %d times, not once:\n%s", e.file, n, e.old)
		}
		changed[e.file] = strings.Replace("\n"+text, old, "\n"+e.new, 1)[1:]
	}
	return changed, nil
}
