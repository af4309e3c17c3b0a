package history

import "testing"

// TestBadLogs: what is wrong with the final logs, or between them and what was
// acknowledged.
func TestBadLogs(t *testing.T) {
	t.Parallel()
	testBadScenes(t, []badScene{
		{"a record is visible twice", func(s *scene) {
			s.stored(bank0, txA, 2, StatusVisible, s.v["a0"])
		}, "I1 duplicate"},
		{"a record is stored twice, under one sequence", func(s *scene) {
			s.stored(bank0, txA, 1, StatusVisible, s.v["a1"])
		}, "I1 duplicate"},
		{"a sequence is left out", func(s *scene) {
			s.log(bank0).Records[1].Sequence = 2
		}, "I1"},
		{"sequences begin late", func(s *scene) {
			s.log(bank1).Records[0].Sequence = 1
		}, "I1"},
		{"two records change places", func(s *scene) {
			r := s.log(bank0).Records
			r[0].Value, r[1].Value = r[1].Value, r[0].Value
		}, "I1 int-nonmonotonic-send, I2 inconsistent-offsets"},
		{"two records at one offset", func(s *scene) {
			s.more(func() {
				s.send(s.plain, "i2", in0, 0, Source{})
			})
			s.h.Rules.Flows = nil
			s.stored(in0, inputs, 2, StatusVisible, s.v["i2"])
			s.log(in0).Records[2].Offset = 1
			s.log(in0).End, s.log(in0).Stable = 2, 2
		}, "I2 inconsistent-offsets, I2 lost-write"},
		{"a record above the end", func(s *scene) {
			s.log(out0).End, s.log(out0).Stable = 1, 1
		}, "I11 unseen, I12 lost-write, I2 inconsistent-offsets"},
		{"an acknowledged record of a committed transaction is missing", func(s *scene) {
			s.remove(bank1, 0)
		}, "I12 lost-write, I2 lost-write, I4 bank, I4 torn"},
		{"an acknowledged record of a committed transaction is hidden", func(s *scene) {
			s.log(bank1).Records[0].Status = StatusHidden
		}, "I12 lost-write, I2 lost-write, I4 bank, I4 torn"},
		{"a record of an unanswered commit is missing that nobody had heard of", func(s *scene) {
			s.remove(bank1, 1)
			s.event("read bank/1").Read.Seen = s.event("read bank/1").Read.Seen[:1]
		}, "I4 bank, I4 torn"},
		{"an acknowledged offset belongs to another record", func(s *scene) {
			s.event("ack a1").Offset = 3
		}, "I1 nonmonotonic-send, I2 inconsistent-offsets"},
		{"a record of an aborted transaction was acknowledged where another is", func(s *scene) {
			s.remove(bank0, 2)
			s.event("read everything").Read.Seen[2] = s.event("read everything").Read.Seen[3]
			s.event("read everything").Read.Seen = s.event("read everything").Read.Seen[:3]
			s.event("ack b0").Offset = 3
		}, "I1 nonmonotonic-send, I2 inconsistent-offsets"},
		{"a record is acknowledged at two offsets", func(s *scene) {
			s.more(func() { s.ack(s.a, "a1", bank0, 9) })
		}, "I2 inconsistent-offsets"},
		{"a later record comes before what had been acknowledged", func(s *scene) {
			s.more(func() {
				s.send(s.plain, "i2", in0, 0, Source{})
				s.ack(s.plain, "i2", in0, 0)
			})
			s.h.Rules.Flows = nil
		}, "I1 int-nonmonotonic-send, I12 lost-write, I2 inconsistent-offsets"},
		{"an acknowledged record outside of transactions is missing", func(s *scene) {
			s.more(func() {
				s.send(s.plain, "i2", in0, 0, Source{})
				s.ack(s.plain, "i2", in0, -1)
			})
		}, "I12 lost-write"},
		{"an acknowledged record outside of transactions is missing, and its offset lies above the end", func(s *scene) {
			s.more(func() {
				s.send(s.plain, "i2", in0, 0, Source{})
				s.ack(s.plain, "i2", in0, 2)
			})
		}, "I12 lost-write"},
		{"a record outside of transactions is hidden", func(s *scene) {
			s.more(func() { s.send(s.plain, "i2", in0, 0, Source{}) })
			s.stored(in0, inputs, 2, StatusHidden, s.v["i2"])
		}, "I2 lost-write"},
		{"a record of an aborted transaction is visible", func(s *scene) {
			s.log(bank0).Records[2].Status = StatusVisible
		}, "I13, I2 lost-write, I3 G1a, I5"},
		{"a record is visible of a transaction that nobody asked to commit", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", bank1, 0, Source{})
			})
			s.stored(bank1, TxID{3, 0, 3}, 0, StatusVisible, s.v["f0"])
		}, "I3 G1a"},
		{"a record is visible that was refused", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", bank1, 0, Source{})
				s.send(f, "f1", bank1, 0, Source{})
				f.Refused(bank1, s.v["f1"])
				s.end(f.Commit, "f", Committed)
			})
			s.stored(bank1, TxID{3, 0, 3}, 0, StatusVisible, s.v["f0"])
			s.stored(bank1, TxID{3, 0, 3}, 1, StatusVisible, s.v["f1"])
		}, "I3"},
		{"a record that nobody sent", func(s *scene) {
			v := s.v["i1"]
			v.Index = 2
			s.stored(in0, inputs, 2, StatusVisible, v)
		}, "I11 unseen, I3 phantom"},
		{"a record in another partition than it was sent to", func(s *scene) {
			s.stored(bank1, txA, 1, StatusVisible, s.v["a1"])
		}, "I3 phantom"},
		{"a record that was changed on the way", func(s *scene) {
			s.log(bank0).Records[0].Value.Amount = 1_000_000
		}, "I2 inconsistent-offsets, I2 lost-write, I3 phantom, I4 bank, I4 torn"},
		{"a record is stored under another transaction", func(s *scene) {
			s.log(bank1).Records[1].TxID = TxID{1, 0, 3}
		}, "I3"},
		{"a record outside of transactions is stored as one of a transaction", func(s *scene) {
			s.log(in0).Records[0].TxID = TxID{4, 0, 1}
			s.log(in0).Records[1].TxID = TxID{4, 0, 1}
		}, "I3"},
		{"a plain stream is stored under two producers", func(s *scene) {
			s.log(in0).Records[1].TxID, s.log(in0).Records[1].Sequence = TxID{Producer: 5}, 0
		}, "I3"},
		{"some partitions have committed, one is undecided", func(s *scene) {
			s.log(bank1).Records[1].Status, s.log(bank1).Stable = StatusOpen, 1
			s.event("read bank/1").Read.Seen, s.event("read bank/1").Read.Next = s.event("read bank/1").Read.Seen[:1], 1
		}, "I11, I4 bank, I4 torn"},
		{"amounts do not add up", func(s *scene) {
			s.h.Rules.Banks = []string{"bank", "out"}
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", bank1, 5, Source{})
				s.end(f.Commit, "f", Committed)
				r := s.worker.Reader(ReadCommitted)
				r.Read(bank1, 0, 3, []Seen{{0, s.v["a2"]}, {1, s.v["c1"]}, {2, s.v["f0"]}})
			})
			s.stored(bank1, TxID{3, 0, 3}, 0, StatusVisible, s.v["f0"])
		}, "I4 bank"},
	})
}

// TestBadEnds: LSO, ends, and what never ends.
func TestBadEnds(t *testing.T) {
	t.Parallel()
	testBadScenes(t, []badScene{
		{"the LSO is above the end", func(s *scene) { s.log(out0).Stable = 3 }, "I8"},
		{"the LSO is below the start", func(s *scene) {
			s.h.Rules.Flows = nil
			l := s.log(out0)
			l.Start, l.Stable = 2, 1
			l.Records = nil
		}, "I11, I8"},
		{"the LSO stays below the end", func(s *scene) { s.log(out0).End = 3 }, "I11"},
		{"a transaction stays open in a shard", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", out0, 0, Source{})
			})
			s.stored(out0, TxID{3, 0, 3}, 0, StatusOpen, s.v["f0"])
		}, "I11"},
		{"a transaction stays open at the coordinator", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", out0, 0, Source{})
			})
			s.stored(out0, TxID{3, 0, 3}, 0, StatusHidden, s.v["f0"])
			s.decide(TxID{3, 0, 3}, Open)
		}, "I11"},
		{"a committed record is above the LSO", func(s *scene) {
			s.h.Rules.Flows = nil
			s.log(out0).Stable = 1
		}, "I11, I11 unseen"},
		{"the LSO of a node goes back", func(s *scene) {
			s.more(func() { s.rec.Ends("node 2", bank0, Ends{Stable: 3, End: 4}) })
		}, "I8"},
		{"the start of a node goes back", func(s *scene) {
			s.event("ends of reader").Ends.Start = 1
			s.trim(bank0, 1)
			s.more(func() {
				s.rec.Ends("node 2", bank0, Ends{Start: 1, Stable: 4, End: 4})
				s.rec.Ends("node 2", bank0, Ends{Stable: 4, End: 4})
			})
		}, "I8"},
		{"the start of a log goes back", func(s *scene) { s.event("ends of node").Ends.Start = 1 }, "I8"},
		{"a node tells of more than there is in the end", func(s *scene) { s.event("ends of node").Ends.End = 5 }, "I8"},
		{"a node tells of an LSO that was taken back", func(s *scene) {
			s.h.Rules = Rules{}
			s.log(bank0).End, s.log(bank0).Stable = 5, 3
			s.event("read bank/0 again").Read.Next, s.event("read bank/0 again").Read.Seen = 3, nil
			s.event("ends of reader").Ends.Stable = 3
		}, "I8"},
		{"a node tells of an LSO above its end", func(s *scene) { s.event("ends of node").Ends.End = 3 }, "I8"},
		{"a reader was shown something above the LSO", func(s *scene) { s.event("ends of reader").Ends.Stable = 3 }, "I8"},
		{"a reader has moved past the final LSO", func(s *scene) { s.event("read bank/0 again").Read.Next = 5 }, "I8"},
		{"two replicas differ", func(s *scene) { s.h.Audit.Replicas[1].Hash++ }, "I10"},
	})
}
