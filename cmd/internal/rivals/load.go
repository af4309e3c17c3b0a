package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/bench"
)

// load is what is asked of a system: values of a size, with so many appends under
// way that have no answer yet.
type load struct{ size, inFlight int }

var loads = []load{{256, 1}, {256, 16}, {256, 64}, {256, 1024}, {10_000, 64}}

func (l load) String() string { return fmt.Sprintf("%d B, %d in flight", l.size, l.inFlight) }

// warmUp runs before each measurement and is not part of it.
const warmUp = 300 * time.Millisecond

// measurement is one load of one system in one round.
type measurement struct {
	rate     float64 // appends per second
	p50, p99 time.Duration
}

// measure keeps a load up for a while. An append counts when its answer says that
// it is durable on a majority.
func measure(ctx context.Context, s system, l load, d time.Duration) (measurement, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	appends, err := s.appenders(ctx, l.inFlight)
	if err != nil {
		return measurement{}, err
	}
	begin := time.Now().Add(warmUp)
	end := begin.Add(d)
	times := make([]bench.Histogram, l.inFlight)
	failures := make(chan error, l.inFlight)
	var lanes sync.WaitGroup
	for i, fn := range appends {
		value := noise(l.size, i)
		lanes.Go(func() {
			for {
				sent := time.Now()
				if sent.After(end) {
					return
				}
				if err := fn(ctx, value); err != nil {
					failures <- err
					cancel()
					return
				}
				// Whole appends between begin and end: the ends cut as many off as they let in.
				if answered := time.Now(); answered.After(begin) && answered.Before(end) {
					times[i].Record(answered.Sub(sent))
				}
			}
		})
	}
	lanes.Wait()
	select {
	case err := <-failures:
		return measurement{}, err
	default:
	}
	total := &bench.Histogram{}
	for i := range times {
		total.Add(&times[i])
	}
	return measurement{
		rate: float64(total.Count()) / d.Seconds(), p50: total.Quantile(0.5), p99: total.Quantile(0.99),
	}, nil
}

// noise is what no codec makes smaller, the same in every run.
func noise(size, seed int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(seed)))
	out := make([]byte, size)
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	return out
}
