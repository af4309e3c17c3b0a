package coordinator

import (
	"context"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// RegisterClient registers the services of the client address.
func (c *Coordinator) RegisterClient(to grpc.ServiceRegistrar) {
	s := c.silenced(to)
	oncelogv1.RegisterTransactionServiceServer(s, &transactionService{Coordinator: c})
	oncelogv1.RegisterGroupServiceServer(s, &groupService{Coordinator: c})
	oncelogv1.RegisterCatalogServiceServer(s, &catalogService{Coordinator: c})
	oncelogv1.RegisterPlacementServiceServer(s, &placementService{Coordinator: c})
	oncelogv1.RegisterCoordinatorServiceServer(s, &coordinatorService{Coordinator: c})
	oncelogv1.RegisterStatusServiceServer(to, &statusService{Coordinator: c})
	oncelogv1.RegisterBackupServiceServer(to, &backupService{Coordinator: c})
	oncelogv1.RegisterAclServiceServer(s, &aclService{Coordinator: c})
}

// RegisterPeer registers the services of the peer address, besides Raft's.
func (c *Coordinator) RegisterPeer(s grpc.ServiceRegistrar) {
	oncelogv1.RegisterNodeServiceServer(c.silenced(s), &nodeService{Coordinator: c})
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
		Version: s.cfg.Version, StartedAtMs: s.startedAt.UnixMilli(), MaxFormatLevel: s.cfg.MaxFormatLevel,
		Groups: []*oncelogv1.GroupStatus{{
			GroupId: uint64(st.ID), Leader: uint64(st.Leader), Term: st.Term, Commit: st.Commit, Applied: st.Applied,
			FirstIndex: st.FirstIndex, LastIndex: st.LastIndex, Ready: st.Ready, Members: voterIDs(st.Members),
		}},
		Authorization: s.cfg.Access.Enabled(), Clock: s.clock.Offset().Proto(),
		Counters: &oncelogv1.NodeCounters{
			Fsyncs: m.Syncs, RaftEntries: m.Entries, RaftMessages: m.MessagesSent, RaftFrames: m.FramesSent, Proposals: m.Proposals,
			TransactionsCommitted: s.counters.committed.Load(), TransactionsAborted: s.counters.aborted.sum(),
		},
	}
	if d := s.cfg.Store.Disk(); d.MinFreeBytes > 0 {
		res.Disk = &oncelogv1.DiskStatus{FreeBytes: d.FreeBytes, MinFreeBytes: d.MinFreeBytes, Low: d.Low}
	}
	s.state.read(func() { res.ClusterId, res.FormatLevel = s.state.catalog.ClusterID(), s.state.members.Level() })
	return res, nil
}

func voterIDs(members []raftstore.NodeID) []uint64 {
	ids := make([]uint64, 0, len(members))
	for _, m := range members {
		ids = append(ids, uint64(m))
	}
	return ids
}

func memberIDs(members []Member) []uint64 {
	ids := make([]uint64, 0, len(members))
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}
