package partition

import (
	"context"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

// Append writes one request. It fails with the error of the first partition
// that was refused; what the others stored stays, and the same call again
// answers their offsets.
func (l logService) Append(ctx context.Context, req *oncelogv1.AppendRequest) (*oncelogv1.AppendResponse, error) {
	a := newAppender(l.n, access.From(ctx), newBudget(maxStreamBytes))
	a.take(req)
	a.flush()
	for {
		for _, c := range a.collect() {
			return answerUnary(c.resp)
		}
		if l.n.run.Wait(a.ready, ctx.Done()) == 1 {
			return nil, l.n.proposalError(ctx.Err())
		}
	}
}

func answerUnary(resp *oncelogv1.AppendResponse) (*oncelogv1.AppendResponse, error) {
	if resp.GetError() != nil {
		return nil, apierrors.FromProto(resp.GetError())
	}
	for _, r := range resp.GetResults() {
		if r.GetError() != nil {
			return nil, apierrors.FromProto(r.GetError())
		}
	}
	return resp, nil
}
