package txn

// Limits of the encoded commands. They are wider than the configurable limits,
// so that a command is refused with a reason rather than as garbage.
const (
	// MaxTextLength is the longest id, owner or host a command may carry, in
	// bytes.
	MaxTextLength = 4096
	// MaxItems is the most items of one batched command, and the most
	// participants of one EndTransaction.
	MaxItems = 10_000
	// MaxPartitions is the most partitions one encoded participant or enlist
	// item may carry.
	MaxPartitions = 100_000
	// MaxOffsetsPayload is the largest OffsetsPayload, in bytes.
	MaxOffsetsPayload = 4 << 20
	// MaxAllocate is the most producer ids of one AllocateProducerIDs.
	MaxAllocate = 10_000
)

// Config is the part of the rules that can be chosen. It influences what
// commands do, so it must be the same on every replica for the whole life of
// the log: it belongs to the cluster, never to one node's settings.
type Config struct {
	// MinTimeout, DefaultTimeout and MaxTimeout bound a producer's transaction
	// timeout (spans). A requested 0 means DefaultTimeout. A timeout far below
	// the time of a leader change aborts transactions for nothing.
	// Defaults: 1 s, 60 s, 15 min (Kafka's transaction.max.timeout.ms).
	MinTimeout, DefaultTimeout, MaxTimeout Millis
	// IDExpiration is how long a transactional id may be idle before it can be
	// removed (a span). Default: 7 days (transactional.id.expiration.ms).
	IDExpiration Millis
	// OutcomesKept is how many completed outcomes are remembered per id, the
	// last to complete; that of the highest transaction is remembered besides.
	// It bounds how late a repeated commit still gets its answer. Default: 16.
	OutcomesKept int
	// RequestIDsKept is how many InitProducer request ids are remembered per
	// id, so that a late copy of one fences nobody. For as many epochs that
	// have ended the last number is remembered, so that whoever was fenced is
	// told whether its transaction surely was not committed. Default: 16.
	RequestIDsKept int
	// MaxUnfinished is the most open and completing transactions of one id.
	// It bounds memory when shards cannot be reached. Default: 64.
	MaxUnfinished int
	// MaxParticipants is the most shards of one transaction. Default: 1,000.
	MaxParticipants int
	// MaxPartitionsPerTxn is the most partitions of one transaction over all
	// its shards. Default: 10,000.
	MaxPartitionsPerTxn int
	// MaxIDs is the most transactional ids. Default: 10,000,000.
	MaxIDs int
	// MaxIDLength is the longest transactional id in bytes. Default: 249,
	// Kafka's limit for names.
	MaxIDLength int
	// MaxOwnerLength bounds owner and client host in bytes. Default: 255.
	MaxOwnerLength int
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		MinTimeout:          1_000,
		DefaultTimeout:      60_000,
		MaxTimeout:          15 * 60_000,
		IDExpiration:        7 * 24 * 3600_000,
		OutcomesKept:        16,
		RequestIDsKept:      16,
		MaxUnfinished:       64,
		MaxParticipants:     1_000,
		MaxPartitionsPerTxn: 10_000,
		MaxIDs:              10_000_000,
		MaxIDLength:         249,
		MaxOwnerLength:      255,
	}
}

// bounded returns c with every value moved into the range in which the machine
// is sound, so that a construction cannot fail: at least one remembered outcome
// and one unfinished transaction, and limits no wider than the encoding.
func (c Config) bounded() Config {
	c.MaxTimeout = min(max(c.MaxTimeout, 1), maxTime/4)
	c.MinTimeout = min(max(c.MinTimeout, 1), c.MaxTimeout)
	c.DefaultTimeout = min(max(c.DefaultTimeout, c.MinTimeout), c.MaxTimeout)
	c.IDExpiration = min(max(c.IDExpiration, 1), maxTime/4)
	c.OutcomesKept = min(max(c.OutcomesKept, 1), 1024)
	c.RequestIDsKept = min(max(c.RequestIDsKept, 1), 1024)
	c.MaxUnfinished = min(max(c.MaxUnfinished, 1), 4096)
	c.MaxParticipants = min(max(c.MaxParticipants, 1), MaxItems)
	c.MaxPartitionsPerTxn = min(max(c.MaxPartitionsPerTxn, 1), MaxPartitions)
	c.MaxIDs = max(c.MaxIDs, 1)
	c.MaxIDLength = min(max(c.MaxIDLength, 1), MaxTextLength)
	c.MaxOwnerLength = min(max(c.MaxOwnerLength, 0), MaxTextLength)
	return c
}
