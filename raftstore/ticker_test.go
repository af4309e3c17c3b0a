package raftstore

import (
	"testing"
	"time"
)

// TestTickerKeepsItsRhythm: ticks that nobody took in time are one tick, and the
// next comes when it would have come anyway.
func TestTickerKeepsItsRhythm(t *testing.T) {
	t.Parallel()
	began := time.UnixMilli(0)
	ticks := ticker{interval: 10, next: began.Add(10)}
	for _, step := range []struct {
		at  time.Duration
		due bool
	}{{0, false}, {9, false}, {10, true}, {10, false}, {19, false}, {24, true}, {29, false}, {30, true}, {75, true}, {75, false}, {79, false}, {80, true}} {
		if due := ticks.due(began.Add(step.at)); due != step.due {
			t.Errorf("due at %d: %t", step.at, due)
		}
	}
	if wait := ticks.wait(began.Add(83)); wait != 7 {
		t.Errorf("%d to the next tick", wait)
	}
	if wait := ticks.wait(began.Add(5)); wait != 10 || ticks.due(began.Add(14)) || !ticks.due(began.Add(15)) {
		t.Errorf("%d to the next tick after the clock was set back", wait)
	}
}
