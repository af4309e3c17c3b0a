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
		var (
			partition, from uint64
			end             pstate.End
			worth           bool
		)
		s.machine.read(func(st *pstate.State) { partition, from, end, worth = st.Oldest(n.cfg.RelocateBytes) })
		if !worth {
			break
		}
		size, err := s.relocateSome(ctx, term, partition, from, uint64(end))
		if err != nil {
			n.log.Debug("relocation failed", "shard", s.id, "partition", partition, "error", err)
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

// relocateSome relocates batches in [from, end), as many as make an entry, and
// returns their bytes.
func (s *shard) relocateSome(ctx context.Context, term, partition, from, end uint64) (size int, err error) {
	cmd := pstate.Relocate{At: s.node.nowMillis(), Partition: partition}
	var payloads [][]byte
	err = s.node.reading(func() error {
		var found []log.Batch
		err := s.index.Scan(partition, from, end, func(b log.Batch) bool {
			if len(found) > 0 && size+int(b.Length) > maxProposalBytes {
				return false
			}
			size += int(b.Length)
			found = append(found, b)
			return len(found) < maxProposalBatches
		})
		for _, b := range found {
			data, readErr := s.read(partition, b)
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
	data, err := pstate.EncodeRelocate(nil, cmd, payloads)
	if err != nil {
		return 0, err
	}
	value, err := s.proposeWait(ctx, term, data)
	if err == nil && value != pstate.Relocated {
		err = errMoved
	}
	return size, err
}
