package partition

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

const wholeShard = testShard + 1

// lostShard is a node with two shards, one of which could not be read.
type lostShard struct {
	*cluster
	cfg    Config
	old    identity
	device *memlog.Store
}

// newLostShard returns it stopped, with the damage noted.
func newLostShard(t *testing.T) *lostShard {
	t.Helper()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	c.coord.with(func() {
		c.coord.assignment.Version = 2
		c.coord.assignment.Shards = append(c.coord.assignment.Shards, &oncelogv1.ShardAssignment{ShardId: wholeShard, Version: 2, Replicas: []uint64{1}})
	})
	c.coord.await(t, "both shards", func() bool { return len(c.coord.reports[1].GetShards()) == 2 })
	n.stop()
	l := &lostShard{cluster: c, cfg: c.config(1, n.dir), device: n.disk.Crash(0)}
	var err error
	if l.old, err = openIdentity(l.files(), 1, ""); err != nil {
		t.Fatal(err)
	}
	l.cfg.OpenStore = func(string) (*raftstore.Store, error) {
		l.device = l.device.Crash(0)
		return l.open()
	}
	l.cfg.DiscardLog = func() error { t.Error("the whole log is put aside"); return nil }
	l.cfg.SalvageLog = func() ([]LostReplica, error) {
		store, err := l.open()
		if err != nil {
			return nil, err
		}
		err = errors.Join(store.RemoveGroup(raftstore.GroupID(testShard)), store.Close(c.ctx()))
		return []LostReplica{{Shard: testShard, Damage: "entry 5 " + strings.Repeat("é", maxDamage)}}, err
	}
	l.cfg.ReplaceLog = func() error { return nil }
	if err := NoteDamage(l.files(), fmt.Errorf("entry 5: %w", raftstore.ErrUnreadable)); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lostShard) files() datafile.Files { return datafile.Directory(l.cfg.DataDir) }

func (l *lostShard) open() (*raftstore.Store, error) {
	return raftstore.Open(raftstore.Config{NodeID: 1, Log: l.device, MinFreeBytes: -1, StallTimeout: -1})
}

// start starts the node, which is closed with the test.
func (l *lostShard) start(want error) *Node {
	l.t.Helper()
	n, err := New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = n.Close(l.ctx()) })
	if err := n.Start(l.ctx()); !errors.Is(err, want) {
		l.t.Fatalf("start: %v, want %v", err, want)
	}
	return n
}

func (l *lostShard) close(n *Node) {
	l.t.Helper()
	if err := n.Close(l.ctx()); err != nil {
		l.t.Error(err)
	}
}

// hosts are the shards that the node reported last.
func (l *lostShard) hosts() (out []string) {
	for _, r := range l.coord.reports[1].GetShards() {
		out = append(out, fmt.Sprintf("%d/%d", r.GetShardId(), r.GetLife()))
	}
	return out
}

// TestDamagedShardIsMadeAnew: a node of which one shard cannot be read keeps the other
// ones and its directory, whatever step it dies after. It never opens the damaged one again in its old
// life, tells the coordinator until that takes it, and begins it anew in the next life.
func TestDamagedShardIsMadeAnew(t *testing.T) {
	t.Parallel()
	l := newLostShard(t)
	died := errors.New("died")
	salvage, salvaged, replaced := l.cfg.SalvageLog, 0, 0
	l.cfg.SalvageLog = func() ([]LostReplica, error) {
		if salvaged++; salvaged == 1 {
			return nil, died
		}
		return salvage()
	}
	l.cfg.ReplaceLog = func() error {
		if replaced++; replaced == 1 {
			return died
		}
		return nil
	}
	l.close(l.start(died))
	l.close(l.start(died))
	l.coord.with(func() {
		clear(l.coord.reports)
		l.coord.refuseGivingUp = []error{
			apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_SHARD_WOULD_BE_LOST, ""), // another copy is being made
			apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, ""),
		}
	})
	n := l.start(nil)
	if salvaged != 2 || replaced != 2 || n.id.instance != l.old.instance {
		t.Errorf("copied %d times, replaced %d times, instance %q, was %q", salvaged, replaced, n.id.instance, l.old.instance)
	}
	whole := []string{fmt.Sprintf("%d/0", wholeShard)}
	// The coordinator still assigns both.
	l.coord.await(t, "the damaged shard to be given up", func() bool { return len(l.coord.lost) >= 3 && slices.Equal(l.hosts(), whole) })
	l.coord.with(func() {
		for _, req := range l.coord.lost {
			if req.GetInstanceId() != l.old.instance || req.GetClusterId() != testCluster || req.GetShardId() != testShard || req.GetLife() != 0 ||
				len(req.GetDamage()) > maxDamage || !strings.HasPrefix(req.GetDamage(), "entry 5") {
				t.Errorf("given up: %v", req)
			}
		}
		if len(l.coord.givenUp) > 0 {
			t.Errorf("the whole directory is given up: %v", l.coord.givenUp)
		}
	})
	l.close(n)
	// It remembers over a restart, and a new answer that names the old life is no other.
	l.coord.with(func() { clear(l.coord.reports); l.coord.assignment.Version++ })
	n = l.start(nil)
	l.coord.await(t, "the other shard alone", func() bool { return slices.Equal(l.hosts(), whole) })
	if lost := n.Lost(); len(lost) != 1 || lost[0].Shard != testShard {
		t.Errorf("lost is %v", lost)
	}
	// The coordinator has taken it, and then makes a new copy.
	assign := func(shards ...*oncelogv1.ShardAssignment) {
		l.coord.with(func() {
			l.coord.assignment.Version++
			l.coord.assignment.Shards = append([]*oncelogv1.ShardAssignment{{ShardId: wholeShard, Version: 2, Replicas: []uint64{1}}}, shards...)
		})
	}
	assign()
	assign(&oncelogv1.ShardAssignment{ShardId: testShard, Version: 9, Replicas: []uint64{1}, Life: 1, Join: true})
	again := []string{fmt.Sprintf("%d/1", testShard), whole[0]}
	l.coord.await(t, "a copy in another life", func() bool { return slices.Equal(l.hosts(), again) })
	if s := n.shard(testShard); s.group.Status().Commit != 0 || s.group.Leadership().IsLeader {
		t.Errorf("the new copy is %+v", s.group.Status())
	}
	l.close(n)
	l.coord.with(func() { clear(l.coord.reports) })
	n = l.start(nil)
	l.coord.await(t, "both shards after a restart", func() bool { return slices.Equal(l.hosts(), again) })
	if lost := n.Lost(); len(lost) != 0 {
		t.Errorf("lost is %v", lost)
	}
}

// TestLostShardWithoutItsNote: a node that forgot that a shard was damaged, too, misses
// its log before the coordinator has taken that. It founded the shard anew.
func TestLostShardWithoutItsNote(t *testing.T) {
	t.Parallel()
	l := newLostShard(t)
	l.coord.refuseGivingUp = slices.Repeat([]error{apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "")}, 1000)
	n := l.start(nil)
	l.coord.await(t, "the damaged shard to be given up", func() bool { return len(l.coord.lost) >= 2 })
	l.close(n)
	if err := os.Remove(filepath.Join(l.cfg.DataDir, damageFile.File)); err != nil {
		t.Fatal(err)
	}
	l.close(l.start(raftstore.ErrCorrupt))
}

// TestDamageThatIsNotConfined: what is not confined to shards concerns the directory.
func TestDamageThatIsNotConfined(t *testing.T) {
	t.Parallel()
	l := newLostShard(t)
	l.cfg.SalvageLog = func() ([]LostReplica, error) { return nil, fmt.Errorf("no manifest: %w", raftstore.ErrCorrupt) }
	l.cfg.ReplaceLog = func() error { t.Error("nothing was copied"); return nil }
	discarded := false
	l.cfg.DiscardLog = func() error { discarded, l.device = true, memlog.New(nil); return nil }
	n := l.start(nil)
	l.coord.mu.Lock()
	defer l.coord.mu.Unlock()
	if len(l.coord.givenUp) != 1 || len(l.coord.lost) != 0 || !discarded || n.id.instance == l.old.instance {
		t.Errorf("given up: %v, %v; put aside: %v; instance %q", l.coord.givenUp, l.coord.lost, discarded, n.id.instance)
	}
}

// TestNotesOfDamage: what was missed is never taken for what cannot be read, and no note
// forgets what was lost before.
func TestNotesOfDamage(t *testing.T) {
	t.Parallel()
	missing, unreadable := fmt.Errorf("a: %w", raftstore.ErrCorrupt), fmt.Errorf("b: %w", raftstore.ErrUnreadable)
	lost := []LostReplica{{Shard: 3, Life: 2, Damage: "d"}}
	for _, x := range []struct {
		before damageNote
		why    error
		want   stage
	}{
		{damageNote{}, unreadable, stageSalvage},
		{damageNote{}, missing, stageGiveUp},
		{damageNote{damage: "x", stage: stageGiveUp}, unreadable, stageGiveUp},
		{damageNote{damage: "x", stage: stageSalvage}, missing, stageGiveUp},
		{damageNote{damage: "x", stage: stageReplace}, unreadable, stageSalvage},
	} {
		files := fileMap{}
		x.before.lost = lost
		if err := errors.Join(x.before.write(files), NoteDamage(files, x.why)); err != nil {
			t.Fatal(err)
		}
		got, err := loadDamage(files)
		if err != nil || got.stage != x.want || got.damage != x.why.Error() || !slices.Equal(got.lost, lost) {
			t.Errorf("%+v, then %v: %+v, %v", x.before, x.why, got, err)
		}
	}
	files := fileMap{damageFile.File: []byte("rubbish")}
	if err := NoteDamage(files, unreadable); err != nil {
		t.Fatal(err)
	}
	if got, err := loadDamage(files); err != nil || got.stage != stageGiveUp {
		t.Errorf("over a damaged note: %+v, %v", got, err)
	}
}

func TestAddLost(t *testing.T) {
	t.Parallel()
	lost := addLost(nil, []LostReplica{{5, 1, "a"}, {3, 0, "b"}, {5, 0, "late"}, {4, 2, "c"}, {3, 1, "d"}})
	if want := []LostReplica{{3, 1, "d"}, {4, 2, "c"}, {5, 1, "a"}}; !slices.Equal(lost, want) {
		t.Errorf("%v, want %v", lost, want)
	}
	for life, want := range []bool{true, true, false} {
		if got := isLost(lost, &oncelogv1.ShardAssignment{ShardId: 5, Life: uint32(life)}); got != want {
			t.Errorf("life %d of shard 5 is lost: %v", life, got)
		}
	}
	if isLost(lost, &oncelogv1.ShardAssignment{ShardId: 6}) {
		t.Error("shard 6 is lost")
	}
}
