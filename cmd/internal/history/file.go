package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The file is JSON, one value a line: a header, the events, the audit, and a last
// line that counts the others, so that a file that was cut off shows.
const (
	formatName = "oncelog-history"
	// FormatVersion is written into the header. Another one is refused.
	FormatVersion = 1
	// MaxLine is the longest line in bytes.
	MaxLine = 16 << 20
	// MaxLines is the largest number of lines: events, records, and the rest.
	MaxLines = 50_000_000
	// MaxLabels is the largest number of labels.
	MaxLabels = 100
)

// Errors of [Load]. They are wrapped with detail; test with errors.Is.
var (
	// ErrFormat: not a history, or one of another version.
	ErrFormat = errors.New("history: not a history of this version")
	// ErrTruncated: the file ends early. What Load returns with it is what was there.
	ErrTruncated = errors.New("history: the file ends early")
)

type header struct {
	Format  string            `json:"format"`
	Version int               `json:"version"`
	Labels  map[string]string `json:"labels,omitempty"`
	Rules   Rules             `json:"rules,omitzero"`
}

// line is any line but the header; one of its fields is set.
type line struct {
	Event *Event `json:"event,omitempty"`
	// Audit says that there is one, whatever it holds; its fields say which of its
	// lists are known and empty.
	Audit   *auditLine     `json:"audit,omitempty"`
	Log     *Log           `json:"log,omitempty"`
	Record  *LogRecord     `json:"record,omitempty"` // of the last log
	Outcome *TxOutcome     `json:"outcome,omitempty"`
	Offset  *GroupPosition `json:"offset,omitempty"`
	Replica *ReplicaState  `json:"replica,omitempty"`
	End     *endLine       `json:"end,omitempty"`
}

type auditLine struct {
	Offsets bool `json:"offsets"` // Audit.Offsets is not nil
}

type endLine struct {
	Lines int `json:"lines"`
}

// Save writes a history. It fails at the maxima above, which Load has, too.
func Save(w io.Writer, h *History) error {
	if len(h.Labels) > MaxLabels {
		return fmt.Errorf("history: %d labels: at most %d", len(h.Labels), MaxLabels)
	}
	s := saver{w: bufio.NewWriterSize(w, 1<<20)}
	s.put(header{Format: formatName, Version: FormatVersion, Labels: h.Labels, Rules: h.Rules})
	for i := range h.Events {
		s.put(line{Event: &h.Events[i]})
	}
	if a := h.Audit; a != nil {
		s.audit(a)
	}
	s.put(line{End: &endLine{Lines: s.lines}})
	if s.err == nil {
		s.err = s.w.Flush()
	}
	if s.err != nil {
		return fmt.Errorf("history: %w", s.err)
	}
	return nil
}

// saver writes lines; the first failure sticks.
type saver struct {
	w     *bufio.Writer
	lines int
	err   error
}

func (s *saver) put(v any) {
	if s.err != nil {
		return
	}
	b, err := json.Marshal(v)
	switch {
	case err != nil:
		s.err = err
		return
	case len(b) >= MaxLine || s.lines >= MaxLines:
		s.err = fmt.Errorf("line %d of %d bytes: at most %d lines of %d bytes", s.lines+1, len(b), MaxLines, MaxLine)
		return
	}
	s.lines++
	if _, s.err = s.w.Write(b); s.err == nil {
		s.err = s.w.WriteByte('\n')
	}
}

func (s *saver) audit(a *Audit) {
	s.put(line{Audit: &auditLine{Offsets: a.Offsets != nil}})
	for i := range a.Logs {
		s.put(line{Log: &a.Logs[i]})
		for j := range a.Logs[i].Records {
			s.put(line{Record: &a.Logs[i].Records[j]})
		}
	}
	for i := range a.Outcomes {
		s.put(line{Outcome: &a.Outcomes[i]})
	}
	for i := range a.Offsets {
		s.put(line{Offset: &a.Offsets[i]})
	}
	for i := range a.Replicas {
		s.put(line{Replica: &a.Replicas[i]})
	}
}

// Load reads what [Save] wrote. Errors: ErrFormat; ErrTruncated, with what the file
// has; those of r.
func Load(r io.Reader) (*History, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), MaxLine)
	if !lines.Scan() {
		return nil, loadError(lines.Err(), ErrFormat, "no header")
	}
	var head header
	if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	if head.Format != formatName || head.Version != FormatVersion || len(head.Labels) > MaxLabels {
		return nil, fmt.Errorf("%w: %q version %d with %d labels", ErrFormat, head.Format, head.Version, len(head.Labels))
	}
	h := &History{Labels: head.Labels, Rules: head.Rules}
	for n := 1; lines.Scan(); n++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return h, fmt.Errorf("%w: line %d: %w", ErrTruncated, n+1, err)
		}
		if l.End != nil {
			if l.End.Lines != n || lines.Scan() {
				return h, fmt.Errorf("%w: %d lines before the last one, which counts %d", ErrFormat, n, l.End.Lines)
			}
			return h, nil
		}
		if !h.take(&l) || n >= MaxLines {
			return h, fmt.Errorf("%w: line %d", ErrFormat, n+1)
		}
	}
	return h, loadError(lines.Err(), ErrTruncated, "no last line")
}

func loadError(err, otherwise error, text string) error {
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%w: a line of more than %d bytes", ErrFormat, MaxLine)
	case err != nil:
		return fmt.Errorf("history: %w", err)
	}
	return fmt.Errorf("%w: %s", otherwise, text)
}

// take adds a line; false: it does not belong there.
func (h *History) take(l *line) bool {
	switch {
	case l.Event != nil:
		h.Events = append(h.Events, *l.Event)
		return h.Audit == nil
	case l.Audit != nil:
		if h.Audit != nil {
			return false
		}
		h.Audit = &Audit{}
		if l.Audit.Offsets {
			h.Audit.Offsets = []GroupPosition{}
		}
		return true
	case h.Audit == nil:
		return false
	}
	a := h.Audit
	switch {
	case l.Log != nil:
		a.Logs = append(a.Logs, *l.Log)
	case l.Record != nil && len(a.Logs) > 0:
		last := &a.Logs[len(a.Logs)-1]
		last.Records = append(last.Records, *l.Record)
	case l.Outcome != nil:
		a.Outcomes = append(a.Outcomes, *l.Outcome)
	case l.Offset != nil:
		a.Offsets = append(a.Offsets, *l.Offset)
	case l.Replica != nil:
		a.Replicas = append(a.Replicas, *l.Replica)
	default:
		return false
	}
	return true
}
