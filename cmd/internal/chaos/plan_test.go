package chaos

import (
	"slices"
	"testing"
	"time"
)

// TestDraw: a plan follows from its seed, deals every kind of fault before it
// deals one again, and fits into its time.
func TestDraw(t *testing.T) {
	t.Parallel()
	const fill = 10 * time.Minute
	p := draw(7, fill, true, nil)
	if again := draw(7, fill, true, nil); again.String() != p.String() || again.steps[0].seed != p.steps[0].seed {
		t.Error("the same seed draws another plan")
	}
	if other := draw(8, fill, true, nil); other.String() == p.String() {
		t.Error("another seed draws the same plan")
	}
	kinds := len(faults())
	if len(p.steps) < 2*kinds {
		t.Fatalf("%d faults in %v", len(p.steps), fill)
	}
	seen := map[string]int{}
	last := time.Duration(0)
	for i, s := range p.steps {
		if s.at < last || s.at+s.length > fill || s.length < time.Second {
			t.Errorf("fault %d: at %v for %v, after %v", i, s.at, s.length, last)
		}
		if s.fault.long && s.length <= transactionTimeout {
			t.Errorf("%s lasts %v", s.fault.name, s.length)
		}
		if seen[s.fault.name] > i/kinds {
			t.Errorf("%s came again before all had come", s.fault.name)
		}
		seen[s.fault.name]++
		last = s.at
	}
	if len(seen) != kinds {
		t.Errorf("%d of %d kinds: %v", len(seen), kinds, seen)
	}
}

func TestDrawIsNarrowed(t *testing.T) {
	t.Parallel()
	for _, s := range draw(1, time.Minute, false, nil).steps {
		if s.fault.disk {
			t.Errorf("%s without a disk that can fail", s.fault.name)
		}
	}
	only := draw(1, time.Minute, true, []string{"zombie", "power-cut"})
	if len(only.steps) == 0 {
		t.Error("no faults")
	}
	for _, s := range only.steps {
		if s.fault.name != "zombie" && s.fault.name != "power-cut" {
			t.Errorf("%s was not asked for", s.fault.name)
		}
	}
	if n := len(draw(1, time.Second, true, nil).steps); n != 0 {
		t.Errorf("%d faults in a second", n)
	}
}

func TestFaultNamesAreUnique(t *testing.T) {
	t.Parallel()
	names := FaultNames()
	slices.Sort(names)
	if n := len(slices.Compact(slices.Clone(names))); n != len(names) || n < 25 {
		t.Errorf("%d names, %d different ones", len(names), n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := Config{Duration: time.Minute}
	if err := good.Check(); err != nil || good.Run != time.Minute || good.Disks != DisksMaybe {
		t.Errorf("%v, %+v", err, good)
	}
	for name, c := range map[string]Config{
		"no time":            {},
		"little time":        {Duration: overhead},
		"much time":          {Duration: 2 * maxDuration},
		"a short run":        {Duration: time.Hour, Run: time.Second},
		"an unknown fault":   {Duration: time.Minute, Faults: []string{"earthquake"}},
		"a choice of no use": {Duration: time.Minute, Disks: "sometimes"},
	} {
		if err := c.Check(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
