package client

import (
	"crypto/tls"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/api/batch"
)

// Option configures Dial.
type Option func(*config)

type config struct {
	clientID       string
	tls            *tls.Config
	logger         *slog.Logger
	requestTimeout time.Duration
	backoffMin     time.Duration
	backoffMax     time.Duration
	token          *tokenFile
	dialOptions    []grpc.DialOption
	hooks          hooks
	tracer         Tracer
}

func defaultConfig() config {
	return config{
		clientID:       "oncelog-go",
		logger:         slog.New(slog.DiscardHandler),
		requestTimeout: 10 * time.Second,
		backoffMin:     20 * time.Millisecond,
		backoffMax:     200 * time.Millisecond,
	}
}

// WithClientID names this program to operators, at most 249 bytes. Default
// "oncelog-go".
func WithClientID(id string) Option { return func(c *config) { c.clientID = id } }

// WithTLS encrypts connections. Default: plain text.
func WithTLS(t *tls.Config) Option { return func(c *config) { c.tls = t } }

// WithLogger takes what an operator may want to know, such as a change of
// leader; failures are returned, not logged. Default: nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithRequestTimeout bounds one attempt of a call, not the call itself, which
// its context bounds. Default 10 s. Shorter finds a silent node sooner; it
// should stay above the slowest answer of a healthy one.
func WithRequestTimeout(d time.Duration) Option { return func(c *config) { c.requestTimeout = d } }

// WithRetryBackoff sets the first and the longest pause between attempts; each
// pause is half as long again as the one before, with jitter. Defaults 20 ms and
// 200 ms: the election of a leader takes less than a second, and whoever waits
// long by then has waited for nothing.
func WithRetryBackoff(first, longest time.Duration) Option {
	return func(c *config) { c.backoffMin, c.backoffMax = first, longest }
}

// WithDialOptions adds options of gRPC, such as interceptors and statistics
// handlers, after those of this package.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(c *config) { c.dialOptions = append(c.dialOptions, opts...) }
}

// Options are several options as one.
func Options(all ...Option) Option {
	return func(c *config) {
		for _, o := range all {
			o(c)
		}
	}
}

// ProducerOption configures InitTransactions and IdempotentProducer. Names and
// meanings are those of Kafka's producer; acks are always all.
type ProducerOption func(*producerConfig)

type producerConfig struct {
	timeout         time.Duration
	deliveryTimeout time.Duration
	linger          time.Duration
	batchBytes      int
	bufferBytes     int
	maxInFlight     int
	compression     Compression
	partitioner     Partitioner
	keepPrepared    bool
}

func defaultProducerConfig() producerConfig {
	return producerConfig{
		timeout:         time.Minute,
		deliveryTimeout: 2 * time.Minute,
		linger:          5 * time.Millisecond,
		batchBytes:      defaultBatchBytes,
		bufferBytes:     32 << 20,
		maxInFlight:     5,
		partitioner:     Murmur2Partitioner,
	}
}

const (
	// maxBatchBytes is what a server takes as one batch.
	maxBatchBytes = 1 << 20
	// defaultBatchBytes is below what a server's buffers are kept for, and enough to
	// have a partition's in-flight batches fill a fast network: several of this size are
	// encoded, sent and written at the same time, of one large batch each step waits
	// for the one before.
	defaultBatchBytes = 192 << 10
)

// WithTransactionTimeout sets transaction.timeout: the cluster aborts a
// transaction that is open longer. Default 1 min; 100 ms to 15 min. It should be
// longer than the delivery of the transaction's records takes in bad times, and
// short enough for readers, who wait for open transactions.
func WithTransactionTimeout(d time.Duration) ProducerOption {
	return func(c *producerConfig) { c.timeout = d }
}

// WithDeliveryTimeout sets delivery.timeout: how long a record may remain
// unacknowledged before its transaction is doomed or its idempotent producer
// fails. Default 2 min.
func WithDeliveryTimeout(d time.Duration) ProducerOption {
	return func(c *producerConfig) { c.deliveryTimeout = d }
}

// WithLinger sets how long a record waits for others to share its batch. Flush
// and Commit send at once, and so is a batch of 32 KiB sent of whose partition
// nothing is under way. Default 5 ms; 0 sends at once.
func WithLinger(d time.Duration) ProducerOption { return func(c *producerConfig) { c.linger = d } }

// WithBatchSize sets the size from which a batch is sent without lingering, in
// bytes before compression. Default 192 KiB, maximum 1 MiB. A single record may be
// larger than it. A larger size helps one producer over a network of long delays, and
// compression a little; else more batches that are under way at the same time are
// faster than fewer large ones.
func WithBatchSize(bytes int) ProducerOption {
	return func(c *producerConfig) { c.batchBytes = bytes }
}

// WithBufferMemory sets how many bytes of records may await their
// acknowledgement before Send blocks. Default 32 MiB; at least one record.
func WithBufferMemory(bytes int) ProducerOption {
	return func(c *producerConfig) { c.bufferBytes = bytes }
}

// WithMaxInFlight sets how many batches of one partition may be under way at
// the same time. Default 5, at most 16, which is what a partition remembers for
// telling repetitions. Order is kept whatever the number.
func WithMaxInFlight(batches int) ProducerOption {
	return func(c *producerConfig) { c.maxInFlight = batches }
}

// WithCompression sets compression.type. Default none.
func WithCompression(t Compression) ProducerOption {
	return func(c *producerConfig) { c.compression = t }
}

// WithPartitioner chooses partitions for records that name none. Default
// Murmur2Partitioner.
func WithPartitioner(p Partitioner) ProducerOption {
	return func(c *producerConfig) { c.partitioner = p }
}

// WithKeepPrepared has InitTransactions keep a transaction of the id that is
// prepared, see Tx.Prepare, instead of failing with ErrTxPrepared. Producer.Prepared
// names it: look for the word about it in the other system, and carry it out with
// Client.CompletePrepared.
func WithKeepPrepared() ProducerOption { return func(c *producerConfig) { c.keepPrepared = true } }

// Compression is the codec of batches.
type Compression uint8

// Codecs.
const (
	CompressionNone   = Compression(batch.CodecNone)
	CompressionSnappy = Compression(batch.CodecSnappy)
	CompressionLZ4    = Compression(batch.CodecLZ4)
	CompressionZstd   = Compression(batch.CodecZstd)
)

// String returns the name as compression.type spells it.
func (c Compression) String() string { return batch.Codec(c).String() }

// ParseCompression is the reverse of String: none, snappy, lz4, zstd.
func ParseCompression(name string) (Compression, error) {
	c, err := batch.ParseCodec(name)
	if err != nil {
		return 0, invalid("configure", "compression %q: none, snappy, lz4 or zstd", name)
	}
	return Compression(c), nil
}

// check refuses what cannot work.
func (c *producerConfig) check(op string) error {
	switch {
	case c.timeout < 100*time.Millisecond || c.timeout > 15*time.Minute:
		return invalid(op, "transaction timeout %v: 100ms to 15m", c.timeout)
	case c.deliveryTimeout <= 0:
		return invalid(op, "delivery timeout %v: more than 0", c.deliveryTimeout)
	case c.linger < 0:
		return invalid(op, "linger %v: 0 or more", c.linger)
	case c.batchBytes <= 0 || c.batchBytes > maxBatchBytes:
		return invalid(op, "batch size %d: 1 to %d", c.batchBytes, maxBatchBytes)
	case c.bufferBytes <= 0:
		return invalid(op, "buffer memory %d: more than 0", c.bufferBytes)
	case c.maxInFlight < 1 || c.maxInFlight > 16:
		return invalid(op, "max in flight %d: 1 to 16", c.maxInFlight)
	case c.partitioner == nil:
		return invalid(op, "partitioner is nil")
	}
	return nil
}

// TransactOption configures Transact and Process.
type TransactOption func(*transactConfig)

type transactConfig struct {
	attempts   int
	backoffMin time.Duration
	backoffMax time.Duration
}

func defaultTransactConfig() transactConfig {
	return transactConfig{attempts: 10, backoffMin: 20 * time.Millisecond, backoffMax: time.Second}
}

// WithMaxAttempts bounds how often a closure is run for one transaction. Default
// 10; 1: never again; 0: until the context ends.
func WithMaxAttempts(n int) TransactOption { return func(c *transactConfig) { c.attempts = n } }

// WithAttemptBackoff sets the first and the longest pause between two runs of a
// closure; 0: none. Defaults 20 ms and 1 s.
func WithAttemptBackoff(first, longest time.Duration) TransactOption {
	return func(c *transactConfig) { c.backoffMin, c.backoffMax = first, longest }
}
