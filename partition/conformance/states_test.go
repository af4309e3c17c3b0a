package conformance

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

const (
	// epoch and number name the transaction T that the states are about, so that
	// there are an older epoch and an older number.
	epoch  = 1
	number = 5
	// held is how many records T writes where it writes: two batches of
	// perBatch.
	held     = 4
	perBatch = 2
	// spare is a partition that belongs to no scene.
	spare = 1
)

// scene is one producer with two partitions of its own, in one state, before one
// command.
type scene struct {
	*cluster
	at       *node  // that leads
	producer uint64 // of T
	stranger uint64 // a producer that the shard has never heard of
	a, b     uint64 // partitions; T wrote to a
}

// txn names a transaction of the scene's producer.
func (s *scene) txn(epoch uint32, number uint64) pstate.TxnRef {
	return pstate.TxnRef{ProducerID: s.producer, Epoch: epoch, Number: number}
}

// t0 is the transaction T.
func (s *scene) t0() pstate.TxnRef { return s.txn(epoch, number) }

// write appends the records of T.
func (s *scene) write() {
	s.t.Helper()
	s.writeAs(s.t0())
}

func (s *scene) writeAs(ref pstate.TxnRef) {
	s.t.Helper()
	for at := uint64(0); at < held; at += perBatch {
		s.send(ref, s.a, at, perBatch)
	}
}

// state is a row of the tables.
type state struct {
	name  string
	reach func(s *scene)
	// together is done when every scene has been through reach, if it is not nil:
	// it waits for what takes time.
	together func(c *cluster, scenes []*scene)
}

func states() []state {
	return []state{
		{name: "unknown", reach: func(*scene) {}},
		{name: "open", reach: func(s *scene) { s.write() }},
		{name: "committed", reach: func(s *scene) {
			s.write()
			s.end(commit(s.t0(), s.a, held))
		}},
		{name: "committed in part", reach: func(s *scene) {
			s.write()
			s.end(commit(s.t0(), s.a, held-1))
		}},
		{name: "aborted", reach: func(s *scene) {
			s.write()
			s.end(abort(s.t0(), client))
		}},
		{name: "complete everywhere", reach: func(s *scene) {
			s.write()
			m := commit(s.t0(), s.a, held)
			m.CompleteBelow = wire(s.txn(epoch, number+1))
			s.end(m)
		}},
		{name: "expired", together: expire, reach: func(s *scene) {
			s.write()
			s.end(commit(s.t0(), s.a, held))
		}},
		{name: "producer gone", together: forget, reach: func(s *scene) {
			s.write()
			s.end(commit(s.t0(), s.a, held))
		}},
		{name: "overtaken", reach: func(s *scene) {
			s.write()
			s.send(s.txn(epoch+1, 1), s.b, 0, 1)
		}},
		{name: "called a stray", together: fence, reach: func(s *scene) { s.write() }},
	}
}

// idempotentStates are those of a producer P without transactions. What it writes
// is written like the records of T, and in the epoch of T.
func idempotentStates() []state {
	wrote := func(s *scene) {
		s.t.Helper()
		s.writeAs(s.txn(epoch, 0))
	}
	return []state{
		{name: "unknown", reach: func(*scene) {}},
		{name: "known", reach: wrote},
		{name: "known, next epoch here", reach: func(s *scene) {
			wrote(s)
			s.send(s.txn(epoch+1, 0), s.a, 0, 1)
		}},
		{name: "known, next epoch in B", reach: func(s *scene) {
			wrote(s)
			s.send(s.txn(epoch+1, 0), s.b, 0, 1)
		}},
		{name: "expired", reach: wrote, together: expire},
		{name: "a transaction is open", reach: func(s *scene) {
			wrote(s)
			s.send(s.t0(), s.a, 0, 1)
		}},
		{name: "overtaken by a transaction", reach: func(s *scene) {
			wrote(s)
			s.send(s.txn(epoch+1, 1), s.a, 0, 1)
		}},
		{name: "its stray was fenced", together: fence, reach: func(s *scene) {
			wrote(s)
			s.send(s.t0(), s.a, 0, 1)
		}},
	}
}

// expire lets log time pass until the shard keeps no sequence of any scene. It
// moves with commands only, each of which lets some producers expire.
func expire(c *cluster, scenes []*scene) {
	c.t.Helper()
	c.pass(expiration)
	ticker := pstate.TxnRef{ProducerID: 1}
	for i := range scenes {
		c.send(ticker, spare, uint64(i), 1)
	}
	for _, s := range scenes {
		equal(c.t, "producers that have not expired", len(s.producers(s.at, s.a)), 0)
	}
}

// forget has the coordinator say that the scenes' producers are gone.
func forget(c *cluster, scenes []*scene) {
	c.t.Helper()
	c.coord.with(func() {
		for _, s := range scenes {
			c.coord.gone = append(c.coord.gone, s.producer)
		}
	})
	c.pass(2 * checkProducers)
	for _, s := range scenes {
		equal(c.t, "producers that have not been forgotten", len(s.producers(s.at, s.a)), 0)
	}
}

// fence has the coordinator call every scene's T a stray of an old epoch.
func fence(c *cluster, scenes []*scene) {
	c.t.Helper()
	next := uint32(epoch + 1)
	c.coord.with(func() {
		c.coord.verdict = func(e *oncelogv1.Enlistment) (*oncelogv1.EnlistAnswer, error) {
			if !slices.ContainsFunc(scenes, func(s *scene) bool { return proto.Equal(e.GetTxn(), wire(s.t0())) }) {
				return nil, nil
			}
			return &oncelogv1.EnlistAnswer{Verdict: stray, Fence: &next}, nil
		}
	})
	c.until("no transaction is open", func() bool {
		return !slices.ContainsFunc(scenes, func(s *scene) bool { return s.describe(s.at, s.a).GetOpenTransactions() > 0 })
	})
}

// relation is a column: what a command names, seen from T.
type relation struct {
	name string
	of   func(s *scene) pstate.TxnRef
}

func relations() []relation {
	of := func(epoch uint32, number uint64) func(*scene) pstate.TxnRef {
		return func(s *scene) pstate.TxnRef { return s.txn(epoch, number) }
	}
	return []relation{
		{"T", of(epoch, number)},
		{"older number", of(epoch, number-1)},
		{"next number", of(epoch, number+1)},
		{"older epoch", of(epoch-1, number+4)},
		{"next epoch", of(epoch+1, 1)},
		{"another producer", func(s *scene) pstate.TxnRef {
			return pstate.TxnRef{ProducerID: s.stranger, Epoch: epoch, Number: number}
		}},
	}
}

// stage runs, in parallel, a node on which n scenes have come into a state.
func stage(t *testing.T, st state, n int, test func(scenes []*scene)) {
	t.Helper()
	t.Parallel()
	inBubble(t, 1, spare+2*n, func(c *cluster) {
		var scenes []*scene
		leader := c.leader()
		for i := range uint64(n) {
			s := &scene{
				cluster: c, at: leader, producer: 100 + 2*i, stranger: 101 + 2*i,
				a: spare + 1 + 2*i, b: spare + 2 + 2*i,
			}
			st.reach(s)
			scenes = append(scenes, s)
		}
		if st.together != nil {
			st.together(c, scenes)
		}
		test(scenes)
	})
}

// look is [cluster.look] of a partition of the scene. All there is includes what
// the node tells of its other partition without reading it.
func (s *scene) look(partition uint64) (ends, all string) {
	s.t.Helper()
	other := s.a + s.b - partition
	ends, all = s.cluster.look(s.at, partition)
	return ends, fmt.Sprintln(all, s.describe(s.at, other), s.producers(s.at, other))
}

// ends is [cluster.ends] of a partition of the scene.
func (s *scene) ends(partition uint64) string {
	s.t.Helper()
	return s.cluster.ends(s.at, partition)
}

// rowOf returns what a partition tells about an open transaction; nil: it is not
// open there.
func (s *scene) rowOf(ref pstate.TxnRef, partition uint64) *oncelogv1.ProducerState {
	s.t.Helper()
	for _, row := range s.producers(s.at, partition) {
		if proto.Equal(row.GetTxn(), wire(ref)) {
			return row
		}
	}
	return nil
}
