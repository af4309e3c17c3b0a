package trace

import (
	"fmt"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestMemoryKeepsTheNewest(t *testing.T) {
	t.Parallel()
	m := NewMemory[int](3)
	m.Put(1, Context{}) // none: not remembered
	for key := 1; key <= 5; key++ {
		m.Put(key, Context{Parent: fmt.Sprint(key)})
	}
	m.Put(4, Context{Parent: "again"}) // takes no other's place
	for key, want := range map[int]string{1: "", 2: "", 3: "3", 4: "again", 5: "5"} {
		if got := m.Get(key); got.Parent != want {
			t.Errorf("%d: %q, want %q", key, got.Parent, want)
		}
	}
	if len(m.known) != 3 {
		t.Errorf("%d are remembered", len(m.known))
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		parent, state int
		refused       string
	}{
		{0, 0, ""}, {64, 512, ""}, {65, 0, "trace.traceparent"}, {55, 513, "trace.tracestate"},
	} {
		err := Check("trace", &oncelogv1.TraceContext{
			Traceparent: strings.Repeat("a", x.parent), Tracestate: strings.Repeat("a", x.state),
		})
		if err == nil != (x.refused == "") || err != nil && err.Metadata["field"] != x.refused {
			t.Errorf("%d and %d bytes: %v", x.parent, x.state, err)
		}
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	off := Or(nil)
	c, end := off.Start(Context{Parent: "p"}, "name")
	end(nil)
	if c.Proto() != nil || off.Of(t.Context()) != (Context{}) {
		t.Errorf("got %v", c)
	}
}
