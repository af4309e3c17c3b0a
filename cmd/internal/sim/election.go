package sim

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
)

// elections checks what Raft rests on, where it is said: in a term of a group one
// node leads, and a member votes for one candidate. A vote that was given twice
// seldom does harm at once, and is found here all the same.
type elections struct {
	said   map[election]uint64 // node that it was said of
	broken []string
}

// election is what may be said of one node only.
type election struct {
	group groupKey
	term  uint64
	voter uint64 // 0: who leads
}

func newElections() *elections { return &elections{said: map[election]uint64{}} }

// hear takes a message that a node sends. kind is the node's.
func (e *elections) hear(kind string, m raftstore.Message) {
	from := m.Raft.GetFrom()
	said, about := election{group: groupKey{kind, uint64(m.Group)}, term: m.Raft.GetTerm()}, from
	switch m.Raft.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
	case raftpb.MsgVoteResp:
		if m.Raft.GetReject() {
			return
		}
		said.voter, about = from, m.Raft.GetTo()
	default:
		return
	}
	before, known := e.said[said]
	switch {
	case !known:
		e.said[said] = about
	case before != about && said.voter == 0:
		e.broken = append(e.broken, fmt.Sprintf("%s%d and %s%d lead group %d in term %d", kind, before, kind, about, m.Group, said.term))
	case before != about:
		e.broken = append(e.broken, fmt.Sprintf("%s%d votes for %s%d and %s%d in term %d of group %d",
			kind, from, kind, before, kind, about, said.term, m.Group))
	}
}
