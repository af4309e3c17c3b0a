package history

import "testing"

// TestBadReads: what a reader must not be shown, or not in this way.
func TestBadReads(t *testing.T) {
	t.Parallel()
	testBadScenes(t, []badScene{
		{"a reader skips", func(s *scene) {
			r := s.event("read bank/0 again").Read
			r.From = 3
		}, "I2 poll-skip"},
		{"a reader goes back", func(s *scene) {
			r := s.event("read bank/0 again").Read
			r.From, r.Seen = 1, []Seen{{1, s.v["a1"]}, r.Seen[0]}
		}, "I1 nonmonotonic-poll"},
		{"a run is in the wrong order", func(s *scene) {
			r := s.event("read bank/0").Read
			r.Seen[0], r.Seen[1] = r.Seen[1], r.Seen[0]
		}, "I1 nonmonotonic-poll, I2 lost-write"},
		{"a run shows more than its bounds", func(s *scene) {
			s.event("read bank/0").Read.Next = 1
			s.event("read bank/0 again").Read.From = 1
		}, "I1 nonmonotonic-poll, I2 lost-write"},
		{"a record is left out", func(s *scene) {
			s.event("read bank/0").Read.Seen = s.event("read bank/0").Read.Seen[1:]
		}, "I2 lost-write"},
		{"a record is left out at the end of a run", func(s *scene) {
			s.event("read bank/0").Read.Seen = s.event("read bank/0").Read.Seen[:1]
		}, "I2 lost-write"},
		{"two readers see different records at one offset", func(s *scene) {
			s.event("read everything").Read.Seen[1].Value = s.v["a0"]
		}, "I2 inconsistent-offsets"},
		{"a reader sees a record at another offset than the log has it", func(s *scene) {
			s.event("read bank/0 again").Read.Seen[0].Offset = 2
		}, "I2 inconsistent-offsets, I2 lost-write"},
		{"an aborted record is shown", func(s *scene) {
			r := s.event("read bank/0 again").Read
			r.Seen = []Seen{{2, s.v["b0"]}, r.Seen[0]}
		}, "I3 G1a"},
		{"a record is shown of which nothing tells that it was committed", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", out0, 0, Source{})
				f.Commit()
				s.worker.Reader(ReadCommitted).Read(out0, 0, 3, []Seen{{0, s.v["d0"]}, {1, s.v["e0"]}, {2, s.v["f0"]}})
			})
			s.h.Rules = Rules{}
			s.stored(out0, TxID{3, 0, 3}, 0, StatusOpen, s.v["f0"])
		}, "I3 G1a, I8"},
		{"a record is shown before anybody asked to commit it", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", out0, 0, Source{})
				s.worker.Reader(ReadCommitted).Read(out0, 0, 3, []Seen{{0, s.v["d0"]}, {1, s.v["e0"]}, {2, s.v["f0"]}})
				s.end(f.Commit, "f", Committed)
			})
			s.stored(out0, TxID{3, 0, 3}, 0, StatusVisible, s.v["f0"])
		}, "I3 precommitted-read"},
		{"a record is shown before it was sent", func(s *scene) {
			s.more(func() { s.send(s.plain, "i2", in0, 0, Source{}) })
			r := s.event("read e").Read
			r.Seen = append(r.Seen, Seen{2, s.v["i2"]})
			r.Next = 3
			s.stored(in0, inputs, 2, StatusVisible, s.v["i2"])
			s.h.Rules.Flows = nil
		}, "I3 phantom"},
		{"a record is shown that nobody sent", func(s *scene) {
			s.event("read bank/0").Read.Seen[0].Value.Amount++
		}, "I2 inconsistent-offsets, I3 phantom"},
		{"read_uncommitted shows what is lost later", func(s *scene) {
			s.remove(bank0, 2)
		}, "I12 lost-write"},
		{"read_uncommitted leaves a record out", func(s *scene) {
			s.event("read everything").Read.Seen = s.event("read everything").Read.Seen[1:]
		}, "I2 lost-write"},
		{"information flows in a circle", func(s *scene) {
			// f reads what g wrote, and g what f wrote, before either was committed.
			s.more(func() {
				f, g := s.worker.Begin("flow", TxID{3, 0, 3}), s.worker.Begin("flow", TxID{3, 0, 4})
				s.send(f, "f0", out0, 0, Source{})
				s.send(g, "g0", out0, 0, Source{})
				kf, kg := f.Commit(), g.Commit()
				r := s.worker.Reader(ReadCommitted)
				r.Position(out0, 2)
				r.ReadIn(g, out0, 2, 3, []Seen{{2, s.v["f0"]}})
				r.ReadIn(f, out0, 3, 4, []Seen{{3, s.v["g0"]}})
				kf.Done(Committed, "")
				kg.Done(Committed, "")
			})
			s.stored(out0, TxID{3, 0, 3}, 0, StatusVisible, s.v["f0"])
			s.stored(out0, TxID{3, 0, 4}, 0, StatusVisible, s.v["g0"])
		}, "I3 G1c"},
	})
}

// TestBadReadsWithoutAudit: readers are compared with each other and with what
// was answered.
func TestBadReadsWithoutAudit(t *testing.T) {
	t.Parallel()
	without := func(f func(s *scene)) func(s *scene) {
		return func(s *scene) {
			s.h.Audit = nil
			f(s)
		}
	}
	again := func(s *scene, seen ...Seen) {
		s.more(func() { s.worker.Reader(ReadCommitted).Read(bank0, 0, 4, seen) })
	}
	testBadScenes(t, []badScene{
		{"nothing is wrong", without(func(s *scene) {
			again(s, Seen{0, s.v["a0"]}, Seen{1, s.v["a1"]}, Seen{3, s.v["c0"]})
		}), ""},
		{"another reader misses a record", without(func(s *scene) { again(s, Seen{0, s.v["a0"]}, Seen{3, s.v["c0"]}) }), "I2 lost-write"},
		{"another reader is shown other records", without(func(s *scene) {
			again(s, Seen{0, s.v["a1"]}, Seen{1, s.v["a1"]}, Seen{3, s.v["c0"]})
		}), "I2 inconsistent-offsets"},
		{"an aborted record is shown", without(func(s *scene) {
			s.event("read bank/0 again").Read.Seen = []Seen{{2, s.v["b0"]}, {3, s.v["c0"]}}
		}), "I13, I3 G1a"},
		{"two records are acknowledged at one offset", without(func(s *scene) { s.event("ack c0").Offset = 1 }), "I1 nonmonotonic-send, I2 inconsistent-offsets"},
		{"amounts do not add up", without(func(s *scene) {
			s.event("send a0").Value.Amount = 0
			s.event("read bank/0").Read.Seen[0].Value.Amount = 0
			s.event("read everything").Read.Seen[0].Value.Amount = 0
		}), "I4 bank"},
		{"a position was overwritten", without(func(s *scene) { s.event("moves e").Group.Moves[0].From = 0 }), "I7 lost-update"},
	})
}
