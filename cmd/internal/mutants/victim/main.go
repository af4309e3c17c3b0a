// Command victim runs seeds of the simulator, one after the other, and writes a
// line about each. It is built by cmd/internal/mutants, with a bug planted in the
// code that it simulates, and has nothing in it that such a program does not need.
package main

import (
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/sim"
)

// line is what is written about a seed. It is read by cmd/internal/mutants.
type line struct {
	Seed       uint64          `json:"seed"`
	Violations []sim.Violation `json:"violations,omitempty"`
}

// Bounds of one seed, beyond which it has run away.
const (
	maxWall = 2 * time.Minute
	maxHeap = 3 << 30
)

func main() {
	start := flag.Uint64("start", 1, "the first seed")
	seeds := flag.Uint64("seeds", 1000, "how many")
	script := flag.String("script", "", "how to change each plan")
	verbose := flag.Bool("v", false, "log everything that happens to stderr")
	flag.Parse()
	change, ok := scripts[*script]
	if !ok {
		_, _ = os.Stderr.WriteString("no script " + *script + "\n")
		os.Exit(2)
	}
	var log *slog.Logger
	if *verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	sim.CollectRarely()
	out := json.NewEncoder(os.Stdout)
	var began, current atomic.Int64
	began.Store(time.Now().UnixNano())
	go watch(&began, &current, out)
	for seed := *start; seed-*start < *seeds; seed++ {
		current.Store(int64(seed))
		began.Store(time.Now().UnixNano())
		p := sim.Draw(seed)
		if change != nil {
			p = change(p)
		}
		v := sim.Run(p, log)
		if out.Encode(line{seed, v.Violations}) != nil {
			os.Exit(1) // whoever reads has gone
		}
	}
}

// watch ends the program when a seed takes too long or too much memory, which is
// how an endless loop shows.
func watch(began, current *atomic.Int64, out *json.Encoder) {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for range time.Tick(250 * time.Millisecond) {
		metrics.Read(heap)
		why := "it does not end"
		if heap[0].Value.Uint64() > maxHeap {
			why = "it takes all memory"
		} else if time.Since(time.Unix(0, began.Load())) < maxWall {
			continue
		}
		_ = out.Encode(line{uint64(current.Load()), []sim.Violation{{Invariant: "runaway", Text: why}}})
		os.Exit(1)
	}
}
