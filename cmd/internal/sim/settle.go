package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"google.golang.org/grpc"

	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/audit"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/raftstore"
)

// settle waits until nothing is open, reads everything, stops every node, and
// has the checkers look.
func (s *simulation) settle() {
	if s.over() {
		return
	}
	// What was sent before everything was healed may still arrive.
	s.runUntil(s.w.now+s.plan.Weather.LateBy+time.Second, nil)
	s.canary()
	if s.over() {
		return
	}
	var final *history.Audit
	err := s.act("audit", 3*settleLimit, func(ctx context.Context, c *sdk.Client) (err error) {
		r := task.From(ctx)
		cfg := audit.Config{
			Client: c, Runtime: r, Groups: s.plan.Work.groups(),
			Dial: func(address string) (grpc.ClientConnInterface, error) { return dial.From(ctx)(address) },
		}
		for _, t := range s.plan.Work.topics() {
			cfg.Topics = append(cfg.Topics, t.Name)
		}
		bounded, cancel := r.WithTimeout(ctx, settleLimit)
		err = audit.Settled(bounded, cfg)
		cancel()
		if err != nil {
			s.complain("I11 liveness", fmt.Sprintf("%v after everything was healed: %v", settleLimit, err))
			return nil
		}
		if left := s.placed(ctx, c); left != "" {
			s.complain("I11 liveness", left)
		} else if s.cluster.damages() {
			s.reach.hit(damageRepaired)
		}
		if left := s.members(ctx, c); left != "" {
			s.complain("I11 liveness", left)
		}
		if missing := s.replacements(ctx, c); missing != "" {
			s.complain("I11 liveness", missing)
		}
		final, err = audit.Collect(ctx, cfg)
		return err
	})
	if s.over() {
		return
	}
	if err != nil {
		s.complain("I11 liveness", "audit: "+err.Error())
	}
	if final != nil {
		final.Replicas = s.stopNodes()
		s.replayLogs()
		s.laggards(final.Replicas)
	}
	s.lostNodes()
	for _, what := range s.net.elections.broken {
		s.complain("I12 election", what)
	}
	rules := s.plan.Work.rules(final != nil)
	rules.Members = true
	h := &history.History{Rules: rules, Events: s.history.Events(), Audit: final}
	if s.keep != nil {
		s.keep(h)
	}
	report := history.Check(h)
	for _, v := range report.Violations {
		s.complain(string(v.Invariant), v.String())
	}
	s.stats.take(h)
}

// members waits until the groups have lost their members, all of whose programs
// have ended, and says which one is left.
func (s *simulation) members(ctx context.Context, c *sdk.Client) (left string) {
	if !s.plan.Work.Subscribe {
		return ""
	}
	rt := task.From(ctx)
	for end := rt.Now().Add(2*s.plan.Work.Session + 5*time.Second); ; {
		left = ""
		for _, g := range s.plan.Work.groups() {
			d, err := c.Admin().DescribeGroup(ctx, g)
			if err == nil && len(d.GetMembers()) > 0 {
				left = fmt.Sprintf("group %s still has member %s, long after its session", g, d.GetMembers()[0].GetMemberId())
			}
		}
		if left == "" || rt.Now().After(end) || !rt.Sleep(200*time.Millisecond, ctx.Done()) {
			return left
		}
	}
}

// stopNodes closes every store where it stands and returns the hashes of what
// each replica then has.
func (s *simulation) stopNodes() []history.ReplicaState {
	s.runUntil(s.w.now+time.Second, nil) // the last commit indexes travel
	s.net.weather = weather{Loss: 1, Delay: calm.Delay}
	left := 0
	for _, n := range s.cluster.nodes() {
		if n.refused {
			continue
		}
		if n.store == nil {
			s.complain("I11 liveness", n.proc.name+" does not run")
			continue
		}
		left++
		store := n.store
		s.w.at(0, n.proc, func() {
			n.proc.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				cancel() // leadership is not handed over
				if err := store.Close(ctx); err != nil {
					s.complain("close", n.proc.name+": "+err.Error())
				}
				left--
			})
		})
	}
	if !s.runUntil(s.w.now+10*time.Second, func() bool { return left == 0 }) && !s.over() {
		s.complain("I11 liveness", "a node does not close its log")
	}
	var out []history.ReplicaState
	for _, n := range s.cluster.nodes() {
		if !n.refused { // whose log stands still
			out = append(out, n.replicaStates()...)
		}
	}
	return out
}

// maxLag is how many entries a replica may be behind when the nodes are stopped:
// what was under way then.
const maxLag = 20

// laggards complains of replicas that nobody has brought up to date since
// everything was healed.
func (s *simulation) laggards(states []history.ReplicaState) {
	newest := map[string]uint64{}
	for _, r := range states {
		newest[r.Group] = max(newest[r.Group], r.Index)
	}
	for _, r := range states {
		if behind := newest[r.Group] - r.Index; behind > maxLag {
			s.complain("I11 liveness", fmt.Sprintf("%s on %s has stopped at entry %d, %d behind the others", r.Group, r.Node, r.Index, behind))
		}
	}
}

// replicaStates hashes what a stopped node has of each group: its state and its
// rows.
func (n *node) replicaStates() []history.ReplicaState {
	var out []history.ReplicaState
	groups, _ := n.disk.log.Groups()
	for _, g := range groups {
		snap, err := n.disk.log.Snapshot(g)
		if err != nil {
			continue
		}
		h := fnv.New64a()
		_, _ = h.Write(snap.Data)
		_ = n.disk.log.Rows(g).Scan(nil, nil, func(k, v []byte) bool {
			_, _ = h.Write(k)
			_, _ = h.Write(v)
			return true
		})
		out = append(out, history.ReplicaState{
			Group: fmt.Sprintf("%s group %d", n.kind, g), Node: n.proc.name, Index: snap.Index, Hash: h.Sum64(),
		})
	}
	return out
}

var _ raftstore.LogStore = (*device)(nil)
