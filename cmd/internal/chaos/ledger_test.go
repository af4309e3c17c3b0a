package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/history"
)

// TestLedger: lines are added, and what was there stays as it was.
func TestLedger(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "LEDGER.md")
	s := &Summary{FirstSeed: 7, Faults: map[string]int{}}
	s.add(&Result{Seed: 7, Took: 30 * time.Minute, Faults: map[string]int{"zombie": 2, "delay": 1}, Stats: history.Stats{Transactions: 5, Records: 9}})
	s.add(&Result{Seed: 8, Took: 15 * time.Minute, Faults: map[string]int{"zombie": 1}})
	begun := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	if err := s.Record(path, begun, "abc123"); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = "| 2026-03-04 05:06 | abc123 | chaos, real processes | 7–8 | 0.75 wall | " +
		"2 runs, 4 faults of 2 kinds, 5 transactions, 9 records | nothing |\n"
	if string(first) != ledgerHead+want {
		t.Errorf("the first line:\n%s", first)
	}
	// Somebody has added a word without a line feed.
	if err := os.WriteFile(path, append(first, "| by hand |"...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.add(&Result{Seed: 9, Violations: []string{"I2 lost | found\nmore of it", "b", "c", "d"}, Faults: map[string]int{}})
	if err := s.Record(path, begun, "def456"); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	added, ok := strings.CutPrefix(string(second), string(first)+"| by hand |\n")
	if !ok || strings.Count(added, "\n") != 1 || strings.Count(added, "|") != 8 {
		t.Errorf("the second line:\n%s", second)
	}
	if !strings.Contains(added, "4 violations: seed 9 I2 lost / found; seed 9 b; seed 9 c |") {
		t.Errorf("what was found: %s", added)
	}
}
