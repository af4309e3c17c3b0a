package streams

import (
	"maps"
	"time"

	"github.com/oncelog/oncelog/client"
)

// purgeInterval is the time between two purges of a worker, as
// repartition.purge.interval of Kafka Streams.
const purgeInterval = 30 * time.Second

// purge removes what has been consumed from repartition topics, which nobody else
// reads: otherwise they would keep it for ever.
type purge struct {
	upTo  client.Offsets // committed since the last purge
	last  time.Time
	doing bool // guarded by the worker's mutex
}

// consumedInternal takes note of a commit, and now and then purges.
func (w *worker) consumedInternal() {
	for tp, next := range w.consumed {
		g := w.app.plan.GroupOf(tp.Topic)
		if w.app.plan.Groups[g].Source(tp.Topic).Internal {
			if w.purge.upTo == nil {
				w.purge.upTo = client.Offsets{}
			}
			w.purge.upTo[tp] = next
		}
	}
	rt := w.app.rt
	switch {
	case len(w.purge.upTo) == 0:
		return
	case w.purge.last.IsZero():
		w.purge.last = rt.Now()
		return
	case rt.Since(w.purge.last) < purgeInterval || !w.mayPurge():
		return
	}
	upTo := maps.Clone(w.purge.upTo)
	clear(w.purge.upTo)
	w.purge.last = rt.Now()
	w.group.Go(rt, func() {
		defer w.purged()
		ctx, cancel := rt.WithTimeout(w.work, purgeInterval)
		defer cancel()
		if _, err := w.app.c.Admin().DeleteRecords(ctx, upTo); err != nil && ctx.Err() == nil {
			// The next one removes more. Where the topic is gone, others find out.
			w.app.cfg.logger.Debug("purging repartition topics", "error", err)
		}
	})
}

// mayPurge reports whether no purge runs, and begins one.
func (w *worker) mayPurge() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.purge.doing {
		return false
	}
	w.purge.doing = true
	return true
}

func (w *worker) purged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.purge.doing = false
}
