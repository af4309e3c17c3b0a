package pstate

import (
	"maps"
	"slices"
)

// LogStart says that the records of a partition below an offset are gone.
type LogStart struct {
	Partition uint64
	Start     uint64
}

// AdvanceLogStarts is the command of retention, and of whoever deletes records.
type AdvanceLogStarts struct {
	At     Millis
	Starts []LogStart
}

// LogStartResult is what became of one log start.
type LogStartResult struct {
	Partition uint64
	Code      SyncCode // SyncApplied or SyncUnknownPartition
	Start     uint64   // where the log starts now
	Moved     bool
	// DroppedFrom and DroppedTo are the offsets of the batches that nobody needs
	// any more, To exclusive and at most Start. They are equal if there are none:
	// what is stored goes by segments.
	DroppedFrom, DroppedTo uint64
}

// AdvanceLogStarts moves the starts of partitions, never backwards and never
// past the stable end, and drops what the aborted index says of records below.
// Sequences are not touched: a producer whose records are gone is still known (E7).
// Neither are open transactions: none has records below the stable end.
// The results are in the order of the command.
func (s *State) AdvanceLogStarts(index uint64, c AdvanceLogStarts) []LogStartResult {
	s.step(index, c.At)
	out := make([]LogStartResult, len(c.Starts))
	for i, to := range c.Starts {
		out[i] = s.advance(to)
	}
	s.sweep()
	return out
}

func (s *State) advance(to LogStart) LogStartResult {
	part := s.partitions[to.Partition]
	if part == nil {
		return LogStartResult{Partition: to.Partition, Code: SyncUnknownPartition}
	}
	res := LogStartResult{Partition: to.Partition, Code: SyncApplied, DroppedFrom: part.stored()}
	start := min(to.Start, uint64(part.stable()))
	if res.Moved = start > part.start; res.Moved {
		part.start = start
		part.aborted.trim(start)
		part.dropSegments()
		s.needs.update(part)
	}
	res.Start, res.DroppedTo = part.start, part.stored()
	return res
}

// Expired returns the log starts, at most limit, that retention asks for at a
// time, ascending by partition. It looks at all partitions; ask seldom.
func (s *State) Expired(now Millis, limit int) []LogStart {
	var out []LogStart
	for _, id := range slices.Sorted(maps.Keys(s.partitions)) {
		if len(out) >= limit {
			break
		}
		p := s.partitions[id]
		if start := p.expired(now); start > p.start {
			out = append(out, LogStart{id, start})
		}
	}
	return out
}
