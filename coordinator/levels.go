package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oncelog/oncelog/api/codec"
	apierrors "github.com/oncelog/oncelog/api/errors"
	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/membership"
)

// A cluster is upgraded one node at a time, so programs of two versions write to each
// other for a while. What they write is what the level of formats says, which is
// replicated state. Nodes tell up to which level they read: partition nodes with every
// heartbeat, coordinators when the leader asks. Once all of them, as told to this
// leader in this term, read a higher one, the leader raises it. From then on whoever
// reads less is refused, and stops at the first thing that it does not know if nobody
// was there to refuse it.

const (
	// levelPause is how often a leader asks while the level may be raised.
	levelPause = time.Second
	// levelTimeout bounds one question to a coordinator.
	levelTimeout = time.Second
)

// levelError stops a node whose program reads less than the cluster writes.
type levelError struct{ readable, cluster uint32 }

func (e *levelError) Error() string { return level.TooOld(e.readable, e.cluster) }

// Unwrap makes it what a reader says of bytes of an unknown version.
func (e *levelError) Unwrap() error { return codec.ErrVersion }

// checkLevel refuses a node that reads less than the cluster writes.
func (c *Coordinator) checkLevel(told uint32) error {
	readable, cluster := level.Of(told), c.formatLevel()
	if readable >= cluster {
		return nil
	}
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_TOO_OLD, level.TooOld(readable, cluster),
		apierrors.KeyLevel, strconv.FormatUint(uint64(cluster), 10), apierrors.KeyLimit, strconv.FormatUint(uint64(readable), 10))
}

// formatLevel is the level that the cluster writes, as far as this node knows.
func (c *Coordinator) formatLevel() (l uint32) {
	c.state.read(func() { l = c.state.members.Level() })
	return l
}

// GetFormatLevel implements the contract.
func (s *memberService) GetFormatLevel(context.Context, *oncelogv1.GetFormatLevelRequest) (*oncelogv1.GetFormatLevelResponse, error) {
	return &oncelogv1.GetFormatLevelResponse{
		NodeId: s.cfg.NodeID, MaxFormatLevel: s.cfg.MaxFormatLevel, Clock: s.clockAnswer(s.rt.Wall(), s.rt.Now()),
	}, nil
}

// raiseLevel raises the level whenever everybody reads a higher one.
func (d *duties) raiseLevel(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		changed := d.placed.next()
		var now uint32
		founded := false
		d.state.read(func() { founded, now = d.state.members.Founded(), d.state.members.Level() })
		if !founded || now >= d.cfg.MaxFormatLevel {
			d.rt.Wait(changed, ctx.Done())
			continue
		}
		readable, holding := d.readableByAll(ctx, now)
		if text := strings.Join(holding, ", "); text != told && len(holding) > 0 && ctx.Err() == nil {
			told = text
			d.log.Info("the level of formats is not raised yet", "level", now, "held_by", text)
		}
		if readable > now && d.raiseTo(ctx, readable) {
			continue
		}
		d.pause(ctx, levelPause)
	}
}

func (d *duties) raiseTo(ctx context.Context, to uint32) bool {
	ctx, cancel := d.rt.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	if err := d.settleMembers(ctx, membership.Raise{Level: to}); err != nil {
		d.logFailure(ctx, "raising the level of formats", err)
		return false
	}
	d.log.Info("every node reads a higher level of formats: the cluster writes it from now on", "level", to)
	return true
}

// readableByAll returns the highest level that every node of the cluster has told this
// leader to read, at least now, and who reads no more than now, or has told nothing.
func (d *duties) readableByAll(ctx context.Context, now uint32) (readable uint32, holding []string) {
	readable = d.cfg.MaxFormatLevel
	note := func(kind string, id uint64, told uint32, known bool) {
		if !known || told <= now {
			holding = append(holding, fmt.Sprintf("%s %d", kind, id))
		}
		readable = min(readable, max(told, now))
	}
	var nodes []uint64
	var others []membership.Member
	d.state.read(func() {
		for _, n := range d.state.catalog.Nodes() {
			if n.Instance != "" { // nothing comes from a disk that is lost
				nodes = append(nodes, n.ID)
			}
		}
		others = d.state.members.Members()
	})
	for _, id := range nodes {
		told, known := d.registry.level(id, d.rt.Now(), d.cfg.NodeTimeout)
		note("partition node", id, told, known)
	}
	if len(holding) > 0 { // no need to ask
		return readable, holding
	}
	for _, m := range others {
		if m.ID == d.cfg.NodeID {
			continue
		}
		told, err := d.askLevel(ctx, m)
		note("coordinator", m.ID, told, err == nil)
	}
	return readable, holding
}

// askLevel asks another coordinator up to which level it reads.
func (d *duties) askLevel(ctx context.Context, m membership.Member) (uint32, error) {
	ctx, cancel := d.rt.WithTimeout(ctx, levelTimeout)
	defer cancel()
	conn, release, err := d.dialMember(m.PeerAddress)
	if err != nil {
		return 0, err
	}
	defer release()
	res, err := oncelogv1.NewMemberServiceClient(conn).GetFormatLevel(ctx, &oncelogv1.GetFormatLevelRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return level.First, nil
	case err != nil:
		return 0, err
	case res.GetNodeId() != m.ID:
		return 0, errors.New("another coordinator answers at the address of coordinator " + strconv.FormatUint(m.ID, 10))
	}
	return level.Of(res.GetMaxFormatLevel()), nil
}
