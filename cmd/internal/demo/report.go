package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/output"
)

// Report is the result of a run.
type Report struct {
	// Files, Lines, Words and Distinct describe the text.
	Files, Lines, Words, Distinct int
	// LinesRead, WordsRead and CountsRead are the committed records of the topics.
	LinesRead, WordsRead, CountsRead int
	// Hidden are records of aborted transactions, which no reader was shown.
	Hidden int
	// Committed and Aborted are transactions.
	Committed, Aborted int
	// Killed lists what was killed with kill -9.
	Killed []string
	// Fenced is the worker whose zombie's commit was refused; empty: none.
	Fenced string
	// Restored are the records from which replaced workers got their state back.
	Restored int
	// LongestPause is the longest time between two commits, PauseAfter what was
	// killed before it, if it was a kill.
	LongestPause time.Duration
	PauseAfter   string
	// Took is the time of the whole run.
	Took time.Duration
	// Exact is how many of the words were counted right.
	Exact int
	// Differences say what is wrong, at most some of it; Omitted is the number of
	// the others.
	Differences []string
	Omitted     int
}

// ExactlyOnce reports whether everything is as it must be.
func (r *Report) ExactlyOnce() bool {
	return len(r.Differences) == 0 && r.Exact == r.Words && r.WordsRead == r.Words && r.LinesRead == r.Lines && r.Fenced != ""
}

// report collects the result.
func (r *run) report(f *findings) *Report {
	s := r.tally.snapshot()
	out := &Report{
		Files: r.text.files, Lines: len(r.text.lines), Words: r.text.words, Distinct: len(r.text.counts),
		LinesRead: f.lines, WordsRead: f.words, CountsRead: f.counts, Hidden: f.hidden,
		Committed: s.committed, Aborted: s.aborted, Fenced: r.fenced, Restored: s.restored,
		Took: time.Since(r.begin), Exact: f.exact, Differences: f.differences, Omitted: f.omitted,
	}
	commits := r.tally.commits
	if len(commits) > 0 {
		out.LongestPause = longestPause(commits, commits[0], commits[len(commits)-1]).long
	}
	for i, k := range r.strikes {
		out.Killed = append(out.Killed, fmt.Sprintf("%s (%s)", k.whom, k.role))
		until := commits[len(commits)-1]
		if i+1 < len(r.strikes) {
			until = r.strikes[i+1].at
		}
		if p := longestPause(commits, k.at, until); p.long > 0 && p.long == out.LongestPause {
			out.PauseAfter = k.whom
		}
	}
	slices.Sort(out.Killed)
	return out
}

// Write prints the report for people.
func (r *Report) Write(w io.Writer) error {
	fenced := "NO"
	if r.Fenced != "" {
		fenced = "yes (" + r.Fenced + ", woken up in mid-transaction, tried to commit and was refused)"
	}
	after := ""
	if r.PauseAfter != "" {
		after = ", after " + r.PauseAfter + " was killed"
	}
	verdict := "yes"
	if !r.ExactlyOnce() {
		verdict = "NO"
	}
	c := output.Count[int]
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, field := range [][2]string{
		{"text", fmt.Sprintf("%s files, %s lines, %s words, %s of them different", c(r.Files), c(r.Lines), c(r.Words), c(r.Distinct))},
		{"records", fmt.Sprintf("%s committed (%s lines, %s words, %s counts); %s of aborted transactions, shown to nobody",
			c(r.LinesRead+r.WordsRead+r.CountsRead), c(r.LinesRead), c(r.WordsRead), c(r.CountsRead), c(r.Hidden))},
		{"transactions", fmt.Sprintf("%s committed, %s aborted", c(r.Committed), c(r.Aborted))},
		{"killed -9", strings.Join(r.Killed, "; ")},
		{"fenced zombie", fenced},
		{"state restored", fmt.Sprintf("%s counts read back by new workers", c(r.Restored))},
		{"longest pause", fmt.Sprintf("%s between two commits%s", output.Duration(r.LongestPause), after)},
		{"took", output.Duration(r.Took)},
		{"exactly once", fmt.Sprintf("%s, %s of %s words", verdict, c(r.Exact), c(r.Words))},
	} {
		fmt.Fprintf(tw, "%s:\t%s\n", field[0], output.Printable(field[1]))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, d := range r.Differences {
		if _, err := fmt.Fprintf(w, "  wrong: %s\n", output.Printable(d)); err != nil {
			return err
		}
	}
	if r.Omitted > 0 {
		if _, err := fmt.Fprintf(w, "  and %d more\n", r.Omitted); err != nil {
			return err
		}
	}
	return nil
}
