package config

import (
	"fmt"
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
func samePort(client, peer string) []Problem {
	if client != peer || strings.HasSuffix(client, ":0") {
		return nil
	}
	return []Problem{problem("peer_listen", "is %q, as client_listen is: clients must not reach what nodes ask; give it "+
		"a port of its own", peer)}
}

func (c *Coordinator) check() []Problem {
	problems := append(c.Raft.check(), samePort(c.ClientListen, c.PeerListen)...)
	if !slices.ContainsFunc(c.Members, func(m Member) bool { return m.ID == c.NodeID }) {
		problems = append(problems, problem("node_id", "is %d, which is not among the members (%s): give every coordinator "+
			"node the same list of all of them", c.NodeID, membersValue{&c.Members}))
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
	problems := append(p.Raft.check(), samePort(p.ClientListen, p.PeerListen)...)
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
	return nil
}

func (c *Client) check() []Problem { return nil }

// Warnings returns what works and is unwise, one sentence each, for the log of
// a node that starts.
func Warnings(s Section) []string {
	var out []string
	listen := map[string]string{}
	switch s := s.(type) {
	case *Coordinator:
		listen["client_listen"], listen["peer_listen"] = s.ClientListen, s.PeerListen
		if len(s.Members)%2 == 0 {
			out = append(out, fmt.Sprintf("%d coordinator nodes survive no more failures than %d", len(s.Members), len(s.Members)-1))
		}
	case *Partition:
		listen["client_listen"], listen["peer_listen"] = s.ClientListen, s.PeerListen
	case *Dev:
		listen["host"] = s.Host
	}
	for _, key := range []string{"client_listen", "peer_listen", "host"} {
		if address := listen[key]; address != "" && !loopback(address) {
			out = append(out, fmt.Sprintf("%s is %s, which is not loopback, and there is no TLS and no authentication yet: "+
				"whoever reaches it can do everything", key, address))
		}
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
