package raftstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

// BenchmarkIdleGroups measures what groups cost that do nothing: an operation is
// one second of three nodes with the default ticks, so the time of an operation,
// divided by three, is the part of a core that a node spends. Messages cross
// encoded, but nobody's network or wake-ups are in it.
func BenchmarkIdleGroups(b *testing.B) {
	for _, groups := range []int{10, 500} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) { benchmarkIdle(b, groups) })
	}
}

func benchmarkIdle(b *testing.B, groups int) {
	queue := memtransport.NewQueue(nil)
	stores := map[raftstore.NodeID]*raftstore.Store{}
	for id := raftstore.NodeID(1); id <= 3; id++ {
		s, err := raftstore.Open(raftstore.Config{NodeID: id, Log: memlog.New(nil), Transport: queue.Transport(id), Manual: true})
		if err != nil {
			b.Fatal(err)
		}
		for g := range groups {
			if _, err := s.CreateGroup(raftstore.GroupConfig{
				ID: raftstore.GroupID(g + 1), Members: []raftstore.NodeID{1, 2, 3}, Machine: &chain{}, RetainLog: true,
			}); err != nil {
				b.Fatal(err)
			}
		}
		stores[id] = s
	}
	const second = int(time.Second / (50 * time.Millisecond))
	run := func(ticks int) {
		for range ticks {
			for id := raftstore.NodeID(1); id <= 3; id++ {
				stores[id].Tick()
			}
			for busy := true; busy; {
				for id := raftstore.NodeID(1); id <= 3; id++ {
					for stores[id].Turn() {
					}
				}
				sent := queue.Take()
				for _, e := range sent {
					stores[e.To].Deliver(e.Group, e.Raft)
				}
				busy = len(sent) > 0
			}
		}
	}
	count := func() (messages, frames uint64) {
		for _, s := range stores {
			m := s.Metrics()
			messages, frames = messages+m.MessagesSent, frames+m.FramesSent
		}
		return messages, frames
	}
	run(3 * second)
	messages, frames := count()
	for b.Loop() {
		run(second)
	}
	m, f := count()
	b.ReportMetric(float64(m-messages)/float64(b.N), "messages/op")
	b.ReportMetric(float64(f-frames)/float64(b.N), "frames/op")
}
