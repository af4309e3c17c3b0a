package workload

import (
	"context"
	"slices"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// draft is a record that is to be written, and then one that was.
type draft struct {
	partition history.Partition
	amount    int64
	source    history.Source

	value  history.Value
	record *client.Record // nil: it was not sent yet
}

// compose draws the records of a transaction.
func (w *worker) compose(b *polled) []*draft {
	switch {
	case b != nil:
		return w.passOn(b)
	case w.cfg.Kind == Transfer:
		return w.transfer()
	default:
		return w.spread()
	}
}

// spread writes some records to each of some partitions, in mixed order.
func (w *worker) spread() []*draft {
	var out []*draft
	for _, p := range w.somePartitions(w.upTo(w.cfg.MaxPartitions)) {
		for range w.upTo(w.cfg.MaxRecords) {
			out = append(out, &draft{partition: p})
		}
	}
	w.Rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// transfer takes an amount from one partition and gives it to others.
func (w *worker) transfer() []*draft {
	parts := w.somePartitions(1 + w.upTo(max(w.cfg.MaxPartitions-1, 1)))
	var out []*draft
	var total int64
	for _, p := range parts[1:] {
		amount := int64(w.upTo(100))
		total += amount
		out = append(out, &draft{partition: p, amount: amount})
	}
	return slices.Insert(out, w.Rand.IntN(len(out)+1), &draft{partition: parts[0], amount: -total})
}

// passOn writes one record for each that was read, to the partition of the same
// number.
func (w *worker) passOn(b *polled) []*draft {
	var out []*draft
	for _, in := range b.records {
		out = append(out, &draft{
			partition: history.Partition{Topic: w.cfg.Output.Name, Index: in.Partition % w.cfg.Output.Partitions},
			source:    history.Source{Known: true, Partition: in.Partition, Offset: in.Offset},
		})
	}
	return out
}

// somePartitions draws n different partitions of Output, or all if there are
// fewer.
func (w *worker) somePartitions(n int) []history.Partition {
	all := w.Rand.Perm(int(w.cfg.Output.Partitions))
	out := make([]history.Partition, min(n, len(all)))
	for i := range out {
		out[i] = history.Partition{Topic: w.cfg.Output.Name, Index: int32(all[i])}
	}
	return out
}

// send writes records down and sends them.
func (w *worker) send(ctx context.Context, t *history.Txn, some []*draft, send func(context.Context, ...*client.Record) error) error {
	records := make([]*client.Record, len(some))
	for i, d := range some {
		d.value = t.Send(d.partition, d.amount, d.source)
		d.record = (&client.Record{Topic: d.partition.Topic, Value: d.value.Encode(w.size())}).WithPartition(d.partition.Index)
		if w.cfg.Keys > 0 {
			d.record.Key = d.value.Key(w.cfg.Keys)
		}
		records[i] = d.record
	}
	return w.bounded(ctx, func(ctx context.Context) error { return send(ctx, records...) })
}

// size draws how long a value is: most stay short.
func (w *worker) size() int {
	if w.cfg.Pad == 0 || w.Rand.IntN(4) > 0 {
		return 0
	}
	return w.Rand.IntN(w.cfg.Pad + 1)
}

// acknowledged writes down where records are, once a Flush or Commit has told.
func acknowledged(t *history.Txn, some []*draft) {
	for _, d := range some {
		t.Acked(d.partition, d.value, d.record.Offset)
	}
}
