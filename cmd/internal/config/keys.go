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
	docNodeID      = "Number of this node, unique among the nodes of its kind."
	docCoordinator = docNodeID + " Never reused. A node that lost its disk has lost its votes: on an empty directory the others refuse it, " +
		"and go on without it. Replace it by a node with another number: `oncelog coordinator replace`."
	docPartition = docNodeID + " A node that lost its disk has lost its votes: it is refused under its number until " +
		"'oncelog node replace-disk' or 'node remove' was called for that, and may join under a new one at any time."
	docDataDir = "Where the node keeps everything. One directory belongs to one node. Its disk must honour fsync."
)

// metricsKey is the setting of the address on which a process shows its metrics; how
// says what is spoken there.
func metricsKey(to *string, how string) Key {
	return Key{
		Name: "metrics_listen",
		Doc: "Address on which Prometheus reads metrics, over " + how + " at /metrics; empty: nowhere. /healthz says whether " +
			"the process serves. It is read-only, and tells whoever reaches it the names of topics.",
		value: addressValue{to, optionallyListening},
	}
}

// metricsKeys are those of a node, which has certificates or is insecure.
func metricsKeys(listen, secured *string) []Key {
	return []Key{metricsKey(listen, "HTTPS or, as metrics_tls says, HTTP"), {
		Name: "metrics_tls",
		Doc: "How metrics are served: mutual, over TLS to who shows a certificate that tls_client_ca trusts; server, over TLS to " +
			"whoever asks; off, over plain HTTP, which is taken on loopback and from a node that is insecure; or auto, as clients are: " +
			"with tls_cert over TLS by the rule of tls_client_auth, and without it over plain HTTP.",
		value: choiceValue{secured, []string{MetricsTLSAuto, MetricsTLSMutual, MetricsTLSServer, MetricsTLSOff}},
	}}
}

// tracingKey is the setting of the collector that spans are sent to.
func tracingKey(to *string) Key {
	return Key{
		Name: "tracing_endpoint",
		Doc: "URL of the OpenTelemetry collector (OTLP over gRPC) that spans of appends, decisions and markers are sent to, such as " +
			"http://127.0.0.1:4317; empty: nothing is traced. Only what a client has begun to trace, and has sampled, is. They hold " +
			"numbers and codes, no records.",
		value: urlValue{to},
	}
}

func (l *Log) logKeys() []Key {
	return []Key{
		{Name: "log_level", Doc: "What is logged: this and what is more important. A running process that gets SIGUSR1 logs at debug, and with the next one at this again.", value: levelValue{&l.Level}},
		{
			Name: "log_format", Doc: "Form of the log: text for people, json for programs.",
			value: choiceValue{&l.Format, []string{FormatText, FormatJSON}},
		},
	}
}

func (t *TLS) tlsKeys() []Key {
	return []Key{
		{
			Name: "tls_cert", Doc: "File with the node's certificate, in PEM, for both addresses and for its connections to other nodes. " +
				"Its organization is oncelog:nodes, and it names the hosts under which the node is reached: `oncelog cert node` makes " +
				"one. Files that change are read again at the next handshake.",
			value: pathValue{&t.Cert},
		},
		{Name: "tls_key", Doc: "File with the key of tls_cert, in PEM.", value: pathValue{&t.Key}},
		{
			Name: "tls_ca", Doc: "File with the certificates that are trusted, in PEM. To change them put old and new ones in it on all " +
				"nodes, then the new certificates, then take the old ones out.",
			value: pathValue{&t.CA},
		},
		{
			Name: "tls_client_ca", Doc: "File with the certificates that are trusted for clients, if they are not those of tls_ca.",
			value: pathValue{&t.ClientCA},
		},
		{
			Name: "tls_client_auth", Doc: "Whether clients must show a certificate: require; request, for clients that show tokens instead; or none, which " +
				"encrypts and asks for no certificates. Nodes always must.",
			value: choiceValue{&t.ClientAuth, []string{ClientAuthRequire, ClientAuthRequest, ClientAuthNone}},
		},
		{
			Name: "insecure", Doc: "Serves in plain text, to whoever reaches the node, who can then do everything. Needed when there is no " +
				"tls_cert; for tests, and networks that nobody else is on.",
			value: boolValue{&t.Insecure},
		},
	}
}

func (a *Access) accessKeys() []Key {
	return []Key{
		{
			Name: "authorization", Doc: "Who decides what clients may do: none, so that everybody may do everything, or acl: the rules that " +
				"`oncelog acl` keeps, and what none of them allows is denied. Coordinators get it first, then partition nodes.",
			value: choiceValue{&a.Authorization, []string{AuthorizationNone, AuthorizationACL}},
		},
		{
			Name: "super_users", Doc: "Principals that may do everything, whatever the rules say, so that nobody can lock everybody out: common " +
				"names of certificates, or subjects of tokens. The same on all nodes.",
			value: principalsValue{&a.SuperUsers},
		},
		{
			Name: "token_keys", Doc: "File with the public keys of bearer tokens (JWT), as a JSON Web Key Set. A client that sends a token is who the " +
				"token says, whatever certificate it has. Read again when it changes.",
			value: pathValue{&a.TokenKeys},
		},
		{Name: "token_issuer", Doc: "Who must have issued a token: its claim iss.", value: wordValue{&a.TokenIssuer}},
		{Name: "token_audience", Doc: "Whom a token must be for: one of its claim aud.", value: wordValue{&a.TokenAudience}},
	}
}

func (l *Limits) limitKeys() []Key {
	return []Key{
		{
			Name: "max_connections", Doc: "Connections of clients at a time. Those beyond are closed at once, and the log says so. A node needs " +
				"as many open files, and those of its log.",
			value: intValue{&l.MaxConnections, 10, 1_000_000},
		},
		{
			Name: "max_connections_per_address", Doc: "Connections at a time from one host, so that one does not take all. Raise it where many clients " +
				"come through one address.",
			value: intValue{&l.MaxConnectionsPerAddress, 10, 1_000_000},
		},
		{
			Name: "max_connections_per_principal", Doc: "Connections at a time with certificates of one name. Tokens are shown call by call, " +
				"so connections are not theirs.",
			value: intValue{&l.MaxConnectionsPerPrincipal, 10, 1_000_000},
		},
		{
			Name: "max_calls", Doc: "Calls of clients under way at a time, streams included; those beyond are refused with OVERLOADED. A stream " +
				"that reads costs some 25 KiB.",
			value: intValue{&l.MaxCalls, 100, 10_000_000},
		},
		{
			Name: "max_calls_per_principal", Doc: "Calls under way of one principal; those beyond are refused with QUOTA_EXCEEDED. Who shows no " +
				"name is anonymous, together with all others who show none.",
			value: intValue{&l.MaxCallsPerPrincipal, 100, 10_000_000},
		},
		{
			Name: "max_inflight_bytes", Doc: "Bytes of requests that a node holds at a time, and as many of answers that nobody has read yet; 0: an eighth of " +
				"the memory (GOMEMLIMIT, the container's or the machine's), from 128MiB to 2GiB. A principal has half of it; a connection that sends " +
				"a quarter gets OVERLOADED, and at the bound the connection that holds most is closed.",
			value: bytesValue{&l.MaxInflightBytes, 0, 1 << 50},
		},
		{
			Name: "receive_timeout", Doc: "How long a request may take to come, from its first byte to its last; then its call ends.",
			value: durationValue{&l.ReceiveTimeout, 100 * time.Millisecond, time.Hour},
		},
		{
			Name: "send_timeout", Doc: "How long a client may read nothing of what waits for it; then its stream ends, with OVERLOADED. " +
				"A consumer that pauses for longer opens it anew.",
			value: durationValue{&l.SendTimeout, 100 * time.Millisecond, time.Hour},
		},
	}
}

func (q *Quotas) quotaKeys() []Key {
	return []Key{
		{
			Name: "max_transactional_ids_per_principal", Doc: "Transactional ids that one principal may have at a time, and so open transactions, of which " +
				"an id has one. Beyond, new ids are refused with QUOTA_EXCEEDED until others are deleted or expire. The leader's setting counts: " +
				"the same on all coordinators, as those of the next three.",
			value: intValue{&q.TransactionalIDs, 1, 10_000_000},
		},
		{
			Name: "max_inits_per_second", Doc: "InitTransactions and IdempotentProducer of one principal per second; ten times as many at once. " +
				"Beyond, they are refused with QUOTA_EXCEEDED and told when to come again.",
			value: intValue{&q.InitsPerSecond, 1, 1_000_000},
		},
		{
			Name: "max_inits_per_second_per_id", Doc: "InitTransactions of one transactional id per second; ten times as many at once. Each ends the " +
				"producer before it: more than a few are a loop.",
			value: intValue{&q.InitsPerSecondPerID, 1, 1_000_000},
		},
		{
			Name: "max_partitions_created_per_minute", Doc: "Partitions that one principal may create per minute, ten times as many at once.",
			value: intValue{&q.PartitionsPerMinute, 1, 1_000_000},
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
				"It takes part again when there is room. 0: it does not look.",
			value: bytesValue{&r.MinFreeBytes, 0, 1 << 50},
		},
	}
}

// formatKey is the level of formats up to which a node takes part.
func formatKey(to *uint32) Key {
	return Key{
		Name: "max_format_level",
		Doc: "Highest level of formats that the node takes part in; 0: the newest that the program knows. The cluster writes " +
			"a newer level once all nodes read it, and then there is no way back to an older program: a limit on one node keeps " +
			"it open while a new program is tried. A node is refused by a cluster of a higher level.",
		value: uint32Value{to, 0, 65535},
	}
}

func (c *Coordinator) keys() []Key {
	keys := []Key{
		{Name: "node_id", Doc: docCoordinator, Required: true, Example: "1", value: uintValue{&c.NodeID, 1, 1<<32 - 1}},
		{Name: "data_dir", Doc: docDataDir, value: textValue{&c.DataDir, "path"}},
		{
			Name: "client_listen", Doc: "Address on which clients are served.",
			value: addressValue{&c.ClientListen, listening},
		},
		{
			Name: "peer_listen", Doc: "Address on which other nodes are served: Raft, and what partition nodes ask. Clients " +
				"must not reach it.",
			value: addressValue{&c.PeerListen, listening},
		},
		{
			Name: "members", flag: "member", Required: true, Example: "[1=127.0.0.1:7100/127.0.0.1:7101]",
			Doc: "All coordinator nodes, this one included, the same list on each: number, address for clients, address for " +
				"nodes, as others reach them. One, three or five: an even number survives no more failures than one less. Once " +
				"the cluster has begun it keeps this list itself: a node then takes its own addresses from here, and asks the " +
				"others who the members are. In the file also as a list of {id, client_address, peer_address}.",
			value: membersValue{&c.Members},
		},
		{
			Name: "join",
			Doc: "This node joins a cluster that is there, after `oncelog coordinator add` or `replace`; members are then this " +
				"node and any others of the cluster. A node that has joined ignores it.",
			value: boolValue{&c.Join},
		},
	}
	keys = append(keys, c.TLS.tlsKeys()...)
	keys = append(keys, c.Access.accessKeys()...)
	keys = append(keys, c.Limits.limitKeys()...)
	keys = append(keys, c.Quotas.quotaKeys()...)
	keys = append(keys, metricsKeys(&c.MetricsListen, &c.MetricsTLS)...)
	keys = append(keys, tracingKey(&c.TracingEndpoint))
	keys = append(keys, c.Raft.raftKeys()...)
	keys = append(keys, formatKey(&c.MaxFormatLevel))
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
		{Name: "node_id", Doc: docPartition, Required: true, Example: "1", value: uintValue{&p.NodeID, 1, 1<<32 - 1}},
		{Name: "data_dir", Doc: docDataDir, value: textValue{&p.DataDir, "path"}},
		{
			Name: "client_listen", Doc: "Address on which clients are served.",
			value: addressValue{&p.ClientListen, listening},
		},
		{
			Name: "peer_listen", Doc: "Address on which other nodes are served: Raft, and the coordinator's markers. Clients " +
				"must not reach it.",
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
	keys = append(keys, p.TLS.tlsKeys()...)
	keys = append(keys, p.Access.accessKeys()...)
	keys = append(keys, p.Limits.limitKeys()...)
	keys = append(keys, metricsKeys(&p.MetricsListen, &p.MetricsTLS)...)
	keys = append(keys, tracingKey(&p.TracingEndpoint))
	keys = append(keys, p.Raft.raftKeys()...)
	keys = append(keys, formatKey(&p.MaxFormatLevel))
	keys = append(keys,
		Key{
			Name: "authorization_max_staleness",
			Doc: "How long the node goes on with the rules about permissions that it has when it hears nothing from the coordinator; then it " +
				"serves super users only. Within this time a permission that was taken away is gone, wherever the network is cut.",
			value: durationValue{&p.AuthorizationMaxStaleness, 10 * time.Second, 24 * time.Hour},
		},
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
			Name: "host", Doc: "Address on which all nodes listen.",
			value: textValue{&d.Host, "IP address or host name"},
		},
		{
			Name: "base_port", Doc: "Client port of the first coordinator. The n-th node is at twice n-1 above it, its peer port " +
				"one above that; partition nodes begin 100 above coordinators.",
			value: intValue{&d.BasePort, 1024, 65000},
		},
		{
			Name: "insecure", Doc: "Allows a host that is not loopback. A development cluster speaks plain text, and whoever reaches it can " +
				"do everything.",
			value: boolValue{&d.Insecure},
		},
		metricsKey(&d.MetricsListen, "plain HTTP"),
		tracingKey(&d.TracingEndpoint),
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
		{
			Name: "tls_ca", Doc: "File with the certificates that are trusted, in PEM, for a cluster that speaks TLS. Without it connections are " +
				"in plain text.",
			value: pathValue{&c.CA},
		},
		{
			Name: "tls_cert", Doc: "File with the certificate that is shown to the cluster, in PEM; `oncelog cert client` makes one. Its common name " +
				"is the principal.",
			value: pathValue{&c.Cert},
		},
		{Name: "tls_key", Doc: "File with the key of tls_cert, in PEM.", value: pathValue{&c.Key}},
		{
			Name: "token_file", Doc: "File with a bearer token (JWT), which says who this is; sent over TLS only. Read again when it changes.",
			value: pathValue{&c.Token},
		},
	}
}
