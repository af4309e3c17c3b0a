package main

import (
	"bytes"
	"strings"
	"testing"
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
