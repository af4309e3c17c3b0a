package partition

import "time"

// Clock is the time that a leader stamps into commands and waits by.
type Clock interface {
	// Now returns the present; its monotonic part measures spans.
	Now() time.Time
	// After returns a channel that receives once d has passed, and a function
	// that releases it early.
	After(d time.Duration) (<-chan time.Time, func())
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now returns time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// After returns the channel of a timer.
func (SystemClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// pause waits for d, for a wake-up, or until stop is closed; false: stopped.
func pause(c Clock, d time.Duration, wake, stop <-chan struct{}) bool {
	timer, release := c.After(d)
	defer release()
	select {
	case <-timer:
		return true
	case <-wake:
		return true
	case <-stop:
		return false
	}
}
