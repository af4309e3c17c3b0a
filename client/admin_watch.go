package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// WatchTransactions calls f with what happens to transactions, as it happens, until
// ctx ends, f returns an error, or, with NoFollow, everything has been told. It follows
// the coordinator's leader: after a change of that it goes on where it was, and an
// answer whose Missed is set says if something was lost on the way. f may be slow: what
// it misses then it is told in the same way.
func (a *Admin) WatchTransactions(ctx context.Context, req *oncelogv1.WatchTransactionsRequest, f func(*oncelogv1.WatchTransactionsResponse) error) error {
	req = proto.CloneOf(req)
	var refused error // what f returned
	_, err := a.c.invoke(ctx, call{attempt: noLimit}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		ctx, cancel := a.c.rt.WithCancel(ctx)
		defer cancel()
		stream, err := oncelogv1.NewTransactionServiceClient(cc).WatchTransactions(ctx, req)
		if err != nil {
			return err
		}
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if refused = f(resp); refused != nil {
				return nil
			}
			req.AfterIndex = proto.Uint64(resp.GetIndex())
		}
	})
	switch {
	case refused != nil:
		return refused
	case err != nil:
		return wrap("watch transactions", err)
	}
	return nil
}
