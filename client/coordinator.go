package client

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// coordinator knows which coordinator node to ask: the leader that was heard of
// last, else one node after the other.
type coordinator struct {
	mu      sync.Mutex
	seeds   []string
	nodes   []string // those of the newest list, seeds, and leaders that were told of
	version uint64   // of that list; 0: none yet
	next    int
	leader  string // "" unknown
	term    uint64 // the highest term that a leader was told of in
}

func newCoordinator(rt *task.Runtime, seeds []string) *coordinator {
	nodes := slices.Clone(seeds)
	// Many clients start with the same list; not all should ask the first.
	rt.Rand().Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	return &coordinator{seeds: nodes, nodes: slices.Clone(nodes)}
}

// target returns the address to ask now.
func (r *coordinator) target() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader != "" {
		return r.leader
	}
	r.next = (r.next + 1) % len(r.nodes)
	return r.nodes[r.next]
}

// learn takes the word of a node about who leads. An answer of an older term
// than the last is from a node that was left behind: it must not drag the client
// back. It reports whether the leader is another one now.
//
// A word without a term (0) is better than none, but never overrides.
func (r *coordinator) learn(address string, term uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if address == "" || (term < r.term && (term > 0 || r.leader != "")) {
		return false
	}
	changed := r.leader != address
	r.leader, r.term = address, max(term, r.term)
	r.add(address)
	return changed
}

// suggest takes a leader of unknown term, if none is known at all, and a list of
// nodes, unless it is older than the last. A newer list replaces it, for nodes that
// were removed never answer again; seeds stay, for they may be names of whoever is
// there now.
func (r *coordinator) suggest(leader string, nodes []string, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version > r.version {
		r.nodes, r.version = nil, version
	}
	if version == r.version {
		for _, n := range slices.Concat(nodes, r.seeds) {
			r.add(n)
		}
		r.add(r.leader)
	}
	if r.leader == "" && r.term == 0 {
		r.leader = leader
	}
}

func (r *coordinator) add(address string) {
	if address != "" && !slices.Contains(r.nodes, address) {
		r.nodes = append(r.nodes, address)
	}
}

// forget gives up a leader that did not answer as one. It is asked last from now
// on: a node that fell silent costs the limit of an attempt each time.
func (r *coordinator) forget(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader != address {
		return
	}
	r.leader = ""
	if i := slices.Index(r.nodes, address); i >= 0 {
		r.next = i
	}
}

// rounds returns how often every node was silent after so many silences.
func (r *coordinator) rounds(silences int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return silences / max(len(r.nodes), 1)
}

// call says how a coordinator call is repeated.
type call struct {
	// attempt bounds one attempt; 0: the client's request timeout; negative: only
	// the caller's context.
	attempt time.Duration
	// final reports answers that are returned although repeating could change them.
	final func(*apierrors.Error) bool
}

// patience bounds what is repeated for a while only.
type patience struct {
	internals int       // failures without a name
	unknown   time.Time // since when partitions have been unknown; zero: they were not
}

// internalAttempts bounds how often a failure that the server has no name for is
// repeated: it may have taken effect, but may also come for ever.
const internalAttempts = 8

// invoke repeats fn on the coordinator leader until it answers with something
// that repeating cannot change, or until ctx ends. It must only be used for
// requests that carry an identity or change nothing.
//
// The error is an *apierrors.Error with the refusal, an *endedError, or
// ErrClosed. uncertain reports that some attempt got no answer and may have taken
// effect.
func (c *Client) invoke(ctx context.Context, k call, fn attemptFunc) (uncertain bool, err error) {
	pauses := c.backoff()
	var patience patience
	var last *apierrors.Error
	silences := 0 // attempts that got no answer within their limit
	for n := 0; ; n++ {
		switch {
		case c.isClosed():
			return uncertain, ErrClosed
		case ctx.Err() != nil:
			return uncertain, &endedError{ctx: ctx.Err(), last: last}
		}
		target := c.coord.target()
		failure := c.attempt(ctx, c.attemptLimit(k, c.coord.rounds(silences)), target, fn)
		if failure == nil {
			return uncertain, nil
		}
		if errors.Is(failure, ErrClosed) || c.isClosed() {
			return true, ErrClosed
		}
		last = apierrors.From(failure)
		uncertain = uncertain || mayHaveHappened(last)
		if last.Code == oncelogv1.ErrorCode_ERROR_CODE_DEADLINE {
			silences++
		}
		if k.final != nil && k.final(last) {
			return uncertain, last
		}
		wait, again := c.afterFailure(target, last, &patience)
		if !again {
			return uncertain, last
		}
		c.cfg.hooks.retried(OpCoordinator, last)
		// Straight to a leader that has just been heard of.
		if !wait && n < 8 {
			continue
		}
		if pauses.atLeast(ctx, last.RetryAfter()) != nil {
			return uncertain, &endedError{ctx: ctx.Err(), last: last}
		}
	}
}

// attemptLimit starts small: a node that fell silent should not cost the whole
// request timeout when another one may lead by now. It grows once every node has
// been silent: then it is the answers that take long.
func (c *Client) attemptLimit(k call, rounds int) time.Duration {
	if k.attempt != 0 {
		return k.attempt
	}
	return min(c.cfg.requestTimeout, 2*time.Second<<min(rounds, 8))
}

func (c *Client) attempt(ctx context.Context, limit time.Duration, target string, fn attemptFunc) error {
	cc, err := c.conns.get(target)
	if err != nil {
		return err
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = c.rt.WithTimeout(ctx, limit)
		defer cancel()
	}
	return fn(ctx, cc)
}

// afterFailure draws the lesson of a failed attempt: whether to try again, and
// whether to wait before.
func (c *Client) afterFailure(target string, e *apierrors.Error, p *patience) (wait, again bool) {
	switch e.Code {
	case oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER:
		c.coord.forget(target)
		if c.coord.learn(e.Metadata[apierrors.KeyLeaderAddress], termOf(e)) {
			c.log.Debug("coordinator leader", "address", e.Metadata[apierrors.KeyLeaderAddress])
			return false, true
		}
		return true, true
	case oncelogv1.ErrorCode_ERROR_CODE_INTERNAL:
		p.internals++
		c.coord.forget(target)
		return true, p.internals < internalAttempts
	case oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION:
		if p.unknown.IsZero() {
			p.unknown = c.rt.Now()
		}
		return true, c.rt.Since(p.unknown) < unknownPartitionGrace
	case oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, oncelogv1.ErrorCode_ERROR_CODE_THROTTLED,
		oncelogv1.ErrorCode_ERROR_CODE_QUOTA_EXCEEDED, oncelogv1.ErrorCode_ERROR_CODE_UNSTABLE_OFFSET_COMMIT:
		return true, true
	}
	switch e.Class() {
	case apierrors.Retriable, apierrors.UnknownOutcome:
		c.coord.forget(target)
		return true, true
	default:
		return false, false
	}
}

// mayHaveHappened reports whether an attempt with this answer may have taken
// effect. NOT_LEADER and what is refused on arrival surely have not.
func mayHaveHappened(e *apierrors.Error) bool {
	switch e.Code {
	case oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT,
		oncelogv1.ErrorCode_ERROR_CODE_DEADLINE,
		oncelogv1.ErrorCode_ERROR_CODE_INTERNAL:
		return true
	default:
		return false
	}
}

func termOf(e *apierrors.Error) uint64 {
	term, err := strconv.ParseUint(e.Metadata[apierrors.KeyTerm], 10, 64)
	if err != nil {
		return 0
	}
	return term
}
