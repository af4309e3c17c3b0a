package sim

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestSeeds runs a few worlds and the seeds that once found something. The many
// are for `make sim`.
func TestSeeds(t *testing.T) {
	seeds := append(regressions(t), 1, 2, 3, 4, 5)
	if testing.Short() {
		seeds = seeds[len(seeds)-3:]
	}
	for _, seed := range seeds {
		for _, v := range Run(Draw(seed), nil).Violations {
			t.Errorf("seed %d: %s: %s\nrepro: oncelog sim --seed %d -v", seed, v.Invariant, v.Text, seed)
		}
	}
}

// regressions reads the seeds that found a bug: a number and what it was, per
// line.
func regressions(t *testing.T) (seeds []uint64) {
	f, err := os.Open("testdata/regressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		number, why, _ := strings.Cut(line, " ")
		seed, err := strconv.ParseUint(number, 10, 64)
		if err != nil || why == "" {
			t.Fatalf("%q: want a seed and what it found", line)
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

// TestSameSeedSameTrace: whatever does not follow from the seed, such as the order
// of a map, shows as a different hash sooner or later.
func TestSameSeedSameTrace(t *testing.T) {
	n := uint64(6)
	if testing.Short() {
		n = 2
	}
	hashes := map[uint64]uint64{}
	for seed := range n {
		a, b := Run(Draw(seed+100), nil), Run(Draw(seed+100), nil)
		if a.Hash != b.Hash || a.Events != b.Events {
			t.Errorf("seed %d: %016x after %d events, then %016x after %d", seed+100, a.Hash, a.Events, b.Hash, b.Events)
		}
		if other, ok := hashes[a.Hash]; ok {
			t.Errorf("seeds %d and %d have the same trace", other, seed+100)
		}
		hashes[a.Hash] = seed + 100
	}
}
