package coordinator

import (
	"context"
	"strconv"
	"sync"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/task"
)

// Quotas bound what one principal may use of the cluster. 0: no bound.
//
// They are the leader's settings and its memory, and no replicated state: whoever leads
// answers, so a cluster has one answer at a time, no command of the log means another thing
// under other settings, and what is refused costs no entry. Ids are counted in the state, so
// a new leader knows them; of rates it knows nothing and begins with whole ones.
type Quotas struct {
	// TransactionalIDs are those that a principal has at a time. Each has at most one open
	// transaction.
	TransactionalIDs int
	// InitsPerSecond is the rate of InitProducer of a principal, InitsPerSecondPerID that of a
	// transactional id, whoever asks.
	InitsPerSecond, InitsPerSecondPerID int
	// PartitionsPerMinute is the rate of new partitions of a principal.
	PartitionsPerMinute int
}

// burst is how many times its rate may be used at once.
const burst = 10

// quota names one, as refusals and metrics do.
type quota string

// String returns the name.
func (q quota) String() string { return string(q) }

const (
	quotaIDs        quota = "transactional_ids"
	quotaInits      quota = "inits_per_second"
	quotaInitsPerID quota = "inits_per_second_per_id"
	quotaPartitions quota = "partitions_per_minute"
	// quotaAllIDs is the cluster's, and refuses with LIMIT_EXCEEDED.
	quotaAllIDs quota = "cluster_transactional_ids"
)

// quotas is what a leader remembers for them.
type quotas struct {
	cfg Quotas
	rt  *task.Runtime

	refused *tally[quota]

	mu                      sync.Mutex
	inits, perID, partition rates
	coming                  map[string]int // ids that are being made, by owner
}

func newQuotas(cfg Quotas, rt *task.Runtime) *quotas {
	return &quotas{
		cfg: cfg, rt: rt, coming: map[string]int{},
		refused: newTally(quotaIDs, quotaInits, quotaInitsPerID, quotaPartitions, quotaAllIDs),
		inits:   newRates(cfg.InitsPerSecond, time.Second), perID: newRates(cfg.InitsPerSecondPerID, time.Second),
		partition: newRates(cfg.PartitionsPerMinute, time.Minute),
	}
}

// beginInit refuses an InitProducer that is beyond the caller's quotas. Otherwise done has to
// be called when it is over. Only who leads counts: elsewhere the call is refused anyway.
func (c *Coordinator) beginInit(ctx context.Context, id string) (done func(), err error) {
	q, who := c.quotas, access.From(ctx)
	if err := c.leading(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.rt.Now()
	if id != "" {
		if wait := q.perID.take(id, 1, now); wait > 0 {
			return nil, q.beyond(quotaInitsPerID, q.cfg.InitsPerSecondPerID, who, wait)
		}
	}
	if wait := q.inits.take(who.Name, 1, now); wait > 0 {
		return nil, q.beyond(quotaInits, q.cfg.InitsPerSecond, who, wait)
	}
	if id == "" || q.cfg.TransactionalIDs == 0 {
		return func() {}, nil
	}
	owner := c.ownerFor(who)
	owned, isNew := 0, false
	c.state.read(func() {
		was, known := c.state.txns.OwnerOf(id)
		owned, isNew = c.state.txns.Owned(owner), !known || was != owner
	})
	if !isNew {
		return func() {}, nil
	}
	if owned+q.coming[owner] >= q.cfg.TransactionalIDs {
		return nil, q.beyond(quotaIDs, q.cfg.TransactionalIDs, who, time.Second)
	}
	q.coming[owner]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.coming[owner]--; q.coming[owner] == 0 {
			delete(q.coming, owner)
		}
	}, nil
}

// newPartitions refuses a topic that is beyond the caller's quota. If nothing comes of it
// for another reason, notMade gives back what it took.
func (c *Coordinator) newPartitions(ctx context.Context, n uint32) error {
	q, who := c.quotas, access.From(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	if wait := q.partition.take(who.Name, int64(n), q.rt.Now()); wait > 0 {
		return q.beyond(quotaPartitions, q.cfg.PartitionsPerMinute, who, wait)
	}
	return nil
}

func (c *Coordinator) notMade(ctx context.Context, n uint32) {
	q := c.quotas
	q.mu.Lock()
	defer q.mu.Unlock()
	q.partition.give(access.From(ctx).Name, int64(n))
}

// beyond refuses a call, and counts that.
func (q *quotas) beyond(name quota, limit int, who access.Principal, wait time.Duration) error {
	q.refused.add(name, 1)
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_QUOTA_EXCEEDED, "",
		apierrors.KeyQuota, string(name), apierrors.KeyLimit, strconv.Itoa(limit), apierrors.KeyPrincipal, who.Name).After(wait)
}

// rates holds names to a rate each (GCRA): of each it keeps when what was used will have come
// back, and forgets those for which that has passed. So there are as many as were used lately.
type rates struct {
	limit   int
	every   time.Duration // between two of one name
	usedTo  map[string]time.Time
	pruneAt int
}

// cost is what n use up; more than fits at once use up all that does.
func (r *rates) cost(n int64) time.Duration {
	return time.Duration(min(n, int64(burst*r.limit))) * r.every
}

// give returns what take has taken for nothing.
func (r *rates) give(name string, n int64) {
	if to, known := r.usedTo[name]; known {
		r.usedTo[name] = to.Add(-r.cost(n))
	}
}

func newRates(limit int, per time.Duration) rates {
	r := rates{limit: limit, usedTo: map[string]time.Time{}, pruneAt: 1024}
	if limit > 0 {
		r.every = per / time.Duration(limit)
	}
	return r
}

// take uses n of a name's rate, or none and returns how long to wait.
func (r *rates) take(name string, n int64, now time.Time) (wait time.Duration) {
	if r.limit == 0 {
		return 0
	}
	whole := time.Duration(burst*r.limit) * r.every
	from := r.usedTo[name]
	if from.Before(now) {
		from = now
	}
	to := from.Add(r.cost(n))
	if over := to.Sub(now) - whole; over > 0 {
		return over
	}
	r.usedTo[name] = to
	if len(r.usedTo) > r.pruneAt {
		for name, t := range r.usedTo {
			if !t.After(now) {
				delete(r.usedTo, name)
			}
		}
		r.pruneAt = max(2*len(r.usedTo), 1024)
	}
	return 0
}
