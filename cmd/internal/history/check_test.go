package history

import (
	"reflect"
	"strings"
	"testing"
)

func TestSceneIsGood(t *testing.T) {
	t.Parallel()
	s := newScene()
	r := Check(s.h)
	for _, v := range r.Violations {
		t.Error(v)
	}
	want := Stats{
		Events: len(s.h.Events), Transactions: 5, Committed: 4, Aborted: 1, Resolved: 0, Plain: 2, Records: 10, Visible: 9,
		Reads: 6, ReadRecords: 11, Moves: 3, CoordinatorCalls: 13, Replicas: 2, Interleaved: 0,
	}
	if r.Stats != want {
		t.Errorf("checked %+v\nwant    %+v", r.Stats, want)
	}
	if again := Check(s.h); !reflect.DeepEqual(r, again) {
		t.Errorf("another report the second time: %+v", again)
	}
}

// badScene is a scene with something wrong, and everything that must be said
// about it.
type badScene struct {
	name  string
	wrong func(s *scene)
	want  string // kinds of violations, sorted, separated by commas
}

func testBadScenes(t *testing.T, scenes []badScene) {
	t.Helper()
	for _, b := range scenes {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			b.wrong(s)
			r := Check(s.h)
			if got := strings.Join(kinds(r), ", "); got != b.want {
				t.Errorf("reported %q, want %q", got, b.want)
			}
			for _, v := range r.Violations {
				t.Log(v)
			}
		})
	}
}

// What retention has removed is no loss, wherever it stopped; what is missing
// above that is.
func TestRecordsBelowALogStartMayBeGone(t *testing.T) {
	t.Parallel()
	for _, p := range []Partition{bank0, bank1} {
		for start := int64(0); start <= newScene().log(p).End; start++ {
			s := newScene()
			s.trim(p, start)
			for _, v := range Check(s.h).Violations {
				t.Errorf("%v starts at %d: %v", p, start, v)
			}
		}
	}
	for missing := int64(2); missing <= 4; missing++ {
		s := newScene()
		s.trim(bank0, missing)
		s.log(bank0).Start = 1
		if len(Check(s.h).Violations) == 0 {
			t.Errorf("records below %d are missing, and the log starts at 1", missing)
		}
	}
}
