package rafttransport

import (
	"errors"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	// instance names the data directory of a node; "": not known.
	instance func(raftstore.NodeID) string
}

// NewServer returns the RaftService of a node.
func NewServer(self raftstore.NodeID, clusterID string, handler Handler) *Server {
	return &Server{self: self, clusterID: clusterID, handler: handler, instance: func(raftstore.NodeID) string { return "" }}
}

// WithInstances has the server refuse what comes from, or is meant for, another data
// directory than those that instance names, as Config.Instance does. Call it before
// the server serves.
func (s *Server) WithInstances(instance func(raftstore.NodeID) string) *Server {
	s.instance = instance
	return s
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
		if err := s.checkPeer(f); err != nil {
			return err
		}
		for _, rm := range f.GetMessages() {
			m, err := decodeMessage(rm.GetMessage())
			if err != nil {
				return status.Errorf(codes.InvalidArgument, "message: %v", err)
			}
			if err := s.checkMessage(m, f.GetFromNode()); err != nil {
				return err
			}
			s.handler.Deliver(raftstore.GroupID(rm.GetGroupId()), m)
		}
	}
}

// envelope is what a frame and a part of a snapshot say of their way.
type envelope interface {
	GetClusterId() string
	GetFromNode() uint64
	GetToNode() uint64
	GetFromInstance() string
	GetToInstance() string
}

// checkPeer refuses a sender that meant somebody else: a reused address, a wrong
// configuration, or a node that was here before it lost its disk. It also refuses a
// sender that has lost its own: it may have forgotten what it voted.
func (s *Server) checkPeer(e envelope) error {
	from := raftstore.NodeID(e.GetFromNode())
	switch {
	case e.GetClusterId() != s.clusterID:
		return status.Errorf(codes.FailedPrecondition, "this is cluster %q, not %q", s.clusterID, e.GetClusterId())
	case raftstore.NodeID(e.GetToNode()) != s.self:
		return status.Errorf(codes.FailedPrecondition, "this is node %d, not %d", s.self, e.GetToNode())
	case differ(e.GetToInstance(), s.instance(s.self)):
		return status.Errorf(codes.FailedPrecondition, "node %d has another data directory than the one that is meant", s.self)
	case differ(e.GetFromInstance(), s.instance(from)):
		return status.Errorf(codes.FailedPrecondition, "node %d had another data directory, and lost its votes with it", from)
	}
	return nil
}

// differ reports whether two names of one directory are known and not the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

func (s *Server) checkMessage(m *raftpb.Message, from uint64) error {
	if uint64(raftstore.NodeID(m.GetFrom()).Process()) != from || raftstore.NodeID(m.GetTo()).Process() != s.self {
		return status.Errorf(codes.InvalidArgument, "message from %d to %d in a frame from %d to %d",
			m.GetFrom(), m.GetTo(), from, s.self)
	}
	return nil
}

var _ oncelogv1.RaftServiceServer = (*Server)(nil)
