package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// commentWidth is where comments are wrapped.
const commentWidth = 78

// WriteDefaults writes every key of the sections with its meaning, unit,
// default, flag and variable, as a file that can be used as it is: required
// keys are comments.
func WriteDefaults(w io.Writer, sections []Section) error {
	b := bufio.NewWriter(w)
	comment(b, "", "Settings of oncelog, with their defaults. A flag wins over its variable, a variable over this file, the "+
		"file over the defaults. Name the file with --config or ONCELOG_CONFIG and check it with `oncelog config check FILE`. "+
		"Keys that do not exist are refused.")
	for _, s := range sections {
		fmt.Fprintf(b, "\n%s:\n", s.Name())
		for _, k := range s.keys() {
			writeKey(b, k)
		}
	}
	return b.Flush()
}

func writeKey(b *bufio.Writer, k Key) {
	const indent = "  "
	comment(b, indent, k.Doc)
	comment(b, indent, fmt.Sprintf("%s; --%s, %s", k.Unit(), k.Flag(), k.Env()))
	if k.Required {
		fmt.Fprintf(b, "%s# required, for example:\n%s# %s: %s\n\n", indent, indent, k.Name, k.Example)
		return
	}
	text := k.Value()
	switch {
	case isListValue(k):
		text = "[" + quoteAll(text) + "]"
	case text == "":
		text = `""`
	}
	fmt.Fprintf(b, "%s%s: %s\n\n", indent, k.Name, text)
}

func isListValue(k Key) bool {
	_, ok := k.value.(list)
	return ok
}

// quoteAll quotes the elements of a list: an address holds a colon.
func quoteAll(text string) string {
	parts := split(text)
	for i, p := range parts {
		parts[i] = `"` + p + `"`
	}
	return strings.Join(parts, ", ")
}

// comment writes text as lines of comment.
func comment(b *bufio.Writer, indent, text string) {
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > commentWidth && line != indent+"#" {
			fmt.Fprintln(b, line)
			line = indent + "#"
		}
		line += " " + word
	}
	fmt.Fprintln(b, line)
}
