package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/oncelog/oncelog/api/level"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/internal/trace"
	"github.com/oncelog/oncelog/partition/compact"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Coordinator is what a partition node asks of the coordinator. Every method
// finds the leader by itself. [CoordinatorClient] is the one over gRPC.
type Coordinator interface {
	// RegisterNode makes the node known, or updates its addresses.
	RegisterNode(context.Context, *oncelogv1.RegisterNodeRequest) (*oncelogv1.RegisterNodeResponse, error)
	// Heartbeat reports the node's shards and returns what it must host.
	Heartbeat(context.Context, *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error)
	// Enlist tells of open transactions.
	Enlist(context.Context, *oncelogv1.EnlistRequest) (*oncelogv1.EnlistResponse, error)
	// GiveUpDisk says that the node's data directory is never used again.
	GiveUpDisk(context.Context, *oncelogv1.GiveUpDiskRequest) (*oncelogv1.GiveUpDiskResponse, error)
	// GiveUpReplica says that a copy of one shard is never used again.
	GiveUpReplica(context.Context, *oncelogv1.GiveUpReplicaRequest) (*oncelogv1.GiveUpReplicaResponse, error)
	// CheckProducers tells which producer ids no longer exist.
	CheckProducers(context.Context, *oncelogv1.CheckProducersRequest) (*oncelogv1.CheckProducersResponse, error)
}

// DefaultEnlistDelay is [Config]'s: longer than transactions of a producer that commits
// every 100 ms, as Kafka Streams does. Enlisting each of them took more of the
// coordinators than deciding it.
const DefaultEnlistDelay = 200 * time.Millisecond

// Config describes a node. Zero values take the stated defaults.
type Config struct {
	// NodeID is from 1 to 2^32-1, chosen by the operator. Required.
	NodeID uint64
	// InstanceID names the data directory. Empty: drawn when the directory is
	// used for the first time, and read from it afterwards. At most 64 bytes.
	InstanceID string
	// ClientAddress and PeerAddress are where clients and nodes reach this
	// node, host:port. Required.
	ClientAddress, PeerAddress string
	// DataDir is where identity and last assignment are kept. It exists.
	// Required without Files.
	DataDir string
	// Files keeps identity and last assignment. Nil: the directory DataDir.
	Files datafile.Files
	// OpenStore opens the node's Raft store once the cluster is known. The
	// transport of the store belongs to that cluster and finds addresses with
	// [Node.ResolvePeer]. The node owns the store. Required.
	OpenStore func(clusterID string) (*raftstore.Store, error)
	// HasLog reports whether there is a log that OpenStore would open and not make. Nil:
	// nobody knows, and a log that was deleted with the last assignment is not missed.
	HasLog func() (bool, error)
	// DiscardLog puts the log away for good: OpenStore then makes a new one. It may
	// have been done before. Nil: a node whose log is damaged does not start.
	DiscardLog func() error
	// SalvageLog copies the shards of the log that can be read as a whole, durably, and
	// returns the others. A copy that was begun before is made anew. An error that wraps
	// raftstore.ErrCorrupt: the damage cannot be confined to shards. Nil: it never can.
	SalvageLog func() ([]LostReplica, error)
	// ReplaceLog puts the copy that SalvageLog has made in the place of the log, which is
	// put away. It may have been done before.
	ReplaceLog func() error
	// Coordinator is whom the node asks. Required.
	Coordinator Coordinator
	// Runtime is what the node runs, waits and tells the time by. Nil: the
	// machine.
	Runtime *task.Runtime
	// Logger defaults to none.
	Logger *slog.Logger
	// Tracer defaults to none.
	Tracer trace.Tracer
	// Version of the program, for GetStatus.
	Version string
	// MaxFormatLevel is the level of formats up to which this node takes part; see
	// package level. 0, and what is above it, is level.Newest.
	MaxFormatLevel uint32

	// Shard is what all replicas of a new shard start with: it must be the
	// same on all nodes of a cluster for ever, as a shard's state depends on
	// it. Leave it empty outside of tests.
	Shard pstate.Config
	// SnapshotEntries is raftstore's GroupConfig.SnapshotEntries of a shard.
	SnapshotEntries uint64

	// HeartbeatWait is how long a heartbeat may wait at the coordinator for a
	// change. Default 2 s, at most 5 s. A change on this side is reported at
	// once whatever it is.
	HeartbeatWait time.Duration
	// CallTimeout bounds one call to the coordinator, besides HeartbeatWait.
	// Default 5 s.
	CallTimeout time.Duration
	// RetryDelay is the pause after a registration, a heartbeat or a proposal
	// of a duty failed. Default 200 ms. Enlistments back off from 50 ms up to
	// EnlistInterval instead.
	RetryDelay time.Duration
	// EnlistDelay is how long a new transaction may stay without being
	// enlisted; it is told to the coordinator after half of that at the
	// earliest. A transaction whose marker comes sooner never needs it: its
	// commit names this shard. It costs no timeout, as an enlistment carries
	// the transaction's age. Default
	// [DefaultEnlistDelay].
	EnlistDelay time.Duration
	// EnlistInterval is how often an accepted transaction is asked about while
	// it is open. Default 3 s.
	EnlistInterval time.Duration
	// CheckProducersInterval is how often a leader asks which of the producers
	// it remembers are gone. Default 60 s. Each time looks at every producer
	// of the shard.
	CheckProducersInterval time.Duration
	// RetentionInterval is how often a leader looks for records that retention
	// lets go, and every replica for entries of its log that nobody needs.
	// Default 30 s. It looks at memory only. As often it looks for partitions that are
	// worth a pass of compaction.
	RetentionInterval time.Duration
	// CompactionKeys bounds the keys that a pass of compaction tells apart. Default
	// [compact.MaxKeys], about 100 MiB; there is one pass at a time.
	CompactionKeys int
	// RelocateBytes is how large the log of a shard has to be, from the first entry
	// that is needed on, before what little of it is kept is written once more so
	// that the rest can go. Default 64 MiB. It is done while less than half of the log
	// is kept, so that no more is written for this than for appends.
	RelocateBytes uint64
	// MaxAppendBytes bounds the requests of all append streams that have not been answered,
	// or whose answers wait to be sent. Beyond it streams that use more than a 64th of it
	// are not read, and beyond twice as much none is. Default 1 GiB.
	MaxAppendBytes int64
	// BackupBytesPerSecond bounds what the node sends of all backups together, so that
	// they leave the disk and the network to clients. Default 64 MiB/s.
	BackupBytesPerSecond int64

	// Access decides who may do what; nil: everybody may do everything. The node gives
	// it the rules that the coordinator sends.
	Access *access.Authority
	// MaxStaleness is how long the node decides by the rules that it has without hearing
	// from the coordinator. Default 5 min. Within this time a permission that was taken
	// away is gone, also where the network is cut.
	MaxStaleness time.Duration
}

func (c Config) withDefaults() (Config, error) {
	def(&c.HeartbeatWait, 2*time.Second)
	def(&c.CallTimeout, 5*time.Second)
	def(&c.RetryDelay, 200*time.Millisecond)
	def(&c.EnlistDelay, DefaultEnlistDelay)
	def(&c.EnlistInterval, 3*time.Second)
	def(&c.CheckProducersInterval, time.Minute)
	def(&c.RetentionInterval, 30*time.Second)
	def(&c.RelocateBytes, 64<<20)
	def(&c.BackupBytesPerSecond, 64<<20)
	def(&c.MaxAppendBytes, 1<<30)
	def(&c.MaxStaleness, 5*time.Minute)
	def(&c.CompactionKeys, compact.MaxKeys)
	c.HeartbeatWait = min(c.HeartbeatWait, 5*time.Second)
	c.MaxFormatLevel = level.Cap(c.MaxFormatLevel)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Tracer = trace.Or(c.Tracer)
	if c.Files == nil && c.DataDir != "" {
		c.Files = datafile.Directory(c.DataDir)
	}
	switch {
	case c.NodeID == 0:
		return c, errors.New("partition: NodeID must be above 0")
	case c.NodeID > uint64(raftstore.MaxNodeID):
		return c, fmt.Errorf("partition: NodeID %d must be at most %d", c.NodeID, uint64(raftstore.MaxNodeID))
	case c.ClientAddress == "" || c.PeerAddress == "":
		return c, errors.New("partition: ClientAddress and PeerAddress are required")
	case c.Files == nil:
		return c, errors.New("partition: DataDir is required")
	case c.OpenStore == nil:
		return c, errors.New("partition: OpenStore is required")
	case c.Coordinator == nil:
		return c, errors.New("partition: Coordinator is required")
	case len(c.InstanceID) > maxInstanceBytes:
		return c, errors.New("partition: InstanceID is longer than 64 bytes")
	}
	return c, nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
