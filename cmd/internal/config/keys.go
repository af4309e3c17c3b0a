package config

import (
	"strings"
	"time"
)

// envPrefix begins every environment variable that is a setting.
const envPrefix = "ONCELOG_"

// Key is one setting.
type Key struct {
	// Name in the file.
	Name string
	// Doc says what it is, its ratio to its neighbours, and what breaks.
	Doc string
	// Required keys have no default.
	Required bool
	// Example stands in the reference for a required key.
	Example string

	flag      string // if it is not the name with dashes
	shorthand string // one letter
	value     value
}

// Env returns the key's environment variable.
func (k Key) Env() string { return envPrefix + strings.ToUpper(k.Name) }

// Flag returns the key's flag, without dashes.
func (k Key) Flag() string {
	if k.flag != "" {
		return k.flag
	}
	return strings.ReplaceAll(k.Name, "_", "-")
}

// Unit says what a value looks like.
func (k Key) Unit() string { return k.value.unit() }

// Value returns the value in the form in which it can be given.
func (k Key) Value() string { return k.value.String() }

// Keys returns the table of a section, bound to it.
func Keys(s Section) []Key { return s.keys() }

const (
	docNodeID      = "Number of this node, unique among the nodes of its kind and never reused."
	docCoordinator = docNodeID + " A node that lost its disk has lost its votes: on an empty directory the others refuse it, " +
		"and go on without it. Members cannot be replaced yet."
	docPartition = docNodeID + " A node that lost its disk has lost its votes: under its old number it is refused. " +
		"Under a new one it gets new shards; those of the old number go on with their other replicas."
	docDataDir = "Where the node keeps everything. One directory belongs to one node. Its disk must honour fsync."
	docNoTLS   = " There is no TLS and no authentication yet: whoever reaches this address can do everything, so bind it " +
		"to loopback or to a private network."
)

func (l *Log) logKeys() []Key {
	return []Key{
		{Name: "log_level", Doc: "What is logged: this and what is more important.", value: levelValue{&l.Level}},
		{
			Name: "log_format", Doc: "Form of the log: text for people, json for programs.",
			value: choiceValue{&l.Format, []string{FormatText, FormatJSON}},
		},
	}
}

func (r *Raft) raftKeys() []Key {
	return []Key{
		{
			Name: "tick_interval",
			Doc: "Length of a tick of Raft's clock. Shorter finds a dead leader sooner and costs more wake-ups. The same on " +
				"all nodes of a kind.",
			value: durationValue{&r.TickInterval, 5 * time.Millisecond, time.Second},
		},
		{
			Name: "election_ticks",
			Doc: "Ticks without a leader until an election; the real time is drawn between once and twice that. At least five " +
				"times heartbeat_ticks, and well above the longest pause of a disk: else a slow fsync costs a leader.",
			value: intValue{&r.ElectionTicks, 5, 1000},
		},
		{
			Name: "heartbeat_ticks", Doc: "Ticks between a leader's heartbeats.",
			value: intValue{&r.HeartbeatTicks, 1, 200},
		},
		{
			Name: "min_free_bytes",
			Doc: "Free space of the disk below which the node hands its leaderships to nodes with room, gets no new shards, " +
				"and refuses writes with OVERLOADED, before the disk is full and it cannot even commit what is under way. " +
				"It takes part again when there is room.",
			value: bytesValue{&r.MinFreeBytes, 0, 1 << 50},
		},
	}
}

func (c *Coordinator) keys() []Key {
	keys := []Key{
		{Name: "node_id", Doc: docCoordinator, Required: true, Example: "1", value: uintValue{&c.NodeID, 1, 1 << 62}},
		{Name: "data_dir", Doc: docDataDir, value: textValue{&c.DataDir, "path"}},
		{
			Name: "client_listen", Doc: "Address on which clients are served." + docNoTLS,
			value: addressValue{&c.ClientListen, listening},
		},
		{
			Name: "peer_listen", Doc: "Address on which other nodes are served: Raft, and what partition nodes ask. Clients " +
				"must not reach it." + docNoTLS,
			value: addressValue{&c.PeerListen, listening},
		},
		{
			Name: "members", flag: "member", Required: true, Example: "[1=127.0.0.1:7100/127.0.0.1:7101]",
			Doc: "All coordinator nodes, this one included, the same list on each: number, address for clients, address for " +
				"nodes, as others reach them. One, three or five: an even number survives no more failures than one less. In the " +
				"file also as a list of {id, client_address, peer_address}.",
			value: membersValue{&c.Members},
		},
	}
	keys = append(keys, c.Raft.raftKeys()...)
	keys = append(keys,
		Key{
			Name:  "transaction_timeout_default",
			Doc:   "Timeout of a transaction whose producer names none.",
			value: durationValue{&c.TransactionTimeoutDefault, 100 * time.Millisecond, 24 * time.Hour},
		},
		Key{
			Name: "transaction_timeout_max",
			Doc: "Longest timeout that a producer may ask for: an abandoned transaction holds back readers for at most that " +
				"long.",
			value: durationValue{&c.TransactionTimeoutMax, 100 * time.Millisecond, 24 * time.Hour},
		},
		Key{
			Name:  "transactional_id_expiration",
			Doc:   "How long a transactional id may be idle before it is forgotten.",
			value: durationValue{&c.TransactionalIDExpiration, time.Minute, 10 * 365 * 24 * time.Hour},
		},
		Key{
			Name: "shards_per_node",
			Doc: "Shards of each replication factor per partition node. More use more cores of a node and cost more heartbeats " +
				"and more marker entries per transaction. Read when the cluster is created.",
			value: uint32Value{&c.ShardsPerNode, 1, 64},
		},
	)
	return append(keys, c.Log.logKeys()...)
}

func (p *Partition) keys() []Key {
	keys := []Key{
		{Name: "node_id", Doc: docPartition, Required: true, Example: "1", value: uintValue{&p.NodeID, 1, 1 << 62}},
		{Name: "data_dir", Doc: docDataDir, value: textValue{&p.DataDir, "path"}},
		{
			Name: "client_listen", Doc: "Address on which clients are served." + docNoTLS,
			value: addressValue{&p.ClientListen, listening},
		},
		{
			Name: "peer_listen", Doc: "Address on which other nodes are served: Raft, and the coordinator's markers. Clients " +
				"must not reach it." + docNoTLS,
			value: addressValue{&p.PeerListen, listening},
		},
		{
			Name: "advertise_client", Doc: "Where clients reach client_listen, if that is another address. Needed when it listens " +
				"on all interfaces.",
			value: addressValue{&p.AdvertiseClient, optional},
		},
		{
			Name: "advertise_peer", Doc: "Where nodes reach peer_listen, if that is another address. Needed when it listens on " +
				"all interfaces.",
			value: addressValue{&p.AdvertisePeer, optional},
		},
		{
			Name: "coordinators", flag: "coordinator", Required: true, Example: "[127.0.0.1:7101]",
			Doc:   "Peer addresses of the coordinator nodes; the node finds the leader among them.",
			value: addressesValue{&p.Coordinators},
		},
	}
	keys = append(keys, p.Raft.raftKeys()...)
	keys = append(keys,
		Key{
			Name: "enlist_delay",
			Doc: "How long a new transaction may stay before the coordinator is told of it. One that is committed sooner never " +
				"needs it. Longer saves messages and finds producers that died at once later.",
			value: durationValue{&p.EnlistDelay, time.Millisecond, 5 * time.Second},
		},
		Key{
			Name: "enlist_interval",
			Doc: "How often the coordinator is asked about a transaction that stays open. It bounds how long one hangs whose " +
				"marker was lost.",
			value: durationValue{&p.EnlistInterval, 100 * time.Millisecond, time.Minute},
		},
		Key{
			Name: "retention_check_interval",
			Doc: "How often a leader looks for records that retention lets go, and every replica for the part of its log that " +
				"nobody needs. It looks at memory only.",
			value: durationValue{&p.RetentionCheckInterval, 100 * time.Millisecond, time.Hour},
		},
	)
	return append(keys, p.Log.logKeys()...)
}

func (d *Dev) keys() []Key {
	keys := []Key{
		{Name: "data_dir", Doc: "Where all nodes keep their data. Delete it to begin anew.", value: textValue{&d.DataDir, "path"}},
		{
			Name: "replicas", Doc: "Number of coordinator nodes and of partition nodes. One needs the least; three replicate as a " +
				"real cluster does, but die together: they are one process.",
			value: intValue{&d.Replicas, 1, 7},
		},
		{
			Name: "host", Doc: "Address on which all nodes listen." + docNoTLS,
			value: textValue{&d.Host, "IP address or host name"},
		},
		{
			Name: "base_port", Doc: "Client port of the first coordinator. The n-th node is at twice n-1 above it, its peer port " +
				"one above that; partition nodes begin 100 above coordinators.",
			value: intValue{&d.BasePort, 1024, 65000},
		},
	}
	return append(keys, d.Log.logKeys()...)
}

func (c *Client) keys() []Key {
	return []Key{
		{
			Name: "servers", shorthand: "s",
			Doc:   "Client addresses of coordinator nodes. One that answers is enough: it tells the others.",
			value: addressesValue{&c.Servers},
		},
		{
			Name: "timeout",
			Doc: "How long a command waits for the cluster, repeating what can be repeated. Commands that stream count it from " +
				"their last progress.",
			value: durationValue{&c.Timeout, 100 * time.Millisecond, time.Hour},
		},
		{
			Name: "output", shorthand: "o", Doc: "Form of what is printed: table for people, json or yaml for programs.",
			value: choiceValue{&c.Output, []string{OutputTable, OutputJSON, OutputYAML}},
		},
	}
}
