package rafttransport

import (
	"errors"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// Handler takes what arrives; *raftstore.Store is one. Its methods must not block.
type Handler interface {
	Deliver(group raftstore.GroupID, m *raftpb.Message)
	DeliverChunk(c raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer))
}

// Server is the receiving side. Register it with
// oncelogv1.RegisterRaftServiceServer.
type Server struct {
	oncelogv1.UnimplementedRaftServiceServer

	self      raftstore.NodeID
	clusterID string
	handler   Handler
}

// NewServer returns the RaftService of a node.
func NewServer(self raftstore.NodeID, clusterID string, handler Handler) *Server {
	return &Server{self: self, clusterID: clusterID, handler: handler}
}

// Exchange implements oncelogv1.RaftServiceServer.
func (s *Server) Exchange(stream grpc.ClientStreamingServer[oncelogv1.ExchangeRequest, oncelogv1.ExchangeResponse]) error {
	for {
		f, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&oncelogv1.ExchangeResponse{})
		}
		if err != nil {
			return err
		}
		if err := s.checkPeer(f.GetClusterId(), f.GetToNode()); err != nil {
			return err
		}
		for _, rm := range f.GetMessages() {
			m := &raftpb.Message{}
			if err := proto.Unmarshal(rm.GetMessage(), m); err != nil {
				return status.Errorf(codes.InvalidArgument, "message: %v", err)
			}
			if err := s.checkMessage(m, f.GetFromNode()); err != nil {
				return err
			}
			s.handler.Deliver(raftstore.GroupID(rm.GetGroupId()), m)
		}
	}
}

// checkPeer refuses a sender that meant somebody else: a reused address or a
// wrong configuration.
func (s *Server) checkPeer(clusterID string, to uint64) error {
	switch {
	case clusterID != s.clusterID:
		return status.Errorf(codes.FailedPrecondition, "this is cluster %q, not %q", s.clusterID, clusterID)
	case raftstore.NodeID(to) != s.self:
		return status.Errorf(codes.FailedPrecondition, "this is node %d, not %d", s.self, to)
	}
	return nil
}

func (s *Server) checkMessage(m *raftpb.Message, from uint64) error {
	if m.GetFrom() != from || m.GetTo() != uint64(s.self) {
		return status.Errorf(codes.InvalidArgument, "message from %d to %d in a frame from %d to %d",
			m.GetFrom(), m.GetTo(), from, s.self)
	}
	return nil
}

var _ oncelogv1.RaftServiceServer = (*Server)(nil)
