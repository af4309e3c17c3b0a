package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/task"
)

const (
	// defaultHold and maxHold bound how long a cut may take.
	defaultHold = time.Second
	maxHold     = 5 * time.Second
	// openRetry is the pause before a shard that could not be kept is asked again.
	openRetry = 20 * time.Millisecond
	// backupPiece bounds what is sent of the state in one message.
	backupPiece = 1 << 20
)

// backupService is the gRPC edge for who takes backups.
type backupService struct {
	oncelogv1.UnimplementedBackupServiceServer
	*Coordinator
}

// cut is what a backup has of the coordinators, and where the rest of it is.
type cut struct {
	proto *oncelogv1.BackupCut
	state []byte

	version uint64                  // of the catalogue
	nodes   map[uint64]catalog.Node // where shards are
	shards  []catalog.Shard
}

// CreateBackup implements the contract.
func (s *backupService) CreateBackup(req *oncelogv1.CreateBackupRequest, stream grpc.ServerStreamingServer[oncelogv1.CreateBackupResponse]) error {
	hold := time.Duration(req.GetHoldMs()) * time.Millisecond
	switch {
	case req.GetHoldMs() < 0:
		return apierrors.InvalidArgument("hold_ms", "must not be negative")
	case req.GetHoldMs() > maxHold.Milliseconds():
		return tooLong("hold_ms", int(maxHold.Milliseconds()))
	case hold == 0:
		hold = defaultHold
	}
	if err := s.current(stream.Context()); err != nil {
		return err
	}
	made, err := s.cut(stream.Context(), hold)
	if err != nil {
		return err
	}
	if err := stream.Send(&oncelogv1.CreateBackupResponse{Cut: made.proto}); err != nil {
		return err
	}
	for piece := range slices.Chunk(made.state, backupPiece) {
		if err := stream.Send(&oncelogv1.CreateBackupResponse{Data: piece}); err != nil {
			return err
		}
	}
	return nil
}

// cut keeps this node's state and every shard as they are at one moment; see silence.
func (s *backupService) cut(ctx context.Context, hold time.Duration) (*cut, error) {
	if err := s.allServed(ctx, hold); err != nil {
		return nil, err
	}
	term := s.group.Leadership().Term
	if !s.silence.claim(s.rt.Now()) {
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "another backup is being made, or was a moment ago")
	}
	var held time.Duration
	made := &cut{nodes: map[uint64]catalog.Node{}, proto: &oncelogv1.BackupCut{BackupId: rand.Text(), TakenAtMs: s.now()}}
	err := func() error {
		defer func() {
			held = s.silence.end(s.rt.Now())
			task.Signal(s.hurry) // markers were held back
		}()
		ctx, cancel := s.rt.WithTimeout(ctx, hold)
		defer cancel()
		s.state.read(func() { s.note(made) })
		if err := s.openShards(ctx, made); err != nil {
			return err
		}
		return s.stillLeads(ctx, term)
	}()
	if err != nil {
		s.log.Warn("no backup could be made", "error", err, "held", held)
		s.abandon(made)
		return nil, err
	}
	s.log.Info("cut made for a backup", "backup", made.proto.GetBackupId(), "held", held, "shards", len(made.shards))
	made.proto.HeldUs, made.proto.CoordinatorBytes = held.Microseconds(), uint64(len(made.state))
	return made, nil
}

// allServed waits until every shard has a leader: one that nobody leads would only
// cost a silence.
func (s *backupService) allServed(ctx context.Context, limit time.Duration) error {
	ctx, cancel := s.rt.WithTimeout(ctx, limit)
	defer cancel()
	missing := uint64(0)
	err := s.await(ctx, s.registry.watch, func() bool {
		for _, shard := range s.state.catalog.Shards() {
			if !s.registry.leader(shard.ID).ready {
				missing = shard.ID
				return false
			}
		}
		return true
	})
	if errors.Is(err, errWaitedEnough) {
		return notKept(missing, "it has no leader that serves it")
	}
	return err
}

func notKept(shard uint64, why string) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, fmt.Sprintf("shard %d cannot be backed up now: %s", shard, why),
		apierrors.KeyShards, strconv.FormatUint(shard, 10))
}

// note begins the silence and takes the state. The caller holds it still.
func (s *backupService) note(made *cut) {
	s.silence.begin(s.rt.Now(), s.state.txns.LastDecision())
	made.state = s.state.backup()
	made.proto.ClusterId = s.state.catalog.ClusterID()
	made.version, made.shards = s.state.catalog.Version(), s.state.catalog.Shards()
	for _, n := range s.state.catalog.Nodes() {
		made.nodes[n.ID] = n
	}
}

// stillLeads makes sure that nobody else led before it was called.
func (s *backupService) stillLeads(ctx context.Context, term uint64) error {
	_, err := s.group.ReadIndex(ctx)
	if lead := s.group.Leadership(); err != nil || !lead.Ready || lead.Term != term {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the coordinators' leader changed while the backup was made")
	}
	return nil
}

// shardsOpening is the state of openShards.
type shardsOpening struct {
	mu     sync.Mutex
	opened map[uint64]*oncelogv1.ShardCut
	why    map[uint64]string // of those that are not
}

// openShards has every shard kept by its leader, until ctx ends.
func (s *backupService) openShards(ctx context.Context, made *cut) error {
	o := &shardsOpening{opened: map[uint64]*oncelogv1.ShardCut{}, why: map[uint64]string{}}
	for {
		byNode := map[uint64][]uint64{}
		missing := uint64(0)
		for _, shard := range made.shards {
			if o.opened[shard.ID] != nil {
				continue
			}
			missing = shard.ID
			if leader := s.registry.leader(shard.ID).node; leader != 0 {
				byNode[leader] = append(byNode[leader], shard.ID)
			}
		}
		if missing == 0 {
			break
		}
		var asking task.Group
		for _, node := range slices.Sorted(maps.Keys(byNode)) {
			asking.Go(s.rt, func() { s.openOn(ctx, made, node, byNode[node], o) })
		}
		asking.Wait(s.rt)
		if len(o.opened) == len(made.shards) {
			break
		}
		if !s.rt.Sleep(openRetry, ctx.Done()) {
			return notKept(missing, "it was not ready in time: "+o.why[missing])
		}
	}
	for _, shard := range made.shards {
		made.proto.Shards = append(made.proto.Shards, o.opened[shard.ID])
	}
	return nil
}

// openOn asks one node for the shards that it leads.
func (s *backupService) openOn(ctx context.Context, made *cut, node uint64, shards []uint64, o *shardsOpening) {
	var res *oncelogv1.OpenBackupResponse
	client, err := s.peers.shard(node, made.nodes[node].PeerAddress)
	if err == nil {
		res, err = client.OpenBackup(ctx, &oncelogv1.OpenBackupRequest{BackupId: made.proto.GetBackupId(), ShardIds: shards})
	}
	if err == nil && len(res.GetShards()) != len(shards) {
		err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "a node answered for another number of shards")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, shard := range shards {
		switch {
		case err != nil:
			o.why[shard] = err.Error()
		case res.GetShards()[i].GetError() != nil:
			refused := apierrors.FromProto(res.GetShards()[i].GetError())
			s.hintedBy(shard, refused)
			o.why[shard] = refused.Error()
		case res.GetShards()[i].GetPartitionsVersion() > made.version:
			o.why[shard] = "its partitions changed"
		default:
			p := res.GetShards()[i]
			o.opened[shard] = &oncelogv1.ShardCut{
				ShardId: shard, NodeId: node, ClientAddress: made.nodes[node].ClientAddress, Index: p.GetIndex(), Term: p.GetTerm(),
			}
		}
	}
}

// abandon has nodes let go of what they keep of a backup that failed.
func (s *backupService) abandon(made *cut) {
	asked := map[uint64]bool{}
	for _, shard := range made.shards {
		node := s.registry.leader(shard.ID).node
		if n := made.nodes[node]; node != 0 && !asked[node] && n.PeerAddress != "" {
			asked[node] = true
			s.stopped.Go(s.rt, func() {
				ctx, cancel := s.rt.WithTimeout(context.Background(), markerTimeout)
				defer cancel()
				if client, err := s.peers.shard(node, n.PeerAddress); err == nil {
					// One that is not reached lets go when nobody has read it for long.
					_, _ = client.OpenBackup(ctx, &oncelogv1.OpenBackupRequest{BackupId: made.proto.GetBackupId(), Abandon: true})
				}
			})
		}
	}
}
