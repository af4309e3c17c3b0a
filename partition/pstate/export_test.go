package pstate

import "testing"

// Checked runs entries for the tests outside of the package as [rig] does: after
// each of them the invariants hold, no end has moved backwards (I8), and a state
// restored from the snapshot before it has done the same (I10).
type Checked struct{ rig rig }

// NewChecked returns a state without partitions at log time 1 s.
func NewChecked(cfg Config) *Checked {
	return &Checked{rig{s: New(cfg), now: 1000, ends: map[uint64][2]End{}}}
}

// State returns the state. It is another one after [Checked.Restart].
func (c *Checked) State() *State { return c.rig.s }

// Now returns the time that the next command is to be stamped with.
func (c *Checked) Now() Millis { return c.rig.now }

// Pass moves the time of the next command; negative: a leader whose clock is
// behind.
func (c *Checked) Pass(d Millis) { c.rig.now += d }

// Apply applies an encoded command and returns what [apply] does.
func (c *Checked) Apply(t *testing.T, entry []byte, err error) any {
	t.Helper()
	c.rig.t = t
	return c.rig.entry(entry, err)
}

// Restart goes on with a state restored from a snapshot of the present one.
func (c *Checked) Restart(t *testing.T) {
	t.Helper()
	next := New(Config{})
	if err := next.Restore(c.rig.s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	c.rig.s = next
}
