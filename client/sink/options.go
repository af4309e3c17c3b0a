package sink

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/oncelog/oncelog/client"
)

// Option configures Run and RunIdempotent.
type Option func(*config)

type config struct {
	consumer    []client.ConsumerOption
	start       client.Start
	skipRemoved bool
	attempt     time.Duration
	pauseMin    time.Duration
	pauseMax    time.Duration
	report      time.Duration
	logger      *slog.Logger
}

func defaultConfig() config {
	return config{
		attempt: 30 * time.Second, pauseMin: 50 * time.Millisecond, pauseMax: 5 * time.Second,
		report: 5 * time.Second, logger: slog.New(slog.DiscardHandler),
	}
}

// WithConsumer adds options of the consumer, such as client.WithMaxPollRecords, which
// bounds the records of one transaction of the store, 500 by default. The sink itself
// sets isolation (read_committed), start, reset and the callbacks; what is said of
// those here has no effect.
func WithConsumer(opts ...client.ConsumerOption) Option {
	return func(c *config) { c.consumer = append(c.consumer, opts...) }
}

// WithStart says where a partition begins of which there is no position. What it finds
// is stored at once. Default client.StartEarliest; client.StartNone refuses.
func WithStart(s client.Start) Option { return func(c *config) { c.start = s } }

// WithSkipRemoved goes on behind records that retention has removed before the sink
// took them, with a warning in the log. Default: the sink ends with
// OFFSET_OUT_OF_RANGE, for its result would have a hole.
func WithSkipRemoved() Option { return func(c *config) { c.skipRemoved = true } }

// WithAttemptTimeout bounds one call of the store, handler included. It should be
// shorter than the group's rebalance timeout (1 min), for which a partition that is
// asked back waits for the call that is under way. Default 30 s; 100 ms to 1 h.
func WithAttemptTimeout(d time.Duration) Option { return func(c *config) { c.attempt = d } }

// WithRetryBackoff sets the first and the longest pause after a call of the store that
// may be repeated; it is repeated until the context ends. Each pause is half as long
// again as the one before, with jitter. Defaults 50 ms and 5 s.
func WithRetryBackoff(first, longest time.Duration) Option {
	return func(c *config) { c.pauseMin, c.pauseMax = first, longest }
}

// WithReportInterval sets how often Run tells the group its positions, for whoever
// looks at the group's lag. Default 5 s; 0: never.
func WithReportInterval(d time.Duration) Option { return func(c *config) { c.report = d } }

// WithLogger takes what an operator may want to know: repeated calls, lost partitions,
// records that were skipped. Default: nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// check refuses what cannot work.
func (c *config) check(name string, topics []string) error {
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("sink: name of %d bytes: 1 to %d", len(name), MaxName)
	case len(topics) == 0:
		return fmt.Errorf("sink %s: no topics", name)
	case c.attempt < 100*time.Millisecond || c.attempt > time.Hour:
		return fmt.Errorf("sink %s: attempt timeout %v: 100ms to 1h", name, c.attempt)
	case c.pauseMin < 0 || c.pauseMax < c.pauseMin:
		return fmt.Errorf("sink %s: retry backoff %v to %v: 0 or more, ascending", name, c.pauseMin, c.pauseMax)
	case c.report < 0:
		return fmt.Errorf("sink %s: report interval %v: 0 or more", name, c.report)
	case c.start > client.StartNone:
		return fmt.Errorf("sink %s: start %d: no such one", name, c.start)
	case c.logger == nil:
		return fmt.Errorf("sink %s: logger is nil", name)
	}
	return nil
}
