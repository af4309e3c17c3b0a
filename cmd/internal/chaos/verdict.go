package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/audit"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// verdict looks at what is left when everything was healed. An error says that it
// could not be looked at.
func (r *run) verdict(ctx context.Context) error {
	healed := time.Now()
	r.note("everything is healed")
	for _, n := range r.world.cluster.Nodes() {
		bounded, cancel := context.WithTimeout(ctx, startLimit)
		err := n.AwaitServing(bounded)
		cancel()
		if err != nil {
			r.violate("I11: %v", err)
		}
	}
	waiting, last := r.awaitProgress(ctx, healed, recoveryLimit)
	if len(waiting) > 0 {
		r.violate("I11: %v after everything was healed these have got nowhere: %s", recoveryLimit, strings.Join(waiting, ", "))
	}
	r.result.Recovery = time.Since(healed)
	r.note("everybody gets on again after %v, last %s", r.result.Recovery.Round(time.Millisecond), last)
	r.checkOpen(ctx, healed)
	finish, cancel := context.WithTimeout(ctx, finishLimit)
	err := r.roster.stop(finish)
	cancel()
	if err != nil {
		r.violate("I11: %v", err)
	}
	for _, err := range r.roster.failures() {
		r.violate("client: %v", err)
	}
	final, err := r.audit(ctx)
	if err != nil {
		return err
	}
	for _, complaint := range r.world.complaints() {
		r.violate("log: %s", complaint)
	}
	return r.check(final)
}

const (
	// longestOpen is how long a transaction may be open: what was lost with a leader
	// has to be found out first.
	longestOpen = transactionTimeout + 5*time.Second
	// silence is how long a connection may be dead before its ends find out, who
	// have nothing but silence to tell by.
	silence = 15 * time.Second
)

// checkOpen looks for transactions that are open for longer than they may be, and
// for partitions whose LSO one holds back. Workloads go on meanwhile.
func (r *run) checkOpen(ctx context.Context, healed time.Time) {
	c, err := r.dial(ctx)
	if err != nil {
		r.violate("I11: %v", err)
		return
	}
	defer func() { _ = c.Close() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		late, err := tooLong(ctx, c.Admin())
		if err == nil && len(late) == 0 || ctx.Err() != nil {
			return
		}
		if time.Since(healed) > silence+longestOpen {
			if err != nil {
				r.violate("I11: %v", err)
			}
			for _, l := range late {
				r.violate("I11: %v after everything was healed %s", silence+longestOpen, l)
			}
			return
		}
		<-tick.C
	}
}

// tooLong returns what is open for longer than it may be.
func tooLong(ctx context.Context, a *client.Admin) (late []string, err error) {
	open, err := a.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{
		States:      []oncelogv1.TransactionState{oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING},
		OlderThanMs: longestOpen.Milliseconds(),
	})
	if err != nil {
		return nil, err
	}
	for _, t := range open.GetTransactions() {
		late = append(late, fmt.Sprintf("%s is open for %v: %v", t.GetTransactionalId(), time.Duration(t.GetAgeMs())*time.Millisecond, t.GetTxn()))
	}
	for _, t := range topics() {
		parts, err := a.DescribePartitions(ctx, t.Name)
		if err != nil {
			return nil, err
		}
		for i, p := range parts {
			if since := time.UnixMilli(p.GetBlockedSinceMs()); p.GetBlockedBy() != nil && time.Since(since) > longestOpen {
				late = append(late, fmt.Sprintf("%s/%d is held back by %v for %v", t.Name, i, p.GetBlockedBy(), time.Since(since).Round(time.Millisecond)))
			}
		}
	}
	return late, nil
}

// audit reads the final state; nil if it does not come to rest.
func (r *run) audit(ctx context.Context) (*history.Audit, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	conns := make(map[string]*grpc.ClientConn)
	defer func() {
		for _, cc := range conns {
			_ = cc.Close()
		}
	}()
	cfg := audit.Config{Client: c, Groups: groups(), Dial: func(address string) (grpc.ClientConnInterface, error) {
		if cc := conns[address]; cc != nil {
			return cc, nil
		}
		cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		conns[address] = cc
		return cc, err
	}}
	for _, t := range topics() {
		cfg.Topics = append(cfg.Topics, t.Name)
	}
	settling, cancel := context.WithTimeout(ctx, settleLimit)
	err = audit.Settled(settling, cfg)
	cancel()
	if err != nil {
		r.violate("I11: %v after the last client has finished: %v", settleLimit, err)
		return nil, ctx.Err()
	}
	reading, cancel := context.WithTimeout(ctx, auditLimit)
	defer cancel()
	final, err := audit.Collect(reading, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	final.Replicas, err = r.replicas(ctx)
	return final, err
}

// auditLimit bounds the reading of everything.
const auditLimit = time.Minute

// replicas stops all nodes and returns what each replica has in the end. Only
// those at equal indexes can be compared; most have stopped at the same.
func (r *run) replicas(ctx context.Context) ([]history.ReplicaState, error) {
	if err := r.awaitEqual(ctx); err != nil {
		return nil, err
	}
	r.world.cluster.Stop(ctx)
	var out []history.ReplicaState
	for _, n := range r.world.cluster.Nodes() {
		states, err := r.world.replicasOf(n)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", n, err)
		}
		out = append(out, states...)
	}
	return out, nil
}

// awaitEqual waits until all replicas have applied the same entries: then there
// is nothing left that could part them.
func (r *run) awaitEqual(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recoveryLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		different := r.world.different(ctx)
		if different == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.violate("I11: %v after the last client has finished %s", recoveryLimit, different)
			return nil
		}
	}
}

// different says what tells replicas of one group apart; "" if nothing does.
func (w *world) different(ctx context.Context) string {
	applied := make(map[string]uint64)
	for _, n := range w.cluster.Nodes() {
		st, err := n.Status(ctx)
		if err != nil {
			return fmt.Sprintf("%v does not answer: %v", n, err)
		}
		for _, g := range st.GetGroups() {
			name := groupName(n.Role, g.GetGroupId())
			before, known := applied[name]
			if known && before != g.GetApplied() {
				return fmt.Sprintf("a replica of %s has applied %d entries, another %d", name, g.GetApplied(), before)
			}
			applied[name] = g.GetApplied()
		}
	}
	return ""
}

func groupName(role cluster.Role, id uint64) string {
	if role == cluster.Coordinator {
		return "coordinator"
	}
	return "shard " + strconv.FormatUint(id, 10)
}

// dataDir is where a node keeps its data.
func (w *world) dataDir(n *cluster.Node) string {
	if _, own := w.disks[n]; own {
		return filepath.Join(w.mountpoint(n), "data")
	}
	return n.DataDir()
}

// replicasOf reads the log device of a stopped node: state and rows of every
// group at its last checkpoint, which is written when a node stops.
func (w *world) replicasOf(n *cluster.Node) (_ []history.ReplicaState, err error) {
	store, err := pebblelog.Open(pebblelog.Config{Dir: filepath.Join(w.dataDir(n), "log")})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	groups, err := store.Groups()
	if err != nil {
		return nil, err
	}
	var out []history.ReplicaState
	for _, g := range groups {
		s, err := replica(store, g)
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", g, err)
		}
		s.Group, s.Node = groupName(n.Role, uint64(g)), n.String()
		out = append(out, s)
	}
	return out, nil
}

func replica(store raftstore.LogStore, g raftstore.GroupID) (history.ReplicaState, error) {
	snapshot, err := store.Snapshot(g)
	if err != nil {
		return history.ReplicaState{}, err
	}
	h := fnv.New64a()
	_, _ = h.Write(snapshot.Data) // a hash takes everything
	err = store.Rows(g).Scan(nil, nil, func(key, value []byte) bool {
		_, _ = h.Write(key)
		_, _ = h.Write(value)
		return true
	})
	return history.ReplicaState{Index: snapshot.Index, Hash: h.Sum64()}, err
}

// check has the checkers look at everything, and keeps the history if that is
// wanted or something is wrong.
func (r *run) check(final *history.Audit) error {
	events, m := merge(append(r.roster.journals(), journal{auditor, r.notes.Events()}))
	promised := rules()
	promised.Healed = final != nil
	if final != nil {
		m.audit(final)
	}
	h := &history.History{Rules: promised, Events: events, Audit: final, Labels: map[string]string{
		"seed": strconv.FormatUint(r.plan.seed, 10), "disks": strconv.FormatBool(r.plan.disks), "begun": r.begin.UTC().Format(time.RFC3339),
	}}
	report := history.Check(h)
	for _, v := range report.Violations {
		r.violate("%v", v)
	}
	if more := report.Total - len(report.Violations); more > 0 {
		r.violate("and %d more", more)
	}
	r.result.Stats = report.Stats
	r.count(events)
	if r.cfg.History == "" && len(r.result.Violations) == 0 {
		return nil
	}
	r.result.History = r.cfg.History
	if r.result.History == "" {
		r.result.History = filepath.Join(r.dir, "history.json")
	}
	return saveFile(r.result.History, h)
}

// count counts how commits and aborts were answered.
func (r *run) count(events []history.Event) {
	calls := make(map[uint64]history.Kind)
	for i := range events {
		switch e := &events[i]; e.Kind {
		case history.KindCommit, history.KindAbort:
			calls[e.Call] = e.Kind
		case history.KindAnswer:
			if _, end := calls[e.Call]; !end {
				continue
			}
			switch e.Outcome {
			case history.Committed:
				r.result.Commits++
			case history.Unknown, history.Forgotten:
				r.result.Unknown++
			default:
				r.result.Aborts++
			}
		default:
		}
	}
}

func saveFile(path string, h *history.History) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(history.Save(f, h), f.Close())
}

// names returns the sorted names of a count.
func names(counts map[string]int) []string { return slices.Sorted(maps.Keys(counts)) }
