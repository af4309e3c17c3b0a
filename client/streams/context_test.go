package streams_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client/streams"
)

// An application ends soon after it was told to, and a question with its context,
// whether the cluster answers or not: an abort may take 10 s, and good-byes 3 s each.
func TestCallsEndWithTheirContext(t *testing.T) {
	for name, gone := range map[string]func(w *world){
		"silent": func(w *world) {
			for _, n := range append(w.Coordinators(), w.Nodes()...) {
				n.Pause()
			}
		},
		"down": func(w *world) {
			for _, n := range append(w.Coordinators(), w.Nodes()...) {
				n.Crash()
			}
		},
	} {
		t.Run("cluster is "+name, func(t *testing.T) {
			bubble(t, func(w *world) {
				a := w.start("a", wordCount())
				w.feed("to be or not to be")
				w.counted(map[string]int64{"to": 2, "be": 2, "or": 1, "not": 1})
				gone(w)
				<-time.After(20 * time.Second)
				ctx, cancel := context.WithTimeout(w.t.Context(), 7*time.Second)
				defer cancel()
				began := time.Now()
				if _, err := streams.Query(a.App, words).Owner(ctx, "to"); !errors.Is(err, context.DeadlineExceeded) {
					w.t.Errorf("Owner: %v", err)
				}
				if took := time.Since(began); took > 7*time.Second {
					w.t.Errorf("Owner took %v", took)
				}
				began = time.Now()
				a.end()
				if took := time.Since(began); took > 20*time.Second {
					w.t.Errorf("it took %v to end", took)
				}
			})
		})
	}
}
