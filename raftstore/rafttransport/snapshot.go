package rafttransport

import (
	"context"
	"errors"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// SendChunk implements raftstore.Transport.
func (t *Transport) SendChunk(to raftstore.NodeID, c raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peer(to)
	if p == nil {
		done(raftstore.SnapshotAnswer{Err: raftstore.ErrUnreachable})
		return
	}
	t.wg.Go(func() { done(p.sendChunk(c)) })
}

// sendChunk sends one part of a snapshot and waits for the answer.
func (p *peer) sendChunk(c raftstore.SnapshotChunk) raftstore.SnapshotAnswer {
	req := &oncelogv1.SendSnapshotRequest{
		ClusterId: p.t.cfg.ClusterID, FromNode: uint64(p.t.cfg.Self), ToNode: uint64(p.id), GroupId: uint64(c.Group),
		Stream: c.Stream, Seq: c.Seq, Last: c.Last, Data: c.Data, Crc32C: c.Sum,
		FromInstance: p.t.cfg.Instance(p.t.cfg.Self), ToInstance: p.t.cfg.Instance(p.id),
	}
	conn, err := p.connect()
	if err == nil && c.Header != nil {
		req.Header, err = proto.Marshal(c.Header)
	}
	if err != nil {
		return raftstore.SnapshotAnswer{Err: err}
	}
	ctx, cancel := context.WithTimeout(p.t.ctx, p.t.cfg.ChunkTimeout)
	defer cancel()
	resp, err := oncelogv1.NewRaftServiceClient(conn).SendSnapshot(ctx, req)
	if err != nil {
		return raftstore.SnapshotAnswer{Err: err}
	}
	return raftstore.SnapshotAnswer{Next: resp.GetNext(), Done: resp.GetDone()}
}

// SendSnapshot implements oncelogv1.RaftServiceServer.
func (s *Server) SendSnapshot(ctx context.Context, req *oncelogv1.SendSnapshotRequest) (*oncelogv1.SendSnapshotResponse, error) {
	if err := s.checkPeer(req); err != nil {
		return nil, err
	}
	c := raftstore.SnapshotChunk{
		Group: raftstore.GroupID(req.GetGroupId()), From: raftstore.NodeID(req.GetFromNode()),
		Stream: req.GetStream(), Seq: req.GetSeq(), Last: req.GetLast(), Data: req.GetData(), Sum: req.GetCrc32C(),
	}
	if first := c.Seq == 0; first != (len(req.GetHeader()) > 0) {
		return nil, status.Errorf(codes.InvalidArgument, "seq %d with a header of %d bytes: part 0 has one, and no other", c.Seq, len(req.GetHeader()))
	} else if first {
		c.Header = &raftpb.Message{}
		if err := proto.Unmarshal(req.GetHeader(), c.Header); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "header: %v", err)
		}
		if err := s.checkMessage(c.Header, req.GetFromNode()); err != nil {
			return nil, err
		}
		if c.Header.GetType() != raftpb.MsgSnap {
			return nil, status.Errorf(codes.InvalidArgument, "header is a message of type %v instead of MsgSnap", c.Header.GetType())
		}
	}
	answered := make(chan raftstore.SnapshotAnswer, 1)
	s.handler.DeliverChunk(c, func(a raftstore.SnapshotAnswer) { answered <- a })
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-answered:
		switch {
		case errors.Is(a.Err, raftstore.ErrOverloaded):
			return nil, status.Error(codes.ResourceExhausted, a.Err.Error())
		case errors.Is(a.Err, raftstore.ErrBadSnapshot):
			return nil, status.Error(codes.InvalidArgument, a.Err.Error())
		case a.Err != nil:
			return nil, status.Error(codes.Unavailable, a.Err.Error())
		}
		return &oncelogv1.SendSnapshotResponse{Next: a.Next, Done: a.Done}, nil
	}
}
