package history

// History is everything that the checkers look at.
type History struct {
	// Labels say where the history comes from (seed, commit, scenario); at most 100,
	// for people.
	Labels map[string]string
	// Rules are what the workload promises.
	Rules Rules
	// Events in the order in which they happened.
	Events []Event
	// Audit is the final state; nil: nobody looked, and what needs it is not
	// checked.
	Audit *Audit
}

// Rules are what a workload promises about the values that it writes.
type Rules struct {
	// Flows turn each record of one topic into one of another.
	Flows []Flow `json:"flows,omitempty"`
	// Banks are topics whose amounts add up to 0 in every transaction.
	Banks []string `json:"banks,omitempty"`
	// Healed: the run ended with every node up and time enough, so that nothing may
	// be undecided in the audit, and every LSO is at its end (I11).
	Healed bool `json:"healed,omitempty"`
	// Members: a process that commits positions of a group takes partitions over when
	// it reads where the group stands, as Consume does, and from whoever had them.
	Members bool `json:"members,omitempty"`
	// Compacted are topics of which older records of a key may go, by the number of
	// their keys, see [Value.Key].
	Compacted map[string]int `json:"compacted,omitempty"`
}

// Flow is a read-process-write stage: a group reads From, and for each of its
// records writes one record into To, with the input as its [Source], in the
// transaction that moves the group's position past it.
type Flow struct {
	Group string `json:"group"`
	From  string `json:"from"`
	To    string `json:"to"`
	// Drained: the group must have consumed everything at the end.
	Drained bool `json:"drained,omitempty"`
}

// Audit is the final state of a cluster.
type Audit struct {
	// Logs of all partitions, in any order, no partition twice.
	Logs []Log
	// Outcomes are the coordinator's final word. Transactions may be missing, and
	// Forgotten.
	Outcomes []TxOutcome
	// Offsets are the groups' final positions.
	Offsets []GroupPosition
	// Replicas are state hashes; any number per replica.
	Replicas []ReplicaState
}

// Log is the content of one partition. Start 0 means that retention has removed
// nothing.
type Log struct {
	Partition Partition `json:"p"`
	Ends
	// Records in the order of their offsets.
	Records []LogRecord `json:"-"`
}

// Status is what became of a stored record.
type Status uint8

// The statuses.
const (
	// StatusOpen: its transaction is undecided in the shard.
	StatusOpen Status = iota
	// StatusVisible: read_committed shows it once the LSO has passed it.
	StatusVisible
	// StatusHidden: aborted, or not covered by the commit.
	StatusHidden
)

var statusNames = [...]string{"open", "visible", "hidden"}

// String returns the status in lower case.
func (s Status) String() string { return nameOf(statusNames[:], s) }

// MarshalText is [Status.String].
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Status) UnmarshalText(b []byte) error { return parseName(s, "status", statusNames[:], b) }

// NoSequence stands for a sequence that the auditor could not see.
const NoSequence = -1

// LogRecord is one stored record.
type LogRecord struct {
	Offset int64 `json:"o"`
	// TxID of the writer; Number 0: an idempotent producer. The zero TxID: it is
	// not known.
	TxID TxID `json:"id,omitzero"`
	// Sequence within (TxID, partition), from 0; or NoSequence.
	Sequence int64  `json:"s"`
	Status   Status `json:"st"`
	Value    Value  `json:"v"`
}

// TxOutcome is the coordinator's word about a transaction.
type TxOutcome struct {
	TxID    TxID    `json:"id"`
	Outcome Outcome `json:"out"`
}

// GroupPosition is a group's committed position: the next offset to read.
type GroupPosition struct {
	Group     string    `json:"g"`
	Partition Partition `json:"p"`
	Offset    int64     `json:"o"`
}

// ReplicaState is the hash of a replica's state after it applied an entry.
type ReplicaState struct {
	// Group of replicas: "coordinator", "shard 3".
	Group string `json:"g"`
	// Node that keeps the replica.
	Node string `json:"n"`
	// Index of the last entry applied.
	Index uint64 `json:"i"`
	// Hash of the state.
	Hash uint64 `json:"h"`
}

// LogFromReads builds a Log from two reads of a whole partition to its end: what
// read_committed shows is visible, other records below the LSO are hidden, and
// those from the LSO on are open. Sequences are not known, transactions as the
// server told them.
func LogFromReads(p Partition, ends Ends, committed, uncommitted []LogRecord) Log {
	visible := make(map[int64]bool, len(committed))
	for i := range committed {
		visible[committed[i].Offset] = true
	}
	l := Log{Partition: p, Ends: ends, Records: make([]LogRecord, 0, len(uncommitted))}
	next := 0
	for _, r := range uncommitted {
		// What only read_committed has shown stays in: it is for the checkers to say
		// that this cannot be.
		for ; next < len(committed) && committed[next].Offset <= r.Offset; next++ {
			if c := committed[next]; c.Offset < r.Offset || c.Value != r.Value {
				c.Status, c.Sequence = StatusVisible, NoSequence
				l.Records = append(l.Records, c)
			}
		}
		r.Sequence = NoSequence
		switch {
		case visible[r.Offset]:
			r.Status = StatusVisible
		case r.Offset < ends.Stable:
			r.Status = StatusHidden
		default:
			r.Status = StatusOpen
		}
		l.Records = append(l.Records, r)
	}
	for _, c := range committed[next:] {
		c.Status, c.Sequence = StatusVisible, NoSequence
		l.Records = append(l.Records, c)
	}
	return l
}
