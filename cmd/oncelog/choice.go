package main

import (
	"fmt"
	"slices"
	"strings"
)

// choice is a flag that takes one of a few words.
type choice struct {
	to    *string
	words []string
}

// String returns the word.
func (c *choice) String() string { return *c.to }

// Type returns the words, for help.
func (c *choice) Type() string { return strings.Join(c.words, "|") }

// Set takes a word.
func (c *choice) Set(word string) error {
	if !slices.Contains(c.words, word) {
		return fmt.Errorf("must be %s", c.Type())
	}
	*c.to = word
	return nil
}
