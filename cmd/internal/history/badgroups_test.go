package history

import "testing"

// further is one more transaction of the flow's worker, with the moves it is
// given.
func (s *scene) further(number uint64, moves ...Move) *Txn {
	f := s.worker.Begin("flow", TxID{3, 0, number})
	f.SendOffsets("g", moves)
	return f
}

// TestBadOffsets: positions that move in other ways than by commits.
func TestBadOffsets(t *testing.T) {
	t.Parallel()
	testBadScenes(t, []badScene{
		{"two transactions consume the same input", func(s *scene) {
			s.more(func() { s.end(s.further(3, Move{in0, 1, 2}).Commit, "f", Committed) })
		}, "I7 lost-update"},
		{"inputs are passed over", func(s *scene) {
			s.remove(out0, 0)
			s.event("moves d").Group.Name = "other"
			s.event("fetched d").Group.Positions[0].Offset = -1
		}, "I2 lost-write, I4 torn, I7 lost-update, I7 lost-write, I7 poll-skip"},
		{"the final position is behind", func(s *scene) { s.h.Audit.Offsets[0].Offset = 1 }, "I4 torn, I7 lost-update"},
		{"the final position is missing", func(s *scene) { s.h.Audit.Offsets = s.h.Audit.Offsets[1:] }, "I4 torn, I7 lost-update"},
		{"the final position is that of an aborted transaction", func(s *scene) {
			s.more(func() { s.end(s.further(3, Move{in0, 2, 5}).Abort, "f", Aborted) })
			s.h.Audit.Offsets[0].Offset = 5
		}, "I7 lost-update"},
		{"nobody has committed the final position", func(s *scene) { s.h.Audit.Offsets[1].Offset = 7 }, "I7 lost-update"},
		{"a plain commit is lost", func(s *scene) { s.h.Audit.Offsets[1].Offset = 3 }, "I7 lost-update"},
		{"an old position is read", func(s *scene) { s.event("fetched e").Group.Positions[0].Offset = 1 }, "I7"},
		{"a position is read as never committed", func(s *scene) { s.event("fetched e").Group.Positions[0].Offset = -1 }, "I7"},
		{"a position is read before anybody asked for it", func(s *scene) { s.event("fetched").Group.Positions[0].Offset = 1 }, "I7"},
		{"a position is read that an aborted transaction asked for", func(s *scene) {
			s.more(func() {
				s.end(s.further(3, Move{in0, 2, 3}).Abort, "f", Aborted)
				s.fetched("fetched f", "g", in0, 3)
			})
		}, "I7"},
		{"an output is made by a transaction that did not move past its input", func(s *scene) {
			s.event("send e0").Value.Source.Offset = 0
			s.log(out0).Records[1].Value.Source.Offset = 0
		}, "I7, I7 duplicate, I7 lost-write"},
		{"an input has two outputs", func(s *scene) {
			s.more(func() { s.send(s.e, "e1", out0, 0, Source{Known: true, Partition: 0, Offset: 1}) })
			s.stored(out0, txE, 1, StatusVisible, s.v["e1"])
		}, "I7 duplicate"},
		{"an input has no output", func(s *scene) {
			s.event("send e0").Value.Source = Source{}
			s.log(out0).Records[1].Value.Source = Source{}
		}, "I7 lost-write"},
		{"an output was made of something that is not visible", func(s *scene) {
			s.event("send e0").Value.Source.Offset = 7
			s.log(out0).Records[1].Value.Source.Offset = 7
		}, "I3 G1a, I7, I7 lost-write"},
		{"an output was made of nothing", func(s *scene) {
			s.event("send e0").Value.Source.Partition = 7
			s.log(out0).Records[1].Value.Source.Partition = 7
		}, "I3 phantom, I7 lost-write"},
		{"an output is visible, and the position has not moved", func(s *scene) {
			s.h.Audit.Offsets[0].Offset = 1
		}, "I4 torn, I7 lost-update"},
		{"something is never consumed", func(s *scene) {
			s.more(func() { s.send(s.plain, "i2", in0, 0, Source{}) })
			s.stored(in0, inputs, 2, StatusVisible, s.v["i2"])
		}, "I11 unseen"},
	})
}

// TestOffsetsTellHowACommitEnded: a transaction that wrote nothing is known by
// what it did to a position.
func TestOffsetsTellHowACommitEnded(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.h.Rules = Rules{}
	s.more(func() {
		s.further(3, Move{in0, 2, 3}).Commit()
		s.further(4, Move{in0, 3, 5}).Commit()
	})
	s.h.Audit.Offsets[0].Offset = 5
	r := Check(s.h)
	if r.Total != 0 || r.Stats.Resolved != 2 || r.Stats.Unresolved != 0 {
		t.Errorf("%v, %+v", r.Violations, r.Stats)
	}
	s.h.Audit.Offsets[0].Offset = 2
	if r := Check(s.h); r.Total != 0 || r.Stats.Unresolved != 2 {
		t.Errorf("not committed: %v, %+v", r.Violations, r.Stats)
	}
}

// TestTwoCommitsOfOnePosition: two members asked for a move from the same
// position, neither heard how it ended, and the one that went farther is what
// happened: the next member began there. Simulated seed 202611231604.
func TestTwoCommitsOfOnePosition(t *testing.T) {
	t.Parallel()
	commit := func(s *scene, client uint32, o Outcome, m Move) {
		call := s.rec.Session(client).CommitOffsets("passers", []Move{m})
		if o != Unknown {
			call.Done(o, "")
		}
	}
	s := newScene()
	s.more(func() {
		commit(s, 11, Committed, Move{bank0, 0, 1})
		commit(s, 11, Unknown, Move{bank0, 1, 2})
		commit(s, 12, Unknown, Move{bank0, 1, 4})
		commit(s, 13, Committed, Move{bank0, 4, 5})
	})
	s.h.Audit.Offsets = append(s.h.Audit.Offsets, GroupPosition{Group: "passers", Partition: bank0, Offset: 5})
	if r := Check(s.h); r.Total != 0 {
		t.Errorf("%v", r.Violations)
	}
	// Not if nobody asked for the longer way.
	s.h.Events[len(s.h.Events)-3].Group.Moves[0].Next = 3
	if r := Check(s.h); r.Total != 1 || r.Violations[0].Anomaly != AnomalyPollSkip {
		t.Errorf("a gap: %v", r.Violations)
	}
}
