package client

import (
	"context"
	"errors"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// A code is said once, whatever the error is made of.
func TestErrorsSayTheirCodeOnce(t *testing.T) {
	t.Parallel()
	at := func(e *Error) *Error {
		e.Topic, e.Partition = "t", 3
		return e
	}
	for want, err := range map[string]error{
		"oncelog: send t/3: BATCH_TOO_LARGE (abortable): 2 MiB": at(fromServer("send",
			apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE, "2 MiB"))),
		"oncelog: send t/3: FENCED (fatal): a newer producer has taken over this transactional id": at(fromServer("send",
			apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED, ""))),
		"oncelog: send t/3: FENCED (fatal): a newer producer has taken over this transactional id: epoch 4": at(fromServer("send",
			apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED, "epoch 4"))),
		"oncelog: poll: CONTEXT_ENDED (retriable): context canceled; last answer: NOT_LEADER: another node leads": wrap("poll",
			&endedError{ctx: context.Canceled, last: apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "")}),
		"oncelog: send: INVALID_ARGUMENT (fatal): no batch": invalid("send", "no batch"),
		"oncelog: poll: CLOSED (fatal): closed":             wrap("poll", ErrClosed),
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if err := fromServer("send", apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED, "")); !errors.Is(err, ErrFenced) {
		t.Errorf("%v is no ErrFenced any more", err)
	}
}
