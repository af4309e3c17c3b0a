package partition

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// machine is the state machine of a shard: it hands every entry to the pure
// core, writes index rows for the batches it stored, and notes who is to be
// woken. Apply holds the lock only while the core works.
//
// What Apply returns, by command: appends []pstate.BatchResult in the order of
// the payloads; markers and enlist answers []pstate.MarkerResult; partitions
// pstate.SyncResult; forgetting the []uint64 that were kept; log starts
// []pstate.LogStartResult; relocations a pstate.RelocateCode; what rewrites batches,
// and the end of a compaction, a pstate.RewriteCode.
type machine struct {
	cfg     pstate.Config
	waiters *waiters
	// opened is set when an entry opened a transaction; the enlister takes it.
	opened atomic.Bool

	mu    sync.RWMutex
	state *pstate.State

	key, value []byte // scratch space of the owner loop
}

var _ raftstore.Machine = (*machine)(nil)

func newMachine(cfg pstate.Config, w *waiters) *machine {
	return &machine{cfg: cfg, waiters: w, state: pstate.New(cfg)}
}

// Apply implements [raftstore.Machine]. An entry that cannot be decoded comes
// from a newer version or a damaged log. To skip it would make this replica
// differ from the others for ever.
func (m *machine) Apply(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	result, err := m.apply(e, rows)
	if errors.Is(err, codec.ErrVersion) {
		err = fmt.Errorf("%w; start this node with the program that the other nodes run, its data stay as they are", err)
	}
	return result, err
}

func (m *machine) apply(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	kind, err := pstate.KindOf(e.Data)
	if err != nil {
		return nil, err
	}
	switch kind {
	case pstate.KindAppends:
		return m.applyAppends(e, rows)
	case pstate.KindMarkers:
		c, err := pstate.DecodeMarkers(e.Data)
		if err != nil {
			return nil, err
		}
		return m.ended(func(s *pstate.State) []pstate.MarkerResult { return s.Markers(e.Index, c) }), nil
	case pstate.KindEnlistAnswers:
		c, err := pstate.DecodeEnlistAnswers(e.Data)
		if err != nil {
			return nil, err
		}
		return m.ended(func(s *pstate.State) []pstate.MarkerResult { return s.EnlistAnswers(e.Index, c) }), nil
	case pstate.KindSyncPartitions:
		return m.applySync(e, rows)
	case pstate.KindForget:
		c, err := pstate.DecodeForget(e.Data)
		if err != nil {
			return nil, err
		}
		var kept []uint64
		m.change(func(s *pstate.State) { kept = s.Forget(e.Index, c) })
		return kept, nil
	case pstate.KindAdvanceLogStarts:
		return m.applyLogStarts(e, rows)
	case pstate.KindRelocate:
		return m.applyRelocate(e, rows)
	case pstate.KindRewrite:
		return m.applyRewrite(e, rows)
	case pstate.KindCompacted:
		c, err := pstate.DecodeCompacted(e.Data)
		if err != nil {
			return nil, err
		}
		var code pstate.RewriteCode
		m.change(func(s *pstate.State) { code = s.Compacted(e.Index, c) })
		return code, nil
	case pstate.KindConfigure:
		c, err := pstate.DecodeConfigure(e.Data)
		if err != nil {
			return nil, err
		}
		m.change(func(s *pstate.State) { s.Configure(e.Index, c) })
		return nil, nil
	}
	return nil, pstate.ErrKind
}

func (m *machine) change(fn func(*pstate.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn(m.state)
}

// read lets fn look at the state. fn must be quick: entries wait meanwhile.
func (m *machine) read(fn func(*pstate.State)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	fn(m.state)
}

func (m *machine) applyAppends(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	appends, spans, err := pstate.DecodeAppends(e.Data)
	if err != nil {
		return nil, err
	}
	results := make([]pstate.BatchResult, 0, len(spans))
	m.change(func(s *pstate.State) {
		for _, a := range appends {
			results = s.Append(e.Index, a, results)
		}
	})
	n := 0
	for _, a := range appends {
		for _, b := range a.Batches {
			if res := results[n]; res.Code == pstate.CodeAppended {
				m.writeRow(rows, b.Partition, log.Batch{
					BaseOffset: res.BaseOffset, Count: b.Count,
					Index: e.Index, Position: spans[n].Pos, Length: spans[n].Len,
					Ref: a.Ref, BaseSequence: b.BaseSequence,
					MaxTimestamp: b.MaxTimestamp, RunningMaxTimestamp: res.RunningMaxTimestamp,
				})
				m.waiters.mark(b.Partition)
				if res.OpensTxn {
					m.opened.Store(true)
				}
			}
			n++
		}
	}
	return results, nil
}

func (m *machine) writeRow(rows raftstore.RowWriter, partition uint64, b log.Batch) {
	m.key = log.AppendKey(m.key[:0], partition, b.BaseOffset)
	m.value = log.AppendValue(m.value[:0], b)
	rows.Set(m.key, m.value)
}

// ended applies decisions and marks the partitions whose stable end moved.
func (m *machine) ended(fn func(*pstate.State) []pstate.MarkerResult) []pstate.MarkerResult {
	var results []pstate.MarkerResult
	m.change(func(s *pstate.State) { results = fn(s) })
	for _, res := range results {
		for _, id := range res.Moved {
			m.waiters.mark(id)
		}
	}
	return results
}

func (m *machine) applySync(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	c, err := pstate.DecodeSyncPartitions(e.Data)
	if err != nil {
		return nil, err
	}
	var res pstate.SyncResult
	m.change(func(s *pstate.State) { res = s.SyncPartitions(e.Index, c) })
	for _, id := range res.Removed {
		// The batches stay in the log, unreachable, until it is trimmed.
		rows.DeleteRange(log.PartitionRange(id))
		m.waiters.mark(id)
	}
	return res, nil
}

// applyLogStarts drops the rows of whole segments that lie below the new starts.
func (m *machine) applyLogStarts(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	c, err := pstate.DecodeAdvanceLogStarts(e.Data)
	if err != nil {
		return nil, err
	}
	var results []pstate.LogStartResult
	m.change(func(s *pstate.State) { results = s.AdvanceLogStarts(e.Index, c) })
	for _, res := range results {
		if res.DroppedFrom < res.DroppedTo {
			rows.DeleteRange(log.AppendKey(nil, res.Partition, res.DroppedFrom), log.AppendKey(nil, res.Partition, res.DroppedTo))
		}
		if res.Moved {
			m.waiters.mark(res.Partition)
		}
	}
	return results, nil
}

// applyRelocate points the rows of batches to where they lie now.
func (m *machine) applyRelocate(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	c, spans, err := pstate.DecodeRelocate(e.Data)
	if err != nil {
		return nil, err
	}
	var code pstate.RelocateCode
	m.change(func(s *pstate.State) { code = s.Relocate(e.Index, c) })
	switch code {
	case pstate.RelocateDropped:
		first, last := c.Batches[0], c.Batches[len(c.Batches)-1]
		rows.DeleteRange(log.AppendKey(nil, c.Partition, first.BaseOffset), log.AppendKey(nil, c.Partition, last.End()))
		return code, nil
	case pstate.RelocateStale:
		return code, nil
	case pstate.Relocated:
	}
	m.writeStored(e, rows, c.Partition, c.Batches, spans)
	return code, nil
}

// applyRewrite has the rows of batches in the place of those that were there.
func (m *machine) applyRewrite(e raftstore.Entry, rows raftstore.RowWriter) (any, error) {
	c, spans, err := pstate.DecodeRewrite(e.Data)
	if err != nil {
		return nil, err
	}
	var code pstate.RewriteCode
	m.change(func(s *pstate.State) { code = s.Rewrite(e.Index, c) })
	if code == pstate.Rewritten {
		rows.DeleteRange(log.AppendKey(nil, c.Partition, c.From), log.AppendKey(nil, c.Partition, uint64(c.To)))
		m.writeStored(e, rows, c.Partition, c.Batches, spans)
	}
	return code, nil
}

// writeStored points the rows of batches to an entry that has them.
func (m *machine) writeStored(e raftstore.Entry, rows raftstore.RowWriter, partition uint64, batches []pstate.StoredBatch, spans []pstate.Span) {
	for i, b := range batches {
		m.writeRow(rows, partition, log.Batch{
			BaseOffset: b.BaseOffset, Count: b.Count,
			Index: e.Index, Position: spans[i].Pos, Length: spans[i].Len,
			Ref: b.Ref, BaseSequence: b.BaseSequence,
			MaxTimestamp: b.MaxTimestamp, RunningMaxTimestamp: b.RunningMaxTimestamp,
		})
	}
}

// Snapshot implements [raftstore.Machine].
func (m *machine) Snapshot() ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.Snapshot(), nil
}

// Restore implements [raftstore.Machine].
func (m *machine) Restore(index uint64, data []byte) error {
	s := pstate.New(m.cfg)
	if index > 0 || len(data) > 0 {
		if err := s.Restore(data); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	return nil
}
