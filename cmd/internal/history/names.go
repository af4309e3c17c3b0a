package history

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// TxID names a transaction as the cluster does. Number 0 names an epoch of a
// producer, or an idempotent producer; the zero TxID names nothing.
type TxID struct {
	// Producer id, from 1.
	Producer uint64
	// Epoch of the transactional id.
	Epoch uint32
	// Number within the epoch, from 1.
	Number uint64
}

// Compare orders by producer, epoch and number.
func (t TxID) Compare(o TxID) int {
	return cmp.Or(cmp.Compare(t.Producer, o.Producer), cmp.Compare(t.Epoch, o.Epoch), cmp.Compare(t.Number, o.Number))
}

// IsZero reports whether t names nothing.
func (t TxID) IsZero() bool { return t == TxID{} }

// String returns "producer/epoch/number".
func (t TxID) String() string {
	return strconv.FormatUint(t.Producer, 10) + "/" + strconv.FormatUint(uint64(t.Epoch), 10) + "/" +
		strconv.FormatUint(t.Number, 10)
}

// MarshalText is [TxID.String].
func (t TxID) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *TxID) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), "/")
	if len(parts) != 3 {
		return fmt.Errorf("history: transaction %q: want producer/epoch/number", b)
	}
	producer, err1 := strconv.ParseUint(parts[0], 10, 64)
	epoch, err2 := strconv.ParseUint(parts[1], 10, 32)
	number, err3 := strconv.ParseUint(parts[2], 10, 64)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return fmt.Errorf("history: transaction %q: %w", b, err)
	}
	*t = TxID{producer, uint32(epoch), number}
	return nil
}

// Partition names one partition.
type Partition struct {
	// Topic name.
	Topic string
	// Index within the topic, from 0.
	Index int32
}

// Compare orders by topic and index.
func (p Partition) Compare(o Partition) int {
	return cmp.Or(cmp.Compare(p.Topic, o.Topic), cmp.Compare(p.Index, o.Index))
}

// IsZero reports whether p names nothing.
func (p Partition) IsZero() bool { return p == Partition{} }

// String returns "topic/index".
func (p Partition) String() string { return p.Topic + "/" + strconv.Itoa(int(p.Index)) }

// MarshalText is [Partition.String].
func (p Partition) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Partition) UnmarshalText(b []byte) error {
	text := string(b)
	i := strings.LastIndexByte(text, '/')
	if i < 0 {
		return fmt.Errorf("history: partition %q: want topic/index", b)
	}
	index, err := strconv.ParseInt(text[i+1:], 10, 32)
	if err != nil {
		return fmt.Errorf("history: partition %q: %w", b, err)
	}
	*p = Partition{text[:i], int32(index)}
	return nil
}

// Outcome is what is known, or was answered, about the end of a transaction or
// a call. The endings of a commit are Committed (nil), NotCommitted (class
// abortable, or fatal with an outcome that is not OutcomeForgotten), Forgotten
// (fatal with it) and Unknown (ErrOutcomeUnknown, or no answer at all).
type Outcome uint8

// The outcomes.
const (
	// Unknown: no answer, or one that says that the answer is not known.
	Unknown Outcome = iota
	// Committed, for ever.
	Committed
	// Aborted, for ever: the cluster has decided so.
	Aborted
	// NotCommitted: surely not committed, now or later, decided or not.
	NotCommitted
	// Fenced: as NotCommitted, because a newer producer has taken over.
	Fenced
	// Open: not decided when it was asked.
	Open
	// Forgotten: over, and the cluster no longer knows how.
	Forgotten
	// Invalid: no such transaction was ever handed out.
	Invalid
	// Refused: the call did nothing; for calls that are about no transaction.
	Refused
	lastOutcome = Refused
)

var outcomeNames = [...]string{
	"unknown", "committed", "aborted", "not-committed", "fenced", "open", "forgotten", "invalid", "refused",
}

// String returns the outcome in lower case.
func (o Outcome) String() string { return nameOf(outcomeNames[:], o) }

// MarshalText is [Outcome.String].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (o *Outcome) UnmarshalText(b []byte) error { return parseName(o, "outcome", outcomeNames[:], b) }

// never reports whether the outcome says that the transaction is not committed
// and never will be.
func (o Outcome) never() bool { return o == Aborted || o == NotCommitted || o == Fenced }

// Isolation is what a reader is shown.
type Isolation uint8

// The isolation levels.
const (
	// ReadCommitted shows records of committed transactions below the LSO.
	ReadCommitted Isolation = iota
	// ReadUncommitted shows everything that is durable.
	ReadUncommitted
)

var isolationNames = [...]string{"read_committed", "read_uncommitted"}

// String returns Kafka's name.
func (i Isolation) String() string { return nameOf(isolationNames[:], i) }

// MarshalText is [Isolation.String].
func (i Isolation) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (i *Isolation) UnmarshalText(b []byte) error {
	return parseName(i, "isolation level", isolationNames[:], b)
}

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown-" + strconv.Itoa(int(v))
}

func parseName[T ~uint8](v *T, what string, names []string, b []byte) error {
	for i, name := range names {
		if name == string(b) {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("history: unknown %s %q", what, b)
}
