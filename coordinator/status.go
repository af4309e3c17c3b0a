package coordinator

import (
	"context"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// RegisterClient registers the services of the client address.
func (c *Coordinator) RegisterClient(s grpc.ServiceRegistrar) {
	oncelogv1.RegisterTransactionServiceServer(s, &transactionService{Coordinator: c})
	oncelogv1.RegisterGroupServiceServer(s, &groupService{Coordinator: c})
	oncelogv1.RegisterCatalogServiceServer(s, &catalogService{Coordinator: c})
	oncelogv1.RegisterStatusServiceServer(s, &statusService{Coordinator: c})
}

// RegisterPeer registers the services of the peer address, besides Raft's.
func (c *Coordinator) RegisterPeer(s grpc.ServiceRegistrar) {
	oncelogv1.RegisterNodeServiceServer(s, &nodeService{Coordinator: c})
	oncelogv1.RegisterMemberServiceServer(s, &memberService{Coordinator: c})
}

// statusService tells about this node.
type statusService struct {
	oncelogv1.UnimplementedStatusServiceServer
	*Coordinator
}

// GetStatus implements the contract.
func (s *statusService) GetStatus(context.Context, *oncelogv1.GetStatusRequest) (*oncelogv1.GetStatusResponse, error) {
	if !s.opened.Load() {
		return nil, notJoined()
	}
	st, m := s.group.Status(), s.cfg.Store.Metrics()
	res := &oncelogv1.GetStatusResponse{
		NodeId: s.cfg.NodeID, Role: oncelogv1.NodeRole_NODE_ROLE_COORDINATOR,
		Version: s.cfg.Version, StartedAtMs: s.startedAt.UnixMilli(),
		Groups: []*oncelogv1.GroupStatus{{
			GroupId: uint64(st.ID), Leader: uint64(st.Leader), Term: st.Term, Commit: st.Commit, Applied: st.Applied,
			FirstIndex: st.FirstIndex, LastIndex: st.LastIndex, Ready: st.Ready, Members: memberIDs(s.cfg.Members),
		}},
		Counters: &oncelogv1.NodeCounters{
			Fsyncs: m.Syncs, RaftEntries: m.Entries, RaftMessages: m.MessagesSent, RaftFrames: m.FramesSent, Proposals: m.Proposals,
			TransactionsCommitted: s.committed.Load(), TransactionsAborted: s.aborted.Load(),
		},
	}
	if d := s.cfg.Store.Disk(); d.MinFreeBytes > 0 {
		res.Disk = &oncelogv1.DiskStatus{FreeBytes: d.FreeBytes, MinFreeBytes: d.MinFreeBytes, Low: d.Low}
	}
	s.state.read(func() { res.ClusterId = s.state.catalog.ClusterID() })
	return res, nil
}

func memberIDs(members []Member) []uint64 {
	ids := make([]uint64, 0, len(members))
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}
