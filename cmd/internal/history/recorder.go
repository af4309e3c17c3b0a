package history

import (
	"slices"
	"sync"
)

// Recorder collects the events of a run. It is safe for concurrent use; so are
// sessions, transactions and readers made from it.
type Recorder struct {
	now func() int64

	mu           sync.Mutex
	tee          func(Event)
	chunks       [][]Event // full ones, and one that is being filled
	calls        uint64
	txns         uint64
	readers      uint64
	incarnations map[uint32]uint32
}

// NewRecorder returns a recorder with a clock: nanoseconds, from any origin.
func NewRecorder(now func() int64) *Recorder {
	return &Recorder{now: now, incarnations: make(map[uint32]uint32)}
}

// chunkEvents is how many events are kept together: adding one never copies
// those before it.
const chunkEvents = 1024

// Events returns a copy of what was recorded so far.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.chunks...)
}

// add records an event and returns it as it was recorded. number, if not nil,
// gives the event a number under the lock.
func (r *Recorder) add(e Event, number func(*Event)) Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time = r.now()
	if number != nil {
		number(&e)
	}
	last := len(r.chunks) - 1
	if last < 0 || len(r.chunks[last]) == chunkEvents {
		r.chunks = append(r.chunks, make([]Event, 0, chunkEvents))
		last++
	}
	r.chunks[last] = append(r.chunks[last], e)
	if r.tee != nil {
		r.tee(e)
	}
	return e
}

// Tee has every event passed on to fn, too, in order, before whoever recorded it
// goes on: what a process that may be killed has done is then known elsewhere. fn
// must not use the recorder.
func (r *Recorder) Tee(fn func(Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tee = fn
}

// Note records something for those who read the history, such as a fault.
func (r *Recorder) Note(text string) { r.add(Event{Kind: KindNote, Code: text}, nil) }

// Ends records the bounds of a partition as a node told them. They must not move
// backwards under any one name, so a node that lost its memory gets a new one.
func (r *Recorder) Ends(node string, p Partition, ends Ends) {
	r.add(Event{Kind: KindEnds, Node: node, Partition: p, Ends: &ends}, nil)
}

// Session begins a new incarnation of a client, 1 and up. Earlier ones may go on
// recording: zombies do.
func (r *Recorder) Session(client uint32) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.incarnations[client]++
	return &Session{r: r, who: Process{client, r.incarnations[client]}}
}

// Session is one incarnation of a client.
type Session struct {
	r   *Recorder
	who Process
}

// Process tells who records.
func (s *Session) Process() Process { return s.who }

func (s *Session) add(e Event, number func(*Event)) Event {
	e.Client, e.Incarnation = s.who.Client, s.who.Incarnation
	return s.r.add(e, number)
}

// Call is a call that has begun.
type Call struct {
	s      *Session
	number uint64
}

func (s *Session) call(e Event) *Call {
	e = s.add(e, func(e *Event) {
		s.r.calls++
		e.Call = s.r.calls
	})
	return &Call{s: s, number: e.Call}
}

func (c *Call) answer(e Event) {
	e.Kind, e.Call = KindAnswer, c.number
	c.s.add(e, nil)
}

// Failed records that the call failed and may all the same have had its effect,
// which is what is assumed of a call without an answer, too. code is for people.
func (c *Call) Failed(code string) { c.answer(Event{Code: code}) }

// Done records the answer. code is for people: an error code or reason, or "".
func (c *Call) Done(o Outcome, code string) { c.answer(Event{Outcome: o, Code: code}) }

// InitCall is a call that raises an epoch.
type InitCall struct{ Call }

// Done records what InitTransactions, or FenceProducer, returned; previous is zero
// if it told of none.
func (c *InitCall) Done(producer uint64, epoch uint32, previous TxID, o Outcome) {
	e := Event{Outcome: Committed, TxID: TxID{Producer: producer, Epoch: epoch}}
	if !previous.IsZero() {
		e.Previous = &Previous{TxID: previous, Outcome: o}
	}
	c.answer(e)
}

// Init records a call of InitTransactions.
func (s *Session) Init(transactionalID string) *InitCall {
	return &InitCall{*s.call(Event{Kind: KindInit, TransactionalID: transactionalID})}
}

// Fence records an operator's FenceProducer.
func (s *Session) Fence(transactionalID string) *InitCall {
	return &InitCall{*s.call(Event{Kind: KindFence, TransactionalID: transactionalID})}
}

// AdminAbortCall is an operator's AbortTransaction.
type AdminAbortCall struct{ Call }

// Done records which transaction was aborted; zero: none was open.
func (c *AdminAbortCall) Done(id TxID) { c.answer(Event{Outcome: Aborted, TxID: id}) }

// AdminAbort records an operator's AbortTransaction.
func (s *Session) AdminAbort(transactionalID string) *AdminAbortCall {
	return &AdminAbortCall{*s.call(Event{Kind: KindAdminAbort, TransactionalID: transactionalID})}
}

// Outcome records that the cluster is asked how a transaction ended.
func (s *Session) Outcome(transactionalID string, id TxID) *Call {
	return s.call(Event{Kind: KindOutcome, TransactionalID: transactionalID, TxID: id})
}

// CommitOffsets records a commit of positions outside of a transaction. Any answer
// but Committed is taken for one that may have come too late.
func (s *Session) CommitOffsets(group string, moves []Move) *Call {
	return s.call(Event{Kind: KindCommitOffsets, Group: &Group{Name: group, Moves: moves}})
}

// FetchOffsetsCall is a call that reads a group's positions.
type FetchOffsetsCall struct {
	Call
	group string
}

// Done records the positions; -1: none is committed.
func (c *FetchOffsetsCall) Done(positions []Position) {
	c.answer(Event{Outcome: Committed, Group: &Group{Name: c.group, Positions: positions}})
}

// FetchOffsets records that the committed positions of a group are read: by
// FetchOffsets, or by a consumer that joins.
func (s *Session) FetchOffsets(group string) *FetchOffsetsCall {
	return &FetchOffsetsCall{*s.call(Event{Kind: KindFetchOffsets, Group: &Group{Name: group}}), group}
}

// Txn is a transaction, or a stream of records outside of any.
type Txn struct {
	s    *Session
	id   TxID
	tid  string
	n    uint64
	mu   sync.Mutex
	next uint32
}

// Begin records a transaction by the id that its handle tells.
func (s *Session) Begin(transactionalID string, id TxID) *Txn {
	return s.begin(&Txn{s: s, id: id, tid: transactionalID})
}

// Plain begins a stream of records of an idempotent producer: each is visible
// once it is durable. producer is 0 when it is not known.
func (s *Session) Plain(producer uint64) *Txn {
	return s.begin(&Txn{s: s, id: TxID{Producer: producer}})
}

func (s *Session) begin(t *Txn) *Txn {
	e := s.add(Event{Kind: KindBegin, TxID: t.id, TransactionalID: t.tid}, func(e *Event) {
		s.r.txns++
		e.Txn = s.r.txns
	})
	t.n = e.Txn
	return t
}

// Number is the transaction's within the history.
func (t *Txn) Number() uint64 { return t.n }

// Send makes the value of the next record and records that it is about to be
// sent to p. amount and source are zero where the workload has no use for them.
// Values must be sent in the order in which they are made.
func (t *Txn) Send(p Partition, amount int64, source Source) Value {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := Value{
		ValueID: ValueID{Txn: t.n, Index: t.next}, Client: t.s.who.Client, Partition: p.Index,
		Amount: amount, Source: source,
	}
	t.next++
	t.s.add(Event{Kind: KindSend, Txn: t.n, Partition: p, Value: v}, nil)
	return v
}

// Acked records that a record is durable, at offset; -1: where is not known.
func (t *Txn) Acked(p Partition, v Value, offset int64) {
	t.s.add(Event{Kind: KindAck, Txn: t.n, Partition: p, Value: Value{ValueID: v.ValueID}, Offset: offset}, nil)
}

// Refused records that the send of a record failed. In a transaction it can then
// never be committed.
func (t *Txn) Refused(p Partition, v Value) {
	t.s.add(Event{Kind: KindRefuse, Txn: t.n, Partition: p, Value: Value{ValueID: v.ValueID}}, nil)
}

// SendOffsets records that the commit is to move positions of a group. It is
// called before the positions are handed over.
func (t *Txn) SendOffsets(group string, moves []Move) {
	t.s.add(Event{Kind: KindOffsets, Txn: t.n, Group: &Group{Name: group, Moves: moves}}, nil)
}

// Commit records a call of Commit. A repetition on the same transaction is a
// call of its own.
func (t *Txn) Commit() *Call { return t.end(KindCommit) }

// Abort records a call of Abort.
func (t *Txn) Abort() *Call { return t.end(KindAbort) }

func (t *Txn) end(k Kind) *Call {
	return t.s.call(Event{Kind: k, Txn: t.n, TxID: t.id, TransactionalID: t.tid})
}

// Reader is a consumer.
type Reader struct {
	s         *Session
	n         uint64 // 0: it has recorded nothing yet; guarded by the recorder
	isolation Isolation
}

// Reader returns a new reader of the session. It gets its number with its first
// event: many consumers never read, and a history has no more readers than events.
func (s *Session) Reader(isolation Isolation) *Reader { return &Reader{s: s, isolation: isolation} }

func (r *Reader) add(e Event) {
	r.s.add(e, func(e *Event) {
		if r.n == 0 {
			r.s.r.readers++
			r.n = r.s.r.readers
		}
		e.Reader = r.n
	})
}

// Position records where the reader stands in a partition: after it was
// assigned, sought, or rewound by an abort.
func (r *Reader) Position(p Partition, offset int64) {
	r.add(Event{Kind: KindPosition, Partition: p, Offset: offset})
}

// Read records that the reader was shown what is visible from offset from up to
// but without next.
func (r *Reader) Read(p Partition, from, next int64, seen []Seen) { r.ReadIn(nil, p, from, next, seen) }

// ReadIn is Read inside a transaction that depends on what was read.
func (r *Reader) ReadIn(t *Txn, p Partition, from, next int64, seen []Seen) {
	e := Event{
		Kind: KindRead, Partition: p,
		Read: &Read{Isolation: r.isolation, From: from, Next: next, Seen: seen},
	}
	if t != nil {
		e.Txn = t.n
	}
	r.add(e)
}

// Ends records the bounds of a partition as the reader was told them with what it
// read. node is who told; "" if that is not known: then they may be older than
// others, for a leader that was deposed does not know yet.
func (r *Reader) Ends(node string, p Partition, ends Ends) {
	r.add(Event{Kind: KindEnds, Node: node, Partition: p, Ends: &ends})
}
