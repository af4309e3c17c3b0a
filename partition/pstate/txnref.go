package pstate

import (
	"cmp"
	"strconv"
)

// Millis is a point in time in milliseconds since the Unix epoch, as stamped
// into a command by the leader that proposed it.
type Millis = int64

// TxnRef names one transaction, or, with Number 0, an idempotent producer that
// is in no transaction.
type TxnRef struct {
	ProducerID uint64
	Epoch      uint32
	Number     uint64 // from 1; 0 = no transaction
}

// Transactional reports whether the reference names a transaction.
func (r TxnRef) Transactional() bool { return r.Number > 0 }

// Point returns the position of the reference within its producer.
func (r TxnRef) Point() Point { return Point{r.Epoch, r.Number} }

// Compare orders references by producer, epoch and number.
func (r TxnRef) Compare(o TxnRef) int {
	if c := cmp.Compare(r.ProducerID, o.ProducerID); c != 0 {
		return c
	}
	return r.Point().Compare(o.Point())
}

// String returns "producer/epoch/number".
func (r TxnRef) String() string {
	return strconv.FormatUint(r.ProducerID, 10) + "/" + r.Point().String()
}

// Point is a position in the transactions of one producer. The order is
// lexicographic on (epoch, number); the zero Point is before all of them.
type Point struct {
	Epoch  uint32
	Number uint64
}

// Compare returns -1, 0 or 1 as p is before, at or after o.
func (p Point) Compare(o Point) int {
	if c := cmp.Compare(p.Epoch, o.Epoch); c != 0 {
		return c
	}
	return cmp.Compare(p.Number, o.Number)
}

// String returns "epoch/number".
func (p Point) String() string {
	return strconv.FormatUint(uint64(p.Epoch), 10) + "/" + strconv.FormatUint(p.Number, 10)
}

// Outcome is how a transaction ended. The zero value means that it is open.
type Outcome uint8

// The outcomes. Their numbers are written to logs and snapshots.
const (
	OutcomeNone   Outcome = 0
	OutcomeCommit Outcome = 1
	OutcomeAbort  Outcome = 2
)

// String returns the name of the outcome.
func (o Outcome) String() string {
	switch o {
	case OutcomeNone:
		return "OPEN"
	case OutcomeCommit:
		return "COMMIT"
	case OutcomeAbort:
		return "ABORT"
	}
	return "OUTCOME_" + strconv.Itoa(int(o))
}

// Reason says why a transaction was aborted. A shard carries the coordinator's
// reason through to the producer and decides nothing by it, so values it does
// not know are legal: a newer coordinator must not stop an older shard.
type Reason uint8

// The reasons a shard knows by name. Their numbers are written to logs and
// snapshots.
const (
	ReasonNone       Reason = 0 // committed, or none given
	ReasonClient     Reason = 1 // the producer asked for the abort
	ReasonTimeout    Reason = 2 // the transaction timeout passed
	ReasonFenced     Reason = 3 // InitProducer raised the epoch
	ReasonSuperseded Reason = 4 // a later transaction of the producer began
	ReasonAdmin      Reason = 5 // an operator ended it
	ReasonStray      Reason = 6 // the coordinator does not count this shard as a participant
)

// String returns the name of the reason.
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
	case ReasonStray:
		return "STRAY"
	}
	return "REASON_" + strconv.Itoa(int(r))
}
