package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// consumeOptions are the flags of consume.
type consumeOptions struct {
	isolation  string
	follow     bool
	from       string
	partitions []int32
	max        uint64
	show       []string
}

// Isolation levels, as flags name them.
const (
	readCommitted   = "read_committed"
	readUncommitted = "read_uncommitted"
)

func newConsumeCommand(a *app) *cobra.Command {
	o := consumeOptions{isolation: readCommitted}
	c := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print the records of a topic, to the end or for as long as it grows",
		Long: `Consume prints every record of a topic that the isolation level shows, up to the
end that it has when the command starts, or with --follow until it is
interrupted. Records of one partition come in their order.

In table form a record is its value and a line feed; --show puts more before it,
separated by tabs. With -o json a record is one line of JSON; a key or value that
is not UTF-8 is named key_base64 or value_base64 there. An absent key or value
(null) is printed as nothing.

read_committed, the default, shows records of committed transactions and records
written without one; it ends before the oldest open transaction, and says so.`,
		Example: `  oncelog consume orders
  oncelog consume orders --follow --from latest
  oncelog consume orders --from 2026-01-31T12:00:00Z --max 10 --show partition,offset,key
  oncelog consume orders --isolation read_uncommitted -o json`,
		Args: takes(1, 1),
	}
	c.Flags().Var(&choice{&o.isolation, []string{readCommitted, readUncommitted}}, "isolation", "which records are shown")
	c.Flags().BoolVarP(&o.follow, "follow", "f", false, "stay at the end and print what comes")
	c.Flags().StringVar(&o.from, "from", "earliest", "earliest, latest, an offset, a time (RFC 3339), or how long ago (15m)")
	c.Flags().Int32SliceVarP(&o.partitions, "partition", "p", nil, "only these partitions")
	c.Flags().Uint64VarP(&o.max, "max", "n", 0, "stop after this many records; 0: no limit")
	c.Flags().StringSliceVar(&o.show, "show", nil, "put before the value: topic, partition, offset, timestamp, key, headers")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		if s.cfg.Output == config.OutputYAML {
			return &usageError{errors.New("consume prints text or json, not yaml")}
		}
		p, err := newPrinter(s.out, s.cfg.Output, o.show)
		if err != nil {
			return &usageError{err}
		}
		start, err := parseStart("from", o.from, s.now())
		if err != nil {
			return &usageError{err}
		}
		return (&consumption{session: s, options: o, topic: args[0], start: start, printer: p}).run(ctx)
	})
}

// consumption is one run of consume.
type consumption struct {
	*session
	options  consumeOptions
	topic    string
	start    start
	printer  *printer
	consumer *client.Consumer
	printed  uint64
}

func (c *consumption) run(ctx context.Context) (err error) {
	cl, err := c.dial(ctx)
	if err != nil {
		return err
	}
	// The SDK gives a new topic time to appear; here it is there or misspelt.
	_, err = ask(ctx, c.session, "topic "+c.topic, func(ctx context.Context, a *client.Admin) (*oncelogv1.Topic, error) {
		return a.DescribeTopic(ctx, c.topic)
	})
	if err != nil {
		return err
	}
	starting, cancel := c.limit(ctx)
	defer cancel()
	options := []client.ConsumerOption{client.WithStart(client.StartEarliest)}
	if c.options.isolation == readUncommitted {
		options = append(options, client.WithIsolation(client.ReadUncommitted))
	}
	if len(c.options.partitions) > 0 {
		options = append(options, client.WithPartitions(c.topic, c.options.partitions...))
	}
	// Without a group: looking at records moves nobody's position.
	c.consumer, err = cl.Consume(starting, "", []string{c.topic}, options...)
	if err != nil {
		return about{"topic " + c.topic, err}
	}
	defer c.consumer.Close()
	if err := c.seek(starting); err != nil {
		return about{"topic " + c.topic, err}
	}
	if c.options.follow {
		err = c.follow(ctx)
	} else {
		err = c.toEnd(ctx, starting)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends the reading when --max is reached.
var errEnough = errors.New("enough records")

func (c *consumption) follow(ctx context.Context) error {
	for ctx.Err() == nil { // interrupting is how following ends
		b, err := c.consumer.Poll(ctx)
		if err == nil {
			err = c.write(b)
		}
		if err != nil && ctx.Err() == nil {
			return about{"topic " + c.topic, err}
		}
	}
	return nil
}

// endPoll is how often reading to the end looks whether it is there: what is
// passed over at the end, such as aborted records, comes with no batch.
const endPoll = 20 * time.Millisecond

func (c *consumption) toEnd(ctx, starting context.Context) error {
	ends, err := c.consumer.EndOffsets(starting)
	if err != nil {
		return about{"topic " + c.topic, err}
	}
	ctx, progress, stop := c.stall(ctx)
	defer stop()
	for !c.consumer.Reached(ends) {
		polling, cancel := context.WithTimeout(ctx, endPoll)
		b, err := c.consumer.Poll(polling)
		cancel()
		switch {
		case ctx.Err() != nil:
			return about{fmt.Sprintf("topic %s: no progress after %s records", c.topic, output.Count(c.printed)), context.Cause(ctx)}
		case errors.Is(err, context.DeadlineExceeded):
			continue
		case err != nil:
			return about{"topic " + c.topic, err}
		}
		progress()
		if err := c.write(b); err != nil {
			return err
		}
	}
	c.noteHidden(ctx)
	return nil
}

// write prints the records of a batch, without those that lie behind what was
// asked for.
func (c *consumption) write(b *client.Batch) error {
	for r := range b.Records() {
		if c.start.offset != nil && r.Offset < int64(*c.start.offset) {
			continue // a partition that was shorter than the offset
		}
		if err := c.printer.record(r); err != nil {
			return err
		}
		c.printed++
		if c.options.max > 0 && c.printed >= c.options.max {
			if err := c.printer.flush(); err != nil {
				return err
			}
			return errEnough
		}
	}
	return c.printer.flush()
}

// noteHidden says when there is more than what was shown: somebody who looks
// for a record must know that it may be there.
func (c *consumption) noteHidden(ctx context.Context) {
	if c.options.isolation == readUncommitted {
		return
	}
	statuses, err := ask(ctx, c.session, "", func(ctx context.Context, a *client.Admin) ([]*oncelogv1.PartitionStatus, error) {
		ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
		defer cancel()
		return a.DescribePartitions(ctx, c.topic)
	})
	if err != nil {
		return // the records that were asked for have been printed
	}
	assigned := map[int32]bool{}
	for _, tp := range c.consumer.Partitions() {
		assigned[tp.Partition] = true
	}
	var hidden uint64
	for _, st := range statuses {
		if assigned[int32(st.GetPartition().GetPartition())] {
			hidden += st.GetAppliedEnd() - st.GetStableEnd()
		}
	}
	if hidden > 0 {
		fmt.Fprintf(c.err, "note: up to %s more records wait for open transactions; `oncelog topic describe %s` shows them\n",
			output.Count(hidden), c.topic)
	}
}

// start is where reading begins.
type start struct {
	latest bool
	offset *uint64
	time   time.Time
}

func parseStart(flag, text string, now time.Time) (start, error) {
	switch text {
	case "earliest", "":
		return start{}, nil
	case "latest":
		return start{latest: true}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		offset := uint64(n)
		return start{offset: &offset}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return start{time: at}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return start{time: now.Add(-ago)}, nil
	}
	return start{}, fmt.Errorf("--%s %q must be earliest, latest, an offset, a time such as 2026-01-31T12:00:00Z, or a duration such as 15m", flag, text)
}

// seek moves the consumer, which is at the earliest records, to the start.
func (c *consumption) seek(ctx context.Context) error {
	if !c.start.latest && c.start.offset == nil && c.start.time.IsZero() {
		return nil
	}
	to, err := c.consumer.EndOffsets(ctx) // also of partitions that end before
	if err != nil {
		return err
	}
	switch {
	case c.start.offset != nil:
		if err := lower(to, *c.start.offset); err != nil {
			return err
		}
	case !c.start.latest:
		found, err := c.consumer.OffsetsAt(ctx, c.start.time)
		if err != nil {
			return err
		}
		maps.Copy(to, found)
	}
	c.consumer.Seek(to)
	return nil
}

// lower makes ends the places where reading from an offset begins: the end of a
// partition that is shorter. An offset that no partition has is a mistake.
func lower(ends client.Offsets, offset uint64) error {
	longest := int64(0)
	for tp, end := range ends {
		longest = max(longest, end)
		ends[tp] = min(end, int64(min(offset, math.MaxInt64)))
	}
	if offset > uint64(longest) {
		return &helpError{
			error: fmt.Errorf("no partition reaches offset %d: the longest ends at %d", offset, longest),
			help:  "Give an offset up to that end, earliest, latest or a time; --follow --from latest waits for new records.",
		}
	}
	return nil
}
