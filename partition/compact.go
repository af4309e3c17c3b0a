package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/compact"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
)

// cleanupOf reads what the coordinator says of a partition. Nonsense compacts
// nothing: it must not cost records.
func cleanupOf(p *oncelogv1.AssignedPartition) pstate.Cleanup {
	c := pstate.Cleanup{Compact: p.GetCompact(), MinLag: p.GetMinCompactionLagMs(), DeleteRetention: p.GetDeleteRetentionMs()}
	if !c.Compact || c.MinLag < 0 || c.MinLag > pstate.MaxRetention || c.DeleteRetention < 0 || c.DeleteRetention > pstate.MaxRetention {
		return pstate.Cleanup{}
	}
	return c
}

const (
	// compactedPerSecond bounds the bytes of batches that compaction reads, so that it
	// leaves disk and processor to appends and readers.
	compactedPerSecond = 32 << 20
	// compactionStep is how much it reads between two looks at the bounds.
	compactionStep = 1 << 20
	// maxCut bounds what is made of one batch: with what else is in an entry it is below
	// raftstore's default limit of a proposal.
	maxCut = 3 << 20
)

// compactions compacts the partitions that this node leads, one at a time, so that
// there is one set of keys in memory.
//
// A pass reads the keys of what was not compacted yet, up to the last closed segment
// below the stable end. Then it goes over the partition from its start, and where
// something has become obsolete, a command puts what is left in its place. Each of
// them is right by itself: what goes has a newer committed record of its key, which
// nothing but a newer one takes away. So a pass may end anywhere, with the leader
// that makes it; the next one begins anew. Only its end is told to the state, for what
// that says, "below this nothing is hidden any more", takes all of it.
func (n *Node) compactions() {
	for n.run.WaitFor(n.cfg.RetentionInterval, n.ctx.Done()) < 0 {
		for _, s := range n.allShards() {
			lead := s.group.Leadership()
			if !lead.Ready {
				continue
			}
			var due []pstate.Compaction
			now := n.nowMillis()
			s.machine.read(func(st *pstate.State) { due = st.Compactable(now) })
			for _, c := range due {
				if err := s.compact(n.ctx, lead.Term, c); err != nil {
					n.compactionFailed(s, c, err)
				}
			}
		}
	}
}

func (n *Node) compactionFailed(s *shard, c pstate.Compaction, err error) {
	level := n.log.Debug
	if errors.Is(err, errUncleanable) {
		level = n.log.Error
	}
	level("compaction failed", "shard", s.id, "partition", c.Partition, "error", err)
}

// errUncleanable says that a pass will fail again.
var errUncleanable = errors.New("the partition cannot be compacted")

// compactionPass is one pass over a partition.
type compactionPass struct {
	*partitionReader
	pstate.Compaction
	ctx  context.Context
	term uint64
	view view
	keys *compact.Keys
	// tombstones: some are left in [From, To). dropped and written count records that
	// went, and bytes that were written.
	tombstones       bool
	dropped, written int
	// read is of since.
	read  int
	since time.Time
}

// compact makes a pass.
func (s *shard) compact(ctx context.Context, term uint64, c pstate.Compaction) error {
	n := s.node
	p := &compactionPass{
		partitionReader: &partitionReader{
			n: n, shard: s, id: c.Partition, level: pstate.ReadCommitted,
			ref: &oncelogv1.PartitionRef{PartitionId: c.Partition},
		},
		Compaction: c, ctx: ctx, term: term, keys: compact.NewKeys(n.cfg.CompactionKeys), since: n.run.Now(),
	}
	if err := p.look(); err != nil {
		return err
	}
	if err := p.learn(); err != nil {
		return err
	}
	if err := p.clean(); err != nil {
		return err
	}
	data, err := pstate.EncodeCompacted(nil, pstate.Compacted{
		At: n.nowMillis(), Partition: p.id, From: p.From, To: p.To, Horizon: p.Horizon, Tombstones: p.tombstones,
	})
	if err != nil {
		return err
	}
	if err := p.propose(data); err != nil {
		return err
	}
	n.counters.compactions.Add(1)
	n.log.Info("compacted a partition", "shard", s.id, "partition", p.id, "to", uint64(p.To), "dropped", p.dropped, "written_bytes", p.written)
	return nil
}

// look takes the bounds. The rows that are read after it are not older than they.
func (p *compactionPass) look() error {
	v, refused := p.bounds(p.ctx)
	if refused != nil {
		return refused
	}
	if v.compacted != p.From {
		return errCompacted // by an earlier pass, whose end came late
	}
	p.view = v
	return nil
}

// throttle counts bytes that were read, and waits if they are many.
func (p *compactionPass) throttle(bytes int) error {
	p.read += bytes
	due := time.Duration(float64(p.read) / compactedPerSecond * float64(time.Second))
	if ahead := due - p.n.run.Since(p.since); ahead > 10*time.Millisecond {
		p.n.run.WaitFor(ahead, p.ctx.Done(), p.shard.gone)
	}
	return p.ctx.Err()
}

// learn reads the keys of [From, To). If they are too many it lowers To.
func (p *compactionPass) learn() error {
	at := max(p.From, p.view.start)
	for at < uint64(p.To) {
		batches, next, err := p.step(p.view, at, uint64(p.To), compactionStep)
		if err != nil {
			return err
		}
		bytes := 0
		for _, b := range batches {
			if !p.keys.Room(int(b.visible)) {
				p.To = pstate.End(b.BaseOffset)
				return nil
			}
			if err := p.keys.Add(b.BaseOffset, int(b.visible), b.data, decodeLimits()); err != nil {
				return fmt.Errorf("%w: batch at offset %d: %w", errUncleanable, b.BaseOffset, err)
			}
			bytes += len(b.data)
		}
		at = next
		if err := p.throttle(bytes); err != nil {
			return err
		}
	}
	return nil
}

// clean goes over what is stored below To, segment by segment. One in which nothing
// goes stays where it is.
func (p *compactionPass) clean() error {
	at, failures := uint64(0), 0
	for at < uint64(p.To) {
		var base uint64
		var end pstate.End
		ok := false
		p.shard.machine.read(func(st *pstate.State) { base, end, ok = st.SegmentAt(p.id, at) })
		if !ok || base >= uint64(p.To) {
			return nil
		}
		at = max(at, base)
		to := min(uint64(end), uint64(p.To))
		obsolete, err := p.obsolete(at, to)
		for err == nil && obsolete && at < to {
			at, err = p.rewrite(at, to)
		}
		switch {
		case errors.Is(err, errMoved) && failures < maxMoved:
			failures++ // retention, or a relocation, was faster; the segment is another
		case err != nil:
			return err
		default:
			at = to
		}
	}
	return nil
}

// maxMoved is how often a pass looks again at a segment that has changed meanwhile.
const maxMoved = 100

// obsolete reports whether something in [from, to) goes.
func (p *compactionPass) obsolete(from, to uint64) (bool, error) {
	found, tombstones := false, false
	for from < to && !found {
		c, err := p.cut(from, to, func(r compact.Result) bool {
			found = found || !r.Whole
			tombstones = tombstones || r.Tombstones
			return !found
		})
		if err != nil {
			return false, err
		}
		from = c.to
	}
	if !found {
		p.tombstones = p.tombstones || tombstones && to > p.From
	}
	return found, nil
}

// cutting is what is left of the batches in a run of offsets.
type cutting struct {
	to         uint64 // behind the last of them
	seen       uint64 // [pstate.Rewrite.Seen]
	replaced   int    // their bytes
	dropped    int
	size       int // bytes of what is left
	tombstones bool
	batches    []pstate.StoredBatch
	payloads   [][]byte
}

// cut reads the batches in [from, to), as many as make an entry, and cuts them down.
// more, if not nil, is told what became of each, and whether to go on.
func (p *compactionPass) cut(from, to uint64, more func(compact.Result) bool) (c cutting, err error) {
	if err := p.look(); err != nil {
		return c, err
	}
	c.seen = p.view.rewrites
	f := compact.Filter{Keys: p.keys, Horizon: p.Horizon, Limits: decodeLimits(), MaxBatchBytes: MaxBatchBytes, MaxBytes: maxCut}
	err = p.shard.reading(func() error {
		var found []log.Batch
		size := 0
		c.to = to
		err := p.shard.index.Scan(p.id, from, to, func(b log.Batch) bool {
			if len(found) > 0 && (size+int(b.Length) > compactionStep || len(found) == maxProposalBatches) {
				c.to = b.BaseOffset
				return false
			}
			size += int(b.Length)
			found = append(found, b)
			return true
		})
		if err != nil {
			return p.failed(from, err)
		}
		visible, start, err := p.visible(found)
		if err != nil {
			return err
		}
		for i, b := range found {
			if b.End() <= start {
				visible[i] = 0
			}
			r, err := p.cutOne(f, b, visible[i], &c)
			if err != nil {
				return err
			}
			if c.size > maxProposalBytes-maxCut || len(c.batches) > maxProposalBatches || more != nil && !more(r) {
				if i+1 < len(found) {
					c.to = found[i+1].BaseOffset
				}
				return nil
			}
		}
		return nil
	})
	if err == nil {
		err = p.throttle(c.replaced)
	}
	return c, err
}

// visible tells how many records of each batch are committed, and the log start.
func (p *compactionPass) visible(found []log.Batch) (visible []uint32, start uint64, err error) {
	visible = make([]uint32, len(found))
	p.shard.machine.read(func(st *pstate.State) {
		status, ok := st.Partition(p.id)
		switch {
		case !ok:
			err = unknownPartition(p.ref)
			return
		case status.Compacted != p.From:
			err = errCompacted
			return
		}
		start = status.Start
		for i, b := range found {
			visible[i] = st.CommittedPrefix(p.id, b.Ref, b.BaseOffset, b.BaseSequence, b.Count)
		}
	})
	return visible, start, err
}

// cutOne cuts one batch down.
func (p *compactionPass) cutOne(f compact.Filter, b log.Batch, visible uint32, c *cutting) (compact.Result, error) {
	in := compact.Batch{Base: b.BaseOffset, Count: b.Count, Visible: visible}
	if visible > 0 {
		var err error
		if in.Data, err = p.shard.read(p.id, b); err != nil {
			return compact.Result{}, err
		}
	}
	r, err := f.Cut(in)
	if err != nil {
		return r, fmt.Errorf("%w: %w", errUncleanable, err)
	}
	c.replaced += int(b.Length)
	c.dropped += r.Dropped
	c.tombstones = c.tombstones || r.Tombstones && b.End() > p.From
	if r.Whole {
		r.Runs = []compact.Run{{Count: b.Count, MaxTimestamp: b.MaxTimestamp, Data: in.Data}}
	}
	for _, run := range r.Runs {
		c.size += len(run.Data)
		c.payloads = append(c.payloads, run.Data)
		c.batches = append(c.batches, pstate.StoredBatch{
			BaseOffset: b.BaseOffset + uint64(run.Skip), Count: run.Count, Ref: b.Ref, BaseSequence: b.BaseSequence + uint64(run.Skip),
			MaxTimestamp: run.MaxTimestamp, RunningMaxTimestamp: b.RunningMaxTimestamp,
		})
	}
	return r, nil
}

// rewrite puts what is left of batches from an offset on in their place, and returns
// the offset to go on from.
func (p *compactionPass) rewrite(from, to uint64) (next uint64, err error) {
	c, err := p.cut(from, to, nil)
	if err != nil {
		return from, err
	}
	p.tombstones = p.tombstones || c.tombstones
	data, err := pstate.EncodeRewrite(nil, pstate.Rewrite{
		At: p.n.nowMillis(), Partition: p.id, Seen: c.seen, From: from, To: pstate.End(c.to),
		Replaced: uint64(c.replaced), Batches: c.batches,
	}, c.payloads)
	if err != nil {
		return from, err
	}
	if err := p.propose(data); err != nil {
		return from, err
	}
	p.dropped += c.dropped
	p.written += c.size
	p.n.counters.compactedRecords.Add(uint64(c.dropped))
	p.n.counters.compactedBytes.Add(uint64(c.size))
	return c.to, nil
}

// propose carries a command out, in the term of the pass.
func (p *compactionPass) propose(data []byte) error { return p.shard.rewriteWith(p.ctx, p.term, data) }

// rewriteWith carries out a command that rewrites a partition, or ends that.
func (s *shard) rewriteWith(ctx context.Context, term uint64, data []byte) error {
	ctx, cancel := s.node.run.WithTimeout(ctx, s.node.cfg.CallTimeout)
	defer cancel()
	value, err := s.proposeWait(ctx, term, data)
	if err == nil && value == pstate.RewriteStale {
		err = errMoved
	}
	return err
}
