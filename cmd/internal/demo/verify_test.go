package demo

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func sampleText(t *testing.T) *text {
	t.Helper()
	s := &text{files: 1, counts: map[string]int{}}
	if _, err := s.add("f", []byte("b a\na c a\n\n")); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerification(t *testing.T) {
	t.Parallel()
	lines := []entry{{"f:2", "a c a"}, {"f:1", "b a"}, {"f:3", ""}}
	words := []entry{{"a", "f:1"}, {"c", "f:2"}, {"a", "f:2"}, {"a", "f:2"}, {"b", "f:1"}}
	counts := []entry{{"a", "1"}, {"b", "1"}, {"a", "3"}, {"c", "1"}}
	without := func(e []entry, i int) []entry { return slices.Delete(slices.Clone(e), i, i+1) }
	with := func(e []entry, key, value string) []entry { return append(slices.Clone(e), entry{key, value}) }

	for name, c := range map[string]struct {
		lines, words, counts []entry
		exact                int
		wrong                []string // what is told, in part
	}{
		"right":              {lines, words, counts, 5, nil},
		"a line lost":        {without(lines, 1), words, counts, 5, []string{"f:1 is missing"}},
		"a line twice":       {with(lines, "f:1", "b a"), words, counts, 5, []string{"f:1 is there 1 times too many"}},
		"a line changed":     {with(without(lines, 1), "f:1", "b b"), words, counts, 5, []string{"f:1 is missing", "f:1 is there 1"}},
		"a word lost":        {lines, without(words, 0), counts, 5, []string{`"a" was split out 2 times, the text has it 3`}},
		"a word twice":       {lines, with(words, "c", "f:2"), counts, 5, []string{`"c" was split out 2 times`}},
		"a word invented":    {lines, with(words, "x", "f:2"), counts, 5, []string{`"x" was split out 1 times, the text has it 0`}},
		"counted too often":  {lines, words, with(counts, "b", "2"), 4, []string{`"b" was counted 2 times`}},
		"counted too little": {lines, words, without(counts, 2), 2, []string{`"a" was counted 1 times`}},
		"never counted":      {lines, words, without(counts, 1), 4, []string{`"b" was counted 0 times`}},
		"an invented count":  {lines, words, with(counts, "x", "1"), 5, []string{`the text does not have it`}},
		"a count repeated":   {lines, words, with(counts, "c", "1"), 5, []string{`"c" went from 1 to 1`}},
		"no number":          {lines, words, with(counts, "c", "one"), 4, []string{`"c" is "one"`, `"c" was counted 0`}},
		"all lost":           {nil, nil, nil, 0, []string{"f:1", "f:2", "f:3", `"a" was split`, `"b"`, `"c"`, `"a" was counted`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &findings{}
			s := sampleText(t)
			f.checkLines(c.lines, s)
			f.checkWords(c.words, s)
			f.checkCounts(c.counts, s)
			if f.exact != c.exact {
				t.Errorf("%d words are exact, want %d", f.exact, c.exact)
			}
			if (len(f.differences) == 0) != (len(c.wrong) == 0) {
				t.Errorf("differences: %q", f.differences)
			}
			for _, want := range c.wrong {
				if !slices.ContainsFunc(f.differences, func(d string) bool { return strings.Contains(d, want) }) {
					t.Errorf("no difference says %q: %q", want, f.differences)
				}
			}
		})
	}
}

func TestDifferencesAreBounded(t *testing.T) {
	t.Parallel()
	f := &findings{}
	for range maxDifferences + 7 {
		f.differ("x")
	}
	if len(f.differences) != maxDifferences || f.omitted != 7 {
		t.Errorf("%d told, %d omitted", len(f.differences), f.omitted)
	}
}

func TestLongestPause(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1000, 0)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	commits := []time.Time{at(0), at(100), at(900), at(950), at(2000), at(2010)}
	for _, c := range []struct {
		from, to int
		want     time.Duration
		start    int
	}{
		{0, 3000, 1050 * time.Millisecond, 950},
		{150, 940, 800 * time.Millisecond, 100},
		{0, 50, 100 * time.Millisecond, 0},
		{2005, 3000, 10 * time.Millisecond, 2000},
		{2500, 3000, 0, -1},
	} {
		got := longestPause(commits, at(c.from), at(c.to))
		if got.long != c.want || c.want > 0 && !got.start.Equal(at(c.start)) {
			t.Errorf("from %d to %d: %v at %v, want %v", c.from, c.to, got.long, got.start.Sub(begin), c.want)
		}
	}
	if got := longestPause(nil, at(0), at(1)); got.long != 0 {
		t.Errorf("of no commits: %v", got.long)
	}
}

func goodReport() *Report {
	return &Report{
		Files: 2, Lines: 1200, Words: 12345, Distinct: 999, LinesRead: 1200, WordsRead: 12345, CountsRead: 3000, Hidden: 42,
		Committed: 400, Aborted: 2, Killed: []string{"coordinator 1 (leader of the coordinator)", "worker split-1 (in mid-transaction)"},
		Fenced: "count-2", Restored: 17, LongestPause: 850 * time.Millisecond, PauseAfter: "coordinator 1", Took: 21 * time.Second,
		Exact: 12345,
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := goodReport().Write(&out); err != nil {
		t.Fatal(err)
	}
	want := `text:            2 files, 1,200 lines, 12,345 words, 999 of them different
records:         16,545 committed (1,200 lines, 12,345 words, 3,000 counts); 42 of aborted transactions, shown to nobody
transactions:    400 committed, 2 aborted
killed -9:       coordinator 1 (leader of the coordinator); worker split-1 (in mid-transaction)
fenced zombie:   yes (count-2, woken up in mid-transaction, tried to commit and was refused)
state restored:  17 counts read back by new workers
longest pause:   850ms between two commits, after coordinator 1 was killed
took:            21s
exactly once:    yes, 12,345 of 12,345 words
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

// TestVerdict: anything that is not as it must be makes the verdict no.
func TestVerdict(t *testing.T) {
	t.Parallel()
	if !goodReport().ExactlyOnce() {
		t.Error("a good report is not exactly once")
	}
	for name, spoil := range map[string]func(*Report){
		"difference": func(r *Report) { r.Differences = []string{"something"} },
		"words":      func(r *Report) { r.WordsRead++ },
		"lines":      func(r *Report) { r.LinesRead-- },
		"counts":     func(r *Report) { r.Exact-- },
		"zombie":     func(r *Report) { r.Fenced = "" },
	} {
		r := goodReport()
		spoil(r)
		var out bytes.Buffer
		if err := r.Write(&out); err != nil {
			t.Fatal(err)
		}
		if r.ExactlyOnce() || !strings.Contains(out.String(), "exactly once:    NO") {
			t.Errorf("%s: verdict yes:\n%s", name, out.String())
		}
	}
	r := goodReport()
	r.Differences, r.Omitted = []string{"a\nb"}, 3
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "  wrong: a\\nb\n  and 3 more\n") {
		t.Errorf("got:\n%s", out.String())
	}
}
