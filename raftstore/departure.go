package raftstore

import (
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A member that is removed gets nothing more from the leader, and so may never
// apply the entry that removes it. The leader tells it for some time, and whenever
// it asks: for votes, or, if it cannot lead, when it has had no leader for a while.
//
// Nobody leaves on its own account, though, not even after it has applied that
// entry. The others count it for their majorities until they know that the entry
// is committed, and if it took its vote away before, and the only one who knew
// went down, they could never elect a leader again. So the leader first gets
// another entry through, which carries the commit index to a majority of the new
// members, durably; then it gives notice.

// removalNotice is the type of the message that tells a node that it is no member
// any more. It is one that Raft sends only to itself, so that no message of Raft
// can be mistaken for it, and a node that does not know it drops it.
const removalNotice = raftpb.MsgUnreachable

// noticeTimeouts is for how many election timeouts a leader tells a removed member.
const noticeTimeouts = 10

// noteDepartures begins to tell those who were members before and are none now.
func (r *replica) noteDepartures(before *raftpb.ConfState) {
	for _, id := range slices.Concat(before.GetVoters(), before.GetLearners(), before.GetVotersOutgoing()) {
		if node := NodeID(id); node != r.self && !r.isMember(node) {
			if r.notices == nil {
				r.notices = map[NodeID]int{}
			}
			r.notices[node] = noticeTimeouts * r.loop.cfg.ElectionTicks
		}
	}
}

// tickNotices repeats the notices, at the rate of heartbeats.
func (r *replica) tickNotices() {
	r.enquire()
	if r.role != raft.StateLeader {
		r.notices, r.confirming, r.confirmed = nil, nil, nil
		return
	}
	if len(r.notices) == 0 {
		return
	}
	for _, node := range slices.Sorted(maps.Keys(r.notices)) {
		left := r.notices[node] - 1
		if left <= 0 || r.isMember(node) {
			delete(r.notices, node)
			continue
		}
		r.notices[node] = left
		if left%max(r.loop.cfg.HeartbeatTicks, 1) == 0 {
			r.tellStranger(node, 0)
		}
	}
}

// enquire is for a member that cannot campaign, and so asks for no votes.
func (r *replica) enquire() {
	self := uint64(r.self)
	if slices.Contains(r.members.GetVoters(), self) || slices.Contains(r.members.GetVotersOutgoing(), self) {
		return
	}
	// Raft lets who cannot campaign believe in its last leader for ever.
	if r.unheard++; r.unheard%(2*r.loop.cfg.ElectionTicks) != 0 {
		return
	}
	for _, to := range r.members.GetVoters() {
		r.sendEnquiry(to, r.self, r.hard.Term)
	}
}

// sendEnquiry asks whether a node, which is in a term, is a member.
func (r *replica) sendEnquiry(to uint64, node NodeID, term uint64) {
	r.loop.route(r, &raftpb.Message{
		Type: removalNotice.Enum(), From: proto.Uint64(uint64(r.self)), To: proto.Uint64(to), Term: proto.Uint64(term),
		Index: proto.Uint64(uint64(node)),
	})
}

func (r *replica) sendNotice(to NodeID) {
	r.loop.route(r, &raftpb.Message{
		Type: removalNotice.Enum(), From: proto.Uint64(uint64(r.self)), To: proto.Uint64(uint64(to)), Term: proto.Uint64(r.hard.Term),
	})
}

// answerStranger tells a node that asks for votes and is no member. A follower may
// not know all members yet, so it has its leader tell, whom the stranger may not
// know, and treats the message like any other.
func (r *replica) answerStranger(m *raftpb.Message) (answered bool) {
	from, term := NodeID(m.GetFrom()), m.GetTerm()
	switch m.GetType() {
	case raftpb.MsgVote:
	case raftpb.MsgPreVote:
		term-- // it asks for the next
	default:
		return false
	}
	if r.isMember(from) {
		return false
	}
	return r.refer(from, term)
}

// refer tells a node that is no member, or has the leader tell it; true: this node
// leads and knows.
func (r *replica) refer(node NodeID, term uint64) bool {
	switch {
	case r.role == raft.StateLeader:
		return r.tellStranger(node, term)
	case r.leader != 0:
		r.sendEnquiry(r.leader, node, term)
	}
	return false
}

// tellStranger sends a notice if it is sure that the node, which is in a term, is
// no member. A leader that has applied everything before its term knows all members
// whose term is not above its own: they could only have been added by itself or by
// a leader before it.
func (r *replica) tellStranger(node NodeID, term uint64) bool {
	if !r.ready() || term > r.hard.Term || r.isMember(node) {
		return false
	}
	if r.confirmed == r.members {
		r.sendNotice(node)
	} else {
		r.confirm()
	}
	return true
}

// confirm gets an entry through by which a majority of the members learn that
// their configuration is committed.
func (r *replica) confirm() {
	members := r.members
	if r.confirming == members {
		return
	}
	r.confirming = members
	r.queued = append(r.queued, proposal{done: func(res ProposalResult) {
		switch {
		case res.Err != nil:
			r.confirming = nil
		case r.members == members:
			r.confirmed = members
		}
	}})
	r.touch()
}

// noticed takes a notice, or, with an index, the question whether that node has to
// get one.
func (r *replica) noticed(m *raftpb.Message) {
	switch node := NodeID(m.GetIndex()); {
	case node == r.self:
	case node != 0:
		r.refer(node, m.GetTerm())
	case m.GetTerm() >= r.hard.Term:
		r.loop.departing = append(r.loop.departing, r)
	}
}

// depart ends this member, which is none any more. Its data stays until
// RemoveGroup.
func (r *replica) depart() {
	if r.departed || r.removed {
		return
	}
	r.departed = true
	r.loop.cfg.Logger.Info("removed from the group", "group", r.id())
	r.failAll(ErrNotMember)
	r.role, r.leader = raft.StateFollower, 0
	r.publish()
	r.cfg.OnRemoved()
}
