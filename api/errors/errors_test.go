package errors_test

import (
	"context"
	stderrors "errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestTableIsComplete(t *testing.T) {
	t.Parallel()
	for n, name := range v1.ErrorCode_name {
		if n == 0 {
			continue
		}
		e := apierrors.Lookup(v1.ErrorCode(n))
		internal := apierrors.Lookup(v1.ErrorCode_ERROR_CODE_INTERNAL)
		if v1.ErrorCode(n) != v1.ErrorCode_ERROR_CODE_INTERNAL && e == internal {
			t.Errorf("%s has no row", name)
		}
		if e.Class == 0 || e.Text == "" || e.Help == "" || e.GRPC == codes.OK {
			t.Errorf("%s: incomplete row %+v", name, e)
		}
	}
}

func TestErrorSurvivesTheWire(t *testing.T) {
	t.Parallel()
	for n := range v1.ErrorCode_name {
		if n == 0 {
			continue
		}
		want := apierrors.New(v1.ErrorCode(n), "what happened", apierrors.KeyField, "x", apierrors.KeyLimit, "")
		wire := want.GRPCStatus().Err() // what the client's end of a call returns
		got := apierrors.From(fmt.Errorf("wrapped: %w", wire))
		if got.Code != want.Code || got.Metadata[apierrors.KeyField] != "x" || got.Class() != want.Class() {
			t.Errorf("%v came back as %+v", want, got)
		}
		if _, there := got.Metadata[apierrors.KeyLimit]; there {
			t.Errorf("%v: an empty value was sent", want)
		}
		if !stderrors.Is(got, apierrors.New(want.Code, "")) {
			t.Errorf("%v: errors.Is does not match the code", want)
		}
		if back := apierrors.FromProto(want.Proto()); back.Code != want.Code || back.Message != want.Message {
			t.Errorf("%v: proto gives %+v", want, back)
		}
	}
}

func TestForeignErrorsAreClassified(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		code  v1.ErrorCode
		class apierrors.Class
	}{
		{status.Error(codes.Unavailable, "connection refused"), v1.ErrorCode_ERROR_CODE_UNAVAILABLE, apierrors.Retriable},
		{status.Error(codes.DeadlineExceeded, ""), v1.ErrorCode_ERROR_CODE_DEADLINE, apierrors.UnknownOutcome},
		{context.DeadlineExceeded, v1.ErrorCode_ERROR_CODE_DEADLINE, apierrors.UnknownOutcome},
		{status.Error(codes.Unimplemented, ""), v1.ErrorCode_ERROR_CODE_INTERNAL, apierrors.Fatal},
		{stderrors.New("plain"), v1.ErrorCode_ERROR_CODE_INTERNAL, apierrors.Fatal},
		{nil, v1.ErrorCode_ERROR_CODE_UNSPECIFIED, 0},
	} {
		if got := apierrors.CodeOf(c.err); got != c.code {
			t.Errorf("%v: code %v, want %v", c.err, got, c.code)
		}
		if got := apierrors.ClassOf(c.err); got != c.class {
			t.Errorf("%v: class %v, want %v", c.err, got, c.class)
		}
	}
}

func TestConflictClassDependsOnWhatWasDecided(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome, reason string
		want            apierrors.Class
	}{
		{"ABORTED", "TIMEOUT", apierrors.Abortable},
		{"ABORTED", "ADMIN", apierrors.Abortable},
		{"ABORTED", "SUPERSEDED", apierrors.Abortable},
		{"ABORTED", "CLIENT", apierrors.Abortable},
		{"ABORTED", "FENCED", apierrors.Fatal},
		{"COMMITTED", "", apierrors.Fatal},
	} {
		err := apierrors.New(v1.ErrorCode_ERROR_CODE_CONFLICT, "", apierrors.KeyOutcome, c.outcome, apierrors.KeyReason, c.reason)
		if err.Class() != c.want {
			t.Errorf("%s %s: %v, want %v", c.outcome, c.reason, err.Class(), c.want)
		}
	}
}
