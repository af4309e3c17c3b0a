package history

import "slices"

// toyClient is one incarnation of a client of the toy cluster.
type toyClient struct {
	t     *toy
	s     *Session
	pause func()
}

// init calls InitTransactions; false: its answer was lost.
func (c *toyClient) init(tid string) (*toyProducer, TxID, bool) {
	call := c.s.Init(tid)
	c.pause()
	if c.t.chance(3) {
		if c.t.chance(50) {
			c.t.init(tid)
		}
		c.pause()
		call.Failed("CONTEXT_ENDED")
		return nil, TxID{}, false
	}
	p, last := c.t.init(tid)
	id := TxID{Producer: p.id, Epoch: p.epoch}
	previous, outcome := TxID{}, Unknown
	if last != nil {
		previous, outcome = last.id, last.outcome
	}
	c.pause()
	call.Done(id.Producer, id.Epoch, previous, outcome)
	return p, id, true
}

// begin begins a transaction.
func (c *toyClient) begin(tid string, id *TxID) *toyTx {
	id.Number++
	tx := &toyTx{id: *id, tid: tid, moves: make(map[string][]Move)}
	tx.note = c.s.Begin(tid, tx.id)
	c.t.order = append(c.t.order, tx)
	return tx
}

// send sends a record; false: it was refused, and the transaction is doomed.
func (c *toyClient) send(tx *toyTx, p Partition, amount int64, source Source) bool {
	v := tx.note.Send(p, amount, source)
	c.pause()
	producer := c.t.producers[tx.tid]
	if tx.outcome != Unknown || tx.id.Epoch != producer.epoch && c.t.bug != "nothing is fenced" {
		tx.note.Refused(p, v)
		return false
	}
	producer.open = tx
	if !slices.Contains(tx.due, p) {
		tx.due = append(tx.due, p)
	}
	offset := c.t.append(p, tx.id, v)
	if c.t.chance(70) {
		c.pause()
		tx.note.Acked(p, v, offset)
	}
	return true
}

// end commits or aborts; Unknown: the answer was lost.
func (c *toyClient) end(tx *toyTx, commit bool) Outcome {
	call := tx.note.Abort
	if commit {
		call = tx.note.Commit
	}
	k := call()
	c.pause()
	if c.t.chance(8) {
		if c.t.chance(50) {
			c.t.decide(tx, commit)
		}
		c.pause()
		k.Failed("OUTCOME_UNKNOWN")
		return Unknown
	}
	o := c.t.decide(tx, commit)
	if c.t.buggy("commit said before it is decided", 10) && commit && o == Committed {
		tx.outcome = Aborted
	}
	if o == Committed && !commit {
		o = Aborted // the answer to its abort is a success of an earlier commit: the client never does that
	}
	c.pause()
	k.Done(o, "")
	return o
}

// crashes reports whether the client crashes here.
func (c *toyClient) crashes() bool { return c.t.chance(2) }

// writer writes transfers, and plain input for the flows.
func (t *toy) writer(client uint32, tid string, rounds int) {
	t.spawn(func(pause func()) {
		for range rounds {
			c := &toyClient{t, t.rec.Session(client), pause}
			_, id, ok := c.init(tid)
			for n := 0; ok && n < 6; n++ {
				ok = c.transfer(tid, &id)
			}
		}
	})
}

// transfer is one transaction of a writer; false: the client begins anew.
func (c *toyClient) transfer(tid string, id *TxID) bool {
	tx := c.begin(tid, id)
	from, to := c.t.partition("bank"), c.t.partition("bank")
	amount := int64(c.t.rng.IntN(100))
	ok := c.send(tx, from, -amount, Source{}) && c.send(tx, to, amount, Source{})
	for n := c.t.rng.IntN(3); ok && n > 0; n-- {
		ok = c.send(tx, c.t.partition("in"), 0, Source{})
	}
	if c.crashes() {
		return false
	}
	if !ok {
		c.end(tx, false)
		return true
	}
	commit := !c.t.chance(20)
	o := c.end(tx, commit)
	for o == Unknown && c.t.chance(50) {
		o = c.end(tx, commit)
	}
	return o != Unknown
}

// plain writes without transactions.
func (t *toy) plain(client uint32, records int) {
	t.spawn(func(pause func()) {
		s := t.rec.Session(client)
		t.ids++
		producer := TxID{Producer: t.ids}
		stream := s.Plain(0)
		for range records {
			p := t.partition("plain")
			v := stream.Send(p, 0, Source{})
			pause()
			offset := t.append(p, producer, v)
			pause()
			if t.chance(80) {
				stream.Acked(p, v, offset)
			}
		}
	})
}

// reader reads a topic over and over.
func (t *toy) reader(client uint32, topic string, isolation Isolation, polls int) {
	t.spawn(func(pause func()) {
		r := t.rec.Session(client).Reader(isolation)
		at := map[Partition]int64{{topic, 0}: 0, {topic, 1}: 0}
		for p := range at {
			r.Position(p, 0)
		}
		for range polls {
			p := t.partition(topic)
			if t.chance(5) {
				at[p] = 0
				r.Position(p, 0)
			}
			next, seen := t.read(p, isolation, at[p])
			r.Read(p, at[p], next, seen)
			at[p] = next
			pause()
		}
	})
}

// worker is a stage of a flow. Two of them may own the same partition.
func (t *toy) worker(client uint32, tid string, f Flow, rounds int, drain bool) {
	t.spawn(func(pause func()) {
		for range rounds {
			c := &toyClient{t, t.rec.Session(client), pause}
			_, id, ok := c.init(tid)
			r := c.s.Reader(ReadCommitted)
			at := make(map[Partition]int64)
			k := c.s.FetchOffsets(f.Group)
			var positions []Position
			for _, p := range []Partition{{f.From, 0}, {f.From, 1}} {
				o, some := t.groups[f.Group][p]
				at[p] = o
				if !some {
					o = -1
				}
				positions = append(positions, Position{p, o})
				r.Position(p, at[p])
			}
			pause()
			k.Done(positions)
			for n, idle := 0, 0; ok && (n < 6 || drain); n++ {
				p := Partition{f.From, int32(n % 2)}
				before := at[p]
				ok = c.process(tid, &id, f, r, p, at)
				if idle++; at[p] != before {
					idle = 0
				}
				if drain && idle == 4 {
					return // everything is consumed, or held back for ever
				}
			}
		}
	})
}

// process is one transaction of a worker; false: it begins anew.
func (c *toyClient) process(tid string, id *TxID, f Flow, r *Reader, p Partition, at map[Partition]int64) bool {
	next, seen := c.t.read(p, ReadCommitted, at[p])
	if next == at[p] {
		c.pause()
		return true
	}
	tx := c.begin(tid, id)
	r.ReadIn(tx.note, p, at[p], next, seen)
	move := Move{p, at[p], next}
	tx.note.SendOffsets(f.Group, []Move{move})
	tx.moves[f.Group] = []Move{move}
	ok := true
	for _, s := range seen {
		if c.t.buggy("an input passed over", 20) {
			continue
		}
		ok = ok && c.send(tx, Partition{f.To, int32(s.Offset % 2)}, 0, Source{Known: true, Partition: p.Index, Offset: s.Offset})
	}
	if c.crashes() {
		return false
	}
	o := c.end(tx, ok)
	if o == Committed {
		at[p] = next
		return true
	}
	r.Position(p, at[p])
	return false
}

// asker asks how transactions ended, and raises epochs as an operator.
func (t *toy) asker(client uint32, calls int) {
	t.spawn(func(pause func()) {
		s := t.rec.Session(client)
		for range calls {
			pause()
			if len(t.order) == 0 {
				continue
			}
			tx := t.order[t.rng.IntN(len(t.order))]
			if t.chance(5) {
				k := s.Fence(tx.tid)
				pause()
				p, _ := t.init(tx.tid)
				k.Done(p.id, p.epoch, TxID{}, Unknown)
				continue
			}
			k := s.Outcome(tx.tid, tx.id)
			pause()
			o := tx.outcome
			switch {
			case o != Unknown && t.chance(20):
				o = Forgotten
			case o == Unknown && t.producers[tx.tid].epoch == tx.id.Epoch:
				o = Open
			case o == Unknown:
				o = Aborted
			case t.buggy("an outcome is told wrong", 5):
				o = Committed + Aborted - o
			}
			pause()
			k.Done(o, "")
		}
	})
}

// everything runs all workloads, and returns the history.
func (t *toy) everything(size int) *History {
	for i, tid := range []string{"w1", "w2", "w3"} {
		t.writer(uint32(i)+1, tid, size)
	}
	t.writer(9, "w1", size/2) // the same id twice: they take it from each other
	t.plain(10, size*4)
	for i, f := range t.rules.Flows {
		t.worker(uint32(20+i), f.Group+"-a", f, size, false)
		t.worker(uint32(30+i), f.Group+"-b", f, size, false)
	}
	t.asker(40, size*4)
	for i, topic := range []string{"bank", "in", "plain"} {
		t.reader(uint32(50+i), topic, ReadCommitted, size*8)
		t.reader(uint32(60+i), topic, ReadUncommitted, size*8)
	}
	t.run()
	// Then one worker after the other takes in what is left.
	for i, f := range t.rules.Flows {
		for _, tx := range t.order {
			t.expire(tx)
		}
		t.settle(100)
		t.worker(uint32(70+i), f.Group+"-drain", f, 50, true)
		t.run()
	}
	return t.history()
}
