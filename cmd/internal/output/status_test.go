package output

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestStatus: the line stands below the text on a terminal and goes in the end; elsewhere
// there is only the text.
func TestStatus(t *testing.T) {
	t.Parallel()
	for terminal, want := range map[bool]string{
		true:  "\r\x1b[K[#-] 50%\r\x1b[Kfailed\n\r\x1b[K[#-] 50%\r\x1b[K[##] 100%\r\x1b[Kdone\n",
		false: "failed\ndone\n",
	} {
		var out bytes.Buffer
		s := NewStatus(&out, &out, terminal)
		s.Show("[#-] 50%")
		if n, err := fmt.Fprintln(s, "failed"); n != 7 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		s.Show("[##] 100%")
		s.Show("")
		fmt.Fprintln(s, "done")
		if out.String() != want {
			t.Errorf("terminal %v: %q, want %q", terminal, out.String(), want)
		}
	}
}

func TestStatusFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for terminal, want := range map[bool]string{true: "\r\x1b[K1\r\x1b[K2\r\x1b[K3\r\x1b[K", false: ""} {
			var out bytes.Buffer
			n := 0
			stop := NewStatus(&out, &out, terminal).Follow(func() string { n++; return fmt.Sprint(n) })
			<-time.After(2*drawInterval + drawInterval/2)
			stop()
			stop()
			if out.String() != want {
				t.Errorf("terminal %v: %q, want %q", terminal, out.String(), want)
			}
		}
	})
}

func TestBar(t *testing.T) {
	t.Parallel()
	for part, want := range map[float64]string{
		-1: "[----]   0%", 0: "[----]   0%", 0.5: "[##--]  50%", 0.99: "[###-]  99%", 1: "[####] 100%", 7: "[####] 100%",
	} {
		if got := Bar(part, 4); got != want {
			t.Errorf("Bar(%v) is %q, want %q", part, got, want)
		}
	}
}
