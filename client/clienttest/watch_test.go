package clienttest_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// TestFenceEpoch: whoever came after the one that is meant goes on.
func TestFenceEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster := clienttest.Start(t)
		cluster.CreateTopic("t", 1)
		c := cluster.Client()
		fence := func(epoch, now uint32) {
			t.Helper()
			if res, err := c.Admin().FenceEpoch(t.Context(), "app", epoch); err != nil || res.GetEpoch() != now {
				t.Errorf("fence of epoch %d: %v, %v; the epoch should be %d", epoch, res, err, now)
			}
		}
		commit := func(p *client.Producer) error {
			return p.Transact(t.Context(), func(tx *client.Tx) error {
				return tx.Send(t.Context(), &client.Record{Topic: "t", Value: []byte("x")})
			})
		}
		if _, err := c.InitTransactions(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		p, err := c.InitTransactions(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		fence(0, 1) // it came too late
		if err := commit(p); err != nil {
			t.Errorf("who came after: %v", err)
		}
		fence(1, 2)
		if err := commit(p); !errors.Is(err, client.ErrFenced) {
			t.Errorf("who was meant: %v", err)
		}
	})
}

// TestWatchTransactions: a watch has everything once and in order, over a change of
// leader, and the new leader has the whole history.
func TestWatchTransactions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster := clienttest.Start(t, clienttest.WithCoordinators(3))
		cluster.CreateTopic("t", 1)
		c := cluster.Client()
		p, err := c.InitTransactions(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		events := make(chan *oncelogv1.TransactionEvent, 100)
		watching := make(chan error)
		began, first := make(chan struct{}, 100), make(chan struct{}, 1)
		enough := errors.New("enough")
		go func() {
			watching <- c.Admin().WatchTransactions(t.Context(), &oncelogv1.WatchTransactionsRequest{IdPrefix: "a"}, func(r *oncelogv1.WatchTransactionsResponse) error {
				began <- struct{}{}
				if r.GetMissed() {
					t.Error("something was missed")
				}
				for _, e := range r.GetEvents() {
					events <- e
					switch {
					case e.GetKind() != oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_COMPLETED:
					case e.GetTxn().GetTxnNumber() == 1:
						first <- struct{}{}
					default:
						return enough
					}
				}
				return nil
			})
		}()
		<-began
		commit := func() {
			t.Helper()
			if err := p.Transact(t.Context(), func(tx *client.Tx) error {
				return tx.Send(t.Context(), &client.Record{Topic: "t", Value: []byte("x")})
			}); err != nil {
				t.Fatal(err)
			}
		}
		commit()
		<-first
		to := cluster.CoordinatorLeader().ID()%3 + 1
		from, err := c.Admin().MoveLeader(t.Context(), 1, to)
		if err != nil || from == to || cluster.CoordinatorLeader().ID() != to {
			t.Fatal(from, to, err)
		}
		if _, err := c.InitTransactions(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		commit()
		if err := <-watching; !errors.Is(err, enough) {
			t.Fatal(err)
		}
		close(events)
		var seen []oncelogv1.TransactionEventKind
		last := uint64(0)
		for e := range events {
			if e.GetTransactionalId() != "app" || e.GetIndex() < last {
				t.Errorf("%v after index %d", e, last)
			}
			last = e.GetIndex()
			seen = append(seen, e.GetKind())
		}
		const decided, applied, completed = oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_DECIDED,
			oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_APPLIED, oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_COMPLETED
		if want := []oncelogv1.TransactionEventKind{decided, applied, completed, decided, applied, completed}; !slices.Equal(seen, want) {
			t.Errorf("saw %v", seen)
		}
		history(t, c)
	})
}

// history: all that there was, from the new leader, of one id.
func history(t *testing.T, c *client.Client) {
	t.Helper()
	var all []*oncelogv1.TransactionEvent
	req := &oncelogv1.WatchTransactionsRequest{TransactionalId: "app", AfterIndex: proto.Uint64(0), NoFollow: true}
	if err := c.Admin().WatchTransactions(t.Context(), req, func(r *oncelogv1.WatchTransactionsResponse) error {
		all = append(all, r.GetEvents()...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(all) != 7 || all[0].GetKind() != oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_INITIALISED {
		t.Errorf("history: %v", all)
	}
	long := make([]byte, 250)
	err := c.Admin().WatchTransactions(t.Context(), &oncelogv1.WatchTransactionsRequest{IdPrefix: string(long)}, func(*oncelogv1.WatchTransactionsResponse) error { return nil })
	if e := apierrors.From(err); e.Code != oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED || e.Metadata[apierrors.KeyField] != "id_prefix" {
		t.Error(err)
	}
}

// TestMoveLeader: of shards, and what is refused.
func TestMoveLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster := clienttest.Start(t, clienttest.WithCoordinators(3), clienttest.WithNodes(3))
		cluster.CreateTopic("t", 1)
		admin := cluster.Client().Admin()
		topic, err := admin.DescribeTopic(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		shard, leader := topic.GetPartitions()[0].GetShardId(), cluster.Leader("t", 0).ID()
		to := leader%3 + 1
		if from, err := admin.MoveLeader(t.Context(), shard, to); err != nil || from != leader {
			t.Fatal(from, leader, err)
		}
		if now := cluster.Leader("t", 0).ID(); now != to {
			t.Errorf("node %d leads, not %d", now, to)
		}
		for _, c := range []struct {
			shard, to uint64
			want      oncelogv1.ErrorCode
		}{
			{shard, 9, oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT},
			{77, 1, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD},
			{1, 9, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE},
		} {
			if _, err := admin.MoveLeader(t.Context(), c.shard, c.to); apierrors.CodeOf(err) != c.want {
				t.Errorf("%+v: %v", c, err)
			}
		}
		own := cluster.CoordinatorLeader().ID()
		if from, err := admin.MoveLeader(t.Context(), 1, own); err != nil || from != own {
			t.Error("to who leads already:", from, err)
		}
	})
}
