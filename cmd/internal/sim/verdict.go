package sim

import (
	"time"

	"github.com/oncelog/oncelog/cmd/internal/history"
)

// Violation is something that must not happen.
type Violation struct {
	// Invariant is its name: of protocol.md section 10, or what the simulator
	// itself demands.
	Invariant string
	Text      string
}

// Verdict is the result of a seed.
type Verdict struct {
	Seed uint64
	// Hash is that of the trace: equal for equal seeds, plans and programs.
	Hash       uint64
	Violations []Violation
	Simulated  time.Duration
	Events     uint64
	Stats      Stats
	Reach      Reach
}

// Stats count what clients achieved.
type Stats struct {
	Records, Commits, Aborts, Unknown uint64
}

func (s *Stats) take(h *history.History) {
	for _, e := range h.Events {
		switch e.Kind {
		case history.KindSend:
			s.Records++
		case history.KindAnswer:
			switch e.Outcome {
			case history.Committed:
				s.Commits++
			case history.Aborted, history.NotCommitted, history.Fenced:
				s.Aborts++
			case history.Unknown:
				s.Unknown++
			default:
			}
		default:
		}
	}
}

// verdict sums up, and lets every task end.
func (s *simulation) verdict() Verdict {
	s.w.end()
	return Verdict{
		Seed: s.plan.Seed, Hash: s.w.trace.hash, Violations: s.found,
		Simulated: s.w.now, Events: s.w.steps, Stats: s.stats, Reach: s.reach,
	}
}
