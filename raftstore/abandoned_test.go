package raftstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// heldViews is a log device that counts the views that nobody has closed, and makes one
// only when it is told to.
type heldViews struct {
	raftstore.LogStore
	asked, make chan struct{}
	open        atomic.Int32
}

type heldView struct {
	raftstore.LogView
	store *heldViews
}

func (h *heldViews) View(g raftstore.GroupID) (raftstore.LogView, error) {
	h.asked <- struct{}{}
	<-h.make
	v, err := h.LogStore.View(g)
	if err == nil {
		h.open.Add(1)
	}
	return heldView{v, h}, err
}

func (v heldView) Close() error {
	v.store.open.Add(-1)
	return v.LogView.Close()
}

// alone starts a group of one member, which leads.
func alone(t *testing.T, log raftstore.LogStore) *raftstore.Group {
	t.Helper()
	s, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: log, MinFreeBytes: -1, StallTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	g, err := s.CreateGroup(raftstore.GroupConfig{ID: 1, Members: []raftstore.NodeID{1}, Machine: &chain{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.WaitLeadership(t.Context(), func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestBackupThatNobodyWaitsFor: a view that was made for a caller who had gone was never
// closed, and the device kept everything from then on for as long as the process ran.
func TestBackupThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	h := &heldViews{LogStore: memlog.New(nil), asked: make(chan struct{}, 1), make: make(chan struct{})}
	g := alone(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-h.asked
		cancel()
	}()
	if b, err := g.Backup(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("backup %v, %v", b, err)
	}
	close(h.make)
	if _, err := g.Membership(t.Context()); err != nil { // the loop is past it
		t.Error(err)
	}
	if n := h.open.Load(); n != 0 {
		t.Errorf("%d views are left open", n)
	}
	b, err := g.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := h.open.Load(); n != 1 {
		t.Errorf("%d views are open for one backup", n)
	}
	b.Close()
}

// TestMembershipThatNobodyWaitsFor is for the race detector: the answer was read while
// the loop was writing it.
func TestMembershipThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	g := alone(t, memlog.New(nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 {
		if m, err := g.Membership(ctx); err != nil && len(m.Members) > 0 {
			t.Error("members beside an error")
		}
	}
}
