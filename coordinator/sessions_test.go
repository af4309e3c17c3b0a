package coordinator

import (
	"testing"
	"time"

	"github.com/oncelog/oncelog/coordinator/group"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	s := newSessions()
	now := time.Unix(1000, 0)
	asked := uint64(0)
	each := func(fn func(group.Session)) {
		fn(group.Session{
			LostMember: group.LostMember{Group: "g", Member: "m", Joined: 1}, SessionTimeout: 900, RebalanceTimeout: 2000, Asked: asked,
		})
	}
	lost := func(after time.Duration) int {
		now = now.Add(after)
		gone, next := s.lost(now, each)
		if next <= 0 || next > maxSleep {
			t.Errorf("look again after %v", next)
		}
		return len(gone)
	}
	s.begin(1)
	wantEqual(t, "seen for the first time", lost(0), 0)
	wantEqual(t, "almost silent for a session", lost(899*time.Millisecond), 0)
	wantEqual(t, "silent for a session", lost(time.Millisecond), 1)
	s.forgive(time.Second)
	wantEqual(t, "the leader was stalled", lost(999*time.Millisecond), 0)
	wantEqual(t, "silent since", lost(time.Millisecond), 1)
	s.heard("g", "m", now)
	wantEqual(t, "heard", lost(800*time.Millisecond), 0)
	s.begin(1)
	wantEqual(t, "the same term", lost(100*time.Millisecond), 1)
	s.begin(2)
	wantEqual(t, "another term", lost(0), 0)

	// Partitions to let go: the time runs from when they were asked for, and anew
	// when some were let go.
	alive := func(after time.Duration) int {
		s.heard("g", "m", now.Add(after))
		return lost(after)
	}
	asked = 5
	wantEqual(t, "asked", alive(0), 0)
	wantEqual(t, "lets not go yet", alive(1999*time.Millisecond), 0)
	asked = 6
	wantEqual(t, "has let some go", alive(time.Millisecond), 0)
	wantEqual(t, "lets not go of the rest yet", alive(1999*time.Millisecond), 0)
	wantEqual(t, "does not let go", alive(time.Millisecond), 1)
	asked = 0
	wantEqual(t, "has let go", alive(time.Second), 0)

	// What is known of others is forgotten.
	s.heard("g", "stranger", now)
	lost(0)
	wantEqual(t, "members that are remembered", len(s.known), 1)
}
