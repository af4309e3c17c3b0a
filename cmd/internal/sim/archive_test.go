package sim

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
)

const archived raftstore.GroupID = 7

// archiveCluster is three partition nodes that do not run.
func archiveCluster() (*cluster, []*node) {
	w := newWorld(1)
	c := newCluster(w, newNetwork(w, Reach{}), sizes{Partitions: 3}, Reach{}, slog.New(slog.DiscardHandler))
	return c, c.parts
}

// write has a node write entries of a term from an index on, each of which holds
// "index/term".
func write(t *testing.T, n *node, from, term uint64, count int) {
	t.Helper()
	var entries []*raftpb.Entry
	for i := range uint64(count) {
		entries = append(entries, raftEntry(from+i, term))
	}
	commit(t, n, func(b raftstore.LogBatch) { b.Append(archived, entries, from-1) })
}

func raftEntry(index, term uint64) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Data: fmt.Appendf(nil, "%d/%d", index, term)}
}

// checkpoint has a node write a checkpoint, after what is in the same batch before.
func checkpoint(t *testing.T, c *cluster, n *node, index, term uint64, before func(raftstore.LogBatch)) error {
	t.Helper()
	var kept error
	c.checkpoint = func(n *node, g raftstore.GroupID, s raftstore.Snapshot) { kept = c.keep(n, g, s) }
	commit(t, n, func(b raftstore.LogBatch) {
		if before != nil {
			before(b)
		}
		b.SetSnapshot(archived, raftstore.Snapshot{Index: index, Term: term})
	})
	return kept
}

// commit writes a batch as the running node would.
func commit(t *testing.T, n *node, fill func(raftstore.LogBatch)) {
	t.Helper()
	b := n.disk.open(n.proc).NewBatch()
	fill(b)
	if err := n.disk.log.Commit(b.(watchedBatch).LogBatch, true); err != nil {
		t.Fatal(err)
	}
}

func archivedLog(t *testing.T, c *cluster, upTo uint64) string {
	t.Helper()
	entries, ok := c.applied[groupKey{"p", uint64(archived)}].upTo(upTo)
	if !ok {
		t.Fatalf("an entry up to %d is missing", upTo)
	}
	var out []string
	for _, e := range entries {
		out = append(out, string(e.GetData()))
	}
	return strings.Join(out, " ")
}

// A leader of a later term writes at an index in vain, before or after the others
// commit there what an earlier one wrote (seeds 780175, 780804 and 775071).
func TestArchiveIsWhatWasCommitted(t *testing.T) {
	for _, late := range []bool{false, true} {
		c, nodes := archiveCluster()
		for _, n := range nodes {
			write(t, n, 1, 1, 2)
		}
		inVain := func() { write(t, nodes[2], 3, 2, 1) } // elected before it had entry 3, and cut off
		write(t, nodes[0], 3, 1, 1)
		write(t, nodes[1], 3, 1, 1)
		if !late {
			inVain()
		}
		for _, n := range nodes[:2] { // the leader of term 3 commits both
			write(t, n, 4, 3, 1)
		}
		if err := checkpoint(t, c, nodes[0], 4, 3, nil); err != nil {
			t.Fatal(err)
		}
		if late {
			inVain()
		}
		if got, want := archivedLog(t, c, 4), "1/1 2/1 3/1 4/3"; got != want {
			t.Errorf("late %v: archive %q, want %q", late, got, want)
		}
	}
}

// Each node compacts its log behind its own checkpoints; together they show all.
func TestArchiveGoesOnBehindCompaction(t *testing.T) {
	c, nodes := archiveCluster()
	for _, n := range nodes {
		write(t, n, 1, 1, 6)
	}
	for i, upTo := range []uint64{2, 4, 3} {
		if err := checkpoint(t, c, nodes[i], upTo, 1, nil); err != nil {
			t.Fatal(err)
		}
		commit(t, nodes[i], func(b raftstore.LogBatch) { b.Compact(archived, 1, upTo, 1) })
	}
	if err := checkpoint(t, c, nodes[0], 6, 1, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := archivedLog(t, c, 6), "1/1 2/1 3/1 4/1 5/1 6/1"; got != want {
		t.Errorf("archive %q, want %q", got, want)
	}
	if _, ok := c.applied[groupKey{"p", uint64(archived)}].upTo(7); ok {
		t.Error("an entry that nobody has written is there")
	}
}

// The log of a node that installs a snapshot says nothing about what is in that.
func TestArchiveTakesNothingFromReceivers(t *testing.T) {
	c, nodes := archiveCluster()
	write(t, nodes[0], 1, 1, 3)
	write(t, nodes[2], 1, 1, 2)
	write(t, nodes[2], 3, 2, 1)
	install := func(b raftstore.LogBatch) { b.Install(archived, 3, 1) }
	if err := checkpoint(t, c, nodes[2], 3, 1, install); err != nil {
		t.Fatal(err)
	}
	if err := checkpoint(t, c, nodes[0], 3, 1, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := archivedLog(t, c, 3), "1/1 2/1 3/1"; got != want {
		t.Errorf("archive %q, want %q", got, want)
	}
}

// Two nodes that apply different entries at one index are found out at once.
func TestArchiveFindsTwoCommittedLogs(t *testing.T) {
	c, nodes := archiveCluster()
	write(t, nodes[0], 1, 1, 3)
	write(t, nodes[1], 1, 1, 2)
	write(t, nodes[1], 3, 2, 2)
	if err := checkpoint(t, c, nodes[0], 3, 1, nil); err != nil {
		t.Fatal(err)
	}
	for _, at := range []uint64{3, 4} {
		if err := checkpoint(t, c, nodes[1], at, 2, nil); err == nil {
			t.Errorf("checkpoint at %d of another log: no error", at)
		}
	}
}
