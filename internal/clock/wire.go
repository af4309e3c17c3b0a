package clock

import (
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Answer is the reading of an answer that goes now, worked after its question came. A
// clock that was set meanwhile does not matter: worked is a span.
func Answer(came time.Time, worked time.Duration) *oncelogv1.ClockReading {
	return &oncelogv1.ClockReading{ReceivedUs: came.UnixMicro(), AnsweredUs: came.Add(worked).UnixMicro()}
}

// Compare is [Between] for a reading off the wire; nil is none, of an older node.
func Compare(sent time.Time, took time.Duration, against string, r *oncelogv1.ClockReading) (Offset, bool) {
	return Between(sent, took, against, Reading{r.GetReceivedUs(), r.GetAnsweredUs()})
}

// Proto returns the offset for the wire; nil: nothing is known.
func (o Offset) Proto() *oncelogv1.ClockOffset {
	if !o.Known() {
		return nil
	}
	return &oncelogv1.ClockOffset{AheadUs: o.Ahead.Microseconds(), ErrorUs: o.Error.Microseconds()}
}
