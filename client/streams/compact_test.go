package streams_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client/streams"
)

// Changelogs are compacted, and what is restored from one is what it was before.
func TestRestoreFromACompactedChangelog(t *testing.T) {
	bubble(t, func(w *world) {
		i := w.start("one", wordCount())
		want := map[string]int64{"once": 1}
		w.feed("once")
		for range 50 {
			w.feed("a b c d", "e f", "a")
			for _, word := range []string{"a", "a", "b", "c", "d", "e", "f"} {
				want[word]++
			}
			<-time.After(200 * time.Millisecond) // a transaction of its own
		}
		w.counted(want)
		topic, err := w.Client().Admin().DescribeTopic(w.patient(), "wc-words-changelog")
		w.must(err)
		if topic.GetConfig().GetCleanupPolicy() != oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT {
			t.Errorf("the changelog is kept as %v", topic.GetConfig())
		}
		<-time.After(3 * time.Minute)
		status, err := w.Client().Admin().DescribePartitions(w.patient(), "wc-words-changelog")
		w.must(err)
		ends, compacted := uint64(0), uint64(0)
		for _, p := range status {
			ends, compacted = ends+p.GetAppliedEnd(), compacted+p.GetCompactedOffset()
		}
		if compacted == 0 {
			t.Fatalf("nothing was compacted: %v", status)
		}
		i.end()

		i = w.start("two", wordCount()) // with nothing of its own
		w.until("the tasks run", func() bool { return i.Stats().Tasks == 6 })
		all, _, err := streams.Query(i.App, words).All(100)
		w.must(err)
		got := map[string]int64{}
		for _, e := range all {
			got[e.Key] = e.Value
		}
		if !maps.Equal(got, want) {
			t.Errorf("restored %v, want %v", got, want)
		}
		if n := i.Stats().Restored; n >= int64(ends-compacted/2) {
			t.Errorf("%d records were read, of %d, and %d were compacted", n, ends, compacted)
		}
		again := slices.Sorted(maps.Keys(want))
		for _, word := range again {
			w.feed(word)
			want[word]++
		}
		w.counted(want)
		i.end()
	})
}
