package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 1 << 20

// setting is a value as it was given somewhere.
type setting struct {
	source string
	texts  []string
}

// document is a parsed file: settings by section and key.
type document map[string]map[string]setting

// readFile reads a file and refuses what is no setting of any section.
func readFile(path string) (document, []Problem) {
	text, err := readBounded(path)
	if err != nil {
		return nil, []Problem{{Source: path, Text: err.Error()}}
	}
	var top, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	switch err := decoder.Decode(&top); {
	case errors.Is(err, io.EOF):
		return document{}, nil // nothing but comments
	case err != nil:
		return nil, []Problem{{Source: path, Text: "is no YAML: " + err.Error()}}
	case !errors.Is(decoder.Decode(&second), io.EOF):
		return nil, []Problem{{Source: path, Text: "has a second document, which nobody would read: remove what follows ---"}}
	}
	r := &fileReader{path: path, doc: document{}}
	sections := map[string]Section{}
	var names []string
	for _, s := range Sections() {
		sections[s.Name()] = s
		names = append(names, s.Name())
	}
	r.mapping(top.Content[0], "the file", func(name, node *yaml.Node) {
		s, ok := sections[name.Value]
		if !ok {
			r.problems = append(r.problems, unknown(r.at(name), "section", name.Value, names))
			return
		}
		r.doc[s.Name()] = map[string]setting{}
		r.section(s, node)
	})
	return r.doc, r.problems
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("is larger than %d bytes: it cannot be a configuration", maxFileBytes)
	}
	return text, nil
}

type fileReader struct {
	path     string
	doc      document
	problems []Problem
}

func (r *fileReader) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", r.path, n.Line) }

func (r *fileReader) fail(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, Problem{Source: r.at(n), Text: fmt.Sprintf(format, args...)})
}

// mapping calls fn for every key of a mapping and refuses repeated ones: of two
// values one would silently win.
func (r *fileReader) mapping(n *yaml.Node, what string, fn func(name, node *yaml.Node)) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a heading with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping of names to values", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i]
		if line, twice := seen[name.Value]; twice {
			r.fail(name, "%s is given twice, first in line %d", name.Value, line)
			continue
		}
		seen[name.Value] = name.Line
		fn(name, n.Content[i+1])
	}
}

func (r *fileReader) section(s Section, n *yaml.Node) {
	keys := map[string]Key{}
	var names []string
	for _, k := range s.keys() {
		keys[k.Name] = k
		names = append(names, k.Name)
	}
	r.mapping(n, s.Name(), func(name, node *yaml.Node) {
		k, ok := keys[name.Value]
		if !ok {
			r.problems = append(r.problems, unknown(r.at(name), "key", s.Name()+"."+name.Value, prefixed(s.Name()+".", names)))
			return
		}
		if texts, ok := r.texts(k, node); ok {
			r.doc[s.Name()][k.Name] = setting{source: r.at(name), texts: texts}
		}
	})
}

// texts returns a value in the form in which flags give it.
func (r *fileReader) texts(k Key, n *yaml.Node) ([]string, bool) {
	_, isList := k.value.(list)
	switch {
	case n.Kind == yaml.ScalarNode && isList:
		return split(n.Value), true
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}, true
	case n.Kind == yaml.SequenceNode && isList:
		var texts []string
		for _, item := range n.Content {
			text, ok := r.item(k, item)
			if !ok {
				return nil, false
			}
			texts = append(texts, text)
		}
		return texts, true
	default:
		r.fail(n, "%s must be a %s", k.Name, k.Unit())
		return nil, false
	}
}

func (r *fileReader) item(k Key, n *yaml.Node) (string, bool) {
	m, ok := k.value.(mapped)
	switch {
	case n.Kind == yaml.ScalarNode:
		return n.Value, true
	case n.Kind != yaml.MappingNode || !ok:
		r.fail(n, "%s must be a %s", k.Name, k.Unit())
		return "", false
	}
	fields := map[string]string{}
	before := len(r.problems)
	r.mapping(n, k.Name, func(name, node *yaml.Node) {
		if !slices.Contains(m.fields(), name.Value) {
			r.problems = append(r.problems, unknown(r.at(name), "field of "+k.Name, name.Value, m.fields()))
			return
		}
		fields[name.Value] = node.Value
	})
	return m.join(fields), len(r.problems) == before
}

func prefixed(prefix string, names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, prefix+n)
	}
	return out
}
