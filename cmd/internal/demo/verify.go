package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/oncelog/oncelog/client"
)

// findings is what the topics hold, and how it differs from what they should.
type findings struct {
	lines, words, counts int
	// hidden are records of aborted transactions: stored, and shown to nobody who
	// reads committed.
	hidden int
	// exact is the sum of the counts that are right.
	exact       int
	differences []string
	omitted     int // differences beyond maxDifferences
}

// maxDifferences is how many differences are told.
const maxDifferences = 10

func (f *findings) differ(format string, args ...any) {
	if len(f.differences) == maxDifferences {
		f.omitted++
		return
	}
	f.differences = append(f.differences, fmt.Sprintf(format, args...))
}

// verify reads all topics from their beginning and compares them with the text.
func verify(ctx context.Context, c *client.Client, t *text) (*findings, error) {
	f := &findings{}
	lines, err := read(ctx, c, topicLines, client.ReadCommitted)
	if err != nil {
		return nil, err
	}
	words, err := read(ctx, c, topicWords, client.ReadCommitted)
	if err != nil {
		return nil, err
	}
	counts, err := read(ctx, c, topicCounts, client.ReadCommitted)
	if err != nil {
		return nil, err
	}
	f.checkLines(lines, t)
	f.checkWords(words, t)
	f.checkCounts(counts, t)
	for _, topic := range []string{topicWords, topicCounts} {
		all, err := read(ctx, c, topic, client.ReadUncommitted)
		if err != nil {
			return nil, err
		}
		f.hidden += len(all)
	}
	f.hidden -= len(words) + len(counts)
	return f, nil
}

// entry is what is compared of a record.
type entry struct{ key, value string }

// read returns a topic, partition by partition in the order of offsets.
func read(ctx context.Context, c *client.Client, topic string, isolation client.Isolation) ([]entry, error) {
	consumer, err := c.Consume(ctx, "", []string{topic}, client.WithIsolation(isolation))
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", topic, err)
	}
	defer consumer.Close()
	var out []entry
	err = consumer.ReadToEnd(ctx, func(b *client.Batch) error {
		for r := range b.Records() {
			out = append(out, entry{string(r.Key), string(r.Value)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", topic, err)
	}
	return out, nil
}

// checkLines: every line once.
func (f *findings) checkLines(got []entry, t *text) {
	f.lines = len(got)
	want := make(map[entry]int, len(t.lines))
	for _, l := range t.lines {
		want[entry{l.key, l.text}]++
	}
	for _, e := range got {
		want[e]--
	}
	for _, e := range slices.SortedFunc(maps.Keys(want), compareEntries) {
		switch n := want[e]; {
		case n > 0:
			f.differ("line %s is missing", e.key)
		case n < 0:
			f.differ("line %s is there %d times too many", e.key, -n)
		}
	}
}

// checkWords: every word as often as the text has it.
func (f *findings) checkWords(got []entry, t *text) {
	f.words = len(got)
	left := maps.Clone(t.counts)
	for _, e := range got {
		left[e.key]--
	}
	for _, word := range slices.Sorted(maps.Keys(left)) {
		if n := left[word]; n != 0 {
			f.differ("%q was split out %d times, the text has it %d times", word, t.counts[word]-n, t.counts[word])
		}
	}
}

// checkCounts: the last count of every word is that of the text, and no count is
// ever below or equal to the one before.
func (f *findings) checkCounts(got []entry, t *text) {
	f.counts = len(got)
	last := make(map[string]int)
	for _, e := range got {
		n, err := strconv.Atoi(e.value)
		switch {
		case err != nil:
			f.differ("the count of %q is %q", e.key, e.value)
		case n <= last[e.key]:
			f.differ("the count of %q went from %d to %d", e.key, last[e.key], n)
		}
		last[e.key] = n
	}
	for _, word := range slices.Sorted(maps.Keys(t.counts)) {
		if n := t.counts[word]; last[word] != n {
			f.differ("%q was counted %d times, the text has it %d times", word, last[word], n)
		} else {
			f.exact += n
		}
	}
	for _, word := range slices.Sorted(maps.Keys(last)) {
		if _, there := t.counts[word]; !there {
			f.differ("%q was counted %d times, the text does not have it", word, last[word])
		}
	}
}

func compareEntries(a, b entry) int {
	switch {
	case a.key != b.key:
		if a.key < b.key {
			return -1
		}
		return 1
	case a.value < b.value:
		return -1
	case a.value > b.value:
		return 1
	default:
		return 0
	}
}
