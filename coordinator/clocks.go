package coordinator

import (
	"context"
	"fmt"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/clock"
)

// The clock that counts is the leader's: it is written into commands. So every node
// compares its own with that one, partition nodes with each heartbeat, coordinators by
// asking. A difference stops nobody, it is only told.

const (
	// clockInterval is how often a coordinator compares its clock with the leader's.
	clockInterval = 10 * time.Second
	// clockTimeout bounds one comparison.
	clockTimeout = 2 * time.Second
)

// leadersClock names the other clock of a comparison.
const leadersClock = "the leading coordinator"

// compareClocks compares now and then, and whenever another node leads.
func (c *Coordinator) compareClocks(ctx context.Context) {
	for ctx.Err() == nil {
		lead, changed := c.group.LeadershipChanged()
		if lead.IsLeader {
			c.clock.Lead()
		} else if m, ok := c.member(uint64(lead.Leader)); ok {
			if o, err := c.compareClock(ctx, m); err == nil {
				c.clock.Learn(o)
			} else {
				c.log.Debug("the leader's clock could not be read", "error", err)
			}
		}
		c.rt.WaitFor(clockInterval, changed, ctx.Done())
	}
}

// compareClock asks another coordinator for its clock, twice: the first answer waits for
// the connection, and says the less.
func (c *Coordinator) compareClock(ctx context.Context, m Member) (best clock.Offset, err error) {
	ctx, cancel := c.rt.WithTimeout(ctx, clockTimeout)
	defer cancel()
	conn, release, err := c.dialMember(m.PeerAddress)
	if err != nil {
		return best, err
	}
	defer release()
	for range 2 {
		sent, began := c.rt.Wall(), c.rt.Now()
		res, err := oncelogv1.NewMemberServiceClient(conn).GetFormatLevel(ctx, &oncelogv1.GetFormatLevelRequest{})
		if err != nil {
			return best, err
		}
		o, ok := clock.Compare(sent, c.rt.Since(began), leadersClock, res.GetClock())
		switch {
		case !ok:
			return best, fmt.Errorf("coordinator %d tells no usable time", m.ID)
		case !best.Known() || o.Error < best.Error:
			best = o
		}
	}
	return best, nil
}

// clockAnswer is this node's clock for the answer to what came at a time of day, and of
// the clock that measures.
func (c *Coordinator) clockAnswer(came, began time.Time) *oncelogv1.ClockReading {
	return clock.Answer(came, c.rt.Since(began))
}
