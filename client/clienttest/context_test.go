package clienttest_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// party is what a program has open when the cluster goes away.
type party struct {
	w        *world
	c        *client.Client
	p        *client.Producer
	tx       *client.Tx // with a record that was not sent yet
	fresh    *client.Producer
	plain    *client.IdempotentProducer
	in       *client.Consumer
	out      *client.Producer
	consumed *client.Batch
}

func newParty(w *world) *party {
	w.t.Helper()
	x := &party{w: w, c: w.Client()}
	x.p, x.fresh, x.out = w.producer(x.c, "id"), w.producer(x.c, "fresh", client.WithBufferMemory(100)), w.producer(x.c, "out")
	w.write(x.p, "1")
	x.in = w.consume(x.c, client.WithMaxPollRecords(1))
	x.consumed = w.poll(x.in)
	var err error
	x.plain, err = x.c.IdempotentProducer(w.patient())
	w.must(err)
	x.tx = w.begin(x.p)
	return x
}

// drain polls what has been fetched already.
func (x *party) drain(ctx context.Context) error {
	for {
		if _, err := x.in.Poll(ctx); err != nil {
			return err
		}
	}
}

// abortLimit is how long Transact, and whatever else aborts, takes beyond the end
// of its context: see client.Tx.Abort.
const abortLimit = 10 * time.Second

// longestBackoff is the longest pause between two attempts of a call.
const longestBackoff = 200 * time.Millisecond

// blocking is a call that waits for the cluster.
type blocking struct {
	name  string
	call  func(ctx context.Context, x *party) error
	grace time.Duration // that it takes beyond the end of its context
}

// calls are all of them.
var calls = []blocking{
	{"Dial", func(ctx context.Context, x *party) error {
		_, err := client.Dial(ctx, x.w.Seeds(), x.w.Option())
		return err
	}, 0},
	{"Client.InitTransactions", func(ctx context.Context, x *party) error {
		_, err := x.c.InitTransactions(ctx, "other")
		return err
	}, 0},
	{"Client.IdempotentProducer", func(ctx context.Context, x *party) error {
		_, err := x.c.IdempotentProducer(ctx)
		return err
	}, 0},
	{"Client.Consume", func(ctx context.Context, x *party) error {
		_, err := x.c.Consume(ctx, "g2", []string{"t"}, client.WithManualAssignment())
		return err
	}, 0},
	{"Client.Consume of a member", func(ctx context.Context, x *party) error {
		_, err := x.c.Consume(ctx, "g3", []string{"t"})
		return err
	}, 3 * time.Second}, // it leaves what it may have joined
	{"Client.Outcome", func(ctx context.Context, x *party) error {
		_, err := x.c.Outcome(ctx, x.tx.ID())
		return err
	}, 0},
	{"Tx.Send to a topic that is not known yet", func(ctx context.Context, x *party) error {
		return x.tx.Send(ctx, &client.Record{Topic: "unknown", Value: []byte("v")})
	}, 0},
	{"Tx.Send into a full buffer", func(ctx context.Context, x *party) error {
		tx, err := x.fresh.Begin(ctx)
		for err == nil {
			err = tx.Send(ctx, record(0, "v"))
		}
		return err
	}, 0},
	{"Tx.Flush", func(ctx context.Context, x *party) error {
		return errors.Join(x.tx.Send(ctx, record(0, "v")), x.tx.Flush(ctx))
	}, 0},
	{"Tx.Commit", func(ctx context.Context, x *party) error {
		return errors.Join(x.tx.Send(ctx, record(0, "v")), x.tx.Commit(ctx))
	}, 0},
	{"Tx.Prepare", func(ctx context.Context, x *party) error {
		return errors.Join(x.tx.Send(ctx, record(0, "v")), x.tx.Prepare(ctx))
	}, 0},
	{"Tx.Prepare of nothing", func(ctx context.Context, x *party) error { return x.tx.Prepare(ctx) }, 0},
	{"Client.CompletePrepared", func(ctx context.Context, x *party) error {
		return x.c.CompletePrepared(ctx, client.TxID{ProducerID: 1, Number: 1}, true)
	}, 0},
	{"Client.CompletePrepared of its own", func(ctx context.Context, x *party) error {
		return x.c.CompletePrepared(ctx, x.tx.ID(), true)
	}, 0},
	{"Tx.Commit of positions alone", func(ctx context.Context, x *party) error {
		return errors.Join(x.tx.SendOffsets(ctx, x.consumed), x.tx.Commit(ctx))
	}, 0},
	{"Producer.Transact", func(ctx context.Context, x *party) error {
		return x.out.Transact(ctx, func(tx *client.Tx) error { return tx.Send(ctx, record(0, "v")) })
	}, abortLimit},
	{"Process", func(ctx context.Context, x *party) error {
		return client.Process(ctx, x.in, x.out, func(tx *client.Tx, b *client.Batch) error { return copied(ctx, tx, b) })
	}, abortLimit},
	{"IdempotentProducer.Flush", func(ctx context.Context, x *party) error {
		return errors.Join(x.plain.Send(ctx, record(0, "v")), x.plain.Flush(ctx))
	}, 0},
	{"Consumer.Poll", func(ctx context.Context, x *party) error { return x.drain(ctx) }, 0},
	{"Consumer.Commit", func(ctx context.Context, x *party) error { return x.in.Commit(ctx, x.consumed) }, 0},
	{"Consumer.ReadToEnd", func(ctx context.Context, x *party) error {
		return x.in.ReadToEnd(ctx, func(*client.Batch) error { return nil })
	}, 0},
	{"Consumer.ReadTo", func(ctx context.Context, x *party) error {
		return x.in.ReadTo(ctx, client.Offsets{{Topic: "t"}: 1000}, func(*client.Batch) error { return nil })
	}, 0},
	{"Consumer.HiddenLag", func(ctx context.Context, x *party) error {
		_, err := x.in.HiddenLag(ctx)
		return err
	}, 0},
	{"Consumer.EndOffsets", func(ctx context.Context, x *party) error {
		_, err := x.in.EndOffsets(ctx)
		return err
	}, 0},
	{"Consumer.Lag", func(ctx context.Context, x *party) error {
		_, err := x.in.Lag(ctx)
		return err
	}, 0},
	{"Consumer.OffsetsAt", func(ctx context.Context, x *party) error {
		_, err := x.in.OffsetsAt(ctx, time.Now())
		return err
	}, 0},
	{"Admin.CreateTopic", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: "new"})
		return err
	}, 0},
	{"Admin.DeleteTopic", func(ctx context.Context, x *party) error { return x.c.Admin().DeleteTopic(ctx, "t") }, 0},
	{"Admin.DescribeCluster", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DescribeCluster(ctx)
		return err
	}, 0},
	{"Admin.DescribePartitions", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DescribePartitions(ctx, "t")
		return err
	}, 0},
	{"Admin.DescribeProducers", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DescribeProducers(ctx, client.TopicPartition{Topic: "t"})
		return err
	}, 0},
	{"Admin.AbortTransaction", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: "id"})
		return err
	}, 0},
	{"Admin.CompletePrepared", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().CompletePrepared(ctx, &oncelogv1.CompletePreparedRequest{Txn: &oncelogv1.TxnRef{ProducerId: 1, TxnNumber: 1}})
		return err
	}, 0},
	{"Admin.ListTopics", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().ListTopics(ctx, 10, "")
		return err
	}, 0},
	{"Admin.DescribeTopic", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DescribeTopic(ctx, "t")
		return err
	}, 0},
	{"Admin.Metadata", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().Metadata(ctx, "t")
		return err
	}, 0},
	{"Admin.ListTransactions", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{})
		return err
	}, 0},
	{"Admin.DescribeTransaction", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DescribeTransaction(ctx, "id")
		return err
	}, 0},
	{"Admin.DescribeProducer", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DescribeProducer(ctx, 1)
		return err
	}, 0},
	{"Admin.FenceProducer", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().FenceProducer(ctx, "id")
		return err
	}, 0},
	{"Admin.FenceEpoch", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().FenceEpoch(ctx, "id", 0)
		return err
	}, 0},
	{"Admin.ListGroups", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().ListGroups(ctx, 10, "")
		return err
	}, 0},
	{"Admin.DescribeGroup", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DescribeGroup(ctx, "g")
		return err
	}, 0},
	{"Admin.GroupOffsets", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().GroupOffsets(ctx, "g")
		return err
	}, 0},
	{"Admin.ListCoordinators", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().ListCoordinators(ctx)
		return err
	}, 0},
	{"Admin.AddCoordinator", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().AddCoordinator(ctx, &oncelogv1.AddCoordinatorRequest{})
		return err
	}, 0},
	{"Admin.MoveReplica", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().MoveReplica(ctx, 2, 1, 2)
		return err
	}, 0},
	{"Admin.CancelMove", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().CancelMove(ctx, 2)
		return err
	}, 0},
	{"Admin.Rebalance", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().Rebalance(ctx, false)
		return err
	}, 0},
	{"Admin.AlterTopic", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().AlterTopic(ctx, "t", &oncelogv1.TopicConfig{})
		return err
	}, 0},
	{"Admin.DeleteRecords", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().DeleteRecords(ctx, client.Offsets{{Topic: "t"}: 1})
		return err
	}, 0},
	{"Admin.DeleteTransactionalID", func(ctx context.Context, x *party) error {
		return x.c.Admin().DeleteTransactionalID(ctx, "id")
	}, 0},
	{"Admin.DeleteGroup", func(ctx context.Context, x *party) error {
		return x.c.Admin().DeleteGroup(ctx, "g")
	}, 0},
	{"Admin.AddAcls", func(ctx context.Context, x *party) error {
		return x.c.Admin().AddAcls(ctx, &oncelogv1.AclRule{})
	}, 0},
	{"Admin.ListAcls", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().ListAcls(ctx, nil, 0, "")
		return err
	}, 0},
	{"Admin.RemoveAcls", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().RemoveAcls(ctx, nil, true)
		return err
	}, 0},
	{"Admin.MoveLeader", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().MoveLeader(ctx, 2, 1)
		return err
	}, 0},
	{"Admin.PeekRecords", func(ctx context.Context, x *party) error {
		_, err := x.c.Admin().PeekRecords(ctx, client.TopicPartition{Topic: "t"}, 0, client.ReadCommitted, 1, 1000)
		return err
	}, 0},
	{"Admin.WatchTransactions", func(ctx context.Context, x *party) error {
		return x.c.Admin().WatchTransactions(ctx, &oncelogv1.WatchTransactionsRequest{}, func(*oncelogv1.WatchTransactionsResponse) error { return nil })
	}, 0},
	{"Admin.CreateBackup", func(ctx context.Context, x *party) error {
		return x.c.Admin().CreateBackup(ctx, &oncelogv1.CreateBackupRequest{}, func(*oncelogv1.CreateBackupResponse) error { return nil })
	}, 0},
	{"Admin.RemoveCoordinator", func(ctx context.Context, x *party) error {
		return x.c.Admin().RemoveCoordinator(ctx, 3)
	}, 0},
	{"Admin.DrainNode", func(ctx context.Context, x *party) error {
		return x.c.Admin().DrainNode(ctx, 1, false)
	}, 0},
	{"Admin.RemoveNode", func(ctx context.Context, x *party) error {
		return x.c.Admin().RemoveNode(ctx, 1)
	}, 0},
	{"Admin.ReplaceDisk", func(ctx context.Context, x *party) error {
		return x.c.Admin().ReplaceDisk(ctx, 1)
	}, 0},
	{"Admin.ResetGroupOffsets", func(ctx context.Context, x *party) error {
		return x.c.Admin().ResetGroupOffsets(ctx, "g", client.Offsets{{Topic: "t"}: 0})
	}, 0},
}

// elsewhere are the calls that take a context and are not among them, and why.
var elsewhere = map[string]string{
	"Producer.Begin":          "asks nobody",
	"Tx.SendOffsets":          "asks nobody",
	"Tx.Claim":                "asks nobody",
	"Tx.Abort":                "goes on for 10 s: TestAbort, TestClosesAreBounded",
	"IdempotentProducer.Send": "the same as Tx.Send",
	"Admin.NodeStatus":        "asks one node once: that it does not answer is an answer",
	"Admin.Diagnostics":       "asks one node once: that it does not answer is an answer",
	"Admin.ReadShardBackup":   "asks one node once: a backup that a node breaks off has failed",
}

// TestEveryCallIsAmongThem: a new call that takes a context is tested to honour it.
func TestEveryCallIsAmongThem(t *testing.T) {
	t.Parallel()
	wanted := reflect.TypeFor[context.Context]()
	for _, x := range []any{
		&client.Client{}, &client.Producer{}, &client.IdempotentProducer{}, &client.Tx{}, &client.Consumer{}, &client.Admin{},
	} {
		of := reflect.TypeOf(x)
		for i := range of.NumMethod() {
			m := of.Method(i)
			if m.Type.NumIn() < 2 || m.Type.In(1) != wanted {
				continue
			}
			name := of.Elem().Name() + "." + m.Name
			among := slices.ContainsFunc(calls, func(c blocking) bool { return c.name == name || strings.HasPrefix(c.name, name+" ") })
			if _, excused := elsewhere[name]; among == excused {
				t.Errorf("%s is among the calls: %t; excused: %t", name, among, excused)
			}
		}
	}
}

// absences are the ways in which a cluster can be gone.
var absences = []struct {
	name string
	gone func(w *world)
}{
	{"silent", func(w *world) {
		for _, n := range append(w.Coordinators(), w.Nodes()...) {
			n.Pause()
		}
	}},
	{"down", func(w *world) {
		for _, n := range append(w.Coordinators(), w.Nodes()...) {
			n.Crash()
		}
	}},
}

// Every call that waits ends with its context, at once.
func TestCallsEndWithTheirContext(t *testing.T) {
	for _, gone := range absences {
		for _, x := range calls {
			t.Run(x.name+" while the cluster is "+gone.name, func(t *testing.T) {
				bubble(t, one, func(w *world) {
					y := newParty(w)
					gone.gone(w)
					const limit = 7 * time.Second
					began := time.Now()
					ctx, cancel := context.WithTimeout(w.t.Context(), limit)
					defer cancel()
					w.is("at the deadline", x.call(ctx, y), context.DeadlineExceeded)
					if took := time.Since(began); took < limit || took > limit+x.grace {
						w.t.Errorf("it took %v, not %v", took, limit)
					}

					ctx, cancel = context.WithCancel(w.t.Context())
					time.AfterFunc(limit, cancel)
					began = time.Now()
					err := x.call(ctx, y)
					if err == nil {
						w.t.Error("no error")
					}
					if took := time.Since(began); took > limit+x.grace {
						w.t.Errorf("cancelled after %v it took %v", limit, took)
					}
				})
			})
		}
	}
}

// What has no context is bounded, and a client ends at once, whatever it is doing.
func TestClosesAreBounded(t *testing.T) {
	for _, gone := range absences {
		t.Run("cluster is "+gone.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				y := newParty(w)
				w.send(y.tx, "v")
				gone.gone(w)
				for _, x := range []struct {
					name  string
					close func() error
					limit time.Duration
				}{
					{"consumer", y.in.Close, 3 * time.Second},
					{"producer", y.p.Close, 10 * time.Second},
					{"idempotent producer", y.plain.Close, 5 * time.Second},
					{"client", y.c.Close, 0},
				} {
					began := time.Now()
					_ = x.close()
					if took := time.Since(began); took > x.limit {
						w.t.Errorf("closing the %s took %v", x.name, took)
					}
				}
			})
		})
	}
}

// Close ends every call that is under way.
func TestCloseEndsCalls(t *testing.T) {
	for _, x := range calls {
		if x.name == "Dial" {
			continue // it has a client of its own
		}
		t.Run(x.name, func(t *testing.T) {
			bubble(t, one, func(w *world) {
				y := newParty(w)
				absences[0].gone(w)
				done := later(func() error { return x.call(w.within(time.Hour), y) })
				pass(time.Second)
				w.pending("call", done)
				began := time.Now()
				_ = y.c.Close()
				err := <-done
				if err == nil || errors.Is(err, context.DeadlineExceeded) {
					w.t.Errorf("ended with %v", err)
				}
				if took := time.Since(began); took > longestBackoff {
					w.t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// A client that loses its whole cluster for a long time finds it again.
func TestClusterComesBack(t *testing.T) {
	bubble(t, three, func(w *world) {
		p := w.producer(w.Client(), "id", client.WithTransactionTimeout(15*time.Minute))
		w.write(p, "1")
		for _, gone := range absences {
			tx := w.begin(p)
			w.stored(tx, gone.name)
			done := later(func() error { return tx.Commit(w.within(time.Hour)) })
			gone.gone(w)
			pass(2 * time.Minute)
			for _, n := range append(w.Coordinators(), w.Nodes()...) {
				n.Resume()
				n.Start()
			}
			if err := <-done; err != nil {
				w.t.Fatalf("%s: %v", gone.name, err)
			}
		}
		w.shows("1", "silent", "down")
	})
}

var _ clienttest.TB = (*testing.B)(nil)
