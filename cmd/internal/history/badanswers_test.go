package history

import (
	"strings"
	"testing"
)

// TestBadAnswers: what the coordinator, and clients, must not say.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	testBadScenes(t, []badScene{
		{"an outcome changes", func(s *scene) { s.event("told a").Outcome = Aborted }, "I13, I5, linearizable"},
		{"an abort becomes a commit", func(s *scene) { s.event("told b").Outcome = Committed }, "I13, I5, linearizable"},
		{"a client is told of a commit that is none", func(s *scene) {
			s.event("ended b").Outcome = Committed
			s.event("end b").Kind = KindCommit
		}, "I13, I5, linearizable"},
		{"a commit was said not to be one", func(s *scene) { s.event("ended d").Outcome = NotCommitted }, "I13, I3 G1a, I7, I7 poll-skip"},
		{"a commit was said to be fenced", func(s *scene) { s.event("ended e").Outcome = Fenced }, "I13, linearizable"},
		{"shards and coordinator disagree on a commit", func(s *scene) { s.decide(txE, Aborted) }, "I13, I3 G1a, I5, I7, I7 lost-update"},
		{"shards and coordinator disagree on an abort", func(s *scene) { s.decide(txB, Committed) }, "I13, I2 lost-write, I4 torn, I5"},
		{"the coordinator has two outcomes", func(s *scene) {
			s.h.Audit.Outcomes = append(s.h.Audit.Outcomes, TxOutcome{txE, Aborted})
		}, "I13, I3 G1a, I5, I7, I7 lost-update"},
		{"a zombie commits", func(s *scene) {
			s.more(func() {
				z := s.zombie.Begin("one", TxID{1, 0, 3})
				s.send(z, "z0", bank1, 0, Source{})
				s.end(z.Commit, "z", Committed)
			})
			s.stored(bank1, TxID{1, 0, 3}, 0, StatusVisible, s.v["z0"])
		}, "I6, linearizable"},
		{"an epoch is handed out twice", func(s *scene) {
			s.more(func() { s.init(s.zombie, "x", "one", TxID{Producer: 1, Epoch: 1}, TxID{}, Unknown) })
		}, "I9, linearizable"},
		{"an epoch goes back", func(s *scene) {
			s.event("inited 1 again").TxID.Epoch = 3
			s.more(func() { s.init(s.zombie, "x", "one", TxID{Producer: 1, Epoch: 2}, TxID{}, Unknown) })
		}, "I9, linearizable"},
		{"an epoch is left out", func(s *scene) { s.event("inited 1 again").TxID.Epoch = 2 }, "linearizable"},
		{"two ids have the same producer", func(s *scene) {
			s.more(func() { s.init(s.zombie, "x", "other", TxID{Producer: 1, Epoch: 2}, TxID{}, Unknown) })
		}, "I9"},
		{"a plain stream has the producer of an id", func(s *scene) { s.event("begin plain").TxID.Producer = 1 }, "I3, I9"},
		{"two plain streams have the same producer", func(s *scene) {
			s.more(func() { s.rec.Session(7).Plain(4) })
		}, "I9"},
		{"a transaction is begun twice", func(s *scene) {
			s.more(func() { s.zombie.Begin("one", txA) })
		}, "I9"},
		{"the last transaction is told wrong", func(s *scene) { s.event("inited 1 again").Previous.Outcome = Aborted }, "I13, I3 G1a"},
		{"a decided transaction is said to be open", func(s *scene) { s.event("told a again").Outcome = Open }, "linearizable"},
		{"a transaction is said to be unknown", func(s *scene) { s.event("told a again").Outcome = Invalid }, "linearizable"},
		{"an operator aborts what is committed", func(s *scene) {
			s.more(func() { s.zombie.AdminAbort("one").Done(txC) })
		}, "I13, I5, linearizable"},
		{"a fence tells of an older epoch", func(s *scene) {
			s.more(func() { s.zombie.Fence("one").Done(1, 0, TxID{}, Unknown) })
		}, "I9, linearizable"},
		{"a client is fenced by nobody", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", out0, 0, Source{})
				s.end(f.Commit, "f", Fenced)
			})
		}, "linearizable"},
		{"an init makes two epochs although its first attempt is remembered", func(s *scene) { s.duel(requestsKept - 1) }, "linearizable"},
	})
}

// duel is a call of InitTransactions that raises the epoch of "one" at once, hears
// nothing of it, and once more after others have.
func (s *scene) duel(others uint32) {
	s.more(func() {
		slow := s.zombie.Init("one") // epoch 2
		for epoch := range others {
			s.init(s.rec.Session(8), "x", "one", TxID{Producer: 1, Epoch: 3 + epoch}, TxID{}, Unknown)
		}
		slow.Done(1, 3+others, TxID{}, Unknown)
	})
}

// TestAllowedAnswers: what looks odd and is right.
func TestAllowedAnswers(t *testing.T) {
	t.Parallel()
	testBadScenes(t, []badScene{
		{"a deferred Abort after a Commit succeeds", func(s *scene) {
			s.more(func() { s.end(s.e.Abort, "e again", Aborted) })
		}, ""},
		{"an epoch is left out that somebody asked for without an answer", func(s *scene) {
			s.event("inited 2").Outcome, s.event("inited 2").TxID = Unknown, TxID{}
			s.event("init 2").TransactionalID = "one"
			s.event("inited 1 again").TxID.Epoch = 2
		}, ""},
		{"a fence finds that somebody else has taken over", func(s *scene) {
			s.more(func() { s.zombie.Fence("one").Done(1, 1, TxID{}, Unknown) })
		}, ""},
		{"a fence whose first attempt was not answered", func(s *scene) {
			s.more(func() {
				fence := s.zombie.Fence("one")
				s.init(s.rec.Session(8), "x", "one", TxID{Producer: 1, Epoch: 3}, TxID{}, Unknown)
				fence.Done(1, 3, TxID{}, Unknown)
			})
		}, ""},
		{"an init that was repeated when its first attempt was forgotten", func(s *scene) { s.duel(requestsKept) }, ""},
		{"an abort of which nothing had left the client", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", out0, 0, Source{})
				s.end(f.Abort, "f", Aborted)
				s.worker.Outcome("flow", TxID{3, 0, 3}).Done(Open, "")
			})
		}, ""},
		{"an empty transaction, which nobody else knows of", func(s *scene) {
			s.more(func() {
				s.init(s.rec.Session(8), "x", "flow", TxID{Producer: 3, Epoch: 1}, txE, Committed)
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.end(f.Commit, "f", Committed)
				s.worker.Outcome("flow", TxID{3, 0, 3}).Done(Aborted, "")
			})
		}, ""},
		{"a transaction of nobody in this history", func(s *scene) {
			s.more(func() { s.worker.Outcome("flow", TxID{3, 0, 90}).Done(Committed, "") })
		}, ""},
		{"a commit that is repeated until it is answered", func(s *scene) {
			s.more(func() {
				f := s.worker.Begin("flow", TxID{3, 0, 3})
				s.send(f, "f0", out0, 0, Source{})
				f.Commit().Failed("OUTCOME_UNKNOWN")
				s.end(f.Commit, "f", Committed)
			})
			s.stored(out0, TxID{3, 0, 3}, 0, StatusVisible, s.v["f0"])
		}, ""},
	})
}

// TestCoordinatorLimits: what could not be checked is a failure.
func TestCoordinatorLimits(t *testing.T) {
	t.Parallel()
	ids := func(s *scene, n int) []*Txn {
		var txns []*Txn
		for i := range n {
			f := s.worker.Begin("flow", TxID{3, 0, uint64(3 + i)})
			f.SendOffsets("unseen", []Move{{in0, 0, 1}})
			txns = append(txns, f)
		}
		return txns
	}
	for name, b := range map[string]struct {
		wrong func(s *scene)
		want  string
	}{
		"too many calls at once": {func(s *scene) {
			s.more(func() {
				var calls []*Call
				for range 2 * maxWindow {
					calls = append(calls, s.worker.Outcome("flow", txD))
				}
				for _, k := range calls {
					k.Done(Committed, "")
				}
			})
		}, "calls overlap"},
		"too many unknown commits": {func(s *scene) {
			s.h.Rules = Rules{}
			s.more(func() {
				for i, f := range ids(s, maxUnknown+1) {
					f.Commit()
					s.decide(TxID{3, 0, uint64(3 + i)}, Committed)
				}
			})
		}, "commits that only the logs tell of"},
		"too long a search": {func(s *scene) {
			s.more(func() {
				var calls []*Call
				for _, f := range ids(s, 24) {
					calls = append(calls, f.Abort())
				}
				for _, k := range calls {
					k.Done(NotCommitted, "")
				}
				s.worker.Outcome("flow", txD).Done(Open, "")
			})
		}, "no answer within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			b.wrong(s)
			r := Check(s.h)
			for _, v := range r.Violations {
				if v.Invariant == Linearizable && strings.Contains(v.Text, b.want) {
					return
				}
			}
			t.Errorf("%v", r.Violations)
		})
	}
	s := newScene()
	s.h.Rules = Rules{}
	s.more(func() {
		for i, f := range ids(s, 2*maxUnknown) {
			f.Commit()
			if i%2 == 0 {
				s.decide(TxID{3, 0, uint64(3 + i)}, Committed)
			}
		}
	})
	for _, v := range Check(s.h).Violations {
		if v.Invariant == Linearizable {
			t.Errorf("%d unknown commits: %v", maxUnknown, v)
		}
	}
}

// TestMalformedHistories: what no workload can have recorded is not judged.
func TestMalformedHistories(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]func(s *scene){
		"kind":                func(s *scene) { s.event("late").Kind = lastKind + 1 },
		"outcome":             func(s *scene) { s.event("ended a").Outcome = lastOutcome + 1 },
		"transaction number":  func(s *scene) { s.event("begin a").Txn = 9 },
		"unknown transaction": func(s *scene) { s.event("send a0").Txn = 99 },
		"no transaction":      func(s *scene) { s.event("send a0").Txn = 0 },
		"value of another":    func(s *scene) { s.event("send a0").Value.Txn = 2 },
		"index":               func(s *scene) { s.event("send a1").Value.Index = 4 },
		"partition":           func(s *scene) { s.event("send a1").Partition = Partition{} },
		"ack before send":     func(s *scene) { s.event("ack a0").Value.Index = 7 },
		"ack elsewhere":       func(s *scene) { s.event("ack a0").Partition = out0 },
		"negative offset":     func(s *scene) { s.event("ack a0").Offset = -2 },
		"moves backwards":     func(s *scene) { s.event("moves d").Group.Moves[0].Next = -1 },
		"no moves":            func(s *scene) { s.event("moves d").Group = nil },
		"moves of nothing":    func(s *scene) { s.event("moves d").Txn = 99 },
		"call number":         func(s *scene) { s.event("init 2").Call = 99 },
		"commit of another":   func(s *scene) { s.event("end a").TxID = txB },
		"commit of a stream":  func(s *scene) { s.event("begin a").TxID.Number = 0 },
		"audited position":    func(s *scene) { s.h.Audit.Offsets[0].Offset = -1 },
		"commit of nothing":   func(s *scene) { s.event("end a").Txn = 99 },
		"answer to nothing":   func(s *scene) { s.event("ended a").Call = 99 },
		"two answers":         func(s *scene) { s.event("ended b").Call = s.event("ended a").Call },
		"plain without moves": func(s *scene) { s.event("plain commit").Group = nil },
		"no positions":        func(s *scene) { s.event("fetched").Group = nil },
		"positions of others": func(s *scene) { s.event("fetched").Group.Name = "other" },
		"position below 0":    func(s *scene) { s.event("fetched").Group.Positions[0].Offset = -2 },
		"reader":              func(s *scene) { s.event("position").Reader = 0 },
		"many readers":        func(s *scene) { s.event("position").Reader = 1 << 60 },
		"reads backwards":     func(s *scene) { s.event("read bank/0").Read.Next = -1 },
		"reads nothing":       func(s *scene) { s.event("read bank/0").Read = nil },
		"reads nowhere":       func(s *scene) { s.event("read bank/0").Partition = Partition{} },
		"reads in nothing":    func(s *scene) { s.event("read d").Txn = 99 },
		"no ends":             func(s *scene) { s.event("ends of node").Ends = nil },
		"two logs":            func(s *scene) { s.h.Audit.Logs[1].Partition = bank0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			wrong(s)
			r := Check(s.h)
			if r.Total == 0 || r.Violations[len(r.Violations)-1].Invariant != Recorded {
				t.Errorf("%v", r.Violations)
			}
		})
	}
}

// TestLongHistoriesAreCheckedInParts: what an early answer settled still holds
// when it was in another part, and whatever is under way delays the end of one.
func TestLongHistoriesAreCheckedInParts(t *testing.T) {
	t.Parallel()
	const long = 5 * maxWindow
	for name, c := range map[string]struct {
		last func(s *scene, first, aborted TxID)
		want int
	}{
		"all is well":          {func(s *scene, first, _ TxID) { s.worker.Outcome("flow", first).Done(Committed, "") }, 0},
		"forgotten":            {func(s *scene, first, _ TxID) { s.worker.Outcome("flow", first).Done(Forgotten, "") }, 0},
		"commit becomes open":  {func(s *scene, first, _ TxID) { s.worker.Outcome("flow", first).Done(Open, "") }, 1},
		"commit becomes abort": {func(s *scene, first, _ TxID) { s.worker.Outcome("flow", first).Done(Aborted, "") }, 1},
		"abort becomes commit": {func(s *scene, _, aborted TxID) { s.worker.Outcome("flow", aborted).Done(Committed, "") }, 1},
		"abort becomes open":   {func(s *scene, _, aborted TxID) { s.worker.Outcome("flow", aborted).Done(Open, "") }, 1},
		"epoch is handed out again": {func(s *scene, _, _ TxID) {
			s.init(s.rec.Session(8), "x", "flow", TxID{Producer: 3, Epoch: 1}, TxID{}, Unknown)
		}, 1},
		"older epoch commits": {func(s *scene, _, _ TxID) {
			z := s.worker.Begin("flow", TxID{3, 0, 9999})
			z.SendOffsets("unseen", []Move{{in0, 0, 1}})
			z.Commit().Done(Committed, "")
		}, 1},
		"undecided of an older epoch is open": {func(s *scene, _, _ TxID) {
			z := s.worker.Begin("flow", TxID{3, 0, 9999})
			z.SendOffsets("unseen", []Move{{in0, 0, 1}})
			s.worker.Outcome("flow", TxID{3, 0, 9999}).Done(Open, "")
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			s.h.Audit, s.h.Rules = nil, Rules{}
			s.more(func() {
				s.init(s.worker, "x", "flow", TxID{Producer: 3, Epoch: 1}, txE, Committed)
				for n := range uint64(long) {
					x := s.worker.Begin("flow", TxID{3, 1, n + 1})
					x.SendOffsets("other", []Move{{in0, int64(n), int64(n) + 1}})
					if n%2 == 0 {
						x.Commit().Done(Committed, "")
					} else {
						s.send(x, "x", out0, 0, Source{})
						x.Acked(out0, s.v["x"], -1)
						x.Abort().Done(Aborted, "")
					}
				}
				c.last(s, TxID{3, 1, 1}, TxID{3, 1, 2})
			})
			found := 0
			r := Check(s.h)
			for _, v := range r.Violations {
				if v.Invariant == Linearizable {
					found++
				}
			}
			if found != c.want || r.Stats.CoordinatorCalls < long {
				t.Errorf("%d of %d calls: %v", found, r.Stats.CoordinatorCalls, r.Violations)
			}
		})
	}
}
