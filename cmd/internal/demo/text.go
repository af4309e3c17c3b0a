package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Limits of a text.
const (
	// maxLineBytes keeps a word, which is a record's key, below the contract's 64
	// KiB, even if lower case makes it longer.
	maxLineBytes = 32 << 10
	// minLines, with words in them, let every failure of the script meet work.
	minLines = 40
)

// line is one line of the text.
type line struct {
	// key names it: file and number.
	key  string
	text string
}

// text is what is counted.
type text struct {
	files int
	lines []line
	// counts is the independent count: the result that the cluster must have.
	counts map[string]int
	// words is the sum of counts.
	words int
}

// readText reads files, or, with none given, the documents in the working
// directory.
func readText(paths []string) (*text, error) {
	if len(paths) == 0 {
		var err error
		if paths, err = documents("."); err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, errors.New("there are no documents in this directory: name files to count, as in 'oncelog demo FILE...'")
		}
	}
	t := &text{files: len(paths), counts: make(map[string]int)}
	withWords := 0
	for i, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		n, err := t.add(fmt.Sprintf("%d-%s", i+1, filepath.Base(path)), content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		withWords += n
	}
	if withWords < minLines {
		return nil, fmt.Errorf("the text has %d lines with words, the demo needs at least %d: each failure is to meet work", withWords, minLines)
	}
	return t, nil
}

// add takes the lines of a file and returns how many of them have words.
func (t *text) add(name string, content []byte) (withWords int, err error) {
	number := 0
	for l := range bytes.Lines(content) {
		number++
		if len(l) > maxLineBytes {
			return 0, fmt.Errorf("line %d has %d bytes, the demo takes at most %d", number, len(l), maxLineBytes)
		}
		t.lines = append(t.lines, line{key: fmt.Sprintf("%s:%d", name, number), text: strings.TrimRight(string(l), "\r\n")})
		if len(words(string(l))) > 0 {
			withWords++
		}
	}
	for word, n := range countWords(content) {
		t.counts[word] += n
		t.words += n
	}
	return withWords, nil
}

// documents returns what people read in a source tree: Markdown, the licence and
// the contract. Hidden folders are left out.
func documents(root string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir():
			if path != root && strings.HasPrefix(name, ".") {
				return fs.SkipDir
			}
		case name == "LICENSE", filepath.Ext(name) == ".md", filepath.Ext(name) == ".proto":
			found = append(found, path)
		}
		return nil
	})
	slices.Sort(found)
	return found, err
}

// words splits a line into words, in lower case: runs of letters and digits.
// This is what the workers do.
func words(line string) []string {
	return strings.FieldsFunc(strings.ToLower(line), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r)
	})
}

var wordPattern = regexp.MustCompile(`[\pL\pN]+`)

// countWords counts the words of a whole file, on purpose in another way than
// the workers do.
func countWords(content []byte) map[string]int {
	counts := make(map[string]int)
	for _, word := range wordPattern.FindAll(bytes.ToLower(content), -1) {
		counts[string(word)]++
	}
	return counts
}
