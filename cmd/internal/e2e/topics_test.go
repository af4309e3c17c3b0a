package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

func (w *world) deleteTopic(t *testing.T, name string) {
	t.Helper()
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) error {
		_, err := oncelogv1.NewCatalogServiceClient(cc).DeleteTopic(ctx, &oncelogv1.DeleteTopicRequest{Name: name})
		return err
	})
	if err != nil {
		t.Fatalf("delete topic %s: %v", name, err)
	}
}

// A topic that is deleted in the middle of a transaction costs that transaction,
// and nothing else.
func TestTopicDeletedInTheMiddleOfATransaction(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	doomed, other := w.topic(t, "doomed", 3), w.topic(t, "other", 3)
	ctx := withPatience(t)
	p := producer(t, c, unique(t, "id"))
	tx := begin(t, p)
	send(t, tx, doomed, numbered("doomed", 9)...)
	send(t, tx, other, numbered("gone", 9)...)
	w.awaitOpen(t, tx.ID())
	w.deleteTopic(t, doomed)

	err := tx.Commit(ctx)
	var e *client.Error
	if !errors.As(err, &e) || e.Code != "INVALID_TXN" {
		t.Errorf("commit after the deletion: %v", err)
	}
	abort(t, tx)
	w.awaitOutcome(t, tx.ID(), aborted)

	// The same producer goes on, and readers of the other topic are not held back.
	tx = begin(t, p)
	send(t, tx, other, numbered("stays", 9)...)
	commit(t, tx)
	wantValues(t, "read_committed", w.readCommitted(t, c, other), numbered("stays", 9)...)
	_, err = w.client(t).Consume(ctx, "", []string{doomed})
	if !errors.As(err, &e) || e.Code != "UNKNOWN_TOPIC" {
		t.Errorf("reading a topic that is gone: %v", err)
	}
}

// A new topic of an old name is another topic: it has none of the old data, and
// neither a late append nor a late commit for the old one touches it.
func TestTopicCreatedAgainIsEmpty(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	name, group := unique(t, "again"), unique(t, "group")
	old := w.createTopic(t, name, 2)
	produce(t, c, name, numbered("old", 20)...)
	ctx := withPatience(t)
	k, err := c.Consume(ctx, group, []string{name}, client.WithManualAssignment())
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Poll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	init := w.initProducer(t, unique(t, "raw"))
	byID := &oncelogv1.PartitionRef{PartitionId: old.GetPartitions()[0].GetPartitionId()}
	if _, err := w.append(t, init.append(1, byID, 0, "open")); err != nil {
		t.Fatal(err)
	}
	w.deleteTopic(t, name)
	fresh := w.createTopic(t, name, 2)
	if fresh.GetTopicId() == old.GetTopicId() {
		t.Errorf("both topics have id %d", old.GetTopicId())
	}

	again := w.client(t)
	wantValues(t, "the new topic", w.readUncommitted(t, again, name))
	if o := w.groupOffset(t, group, name, 0); o != -1 {
		t.Errorf("the group's position in the old topic, %d, is taken for one in the new", o)
	}
	_, err = w.endTransaction(t, ctx, init.end(1, true, byID, 1))
	wantCode(t, "commit into the old topic", err, oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN)
	if _, err := w.endTransaction(t, ctx, init.end(1, false, byID, 1)); err != nil {
		t.Errorf("abort of what was in the old topic: %v", err)
	}
	// A client that knew the old topic finds the new one, if not at the first try:
	// what was made for a partition never goes to another.
	attempt := 0
	eventually(t, "a client that knew the old topic writes to the new one", func() error {
		attempt++
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		p, err := c.IdempotentProducer(short)
		if err != nil {
			return err
		}
		return errors.Join(p.Send(short, records(name, fmt.Sprint("attempt-", attempt))...), p.Flush(short))
	})
	got := w.readCommitted(t, again, name)
	if !slices.Contains(got, fmt.Sprint("attempt-", attempt)) || len(got) > attempt {
		t.Errorf("after %d attempts the new topic has %q", attempt, got)
	}
}

// What a transaction does not name in its commit must not be forgotten silently
// (A19, I2): a shard that holds its records says so.
func TestCommitMustNameEveryShard(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	topic := w.topic(t, "in", 1)
	init := w.initProducer(t, unique(t, "raw"))
	if _, err := w.append(t, init.append(1, partition(topic, 0), 0, "lost")); err != nil {
		t.Fatal(err)
	}
	id := client.TxID{TransactionalID: init.TransactionalID, ProducerID: init.GetProducerId(), Epoch: init.GetEpoch(), Number: 1}
	w.awaitOpen(t, id)
	_, err := w.endTransaction(t, t.Context(), init.end(1, true, nil, 0))
	wantCode(t, "commit that names nothing", err, oncelogv1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS)
	if o := w.outcome(t, id).GetOutcome(); o != undecided {
		t.Errorf("the outcome is %v", o)
	}
	if _, err := w.endTransaction(t, t.Context(), init.end(1, true, partition(topic, 0), 1)); err != nil {
		t.Errorf("commit that names the partition: %v", err)
	}
	w.awaitOutcome(t, id, committed)
	wantValues(t, "read_committed", fetchedValues(w.visible(t, topic, rawRead)), "lost")
}

// A commit covers exactly what it states: records beyond that are not shown.
func TestCommitCoversWhatItStates(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	topic := w.topic(t, "in", 1)
	init := w.initProducer(t, unique(t, "raw"))
	for i, v := range []string{"covered", "covered-too", "beyond"} {
		if _, err := w.append(t, init.append(1, partition(topic, 0), uint64(i), v)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.endTransaction(t, t.Context(), init.end(1, true, partition(topic, 0), 2)); err != nil {
		t.Fatal(err)
	}
	w.awaitOutcome(t, client.TxID{ProducerID: init.GetProducerId(), Number: 1}, committed)
	wantValues(t, "read_committed", fetchedValues(w.visible(t, topic, rawRead)), "covered", "covered-too")
	wantValues(t, "read_uncommitted", fetchedValues(w.visible(t, topic, rawReadAll)), "covered", "covered-too", "beyond")
}
