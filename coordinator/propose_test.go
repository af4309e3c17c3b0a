package coordinator

import (
	"fmt"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// What the store says to a request in ordinary life is never an internal error. One
// that is still waiting when its coordinator is removed was one (seed 10101522).
func TestStoreErrorsAreOfTheContract(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		for _, want := range []struct {
			err  error
			code oncelogv1.ErrorCode
		}{
			{&raftstore.NotLeaderError{Group: 1, Leader: 9}, oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER},
			{raftstore.ErrNotMember, oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER},
			{raftstore.ErrDiskLow, oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED},
			{raftstore.ErrOverloaded, oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED},
			{raftstore.ErrUnknownResult, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT},
			{raftstore.ErrProposalTooLarge, oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED},
			{raftstore.ErrStopped, oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE},
			{raftstore.ErrGroupNotFound, oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE},
		} {
			err := c.leader().c.raftError(fmt.Errorf("in passing: %w", want.err))
			if got := apierrors.CodeOf(err); got != want.code {
				t.Errorf("%v is answered %v, want %v", want.err, got, want.code)
			}
		}
	})
}
