package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
)

// number is the number of the transaction T that the states are about. It belongs
// to epoch 1 of its id, so that there is an older epoch; numbers below it are
// free, so that there is an older transaction.
const number = 5

// outcomesKept is how many outcomes an id keeps in these tests, and how many
// epochs that have ended; fewer than in production, so that forgetting is quick.
const outcomesKept = 3

// scene is one transactional id in one state, before one command.
type scene struct {
	*cluster
	p     *producer // the owner of T: epoch 1
	topic *oncelogv1.Topic
	// bystander has a transaction of its own open, which no command may touch.
	bystander *producer
}

// shardA holds records of T where T is open, shardB none.
func (s *scene) shardA() uint64 { return shardOf(s.topic, 0) }
func (s *scene) shardB() uint64 { return shardOf(s.topic, 1) }

// state is a row of the tables: how T gets there.
type state struct {
	name  string
	reach func(s *scene)
	// limits of the cluster where they matter.
	change func(*coordinator.Config)
}

// applied ends a transaction of p and has every shard apply it, and all that was
// decided before it. Otherwise the markers of a scene get no answer, so that
// nothing completes by itself.
func (s *scene) applied(p *producer, n uint64, commit bool, parts ...*oncelogv1.PartitionProgress) {
	s.t.Helper()
	s.shards.hold(p.pid, false)
	p.applied(n, commit, parts...)
	s.shards.hold(p.pid, true)
}

func (s *scene) wroteA() *oncelogv1.PartitionProgress { return wrote(s.topic, 0, 3) }

// newer takes the id over; the producer of the scene stays what it was.
func (s *scene) newer() *producer { return s.init(s.p.id) }

// flush makes an id forget what it remembers.
func (s *scene) flush(p *producer, from uint64) {
	s.t.Helper()
	for n := range uint64(outcomesKept) {
		s.applied(p, from+n, true)
	}
}

func states() []state {
	return []state{
		{name: "empty", reach: func(*scene) {}},
		{name: "open", reach: func(s *scene) { s.p.opens(number, s.shardA()) }},
		{
			// A leader that is new to its office expires nothing for a while.
			name: "overdue", reach: func(s *scene) {
				s.equal("enlist", s.enlist(s.p.ref(number), s.shardA(), 2*timeoutMillis), "ACCEPTED")
			},
			change: func(cfg *coordinator.Config) { cfg.ExpireGrace = 1 << 50 },
		},
		{name: "committed*", reach: func(s *scene) { s.p.commit(number, s.wroteA()) }},
		{name: "committed, applied by A alone*", reach: func(s *scene) {
			s.shards.reach(s.shardB(), false)
			s.shards.hold(s.p.pid, false)
			s.equal("commit", s.p.commit(number, s.wroteA(), wrote(s.topic, 1, 1)), "OK")
			s.until("shard A has applied it", func() bool {
				shards := s.p.describe().GetCompleting()[0].GetParticipants()
				return shards[0].GetShardId() == s.shardA() && shards[0].GetApplied()
			})
		}},
		{name: "aborted*", reach: func(s *scene) { s.p.abort(number, s.wroteA()) }},
		{name: "committed", reach: func(s *scene) { s.applied(s.p, number, true, s.wroteA()) }},
		{name: "aborted", reach: func(s *scene) { s.applied(s.p, number, false, s.wroteA()) }},
		{
			name: "timed out*", reach: func(s *scene) {
				s.equal("enlist", s.enlist(s.p.ref(number), s.shardA(), 2*timeoutMillis), "ACCEPTED")
				s.until("T times out", func() bool { return s.p.outcome(number) == "aborted timeout*" })
			},
			change: func(cfg *coordinator.Config) { cfg.ExpireGrace = 1 },
		},
		{name: "aborted by an operator*", reach: func(s *scene) {
			s.p.opens(number, s.shardA())
			s.equal("abort", s.p.abortByOperator(number), "OK")
		}},
		{name: "superseded by an open one*", reach: func(s *scene) {
			s.p.opens(number, s.shardA())
			s.p.opens(number+2, s.shardA())
		}},
		{name: "passed over", reach: func(s *scene) { s.applied(s.p, number+2, true, s.wroteA()) }},
		{name: "forgotten", reach: func(s *scene) {
			s.applied(s.p, number, true, s.wroteA())
			s.flush(s.p, number+2)
		}},
		{name: "fenced when open*", reach: func(s *scene) {
			s.p.opens(number, s.shardA())
			s.newer()
		}},
		{name: "fenced when committed*", reach: func(s *scene) {
			s.p.commit(number, s.wroteA())
			s.newer()
		}},
		{name: "fenced when committed", reach: func(s *scene) {
			s.applied(s.p, number, true, s.wroteA())
			s.newer()
		}},
		{name: "fenced before it began", reach: func(s *scene) { s.newer() }},
		{name: "fenced and forgotten", reach: func(s *scene) {
			s.applied(s.p, number, true, s.wroteA())
			s.flush(s.newer(), 1)
		}},
		{name: "fenced long ago", reach: func(s *scene) {
			for range outcomesKept + 1 {
				s.applied(s.newer(), 1, true)
			}
		}},
		{
			name: "throttled", reach: func(s *scene) {
				s.p.commit(number-2, s.wroteA())
				s.p.commit(number-1, s.wroteA())
			},
			change: func(cfg *coordinator.Config) { cfg.Txn.MaxUnfinished = 2 },
		},
		{
			name: "open, throttled", reach: func(s *scene) {
				s.p.commit(number-1, s.wroteA())
				s.p.opens(number, s.shardA())
			},
			change: func(cfg *coordinator.Config) { cfg.Txn.MaxUnfinished = 2 },
		},
		{name: "id deleted", reach: func(s *scene) {
			s.applied(s.p, number, true, s.wroteA())
			s.equal("delete", s.p.delete(), "OK")
		}},
		{name: "id deleted and made anew", reach: func(s *scene) {
			s.applied(s.p, number, true, s.wroteA())
			s.equal("delete", s.p.delete(), "OK")
			s.newer()
		}},
	}
}

// relation is a column: which transaction the command names, seen from T.
type relation struct {
	name string
	of   func(s *scene) *oncelogv1.TxnRef
}

func relations() []relation {
	of := func(epoch uint32, n uint64) func(*scene) *oncelogv1.TxnRef {
		return func(s *scene) *oncelogv1.TxnRef {
			return &oncelogv1.TxnRef{ProducerId: s.p.pid, Epoch: epoch, TxnNumber: n}
		}
	}
	return []relation{
		{"T", of(1, number)},
		{"older number", of(1, number-3)},
		{"next number", of(1, number+1)},
		{"older epoch", of(0, number)},
		{"next epoch", of(2, number)},
		{"epoch of nobody", of(100, number)},
		{"unknown producer", func(*scene) *oncelogv1.TxnRef { return &oncelogv1.TxnRef{ProducerId: 1 << 40, TxnNumber: number} }},
	}
}

// command is a grid: what is asked about the transaction that a column names.
type command struct {
	name string
	do   func(s *scene, ref *oncelogv1.TxnRef) string
}

func commands() []command {
	return []command{
		{"EndTransaction(commit) of a transaction that wrote to shard A", func(s *scene, ref *oncelogv1.TxnRef) string {
			return s.signed(ref, true, s.wroteA())
		}},
		{"EndTransaction(commit) of a transaction that wrote nothing", func(s *scene, ref *oncelogv1.TxnRef) string {
			return s.signed(ref, true)
		}},
		{"EndTransaction(commit) of a partition that does not exist", func(s *scene, ref *oncelogv1.TxnRef) string {
			return s.signed(ref, true, s.wroteA(), &oncelogv1.PartitionProgress{Partition: byID(1 << 40), NextSequence: 1})
		}},
		{"EndTransaction(commit) with offsets of a member that owns nothing", func(s *scene, ref *oncelogv1.TxnRef) string {
			return s.end(&oncelogv1.EndTransactionRequest{
				Txn: ref, ProducerToken: s.keys.Sign(ref.GetProducerId(), ref.GetEpoch()), Commit: true,
				Partitions: []*oncelogv1.PartitionProgress{s.wroteA()},
				Offsets: []*oncelogv1.GroupOffsets{{GroupId: "g", MemberId: "nobody", Generation: 1, Offsets: []*oncelogv1.OffsetCommit{
					{Partition: byID(s.topic.GetPartitions()[2].GetPartitionId()), Offset: 1},
				}}},
			})
		}},
		{"EndTransaction(abort) of a transaction that wrote to shard A", func(s *scene, ref *oncelogv1.TxnRef) string {
			return s.signed(ref, false, s.wroteA())
		}},
		{"EndTransaction(abort) of a partition that does not exist", func(s *scene, ref *oncelogv1.TxnRef) string {
			return s.signed(ref, false, &oncelogv1.PartitionProgress{Partition: byID(1 << 40), NextSequence: 1})
		}},
		{"GetOutcome", func(s *scene, ref *oncelogv1.TxnRef) string { return s.outcome(ref) }},
		{"Enlist by shard A", func(s *scene, ref *oncelogv1.TxnRef) string { return s.enlist(ref, s.shardA(), 0) }},
		{"Enlist by shard B", func(s *scene, ref *oncelogv1.TxnRef) string { return s.enlist(ref, s.shardB(), 0) }},
		{"AbortTransaction by an operator", func(s *scene, ref *oncelogv1.TxnRef) string {
			_, err := s.leader().txns.AbortTransaction(s.within(patience), &oncelogv1.AbortTransactionRequest{TransactionalId: s.p.id, Txn: ref})
			if err != nil {
				return refusal(err)
			}
			return "OK"
		}},
	}
}

// signed ends a transaction with a token that holds, whoever was given it.
func (s *scene) signed(ref *oncelogv1.TxnRef, commit bool, parts ...*oncelogv1.PartitionProgress) string {
	s.t.Helper()
	return s.end(&oncelogv1.EndTransactionRequest{
		Txn: ref, ProducerToken: s.keys.Sign(ref.GetProducerId(), ref.GetEpoch()), Commit: commit, Partitions: parts,
	})
}

// tokenOf is a token that T's producer was not given.
type tokenOf struct {
	name string
	of   func(s *scene) []byte
}

// tokens are columns of their own: who has none that holds gets nowhere, whatever
// the state.
func tokens() []tokenOf {
	return []tokenOf{
		{"none", func(*scene) []byte { return nil }},
		{"one bit wrong", func(s *scene) []byte {
			b := slices.Clone(s.p.token)
			b[len(b)-1] ^= 1
			return b
		}},
		{"of the older epoch", func(s *scene) []byte { return s.keys.Sign(s.p.pid, 0) }},
		{"of the next epoch", func(s *scene) []byte { return s.keys.Sign(s.p.pid, 2) }},
		{"of another producer", func(s *scene) []byte { return s.bystander.token }},
	}
}

// filler collects the cells of states that are tried side by side.
type filler struct {
	mu    sync.Mutex
	grids []*grid
}

// grid adds one whose rows are the states of an id.
func (f *filler) grid(name string, columns []string) *grid {
	return f.gridOf(name, names(states(), func(st state) string { return st.name }), columns)
}

func (f *filler) gridOf(name string, rows, columns []string) *grid {
	g := newGrid(name, rows, columns)
	f.grids = append(f.grids, g)
	return g
}

func (f *filler) fill(g *grid, row, column, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g.cells[cell{row, column}] = text
}

// names returns what the columns of a list are called.
func names[T any](list []T, name func(T) string) []string {
	var out []string
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

// TestTransactions: state of the id x command x whom the command names.
func TestTransactions(t *testing.T) {
	f := &filler{}
	look := f.grid("What the states are", []string{"outcome of T", "state and epoch of the id", "unfinished transactions"})
	var grids []*grid
	for _, cmd := range commands() {
		grids = append(grids, f.grid(cmd.name, names(relations(), func(r relation) string { return r.name })))
	}
	badToken := f.grid("EndTransaction of T, commit and abort alike, with a token that does not fit",
		names(tokens(), func(tk tokenOf) string { return tk.name }))
	t.Run("cells", func(t *testing.T) {
		for _, st := range states() {
			t.Run(st.name, func(t *testing.T) {
				stage(t, st, func(enter func() *scene) {
					s := enter()
					f.fill(look, st.name, look.columns[0], s.p.outcome(number))
					f.fill(look, st.name, look.columns[1], s.p.state())
					f.fill(look, st.name, look.columns[2], s.p.unfinished())
					for i, cmd := range commands() {
						for _, r := range relations() {
							s := enter()
							f.fill(grids[i], st.name, r.name, s.act(true, func() string { return cmd.do(s, r.of(s)) }))
						}
					}
					for _, tk := range tokens() {
						s := enter()
						f.fill(badToken, st.name, tk.name, s.act(true, func() string { return s.unproven(tk) }))
					}
				})
			})
		}
	})
	t.Logf("figures: cells %d", compare(t, "transactions.txt", f.grids))
}

// unproven tries to end T both ways with a token.
func (s *scene) unproven(tk tokenOf) string {
	s.t.Helper()
	try := func(commit bool) string {
		return s.end(&oncelogv1.EndTransactionRequest{
			Txn: s.p.ref(number), ProducerToken: tk.of(s), Commit: commit, Partitions: []*oncelogv1.PartitionProgress{s.wroteA()},
		})
	}
	commit := try(true)
	s.equal("abort, as the commit", try(false), commit)
	return commit
}

// stage runs test with a cluster in which enter makes one id after another in the
// state.
func stage(t *testing.T, st state, test func(enter func() *scene)) {
	t.Helper()
	inBubble(t, 1, func(cfg *coordinator.Config) {
		cfg.Txn.OutcomesKept, cfg.Txn.RequestIDsKept = outcomesKept, outcomesKept
		if st.change != nil {
			st.change(cfg)
		}
	}, func(c *cluster) {
		topic := c.topic("t", 3)
		bystander := c.init("bystander")
		bystander.opens(1, shardOf(topic, 0))
		n := 0
		test(func() *scene {
			n++
			id := fmt.Sprintf("id-%d", n)
			c.initWith(id, id+"/0")
			s := &scene{cluster: c, p: c.initWith(id, id+"/1"), topic: topic, bystander: bystander}
			c.shards.hold(s.p.pid, true)
			s.equal("epoch", s.p.epoch, 1)
			st.reach(s)
			return s
		})
	})
}

// act does one thing to a scene and returns the cell: the answer, and what
// became of T if that changed. On the way it holds the answer to what every
// answer must keep; keepsEpoch says that the command may not raise the epoch.
func (s *scene) act(keepsEpoch bool, do func() string) string {
	s.t.Helper()
	beside := s.bystander.describe()
	before, was := s.p.describe(), s.p.outcome(number)
	text := do()
	after, is := s.p.describe(), s.p.outcome(number)

	if keepsEpoch && before.GetEpoch() != after.GetEpoch() {
		s.t.Errorf("%s: the epoch changed from %d to %d", text, before.GetEpoch(), after.GetEpoch())
	}
	if refused(text) && !proto.Equal(before, after) {
		s.t.Errorf("refused with %s, and changed the id from\n%v\nto\n%v", text, before, after)
	}
	if final(was) && is != was && !forgets(is) {
		s.t.Errorf("%s: %s became %s (I5)", text, was, is)
	}
	if !proto.Equal(beside, s.bystander.describe()) {
		s.t.Errorf("%s: the transaction of somebody else changed", text)
	}
	if was != is {
		text += " → " + is
	}
	return text
}

// refused reports whether an answer is one that may change nothing. (An id that
// cannot be deleted yet has lost its open transaction all the same.)
func refused(answer string) bool {
	first, _, _ := strings.Cut(answer, " ")
	_, isCode := oncelogv1.ErrorCode_value["ERROR_CODE_"+first]
	return isCode && first != "TRANSACTION_IN_PROGRESS" || first == "STRAY" || first == "DECIDED"
}

// final reports whether an outcome is one that never changes.
func final(outcome string) bool {
	return strings.HasPrefix(outcome, "committed") || strings.HasPrefix(outcome, "aborted")
}

// forgets reports whether an outcome says that it is not known any more.
func forgets(outcome string) bool { return outcome == "forgotten" || outcome == "invalid" }

// TestAnswersAreFinal: whatever a commit or an abort was told stays so, when it is
// repeated, when the opposite is asked, and by GetOutcome (I5, I13).
func TestAnswersAreFinal(t *testing.T) {
	for _, st := range states() {
		t.Run(st.name, func(t *testing.T) {
			stage(t, st, func(enter func() *scene) {
				for _, r := range relations() {
					for _, commit := range []bool{true, false} {
						s := enter()
						ref := r.of(s)
						answer := s.signed(ref, commit, s.wroteA())
						s.final(r.name, ref, commit, answer)
					}
				}
			})
		})
	}
}

// final checks the answer of one EndTransaction against all that can be asked
// afterwards.
func (s *scene) final(what string, ref *oncelogv1.TxnRef, commit bool, answer string) {
	s.t.Helper()
	decided := map[bool]string{true: "committed", false: "aborted client"}
	again := s.signed(ref, commit, s.wroteA())
	s.equal(what+": the same call again", again, answer)
	outcome := strings.TrimSuffix(s.outcome(ref), "*")
	opposite := s.signed(ref, !commit, s.wroteA())
	code, _, _ := strings.Cut(answer, " ")
	switch code {
	case "OK":
		s.equal(what+": outcome after OK", strings.HasPrefix(outcome, decided[commit][:7]), true)
		s.equal(what+": the opposite after OK", strings.HasPrefix(opposite, "CONFLICT"), true)
	case "CONFLICT":
		s.equal(what+": the opposite after CONFLICT", opposite, "OK")
		s.equal(what+": outcome after CONFLICT", strings.HasPrefix(outcome, decided[!commit][:7]), true)
	case "FENCED":
		s.equal(what+": outcome after FENCED", outcome, "aborted fenced")
		s.equal(what+": the opposite after FENCED", opposite, answer)
	case "FORGOTTEN":
		s.equal(what+": outcome after FORGOTTEN", outcome, "forgotten")
		s.equal(what+": the opposite after FORGOTTEN", opposite, answer)
	case "INVALID_TXN", "UNKNOWN_PRODUCER":
		s.equal(what+": outcome of what never was", outcome, "invalid")
		s.equal(what+": the opposite", opposite, answer)
	case "THROTTLED":
		s.equal(what+": outcome of what may still come", outcome, "open")
	default:
		s.t.Errorf("%s: %s", what, answer)
	}
}
