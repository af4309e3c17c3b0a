package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// Exit codes, as rootLong documents them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitNoAnswer    = 4
	exitInterrupted = 130
)

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// errNotWell ends a command that has printed what is wrong.
var errNotWell = errors.New("not everything is well")

// helpError is an error with advice of its own.
type helpError struct {
	error
	help string
}

func (e *helpError) Unwrap() error { return e.error }

// finish prints an error, with what to do about it, and returns the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var usage *usageError
	var wrong *config.Error
	switch {
	case errors.Is(err, errNotWell):
		return exitFailure
	case errors.As(err, &usage):
		a.complain(err.Error(), "")
		return exitUsage
	case errors.As(err, &wrong):
		for _, p := range wrong.Problems {
			a.complain(p.String(), "")
		}
		return exitUsage
	case ctx.Err() != nil && !errors.Is(err, client.ErrOutcomeUnknown): // which must not get lost
		a.complain("interrupted", "")
		return exitInterrupted
	}
	text, help := explain(err)
	a.complain(text, help)
	return exitCode(err)
}

func (a *app) complain(text, help string) {
	fmt.Fprintf(a.err, "error: %s\n", output.Printable(text))
	if help != "" {
		fmt.Fprintf(a.err, "help:  %s\n", help)
	}
}

// note says what is worth knowing and no failure.
func (a *app) note(text string) { fmt.Fprintf(a.err, "note:  %s\n", output.Printable(text)) }

// explain returns an error for people: what it is about, the server's own words
// with its code and details, and what the table of errors says to do.
func explain(err error) (text, help string) {
	what := ""
	var a about
	if errors.As(err, &a) && a.what != "" {
		what = a.what + ": "
	}
	var e *apierrors.Error
	var c *client.Error
	switch {
	case errors.As(err, &e):
		text = fmt.Sprintf("%s%s (%s)", what, e.Message, apierrors.Name(e.Code))
		if d := details(e, text); d != "" {
			text += ": " + d
		}
		help = apierrors.Lookup(e.Code).Help
	case errors.As(err, &c):
		text = fmt.Sprintf("%s%v", what, c.Err)
	default:
		text = err.Error()
	}
	if errors.Is(err, syscall.ENOSPC) {
		help = "The disk is full: make room, but delete nothing in a data directory; a node then goes on where it was."
	}
	var advised *helpError
	if errors.As(err, &advised) {
		help = advised.help
	}
	return plain.Replace(text), help
}

// plain takes out what only programmers of the transport want to read.
var plain = strings.NewReplacer(
	`connection error: desc = "transport: Error while dialing: `, `"`,
	"context deadline exceeded; last answer: ", "timed out; the last answer was ",
	"context deadline exceeded", "timed out",
)

// details returns what an error carries besides its text, except where the
// leader is: the command has asked there already.
func details(e *apierrors.Error, text string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		switch key {
		case apierrors.KeyLeaderNode, apierrors.KeyLeaderAddress, apierrors.KeyTerm:
		default:
			if !strings.Contains(text, e.Metadata[key]) {
				parts = append(parts, key+" "+e.Metadata[key])
			}
		}
	}
	return strings.Join(parts, ", ")
}

// exitCode returns the code of a failure of a command that was understood.
func exitCode(err error) int {
	switch apierrors.CodeOf(err) {
	case oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD:
		return exitNotFound
	case oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE:
		return exitNoAnswer
	}
	var underWay *errUnderWay
	if errors.As(err, &underWay) {
		return exitNoAnswer
	}
	if apierrors.ClassOf(err) == apierrors.UnknownOutcome || errors.Is(err, client.ErrOutcomeUnknown) {
		return exitNoAnswer
	}
	return exitFailure
}
