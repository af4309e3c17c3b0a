package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/backup"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// Topics of the bank: transfers are two records whose sum is zero; what comes into
// inbox is copied, with the positions, by a group.
const (
	transfers  = "transfers"
	inbox      = "inbox"
	copied     = "copied"
	copiers    = "copiers"
	inboxParts = 2
)

// bank runs clients on a cluster until it is closed.
type bank struct {
	*world
	ids  []string
	stop context.CancelFunc
	all  sync.WaitGroup
}

func openBank(t *testing.T, w *world) *bank {
	t.Helper()
	w.createTopic(t, transfers, 6)
	w.createTopic(t, inbox, inboxParts)
	w.createTopic(t, copied, 3)
	ctx, stop := context.WithCancel(withPatience(t))
	b := &bank{world: w, stop: stop}
	t.Cleanup(b.close)
	work := func(what string, fn func() error) {
		b.all.Go(func() {
			if err := fn(); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	for i := range 3 {
		id := fmt.Sprintf("teller-%d", i)
		b.ids = append(b.ids, id)
		p := producer(t, w.client(t), id)
		work(id, func() error { return transfer(ctx, p, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	c := w.client(t)
	in, err := c.Consume(ctx, copiers, []string{inbox})
	if err != nil {
		t.Fatal(err)
	}
	b.ids = append(b.ids, "copier")
	out := producer(t, c, "copier")
	work("copier", func() error { return copyAll(ctx, in, out) })
	plain, err := c.IdempotentProducer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	work("inbox", func() error {
		for i := 0; ctx.Err() == nil; i++ {
			v := strconv.Itoa(i)
			if err := errors.Join(plain.Send(ctx, &client.Record{Topic: inbox, Key: []byte(v), Value: []byte(v)}), plain.Flush(ctx)); err != nil {
				return err
			}
		}
		return nil
	})
	return b
}

// close ends the clients.
func (b *bank) close() {
	b.stop()
	b.all.Wait()
}

func transfer(ctx context.Context, p *client.Producer, rng *rand.Rand) error {
	for n := 0; ; n++ {
		amount := rng.IntN(1000)
		err := p.Transact(ctx, func(tx *client.Tx) error {
			for _, v := range []int{amount, -amount} {
				r := &client.Record{Topic: transfers, Key: strconv.AppendInt(nil, rng.Int64(), 36), Value: strconv.AppendInt(nil, int64(v), 10)}
				if err := tx.Send(ctx, r); err != nil {
					return err
				}
			}
			if n%7 == 6 {
				return errChangedMind
			}
			return nil
		})
		if err != nil && !errors.Is(err, errChangedMind) {
			return err
		}
	}
}

var errChangedMind = errors.New("changed my mind")

func copyAll(ctx context.Context, in *client.Consumer, out *client.Producer) error {
	return client.Process(ctx, in, out, func(tx *client.Tx, b *client.Batch) error {
		for r := range b.Records() {
			if err := tx.Send(ctx, &client.Record{Topic: copied, Key: r.Key, Value: r.Value}); err != nil {
				return err
			}
		}
		return nil
	})
}

// backup takes a backup, which may fail only without leaving anything.
func (b *bank) backup(t *testing.T) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "backup")
	ctx, cancel := context.WithTimeout(withPatience(t), tooLong)
	defer cancel()
	if _, err := backup.Take(ctx, b.client(t).Admin(), dir, backup.Options{Program: "e2e"}); err != nil {
		if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
			t.Errorf("a backup failed with %v and left %v", err, left)
		}
		return "", err
	}
	r, err := backup.Verify(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of %d shards, silent for %d us", r.Bytes(), len(r.Manifest.Shards), r.Held)
	return dir, nil
}

// restore starts a cluster of so many nodes of each kind from a backup.
func restore(t *testing.T, from string, nodes uint64) *world {
	t.Helper()
	cfg := cluster.Config{Dir: t.TempDir(), Coordinators: int(nodes), Partitions: int(nodes)}
	plan := backup.Plan{ClusterID: backup.NewClusterID(), MakeCoordinators: map[uint64]string{}, MakeNodes: map[uint64]string{}}
	for id := uint64(1); id <= nodes; id++ {
		plan.Coordinators, plan.Nodes = append(plan.Coordinators, id), append(plan.Nodes, id)
		plan.MakeCoordinators[id] = filepath.Join(cfg.Dir, fmt.Sprintf("coordinator-%d", id))
		plan.MakeNodes[id] = filepath.Join(cfg.Dir, fmt.Sprintf("partition-%d", id))
	}
	if _, err := backup.Restore(from, plan); err != nil {
		t.Fatal(err)
	}
	return ownCluster(t, cfg)
}

// audit holds a restored cluster to what holds at any moment of the bank, and goes on
// with it.
func (b *bank) audit(t *testing.T, w *world, epochs map[string]uint32) {
	t.Helper()
	ctx := withPatience(t)
	c := w.client(t)
	// What was decided at the cut, or is aborted since, reaches the shards in a moment.
	for _, id := range b.ids {
		eventually(t, id+" is complete", func() error {
			if left := w.describe(t, id).GetCompleting(); len(left) > 0 {
				return fmt.Errorf("%d transactions are not", len(left))
			}
			return nil
		})
	}
	for _, topic := range []string{transfers, inbox, copied} {
		for i := range w.partitions(t, topic) {
			eventually(t, "nothing is undecided", func() error {
				if s := w.status(t, topic, i); s.GetStableEnd() != s.GetAppliedEnd() {
					return fmt.Errorf("%s/%d: %v", topic, i, s)
				}
				return nil
			})
		}
	}
	sum, count := 0, 0
	for _, v := range w.readCommitted(t, c, transfers) {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		sum, count = sum+n, count+1
	}
	if sum != 0 || count == 0 || count%2 != 0 {
		t.Errorf("%d transfers have the sum %d", count, sum)
	}
	done := w.readCommitted(t, c, copied)
	if at := w.groupTotal(t, copiers, inbox, inboxParts); int(at) != len(done) || len(done) == 0 {
		t.Errorf("the copiers have read %d records and written %d", at, len(done))
	}
	for _, id := range b.ids {
		if got := w.describe(t, id).GetEpoch(); got <= epochs[id] {
			t.Errorf("%s has epoch %d, and had %d in the old cluster", id, got, epochs[id])
		}
	}
	// The group goes on where it was, under a producer of the same id.
	in, err := c.Consume(ctx, copiers, []string{inbox})
	if err != nil {
		t.Fatal(err)
	}
	out := producer(t, c, "copier")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var copying sync.WaitGroup
	copying.Go(func() { _ = copyAll(ctx, in, out) })
	tx := begin(t, producer(t, c, b.ids[0]))
	send(t, tx, inbox, "the last one")
	commit(t, tx)
	want := w.readCommitted(t, c, inbox)
	eventually(t, "everything is copied", func() error {
		if got := w.readCommitted(t, c, copied); len(got) < len(want) {
			return fmt.Errorf("%d of %d", len(got), len(want))
		}
		return nil
	})
	stop()
	copying.Wait()
	wantValues(t, "copies", w.readCommitted(t, c, copied), want...)
}

// A backup has everything or nothing of each transaction, and a cluster that begins
// with it goes on: also where nodes die while it is taken, and where the new cluster
// has other nodes.
func TestBackupsHoldWholeTransactions(t *testing.T) {
	t.Parallel()
	w := ownCluster(t, cluster.Config{})
	b := openBank(t, w)
	// A backup of nothing would show nothing.
	eventually(t, "something is copied and transferred", func() error {
		if w.groupTotal(t, copiers, inbox, inboxParts) == 0 || len(w.readCommitted(t, b.client(t), transfers)) == 0 {
			return errors.New("nothing is yet")
		}
		return nil
	})
	// It is open at the cut; nobody will ever see it, and it holds nobody back.
	open := begin(t, producer(t, w.client(t), "undecided"))
	b.ids = append(b.ids, "undecided")
	send(t, open, transfers, "1000000")
	epochs := map[string]uint32{}
	for _, id := range b.ids {
		epochs[id] = w.describe(t, id).GetEpoch()
	}
	first, err := b.backup(t)
	if err != nil {
		t.Fatal(err)
	}
	abort(t, open)

	// Nodes die while backups are taken.
	last := first
	rng := rand.New(rand.NewPCG(1, 1))
	for _, place := range []string{shardLeader, coordinatorLeader} {
		victim := w.victim(t, place, rng)
		var killed sync.WaitGroup
		killed.Go(func() { _ = victim.Kill() })
		dir, err := b.backup(t)
		killed.Wait()
		if err != nil {
			t.Logf("no backup without the %s: %v", place, err)
		} else {
			last = dir
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		if err := victim.AwaitServing(withPatience(t)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a backup after all", func() error {
		dir, err := b.backup(t)
		if err == nil {
			last = dir
		}
		return err
	})
	b.close()
	for _, n := range w.Nodes() { // the machine is small
		_ = n.Kill()
	}
	b.audit(t, restore(t, first, 3), epochs)
	b.audit(t, restore(t, last, 1), epochs)
}

// What is there is not written over.
func TestBackupRefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Take(t.Context(), nil, dir, backup.Options{}); err == nil {
		t.Error("taken")
	}
	if _, err := backup.Describe(dir); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("described: %v", err)
	}
}
