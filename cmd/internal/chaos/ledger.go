package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// ledgerHead begins a ledger that is not there yet.
const ledgerHead = `# Reliability ledger

What was run to find bugs, and what was found. Lines are added at the end and never changed.

| date (UTC) | commit | instrument | seeds | hours | scenarios | found |
| --- | --- | --- | --- | --- | --- | --- |
`

// maxFound is how many violations a line of the ledger names.
const maxFound = 3

// Record adds a line about a session to a ledger, a table in Markdown at the end
// of a file, which is created if it is missing.
func (s *Summary) Record(path string, begun time.Time, commit string) error {
	found := "nothing"
	if n := len(s.Violations); n > 0 {
		var first []string
		for _, v := range s.Violations[:min(n, maxFound)] {
			line, _, _ := strings.Cut(v, "\n")
			first = append(first, strings.ReplaceAll(line, "|", "/"))
		}
		found = fmt.Sprintf("%d violations: %s", n, strings.Join(first, "; "))
	}
	line := fmt.Sprintf("| %s | %s | chaos, real processes | %d–%d | %.2f wall | %d runs, %d faults of %d kinds, %d transactions, %d records | %s |\n",
		begun.UTC().Format("2006-01-02 15:04"), commit, s.FirstSeed, s.LastSeed(), s.Took.Hours(), s.Runs, s.Injected(), len(s.Faults),
		s.Stats.Transactions, s.Stats.Records, found)
	return appendLine(path, line)
}

// appendLine adds a line at the end of a ledger and changes nothing before it.
func appendLine(path, line string) error {
	before, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		line = ledgerHead + line
	case err != nil:
		return err
	case len(before) > 0 && before[len(before)-1] != '\n':
		line = "\n" + line
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
