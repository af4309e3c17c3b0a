package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// CreateBackup has the cluster make a cut through all its state, and hands the stream
// to take: first what the cut has, then the coordinators' part in pieces. The shards'
// parts are read with ReadShardBackup, soon: nodes keep them for a minute. The program
// `oncelog backup` does all of it.
//
// It is repeated until the cut is made or ctx ends, but not where a shard could not be
// had: a cut delays everybody who waits for the coordinator. An error of take ends it.
func (a *Admin) CreateBackup(ctx context.Context, req *oncelogv1.CreateBackupRequest, take func(*oncelogv1.CreateBackupResponse) error) error {
	begun := false
	final := func(e *apierrors.Error) bool {
		_, shard := e.Metadata[apierrors.KeyShards]
		return begun || shard
	}
	var failure error // take's own
	_, err := a.c.invoke(ctx, call{attempt: noLimit, final: final}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		stream, err := oncelogv1.NewBackupServiceClient(cc).CreateBackup(ctx, req)
		if err != nil {
			return err
		}
		for {
			res, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			begun = true
			if failure = take(res); failure != nil {
				return failure
			}
		}
	})
	if failure != nil {
		return failure
	}
	if err != nil {
		return wrap("create backup", err)
	}
	return nil
}

// ReadShardBackup hands the pieces of a shard's part of a backup to take. It is not
// repeated: a part can be read once.
func (a *Admin) ReadShardBackup(ctx context.Context, backup string, shard *oncelogv1.ShardCut, take func(data []byte) error) error {
	cc, err := a.c.conns.get(shard.GetClientAddress())
	if err != nil {
		return wrap("read shard backup", err)
	}
	ctx, cancel := a.c.rt.WithCancel(ctx)
	defer cancel()
	stream, err := oncelogv1.NewShardBackupServiceClient(cc).ReadShardBackup(ctx, &oncelogv1.ReadShardBackupRequest{
		BackupId: backup, ShardId: shard.GetShardId(),
	})
	if err != nil {
		return wrap("read shard backup", err)
	}
	for last := false; !last; {
		res, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return wrap("read shard backup", err)
		}
		if err := take(res.GetData()); err != nil {
			return err
		}
		last = res.GetLast()
	}
	return nil
}
