package coordinator

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// lockedBuffer is what several tasks log into.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestClockFarOff: a coordinator whose clock is off says so, once, shows it, and goes on;
// and so it does when its clock is the one that counts.
func TestClockFarOff(t *testing.T) {
	var log lockedBuffer
	guarded(t, 3, func(t *testing.T, c *cluster, d directories) {
		d.settings[3] = func(cfg *Config) {
			cfg.Runtime, cfg.Logger = task.Ahead(time.Hour), slog.New(slog.NewTextHandler(&log, nil))
		}
		for _, m := range c.nodes {
			d.start(c, m)
		}
		leader := c.leader()
		pass(2 * clockInterval)
		off := 0
		for _, m := range c.nodes {
			o := m.c.Stats().Clock
			want := time.Duration(0)
			switch {
			case m == leader:
			case m.id == 3:
				want = time.Hour
			case leader.id == 3:
				want = -time.Hour
			}
			if !o.Known() || (o.Ahead-want).Abs() > o.Error+time.Second || o.Off() != (want != 0) {
				t.Errorf("coordinator %d: %+v, want %v", m.id, o, want)
			}
			if o.Off() {
				off++
			}
			res, err := oncelogv1.NewStatusServiceClient(m.client).GetStatus(t.Context(), &oncelogv1.GetStatusRequest{})
			if err != nil || res.GetClock().GetAheadUs() != o.Ahead.Microseconds() || res.Clock == nil {
				t.Errorf("coordinator %d tells %v, %v", m.id, res.GetClock(), err)
			}
			if m.c.group.Status().Leader == 0 {
				t.Errorf("coordinator %d does not take part", m.id)
			}
		}
		if off == 0 {
			t.Error("nobody is off")
		}
		if leader.id != 3 && strings.Count(log.String(), "this node's clock is 1h0m0s ahead of that of the leading coordinator: let NTP set") != 1 {
			t.Errorf("it says %s", log.String())
		}
	})
}
