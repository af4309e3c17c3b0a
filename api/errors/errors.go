// Package errors is the one table of failures: it gives every ErrorCode of the
// contract its class (what to do next), its gRPC status code, a text and a line
// of help, and turns failures into gRPC statuses and back.
//
// A failure travels as a google.rpc.ErrorInfo with domain [Domain]; nobody ever
// matches its text.
package errors

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Domain is the domain of every ErrorInfo of this project.
const Domain = "oncelog"

// Code is the closed list of failures, as in the contract.
type Code = oncelogv1.ErrorCode

// Class says what a caller does next.
type Class uint8

// Classes.
const (
	// Retriable: the same call again, unchanged, after a pause.
	Retriable Class = iota + 1
	// Abortable: abort the transaction and start it over.
	Abortable
	// Fatal: InitProducer again, or stop; repeating cannot help.
	Fatal
	// UnknownOutcome: it may have taken effect; the same call again tells.
	UnknownOutcome
)

// String returns the class in lower case words.
func (c Class) String() string {
	switch c {
	case Retriable:
		return "retriable"
	case Abortable:
		return "abortable"
	case Fatal:
		return "fatal"
	case UnknownOutcome:
		return "unknown outcome"
	default:
		return "unclassified"
	}
}

// Keys of the metadata of an error.
const (
	KeyField         = "field"
	KeyLimit         = "limit"
	KeyLeaderNode    = "leader_node"
	KeyLeaderAddress = "leader_address"
	KeyTerm          = "term"
	KeyTopic         = "topic"
	KeyPartition     = "partition"
	KeyPartitionID   = "partition_id"
	KeyOutcome       = "outcome"
	KeyReason        = "reason"
	KeyCurrentEpoch  = "current_epoch"
	KeyExpected      = "expected_sequence"
	KeyShards        = "shards"
	KeyGroup         = "group"
	KeyMember        = "member"
	KeyWhy           = "why"
	KeyTxn           = "txn"
	KeyStartOffset   = "start_offset"
	KeyEndOffset     = "end_offset"
	KeyWanted        = "wanted"
	KeyRegistered    = "registered"
	KeyNodeID        = "node_id"
	KeyClusterID     = "cluster_id"
	KeyVersion       = "current_version"
	KeyLevel         = "level"
	KeyUp            = "up"
	KeyVoters        = "voters"
	KeyPrincipal     = "principal"
	KeyOperation     = "operation"
	KeyResource      = "resource"
	KeyName          = "name"
	KeyQuota         = "quota"
	// KeyRetryAfter is a number of milliseconds; see [Error.After].
	KeyRetryAfter = "retry_after_ms"
)

// Entry is one row of the table.
type Entry struct {
	// Class as a rule; [ClassOf] refines it for CONFLICT.
	Class Class
	// GRPC is the status code that carries it. Nothing that may be repeated
	// blindly uses Unavailable but what truly is: clients and proxies retry that
	// code on their own.
	GRPC codes.Code
	// Text is one sentence for people, used when the caller gives none.
	Text string
	// Help says what to do.
	Help string
}

// Lookup returns the row of a code; an unknown code is treated as INTERNAL, for
// an unknown failure must never be repeated blindly (librdkafka v1.9.0).
func Lookup(c Code) Entry {
	if e, ok := table[c]; ok {
		return e
	}
	return table[oncelogv1.ErrorCode_ERROR_CODE_INTERNAL]
}

// Name returns the code without its prefix, as it stands in an ErrorInfo.
func Name(c Code) string { return strings.TrimPrefix(c.String(), "ERROR_CODE_") }

// Error is a failure with its code. It is a Go error and a gRPC status at the
// same time, so handlers return it as it is.
type Error struct {
	// Code of the failure.
	Code Code
	// Message for people.
	Message string
	// Metadata by the keys above; which code carries which is said in the
	// contract.
	Metadata map[string]string
}

// New makes an error. An empty message takes the table's text. kv are pairs of
// metadata key and value; pairs with an empty value are left out.
func New(c Code, message string, kv ...string) *Error {
	if message == "" {
		message = Lookup(c).Text
	}
	e := &Error{Code: c, Message: message}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] == "" {
			continue
		}
		if e.Metadata == nil {
			e.Metadata = make(map[string]string, len(kv)/2)
		}
		e.Metadata[kv[i]] = kv[i+1]
	}
	return e
}

// After says that to repeat the call sooner than in d, at least a millisecond, cannot help.
// It is in the metadata, and for clients of other makes in a google.rpc.RetryInfo.
func (e *Error) After(d time.Duration) *Error {
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata[KeyRetryAfter] = strconv.FormatInt(max((d+time.Millisecond-1).Milliseconds(), 1), 10) // never too early
	return e
}

// maxRetryAfter bounds what a caller lets itself be told.
const maxRetryAfter = 30 * time.Second

// RetryAfter is how long to wait before the call is repeated, at most half a minute; 0:
// nobody has said.
func (e *Error) RetryAfter() time.Duration {
	if e == nil {
		return 0
	}
	ms, err := strconv.ParseInt(e.Metadata[KeyRetryAfter], 10, 32)
	if err != nil {
		return 0
	}
	return min(max(time.Duration(ms)*time.Millisecond, 0), maxRetryAfter)
}

// InvalidArgument names a field that is missing or malformed.
func InvalidArgument(field, message string) *Error {
	return New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT, field+": "+message, KeyField, field)
}

// Error returns code and message.
func (e *Error) Error() string { return Name(e.Code) + ": " + e.Message }

// Class says what the caller does next.
func (e *Error) Class() Class {
	if e.Code == oncelogv1.ErrorCode_ERROR_CODE_CONFLICT {
		return conflictClass(e.Metadata)
	}
	return Lookup(e.Code).Class
}

// Is reports whether target is an *Error with the same code, so that
// errors.Is(err, errors.New(code, "")) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// GRPCStatus makes the error what a gRPC handler may return.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(Lookup(e.Code).GRPC, e.Message)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: Name(e.Code), Domain: Domain, Metadata: e.Metadata}}
	if after := e.RetryAfter(); after > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	with, err := st.WithDetails(details...)
	if err != nil {
		return st
	}
	return with
}

// Proto returns the error as it stands inside a response.
func (e *Error) Proto() *oncelogv1.Error {
	return &oncelogv1.Error{Code: e.Code, Message: e.Message, Metadata: e.Metadata}
}

// FromProto is the inverse of Proto; nil for nil.
func FromProto(p *oncelogv1.Error) *Error {
	if p == nil {
		return nil
	}
	return &Error{Code: p.GetCode(), Message: p.GetMessage(), Metadata: p.GetMetadata()}
}

// From finds the failure in err: an *Error in its chain, an ErrorInfo of this
// project in its status, a context's end, or what the status code alone says.
// It returns nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return New(oncelogv1.ErrorCode_ERROR_CODE_DEADLINE, err.Error())
	}
	st, ok := status.FromError(err)
	if !ok {
		return New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, err.Error())
	}
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != Domain {
			continue
		}
		code, known := oncelogv1.ErrorCode_value["ERROR_CODE_"+info.GetReason()]
		if !known {
			code = int32(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL)
		}
		return &Error{Code: Code(code), Message: st.Message(), Metadata: info.GetMetadata()}
	}
	return fromStatus(st)
}

// fromStatus classifies a status that no handler of ours made: the transport's.
func fromStatus(st *status.Status) *Error {
	switch st.Code() {
	case codes.Unavailable:
		return New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, st.Message())
	case codes.DeadlineExceeded, codes.Canceled:
		return New(oncelogv1.ErrorCode_ERROR_CODE_DEADLINE, st.Message())
	case codes.ResourceExhausted:
		return New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, st.Message())
	case codes.InvalidArgument:
		return New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT, st.Message())
	default:
		return New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, st.Code().String()+": "+st.Message())
	}
}

// CodeOf returns the code of err, or ERROR_CODE_UNSPECIFIED for nil.
func CodeOf(err error) Code {
	if e := From(err); e != nil {
		return e.Code
	}
	return oncelogv1.ErrorCode_ERROR_CODE_UNSPECIFIED
}

// ClassOf returns the class of err; 0 for nil.
func ClassOf(err error) Class {
	if e := From(err); e != nil {
		return e.Class()
	}
	return 0
}

// conflictClass: a transaction that an operator, a timeout or its own producer
// aborted can be started over; one that a newer producer aborted, or that
// stands committed, cannot.
func conflictClass(meta map[string]string) Class {
	if meta[KeyOutcome] == "COMMITTED" || meta[KeyReason] == "FENCED" {
		return Fatal
	}
	return Abortable
}
