package chaos

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/chaos/diskfault"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// testConfig is that of a session whose processes are this very program.
func testConfig(t *testing.T) *Config {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Config{
		Binary: binary, Env: []string{childVariable + "=1"}, WorkerCommand: []string{"worker"}, DiskCommand: []string{"disk"},
		Dir: t.TempDir(), Progress: io.Discard,
	}
}

// TestFirstPowerCut: the power is cut as soon as the cluster serves. Everybody
// still has to know which cluster that is: nodes that found their directory gone
// would found a second one.
func TestFirstPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	if err := diskfault.Available(); err != nil {
		t.Skip(err)
	}
	cfg := testConfig(t)
	w, err := startWorld(t.Context(), cfg, cfg.Dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	before := w.clusterIDs(t)
	err = each(w.cluster.Nodes(), func(n *cluster.Node) error {
		return errors.Join(n.Kill(), w.disks[n].PowerCut(), w.raise(n))
	})
	if err != nil {
		t.Fatal(err)
	}
	after := w.clusterIDs(t)
	for name, id := range before {
		if id == "" || after[name] != id {
			t.Errorf("%s belongs to cluster %q now, and belonged to %q", name, after[name], id)
		}
	}
}

// clusterIDs asks all nodes which cluster they belong to, until all of them know.
func (w *world) clusterIDs(t *testing.T) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	out := make(map[string]string)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, n := range w.cluster.Nodes() {
		if err := n.AwaitServing(ctx); err != nil {
			t.Fatal(err)
		}
		for out[n.String()] == "" {
			if st, err := n.Status(ctx); err == nil {
				out[n.String()] = st.GetClusterId()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%v: %v", n, ctx.Err())
			}
		}
	}
	return out
}

// TestLyingDisks: disks that say of everything that it is saved, and then lose
// it, are noticed, or nobody would notice a program that acknowledges what it has
// not saved. The history of the run says so again when it is checked later.
func TestLyingDisks(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster of processes")
	}
	if err := diskfault.Available(); err != nil {
		t.Skip(err)
	}
	cfg := testConfig(t)
	lie := &fault{name: "lying-disks", run: func(s *scene) error {
		nodes := s.cluster.Nodes()
		err := each(nodes, func(n *cluster.Node) error { return s.disks[n].Set(diskfault.Faults{SyncLies: true}) })
		s.wait()
		err = errors.Join(err, each(nodes, (*cluster.Node).Kill))
		return errors.Join(err, each(nodes, func(n *cluster.Node) error {
			return errors.Join(s.disks[n].PowerCut(), s.disks[n].Set(diskfault.Faults{}), s.raise(n))
		}))
	}}
	p := &plan{seed: 1, disks: true, steps: []step{{length: 2 * time.Second, fault: lie}}}
	// Writers and readers of one topic are enough.
	p.crews = []crewPlan{{"writers", crews()[0].clients[:1]}, {"readers", crews()[4].clients[:2]}}
	res, err := runOnce(t.Context(), cfg, p, cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]bool{}
	for _, v := range res.Violations {
		name, _, _ := strings.Cut(v, " ")
		broken[strings.TrimSuffix(name, ":")] = true
	}
	if !broken[string(history.Readable)] {
		t.Errorf("acknowledged records were lost, and what was noticed is %q", res.Violations)
	}
	report, err := CheckFile(res.History)
	if err != nil {
		t.Fatal(err)
	}
	again := map[history.Invariant]bool{}
	for _, v := range report.Violations {
		again[v.Invariant] = true
	}
	if !again[history.Readable] {
		t.Errorf("checked again, the history breaks %v", again)
	}
}
