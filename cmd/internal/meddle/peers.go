package meddle

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// wrongFromNode sends the coordinators what no node sends.
func (m *meddler) wrongFromNode() {
	register, registered := oncelogv1.NodeService_RegisterNode_FullMethodName, &oncelogv1.RegisterNodeResponse{}
	beat, beaten := oncelogv1.NodeService_Heartbeat_FullMethodName, &oncelogv1.HeartbeatResponse{}
	node := func(bend func(r *oncelogv1.RegisterNodeRequest)) *oncelogv1.RegisterNodeRequest {
		r := &oncelogv1.RegisterNodeRequest{NodeId: 1, InstanceId: "stranger", ClientAddress: "stranger.client", PeerAddress: "stranger.peer", MaxFormatLevel: level.Newest}
		bend(r)
		return r
	}
	nothing := func(*oncelogv1.RegisterNodeRequest) {}
	wrong := []request{
		{register, node(nothing), registered, nodeIDInUse},
		{register, node(func(r *oncelogv1.RegisterNodeRequest) { r.NodeId = 0 }), registered, invalidArgument},
		{register, node(func(r *oncelogv1.RegisterNodeRequest) { r.ClientAddress = "" }), registered, invalidArgument},
		{register, node(func(r *oncelogv1.RegisterNodeRequest) { r.PeerAddress = long }), registered, limitExceeded},
		{register, node(func(r *oncelogv1.RegisterNodeRequest) { r.InstanceId = "" }), registered, invalidArgument},
		{register, node(func(r *oncelogv1.RegisterNodeRequest) { r.InstanceId = strings.Repeat("i", 65) }), registered, limitExceeded},
		{register, node(func(r *oncelogv1.RegisterNodeRequest) { r.ClusterId = "elsewhere" }), registered, wrongCluster},
		{beat, &oncelogv1.HeartbeatRequest{NodeId: 77}, beaten, unknownNode},
		{beat, &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: "stranger"}, beaten, nodeIDInUse},
		{beat, &oncelogv1.HeartbeatRequest{NodeId: 1, WaitMs: -1}, beaten, invalidArgument},
		{beat, &oncelogv1.HeartbeatRequest{NodeId: 1, WaitMs: 5001}, beaten, limitExceeded},
		{beat, &oncelogv1.HeartbeatRequest{NodeId: 1, Shards: make([]*oncelogv1.ShardReport, 10_001)}, beaten, limitExceeded},
		{oncelogv1.NodeService_Enlist_FullMethodName, &oncelogv1.EnlistRequest{Enlistments: make([]*oncelogv1.Enlistment, 10_001)}, &oncelogv1.EnlistResponse{}, limitExceeded},
		{oncelogv1.NodeService_CheckProducers_FullMethodName, &oncelogv1.CheckProducersRequest{ProducerIds: make([]uint64, 10_001)}, &oncelogv1.CheckProducersResponse{}, limitExceeded},
	}
	for range 5 {
		r := pick(m, wrong...)
		m.try(coordinatorPeer, r.method, r.body, r.resp, r.may)
	}
	p := m.newProducer()
	var gone oncelogv1.CheckProducersResponse
	m.ask(coordinatorPeer, oncelogv1.NodeService_CheckProducers_FullMethodName, &oncelogv1.CheckProducersRequest{ProducerIds: []uint64{p.pid, 1 << 50}}, &gone, ok)
	m.check(m.lost || len(gone.GetGone()) == 1 && gone.GetGone()[0] == 1<<50, "of a producer that is and one that never was %v are gone", gone.GetGone())
}

// enlist tells the coordinators of a transaction, as the leader of a shard does.
func (m *meddler) enlist(ref *oncelogv1.TxnRef, shard uint64, parts ...uint64) *oncelogv1.EnlistAnswer {
	var resp oncelogv1.EnlistResponse
	m.ask(coordinatorPeer, oncelogv1.NodeService_Enlist_FullMethodName, &oncelogv1.EnlistRequest{NodeId: 1, Enlistments: []*oncelogv1.Enlistment{
		{Txn: ref, ShardId: shard, OpenedAt: 5, PartitionIds: parts},
	}}, &resp, ok)
	if m.lost || len(resp.GetAnswers()) != 1 {
		m.check(false, "one enlistment got %d answers", len(resp.GetAnswers()))
		return nil
	}
	return resp.GetAnswers()[0]
}

// Verdicts on an enlistment.
const (
	accepted  = oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED
	decidedAs = oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED
	asStray   = oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY
	tooMany   = oncelogv1.EnlistVerdict_ENLIST_VERDICT_THROTTLED
)

// strangeEnlistments: shards that have what cannot be, or say so.
func (m *meddler) strangeEnlistments() {
	m.on(func(g *ground) {
		p := m.newProducer()
		at := g.any(m)
		stray := func(ref *oncelogv1.TxnRef, shard uint64, invalid bool, parts ...uint64) {
			a := m.enlist(ref, shard, parts...)
			m.check(m.lost || a.GetVerdict() == asStray && a.GetInvalid() == invalid, "an enlistment that cannot be was answered %v, invalid %v", a.GetVerdict(), a.GetInvalid())
		}
		stray(&oncelogv1.TxnRef{ProducerId: 1 << 50, TxnNumber: 1}, at.shard, false, at.id.GetPartitionId()) // it may have been deleted
		stray(&oncelogv1.TxnRef{ProducerId: p.pid, Epoch: p.epoch + 9, TxnNumber: 1}, at.shard, true, at.id.GetPartitionId())
		stray(&oncelogv1.TxnRef{ProducerId: p.pid, Epoch: p.epoch, TxnNumber: 1}, 1<<50, true)
		removed := m.enlist(&oncelogv1.TxnRef{ProducerId: p.pid, Epoch: p.epoch, TxnNumber: 1}, 1<<50, 1<<50)
		m.check(m.lost || removed.GetVerdict() == accepted, "a shard that may have been removed was told %v", removed.GetVerdict())
		// A shard says that it has records, and has none: the commit must name it.
		t := m.begin(p)
		a := m.enlist(t.ref, at.shard, at.id.GetPartitionId(), 1<<50)
		m.check(m.lost || a.GetVerdict() == accepted || a.GetVerdict() == tooMany, "an enlistment was answered %v", a.GetVerdict())
		m.enlist(t.ref, at.shard, at.id.GetPartitionId())
		if a.GetVerdict() == accepted && !m.lost {
			m.end(g, t, t.ending(true, nil), unsettledSends, conflict)
		}
		m.abort(g, t, false)
		told := m.enlist(t.ref, at.shard)
		m.check(m.lost || told.GetVerdict() == asStray || told.GetVerdict() == decidedAs && !told.GetMarker().GetCommit(), "a shard was told %v of a transaction that was aborted", told.GetVerdict())
		m.initialize(p, txnTimeout)
		old := m.enlist(t.ref, at.shard)
		m.check(m.lost || old.GetVerdict() == decidedAs || old.GetVerdict() == asStray && (old.Fence == nil || old.GetFence() == p.epoch),
			"a shard was told %v and to fence up to %d", old.GetVerdict(), old.GetFence())
		m.inspect(g)
	})
}

// markers sends decisions to a shard, as the coordinators do.
func (m *meddler) markers(shard uint64, markers ...*oncelogv1.Marker) *oncelogv1.ShardMarkerResults {
	for range settleTries {
		var resp oncelogv1.WriteMarkersResponse
		m.ask(place{shard: shard, peer: true}, oncelogv1.ShardService_WriteMarkers_FullMethodName, &oncelogv1.WriteMarkersRequest{
			Shards: []*oncelogv1.ShardMarkers{{ShardId: shard, Markers: markers}},
		}, &resp, ok)
		if m.lost || len(resp.GetShards()) != 1 {
			return nil
		}
		a := answer(resp.GetShards()[0].GetError().GetCode())
		if !a.transient() {
			return resp.GetShards()[0]
		}
		m.judge("WriteMarkers", a, nil, nil)
		delete(m.seats, place{shard: shard, peer: true})
		m.wait(retryPause)
	}
	m.lost = true
	return nil
}

// wrongMarkers: decisions that cannot be.
func (m *meddler) wrongMarkers() {
	m.on(func(g *ground) {
		shard := g.any(m).shard
		ref := &oncelogv1.TxnRef{ProducerId: 1 << 40, TxnNumber: 1}
		for _, marker := range []*oncelogv1.Marker{
			{}, {Txn: &oncelogv1.TxnRef{TxnNumber: 1}}, {Txn: &oncelogv1.TxnRef{ProducerId: 3}}, {Txn: ref, Reason: -1}, {Txn: ref, Reason: 300},
			{Txn: ref, Progress: []*oncelogv1.MarkerProgress{{PartitionId: 1}, {PartitionId: 1}}},
			{Txn: ref, CompleteBelow: &oncelogv1.TxnRef{ProducerId: 2}},
		} {
			res := m.markers(shard, marker)
			a := answer(res.GetError().GetCode())
			m.check(m.lost || a == invalidArgument, "a marker that cannot be was answered %v", a)
		}
		res := m.markers(shard, make([]*oncelogv1.Marker, 10_001)...)
		m.check(m.lost || answer(res.GetError().GetCode()) == limitExceeded, "10,001 markers were answered %v", answer(res.GetError().GetCode()))
	})
}

// Results of markers.
const (
	appliedNow   = oncelogv1.MarkerResult_MARKER_RESULT_APPLIED
	appliedSince = oncelogv1.MarkerResult_MARKER_RESULT_ALREADY
	missingData  = oncelogv1.MarkerResult_MARKER_RESULT_MISSING_DATA
	conflicting  = oncelogv1.MarkerResult_MARKER_RESULT_CONFLICT
)

// falseMarkers: somebody who may speak to nodes tells a shard of a decision that
// nobody made. The shard and the outcome tell of it.
func (m *meddler) falseMarkers() {
	m.on(func(g *ground) {
		p := m.newProducer()
		m.Lies(p.pid)
		t := m.begin(p)
		at := g.any(m)
		m.marked(at.shard, &oncelogv1.Marker{Txn: t.ref, Commit: true}, appliedNow)
		m.marked(at.shard, &oncelogv1.Marker{Txn: t.ref, Commit: true}, appliedSince)
		m.marked(at.shard, &oncelogv1.Marker{Txn: t.ref, Reason: oncelogv1.AbortReason_ABORT_REASON_CLIENT}, conflicting)
		t.over = true
		records := m.records(1)
		m.append(at, t, appends(at, t.ref, t.token, 0, records), records, txnEnded)
		t.over = false
		progress := []*oncelogv1.PartitionProgress{{Partition: at.id}}
		m.end(g, t, t.ending(false, progress), ok)
		for range settleTries {
			if resp := m.outcome(t.ref, isAborted); m.lost || len(resp.GetPendingShards()) == 0 {
				m.check(resp.GetDamaged(), "an abort that a shard took for a commit has damaged nothing")
				break
			}
			m.wait(2 * retryPause)
		}
		next := &oncelogv1.TxnRef{ProducerId: p.pid, Epoch: p.epoch, TxnNumber: p.number + 5}
		m.marked(at.shard, &oncelogv1.Marker{
			Txn: next, Commit: true, CompleteBelow: next, Progress: []*oncelogv1.MarkerProgress{{PartitionId: 1 << 50, NextSequence: 1}, {PartitionId: at.id.GetPartitionId(), NextSequence: 1}},
		}, missingData)
		m.marked(at.shard, &oncelogv1.Marker{Txn: t.ref, Commit: true}, appliedSince, conflicting) // forgotten, or not yet
		m.inspect(g)
	})
}

func (m *meddler) marked(shard uint64, marker *oncelogv1.Marker, may ...oncelogv1.MarkerResult) {
	res := m.markers(shard, proto.CloneOf(marker))
	if m.lost {
		return
	}
	for _, x := range may {
		if len(res.GetResults()) == 1 && (res.GetResults()[0] == x || m.loose() && res.GetResults()[0] == appliedSince) {
			return
		}
	}
	m.check(false, "a marker was answered %v (%s); it may be %v", res.GetResults(), res.GetError().GetMessage(), may)
}
