package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Sentinels, to be found with errors.Is.
var (
	// ErrFenced: a newer InitTransactions of the same transactional id has taken
	// over. This producer is finished; its open transaction was aborted.
	ErrFenced = errors.New("a newer producer has taken over this transactional id")
	// ErrTxDone: the transaction has ended.
	ErrTxDone = errors.New("the transaction has ended")
	// ErrTxOpen: the producer's last transaction has not ended yet.
	ErrTxOpen = errors.New("a transaction is open")
	// ErrTxTimeout: the transaction was open longer than its timeout and was
	// aborted. The producer goes on with the next one.
	ErrTxTimeout = errors.New("the transaction timed out")
	// ErrTxPrepared: a transaction of the transactional id is prepared, and
	// Client.CompletePrepared decides it.
	ErrTxPrepared = errors.New("a transaction is prepared and waits for the word of another system")
	// ErrOutcomeUnknown: no answer to a commit decided it: it was lost, or refused for
	// what passes till the context ended. Call Commit again on the same Tx, ask
	// Client.Outcome, or after a crash Producer.Previous.
	ErrOutcomeUnknown = errors.New("the outcome of the transaction is not known")
	// ErrStaleMember: the consumer no longer owns a partition whose position it
	// wanted to commit, or somebody else moved that position.
	ErrStaleMember = errors.New("the consumer no longer owns the partition, or its position was moved")
	// ErrFencedInstance: another consumer with the same group instance id has taken
	// this one's place.
	ErrFencedInstance = errors.New("another consumer has taken the place of this static member")
	// ErrNoOffset: the group has no committed position in a partition, and StartNone
	// says that it must have.
	ErrNoOffset = errors.New("no position is committed")
	// ErrClosed: the client, producer or consumer was closed.
	ErrClosed = errors.New("closed")
)

// Class says what the caller does next.
type Class uint8

// Classes.
const (
	// ClassRetriable: the same call again. The package has repeated it until the
	// context ended.
	ClassRetriable Class = iota + 1
	// ClassAbortable: abort the transaction and start it over.
	ClassAbortable
	// ClassFatal: InitTransactions again, or stop. Repeating cannot help.
	ClassFatal
)

// String returns the class in one lower case word.
func (c Class) String() string {
	switch c {
	case ClassRetriable:
		return "retriable"
	case ClassAbortable:
		return "abortable"
	case ClassFatal:
		return "fatal"
	default:
		return "unclassified"
	}
}

// Codes of failures that the client finds by itself. All other codes are those
// of ErrorCode in the contract, without their prefix.
const (
	codeDeliveryTimeout = "DELIVERY_TIMEOUT" // not acknowledged within the delivery timeout
	codeContextEnded    = "CONTEXT_ENDED"    // the caller's context ended
	codeOutcomeUnknown  = "OUTCOME_UNKNOWN"  // no answer to a commit decided it
	codeInvalidArgument = "INVALID_ARGUMENT" // refused before anything was sent
	codeBatchTooLarge   = "BATCH_TOO_LARGE"  // refused before anything was sent
	codeTxTimeout       = "TX_TIMEOUT"       // the local end of a transaction's timeout
	codeStaleBatch      = "STALE_BATCH"      // a batch that was rewound, committed before, or comes too early
	codePanicked        = "PANICKED"         // the partitioner panicked within a Send
	codeStaleMember     = "STALE_MEMBER"     // a batch of a partition that the group has asked back
	codeNoOffset        = "NO_OFFSET"        // no committed position, and StartNone
	codePreparedExists  = "PREPARED_EXISTS"  // a transaction that this process knows to be prepared
)

// Error is a failure of this package.
type Error struct {
	// Op is the call that failed: "send", "commit", "poll".
	Op string
	// Code is stable: a name of ErrorCode in the contract, such as "FENCED", or one
	// of DELIVERY_TIMEOUT, CONTEXT_ENDED, OUTCOME_UNKNOWN, TX_OPEN, TX_TIMEOUT,
	// STALE_BATCH, NO_OFFSET, PANICKED, CLOSED.
	Code string
	// Class says what to do next.
	Class Class
	// Outcome is what is known about the transaction, in errors of Commit and Abort.
	Outcome Outcome
	// TxID is the transaction, if the failure is about one.
	TxID TxID
	// Topic and Partition say where, if the failure is about a partition; Topic is
	// empty otherwise.
	Topic string
	// Partition is the index within Topic.
	Partition int32
	// LogStart is the first offset that is kept, with OFFSET_OUT_OF_RANGE.
	LogStart int64
	// Err is one of the sentinels, the context's error, or what the server said.
	Err error
}

// Error returns operation, place and cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("oncelog: ")
	b.WriteString(e.Op)
	if e.Topic != "" {
		fmt.Fprintf(&b, " %s/%d", e.Topic, e.Partition)
	}
	if e.TxID.ProducerID != 0 {
		b.WriteString(" " + e.TxID.String())
	}
	fmt.Fprintf(&b, ": %s (%s)", e.Code, e.Class)
	if e.Err != nil {
		b.WriteString(": " + e.cause())
	}
	return b.String()
}

// cause is the text of Err without what Error has said already: the code, which what a
// server said begins with, and a sentinel's words when the server's are the same.
func (e *Error) cause() string {
	text := e.Err.Error()
	var said *apierrors.Error
	if !errors.As(e.Err, &said) || apierrors.Name(said.Code) != e.Code {
		return text
	}
	text = strings.Replace(text, said.Error(), said.Message, 1)
	return strings.TrimPrefix(text, said.Message+": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns what to do about err: the class of the [*Error] in its chain,
// retriable for the end of a context, fatal for the sentinels about misuse, and
// 0 for nil and for errors that are not of this package.
func ClassOf(err error) Class {
	var e *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Class
	case errors.Is(err, ErrTxDone), errors.Is(err, ErrTxOpen), errors.Is(err, ErrTxPrepared), errors.Is(err, ErrClosed), errors.Is(err, ErrFenced):
		return ClassFatal
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ClassRetriable
	default:
		return 0
	}
}

// endedError is the end of a context while a call was being repeated.
type endedError struct {
	ctx  error            // why the context ended
	last *apierrors.Error // what the last attempt said; may be nil
}

func (e *endedError) Error() string {
	if e.last == nil {
		return e.ctx.Error()
	}
	return e.ctx.Error() + "; last answer: " + e.last.Error()
}

func (e *endedError) Unwrap() error { return e.ctx }

// wrap turns what a call returned into an *Error.
func wrap(op string, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var ended *endedError
	switch {
	case errors.Is(err, ErrClosed):
		return &Error{Op: op, Code: "CLOSED", Class: ClassFatal, Err: ErrClosed}
	case errors.As(err, &ended):
		return &Error{Op: op, Code: codeContextEnded, Class: ClassRetriable, Err: ended}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Op: op, Code: codeContextEnded, Class: ClassRetriable, Err: err}
	}
	return fromServer(op, apierrors.From(err))
}

// fromServer turns an answer of a server into an *Error with its sentinel.
func fromServer(op string, e *apierrors.Error) *Error {
	out := &Error{Op: op, Code: apierrors.Name(e.Code), Err: e}
	out.LogStart, _ = offsetOf(e, apierrors.KeyStartOffset)
	switch e.Class() {
	case apierrors.Retriable, apierrors.UnknownOutcome:
		out.Class = ClassRetriable
	case apierrors.Abortable:
		out.Class = ClassAbortable
	default:
		out.Class = ClassFatal
	}
	sentinel := sentinelOf(e)
	if sentinel != nil {
		out.Err = fmt.Errorf("%w: %w", sentinel, e)
	}
	if errors.Is(sentinel, ErrFenced) {
		out.Class = ClassFatal
	}
	return out
}

// offsetOf returns an offset that an OFFSET_OUT_OF_RANGE tells.
func offsetOf(e *apierrors.Error, key string) (offset int64, ok bool) {
	if e.Code != oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE {
		return 0, false
	}
	offset, err := strconv.ParseInt(e.Metadata[key], 10, 64)
	return max(offset, 0), err == nil
}

func sentinelOf(e *apierrors.Error) error {
	switch e.Code {
	case oncelogv1.ErrorCode_ERROR_CODE_FENCED:
		return ErrFenced
	case oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER:
		return ErrStaleMember
	case oncelogv1.ErrorCode_ERROR_CODE_FENCED_INSTANCE_ID:
		return ErrFencedInstance
	case oncelogv1.ErrorCode_ERROR_CODE_PREPARED_EXISTS:
		return ErrTxPrepared
	case oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, oncelogv1.ErrorCode_ERROR_CODE_TXN_ENDED:
		switch e.Metadata[apierrors.KeyReason] {
		case "FENCED":
			return ErrFenced
		case "TIMEOUT":
			return ErrTxTimeout
		}
	}
	return nil
}

// finishesProducer reports whether a failure leaves nothing to do for the
// producer but InitTransactions: other fatal failures, such as an unknown topic,
// are about one call.
func finishesProducer(e *Error) bool {
	if errors.Is(e.Err, ErrFenced) {
		return true
	}
	switch apierrors.CodeOf(serverError(e)) {
	case oncelogv1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER,
		oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN:
		return true
	}
	return false
}

// serverError returns the server's answer in e, or nil.
func serverError(e *Error) error {
	var s *apierrors.Error
	if errors.As(e.Err, &s) {
		return s
	}
	return nil
}

// invalid refuses an argument before anything is sent.
func invalid(op, format string, args ...any) *Error {
	return &Error{Op: op, Code: codeInvalidArgument, Class: ClassFatal, Err: fmt.Errorf(format, args...)}
}

// noPartition refuses a partition that a topic does not have. The number of a topic's
// partitions never changes, so trying again cannot help.
func noPartition(op string, tp TopicPartition, count int) *Error {
	return &Error{
		Op: op, Code: apierrors.Name(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION), Class: ClassFatal, Topic: tp.Topic, Partition: tp.Partition,
		Err: apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION,
			fmt.Sprintf("there is no partition %d: the topic has %d, from 0", tp.Partition, count)),
	}
}
