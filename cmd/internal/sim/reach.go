package sim

import (
	"slices"
	"strings"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/meddle"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
)

// Reach counts situations that simulations must get into now and then: what
// never happens is not tested. It is filled by what the simulated world does
// and by what the servers answer.
type Reach map[string]uint64

// What the world does.
const (
	lateMessage        = "a message came late"
	duplicateRequest   = "a request came twice"
	answerLost         = "an answer was lost"
	streamBroken       = "a stream broke"
	snapshotLost       = "a part of a Raft snapshot was lost"
	snapshotDelivered  = "a Raft snapshot was installed"
	writesLost         = "a power cut met unsynced writes"
	writeFailed        = "a write failed"
	diskFull           = "a disk was full"
	leaderMoved        = "a leader handed over"
	damageRefused      = "a damaged checkpoint was refused"
	damageRepaired     = "a damaged copy of a shard was made anew"
	lostRefused        = "a node that lost its disk was refused"
	coordinatorJoined  = "a coordinator took the place of another"
	removedStopped     = "a coordinator that was replaced stopped"
	coordinatorRemoved = "a coordinator was removed after another was added"
	additionCalledOff  = "the addition of a coordinator was called off"
	logReplayed        = "a whole log was carried out again"
)

// What the servers answer.
const (
	appendRepeated  = "an append was answered from memory"
	markerRepeated  = "a marker had been applied already"
	enlistDecided   = "an enlistment was answered by the decision"
	enlistStray     = "an enlistment was answered by STRAY"
	previousTold    = "InitProducer told how the transaction before it ended"
	offsetsDecided  = "a decision moved positions"
	abortedPrefix   = "aborted: "
	answeredPrefix  = "answered "
	struckPrefix    = "fault: "
	workloadsPrefix = "workload: "
	meddledPrefix   = "meddled: "
)

// wanted is what a large number of seeds must have reached.
func wanted() []string {
	out := []string{
		lateMessage, duplicateRequest, answerLost, streamBroken, snapshotLost, snapshotDelivered, writesLost, writeFailed,
		diskFull, leaderMoved, damageRefused, damageRepaired, lostRefused, coordinatorJoined, coordinatorRemoved, additionCalledOff, removedStopped, logReplayed, appendRepeated, markerRepeated, enlistDecided, enlistStray, previousTold, offsetsDecided,
	}
	for _, r := range []oncelogv1.AbortReason{
		oncelogv1.AbortReason_ABORT_REASON_CLIENT, oncelogv1.AbortReason_ABORT_REASON_TIMEOUT,
		oncelogv1.AbortReason_ABORT_REASON_FENCED, oncelogv1.AbortReason_ABORT_REASON_ADMIN,
	} {
		out = append(out, abortedPrefix+reasonName(r))
	}
	for _, c := range []oncelogv1.ErrorCode{
		oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER,
		oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT,
		oncelogv1.ErrorCode_ERROR_CODE_FENCED, oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE,
		oncelogv1.ErrorCode_ERROR_CODE_TXN_ENDED, oncelogv1.ErrorCode_ERROR_CODE_CONFLICT,
		oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN, oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER,
	} {
		out = append(out, answeredPrefix+apierrors.Name(c))
	}
	out = append(out, "shard: log start MOVED", "shard: log start DROPPED", "shard: relocation RELOCATED",
		"shard: rewrite REWRITTEN", "shard: rewrite STALE", "shard: rewrite ENDED")
	out = append(out, struckPrefix+string(loseDisk), struckPrefix+string(damageShard), struckPrefix+string(replaceCoordinator), replicaMoved, diskReplaced, nodeLeft, backupTaken, backupRefused)
	for _, what := range operations {
		out = append(out, operatedPrefix+what)
	}
	for _, k := range swarm {
		out = append(out, struckPrefix+string(k.kind))
	}
	for _, w := range []string{workAppend, workTransfer, workProcess, workHijack, workChurn, workLarge, workMeddle} {
		out = append(out, workloadsPrefix+w)
	}
	for _, act := range meddle.Acts() {
		out = append(out, meddledPrefix+act)
	}
	for _, c := range group.Codes() {
		if c != group.CodeInvalidCommand && c != group.CodeInvalidMember {
			out = append(out, "group: "+c.String())
		}
	}
	for _, c := range catalog.Codes() {
		if !slices.Contains(beforeTheFirst, c) {
			out = append(out, "catalog: "+c.String())
		}
	}
	return out
}

// beforeTheFirst are answers of the catalogue to commands that no log has: before
// the first one, or instead of it.
var beforeTheFirst = []catalog.Code{
	catalog.CodeInvalidCommand, catalog.CodeNotInitialized, catalog.CodeInvalidClusterID,
	// Five shards move from one node, which is more than these worlds have; a leader
	// keeps this from the log; and an operator who is as wrong as that is not played.
	catalog.CodeTooManyMoves, catalog.CodeUnexpectedMembers, catalog.CodeNoMajority,
}

func reasonName(r oncelogv1.AbortReason) string {
	return strings.TrimPrefix(r.String(), "ABORT_REASON_")
}

// Missing lists what must be reached and was not, sorted.
func (r Reach) Missing() []string {
	var out []string
	for _, w := range wanted() {
		if r[w] == 0 {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

// Rarest returns what was reached least of all that must be.
func (r Reach) Rarest() (what string, times uint64) {
	for i, w := range wanted() {
		if i == 0 || r[w] < times {
			what, times = w, r[w]
		}
	}
	return what, times
}

func (r Reach) hit(what string) { r[what]++ }

// add takes over another count.
func (r Reach) add(o Reach) {
	for k, n := range o {
		r[k] += n
	}
}

// failed notes the code of a refusal.
func (r Reach) failed(err error) {
	if e := apierrors.From(err); e != nil {
		r.hit(answeredPrefix + apierrors.Name(e.Code))
	}
}

// answered notes what is remarkable about an answer of a server.
func (r Reach) answered(m any) {
	switch m := m.(type) {
	case *oncelogv1.AppendStreamResponse:
		for _, a := range m.GetResponses() {
			if a.GetError() != nil {
				r.failed(apierrors.FromProto(a.GetError()))
			}
			for _, res := range a.GetResults() {
				if res.GetError() != nil {
					r.failed(apierrors.FromProto(res.GetError()))
				}
				if res.GetDuplicate() {
					r.hit(appendRepeated)
				}
			}
		}
	case *oncelogv1.WriteMarkersResponse:
		for _, s := range m.GetShards() {
			if slices.Contains(s.GetResults(), oncelogv1.MarkerResult_MARKER_RESULT_ALREADY) {
				r.hit(markerRepeated)
			}
		}
	case *oncelogv1.EnlistResponse:
		for _, a := range m.GetAnswers() {
			switch a.GetVerdict() {
			case oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED:
				r.hit(enlistDecided)
			case oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY:
				r.hit(enlistStray)
			default:
			}
		}
	case *oncelogv1.EndTransactionResponse:
		if m.GetOutcome() == oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED {
			r.hit(abortedPrefix + reasonName(m.GetReason()))
		}
	case *oncelogv1.GetOutcomeResponse:
		if m.GetOutcome() == oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED {
			r.hit(abortedPrefix + reasonName(m.GetReason()))
		}
	case *oncelogv1.InitProducerResponse:
		if m.GetPrevious() != nil {
			r.hit(previousTold)
		}
	}
}
