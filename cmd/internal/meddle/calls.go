package meddle

import (
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// answer is a code that may be answered: as such, only if an earlier request may
// have been carried out again, or for now, after which the request is repeated.
type answer int32

const (
	ifLoose answer = 1 << 16
	forNow  answer = 1 << 17
)

// Answers, by the names of their codes.
const (
	ok                    = answer(oncelogv1.ErrorCode_ERROR_CODE_UNSPECIFIED)
	invalidArgument       = answer(oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT)
	limitExceeded         = answer(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED)
	internal              = answer(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL)
	unavailable           = answer(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE)
	notLeader             = answer(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER)
	overloaded            = answer(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED)
	unknownResult         = answer(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT)
	deadline              = answer(oncelogv1.ErrorCode_ERROR_CODE_DEADLINE)
	unknownTopic          = answer(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC)
	topicChanged          = answer(oncelogv1.ErrorCode_ERROR_CODE_TOPIC_CHANGED)
	unknownPartition      = answer(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION)
	topicExists           = answer(oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS)
	insufficientNodes     = answer(oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES)
	unknownNode           = answer(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE)
	nodeIDInUse           = answer(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE)
	wrongCluster          = answer(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER)
	invalidToken          = answer(oncelogv1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN)
	fenced                = answer(oncelogv1.ErrorCode_ERROR_CODE_FENCED)
	unknownProducer       = answer(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER)
	outOfOrder            = answer(oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE)
	staleTxn              = answer(oncelogv1.ErrorCode_ERROR_CODE_STALE_TXN)
	txnEnded              = answer(oncelogv1.ErrorCode_ERROR_CODE_TXN_ENDED)
	conflict              = answer(oncelogv1.ErrorCode_ERROR_CODE_CONFLICT)
	forgotten             = answer(oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN)
	unsettledSends        = answer(oncelogv1.ErrorCode_ERROR_CODE_UNSETTLED_SENDS)
	throttled             = answer(oncelogv1.ErrorCode_ERROR_CODE_THROTTLED)
	staleMember           = answer(oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER)
	preparedExists        = answer(oncelogv1.ErrorCode_ERROR_CODE_PREPARED_EXISTS)
	unstableOffset        = answer(oncelogv1.ErrorCode_ERROR_CODE_UNSTABLE_OFFSET_COMMIT)
	invalidTxn            = answer(oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN)
	transactionInProgress = answer(oncelogv1.ErrorCode_ERROR_CODE_TRANSACTION_IN_PROGRESS)
	corruptBatch          = answer(oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH)
	batchTooLarge         = answer(oncelogv1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE)
	offsetOutOfRange      = answer(oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE)
	unknownGroup          = answer(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP)
	groupNotEmpty         = answer(oncelogv1.ErrorCode_ERROR_CODE_GROUP_NOT_EMPTY)
	unknownMember         = answer(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_MEMBER)
	fencedInstance        = answer(oncelogv1.ErrorCode_ERROR_CODE_FENCED_INSTANCE_ID)
	inconsistentProtocol  = answer(oncelogv1.ErrorCode_ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL)
)

// none is the answer of a request that got none.
const none answer = -1

func (a answer) String() string {
	switch a {
	case none:
		return "no answer"
	case ok:
		return "OK"
	default:
		return apierrors.Name(oncelogv1.ErrorCode(a &^ (ifLoose | forNow)))
	}
}

// answerOf returns what was answered, with the details of a refusal.
func answerOf(err error) (answer, *apierrors.Error) {
	e := apierrors.From(err)
	if e == nil {
		return ok, nil
	}
	return answer(e.Code), e
}

// transient reports whether everybody may answer so at any time.
func (a answer) transient() bool {
	switch a {
	case unavailable, notLeader, overloaded, unknownResult, deadline:
		return true
	default:
		return false
	}
}

// uncertain reports whether a request that got this answer may be carried out
// later all the same.
func (a answer) uncertain() bool { return a == unavailable || a == unknownResult || a == deadline }

// place is whom a request goes to: the leader of the coordinators, with shard 0,
// or of a shard, at its address for clients or for nodes.
type place struct {
	shard uint64
	peer  bool
}

var (
	coordinator     = place{}
	coordinatorPeer = place{peer: true}
)

func shardAt(id uint64) place { return place{shard: id} }

// ask makes a request to whoever leads and repeats it until the answer is none
// that is for now. It returns that answer, which is one of those that may be, and
// its details; none, and the act is lost, when there was no such answer in time.
func (m *meddler) ask(to place, method string, req, resp proto.Message, may ...answer) (answer, *apierrors.Error) {
	a, e := m.request(to, method, req, resp, may)
	if a == none {
		m.lost = true
	}
	return a, e
}

// try is ask for a request whose answer nothing depends on.
func (m *meddler) try(to place, method string, req, resp proto.Message, may ...answer) answer {
	a, _ := m.request(to, method, req, resp, may)
	return a
}

func (m *meddler) request(to place, method string, req, resp proto.Message, may []answer) (answer, *apierrors.Error) {
	if m.lost {
		return none, nil
	}
	m.shaky = false
	for until := m.Runtime.Now().Add(patience); m.Runtime.Now().Before(until) && m.ctx.Err() == nil; {
		cc, err := m.reach(to)
		if err == nil {
			ctx, cancel := m.Runtime.WithTimeout(m.ctx, attempt)
			err = cc.Invoke(ctx, method, req, resp)
			cancel()
		}
		a, e := answerOf(err)
		switch m.judge(method, a, err, may) {
		case final:
			return a, e
		case wrong:
			m.lost = true
			return none, e
		case later:
			m.learn(to, a, e)
			m.Runtime.Sleep(retryPause, m.ctx.Done())
		}
	}
	return none, nil
}

// verdict is what an answer means for a request.
type verdict int

const (
	final verdict = iota
	later
	wrong
)

// judge holds an answer against those that may be.
func (m *meddler) judge(what string, a answer, err error, may []answer) verdict {
	if a.uncertain() {
		m.unsure, m.shaky = true, true
	}
	for _, x := range may {
		switch {
		case x&^(ifLoose|forNow) != a:
		case x&forNow != 0:
			return later
		case x&ifLoose == 0 || m.loose():
			return final
		}
	}
	switch {
	case a.transient():
		return later
	case a == unknownProducer && m.aged(m.Txn.IDExpiration):
		return wrong // whatever the act has begun with may have expired
	case a == limitExceeded && m.Txn.MaxIDs <= mostSteps && what == oncelogv1.TransactionService_InitProducer_FullMethodName:
		return wrong // ids of acts that lost their footing are still there
	}
	m.violation("%s was answered %v (%v); it may be %v", what[strings.LastIndexByte(what, '/')+1:], a, err, m.allowed(may))
	return wrong
}

func (m *meddler) allowed(may []answer) []answer {
	var out []answer
	for _, x := range may {
		if x&ifLoose == 0 || m.loose() {
			out = append(out, x)
		}
	}
	return out
}

// learn takes note of who leads, or of that somebody does not.
func (m *meddler) learn(to place, a answer, e *apierrors.Error) {
	delete(m.seats, to)
	if a == notLeader && e.Metadata[apierrors.KeyLeaderAddress] != "" {
		m.seats[to] = e.Metadata[apierrors.KeyLeaderAddress]
	}
}

// errNobody: nobody is known to lead.
var errNobody = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "nobody is known to lead")

// reach returns a connection to whoever is thought to lead.
func (m *meddler) reach(to place) (grpc.ClientConnInterface, error) {
	if m.seats[to] == "" {
		m.find(to)
	}
	if m.seats[to] == "" {
		return nil, errNobody
	}
	return m.connect(m.seats[to])
}

func (m *meddler) connect(address string) (grpc.ClientConnInterface, error) {
	if cc := m.conns[address]; cc != nil {
		return cc, nil
	}
	cc, err := m.Dial(address)
	if err == nil {
		m.conns[address] = cc
	}
	return cc, err
}

// find guesses who leads the coordinators, or asks them who leads a shard.
func (m *meddler) find(to place) {
	switch {
	case to.shard == 0 && to.peer:
		m.seats[to] = pick(m, m.CoordinatorPeers...)
		return
	case to.shard == 0:
		m.seats[to] = pick(m, m.Coordinators...)
		return
	}
	var picture oncelogv1.GetMetadataResponse
	cc, err := m.reach(coordinator)
	if err == nil {
		ctx, cancel := m.Runtime.WithTimeout(m.ctx, attempt)
		err = cc.Invoke(ctx, oncelogv1.CatalogService_GetMetadata_FullMethodName, &oncelogv1.GetMetadataRequest{}, &picture)
		cancel()
	}
	if err != nil || m.note(&picture, to) == "" {
		// Only the leader of the coordinators knows who leads the shards.
		delete(m.seats, coordinator)
	}
}

// note takes note of who leads what, and returns what it learned about one place.
func (m *meddler) note(picture *oncelogv1.GetMetadataResponse, about place) string {
	for _, n := range picture.GetCoordinators() {
		if n.GetNodeId() == picture.GetCoordinatorLeader() {
			m.seats[coordinator], m.seats[coordinatorPeer] = n.GetClientAddress(), n.GetPeerAddress()
		}
	}
	for _, s := range picture.GetShards() {
		for _, n := range picture.GetNodes() {
			if n.GetNodeId() == s.GetLeader() {
				m.seats[place{shard: s.GetShardId()}] = n.GetClientAddress()
				m.seats[place{shard: s.GetShardId(), peer: true}] = n.GetPeerAddress()
			}
		}
	}
	return m.seats[about]
}

// ErrNotApplied is what Env.Propose returns for an entry of which nobody can tell
// whether it will be applied.
var ErrNotApplied = errors.New("meddle: not known to be applied")

// propose puts an entry into a log. It returns what came of it; nil: nobody knows.
func (m *meddler) propose(group uint64, entry []byte) any {
	if m.lost {
		return nil
	}
	ctx, cancel := m.Runtime.WithTimeout(m.ctx, patience)
	defer cancel()
	result, err := m.Propose(ctx, group, entry)
	m.shaky = err != nil
	if err != nil {
		m.unsure = true
		return nil
	}
	return result
}
