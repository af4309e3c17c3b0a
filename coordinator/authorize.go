package coordinator

import (
	"context"
	"strconv"
	"strings"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/access"
)

// Authorize decides whether a call of the client address may be made; the listener asks
// it before the service. It is asked before anything is looked up, so who may not do
// something is told the same whether or not what is named exists. A method without a
// rule is refused. Lists are not refused but cut to what the caller may see.
//
// The rules are those of the leader's state: a change is in force when it was answered.
// What every coordinator answers, metadata and lists of topics, follows its own state,
// which may be behind.
func (c *Coordinator) Authorize(ctx context.Context, method string, req any) error {
	if !c.cfg.Access.Enabled() {
		return nil
	}
	if strings.HasPrefix(method, channelz) {
		method = channelz
	}
	rule, known := permissions[method]
	if !known {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "there is no rule about who may call "+method)
	}
	if !c.opened.Load() {
		return notJoined()
	}
	if !followers[method] {
		if err := c.leading(); err != nil {
			return err
		}
	}
	a := &asker{c: c, who: access.From(ctx)}
	c.state.read(func() {
		c.freshRules()
		rule(a, req)
	})
	if a.refused != nil {
		return a.refused
	}
	return nil
}

// followers are the methods that every coordinator answers.
var followers = map[string]bool{
	oncelogv1.CatalogService_ListTopics_FullMethodName:  true,
	oncelogv1.CatalogService_GetMetadata_FullMethodName: true,
	oncelogv1.StatusService_GetStatus_FullMethodName:    true,

	oncelogv1.DebugService_GetDiagnostics_FullMethodName: true,
	channelz: true,
}

// freshRules has the authority decide by the rules of the state. The caller holds the
// state still.
func (c *Coordinator) freshRules() {
	rules, version := c.state.catalog.ACLs()
	if have, set := c.cfg.Access.Version(); !set || have != version {
		c.cfg.Access.Set(version, rules)
	}
}

// visible returns whether a caller may Describe resources of the kind, by name, for lists. The caller holds the state still.
func (c *Coordinator) visible(ctx context.Context, kind acl.Kind) func(name string) bool {
	if !c.cfg.Access.Enabled() {
		return func(string) bool { return true }
	}
	c.freshRules()
	who := access.From(ctx)
	return func(name string) bool {
		return c.cfg.Access.Allows(who, acl.Describe, acl.Resource{Kind: kind, Name: name})
	}
}

// asker asks for what one call needs. The first refusal stands.
type asker struct {
	c       *Coordinator
	who     access.Principal
	refused error
}

// need asks for an operation on a resource.
func (a *asker) need(op acl.Operation, kind acl.Kind, name string) {
	if a.refused == nil && !a.may(op, kind, name) {
		a.refused = access.Denied(a.who, op, kind, name)
	}
}

func (a *asker) may(op acl.Operation, kind acl.Kind, name string) bool {
	return a.c.cfg.Access.Allows(a.who, op, acl.Resource{Kind: kind, Name: name})
}

func (a *asker) cluster(op acl.Operation) { a.need(op, acl.Cluster, acl.ClusterName) }

// byID asks for an operation on what has an id, of which name may be found. Who may not
// do it to whatever there is does not learn which ids there are.
func (a *asker) byID(op acl.Operation, kind acl.Kind, id uint64, name string, found bool) {
	switch {
	case a.refused != nil:
	case found && a.may(op, kind, name), !found && a.c.cfg.Access.AllowsEvery(a.who, op, kind):
	default:
		a.refused = access.Denied(a.who, op, kind, "#"+strconv.FormatUint(id, 10))
	}
}

func (a *asker) topicID(op acl.Operation, id uint64) {
	t, ok := a.c.state.catalog.TopicByID(id)
	a.byID(op, acl.Topic, id, t.Name, ok)
}

// partition asks for an operation on the topic of a partition. One that is named twice,
// by topic and by id, is taken by the id: then both have to be allowed, and who may do
// it to the one that is named, only, is told what the absence of the other is told.
func (a *asker) partition(op acl.Operation, ref *oncelogv1.PartitionRef, field string) {
	id, named := ref.GetPartitionId(), ref.GetTopic()
	if id == 0 || named != "" {
		a.need(op, acl.Topic, named)
	}
	if id == 0 || a.refused != nil {
		return
	}
	p, ok := a.c.state.catalog.Partition(id)
	t, _ := a.c.state.catalog.TopicByID(p.TopicID)
	switch {
	case named == "":
		a.byID(op, acl.Topic, id, t.Name, ok)
	case ok && !a.may(op, acl.Topic, t.Name):
		a.refused = unknownPartition(a.c.state.catalog, field, &oncelogv1.PartitionRef{PartitionId: id})
	}
}

// producer asks for an operation on the transactional id of a producer id.
func (a *asker) producer(op acl.Operation, id uint64) {
	who, ok := a.c.state.txns.Lookup(id)
	a.byID(op, acl.TransactionalID, id, who.TransactionalID, ok)
}

// offsets asks for what moving positions of a group takes.
func (a *asker) offsets(g *oncelogv1.GroupOffsets, field string) {
	a.need(acl.Read, acl.Group, g.GetGroupId())
	for i, o := range judged(g.GetOffsets()) {
		a.partition(acl.Read, o.GetPartition(), field+".offsets["+strconv.Itoa(i)+"].partition")
	}
}

// end asks for what ending a transaction takes. Whose token it is not has nothing,
// whatever else it knows. One that is decided may be asked for again whatever has become
// of the permissions: the caller would otherwise take a commit that stands for refused.
func (a *asker) end(req *oncelogv1.EndTransactionRequest) {
	ref := refOf(req.GetTxn())
	if !a.c.tokenOf(a.who, req.GetProducerToken(), ref.ProducerID, ref.Epoch) {
		a.refused = invalidToken()
		return
	}
	if a.c.state.txns.Phase(ref) == txn.PhaseCompleting || a.c.state.txns.Phase(ref) == txn.PhaseComplete {
		return
	}
	if id, ok := a.c.state.txns.Lookup(ref.ProducerID); ok {
		a.need(acl.Write, acl.TransactionalID, id.TransactionalID)
	}
	if !req.GetCommit() {
		return // to end what it began hurts nobody
	}
	for i, p := range judged(req.GetPartitions()) {
		a.partition(acl.Write, p.GetPartition(), "partitions["+strconv.Itoa(i)+"].partition")
	}
	for i, g := range judged(req.GetOffsets()) {
		a.offsets(g, "offsets["+strconv.Itoa(i)+"]")
	}
}

// judged returns as much of a list as a request may have: a longer one is refused for
// that, and must not hold the state still until all of it was looked at.
func judged[T any](list []T) []T { return list[:min(len(list), maxList)] }

// tokenOf reports whether a producer token is the caller's. Without permissions those
// that are anybody's count as well: permissions are turned on node by node.
func (c *Coordinator) tokenOf(who access.Principal, token []byte, producerID uint64, epoch uint32) bool {
	return c.keys.CheckFor(who.Name, token, producerID, epoch) ||
		!c.cfg.Access.Enabled() && c.keys.Check(token, producerID, epoch)
}

// sign makes the caller's producer token.
func (c *Coordinator) sign(who access.Principal, producerID uint64, epoch uint32) []byte {
	if c.cfg.Access.Enabled() {
		return c.keys.SignFor(who.Name, producerID, epoch)
	}
	return c.keys.Sign(producerID, epoch)
}

func invalidToken() error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN, "", apierrors.KeyField, "producer_token")
}
