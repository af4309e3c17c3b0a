package rafttransport

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// snapshotChunkBytes is the data in one chunk.
const snapshotChunkBytes = 1 << 20

// MaxSnapshotBytes is the largest snapshot that is received.
const MaxSnapshotBytes = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// withoutData returns a MsgSnap without its data, sharing everything else.
func withoutData(m *raftpb.Message) *raftpb.Message {
	return &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index, Commit: m.Commit,
		Snapshot: &raftpb.Snapshot{Metadata: m.GetSnapshot().GetMetadata()},
	}
}

// sendSnapshot streams a MsgSnap and waits for the receiver's answer.
func (p *peer) sendSnapshot(m raftstore.Message) error {
	conn, err := p.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.t.ctx, p.t.cfg.SnapshotTimeout)
	defer cancel()
	message, err := proto.Marshal(withoutData(m.Raft))
	if err != nil {
		return err
	}
	stream, err := oncelogv1.NewRaftServiceClient(conn).SendSnapshot(ctx)
	if err != nil {
		return err
	}
	data := m.Raft.GetSnapshot().GetData()
	err = stream.Send(&oncelogv1.SendSnapshotRequest{Part: &oncelogv1.SendSnapshotRequest_Header{
		Header: &oncelogv1.SnapshotHeader{
			ClusterId: p.t.cfg.ClusterID, FromNode: uint64(p.t.cfg.Self), ToNode: uint64(p.id), GroupId: uint64(m.Group),
			Message: message, Size: uint64(len(data)), Crc32C: crc32.Checksum(data, castagnoli),
		},
	}})
	for offset := 0; err == nil && offset < len(data); offset += snapshotChunkBytes {
		chunk := data[offset:min(offset+snapshotChunkBytes, len(data))]
		err = stream.Send(&oncelogv1.SendSnapshotRequest{Part: &oncelogv1.SendSnapshotRequest_Chunk{
			Chunk: &oncelogv1.SnapshotChunk{Offset: uint64(offset), Data: chunk, Crc32C: crc32.Checksum(chunk, castagnoli)},
		}})
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
		return err
	}
	_, err = stream.CloseAndRecv()
	return err
}

// SendSnapshot implements oncelogv1.RaftServiceServer.
func (s *Server) SendSnapshot(stream grpc.ClientStreamingServer[oncelogv1.SendSnapshotRequest, oncelogv1.SendSnapshotResponse]) error {
	select {
	case s.receiving <- struct{}{}:
		defer func() { <-s.receiving }()
	default:
		return status.Error(codes.ResourceExhausted, "too many snapshots at once")
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := first.GetHeader()
	if h == nil {
		return status.Error(codes.InvalidArgument, "the first part must be a header")
	}
	if err := s.checkPeer(h.GetClusterId(), h.GetToNode()); err != nil {
		return err
	}
	if h.GetSize() > MaxSnapshotBytes {
		return status.Errorf(codes.InvalidArgument, "snapshot of %d bytes, limit is %d", h.GetSize(), MaxSnapshotBytes)
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(h.GetMessage(), m); err != nil {
		return status.Errorf(codes.InvalidArgument, "message: %v", err)
	}
	if err := s.checkMessage(m, h.GetFromNode()); err != nil {
		return err
	}
	if m.GetType() != raftpb.MsgSnap || m.GetSnapshot().GetMetadata().GetIndex() == 0 {
		return status.Error(codes.InvalidArgument, "not a snapshot message")
	}
	data, err := receiveChunks(stream, h)
	if err != nil {
		return err
	}
	m.Snapshot.Data = data
	s.handler.Deliver(raftstore.GroupID(h.GetGroupId()), m)
	return stream.SendAndClose(&oncelogv1.SendSnapshotResponse{})
}

// receiveChunks puts the data together and checks it.
func receiveChunks(stream grpc.ClientStreamingServer[oncelogv1.SendSnapshotRequest, oncelogv1.SendSnapshotResponse], h *oncelogv1.SnapshotHeader) ([]byte, error) {
	// The stated size is believed only as far as data arrives.
	data := make([]byte, 0, min(h.GetSize(), 16<<20))
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		c := part.GetChunk()
		switch {
		case c == nil:
			return nil, status.Error(codes.InvalidArgument, "a second header")
		case c.GetOffset() != uint64(len(data)):
			return nil, status.Errorf(codes.InvalidArgument, "chunk at %d instead of %d", c.GetOffset(), len(data))
		case uint64(len(data)+len(c.GetData())) > h.GetSize():
			return nil, status.Error(codes.InvalidArgument, "more data than stated")
		case crc32.Checksum(c.GetData(), castagnoli) != c.GetCrc32C():
			return nil, status.Errorf(codes.DataLoss, "wrong checksum of the chunk at %d", c.GetOffset())
		}
		data = append(data, c.GetData()...)
	}
	if uint64(len(data)) != h.GetSize() || crc32.Checksum(data, castagnoli) != h.GetCrc32C() {
		return nil, status.Error(codes.DataLoss, fmt.Sprintf("%d of %d bytes, or a wrong checksum", len(data), h.GetSize()))
	}
	return data, nil
}
