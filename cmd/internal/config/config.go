package config

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// Section is the configuration of one kind of process, and one section of the
// file: [*Coordinator], [*Partition], [*Dev] or [*Client]. What its fields mean
// is said once, in its table of keys.
type Section interface {
	// Name is the section's name in the file.
	Name() string
	// keys binds the table of keys to the section's fields.
	keys() []Key
	// check finds what does not fit together.
	check() []Problem
}

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level
	Format string // FormatText or FormatJSON
}

// Formats of a log.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Logger returns a logger that writes to w.
func (l Log) Logger(w io.Writer) *slog.Logger {
	logger, _ := l.Adjustable(w)
	return logger
}

// Adjustable returns a logger that writes to w, and its level, which may be changed
// while it is used.
func (l Log) Adjustable(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	level.Set(l.Level)
	return l.logger(w, level), level
}

func (l Log) logger(w io.Writer, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if l.Format == FormatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// Raft are the settings of replication. Those of time must be the same on all
// nodes that share a group.
type Raft struct {
	TickInterval   time.Duration
	ElectionTicks  int
	HeartbeatTicks int
	MinFreeBytes   uint64
}

// TLS says how a node's connections are secured.
type TLS struct {
	// Cert, Key and CA are files; empty: the node serves in plain text, which Insecure
	// has to allow.
	Cert, Key, CA string
	// ClientCA is the file of the CAs of clients; empty: CA.
	ClientCA string
	// ClientAuth says whether clients need a certificate.
	ClientAuth string // ClientAuthRequire, ClientAuthRequest or ClientAuthNone
	Insecure   bool
}

// What is asked of clients.
const (
	ClientAuthRequire = "require"
	ClientAuthRequest = "request"
	ClientAuthNone    = "none"
)

// How metrics are served.
const (
	MetricsTLSAuto   = "auto"   // as the client address is
	MetricsTLSMutual = "mutual" // over TLS, to who shows a certificate
	MetricsTLSServer = "server" // over TLS, to whoever asks
	MetricsTLSOff    = "off"    // in plain text
)

// Access says who clients are, and who decides what they may do.
type Access struct {
	// Authorization is AuthorizationNone or AuthorizationACL.
	Authorization string
	// SuperUsers are principals that may do everything.
	SuperUsers []string
	// TokenKeys is a file with the keys of bearer tokens; empty: there are no tokens.
	TokenKeys string
	// TokenIssuer and TokenAudience are what a token must name.
	TokenIssuer, TokenAudience string
}

// Limits bound what clients may use of a node.
type Limits struct {
	// MaxConnections, MaxConnectionsPerAddress and MaxConnectionsPerPrincipal are of the
	// client address.
	MaxConnections, MaxConnectionsPerAddress, MaxConnectionsPerPrincipal int
	// MaxCalls and MaxCallsPerPrincipal are of calls under way, streams included.
	MaxCalls, MaxCallsPerPrincipal int
	// MaxInflightBytes bounds what came and is not done with, and what is to be sent;
	// 0: from the machine's memory.
	MaxInflightBytes uint64
	// ReceiveTimeout and SendTimeout are how long a message may take to come, and wait to
	// be read.
	ReceiveTimeout, SendTimeout time.Duration
}

func defaultLimits() Limits {
	return Limits{
		MaxConnections: 10_000, MaxConnectionsPerAddress: 1_000, MaxConnectionsPerPrincipal: 5_000,
		MaxCalls: 50_000, MaxCallsPerPrincipal: 25_000,
		ReceiveTimeout: 30 * time.Second, SendTimeout: time.Minute,
	}
}

// Quotas bound what one principal may use of the cluster. Who has not shown who he is has
// those of the anonymous, all together.
type Quotas struct {
	// TransactionalIDs that are a principal's at a time.
	TransactionalIDs int
	// InitsPerSecond and InitsPerSecondPerID are rates of InitProducer, of a principal and of
	// one transactional id.
	InitsPerSecond, InitsPerSecondPerID int
	// PartitionsPerMinute are those that a principal creates.
	PartitionsPerMinute int
}

func defaultQuotas() Quotas {
	return Quotas{TransactionalIDs: 1_000_000, InitsPerSecond: 1_000, InitsPerSecondPerID: 10, PartitionsPerMinute: 10_000}
}

// Who decides what clients may do.
const (
	AuthorizationNone = "none"
	AuthorizationACL  = "acl"
)

// Enabled reports whether connections are secured.
func (t *TLS) Enabled() bool { return t.Cert != "" }

// Member is one coordinator node.
type Member struct {
	ID            uint64
	ClientAddress string
	PeerAddress   string
}

// String returns the member as --member takes it.
func (m Member) String() string {
	return fmt.Sprintf("%d=%s/%s", m.ID, m.ClientAddress, m.PeerAddress)
}

// Coordinator configures `oncelog coordinator`.
type Coordinator struct {
	NodeID       uint64
	DataDir      string
	ClientListen string
	PeerListen   string
	Members      []Member
	Join         bool
	TLS          TLS
	Access       Access
	Limits       Limits
	Quotas       Quotas
	Raft         Raft
	// MaxFormatLevel is package level's; 0: the newest.
	MaxFormatLevel uint32
	// MetricsListen is where metrics are read; empty: nowhere.
	MetricsListen string
	MetricsTLS    string // MetricsTLSAuto, ...
	// TracingEndpoint is the URL of a collector of spans; empty: none.
	TracingEndpoint string
	Log             Log

	TransactionTimeoutDefault time.Duration
	TransactionTimeoutMax     time.Duration
	TransactionalIDExpiration time.Duration
	ShardsPerNode             uint32
}

// Partition configures `oncelog partition`.
type Partition struct {
	NodeID          uint64
	DataDir         string
	ClientListen    string
	PeerListen      string
	AdvertiseClient string // empty: ClientListen
	AdvertisePeer   string // empty: PeerListen
	MetricsListen   string // empty: no metrics
	MetricsTLS      string // MetricsTLSAuto, ...
	TracingEndpoint string // empty: no spans
	Coordinators    []string
	TLS             TLS
	Access          Access
	Limits          Limits
	Raft            Raft
	MaxFormatLevel  uint32 // package level's; 0: the newest
	Log             Log

	// AuthorizationMaxStaleness is how long the node decides by rules that may be old.
	AuthorizationMaxStaleness time.Duration

	EnlistDelay    time.Duration
	EnlistInterval time.Duration

	RetentionCheckInterval time.Duration
}

// Dev configures `oncelog dev`.
type Dev struct {
	DataDir  string
	Replicas int
	Host     string
	BasePort int
	Insecure bool // allows a host that is not loopback
	// MetricsListen is where the metrics of all nodes are read; empty: nowhere.
	MetricsListen string
	// TracingEndpoint is the URL of a collector of the spans of all nodes; empty: none.
	TracingEndpoint string
	Log             Log
}

// Client configures every command that talks to a cluster.
type Client struct {
	Servers []string
	Timeout time.Duration
	Output  string // OutputTable, OutputJSON or OutputYAML
	// CA, Cert and Key are files. Without CA connections are in plain text.
	CA, Cert, Key string
	// Token is a file with a bearer token; empty: none.
	Token string
}

// Forms of output.
const (
	OutputTable = "table"
	OutputJSON  = "json"
	OutputYAML  = "yaml"
)

func defaultRaft() Raft {
	return Raft{TickInterval: 50 * time.Millisecond, ElectionTicks: 10, HeartbeatTicks: 2, MinFreeBytes: 256 << 20}
}

// DefaultCoordinator returns the defaults; NodeID and Members have none.
func DefaultCoordinator() *Coordinator {
	return &Coordinator{
		DataDir:                   "data/coordinator",
		ClientListen:              "127.0.0.1:7100",
		PeerListen:                "127.0.0.1:7101",
		MetricsTLS:                MetricsTLSAuto,
		TLS:                       TLS{ClientAuth: ClientAuthRequire},
		Access:                    Access{Authorization: AuthorizationNone},
		Limits:                    defaultLimits(),
		Quotas:                    defaultQuotas(),
		Raft:                      defaultRaft(),
		Log:                       Log{Level: slog.LevelInfo, Format: FormatText},
		TransactionTimeoutDefault: time.Minute,
		TransactionTimeoutMax:     15 * time.Minute,
		TransactionalIDExpiration: 7 * 24 * time.Hour,
		ShardsPerNode:             1,
	}
}

// DefaultPartition returns the defaults; NodeID and Coordinators have none.
func DefaultPartition() *Partition {
	return &Partition{
		DataDir:                   "data/partition",
		ClientListen:              "127.0.0.1:7200",
		PeerListen:                "127.0.0.1:7201",
		MetricsTLS:                MetricsTLSAuto,
		TLS:                       TLS{ClientAuth: ClientAuthRequire},
		Access:                    Access{Authorization: AuthorizationNone},
		Limits:                    defaultLimits(),
		Raft:                      defaultRaft(),
		Log:                       Log{Level: slog.LevelInfo, Format: FormatText},
		AuthorizationMaxStaleness: 5 * time.Minute,

		EnlistDelay:    200 * time.Millisecond,
		EnlistInterval: 3 * time.Second,

		RetentionCheckInterval: 30 * time.Second,
	}
}

// DefaultDev returns the defaults.
func DefaultDev() *Dev {
	return &Dev{
		DataDir:  "data/dev",
		Replicas: 1,
		Host:     "127.0.0.1",
		BasePort: 7100,
		Log:      Log{Level: slog.LevelWarn, Format: FormatText},
	}
}

// DefaultClient returns the defaults.
func DefaultClient() *Client {
	return &Client{Servers: []string{"127.0.0.1:7100"}, Timeout: 30 * time.Second, Output: OutputTable}
}

// Sections returns one section of each kind, with its defaults, in the order of
// the file.
func Sections() []Section {
	return []Section{DefaultCoordinator(), DefaultPartition(), DefaultDev(), DefaultClient()}
}

// Name returns "coordinator".
func (*Coordinator) Name() string { return "coordinator" }

// Name returns "partition".
func (*Partition) Name() string { return "partition" }

// Name returns "dev".
func (*Dev) Name() string { return "dev" }

// Name returns "client".
func (*Client) Name() string { return "client" }

// ClientAddress is where clients reach the node.
func (p *Partition) ClientAddress() string {
	if p.AdvertiseClient != "" {
		return p.AdvertiseClient
	}
	return p.ClientListen
}

// PeerAddress is where other nodes reach the node.
func (p *Partition) PeerAddress() string {
	if p.AdvertisePeer != "" {
		return p.AdvertisePeer
	}
	return p.PeerListen
}

// partitionPorts is how far above the coordinators' ports those of the
// partition nodes begin.
const partitionPorts = 100

// Cluster returns the configurations of the nodes of a development cluster:
// Replicas coordinator nodes and Replicas partition nodes. Node i, from 1, has
// its client port at BasePort + 2(i-1), its peer port one above; the partition
// nodes begin 100 above the coordinators.
func (d *Dev) Cluster() (coordinators []Coordinator, partitions []Partition) {
	address := func(port int) string { return net.JoinHostPort(d.Host, strconv.Itoa(port)) }
	var members []Member
	var peers []string
	for i := range d.Replicas {
		port := d.BasePort + 2*i
		members = append(members, Member{ID: uint64(i + 1), ClientAddress: address(port), PeerAddress: address(port + 1)})
		peers = append(peers, address(port+1))
	}
	for i, m := range members {
		c := *DefaultCoordinator()
		c.NodeID, c.Members, c.Log, c.TLS.Insecure = m.ID, members, d.Log, true
		c.ClientListen, c.PeerListen, c.TracingEndpoint = m.ClientAddress, m.PeerAddress, d.TracingEndpoint
		c.DataDir = filepath.Join(d.DataDir, fmt.Sprintf("coordinator-%d", m.ID))
		coordinators = append(coordinators, c)

		p := *DefaultPartition()
		port := d.BasePort + partitionPorts + 2*i
		p.NodeID, p.Coordinators, p.Log, p.TLS.Insecure = m.ID, peers, d.Log, true
		p.ClientListen, p.PeerListen, p.TracingEndpoint = address(port), address(port+1), d.TracingEndpoint
		p.DataDir = filepath.Join(d.DataDir, fmt.Sprintf("partition-%d", m.ID))
		partitions = append(partitions, p)
	}
	return coordinators, partitions
}
