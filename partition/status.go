package partition

import (
	"context"

	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// statusService is the gRPC edge for who asks the node about itself.
type statusService struct {
	oncelogv1.UnimplementedStatusServiceServer
	n *Node
}

// GetStatus implements oncelogv1.StatusServiceServer.
func (s statusService) GetStatus(context.Context, *oncelogv1.GetStatusRequest) (*oncelogv1.GetStatusResponse, error) {
	return s.n.Status(), nil
}

// Status returns the node's view of itself.
func (n *Node) Status() *oncelogv1.GetStatusResponse {
	n.mu.RLock()
	st := &oncelogv1.GetStatusResponse{
		ClusterId: n.id.cluster, NodeId: n.cfg.NodeID,
		Role:    oncelogv1.NodeRole_NODE_ROLE_PARTITION,
		Version: n.cfg.Version, StartedAtMs: n.started.UnixMilli(),
		FormatLevel: level.Of(n.assignment.GetFormatLevel()), MaxFormatLevel: n.cfg.MaxFormatLevel,
		Authorization: n.cfg.Access.Enabled(), Clock: n.clock.Offset().Proto(),
		Counters: &oncelogv1.NodeCounters{
			RecordsAppended: n.counters.records.Load(), DuplicateAppends: n.counters.verdict(pstate.CodeDuplicate),
		},
	}
	store := n.store
	n.mu.RUnlock()
	if store != nil {
		m := store.Metrics()
		st.Counters.Fsyncs, st.Counters.RaftEntries = m.Syncs, m.Entries
		st.Counters.RaftMessages, st.Counters.RaftFrames = m.MessagesSent, m.FramesSent
		st.Counters.Proposals = m.Proposals
		if d := store.Disk(); d.MinFreeBytes > 0 {
			st.Disk = &oncelogv1.DiskStatus{FreeBytes: d.FreeBytes, MinFreeBytes: d.MinFreeBytes, Low: d.Low}
		}
	}
	for _, s := range n.allShards() {
		st.Groups = append(st.Groups, groupStatus(s.group.Status()))
	}
	return st
}

func groupStatus(g raftstore.Status) *oncelogv1.GroupStatus {
	out := &oncelogv1.GroupStatus{
		GroupId: uint64(g.ID), Leader: uint64(g.Leader), Term: g.Term,
		Commit: g.Commit, Applied: g.Applied, FirstIndex: g.FirstIndex, LastIndex: g.LastIndex,
		Ready: g.Ready,
	}
	for _, m := range g.Members {
		out.Members = append(out.Members, uint64(m.Process()))
	}
	return out
}
