package coordinator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// TestChangesUnderCrashes: whatever dies at whatever step, a change that was taken
// comes to an end, and the members are those that are written down.
func TestChangesUnderCrashes(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	first := rand.Uint64()
	for i := range uint64(rounds) {
		seed := first + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			grown(t, 3, func(t *testing.T, c *cluster, d directories) {
				changeUnderCrashes(t, c, d, rand.New(rand.NewPCG(seed, 1)))
			})
		})
	}
}

func changeUnderCrashes(t *testing.T, c *cluster, d directories, rng *rand.Rand) {
	next := uint64(4)
	gone := map[*member]bool{}
	quietly := func(call func(ctx context.Context)) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		call(ctx)
	}
	taken := 0
	for range 120 {
		pass(time.Duration(rng.IntN(120)) * time.Millisecond)
		for _, m := range c.nodes { // who was removed stops
			if m.c == nil {
				continue
			}
			select {
			case err := <-m.c.Fatal():
				if !strings.Contains(err.Error(), "was removed") {
					t.Fatalf("member %d: %v", m.id, err)
				}
				gone[m] = true
				d.stop(c, m)
			default:
			}
		}
		m := c.nodes[rng.IntN(len(c.nodes))]
		down := 0
		for _, x := range c.nodes {
			if x.c == nil && !gone[x] {
				down++
			}
		}
		switch {
		case gone[m]:
		case m.c == nil:
			d.start(c, m)
		case rng.IntN(3) == 0 && down == 0:
			d.stop(c, m)
		case !m.c.opened.Load():
		case rng.IntN(3) == 0 && next < 9:
			replaces := uint64(0)
			if rng.IntN(3) > 0 {
				replaces = c.nodes[rng.IntN(len(c.nodes))].id
			}
			quietly(func(ctx context.Context) {
				_, err := m.coordinators().AddCoordinator(ctx, &oncelogv1.AddCoordinatorRequest{
					NodeId: next, ClientAddress: clientAddress(next), PeerAddress: peerAddress(next), Replaces: replaces,
				})
				if err == nil {
					taken++
					d.start(c, d.newcomer(c, next, next, m.id, 1+rng.Uint64N(next-1)))
					next++
				}
			})
		case rng.IntN(4) == 0:
			quietly(func(ctx context.Context) {
				_, _ = m.coordinators().RemoveCoordinator(ctx, &oncelogv1.RemoveCoordinatorRequest{NodeId: 1 + rng.Uint64N(next-1)})
			})
		default:
			quietly(func(ctx context.Context) {
				_ = m.c.group.TransferLeader(ctx, raftstore.NodeID(1+rng.Uint64N(next-1)))
			})
		}
	}
	for _, m := range c.nodes {
		if m.c == nil && !gone[m] {
			d.start(c, m)
		}
	}
	c.until("the changes come to an end", func() bool {
		for _, m := range c.nodes {
			if m.c != nil {
				select {
				case err := <-m.c.Fatal():
					if !strings.Contains(err.Error(), "was removed") {
						t.Fatalf("member %d: %v", m.id, err)
					}
					d.stop(c, m)
				default:
				}
			}
		}
		return c.settled() != nil
	})
	members := c.settled()
	t.Logf("%d added, members %v", taken, members)
	for _, m := range c.nodes {
		if m.c != nil && m.c.opened.Load() && slices.Contains(members, m.id) {
			c.until("all know the same", func() bool {
				return slices.Equal(voterIDs(m.c.group.Status().Members), members)
			})
			m.check(t)
		}
	}
}
