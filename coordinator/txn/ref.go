package txn

import "cmp"

// Millis is a time in milliseconds since the Unix epoch, or a span of
// milliseconds where the documentation says so.
type Millis = int64

// maxTime bounds every time that enters the machine, so that adding a timeout
// to it cannot overflow. It lies some 140,000 years ahead.
const maxTime Millis = 1 << 52

// Ref names one transaction. No Ref is ever used twice.
type Ref struct {
	// ProducerID is the producer's id; 0 names nobody.
	ProducerID uint64
	// Epoch is raised each time the transactional id is taken over.
	Epoch uint32
	// Number counts the transactions of one epoch from 1; gaps are legal.
	Number uint64
}

// Compare orders two transactions of one producer: first by epoch, then by
// number. It does not look at the producer ids.
func (r Ref) Compare(o Ref) int {
	if c := cmp.Compare(r.Epoch, o.Epoch); c != 0 {
		return c
	}
	return cmp.Compare(r.Number, o.Number)
}

// Less tells whether r is before o; see [Ref.Compare].
func (r Ref) Less(o Ref) bool { return r.Compare(o) < 0 }

// IsZero tells whether r names no transaction at all.
func (r Ref) IsZero() bool { return r == Ref{} }

// Outcome is what was decided about a transaction.
type Outcome uint8

// The outcomes. The zero value is no decision.
const (
	Undecided Outcome = iota
	Committed
	Aborted
)

// String returns the outcome in capitals, as people and metrics see it.
func (o Outcome) String() string {
	switch o {
	case Undecided:
		return "UNDECIDED"
	case Committed:
		return "COMMITTED"
	case Aborted:
		return "ABORTED"
	}
	return "OUTCOME_UNKNOWN"
}

// Reason is why a transaction was aborted; commits have [ReasonNone].
type Reason uint8

// The reasons of an abort.
const (
	// ReasonNone belongs to commits.
	ReasonNone Reason = iota
	// ReasonClient: the producer asked for it.
	ReasonClient
	// ReasonTimeout: the deadline passed; the epoch stays valid.
	ReasonTimeout
	// ReasonFenced: the transactional id was taken over or fenced.
	ReasonFenced
	// ReasonSuperseded: the producer went on with a higher number.
	ReasonSuperseded
	// ReasonAdmin: an administrator aborted it, or deletes its id.
	ReasonAdmin

	lastReason = ReasonAdmin
)

// String returns the reason in capitals, as people and metrics see it.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return "NONE"
	case ReasonClient:
		return "CLIENT"
	case ReasonTimeout:
		return "TIMEOUT"
	case ReasonFenced:
		return "FENCED"
	case ReasonSuperseded:
		return "SUPERSEDED"
	case ReasonAdmin:
		return "ADMIN"
	}
	return "REASON_UNKNOWN"
}

// Progress states how far a transaction got on one partition: a commit covers
// exactly the records below NextSequence. A partition that is not listed has 0.
type Progress struct {
	Partition    uint64
	NextSequence uint64
}

// Participant is a shard that holds, or may hold, records of a transaction.
type Participant struct {
	Shard uint64
	// Progress is sorted by partition, without duplicates. It is empty for
	// aborts, which cover nothing.
	Progress []Progress
}
