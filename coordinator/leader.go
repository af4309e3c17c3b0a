package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/task"
)

// Paces of a leader's duties.
const (
	// expireBatch and idleBatch bound one log entry (C10: all at once is a
	// message that is too large).
	expireBatch = 1000
	idleBatch   = 1000
	// dutyTimeout bounds one proposal of a duty; it is repeated anyway.
	dutyTimeout = 10 * time.Second
	// dutyRetry is the pause after a duty that failed.
	dutyRetry = 100 * time.Millisecond
	// maxSleep bounds a wait for the next deadline, so that a jump of the wall
	// clock cannot hold it up.
	maxSleep = time.Second
)

// duties is what a leader does besides answering, for one term. All of it is
// read off the state, so a new leader owes exactly what the old one did.
type duties struct {
	*Coordinator
	markers *markerSender
}

func newDuties(c *Coordinator) *duties {
	return &duties{Coordinator: c, markers: newMarkerSender(c)}
}

// run returns when ctx, the term of office, ends.
func (d *duties) run(ctx context.Context) {
	if !d.initCluster(ctx) || !d.ensureKey(ctx) {
		return
	}
	var all task.Group
	for _, duty := range []func(context.Context){d.markers.run, d.expire, d.expireIDs, d.expireMembers, d.place, d.reconfigure, d.raiseLevel} {
		all.Go(d.rt, func() { duty(ctx) })
	}
	all.Wait(d.rt)
}

// initCluster gives a new cluster its id and its first key. The first command
// in the log wins, whichever leader proposed it.
func (d *duties) initCluster(ctx context.Context) bool {
	for ctx.Err() == nil {
		var id string
		d.state.read(func() { id = d.state.catalog.ClusterID() })
		if id != "" {
			return true
		}
		name, secret := make([]byte, 8), make([]byte, 32)
		_, _ = rand.Read(name) // never fails (crypto/rand)
		_, _ = rand.Read(secret)
		res, err := d.proposeCatalog(ctx, catalog.InitCluster{
			At: d.now(), ClusterID: hex.EncodeToString(name), KeySecret: secret, Settings: d.cfg.Settings,
		})
		if err == nil && res.Code == catalog.CodeOK {
			d.log.Info("cluster initialised", "cluster_id", res.ClusterID)
			return true
		}
		if err != nil {
			d.logFailure(ctx, "initialising the cluster", err)
		} else {
			d.log.Error("the settings of the new cluster are refused", "code", res.Code.String())
		}
		d.pause(ctx, dutyRetry)
	}
	return false
}

// ensureKey gives a cluster that was restored from a backup, which has no keys, one.
// Whatever tokens were signed before are of no use then.
func (d *duties) ensureKey(ctx context.Context) bool {
	for ctx.Err() == nil {
		var keys []catalog.Key
		active := false
		d.state.read(func() {
			keys = d.state.catalog.Keys()
			_, active = d.state.catalog.ActiveKey()
		})
		if active {
			return true
		}
		var cmd catalog.Command
		if len(keys) > 0 {
			cmd = catalog.ActivateKey{At: d.now(), ID: keys[len(keys)-1].ID}
		} else {
			secret := make([]byte, 32)
			_, _ = rand.Read(secret) // never fails (crypto/rand)
			cmd = catalog.AddKey{At: d.now(), Secret: secret}
		}
		if _, err := d.proposeCatalog(ctx, cmd); err != nil {
			d.logFailure(ctx, "making a key that signs tokens", err)
			d.pause(ctx, dutyRetry)
		}
	}
	return false
}

func (d *duties) proposeCatalog(ctx context.Context, cmd catalog.Command) (catalog.Result, error) {
	ctx, cancel := d.rt.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	return proposeCatalog(ctx, d.Coordinator, cmd)
}

// expire aborts transactions whose deadline has passed. For a while after the
// leader changed it aborts none, for their producers had nobody to commit to.
func (d *duties) expire(ctx context.Context) {
	d.pause(ctx, d.cfg.ExpireGrace)
	for ctx.Err() == nil {
		changed := d.applied.next()
		var due []txn.Ref
		sleep := maxSleep
		d.state.read(func() {
			now := max(d.now(), d.state.txns.Now())
			due = d.state.txns.Expired(now, expireBatch)
			if next, ok := d.state.txns.NextDeadline(); ok {
				sleep = time.Duration(min(max(next-now, 1), maxSleep.Milliseconds())) * time.Millisecond
			}
		})
		if len(due) == 0 {
			d.pauseUntil(ctx, sleep, changed)
			continue
		}
		if !d.expireNow(ctx, due) {
			d.pause(ctx, dutyRetry)
		}
	}
}

func (d *duties) expireNow(ctx context.Context, due []txn.Ref) bool {
	ctx, cancel := d.rt.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	res, err := proposeTxn[txn.ExpireResult](ctx, d.Coordinator, txn.Expire{Refs: due})
	if err != nil {
		d.logFailure(ctx, "aborting transactions that timed out", err)
		return false
	}
	for i, code := range res.Codes {
		if code == txn.CodeOK {
			d.counters.aborted.add(txn.ReasonTimeout, 1)
			d.log.Info("transaction timed out", "producer_id", due[i].ProducerID, "epoch", due[i].Epoch, "txn_number", due[i].Number)
		}
	}
	return true
}

// expireIDs removes transactional ids that nobody has used for long.
func (d *duties) expireIDs(ctx context.Context) {
	for d.pause(ctx, d.cfg.IdleInterval); ctx.Err() == nil; {
		var idle []uint64
		d.state.read(func() { idle = d.state.txns.IdleIDs(d.idleBefore(), idleBatch) })
		if len(idle) == 0 {
			d.pause(ctx, d.cfg.IdleInterval)
			continue
		}
		if !d.expireIDsNow(ctx, idle) {
			d.pause(ctx, dutyRetry)
		}
	}
}

// idleBefore is the time at which the machine must find an id idle by its own,
// shorter rule for this leader's expiration to have passed now. The command
// judges by that rule again, so an id that was used meanwhile stays.
func (d *duties) idleBefore() txn.Millis {
	longer := max(d.cfg.IDExpiration.Milliseconds()-d.cfg.Txn.IDExpiration, 0)
	return max(d.now(), d.state.txns.Now()) - longer
}

func (d *duties) expireIDsNow(ctx context.Context, idle []uint64) bool {
	ctx, cancel := d.rt.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	res, err := proposeTxn[txn.ExpireIDsResult](ctx, d.Coordinator, txn.ExpireIDs{ProducerIDs: idle})
	if err != nil {
		d.logFailure(ctx, "removing idle transactional ids", err)
		return false
	}
	removed := 0
	for _, code := range res.Codes {
		if code == txn.CodeOK {
			removed++
		}
	}
	d.counters.idsExpired.Add(uint64(removed))
	d.log.Info("idle transactional ids removed", "count", removed)
	return true
}

// logFailure reports a duty that will be repeated. Losing the office is no
// failure.
func (c *Coordinator) logFailure(ctx context.Context, what string, err error) {
	if ctx.Err() != nil || apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		return
	}
	c.log.Warn(what+" failed; trying again", "error", err)
}

// pause waits for a span, or for the end of ctx.
func (c *Coordinator) pause(ctx context.Context, span time.Duration) { c.pauseUntil(ctx, span, nil) }

// pauseUntil is pause that also ends when the channel is closed.
func (c *Coordinator) pauseUntil(ctx context.Context, span time.Duration, early <-chan struct{}) {
	c.rt.WaitFor(span, early, ctx.Done())
}
