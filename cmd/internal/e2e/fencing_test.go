package e2e

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// takeOver lets a second producer of an id write and commit one value.
func takeOver(t *testing.T, c *client.Client, id, topic, value string) {
	t.Helper()
	tx := begin(t, producer(t, c, id))
	send(t, tx, topic, value)
	commit(t, tx)
}

// flushOrCommit returns the first failure of a transaction that must not succeed.
func flushOrCommit(ctx context.Context, tx *client.Tx) error {
	if err := tx.Flush(ctx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// Kafka's testFencingOnCommit.
// Covers TX-06 of CONFORMANCE.md.
func TestFencingOnCommit(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic, id := w.topic(t, "in", 1), unique(t, "id")
	tx := begin(t, producer(t, c, id))
	send(t, tx, topic, "zombie")
	takeOver(t, c, id, topic, "new")
	wantError(t, "commit of the zombie", tx.Commit(withPatience(t)), client.ErrFenced, client.ClassFatal)
	wantError(t, "commit of the zombie, again", tx.Commit(withPatience(t)), nil, client.ClassFatal)
	abort(t, tx)
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "new")
}

// Kafka's testFencingOnSend.
// Covers TX-13 of CONFORMANCE.md.
func TestFencingOnSend(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic, id := w.topic(t, "in", 1), unique(t, "id")
	ctx := withPatience(t)
	tx := begin(t, producer(t, c, id))
	send(t, tx, topic, "zombie")
	takeOver(t, c, id, topic, "new")
	err := tx.Send(ctx, records(topic, "zombie-too")...)
	if err == nil {
		err = tx.Flush(ctx)
	}
	wantError(t, "send of the zombie", err, client.ErrFenced, client.ClassFatal)
	wantError(t, "its commit", tx.Commit(ctx), client.ErrFenced, client.ClassFatal)
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "new")
	wantValues(t, "read_uncommitted", w.readUncommitted(t, c, topic), "zombie", "new")
}

// Kafka's testFencingOnSendOffsets. Offsets travel with the commit here, so that
// is where the zombie learns.
// Covers TX-07 of CONFORMANCE.md.
func TestFencingOnSendOffsets(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, id, group := w.topic(t, "in", 1), w.topic(t, "out", 1), unique(t, "id"), unique(t, "group")
	produce(t, c, in, "seed")
	ctx := withPatience(t)
	zombie := begin(t, producer(t, c, id))
	send(t, zombie, out, "zombie")
	k, err := c.Consume(ctx, group, []string{in}, client.WithManualAssignment())
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Poll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	takeOver(t, c, id, out, "new")
	err = zombie.SendOffsets(ctx, b)
	if err == nil {
		err = zombie.Commit(ctx)
	}
	wantError(t, "offsets of the zombie", err, client.ErrFenced, client.ClassFatal)
	wantValues(t, "read_committed", w.readCommitted(t, c, out), "new")
	if o := w.groupOffset(t, group, in, 0); o != -1 {
		t.Errorf("the zombie moved the position to %d", o)
	}
}

// Kafka's testFencingOnAddPartitions: a shard that has never heard of the id takes
// the zombie's record, and the zombie must still not get anywhere with it.
// Covers TX-14 of CONFORMANCE.md.
func TestFencingOnANewPartition(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	old, id := w.topic(t, "old", 1), unique(t, "id")
	p := producer(t, c, id)
	tx := begin(t, p)
	send(t, tx, old, "aborted")
	abort(t, tx)
	takeOver(t, c, id, old, "new")

	// One partition in each shard, so that most of them have not heard of the fence.
	fresh := w.topic(t, "fresh", 6)
	ctx := withPatience(t)
	tx = begin(t, p)
	err := tx.Send(ctx, records(fresh, numbered("zombie", 30)...)...)
	if err == nil {
		err = flushOrCommit(ctx, tx)
	}
	wantError(t, "the zombie", err, client.ErrFenced, client.ClassFatal)
	abort(t, tx)
	// Read waits for the end of every open transaction: the zombie's, too.
	wantValues(t, "read_committed", w.readCommitted(t, c, fresh, old), "new")
	produce(t, c, fresh, numbered("plain", 30)...)
	wantValues(t, "read_committed later", w.readCommitted(t, c, fresh), numbered("plain", 30)...)
}

// Kafka's AdminFenceProducersTest.
// Covers AF-01, AF-02 of CONFORMANCE.md.
func TestFencingByAnOperator(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic := w.topic(t, "in", 1)
	ctx := withPatience(t)
	for _, open := range []bool{false, true} {
		id := unique(t, "id")
		p := producer(t, c, id)
		tx := begin(t, p)
		send(t, tx, topic, id)
		if !open {
			commit(t, tx)
			tx = begin(t, p)
		}
		err := w.onCoordinator(t, ctx, func(ctx context.Context, cc *grpc.ClientConn) error {
			_, err := oncelogv1.NewTransactionServiceClient(cc).FenceProducer(ctx, &oncelogv1.FenceProducerRequest{TransactionalId: id})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = tx.Send(ctx, records(topic, "zombie")...)
		if err == nil {
			err = flushOrCommit(ctx, tx)
		}
		wantError(t, "after the fence", err, client.ErrFenced, client.ClassFatal)
		want := []string{}
		if !open {
			want = append(want, id)
		}
		got := w.readCommitted(t, c, topic)
		for _, v := range want {
			if len(got) != 1 || got[0] != v {
				t.Errorf("read_committed shows %q, want %q", got, want)
			}
		}
	}
	if got := w.readCommitted(t, c, topic); len(got) != 1 {
		t.Errorf("read_committed shows %q, want one value", got)
	}
}

// An operator's abort is an abort, no fence.
func TestAbortByAnOperatorLeavesTheProducer(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	topic, id := w.topic(t, "in", 1), unique(t, "id")
	ctx := withPatience(t)
	p := producer(t, c, id)
	tx := begin(t, p)
	send(t, tx, topic, "gone")
	w.awaitOpen(t, tx.ID())
	w.abortByOperator(t, id)
	err := tx.Commit(ctx)
	wantError(t, "commit", err, nil, client.ClassAbortable)
	var e *apierrors.Error
	if !errors.As(err, &e) || e.Metadata[apierrors.KeyReason] != "ADMIN" {
		t.Errorf("commit does not say who did it: %v", err)
	}
	abort(t, tx)
	tx = begin(t, p)
	send(t, tx, topic, "stays")
	commit(t, tx)
	wantValues(t, "read_committed", w.readCommitted(t, c, topic), "stays")
}

func (w *world) abortByOperator(t *testing.T, id string) {
	t.Helper()
	err := w.onCoordinator(t, withPatience(t), func(ctx context.Context, cc *grpc.ClientConn) error {
		_, err := oncelogv1.NewTransactionServiceClient(cc).AbortTransaction(ctx,
			&oncelogv1.AbortTransactionRequest{TransactionalId: id, WaitApplied: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
