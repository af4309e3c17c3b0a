package coordinator

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

// watchStream is a stream of WatchTransactions that counts the responses.
type watchStream struct {
	grpc.ServerStreamingServer[oncelogv1.WatchTransactionsResponse]
	ctx  context.Context
	sent int
}

func (w *watchStream) Context() context.Context { return w.ctx }

func (w *watchStream) Send(*oncelogv1.WatchTransactionsResponse) error {
	w.sent++
	return nil
}

// TestWatchEndsWithItsToken: whoever had opened one with a token saw all events for as
// long as the connection held.
func TestWatchEndsWithItsToken(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.Access = access.New([]string{"root"}) }, func(t *testing.T, c *cluster) {
		s := &transactionService{Coordinator: c.leader().c}
		const valid = 10 * time.Minute
		began := time.Now()
		watch := func(who access.Principal) (took time.Duration, err error) {
			ctx, cancel := context.WithTimeout(access.With(t.Context(), who), time.Hour)
			defer cancel()
			stream := &watchStream{ctx: ctx}
			began := time.Now()
			err = s.WatchTransactions(&oncelogv1.WatchTransactionsRequest{}, stream)
			if stream.sent != 1 {
				t.Errorf("%d responses", stream.sent)
			}
			return time.Since(began), err
		}
		took, err := watch(access.Principal{Name: "root", Until: began.Add(valid)})
		if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE || took < valid || took > valid+time.Second {
			t.Errorf("a token that holds for %v: %v after %v", valid, err, took)
		}
		if took, err := watch(access.Principal{Name: "root"}); err == nil || took < time.Hour {
			t.Errorf("a certificate: %v after %v", err, took)
		}
	})
}
