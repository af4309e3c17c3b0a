// Package clock compares the clocks of nodes.
//
// Whoever asks notes when, and whoever answers says when the question came and when the
// answer went, by its own clock. As in NTP (RFC 5905, section 8) that gives by how much
// the one clock is ahead of the other, and how wrong that can be: half of the time that
// the messages were on their way, however long the answer was waited for.
package clock

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Tolerance is by how much clocks may differ before anybody is told. Nothing breaks
// beyond it; timeouts and retention are off by as much when a leader changes. etcd warns
// its users from one second on, too.
const Tolerance = time.Second

// Reading is when a question came and when its answer went, by the clock of the one
// that answers, in microseconds since 1970.
type Reading struct{ ReceivedUS, AnsweredUS int64 }

// Offset is what is known of two clocks.
type Offset struct {
	// Ahead is by how much the own clock is ahead of the other's; below 0 it is behind.
	Ahead time.Duration
	// Error bounds how wrong that is.
	Error time.Duration
	// Against names whose clock the other one is; empty: nothing is known.
	Against string
}

// Known reports whether the clocks were compared.
func (o Offset) Known() bool { return o.Against != "" }

// Off reports whether the clocks surely differ by more than [Tolerance].
func (o Offset) Off() bool { return o.Known() && o.Ahead.Abs()-o.Error > Tolerance }

// String says it for people.
func (o Offset) String() string { return Describe(o.Ahead) }

// Describe says by how much a clock is ahead, or behind.
func Describe(ahead time.Duration) string {
	grain := time.Millisecond
	if ahead.Abs() > time.Minute {
		grain = time.Second
	}
	if ahead < 0 {
		return fmt.Sprintf("%s behind", (-ahead).Round(grain))
	}
	return fmt.Sprintf("%s ahead", ahead.Round(grain))
}

// Mend is what to do about a clock that is off.
const Mend = "let NTP set the clocks of both machines; meanwhile timeouts of transactions and retention are off by as much where this node leads"

// Between compares the clocks after an exchange: the question was sent at sent, by the
// own wall clock, and the answer came after took. ok is false where the reading cannot
// be one: it has no times, or the answer was worked on for longer than it was waited for
// by more than the [Tolerance], as when a clock is set meanwhile.
func Between(sent time.Time, took time.Duration, against string, r Reading) (_ Offset, ok bool) {
	worked := time.Duration(r.AnsweredUS-r.ReceivedUS) * time.Microsecond
	onTheWay := took - worked
	if r.ReceivedUS <= 0 || worked < 0 || took < 0 || onTheWay < -Tolerance {
		return Offset{}, false
	}
	onTheWay = max(onTheWay, 0) // clocks do not run alike
	// Unless one way is slower than the other, the question came in the middle.
	came := sent.Add(onTheWay / 2)
	return Offset{
		Ahead: time.Duration(came.UnixMicro()-r.ReceivedUS) * time.Microsecond, Error: onTheWay / 2, Against: against,
	}, true
}

// Watch keeps what a node knows of its clock, and says so when it is off. It is safe for
// concurrent use.
type Watch struct {
	log *slog.Logger

	mu   sync.Mutex
	now  Offset
	told bool
}

// NewWatch returns a watch that knows nothing.
func NewWatch(log *slog.Logger) *Watch { return &Watch{log: log} }

// Offset returns what was learned last.
func (w *Watch) Offset() Offset {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// Lead says that the own clock is the one that counts.
func (w *Watch) Lead() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.told = Offset{Against: "itself"}, false
}

// Learn takes the newest comparison. The log is told once when the clocks begin to
// differ, and once when they do not any more.
func (w *Watch) Learn(o Offset) {
	w.mu.Lock()
	w.now = o
	off := o.Off()
	tell := off != w.told && (off || o.Ahead.Abs()+o.Error <= Tolerance)
	if tell {
		w.told = off
	}
	w.mu.Unlock()
	switch {
	case tell && off:
		w.log.Warn("this node's clock is "+o.String()+" of that of "+o.Against+": "+Mend, "ahead", o.Ahead, "error", o.Error)
	case tell:
		w.log.Info("this node's clock agrees with that of "+o.Against+" again", "ahead", o.Ahead, "error", o.Error)
	}
}
