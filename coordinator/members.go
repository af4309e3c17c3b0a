package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/task"
)

// A coordinator that lost its disk has forgotten its votes and what it had
// acknowledged. Under its old id it would vote again in terms in which it has
// voted, and help a log to win that lacks what it once held. So before a new data
// directory takes part in Raft, a majority of the other members has written down
// its instance; of two instances of one member only the first can get that, and
// the second is told to stop. A directory that has got it starts on its own from
// then on.
//
// That is how a cluster begins. Who comes later asks the leader instead; see
// announce.go.

const (
	introduceTimeout = time.Second
	introducePause   = 200 * time.Millisecond
)

// memberService is the gRPC edge that other coordinators use.
type memberService struct {
	oncelogv1.UnimplementedMemberServiceServer
	*Coordinator
}

// keptIdentity is what this node has written down of data directories, its own
// included.
type keptIdentity struct {
	mu sync.Mutex
	id identity
}

func (m *keptIdentity) get() identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id
}

// change writes down what fn makes of the identity; no change if it fails.
func (m *keptIdentity) change(files datafile.Files, fn func(*identity) (changed bool, err error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.id
	changed, err := fn(&id)
	if err != nil || !changed {
		return err
	}
	if err := id.write(files); err != nil {
		return err
	}
	m.id = id
	return nil
}

// IntroduceMember implements the contract.
func (s *memberService) IntroduceMember(_ context.Context, req *oncelogv1.IntroduceMemberRequest) (*oncelogv1.IntroduceMemberResponse, error) {
	if s.cfg.Files == nil {
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "this coordinator keeps no identities")
	}
	if err := s.checkIntroduction(req); err != nil {
		return nil, err
	}
	isNew := false
	err := s.identity.change(s.cfg.Files, func(id *identity) (_ bool, err error) {
		isNew, err = id.remember(req.GetNodeId(), req.GetInstanceId())
		return isNew, err
	})
	switch {
	case errors.Is(err, errOtherInstance):
		return nil, otherDirectory(req.GetNodeId())
	case err != nil:
		s.log.Error("cannot write down another coordinator's data directory", "coordinator", req.GetNodeId(), "error", err)
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the identity cannot be written")
	}
	if isNew {
		s.log.Info("another coordinator introduced itself", "coordinator", req.GetNodeId(), "instance", req.GetInstanceId())
	}
	return &oncelogv1.IntroduceMemberResponse{}, nil
}

func (s *memberService) checkIntroduction(req *oncelogv1.IntroduceMemberRequest) error {
	if err := checkCount("members", len(req.GetMembers()), maxMembers); err != nil {
		return err
	}
	mine := s.identity.get().members
	switch {
	case req.GetInstanceId() == "":
		return apierrors.InvalidArgument("instance_id", "must not be empty")
	case len(req.GetInstanceId()) > catalog.MaxInstanceBytes:
		return tooLong("instance_id", catalog.MaxInstanceBytes)
	case req.GetToNode() != s.cfg.NodeID:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER, fmt.Sprintf(
			"this is coordinator %d, not %d: check the addresses of the members", s.cfg.NodeID, req.GetToNode()))
	}
	if err := s.checkFounder(req); err != nil {
		return err
	}
	switch {
	case len(mine) == 0:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
			"the cluster is there already: add the node with `oncelog coordinator add`, and start it with --join")
	case !slices.Equal(req.GetMembers(), mine):
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER, fmt.Sprintf(
			"the coordinators that the cluster began with are %v here, not %v: give every member the same list; if the cluster is "+
				"there already, add the node with `oncelog coordinator add` and start it with --join", mine, req.GetMembers()))
	case req.GetNodeId() == s.cfg.NodeID || !slices.Contains(mine, req.GetNodeId()):
		return apierrors.InvalidArgument("node_id", "must be another member")
	}
	return nil
}

// checkFounder refuses who is no member any more, and a directory that is not the
// one in the log. What this node has applied may be old, and then others, or what
// they wrote down, refuse it.
func (s *memberService) checkFounder(req *oncelogv1.IntroduceMemberRequest) error {
	var (
		removed bool
		known   membership.Member
	)
	s.state.read(func() {
		removed = s.state.members.Removed(req.GetNodeId())
		known, _ = s.state.members.Member(req.GetNodeId())
	})
	switch {
	case known.Instance != "" && known.Instance != req.GetInstanceId():
		return otherDirectory(req.GetNodeId())
	case !removed:
		return nil
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, removedText(req.GetNodeId()),
		apierrors.KeyNodeID, strconv.FormatUint(req.GetNodeId(), 10))
}

func otherDirectory(node uint64) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, fmt.Sprintf(
		"coordinator %d had another data directory, and lost its votes with it: bring that directory back, or replace it by a new "+
			"coordinator with `oncelog coordinator replace %d`; the others go on meanwhile. "+
			"If the cluster is new and empty, delete the data directories of all its coordinators", node, node),
		apierrors.KeyNodeID, strconv.FormatUint(node, 10))
}

// join introduces this node to the others until enough of them remember it, or
// asks the leader of a cluster that is there, then opens the group.
func (c *Coordinator) join(ctx context.Context) {
	ask := c.introduce
	if len(c.identity.get().members) == 0 {
		ask = c.askToJoin
	}
	err := ask(ctx)
	if err == nil {
		err = c.identity.change(c.cfg.Files, func(id *identity) (bool, error) {
			id.joined = true
			return true, nil
		})
	}
	if err == nil {
		err = c.open(ctx)
	}
	if err != nil && ctx.Err() == nil {
		c.fail(err)
	}
}

// introduce returns once a majority of the others remembers this node, or one
// that does not want to.
func (c *Coordinator) introduce(ctx context.Context) error {
	id := c.identity.get()
	results := make(chan error, maxMembers) // with room for everybody's; the list is the one of the identity
	var asking task.Group
	defer asking.Wait(c.rt)
	ctx, cancel := c.rt.WithCancel(ctx)
	defer cancel()
	for _, m := range c.cfg.Members {
		if m.ID != c.cfg.NodeID {
			asking.Go(c.rt, func() {
				select {
				case results <- c.introduceTo(ctx, m, id):
				default:
				}
			})
		}
	}
	for range id.needed() {
		err, stopped := task.Receive(c.rt, results, ctx.Done())
		if stopped >= 0 {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("coordinator %d must not vote: %w", c.cfg.NodeID, err)
		}
	}
	return nil
}

// introduceTo repeats the introduction until the member has answered. An error
// is one that repeating cannot help, or ctx's.
func (c *Coordinator) introduceTo(ctx context.Context, m Member, id identity) error {
	conn, err := c.cfg.DialPeer(m.PeerAddress)
	if err != nil {
		return fmt.Errorf("dial coordinator %d: %w", m.ID, err)
	}
	if closer, ok := conn.(io.Closer); ok {
		defer func() { _ = closer.Close() }()
	}
	peer := oncelogv1.NewMemberServiceClient(conn)
	for told := ""; ; {
		call, cancel := c.rt.WithTimeout(ctx, introduceTimeout)
		_, err := peer.IntroduceMember(call, &oncelogv1.IntroduceMemberRequest{
			NodeId: id.node, InstanceId: id.instance, ToNode: m.ID, Members: id.members,
		})
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		switch apierrors.CodeOf(err) {
		case oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER:
			return apierrors.From(err)
		default:
		}
		if text := err.Error(); text != told {
			c.log.Info("waiting for another coordinator before this one joins", "coordinator", m.ID, "address", m.PeerAddress, "error", err)
			told = text
		}
		c.rt.Sleep(introducePause, ctx.Done())
	}
}

// Fatal receives at most one error: the node cannot go on, and its process
// should close it and exit. Failures of the store are told to the OnFatal of
// raftstore's Config instead.
func (c *Coordinator) Fatal() <-chan error { return c.fatal }

func (c *Coordinator) fail(err error) {
	c.log.Error("coordinator cannot go on", "error", err)
	select {
	case c.fatal <- err:
	default:
	}
}

func notJoined() error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
		"this coordinator is new and waits for the others to know it")
}
