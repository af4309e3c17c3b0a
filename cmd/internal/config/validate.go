package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

func problem(key, format string, args ...any) Problem {
	return Problem{Key: key, Text: fmt.Sprintf(format, args...)}
}

func (r *Raft) check() []Problem {
	if r.ElectionTicks < 5*r.HeartbeatTicks {
		return []Problem{problem("election_ticks", "is %d, less than five times heartbeat_ticks (%d): a few lost heartbeats "+
			"would cost a leader; raise it to %d", r.ElectionTicks, r.HeartbeatTicks, 5*r.HeartbeatTicks)}
	}
	return nil
}

// samePort finds two listeners on one address. Port 0 is another one each time.
func samePort(client, peer, metrics string) (problems []Problem) {
	same := func(a, b string) bool { return a == b && !strings.HasSuffix(a, ":0") }
	if same(client, peer) {
		problems = append(problems, problem("peer_listen", "is %q, as client_listen is: clients must not reach what nodes ask; give it "+
			"a port of its own", peer))
	}
	if same(metrics, client) || same(metrics, peer) {
		problems = append(problems, problem("metrics_listen", "is %q, on which calls are served: give it a port of its own", metrics))
	}
	return problems
}

// together finds settings of one certificate of which some are missing.
func together(values map[string]string, why string) (problems []Problem) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] == "" {
			problems = append(problems, problem(key, "is missing: %s", why))
		}
	}
	return problems
}

func (t *TLS) check() []Problem {
	files := map[string]string{"tls_cert": t.Cert, "tls_key": t.Key, "tls_ca": t.CA}
	given := t.Cert+t.Key+t.CA+t.ClientCA != ""
	switch {
	case given && t.Insecure:
		return []Problem{problem("insecure", "is true, and there are certificates as well: say the one or give the other")}
	case given:
		return together(files, "tls_cert, tls_key and tls_ca belong together")
	case !t.Insecure:
		return []Problem{problem("tls_cert", "is missing: give tls_cert, tls_key and tls_ca (`oncelog cert` makes such files), or say "+
			"--insecure to serve in plain text whoever reaches the node")}
	}
	return nil
}

// checkMetrics finds metrics that would be secured without a certificate, or read by
// whoever is on the way.
func (t *TLS) checkMetrics(listen, how string) []Problem {
	switch {
	case listen == "":
		return nil
	case !t.Enabled() && (how == MetricsTLSMutual || how == MetricsTLSServer):
		return []Problem{problem("metrics_tls", "is %s, and the node has no certificate: give tls_cert, or say off", how)}
	case t.Enabled() && how == MetricsTLSOff && !loopback(listen):
		return []Problem{problem("metrics_tls", "is off, and metrics_listen is %q, which is not loopback: say server or mutual, or listen on "+
			"127.0.0.1", listen)}
	}
	return nil
}

// check finds settings of permissions that lock everybody out, or nobody.
func (a *Access) check(t *TLS) (out []Problem) {
	if a.Authorization == AuthorizationACL && t.Insecure {
		out = append(out, problem("authorization", "is acl, and the node is insecure: in plain text nobody can show who he is; give tls_cert"))
	}
	if a.Authorization == AuthorizationACL && len(a.SuperUsers) == 0 {
		out = append(out, problem("super_users", "is empty, and authorization is acl: nobody could add the first rule"))
	}
	if a.TokenKeys+a.TokenIssuer+a.TokenAudience == "" {
		return out
	}
	if t.Insecure {
		out = append(out, problem("token_keys", "is of no use where the node is insecure: tokens are taken over TLS only"))
	}
	return append(out, together(map[string]string{
		"token_keys": a.TokenKeys, "token_issuer": a.TokenIssuer, "token_audience": a.TokenAudience,
	}, "token_keys, token_issuer and token_audience belong together")...)
}

func (c *Coordinator) check() []Problem {
	problems := append(c.Raft.check(), samePort(c.ClientListen, c.PeerListen, c.MetricsListen)...)
	problems = append(problems, c.TLS.check()...)
	problems = append(problems, c.TLS.checkMetrics(c.MetricsListen, c.MetricsTLS)...)
	problems = append(problems, c.Access.check(&c.TLS)...)
	if !slices.ContainsFunc(c.Members, func(m Member) bool { return m.ID == c.NodeID }) {
		problems = append(problems, problem("node_id", "is %d, which is not among the members (%s): give every coordinator "+
			"node the same list of all of them", c.NodeID, membersValue{&c.Members}))
	}
	if c.Join && len(c.Members) == 1 {
		problems = append(problems, problem("members", "has this node only, which is to join a cluster: name others of it, too"))
	}
	if len(c.Members) > maxMembers {
		problems = append(problems, problem("members", "has %d nodes, more than %d: a larger Raft group only gets slower",
			len(c.Members), maxMembers))
	}
	used := map[string]string{}
	for _, m := range c.Members {
		for _, name := range []string{fmt.Sprintf("node id %d", m.ID), "address " + m.ClientAddress, "address " + m.PeerAddress} {
			if first, twice := used[name]; twice {
				problems = append(problems, problem("members", "has the %s twice, in %s and in %s: each node has a number and two "+
					"addresses of its own", name, first, m))
			}
			used[name] = m.String()
		}
	}
	if c.TransactionTimeoutDefault > c.TransactionTimeoutMax {
		problems = append(problems, problem("transaction_timeout_default", "is %s, longer than transaction_timeout_max (%s): "+
			"lower it or raise that", shortDuration(c.TransactionTimeoutDefault), shortDuration(c.TransactionTimeoutMax)))
	}
	return problems
}

// maxMembers bounds the coordinator nodes.
const maxMembers = 9

func (p *Partition) check() []Problem {
	problems := append(p.Raft.check(), samePort(p.ClientListen, p.PeerListen, p.MetricsListen)...)
	problems = append(problems, p.TLS.check()...)
	problems = append(problems, p.TLS.checkMetrics(p.MetricsListen, p.MetricsTLS)...)
	problems = append(problems, p.Access.check(&p.TLS)...)
	problems = append(problems, advertised("advertise_client", p.AdvertiseClient, "client_listen", p.ClientListen)...)
	return append(problems, advertised("advertise_peer", p.AdvertisePeer, "peer_listen", p.PeerListen)...)
}

// advertised finds listeners that nobody can be told of.
func advertised(key, address, listenKey, listen string) []Problem {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || address != "" || !anyHost(host) {
		return nil
	}
	return []Problem{problem(key, "is missing: %s is %q, all interfaces, so say where others reach the node", listenKey, listen)}
}

func (d *Dev) check() []Problem {
	if last := d.BasePort + partitionPorts + 2*d.Replicas; last > 65535 {
		return []Problem{problem("base_port", "is %d, and the cluster needs ports up to %d: lower it", d.BasePort, last)}
	}
	if err := checkAddress(net.JoinHostPort(d.Host, "1"), dialled); err != nil {
		return []Problem{problem("host", "is %q: it %v", d.Host, err)}
	}
	if !d.Insecure && !loopback(d.Host) {
		return []Problem{problem("host", "is %q, which is not loopback, and a development cluster speaks plain text: whoever reaches it can "+
			"do everything; say --insecure if that is meant", d.Host)}
	}
	return nil
}

func (c *Client) check() []Problem {
	switch {
	case c.Token != "" && c.CA == "":
		return []Problem{problem("token_file", "needs tls_ca: a token is sent over TLS only")}
	case c.Cert == "" && c.Key == "":
		return nil
	default:
		return together(map[string]string{"tls_ca": c.CA, "tls_cert": c.Cert, "tls_key": c.Key},
			"a client with a certificate needs tls_ca, tls_cert and tls_key")
	}
}

// Warnings returns what works and is unwise, one sentence each, for the log of
// a node that starts.
func Warnings(s Section) []string {
	var out []string
	listen, unasked := map[string]string{}, ""
	node := func(client, peer string, t *TLS, a *Access) {
		if t.Insecure {
			listen["client_listen"], listen["peer_listen"] = client, peer
		}
		if !t.Insecure && t.ClientAuth != ClientAuthRequire && a.Authorization == AuthorizationNone {
			unasked = t.ClientAuth
		}
	}
	switch s := s.(type) {
	case *Coordinator:
		node(s.ClientListen, s.PeerListen, &s.TLS, &s.Access)
		if len(s.Members)%2 == 0 && !s.Join {
			out = append(out, fmt.Sprintf("%d coordinator nodes survive no more failures than %d", len(s.Members), len(s.Members)-1))
		}
	case *Partition:
		node(s.ClientListen, s.PeerListen, &s.TLS, &s.Access)
	case *Dev:
		listen["host"] = s.Host
	}
	for _, key := range []string{"client_listen", "peer_listen", "host"} {
		if address := listen[key]; address != "" && !loopback(address) {
			out = append(out, fmt.Sprintf("%s is %s, which is not loopback, and the node is insecure: whoever reaches it can do everything",
				key, address))
		}
	}
	if unasked != "" {
		out = append(out, "tls_client_auth is "+unasked+", and authorization is none: whoever reaches client_listen can do everything that clients can")
	}
	return out
}

// loopback reports whether a host, with or without a port, is this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
