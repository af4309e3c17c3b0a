package history

import "fmt"

// checkSends looks at acknowledgements alone: an offset belongs to one record,
// and what was sent after an acknowledgement comes after it (I1, I2).
func (c *checker) checkSends() {
	type place struct {
		part   int
		offset int64
	}
	held := make(map[place]ValueID)
	last := make([]int64, len(c.parts)) // of the transaction at hand, by partition
	for i := range c.txns {
		t := &c.txns[i]
		for j := range t.records {
			last[t.records[j].part] = -1
		}
		for j := range t.records {
			r := &t.records[j]
			if r.ack < 0 {
				continue
			}
			name := c.parts[r.part].name
			if c.parts[r.part].log == nil { // else the log tells who is right
				at := place{r.part, r.ack}
				if other, ok := held[at]; ok {
					c.violate(t.about(Readable, AnomalyOffsets, "record %d is acknowledged where record %d of txn %d is", j, other.Index, other.Txn).
						in(name, r.ack))
				}
				held[at] = ValueID{t.n, uint32(j)}
			}
			switch {
			case r.ack < last[r.part]:
				c.violate(t.about(ExactlyOnce, AnomalyInternalSend, "record %d is before one that was sent earlier, at offset %d", j, last[r.part]).
					in(name, r.ack))
			case r.ack <= r.floor:
				c.violate(t.about(ExactlyOnce, AnomalyNonmonotonicSend, "record %d was sent when offset %d had been acknowledged", j, r.floor).
					in(name, r.ack))
			}
			last[r.part] = r.ack
		}
	}
}

// checkEnds: what a node tells of LSO and end only grows, and is not above what
// there is in the end; a reader is shown nothing above the LSO (I8).
func (c *checker) checkEnds() {
	type source struct {
		node   string
		reader uint64
		part   int
	}
	told := make(map[source]Ends)
	shown := make(map[source]int64) // end of what a reader was shown
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind != KindEnds && e.Kind != KindRead {
			continue
		}
		s := source{e.Node, e.Reader, c.partitions[e.Partition]}
		if e.Kind == KindRead {
			if n := len(e.Read.Seen); n > 0 && e.Read.Isolation == ReadCommitted {
				shown[s] = max(shown[s], e.Read.Seen[n-1].Offset+1)
			}
			continue
		}
		now := *e.Ends
		if before := told[s]; e.Node != "" {
			if now.Start < before.Start || now.Stable < before.Stable || now.End < before.End {
				c.endsViolation(e, fmt.Sprintf("start, LSO and end moved from %v to %v", before, now))
			}
			told[s] = now
			s.node = ""
			if e.Reader != 0 && now.Stable < shown[s] {
				c.endsViolation(e, fmt.Sprintf("read_committed was shown offset %d, and the LSO is %d", shown[s]-1, now.Stable))
			}
		}
		c.checkToldEnds(e)
	}
}

func (c *checker) checkToldEnds(e *Event) {
	switch log := c.parts[c.partitions[e.Partition]].log; {
	case e.Ends.Start < 0 || e.Ends.Stable < e.Ends.Start || e.Ends.End < e.Ends.Stable:
		c.endsViolation(e, fmt.Sprintf("the LSO %d is not between start %d and end %d", e.Ends.Stable, e.Ends.Start, e.Ends.End))
	case log != nil && e.Ends.Start > log.Start:
		c.endsViolation(e, fmt.Sprintf("the start %d is above the final one, %d", e.Ends.Start, log.Start))
	case log != nil && (e.Ends.Stable > log.Stable || e.Ends.End > log.End):
		c.endsViolation(e, fmt.Sprintf("LSO %d and end %d are above the final %d and %d", e.Ends.Stable, e.Ends.End, log.Stable, log.End))
	}
}

func (c *checker) endsViolation(e *Event, text string) {
	who := "node " + e.Node
	if e.Node == "" {
		who = fmt.Sprintf("reader %d", e.Reader)
	}
	c.violate(Violation{Invariant: Stable, Partition: e.Partition, Offset: e.Ends.Stable, Text: who + ": " + text})
}

// checkReplicas: equal index, equal state (I10).
func (c *checker) checkReplicas() {
	if c.h.Audit == nil {
		return
	}
	type entry struct {
		group string
		index uint64
	}
	type replica struct{ group, node string }
	first := make(map[entry]ReplicaState)
	compared := make(map[replica]bool)
	for _, s := range c.h.Audit.Replicas {
		at := entry{s.Group, s.Index}
		before, ok := first[at]
		switch {
		case !ok:
			first[at] = s
			continue
		case before.Hash != s.Hash:
			c.violate(Violation{
				Invariant: SameState, Offset: -1,
				Text: fmt.Sprintf("%s at index %d: %016x on %s, %016x on %s", s.Group, s.Index, before.Hash, before.Node, s.Hash, s.Node),
			})
		}
		compared[replica{s.Group, s.Node}], compared[replica{s.Group, before.Node}] = true, true
	}
	c.report.Stats.Replicas = len(compared)
}

// checkIdentities: producer ids and epochs are handed out once, and grow (I9).
func (c *checker) checkIdentities() {
	type identity struct {
		producer uint64
		epoch    uint32
	}
	given := make(map[identity]uint64) // call that got it
	owner := make(map[uint64]string)   // transactional id of a producer
	top := make(map[uint64]uint32)     // by producer: highest epoch answered so far
	floors := make([]struct {          // by call: producer and epoch of its id when it began
		producer uint64
		epoch    uint32
	}, len(c.calls))
	current := make(map[string]uint64) // producer of a transactional id
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind == KindInit || e.Kind == KindFence {
			if p, ok := current[e.TransactionalID]; ok {
				floors[e.Call-1].producer, floors[e.Call-1].epoch = p, top[p]
			}
			continue
		}
		if e.Kind != KindAnswer || e.Outcome != Committed {
			continue
		}
		k := &c.calls[e.Call-1]
		if k.kind != KindInit && k.kind != KindFence {
			continue
		}
		id := identity{e.TxID.Producer, e.TxID.Epoch}
		if other, ok := given[id]; ok && k.kind == KindInit {
			c.identityViolation(e.TxID, fmt.Sprintf("handed out by call %d to %q, and by call %d before", e.Call, k.tid, other))
		}
		if k.kind == KindInit { // a Fence tells the epoch that is current, which may be somebody's
			given[id] = e.Call
		}
		if name, ok := owner[id.producer]; ok && name != k.tid {
			c.identityViolation(e.TxID, fmt.Sprintf("producer of %q, and of %q before", k.tid, name))
		}
		owner[id.producer] = k.tid
		if f := floors[e.Call-1]; f.producer == id.producer && f.producer != 0 && (id.epoch < f.epoch || id.epoch == f.epoch && k.kind == KindInit) {
			c.identityViolation(e.TxID, fmt.Sprintf("handed out to %q when epoch %d had been", k.tid, f.epoch))
		}
		current[k.tid] = id.producer
		top[id.producer] = max(top[id.producer], id.epoch)
	}
	c.checkPlainIdentities(owner)
}

// checkPlainIdentities: every plain stream has a producer id of its own.
func (c *checker) checkPlainIdentities(owner map[uint64]string) {
	streams := make(map[uint64]uint64)
	for i := range c.txns {
		t := &c.txns[i]
		if !t.plain || t.id.Producer == 0 {
			continue
		}
		if other, ok := streams[t.id.Producer]; ok {
			c.identityViolation(t.id, fmt.Sprintf("producer of the plain streams %d and %d", other, t.n))
		}
		if name, ok := owner[t.id.Producer]; ok {
			c.identityViolation(t.id, fmt.Sprintf("producer of the plain stream %d and of %q", t.n, name))
		}
		streams[t.id.Producer] = t.n
	}
}

func (c *checker) identityViolation(id TxID, text string) {
	c.violate(Violation{Invariant: UniqueIDs, Offset: -1, TxID: id, Text: text})
}
