package client

import (
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// reset goes on behind records that retention has removed before they were read,
// where WithStart says. False: that is not what has happened, or not what is wanted,
// or it could not be found out where to go on. Records that were fetched before are
// handed out first. An offset above the end is never reset: it says that records
// were lost.
func (r *reader) reset(seek uint64, e *apierrors.Error) bool {
	start, ok := offsetOf(e, apierrors.KeyStartOffset)
	if !ok || r.k.cfg.noReset || r.k.cfg.start == StartNone {
		return false
	}
	r.k.mu.Lock()
	from := r.fetched
	overtaken := r.seek == seek && from < start
	r.k.mu.Unlock()
	if !overtaken {
		return false
	}
	to := start
	if r.k.cfg.start == StartLatest {
		latest, err := r.k.c.listOffsets(r.ctx, partitionsOf([]*reader{r}),
			offsetTarget{position: oncelogv1.StartPosition_START_POSITION_LATEST}, r.k.isolation())
		if err != nil {
			return false
		}
		to = max(to, latest[r.tp])
	}
	r.k.mu.Lock()
	if r.seek == seek {
		r.fetched = to
		if len(r.chunks) == 0 {
			r.position = to
		}
	}
	r.k.mu.Unlock()
	r.k.signal()
	r.k.c.log.Warn("records were removed before they were read", "topic", r.tp.Topic, "partition", r.tp.Partition,
		"position", from, "log_start", start, "continues_at", to)
	return true
}
