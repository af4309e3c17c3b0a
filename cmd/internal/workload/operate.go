package workload

import (
	"context"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// operate interferes with the transactional ids of others, and looks at the
// positions of their group.
func (w *worker) operate(ctx context.Context) error {
	for !w.over() {
		id := w.cfg.IDs[w.Rand.IntN(len(w.cfg.IDs))]
		var err error
		switch n := w.Rand.IntN(3); {
		case n == 0 && w.cfg.Group != "":
			err = w.lookAtPositions(ctx)
		case n == 1:
			err = w.fence(ctx, id)
		default:
			err = w.abortOpen(ctx, id)
		}
		// That nobody has used an id yet is no failure.
		if codeOf(err) != "UNKNOWN_PRODUCER" && plausible(err) != nil {
			return plausible(err)
		}
		if !w.think(ctx) {
			return ctx.Err()
		}
	}
	return nil
}

func (w *worker) fence(ctx context.Context, id string) error {
	call := w.note.Fence(id)
	return w.bounded(ctx, func(ctx context.Context) error {
		resp, err := w.c.Admin().FenceProducer(ctx, id)
		if err != nil {
			call.Failed(codeOf(err))
			return err
		}
		call.Done(resp.GetProducerId(), resp.GetEpoch(), history.TxID{}, history.Unknown)
		return nil
	})
}

func (w *worker) abortOpen(ctx context.Context, id string) error {
	call := w.note.AdminAbort(id)
	return w.bounded(ctx, func(ctx context.Context) error {
		resp, err := w.c.Admin().AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: id})
		if err != nil {
			call.Failed(codeOf(err))
			return err
		}
		txn := resp.GetTxn()
		call.Done(history.TxID{Producer: txn.GetProducerId(), Epoch: txn.GetEpoch(), Number: txn.GetTxnNumber()})
		return nil
	})
}

func (w *worker) lookAtPositions(ctx context.Context) error {
	call := w.note.FetchOffsets(w.cfg.Group)
	return w.bounded(ctx, func(ctx context.Context) error {
		committed, err := w.c.Admin().GroupOffsets(ctx, w.cfg.Group)
		if err != nil {
			call.Failed(codeOf(err))
			return err
		}
		var positions []history.Position
		for _, p := range w.cfg.all() {
			tp := client.TopicPartition{Topic: w.cfg.Input.Name, Partition: p}
			offset, some := committed[tp]
			if !some {
				offset = -1
			}
			positions = append(positions, history.Position{Partition: partitionOf(tp), Offset: offset})
		}
		call.Done(positions)
		return nil
	})
}
