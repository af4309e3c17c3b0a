package history

import "slices"

// The scene is a small history in which everything happens once, by hand. Tests
// take one thing of it and make it wrong.

var (
	bank0  = Partition{"bank", 0}
	bank1  = Partition{"bank", 1}
	in0    = Partition{"in", 0}
	out0   = Partition{"out", 0}
	txA    = TxID{1, 0, 1} // committed: a0, a1 in bank/0 at 0, 1; a2 in bank/1 at 0
	txB    = TxID{2, 0, 1} // aborted: b0 in bank/0 at 2
	txC    = TxID{1, 0, 2} // commit without an answer: c0 in bank/0 at 3, c1 in bank/1 at 1
	txD    = TxID{3, 0, 1} // committed: in/0 from 0 to 1, d0 in out/0 at 0
	txE    = TxID{3, 0, 2} // committed: in/0 from 1 to 2, e0 in out/0 at 1
	inputs = TxID{Producer: 4}
)

// scene is the history and the places in it.
type scene struct {
	h  *History
	at map[string]int // events by name
	v  map[string]Value

	rec            *Recorder
	a, b, c, d, e  *Txn
	plain          *Txn
	zombie, worker *Session
}

func newScene() *scene {
	clock := int64(0)
	s := &scene{at: make(map[string]int), v: make(map[string]Value)}
	s.rec = NewRecorder(func() int64 { clock++; return clock })
	s.writers()
	s.flow()
	s.readers()
	s.h = &History{
		Rules:  Rules{Banks: []string{"bank"}, Flows: []Flow{{Group: "g", From: "in", To: "out", Drained: true}}, Healed: true},
		Events: s.rec.Events(), Audit: s.audit(),
	}
	return s
}

// name gives the next event a name.
func (s *scene) name(n string) { s.at[n] = s.count() }

// count returns how many events there are.
func (s *scene) count() int {
	n := 0
	for _, chunk := range s.rec.chunks {
		n += len(chunk)
	}
	return n
}

// send sends a record and keeps its value.
func (s *scene) send(t *Txn, name string, p Partition, amount int64, source Source) {
	s.name("send " + name)
	s.v[name] = t.Send(p, amount, source)
}

func (s *scene) ack(t *Txn, name string, p Partition, offset int64) {
	s.name("ack " + name)
	t.Acked(p, s.v[name], offset)
}

// init is a whole call of InitTransactions.
func (s *scene) init(c *Session, name, tid string, epoch TxID, previous TxID, o Outcome) {
	s.name("init " + name)
	k := c.Init(tid)
	s.name("inited " + name)
	k.Done(epoch.Producer, epoch.Epoch, previous, o)
}

// end is a whole call of Commit or Abort.
func (s *scene) end(k func() *Call, name string, o Outcome) {
	s.name("end " + name)
	c := k()
	s.name("ended " + name)
	c.Done(o, "")
}

func (s *scene) writers() {
	s.zombie = s.rec.Session(1)
	s.init(s.zombie, "1", "one", TxID{Producer: 1}, TxID{}, Unknown)
	s.name("begin a")
	s.a = s.zombie.Begin("one", txA)
	s.send(s.a, "a0", bank0, -5, Source{})
	s.send(s.a, "a1", bank0, -1, Source{})
	s.send(s.a, "a2", bank1, 6, Source{})
	s.ack(s.a, "a0", bank0, 0)
	s.ack(s.a, "a1", bank0, 1)
	s.ack(s.a, "a2", bank1, 0)
	s.end(s.a.Commit, "a", Committed)

	other := s.rec.Session(2)
	s.init(other, "2", "two", TxID{Producer: 2}, TxID{}, Unknown)
	s.b = other.Begin("two", txB)
	s.send(s.b, "b0", bank0, 3, Source{})
	s.ack(s.b, "b0", bank0, 2)
	s.name("asked open")
	open := other.Outcome("two", txB)
	s.name("told open")
	open.Done(Open, "")
	s.end(s.b.Abort, "b", Aborted)

	s.c = s.zombie.Begin("one", txC)
	s.send(s.c, "c0", bank0, -7, Source{})
	s.send(s.c, "c1", bank1, 7, Source{})
	s.ack(s.c, "c0", bank0, 3)
	s.name("end c")
	s.c.Commit()

	next := s.rec.Session(1)
	s.init(next, "1 again", "one", TxID{Producer: 1, Epoch: 1}, txC, Committed)
	asker := s.rec.Session(9)
	for i, q := range []struct {
		tid string
		id  TxID
		o   Outcome
	}{{"one", txA, Committed}, {"two", txB, Aborted}, {"one", txA, Forgotten}} {
		k := asker.Outcome(q.tid, q.id)
		s.name([]string{"told a", "told b", "told a again"}[i])
		k.Done(q.o, "")
	}
}

func (s *scene) flow() {
	s.name("begin plain")
	s.plain = s.rec.Session(3).Plain(4)
	s.send(s.plain, "i0", in0, 0, Source{})
	s.send(s.plain, "i1", in0, 0, Source{})
	s.ack(s.plain, "i0", in0, 0)
	s.ack(s.plain, "i1", in0, 1)

	s.worker = s.rec.Session(4)
	s.init(s.worker, "3", "flow", TxID{Producer: 3}, TxID{}, Unknown)
	s.fetched("fetched", "g", in0, -1)
	r := s.worker.Reader(ReadCommitted)
	r.Position(in0, 0)
	s.name("begin d")
	s.d = s.worker.Begin("flow", txD)
	s.name("read d")
	r.ReadIn(s.d, in0, 0, 1, []Seen{{0, s.v["i0"]}})
	s.name("moves d")
	s.d.SendOffsets("g", []Move{{in0, 0, 1}})
	s.send(s.d, "d0", out0, 0, Source{Known: true, Partition: 0, Offset: 0})
	s.ack(s.d, "d0", out0, 0)
	s.end(s.d.Commit, "d", Committed)
	s.fetched("fetched d", "g", in0, 1)
	s.e = s.worker.Begin("flow", txE)
	s.name("read e")
	r.ReadIn(s.e, in0, 1, 2, []Seen{{1, s.v["i1"]}})
	s.name("moves e")
	s.e.SendOffsets("g", []Move{{in0, 1, 2}})
	s.send(s.e, "e0", out0, 0, Source{Known: true, Partition: 0, Offset: 1})
	s.ack(s.e, "e0", out0, 1)
	s.end(s.e.Commit, "e", Committed)
	s.fetched("fetched e", "g", in0, 2)
}

// fetched is a whole call of FetchOffsets.
func (s *scene) fetched(name, group string, p Partition, offset int64) {
	k := s.worker.FetchOffsets(group)
	s.name(name)
	k.Done([]Position{{p, offset}})
}

func (s *scene) readers() {
	c := s.rec.Session(5)
	r := c.Reader(ReadCommitted)
	s.name("position")
	r.Position(bank0, 0)
	r.Position(bank1, 0)
	s.name("read bank/0")
	r.Read(bank0, 0, 2, []Seen{{0, s.v["a0"]}, {1, s.v["a1"]}})
	s.name("read bank/0 again")
	r.Read(bank0, 2, 4, []Seen{{3, s.v["c0"]}})
	s.name("read bank/1")
	r.Read(bank1, 0, 2, []Seen{{0, s.v["a2"]}, {1, s.v["c1"]}})
	s.name("ends of reader")
	r.Ends("node 1", bank0, Ends{Stable: 4, End: 4})
	u := c.Reader(ReadUncommitted)
	u.Position(bank0, 0)
	s.name("read everything")
	u.Read(bank0, 0, 4, []Seen{{0, s.v["a0"]}, {1, s.v["a1"]}, {2, s.v["b0"]}, {3, s.v["c0"]}})
	s.rec.Ends("node 2", bank0, Ends{Stable: 2, End: 3})
	s.name("ends of node")
	s.rec.Ends("node 2", bank0, Ends{Stable: 4, End: 4})
	moves := []Move{{bank0, 0, 4}}
	s.name("plain commit")
	k := c.CommitOffsets("h", moves)
	s.name("plain committed")
	k.Done(Committed, "")
	s.name("late")
	s.rec.Note("the end")
}

func (s *scene) audit() *Audit {
	record := func(offset int64, id TxID, sequence int64, status Status, name string) LogRecord {
		return LogRecord{Offset: offset, TxID: id, Sequence: sequence, Status: status, Value: s.v[name]}
	}
	return &Audit{
		Logs: []Log{
			{Partition: bank0, Ends: Ends{Stable: 4, End: 4}, Records: []LogRecord{
				record(0, txA, 0, StatusVisible, "a0"), record(1, txA, 1, StatusVisible, "a1"),
				record(2, txB, 0, StatusHidden, "b0"), record(3, txC, 0, StatusVisible, "c0"),
			}},
			{Partition: bank1, Ends: Ends{Stable: 2, End: 2}, Records: []LogRecord{
				record(0, txA, 0, StatusVisible, "a2"), record(1, txC, 0, StatusVisible, "c1"),
			}},
			{Partition: in0, Ends: Ends{Stable: 2, End: 2}, Records: []LogRecord{
				record(0, inputs, 0, StatusVisible, "i0"), record(1, inputs, 1, StatusVisible, "i1"),
			}},
			{Partition: out0, Ends: Ends{Stable: 2, End: 2}, Records: []LogRecord{
				record(0, txD, 0, StatusVisible, "d0"), record(1, txE, 0, StatusVisible, "e0"),
			}},
		},
		Outcomes: []TxOutcome{{txA, Committed}, {txB, Aborted}, {txC, Forgotten}, {txD, Forgotten}, {txE, Committed}},
		Offsets:  []GroupPosition{{"g", in0, 2}, {"h", bank0, 4}},
		Replicas: []ReplicaState{
			{"shard 1", "node 1", 7, 0xa}, {"shard 1", "node 2", 7, 0xa}, {"shard 1", "node 3", 6, 0xb},
			{"shard 2", "node 1", 7, 0xc},
		},
	}
}

// event returns an event by its name, to be changed.
func (s *scene) event(name string) *Event {
	at, ok := s.at[name]
	if !ok {
		panic("no event " + name)
	}
	return &s.h.Events[at]
}

// log returns a partition's log, to be changed.
func (s *scene) log(p Partition) *Log {
	for i := range s.h.Audit.Logs {
		if s.h.Audit.Logs[i].Partition == p {
			return &s.h.Audit.Logs[i]
		}
	}
	panic("no log of " + p.String())
}

// trim has retention remove the records of a final log below an offset.
func (s *scene) trim(p Partition, start int64) {
	l := s.log(p)
	l.Start = start
	l.Records = slices.DeleteFunc(l.Records, func(r LogRecord) bool { return r.Offset < start })
}

// more goes on with the history: what it records is appended.
func (s *scene) more(f func()) {
	n := s.count()
	f()
	s.h.Events = append(s.h.Events, s.rec.Events()[n:]...)
}

// stored appends a record to a log, and moves its ends.
func (s *scene) stored(p Partition, id TxID, sequence int64, status Status, v Value) int64 {
	l := s.log(p)
	offset := l.End
	l.Records = append(l.Records, LogRecord{Offset: offset, TxID: id, Sequence: sequence, Status: status, Value: v})
	l.End++
	if l.Stable == offset && status != StatusOpen {
		l.Stable++
	}
	return offset
}

// remove takes the record at an offset out of a log.
func (s *scene) remove(p Partition, offset int64) {
	l := s.log(p)
	for i := range l.Records {
		if l.Records[i].Offset == offset {
			l.Records = append(l.Records[:i:i], l.Records[i+1:]...)
			return
		}
	}
	panic("no such record")
}

// decide replaces the coordinator's final word about a transaction.
func (s *scene) decide(id TxID, o Outcome) {
	for i := range s.h.Audit.Outcomes {
		if s.h.Audit.Outcomes[i].TxID == id {
			s.h.Audit.Outcomes[i].Outcome = o
			return
		}
	}
	s.h.Audit.Outcomes = append(s.h.Audit.Outcomes, TxOutcome{id, o})
}
