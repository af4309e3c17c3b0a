package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// entry names blocks that no world reaches: all of a function, or those that begin
// in a line of it that contains a text.
type entry struct {
	file, function, text string
}

func (e entry) String() string {
	if e.text == "" {
		return e.file + " " + e.function
	}
	return e.file + " " + e.function + ": " + e.text
}

// readUnreachable reads the list: entries, one a line, under the reason that they
// have in common, which begins with #. A line ends in the text, if there is one,
// after a colon.
func readUnreachable(file string) ([]entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []entry
	reason := false
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		switch {
		case line == "":
			reason = false
			continue
		case line[0] == '#':
			reason = true
			continue
		case !reason:
			return nil, fmt.Errorf("%s:%d: no reason is given", file, n)
		}
		place, text, _ := strings.Cut(line, ": ")
		path, function, ok := strings.Cut(place, " ")
		if !ok {
			return nil, fmt.Errorf("%s:%d: want a file, a function and perhaps a text", file, n)
		}
		list = append(list, entry{path, function, text})
	}
	return list, in.Err()
}

// excuse marks what the list names, and returns the entries that fit nothing.
func (p *profile) excuse(list []entry) (stale []string) {
	for _, e := range list {
		found := false
		if f := p.files[e.file]; f != nil {
			for _, b := range f.blocks {
				if f.in(b.first) == e.function && strings.Contains(f.lines[b.first-1], e.text) {
					b.excused, found = true, true
				}
			}
		}
		if !found {
			stale = append(stale, e.String())
		}
	}
	return stale
}
