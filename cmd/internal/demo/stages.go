package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/oncelog/oncelog/client"
)

// split writes one record per word of a line. It has no state.
type split struct{}

func (split) input() (string, int) { return topicLines, maxLinesPerTransaction }

func (split) restore(context.Context, *client.Client, []int32) (int, error) { return 0, nil }

// transform names the line in the value, so that a record can be traced back.
func (split) transform(b *client.Batch) []*client.Record {
	var out []*client.Record
	for r := range b.Records() {
		for _, word := range words(string(r.Value)) {
			out = append(out, &client.Record{Topic: topicWords, Key: []byte(word), Value: r.Key})
		}
	}
	return out
}

func (split) committed() {}

// counter counts the words of its partitions. Its memory is only ever what has
// been committed: pending counts replace it after the commit.
type counter struct {
	counts  map[string]int
	pending map[string]int
}

func newCounter() *counter { return &counter{counts: make(map[string]int)} }

func (*counter) input() (string, int) { return topicWords, maxWordsPerTransaction }

// restore reads the last committed count of every word.
func (c *counter) restore(ctx context.Context, from *client.Client, partitions []int32) (int, error) {
	consumer, err := from.Consume(ctx, "", nil, client.WithPartitions(topicCounts, partitions...))
	if err != nil {
		return 0, err
	}
	defer consumer.Close()
	restored := 0
	err = consumer.ReadToEnd(ctx, func(b *client.Batch) error {
		for r := range b.Records() {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return fmt.Errorf("count of %q at %d of partition %d: %w", r.Key, r.Offset, r.Partition, err)
			}
			c.counts[string(r.Key)] = n
			restored++
		}
		return nil
	})
	return restored, err
}

// transform writes the new count of every word in the batch.
func (c *counter) transform(b *client.Batch) []*client.Record {
	c.pending = make(map[string]int)
	for r := range b.Records() {
		word := string(r.Key)
		if _, seen := c.pending[word]; !seen {
			c.pending[word] = c.counts[word]
		}
		c.pending[word]++
	}
	var out []*client.Record
	for _, word := range slices.Sorted(maps.Keys(c.pending)) {
		out = append(out, &client.Record{
			Topic: topicCounts, Key: []byte(word), Value: strconv.AppendInt(nil, int64(c.pending[word]), 10),
		})
	}
	return out
}

func (c *counter) committed() { maps.Copy(c.counts, c.pending) }
