package history

// Kind says what an event is.
type Kind uint8

// The kinds of events. Those of a call carry its number, and so does the
// KindAnswer that ends it; a call without an answer may have had any effect.
const (
	// KindNote: something worth reading in a history, such as a fault (Code).
	KindNote Kind = iota
	// KindBegin: a transaction, or a plain stream (TxID.Number 0), begins (Txn,
	// TxID, TransactionalID).
	KindBegin
	// KindSend: a record is about to be sent (Txn, Value, Partition).
	KindSend
	// KindAck: a record is durable (Txn, Value.ValueID, Partition, Offset; -1: where is
	// not remembered).
	KindAck
	// KindRefuse: a record was refused (Txn, Value.ValueID, Partition).
	KindRefuse
	// KindOffsets: positions were added to the transaction (Txn, Group).
	KindOffsets
	// KindInit: call of InitTransactions (TransactionalID).
	KindInit
	// KindFence: call of FenceProducer by an operator (TransactionalID).
	KindFence
	// KindCommit: call of Commit (Txn, TxID, TransactionalID).
	KindCommit
	// KindAbort: call of Abort (Txn, TxID, TransactionalID).
	KindAbort
	// KindAdminAbort: call of AbortTransaction by an operator (TransactionalID).
	KindAdminAbort
	// KindOutcome: call of Outcome (TxID, TransactionalID).
	KindOutcome
	// KindCommitOffsets: call of a plain commit of positions (Group).
	KindCommitOffsets
	// KindFetchOffsets: call that reads committed positions (Group).
	KindFetchOffsets
	// KindAnswer: the answer to a call (Call, Outcome, Code; TxID and Previous after
	// KindInit, KindFence and KindAdminAbort; Group after KindFetchOffsets).
	KindAnswer
	// KindPosition: a reader stands at Offset of Partition: assigned, sought or
	// rewound (Reader).
	KindPosition
	// KindRead: a reader read a run of a partition (Reader, Partition, Read; Txn if it
	// was inside a transaction).
	KindRead
	// KindEnds: ends of a partition as a node, or a reader, told them (Node or
	// Reader, Partition, Ends).
	KindEnds
	lastKind = KindEnds
)

var kindNames = [...]string{
	"note", "begin", "send", "ack", "refuse", "offsets", "init", "fence", "commit", "abort", "admin-abort", "outcome",
	"commit-offsets", "fetch-offsets", "answer", "position", "read", "ends",
}

// String returns the kind in lower case.
func (k Kind) String() string { return nameOf(kindNames[:], k) }

// MarshalText is [Kind.String].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *Kind) UnmarshalText(b []byte) error { return parseName(k, "kind of event", kindNames[:], b) }

// Event is one thing that happened. Which fields are set depends on its kind.
type Event struct {
	// Time in nanoseconds, by the clock that the recorder was given.
	Time int64 `json:"t"`
	Kind Kind  `json:"e"`
	// Client and Incarnation are who recorded it; 0, 0: the driver.
	Client      uint32 `json:"c,omitempty"`
	Incarnation uint32 `json:"i,omitempty"`
	// Call numbers calls, from 1 and without gaps; an answer has its call's.
	Call uint64 `json:"call,omitempty"`
	// Reader numbers readers, from 1 and without gaps.
	Reader uint64 `json:"r,omitempty"`
	// Txn numbers transactions and plain streams, from 1 and without gaps.
	Txn uint64 `json:"x,omitempty"`
	// TxID is the cluster's name of a transaction, or of a producer.
	TxID            TxID      `json:"id,omitzero"`
	TransactionalID string    `json:"tid,omitempty"`
	Partition       Partition `json:"p,omitzero"`
	Value           Value     `json:"v,omitzero"`
	Offset          int64     `json:"o,omitempty"`
	Outcome         Outcome   `json:"out,omitempty"`
	// Code is what was said, for people: an error code, a reason, a note.
	Code string `json:"code,omitempty"`
	// Node that told it, of KindEnds.
	Node     string    `json:"n,omitempty"`
	Previous *Previous `json:"prev,omitempty"`
	Group    *Group    `json:"g,omitempty"`
	Read     *Read     `json:"read,omitempty"`
	Ends     *Ends     `json:"ends,omitempty"`
}

// Process is one incarnation of a client: it does one thing after the other,
// except that its zombie may go on.
type Process struct{ Client, Incarnation uint32 }

func (e *Event) process() Process { return Process{e.Client, e.Incarnation} }

// Previous is InitTransactions' word about the transaction before it.
type Previous struct {
	TxID    TxID    `json:"id,omitzero"`
	Outcome Outcome `json:"out"`
}

// Group is what happens to positions of one consumer group.
type Group struct {
	Name string `json:"name"`
	// Moves of KindOffsets and KindCommitOffsets.
	Moves []Move `json:"moves,omitempty"`
	// Positions in the answer of KindFetchOffsets: the next offset to read; -1:
	// never committed.
	Positions []Position `json:"at,omitempty"`
}

// Move takes the position of a group in a partition from one offset to another:
// the records at From up to but without Next were consumed.
type Move struct {
	Partition Partition `json:"p"`
	From      int64     `json:"from"`
	Next      int64     `json:"next"`
}

// Position is an offset in a partition.
type Position struct {
	Partition Partition `json:"p"`
	Offset    int64     `json:"o"`
}

// Read is a run of a partition as a reader was shown it: everything visible at
// From up to but without Next.
type Read struct {
	Isolation Isolation `json:"iso,omitempty"`
	From      int64     `json:"from"`
	Next      int64     `json:"next"`
	Seen      []Seen    `json:"seen,omitempty"`
}

// Seen is a record that a reader was shown.
type Seen struct {
	Offset int64 `json:"o"`
	Value  Value `json:"v"`
}

// Ends are the bounds of a partition; all but Start are exclusive.
type Ends struct {
	// Start is the first offset that is kept.
	Start int64 `json:"start"`
	// Stable is the last stable offset (LSO).
	Stable int64 `json:"lso"`
	// End of what is durable: the high watermark, or the applied end.
	End int64 `json:"end"`
}
