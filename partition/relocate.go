package partition

import (
	"context"
	"errors"

	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
)

// maxRelocated bounds the bytes that one pass writes once more, so that it takes
// little of the disk from appends: 2 MiB a second with the default interval.
const maxRelocated = 64 << 20

// relocate writes the oldest batches that are kept once more, at the end of the
// log, while little else of the log is kept: one topic that is kept for ever must not
// keep the records of all others in its shard.
func (s *shard) relocate(term uint64) {
	n := s.node
	ctx, cancel := n.run.WithTimeout(n.ctx, n.cfg.CallTimeout)
	defer cancel()
	written := 0
	for written < maxRelocated {
		var part moving
		worth := false
		s.machine.read(func(st *pstate.State) {
			if part.id, part.from, part.end, worth = st.Oldest(n.cfg.RelocateBytes); worth {
				part.rewrites, part.index, part.start = st.Rewrites(part.id), st.Index(), st.LogStart(part.id)
				if part.rewrites > 0 { // what rewrites stays below what is stable
					part.end = min(part.end, st.StableEnd(part.id))
				}
			}
		})
		if !worth {
			break
		}
		size, err := s.relocateSome(ctx, term, part)
		if err != nil {
			n.log.Debug("relocation failed", "shard", s.id, "partition", part.id, "error", err)
			break
		}
		written += size
	}
	if written > 0 {
		n.log.Info("relocated what is kept of an old part of the log", "shard", s.id, "bytes", written)
	}
}

// errMoved says that retention was faster.
var errMoved = errors.New("the segment has changed")

// moving is a part of a partition that is relocated.
type moving struct {
	id, from uint64
	end      pstate.End
	start    uint64 // of the partition
	rewrites uint64 // of it
	index    uint64 // of the state that says so
}

// relocateSome relocates batches of a part, as many as make an entry, and returns
// their bytes.
func (s *shard) relocateSome(ctx context.Context, term uint64, p moving) (size int, err error) {
	if p.from >= uint64(p.end) {
		return 0, errMoved
	}
	if refused := s.published(ctx, p.index); refused != nil {
		return 0, refused
	}
	cmd := pstate.Relocate{At: s.node.nowMillis(), Partition: p.id}
	to := p.end
	var payloads [][]byte
	err = s.reading(func() error {
		var found []log.Batch
		err := s.index.Scan(p.id, p.from, uint64(p.end), func(b log.Batch) bool {
			if size > 0 && size+int(b.Length) > maxProposalBytes || len(found) == maxProposalBatches {
				to = pstate.End(b.BaseOffset)
				return false
			}
			size += int(b.Length)
			if p.rewrites == 0 || b.End() > p.start {
				found = append(found, b)
			}
			return true
		})
		for _, b := range found {
			data, readErr := s.read(p.id, b)
			if err = errors.Join(err, readErr); err != nil {
				break
			}
			cmd.Batches = append(cmd.Batches, pstate.StoredBatch{
				BaseOffset: b.BaseOffset, Count: b.Count, Ref: b.Ref, BaseSequence: b.BaseSequence,
				MaxTimestamp: b.MaxTimestamp, RunningMaxTimestamp: b.RunningMaxTimestamp,
			})
			payloads = append(payloads, data)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if p.rewrites > 0 {
		var data []byte
		data, err = pstate.EncodeRewrite(nil, pstate.Rewrite{
			At: cmd.At, Partition: p.id, Seen: p.rewrites, From: p.from, To: to, Replaced: uint64(size), Batches: cmd.Batches,
		}, payloads)
		if err == nil {
			err = s.rewriteWith(ctx, term, data)
		}
	} else {
		err = s.relocateWith(ctx, term, cmd, payloads)
	}
	if err == nil {
		s.node.counters.relocatedBytes.Add(uint64(size))
	}
	return size, err
}

func (s *shard) relocateWith(ctx context.Context, term uint64, cmd pstate.Relocate, payloads [][]byte) error {
	data, err := pstate.EncodeRelocate(nil, cmd, payloads)
	if err != nil {
		return err
	}
	value, err := s.proposeWait(ctx, term, data)
	if err == nil && value == pstate.RelocateStale {
		err = errMoved
	}
	return err
}
