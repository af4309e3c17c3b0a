package chaos

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/history"
)

// Summary is what a session found.
type Summary struct {
	FirstSeed uint64
	// Runs that were made, with seeds that count up from the first.
	Runs int
	// Took is the time of all runs.
	Took time.Duration
	// Faults counts faults by their names.
	Faults map[string]int
	// Commits, Aborts and Unknown count answers to clients.
	Commits, Aborts, Unknown int
	// Stats add up what was checked.
	Stats history.Stats
	// Recovery is the longest time after which everybody had got on again.
	Recovery time.Duration
	// Violations of all runs.
	Violations []string
}

func (s *Summary) add(r *Result) {
	s.Runs++
	s.Took += r.Took
	for name, n := range r.Faults {
		s.Faults[name] += n
	}
	s.Commits += r.Commits
	s.Aborts += r.Aborts
	s.Unknown += r.Unknown
	s.Stats.Transactions += r.Stats.Transactions
	s.Stats.Records += r.Stats.Records
	s.Stats.ReadRecords += r.Stats.ReadRecords
	s.Stats.CoordinatorCalls += r.Stats.CoordinatorCalls
	s.Stats.Moves += r.Stats.Moves
	s.Stats.Replicas += r.Stats.Replicas
	s.Recovery = max(s.Recovery, r.Recovery)
	for _, v := range r.Violations {
		s.Violations = append(s.Violations, fmt.Sprintf("seed %d %s", r.Seed, v))
	}
}

// Injected returns the number of faults.
func (s *Summary) Injected() int {
	sum := 0
	for _, n := range s.Faults {
		sum += n
	}
	return sum
}

// LastSeed returns the seed of the last run.
func (s *Summary) LastSeed() uint64 { return s.FirstSeed + uint64(max(s.Runs, 1)) - 1 }

// Write prints the faults by kind and, last, one line of figures.
func (s *Summary) Write(w io.Writer) error {
	var kinds []string
	for _, name := range names(s.Faults) {
		kinds = append(kinds, fmt.Sprintf("%s %d", name, s.Faults[name]))
	}
	_, err := fmt.Fprintf(w, "faults  %s\n%s\n", strings.Join(kinds, ", "), s)
	return err
}

// String returns the figures in one line.
func (s *Summary) String() string {
	return fmt.Sprintf("chaos   %d runs, seeds %d to %d, %v, %d faults, %d transactions (%d commits, %d aborts, %d unknown), "+
		"%d records, %d read, %d coordinator calls, %d positions moved, %d replicas compared, recovery in %v at most, %d violations",
		s.Runs, s.FirstSeed, s.LastSeed(), s.Took.Round(time.Second), s.Injected(), s.Stats.Transactions, s.Commits, s.Aborts, s.Unknown,
		s.Stats.Records, s.Stats.ReadRecords, s.Stats.CoordinatorCalls, s.Stats.Moves, s.Stats.Replicas,
		s.Recovery.Round(time.Millisecond), len(s.Violations))
}
