package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// shardServers stands for all partition nodes: it records the markers that
// arrive and answers them as the test's script says.
type shardServers struct {
	mu     sync.Mutex
	calls  []shardCall
	script shardScript
	closed []string // addresses of connections that were closed
	// open answers OpenBackup; abandoned are the backups that were.
	open      func(ctx context.Context, req *oncelogv1.OpenBackupRequest) (*oncelogv1.OpenBackupResponse, error)
	abandoned []string
}

// shardCall is one request for one shard.
type shardCall struct {
	address string
	shard   uint64
	markers []*oncelogv1.Marker
}

// shardScript answers one request; nil: applied.
type shardScript func(ctx context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error)

var errUnreachable = errors.New("test: unreachable")

func (s *shardServers) dial(address string) (grpc.ClientConnInterface, error) {
	return &shardConn{servers: s, address: address}, nil
}

// play sets the script.
func (s *shardServers) play(script shardScript) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// take returns the requests since the last call.
func (s *shardServers) take() []shardCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// told lists the markers that arrived, as "shard pid/epoch/number COMMIT".
func told(calls []shardCall) []string {
	var out []string
	for _, c := range calls {
		for _, m := range c.markers {
			what := "COMMIT"
			if !m.GetCommit() {
				what = "ABORT:" + m.GetReason().String()[len("ABORT_REASON_"):]
			}
			out = append(out, fmt.Sprintf("%d %d/%d/%d %s", c.shard,
				m.GetTxn().GetProducerId(), m.GetTxn().GetEpoch(), m.GetTxn().GetTxnNumber(), what))
		}
	}
	slices.Sort(out)
	return out
}

type shardConn struct {
	servers *shardServers
	address string
}

// Invoke implements grpc.ClientConnInterface.
func (c *shardConn) Invoke(ctx context.Context, name string, args, reply any, _ ...grpc.CallOption) error {
	if name == oncelogv1.ShardService_OpenBackup_FullMethodName {
		return c.openBackup(ctx, args, reply)
	}
	req := &oncelogv1.WriteMarkersRequest{}
	if err := recode(args, req); err != nil {
		return err
	}
	res := &oncelogv1.WriteMarkersResponse{}
	for _, sm := range req.GetShards() {
		call := shardCall{address: c.address, shard: sm.GetShardId(), markers: sm.GetMarkers()}
		c.servers.mu.Lock()
		c.servers.calls = append(c.servers.calls, call)
		script := c.servers.script
		c.servers.mu.Unlock()
		if script == nil {
			script = answerWith(oncelogv1.MarkerResult_MARKER_RESULT_APPLIED)
		}
		out, err := script(ctx, call)
		if err != nil {
			return err
		}
		res.Shards = append(res.Shards, out)
	}
	return recode(res, reply)
}

func (c *shardConn) openBackup(ctx context.Context, args, reply any) error {
	req := &oncelogv1.OpenBackupRequest{}
	if err := recode(args, req); err != nil {
		return err
	}
	if req.GetAbandon() {
		c.servers.mu.Lock()
		defer c.servers.mu.Unlock()
		c.servers.abandoned = append(c.servers.abandoned, req.GetBackupId())
		return nil
	}
	res, err := c.servers.open(ctx, req)
	if err != nil {
		return err
	}
	return recode(res, reply)
}

// NewStream implements grpc.ClientConnInterface.
func (c *shardConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

// Close notes that the connection is not used any more.
func (c *shardConn) Close() error {
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	c.servers.closed = append(c.servers.closed, c.address)
	return nil
}

// answerWith gives every marker the same result.
func answerWith(r oncelogv1.MarkerResult) shardScript {
	return func(_ context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
		return &oncelogv1.ShardMarkerResults{ShardId: call.shard, Results: slices.Repeat([]oncelogv1.MarkerResult{r}, len(call.markers))}, nil
	}
}

// unreachable answers nothing.
func unreachable(context.Context, shardCall) (*oncelogv1.ShardMarkerResults, error) {
	return nil, errUnreachable
}

// silent never answers.
func silent(ctx context.Context, _ shardCall) (*oncelogv1.ShardMarkerResults, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// refusing refuses with the error.
func refusing(e *apierrors.Error) shardScript {
	return func(_ context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
		return &oncelogv1.ShardMarkerResults{ShardId: call.shard, Error: e.Proto()}, nil
	}
}
