package streams

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/state"
)

// Guarantee is processing.guarantee.
type Guarantee uint8

// Guarantees.
const (
	// ExactlyOnce: what was read, what was written and what stores hold change in one
	// transaction, as exactly_once_v2 of Kafka Streams. The default.
	ExactlyOnce Guarantee = iota
	// AtLeastOnce: without transactions. After a crash records are processed again,
	// and what they had led to is there twice, in output and stores. A worker that
	// hung may still write when another one has taken its tasks over.
	AtLeastOnce
)

// Option configures NewApp.
type Option func(*config)

type config struct {
	guarantee      Guarantee
	commitInterval time.Duration
	workers        int
	instance       string
	backend        state.Backend
	standbys       int
	decode         func(*DecodeError) error
	logger         *slog.Logger
	consumer       []client.ConsumerOption
	producer       []client.ProducerOption
}

func defaultConfig() config {
	return config{
		commitInterval: 100 * time.Millisecond, workers: 1, backend: state.NewMemory(),
		logger: slog.New(slog.DiscardHandler),
	}
}

// Bounds of options.
const (
	maxWorkers        = 1000
	maxStandbys       = 100
	maxInstanceBytes  = 100
	maxCommitInterval = time.Minute
)

func (c *config) check() error {
	switch {
	case c.guarantee > AtLeastOnce:
		return fmt.Errorf("streams: guarantee %d: no such one", c.guarantee)
	case c.commitInterval < time.Millisecond || c.commitInterval > maxCommitInterval:
		return fmt.Errorf("streams: commit interval %v: 1ms to %v", c.commitInterval, maxCommitInterval)
	case c.workers < 1 || c.workers > maxWorkers:
		return fmt.Errorf("streams: %d workers: 1 to %d", c.workers, maxWorkers)
	case c.standbys < 0 || c.standbys > maxStandbys:
		return fmt.Errorf("streams: %d standbys: 0 to %d", c.standbys, maxStandbys)
	case len(c.instance) > maxInstanceBytes || strings.Contains(c.instance, "/"):
		return fmt.Errorf("streams: instance id %q: at most %d bytes, without a slash", c.instance, maxInstanceBytes)
	case c.backend == nil || c.logger == nil:
		return fmt.Errorf("streams: state backend and logger must not be nil")
	}
	return nil
}

// WithGuarantee sets processing.guarantee. Default ExactlyOnce.
func WithGuarantee(g Guarantee) Option { return func(c *config) { c.guarantee = g } }

// WithCommitInterval sets commit.interval: for how long a worker gathers records in
// one transaction. What it writes shows after that. Default 100 ms; 1 ms to 1 min,
// and less than the transaction timeout.
func WithCommitInterval(d time.Duration) Option { return func(c *config) { c.commitInterval = d } }

// WithWorkers sets num.stream.threads: how many tasks run at the same time. Each
// worker has a consumer and a producer for all of its tasks. Default 1; at most
// 1,000. More workers than partitions are idle.
func WithWorkers(n int) Option { return func(c *config) { c.workers = n } }

// WithInstanceID names this instance, at most 100 bytes without a slash: its
// transactional ids are "<application>-<instance>-<worker>", and [View.Owner] answers
// with it. Give every instance its own, such as the name of its pod: what an earlier
// life left open is aborted at once then, and not at its timeout. Two instances with
// one id fence each other. Default: a random one.
func WithInstanceID(id string) Option { return func(c *config) { c.instance = id } }

// WithState sets where stores are kept on this machine. Default: in memory, and read
// back from the changelog after every start. One backend is for one instance. What a
// task that moved away has left there stays, and makes it short to take it back.
func WithState(b state.Backend) Option { return func(c *config) { c.backend = b } }

// WithStandbys sets num.standby.replicas: how many instances besides the one that
// runs a task keep copies of its stores, about a second behind, so that taking it
// over is quick. Default 0; at most 100. Copies are not read by [Query].
func WithStandbys(n int) Option { return func(c *config) { c.standbys = n } }

// WithDecodeError says what becomes of records that their serde refuses: nil skips
// the record, which is counted; an error ends [App.Run] with it. Default: it ends.
// f may be called by several workers at the same time.
func WithDecodeError(f func(*DecodeError) error) Option { return func(c *config) { c.decode = f } }

// WithLogger takes what an operator may want to know. Default: nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithConsumerOptions adds options of the workers' consumers, such as
// client.WithSessionTimeout and client.WithMaxPollRecords: what a worker does with
// the records of one poll must fit in a transaction's timeout. Those that choose
// partitions, assignor, isolation, start, member or callbacks are the workers' own. A
// new application begins with the first record that is kept, or where
// client.Admin.ResetGroupOffsets has put its group before.
func WithConsumerOptions(opts ...client.ConsumerOption) Option {
	return func(c *config) { c.consumer = append(c.consumer, opts...) }
}

// WithProducerOptions adds options of the workers' producers, such as compression.
// The transaction timeout is 10 s by default here, for while a transaction of a dead
// worker is open nobody can take its tasks over. The partitioner must stay
// client.Murmur2Partitioner unless all topics are written with another one.
func WithProducerOptions(opts ...client.ProducerOption) Option {
	return func(c *config) { c.producer = append(c.producer, opts...) }
}

// transactionTimeout is the default of workers.
const transactionTimeout = 10 * time.Second
