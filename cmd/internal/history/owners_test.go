package history

import "testing"

// TestOwners: commits of members that have lost the partition.
func TestOwners(t *testing.T) {
	t.Parallel()
	// rival takes the partition over, and the worker's third transaction commits
	// after that, with the moves of a member that knows where the position is.
	rival := func(between func(s *scene), commits bool) func(s *scene) {
		return func(s *scene) {
			s.h.Rules.Flows, s.h.Rules.Members = nil, true
			s.more(func() {
				other := s.rec.Session(8)
				other.FetchOffsets("g").Done([]Position{{in0, 2}})
				between(s)
				s.end(s.further(3, Move{in0, 2, 3}).Commit, "f", Committed)
				if commits {
					other.CommitOffsets("g", []Move{{in0, 3, 3}}).Failed("STALE_MEMBER")
				}
			})
			s.h.Audit.Offsets[0].Offset = 3
		}
	}
	nothing := func(*scene) {}
	back := func(s *scene) { s.fetched("back", "g", in0, 2) }
	testBadScenes(t, []badScene{
		{"a member that has lost the partition", rival(nothing, true), "I7"},
		{"a member that has taken it back", rival(back, true), ""},
		{"the other one only looks", rival(nothing, false), ""},
		{"nobody promises that reading positions is joining", func(s *scene) {
			rival(nothing, true)(s)
			s.h.Rules.Members = false
		}, ""},
		{"the other one takes over while the commit is under way", func(s *scene) {
			s.h.Rules.Flows, s.h.Rules.Members = nil, true
			s.more(func() {
				end := s.further(3, Move{in0, 2, 3}).Commit()
				other := s.rec.Session(8)
				other.FetchOffsets("g").Done([]Position{{in0, 3}})
				other.CommitOffsets("g", []Move{{in0, 3, 3}}).Done(Committed, "")
				end.Done(Committed, "")
			})
			s.h.Audit.Offsets[0].Offset = 3
		}, ""},
	})
}

// TestLuck: what a shard has let in and hidden later.
func TestLuck(t *testing.T) {
	t.Parallel()
	testBadScenes(t, []badScene{
		{"a record is stored again and hidden", func(s *scene) {
			s.stored(bank0, txA, NoSequence, StatusHidden, s.v["a0"])
		}, "I1 duplicate"},
		{"a record comes after one of a newer epoch", func(s *scene) {
			newer := TxID{1, 1, 1}
			s.more(func() {
				n := s.rec.Session(1).Begin("one", newer)
				s.send(n, "n0", bank1, 0, Source{})
				o := s.rec.Session(1).Begin("one", TxID{1, 0, 3})
				s.send(o, "o0", bank1, 0, Source{})
			})
			s.stored(bank1, newer, 0, StatusHidden, s.v["n0"])
			s.stored(bank1, TxID{1, 0, 3}, 0, StatusHidden, s.v["o0"])
		}, "I6"},
	})
}
