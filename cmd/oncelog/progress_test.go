package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMeter: on a terminal it draws over itself and goes; elsewhere it is silent.
func TestMeter(t *testing.T) {
	t.Parallel()
	var drawn, silent bytes.Buffer
	for interactive, to := range map[bool]*bytes.Buffer{true: &drawn, false: &silent} {
		m := newMeter(&app{err: to, interactive: interactive}, "read", 4<<20)
		for range 3 {
			m.add(1 << 20)
		}
		if m.bytes() != 3<<20 {
			t.Errorf("%d bytes were counted", m.bytes())
		}
		m.clear()
	}
	if got := drawn.String(); !strings.HasPrefix(got, "\r\x1b[K[######------------------]  25%, read 1.00 MiB of 4.00 MiB, ") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("drew %q", got)
	}
	if silent.Len() > 0 {
		t.Errorf("without a terminal it drew %q", silent.String())
	}
	m := newMeter(&app{}, "copied", 0)
	m.done = 10 << 20
	if got := m.line(2 * time.Second); got != "copied 10.0 MiB, 5.00 MiB/s" {
		t.Errorf("without a total: %q", got)
	}
	m.total = 5 << 20 // more came than was said
	if got := m.line(time.Second); !strings.HasPrefix(got, "["+strings.Repeat("#", 24)+"] 100%") {
		t.Errorf("beyond the total: %q", got)
	}
}

// TestMeanwhile: what takes long says so after two seconds, and then every ten; what does
// not says nothing. By a fake clock.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for took, want := range map[time.Duration]string{
			silence - time.Millisecond:   "",
			silence + time.Millisecond:   "topic x: still waiting, for 2s now\n",
			25*time.Second + sayInterval: "topic x: still waiting, for 2s now\ntopic x: still waiting, for 12s now\ntopic x: still waiting, for 22s now\ntopic x: still waiting, for 32s now\n",
		} {
			var said bytes.Buffer
			done := (&app{err: &said}).meanwhile("topic x")
			<-time.After(took)
			done()
			done() // once more is no error
			<-time.After(time.Minute)
			if said.String() != want {
				t.Errorf("after %v it said %q", took, said.String())
			}
		}
	})
}

// TestMeterWithoutATerminal says a line now and then, by a fake clock.
func TestMeterWithoutATerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		m := newMeter(&app{err: &said}, "copied", 25<<20)
		for range 25 { // seconds
			<-time.After(time.Second)
			m.add(1 << 20)
		}
		m.clear()
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		if len(lines) != 3 || !strings.HasSuffix(lines[0], "copied 2.00 MiB of 25.0 MiB, 1.00 MiB/s") || !strings.Contains(lines[2], " 88%, copied 22.0 MiB") {
			t.Errorf("%q", lines)
		}
	})
}

// TestTimed: what takes a known time shows how much of it is over, below what is printed.
func TestTimed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		progress, done := (&app{err: &errs, interactive: true}).timed(time.Minute)
		<-time.After(30*time.Second + time.Millisecond)
		fmt.Fprintln(progress, "round 1")
		done()
		drawn := "[############------------]  50%, 30s of about 1m0s"
		if got := errs.String(); !strings.HasSuffix(got, drawn+"\r\x1b[Kround 1\n\r\x1b[K"+drawn+"\r\x1b[K") {
			t.Errorf("drew %q", got[max(0, len(got)-300):])
		}
	})
}

// TestSeedMeter: on a terminal a bar, elsewhere a line now and then.
func TestSeedMeter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for interactive, want := range map[bool]string{
			true:  "\r\x1b[K[######------------------]  25%, 50 of 200 seeds, 96/min\r\x1b[K",
			false: "... 50 of 200 seeds in 31s\n",
		} {
			var out bytes.Buffer
			m, done := newSeedMeter(&app{out: &out, err: &out, interactive: interactive}, 200)
			<-time.After(drawInterval)
			m.set(25)
			<-time.After(31*time.Second - drawInterval/2)
			m.set(50)
			<-time.After(drawInterval)
			done()
			if !strings.HasSuffix(out.String(), want) {
				t.Errorf("interactive %v: drew %q", interactive, out.String()[max(0, out.Len()-200):])
			}
		}
	})
}
