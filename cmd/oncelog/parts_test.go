package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
)

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100<<10) // longer than the buffer
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":           {"", nil},
		"one line":          {"a\n", []string{"a"}},
		"no line feed":      {"a\nb", []string{"a", "b"}},
		"empty lines":       {"\n\na\n", []string{"", "", "a"}},
		"carriage returns":  {"a\r\n", []string{"a\r"}},
		"longer than a buf": {long + "\n" + long, []string{long, long}},
		"the longest":       {strings.Repeat("y", maxLineBytes) + "\n", []string{strings.Repeat("y", maxLineBytes)}},
	} {
		lines := newLineReader(strings.NewReader(c.text))
		var got []string
		var err error
		for {
			var line []byte
			if line, err = lines.next(); err != nil {
				break
			}
			got = append(got, string(line))
		}
		if !errors.Is(err, io.EOF) || strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
			t.Errorf("%s: %d lines, %v", name, len(got), err)
		}
	}
	lines := newLineReader(strings.NewReader("ok\n" + strings.Repeat("y", maxLineBytes+1)))
	_, first := lines.next()
	_, err := lines.next()
	if first != nil || err == nil || lines.number != 2 {
		t.Errorf("a line that is too long: %v, %v, line %d", first, err, lines.number)
	}
}

func TestParseStart(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(fakeTime)
	offset := func(n uint64) start { return start{offset: &n} }
	for text, want := range map[string]start{
		"": {}, "earliest": {}, "latest": {latest: true}, "0": offset(0), "17": offset(17),
		"15m": {time: now.Add(-15 * time.Minute)}, "2023-11-14T22:13:20Z": {time: now.UTC()},
	} {
		if got, err := parseStart("from", text, now); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"-1", "-5m", "tomorrow", "1.5"} {
		if got, err := parseStart("from", text, now); err == nil {
			t.Errorf("%q is accepted as %+v", text, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	failure := func(code oncelogv1.ErrorCode) error {
		return about{"x", fmt.Errorf("wrapped: %w", apierrors.New(code, ""))}
	}
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"nothing":         {nil, exitOK},
		"plain":           {errors.New("x"), exitFailure},
		"refused":         {failure(oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS), exitFailure},
		"unknown topic":   {failure(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC), exitNotFound},
		"unavailable":     {failure(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE), exitNoAnswer},
		"unknown result":  {failure(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT), exitNoAnswer},
		"timed out":       {about{"x", context.DeadlineExceeded}, exitNoAnswer},
		"unknown outcome": {&helpError{&client.Error{Err: client.ErrOutcomeUnknown}, "ask"}, exitNoAnswer},
		"usage":           {&usageError{errors.New("x")}, exitUsage},
		"settings":        {&config.Error{Problems: []config.Problem{{Text: "wrong"}}}, exitUsage},
		"not well":        {errNotWell, exitFailure},
	} {
		a := &app{err: io.Discard}
		if got := a.finish(t.Context(), c.err); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := (&app{err: io.Discard}).finish(ended, errors.New("x")); got != exitInterrupted {
		t.Errorf("interrupted: %d", got)
	}
	var said bytes.Buffer
	unknown := &helpError{&client.Error{Err: client.ErrOutcomeUnknown}, "ask how 1/2/3 ended"}
	if got := (&app{err: &said}).finish(ended, unknown); got != exitNoAnswer || !strings.Contains(said.String(), "ask how 1/2/3 ended") {
		t.Errorf("interrupted while committing: %d, said %q", got, said.String())
	}
}

// watched is a stream that tells when something has been written to it.
type watched struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func newWatched() *watched { return &watched{wrote: make(chan struct{}, 1)} }

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.wrote <- struct{}{}:
	default:
	}
	return w.text.Write(b)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// TestInterrupting: following ends well; producing from a standard input that
// stays open ends, says what it stored, and tells the shell that it was
// interrupted.
func TestInterrupting(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	ctx, interrupt := context.WithCancel(t.Context())
	in, typing := io.Pipe()
	defer typing.Close()
	out, errs := newWatched(), newWatched()
	a := &app{in: in, out: out, err: errs, now: time.Now, environ: []string{"ONCELOG_SERVERS=" + f.address}}
	produced := make(chan int)
	go func() { produced <- a.run(ctx, []string{"produce", "orders", "-p", "0"}) }()
	if _, err := io.WriteString(typing, "one\ntwo\n"); err != nil {
		t.Fatal(err)
	}

	b := &app{in: strings.NewReader(""), out: out, err: io.Discard, now: time.Now, environ: a.environ}
	// The fake sends what it has once, so wait until it has it.
	for n := uint64(0); n < 2; {
		f.mu.Lock()
		n = f.end(100)
		f.mu.Unlock()
		runtime.Gosched()
	}
	followed := make(chan int)
	go func() { followed <- b.run(ctx, []string{"consume", "orders", "--follow"}) }()
	<-out.wrote
	interrupt()
	if code := <-followed; code != exitOK || out.String() != "one\ntwo\n" {
		t.Errorf("follow: exit %d, printed %q", code, out.String())
	}
	if code := <-produced; code != exitInterrupted || !strings.Contains(errs.String(), "the first 2 lines are stored") {
		t.Errorf("produce: exit %d, said %q", code, errs.String())
	}
}

// TestProgress: on a terminal progress is drawn over itself and removed.
func TestProgress(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	var errs bytes.Buffer
	a := &app{
		in: strings.NewReader("a\nb\n"), out: io.Discard, err: &errs, now: time.Now, interactive: true,
		environ: []string{"ONCELOG_SERVERS=" + f.address},
	}
	if code := a.run(t.Context(), []string{"produce", "orders"}); code != exitOK {
		t.Fatal(code, errs.String())
	}
	if got := errs.String(); !strings.HasPrefix(got, "\r\x1b[K1 record, 1 B, ") || !strings.Contains(got, "/s\r\x1b[K2 records are stored") {
		t.Errorf("drew %q", got)
	}
}

// TestServersRefuseWrongSettings before they open anything.
func TestServersRefuseWrongSettings(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"coordinator":                           "members is missing: give --member",
		"partition --node-id 1":                 "coordinators is missing: give --coordinator",
		"dev --replicas 9":                      "replicas is \"9\": it must be a whole number from 1 to 7",
		"coordinator --node-id 1 --member 1":    "ID=CLIENT_ADDRESS/PEER_ADDRESS",
		"partition extra":                       "takes no arguments, and was given \"extra\"",
		"dev --data-dir /dev/null/x --host ::1": "/dev/null/x",
	} {
		var errs bytes.Buffer
		a := &app{out: io.Discard, err: &errs, now: time.Now}
		if code := a.run(t.Context(), strings.Fields(args)); code == exitOK || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit %d, said %q", args, code, errs.String())
		}
	}
}
