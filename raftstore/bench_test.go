package raftstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// BenchmarkPropose measures durable proposals to a group of three nodes in one
// process, each with a Pebble store on the real disk.
func BenchmarkPropose(b *testing.B) {
	for _, size := range []int{256, 10_000} {
		for _, proposers := range []int{1, 64} {
			b.Run(fmt.Sprintf("size=%d/proposers=%d", size, proposers), func(b *testing.B) {
				benchmarkPropose(b, size, proposers)
			})
		}
	}
}

func benchmarkPropose(b *testing.B, size, proposers int) {
	dir := b.TempDir()
	c := newCluster(b, raftstore.GroupConfig{RetainLog: true}, func(id raftstore.NodeID) raftstore.LogStore {
		s, err := pebblelog.Open(pebblelog.Config{Dir: fmt.Sprintf("%s/%d", dir, id)})
		if err != nil {
			b.Fatal(err)
		}
		return s
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lead := c.leader(ctx)
	data := make([]byte, size)
	g, before := c.groups[lead], c.stores[lead].Metrics()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for range proposers {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if _, _, err := g.Propose(ctx, data); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	after := c.stores[lead].Metrics()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(after.Syncs-before.Syncs)/float64(b.N), "fsyncs/entry")
	b.ReportMetric(float64(after.MessagesSent-before.MessagesSent)/float64(b.N), "msgs/entry")
}

// BenchmarkEntryRange is a reader that keeps up: what it gets is the entry in memory.
func BenchmarkEntryRange(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := newCluster(b, raftstore.GroupConfig{RetainLog: true}, memLogs(b))
	g := c.groups[c.leader(ctx)]
	_, index, err := g.Propose(ctx, make([]byte, 10_000))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(9_000)
	for b.Loop() {
		if data, err := g.EntryRange(index, 500, 9_000); err != nil || len(data) != 9_000 {
			b.Fatal(len(data), err)
		}
	}
}
