package partition

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// damaged is a node with a shard whose log was found damaged while it ran.
func damaged(t *testing.T) (*cluster, Config, identity) {
	t.Helper()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	n.stop()
	cfg := c.config(1, n.dir)
	files := datafile.Directory(n.dir)
	old, err := openIdentity(files, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := NoteDamage(files, fmt.Errorf("entry 5 of group 2: %w", raftstore.ErrCorrupt)); err != nil {
		t.Fatal(err)
	}
	return c, cfg, old
}

// TestDamagedDirectoryIsGivenUp: a node that found damage gives the directory up when
// it starts again, and comes back as another one, with nothing of the old log. Whatever
// step it dies after, the next start goes on.
func TestDamagedDirectoryIsGivenUp(t *testing.T) {
	t.Parallel()
	c, cfg, old := damaged(t)
	c.coord.refuseGivingUp = []error{
		apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_SHARD_WOULD_BE_LOST, ""), // another copy is being made
		apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, ""),
	}
	died := errors.New("died")
	discarded, opened := 0, 0
	device := memlog.New(nil) // the new log, which the third start finds again
	cfg.DiscardLog = func() error {
		if discarded++; discarded == 1 {
			return died
		}
		return nil
	}
	cfg.OpenStore = func(string) (*raftstore.Store, error) {
		if opened++; discarded < 2 {
			t.Error("the damaged log is opened")
		}
		return raftstore.Open(raftstore.Config{NodeID: 1, Log: device})
	}
	for i, want := range []error{died, nil, nil} {
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(c.ctx()); !errors.Is(err, want) {
			t.Fatalf("start %d: %v, want %v", i, err, want)
		}
		if id := n.id; (id.instance == old.instance) != (want != nil) {
			t.Errorf("start %d: instance %q, the damaged one was %q", i, id.instance, old.instance)
		}
		if err := n.Close(c.ctx()); err != nil {
			t.Error(err)
		}
	}
	if discarded != 2 || opened != 2 {
		t.Errorf("the log was put aside %d times and opened %d times", discarded, opened)
	}
	c.coord.mu.Lock()
	defer c.coord.mu.Unlock()
	if len(c.coord.givenUp) != 4 { // two were refused, and one repeated after the crash
		t.Errorf("given up: %v", c.coord.givenUp)
	}
	for _, req := range c.coord.givenUp {
		if req.GetInstanceId() != old.instance || req.GetClusterId() != testCluster || !strings.Contains(req.GetDamage(), "entry 5 of group 2") {
			t.Errorf("given up: %v", req)
		}
	}
}

// TestDamagedDirectoryThatIsNotGivenUp: without the coordinator's word nothing is put
// aside, and the log is not opened.
func TestDamagedDirectoryThatIsNotGivenUp(t *testing.T) {
	t.Parallel()
	c, cfg, old := damaged(t)
	c.coord.refuseGivingUp = []error{apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, "")}
	cfg.DiscardLog = func() error { t.Error("the log is put aside"); return nil }
	cfg.OpenStore = func(string) (*raftstore.Store, error) { t.Error("the log is opened"); return nil, raftstore.ErrCorrupt }
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(c.ctx()); apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE || !strings.Contains(err.Error(), "entry 5 of group 2") {
		t.Errorf("start: %v", err)
	}
	if err := n.Close(c.ctx()); err != nil {
		t.Error(err)
	}
	if id, err := openIdentity(datafile.Directory(cfg.DataDir), 1, ""); err != nil || id != old {
		t.Errorf("identity %+v, %v", id, err)
	}
}
