package partition

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

const (
	// maxBackups bounds the backups that a node has parts of at a time: each keeps
	// the disk from reusing space.
	maxBackups = 4
	// maxBackupIDBytes bounds the id of a backup.
	maxBackupIDBytes = 64
	// backupLease is how long parts are kept that nobody reads.
	backupLease = time.Minute
)

// backups are the parts of backups that wait on a node to be read.
type backups struct {
	mu   sync.Mutex
	held map[string]*heldBackup
	// free is when the next piece may be sent; see Config.BackupBytesPerSecond.
	free time.Time
}

// heldBackup is a node's part of one backup.
type heldBackup struct {
	shards  map[uint64]*raftstore.Backup
	touched time.Time // when somebody last opened or read one
}

// shardBackupService is the gRPC edge for who reads backups.
type shardBackupService struct {
	oncelogv1.UnimplementedShardBackupServiceServer
	n *Node
}

// OpenBackup implements the contract. A shard that fails says so in its own result.
func (p shardService) OpenBackup(ctx context.Context, req *oncelogv1.OpenBackupRequest) (*oncelogv1.OpenBackupResponse, error) {
	id := req.GetBackupId()
	switch {
	case len(req.GetShardIds()) > MaxListElements:
		return nil, tooMuch("shard_ids", MaxListElements)
	case id == "":
		return nil, apierrors.InvalidArgument("backup_id", "must not be empty")
	case len(id) > maxBackupIDBytes:
		return nil, tooMuch("backup_id", maxBackupIDBytes)
	case req.GetAbandon():
		p.n.backups.drop(id)
		return &oncelogv1.OpenBackupResponse{}, nil
	case !p.n.holdBackup(id):
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "this node has parts of too many backups that nobody has read yet")
	}
	res := &oncelogv1.OpenBackupResponse{Shards: make([]*oncelogv1.OpenedBackup, len(req.GetShardIds()))}
	var all task.Group
	for i, shard := range req.GetShardIds() {
		all.Go(p.n.run, func() { res.Shards[i] = p.n.openBackup(ctx, id, shard) })
	}
	all.Wait(p.n.run)
	return res, nil
}

// holdBackup makes room for a backup; false: there is none. What nobody has read in
// time is let go in the background.
func (n *Node) holdBackup(id string) bool {
	now := n.run.Now()
	b := &n.backups
	b.mu.Lock()
	h := b.held[id]
	switch {
	case h != nil:
		h.touched = now
		b.mu.Unlock()
		return true
	case len(b.held) >= maxBackups:
		b.mu.Unlock()
		return false
	case b.held == nil:
		b.held = map[string]*heldBackup{}
	}
	b.held[id] = &heldBackup{shards: map[uint64]*raftstore.Backup{}, touched: now}
	b.mu.Unlock()
	n.goWork(func() {
		for n.run.Sleep(n.backups.leaseLeft(id, n.run.Now()), n.ctx.Done()) {
			if n.backups.leaseLeft(id, n.run.Now()) <= 0 {
				break
			}
		}
		n.backups.drop(id)
	})
	return true
}

// leaseLeft is how long a backup is kept yet if nobody reads it.
func (b *backups) leaseLeft(id string, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.held[id]
	if h == nil {
		return 0
	}
	return max(h.touched.Add(backupLease).Sub(now), 0)
}

// drop lets go of what is left of a backup.
func (b *backups) drop(id string) {
	b.mu.Lock()
	h := b.held[id]
	delete(b.held, id)
	b.mu.Unlock()
	if h == nil {
		return
	}
	for _, part := range h.shards { // each by itself
		part.Close()
	}
}

// put keeps a part; false: the backup is not kept any more.
func (b *backups) put(id string, shard uint64, part *raftstore.Backup) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.held[id]
	if h == nil {
		return false
	}
	if again := h.shards[shard]; again != nil { // the answer to the first call was lost
		again.Close()
	}
	h.shards[shard] = part
	return true
}

// take hands a part to its reader.
func (b *backups) take(id string, shard uint64, now time.Time) (*raftstore.Backup, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.held[id]
	if h == nil || h.shards[shard] == nil {
		return nil, false
	}
	part := h.shards[shard]
	if delete(h.shards, shard); len(h.shards) == 0 {
		delete(b.held, id)
	}
	h.touched = now
	return part, true
}

// sent notes that a backup is being read, and returns how long to wait before the
// next piece.
func (b *backups) sent(id string, bytes int, perSecond int64, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.held[id]; h != nil {
		h.touched = now
	}
	if b.free.Before(now) {
		b.free = now
	}
	b.free = b.free.Add(time.Duration(float64(bytes) / float64(perSecond) * float64(time.Second)))
	return b.free.Sub(now)
}

// openBackup keeps one shard as it is now.
func (n *Node) openBackup(ctx context.Context, id string, shard uint64) *oncelogv1.OpenedBackup {
	out := &oncelogv1.OpenedBackup{ShardId: shard}
	s := n.shard(shard)
	if s == nil {
		out.Error = n.notLeader(0, 0).Proto()
		return out
	}
	if err := s.serving(); err != nil {
		out.Error = err.Proto()
		return out
	}
	err := s.reading(func() error {
		part, err := s.group.Backup(ctx)
		if err != nil {
			return n.proposalError(err)
		}
		if !n.backups.put(id, shard, part) {
			part.Close()
			return unavailable()
		}
		out.Index, out.Term = part.Index, part.Term
		return nil
	})
	if err != nil {
		out.Error = apierrors.From(err).Proto()
		return out
	}
	s.machine.read(func(st *pstate.State) { out.PartitionsVersion = st.CatalogVersion() })
	return out
}

// ReadShardBackup implements the contract.
func (b shardBackupService) ReadShardBackup(req *oncelogv1.ReadShardBackupRequest, stream grpc.ServerStreamingServer[oncelogv1.ReadShardBackupResponse]) error {
	n := b.n
	part, ok := n.backups.take(req.GetBackupId(), req.GetShardId(), n.run.Now())
	if !ok {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD,
			"this node has no such part of a backup: it was read before, or not in time, or the node was started again; take the backup again")
	}
	defer part.Close()
	ctx := stream.Context()
	for {
		if err := n.permitsOnCluster(access.From(ctx), acl.All); err != nil {
			return err // it was taken away since
		}
		res := &oncelogv1.ReadShardBackupResponse{}
		err := n.reading(func() (err error) {
			res.Data, res.Last, err = part.Next()
			return err
		})
		var refused *apierrors.Error
		switch {
		case errors.As(err, &refused):
			return refused
		case err != nil:
			n.log.Error("cannot read a shard for a backup", "shard", req.GetShardId(), "error", err)
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "the shard cannot be read: "+err.Error())
		}
		if err := stream.Send(res); err != nil || res.GetLast() {
			return err
		}
		wait := n.backups.sent(req.GetBackupId(), len(res.GetData()), n.cfg.BackupBytesPerSecond, n.run.Now())
		if n.run.WaitFor(wait, ctx.Done(), n.closing) >= 0 {
			return unavailable()
		}
	}
}
