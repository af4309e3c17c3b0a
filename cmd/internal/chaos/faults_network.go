package chaos

import (
	"slices"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/chaos/netfault"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// networkFaults are what befalls the network.
func networkFaults() []*fault {
	return []*fault{
		{name: "partition", run: (*scene).partition},
		{name: "isolate-leader", run: func(s *scene) error { return s.isolate(s.someLeader(), both) }},
		{name: "isolate-long", long: true, run: func(s *scene) error { return s.isolate(s.someLeader(), both) }},
		{name: "one-way", run: func(s *scene) error { return s.isolate(s.someLeader(), s.someWay()) }},
		{name: "cut-client", run: func(s *scene) error { return s.cutClient(both) }},
		{name: "cut-client-one-way", run: func(s *scene) error { return s.cutClient(s.someWay()) }},
		{name: "swizzle", run: (*scene).swizzle},
		{name: "delay", run: (*scene).delay},
		{name: "half-open", run: (*scene).halfOpen},
		{name: "half-close", run: (*scene).halfClose},
		{name: "reset", run: (*scene).reset},
	}
}

// way is a direction, seen from who is cut off.
type way int

const (
	both way = iota
	in       // it hears nothing
	out      // it is not heard
)

func (w way) String() string { return []string{"both ways", "hears nothing", "is not heard"}[w] }

func (s *scene) someWay() way { return []way{in, out}[s.rng.IntN(2)] }

// around are the rules that cut one process off from others.
func around(name string, w way, others func(string) bool) netfault.Rules {
	return func(from, to string) netfault.Rule {
		return netfault.Rule{Cut: w != in && from == name && others(to) || w != out && to == name && others(from)}
	}
}

func everybody(string) bool { return true }

// parties returns the names of all who talk over the network, but not this
// process.
func (s *scene) parties() []string {
	var out []string
	for _, n := range s.cluster.Nodes() {
		out = append(out, n.String())
	}
	for _, c := range s.roster.present() {
		out = append(out, c.name)
	}
	return out
}

// under has the network follow rules for the fault's time.
func (s *scene) under(rules netfault.Rules) error {
	straighten := s.bend(rules)
	s.wait()
	straighten()
	return nil
}

// partition divides everybody into two sides that do not hear each other.
func (s *scene) partition() error {
	left := make(map[string]bool)
	var side []string
	for _, name := range s.parties() {
		if s.rng.IntN(2) == 0 {
			left[name] = true
			side = append(side, name)
		}
	}
	s.tell("partition: %q against the rest", side)
	return s.under(func(from, to string) netfault.Rule {
		return netfault.Rule{Cut: from != auditor && to != auditor && left[from] != left[to]}
	})
}

// isolate cuts a node off from everybody, or only from the other nodes.
func (s *scene) isolate(n *cluster.Node, w way) error {
	others, whom := everybody, "everybody"
	if s.rng.IntN(2) == 0 {
		nodes := make(map[string]bool)
		for _, other := range s.cluster.Nodes() {
			nodes[other.String()] = true
		}
		others, whom = func(name string) bool { return nodes[name] }, "the nodes"
	}
	s.tell("cut %v off from %s, %v", n, whom, w)
	return s.under(around(n.String(), w, others))
}

// cutClient cuts clients off from some of the nodes.
func (s *scene) cutClient(w way) error {
	crews := s.roster.present()
	c := crews[s.rng.IntN(len(crews))]
	cut := make(map[string]bool)
	for _, n := range s.cluster.Nodes() {
		cut[n.String()] = s.rng.IntN(3) > 0
	}
	s.tell("cut %s off from some nodes, %v", c.name, w)
	return s.under(around(c.name, w, func(name string) bool { return cut[name] }))
}

// swizzle cuts some nodes off one after the other, and heals them in another
// order.
func (s *scene) swizzle() error {
	nodes := slices.Clone(s.cluster.Nodes())
	s.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	nodes = nodes[:2+s.rng.IntN(len(nodes)-1)]
	s.tell("swizzle: %v", nodes)
	var heal []func()
	pause := s.length / time.Duration(2*len(nodes))
	for _, n := range nodes {
		heal = append(heal, s.bend(around(n.String(), both, everybody)))
		s.pause(pause)
	}
	for _, i := range s.rng.Perm(len(heal)) {
		heal[i]()
		s.pause(pause)
	}
	return nil
}

// delay makes the network slow: everywhere, or around one node.
func (s *scene) delay() error {
	rule := netfault.Rule{
		Delay: between(s.rng, time.Millisecond, 60*time.Millisecond), Jitter: between(s.rng, time.Millisecond, 200*time.Millisecond),
	}
	n := s.someNode().String()
	where := "around " + n
	touches := func(from, to string) bool { return from == n || to == n }
	if s.rng.IntN(2) == 0 {
		where = "everywhere"
		touches = func(string, string) bool { return true }
	}
	s.tell("delay %v + %v %s", rule.Delay.Round(time.Millisecond), rule.Jitter.Round(time.Millisecond), where)
	return s.under(func(from, to string) netfault.Rule {
		if touches(from, to) {
			return rule
		}
		return netfault.Rule{}
	})
}

// somePairs matches about every third pair of processes, always the same ones.
func (s *scene) somePairs() netfault.Match {
	salt := s.rng.Uint64()
	return func(from, to string) bool {
		h := salt
		for _, b := range []byte(from + ">" + to) {
			h = (h ^ uint64(b)) * 0x100000001b3
		}
		return from != auditor && (h>>32)%3 == 0
	}
}

func (s *scene) halfOpen() error {
	back := s.rng.IntN(2) == 0
	s.tell("half-open: %d connections, dialed side unaware: %v", s.net.HalfOpen(s.somePairs(), back), back)
	s.wait()
	return nil
}

func (s *scene) halfClose() error {
	back := s.rng.IntN(2) == 0
	s.tell("half-close: %d connections, backwards: %v", s.net.HalfClose(s.somePairs(), back), back)
	s.wait()
	return nil
}

// reset breaks connections again and again.
func (s *scene) reset() error {
	broken := 0
	for range 1 + s.rng.IntN(5) {
		broken += s.net.Reset(s.somePairs())
		s.pause(s.length / 5)
	}
	s.tell("reset: %d connections", broken)
	return nil
}
