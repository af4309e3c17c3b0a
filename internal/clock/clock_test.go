package clock

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// exchange plays one: the own clock is ahead, the ways there and back take there and
// back, and the answer is worked on.
func exchange(ahead, there, worked, back time.Duration) (Offset, bool) {
	truth := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	came := truth.Add(there)
	return Between(truth.Add(ahead), there+worked+back, "x", Reading{came.UnixMicro(), came.Add(worked).UnixMicro()})
}

// TestBetween: whatever the ways take, the truth is within the error, and a long wait for
// the answer does not make it larger.
func TestBetween(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, time.Millisecond, -time.Millisecond, time.Hour, -48 * time.Hour} {
		for _, there := range []time.Duration{0, time.Millisecond, time.Second} {
			for _, worked := range []time.Duration{0, 2 * time.Second, time.Hour} {
				for _, back := range []time.Duration{0, 3 * time.Millisecond, 2 * time.Second} {
					got, ok := exchange(ahead, there, worked, back)
					if !ok || (got.Ahead-ahead).Abs() > got.Error || got.Error != (there+back)/2 {
						t.Errorf("ahead %v, there %v, worked %v, back %v: %+v, %v", ahead, there, worked, back, got, ok)
					}
				}
			}
		}
	}
}

func TestReadingsThatAreNone(t *testing.T) {
	t.Parallel()
	now := time.Now()
	us := now.UnixMicro()
	for name, c := range map[string]struct {
		took time.Duration
		r    Reading
	}{
		"none":                       {time.Second, Reading{}},
		"answered before it came":    {time.Second, Reading{us, us - 1}},
		"worked on for an hour":      {time.Second, Reading{us, us + time.Hour.Microseconds()}},
		"an answer before it began":  {-1, Reading{us, us}},
		"received at the first time": {time.Second, Reading{-5, us}},
	} {
		if o, ok := Between(now, c.took, "x", c.r); ok || o.Known() {
			t.Errorf("%s: %+v", name, o)
		}
	}
	// One clock may run a little faster than the other.
	if o, ok := Between(now, 5*time.Second, "x", Reading{us, us + 5_000_100}); !ok || o.Error != 0 {
		t.Errorf("%+v, %v", o, ok)
	}
}

// TestWatch: the log hears of each change once, and only of what is sure.
func TestWatch(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := NewWatch(slog.New(slog.NewTextHandler(&log, nil)))
	if w.Offset().Known() || w.Offset().Off() {
		t.Error("it knows something")
	}
	said := func(want string, offsets ...Offset) {
		t.Helper()
		log.Reset()
		for _, o := range offsets {
			o.Against = "coordinator 1"
			w.Learn(o)
		}
		if want == "" && log.Len() > 0 || strings.Count(log.String(), "\n") > 1 || !strings.Contains(log.String(), want) {
			t.Errorf("%v: it says %q, not %q", offsets, log.String(), want)
		}
	}
	said("", Offset{Ahead: Tolerance}, Offset{Ahead: -Tolerance}, Offset{Ahead: time.Hour, Error: time.Hour})
	said("1h0m0s ahead of that of coordinator 1: let NTP", Offset{Ahead: time.Hour}, Offset{Ahead: time.Hour}, Offset{Ahead: 2 * time.Hour})
	said("", Offset{Ahead: 0, Error: 2 * Tolerance}) // perhaps
	said("agrees with that of coordinator 1 again", Offset{Ahead: time.Millisecond}, Offset{})
	said("1m0s behind", Offset{Ahead: -time.Minute})
	if o := w.Offset(); o.Ahead != -time.Minute || !o.Off() {
		t.Errorf("%+v", o)
	}
}
