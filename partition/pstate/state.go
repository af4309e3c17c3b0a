package pstate

// Config is what all replicas of a shard must agree on: the state depends on
// it. It is therefore part of the snapshot, and after the shard has started it
// changes only by the [Configure] command. A field that is zero has its
// default.
type Config struct {
	// RangesKept is how many of the newest batches of one sequence keep their
	// offset for answering duplicates. Default 16, at most 256. 16 bytes each.
	RangesKept uint32
	// ProducerExpiration is how long, in milliseconds of log time, sequences
	// are kept after the producer's last activity in the shard, never while it
	// has an open transaction, and how long a producer id that is gone is kept
	// in mind. It must be longer than the longest pause after which a producer
	// may retry a batch, and than any message may be on its way. Default 24 h.
	ProducerExpiration Millis
	// MaxOpenPerProducer bounds the open transactions of one producer in the
	// shard. Default 64. The coordinator throttles earlier.
	MaxOpenPerProducer uint32
	// MaxPartitions bounds the partitions of the shard. Default 16,384.
	MaxPartitions uint32
	// MaxProducers bounds the producers the shard remembers, those of which
	// only the floor is left included; beyond it a new one is refused. As many
	// ids that are gone are kept in mind besides; beyond that floors stay until
	// the oldest of them have expired. Default 262,144. About 200 bytes for each
	// producer, 40 for each id that is gone.
	MaxProducers uint32
	// MaxSequences bounds the (TxnRef or producer, partition) pairs with
	// sequence state. Default 1,048,576. 150 to 400 bytes each.
	MaxSequences uint32
	// MaxBatchBytes bounds one batch. Default 8 MiB, at most [MaxPayloadBytes].
	MaxBatchBytes uint32
}

const (
	maxRangesKept = 256
	// maxSweep bounds the producers, and the tombstones, that one command lets
	// expire, so that no entry takes long to apply; what is left is for the next.
	maxSweep = 64
)

func (c Config) withDefaults() Config {
	set := func(v *uint32, def, limit uint32) {
		if *v == 0 {
			*v = def
		}
		*v = min(*v, limit)
	}
	set(&c.RangesKept, 16, maxRangesKept)
	set(&c.MaxOpenPerProducer, 64, 1<<16)
	set(&c.MaxPartitions, 1<<14, MaxSyncPartitions)
	set(&c.MaxProducers, 1<<18, 1<<24)
	set(&c.MaxSequences, 1<<20, 1<<26)
	set(&c.MaxBatchBytes, 8<<20, MaxPayloadBytes)
	if c.ProducerExpiration <= 0 {
		c.ProducerExpiration = 24 * 60 * 60 * 1000
	}
	return c
}

// State is the replicated state of one shard. It is not safe for concurrent
// use: the runner applies from one goroutine and lets readers in between
// commands.
type State struct {
	cfg        Config
	now        Millis // highest time stamped into a command
	index      uint64 // highest log index of a command
	version    uint64 // catalogue version of the partitions
	partitions map[uint64]*partition
	producers  map[uint64]*producer
	sequences  int            // how many sequence states exist
	open       list[txn]      // all open transactions, by opened_at
	idle       list[producer] // producers with something to expire, by last activity
	gone       tombstones
	needs      needs
	written    uint64 // bytes of the batches that were ever written to the log
}

// New returns the state of a shard before its first log entry. Every replica
// must start with the same configuration.
func New(cfg Config) *State {
	return &State{
		cfg:        cfg.withDefaults(),
		partitions: make(map[uint64]*partition),
		producers:  make(map[uint64]*producer),
		open:       list[txn]{at: func(t *txn) *link[txn] { return &t.link }},
		idle:       list[producer]{at: func(p *producer) *link[producer] { return &p.link }},
		gone:       tombstones{since: make(map[uint64]Millis)},
	}
}

// Configure is the command that changes the configuration.
type Configure struct {
	At     Millis
	Config Config
}

// Configure changes the configuration from this log index on.
func (s *State) Configure(index uint64, c Configure) {
	s.step(index, c.At)
	s.cfg = c.Config.withDefaults()
	s.sweep()
}

// Config returns the configuration in force, defaults filled in.
func (s *State) Config() Config { return s.cfg }

// Now returns the log time: the highest time stamped into a command.
func (s *State) Now() Millis { return s.now }

// Index returns the log index of the last command.
func (s *State) Index() uint64 { return s.index }

// CatalogVersion returns the version of the catalogue the partitions are from.
func (s *State) CatalogVersion() uint64 { return s.version }

// step takes note of the index and time of a command. Neither moves backwards:
// leaders have different clocks.
func (s *State) step(index uint64, at Millis) {
	s.index = max(s.index, index)
	s.now = max(s.now, at)
}
