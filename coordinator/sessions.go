package coordinator

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/oncelog/oncelog/coordinator/group"
)

// sessions is what a leader has heard from members of groups that subscribe. It
// is memory of the leader only: heartbeats cost no log entry. A new leader has
// heard of nobody, and counts from when it first looks, which grants everybody the
// whole of their timeouts.
type sessions struct {
	mu    sync.Mutex
	term  uint64 // the coordinator's, in which all this was heard
	known map[sessionKey]session
}

type sessionKey struct{ group, member string }

// session is what is known of one member.
type session struct {
	heard time.Time // when it gave its last sign of life, or was first looked at
	// asked is the generation since which it has had partitions to let go, and
	// askedAt when that was first looked at.
	asked   uint64
	askedAt time.Time
}

func newSessions() *sessions { return &sessions{known: map[sessionKey]session{}} }

// begin forgets what was heard in earlier terms of the coordinator.
func (s *sessions) begin(term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if term > s.term {
		s.term = term
		clear(s.known)
	}
}

// heard notes a sign of life.
func (s *sessions) heard(groupID, memberID string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := sessionKey{groupID, memberID}
	known := s.known[k]
	known.heard = at
	s.known[k] = known
}

// lost returns the members whose session or rebalance timeout has passed, and
// how long it is until the next one's may. each calls its argument for every
// member that there is; what is remembered of others is forgotten.
func (s *sessions) lost(now time.Time, each func(func(group.Session))) (lost []group.LostMember, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = maxSleep
	there := make(map[sessionKey]session, len(s.known))
	each(func(m group.Session) {
		k := sessionKey{m.Group, m.Member}
		known, seen := s.known[k]
		if !seen {
			known.heard = now
		}
		if known.asked != m.Asked {
			known.asked, known.askedAt = m.Asked, now
		}
		there[k] = known
		left := known.heard.Add(millis(m.SessionTimeout)).Sub(now)
		if m.Asked > 0 {
			left = min(left, known.askedAt.Add(millis(m.RebalanceTimeout)).Sub(now))
		}
		if left <= 0 {
			lost = append(lost, m.LostMember)
		} else {
			next = min(next, left)
		}
	})
	s.known = there
	slices.SortFunc(lost, func(a, b group.LostMember) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Member, b.Member))
	})
	return lost[:min(len(lost), group.MaxExpired)], next
}

// forgive gives everybody as much time as this node did not run: what members said
// meanwhile waits to be heard.
func (s *sessions) forgive(stalled time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, known := range s.known { // each by itself: the order does not matter
		known.heard, known.askedAt = known.heard.Add(stalled), known.askedAt.Add(stalled)
		s.known[k] = known
	}
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// stallTolerance is by how much a leader may wake up late without holding that
// against itself.
const stallTolerance = 100 * time.Millisecond

// expireMembers removes members that have fallen silent, and members that do not
// let go of what they are asked for.
func (d *duties) expireMembers(ctx context.Context) {
	for ctx.Err() == nil {
		changed := d.state.rebalanced.next()
		var lost []group.LostMember
		var next time.Duration
		d.state.read(func() { lost, next = d.sessions.lost(d.rt.Now(), d.state.groups.Sessions) })
		if len(lost) == 0 {
			before := d.rt.Now()
			d.pauseUntil(ctx, next, changed)
			if stalled := d.rt.Since(before) - next; stalled > stallTolerance {
				d.sessions.forgive(stalled)
			}
			continue
		}
		if !d.expireMembersNow(ctx, lost) {
			d.pause(ctx, dutyRetry)
		}
	}
}

func (d *duties) expireMembersNow(ctx context.Context, lost []group.LostMember) bool {
	ctx, cancel := d.rt.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	_, err := proposeGroup(ctx, d.Coordinator, group.ExpireMembers{At: d.now(), Members: lost})
	if err != nil {
		d.logFailure(ctx, "removing members that were lost", err)
		return false
	}
	d.counters.membersLost.Add(uint64(len(lost)))
	for _, m := range lost {
		d.log.Info("member lost", "group", m.Group, "member", m.Member)
	}
	return true
}
