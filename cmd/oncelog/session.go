package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// session is what a command has of a cluster: a client, made when it is needed,
// and the form in which results are printed.
type session struct {
	*app
	cfg    *config.Client
	client *client.Client
}

func newSession(a *app, cfg *config.Client) *session { return &session{app: a, cfg: cfg} }

func (s *session) close() {
	if s.client != nil {
		_ = s.client.Close() // nothing is under way any more
	}
}

// clientID is how operators see this program.
const clientID = "oncelog-cli"

// dial connects to the cluster, if it is not connected yet.
func (s *session) dial(ctx context.Context) (*client.Client, error) {
	if s.client != nil {
		return s.client, nil
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	waiting := time.AfterFunc(patience, func() {
		fmt.Fprintf(s.err, "no coordinator at %s answers yet; trying for %s\n", strings.Join(s.cfg.Servers, ", "), s.cfg.Timeout)
	})
	defer waiting.Stop()
	c, err := client.Dial(ctx, s.cfg.Servers, client.WithClientID(clientID))
	if err != nil {
		return nil, s.unreachable(err)
	}
	s.client = c
	return c, nil
}

// patience is how long nothing is said when no server answers.
const patience = 2 * time.Second

// limit bounds a context by the session's timeout.
func (s *session) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.Timeout)
}

// unreachable explains that no server answers.
func (s *session) unreachable(err error) error {
	if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_INTERNAL { // such as UNIMPLEMENTED, of a partition node
		return &helpError{
			error: about{fmt.Sprintf("%s answers, but not as a coordinator answers clients", strings.Join(s.cfg.Servers, ", ")), err},
			help:  "Give --servers or ONCELOG_SERVERS the client addresses of coordinator nodes, not their peer addresses or those of partition nodes.",
		}
	}
	return &helpError{
		error: about{fmt.Sprintf("no coordinator at %s answered within %s", strings.Join(s.cfg.Servers, ", "), s.cfg.Timeout), err},
		help:  "Start a cluster with `oncelog dev`, or name its coordinators with --servers or ONCELOG_SERVERS.",
	}
}

// ask makes one administrative call; what names what it is about, for errors.
func ask[T any](ctx context.Context, s *session, what string, call func(context.Context, *client.Admin) (T, error)) (T, error) {
	var none T
	c, err := s.dial(ctx)
	if err != nil {
		return none, err
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	answer, err := call(ctx, c.Admin())
	if err != nil {
		return none, about{what, err}
	}
	return answer, nil
}

// about is an error with what it is about.
type about struct {
	what string
	err  error
}

// Error returns both.
func (a about) Error() string {
	if a.what == "" {
		return a.err.Error()
	}
	return a.what + ": " + a.err.Error()
}

// Unwrap returns the error.
func (a about) Unwrap() error { return a.err }

// print prints a result in the form that was asked for: v for programs, table
// for people.
func (s *session) print(v any, table func(w io.Writer) error) error {
	switch s.cfg.Output {
	case config.OutputJSON:
		return output.JSON(s.out, v)
	case config.OutputYAML:
		return output.YAML(s.out, v)
	default:
		return table(s.out)
	}
}

// maxPage is the contract's longest page.
const maxPage = 1000

// pages gathers a list, of at most limit elements; 0: all.
func pages[T any](limit int, fetch func(size uint32, token string) ([]T, string, error)) ([]T, error) {
	var all []T
	for token := ""; ; {
		size := maxPage
		if limit > 0 {
			size = min(limit-len(all), maxPage)
		}
		items, next, err := fetch(uint32(size), token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		token = next
	}
}

// stall ends a context when nothing has happened for the session's timeout.
// progress says that something has.
func (s *session) stall(ctx context.Context) (_ context.Context, progress func(), stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(s.cfg.Timeout, func() { cancel(context.DeadlineExceeded) })
	return ctx, func() { timer.Reset(s.cfg.Timeout) }, func() { timer.Stop(); cancel(nil) }
}
