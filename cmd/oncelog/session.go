package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/output"
	"github.com/oncelog/oncelog/internal/pki"
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
	options := []client.Option{client.WithClientID(clientID)}
	secured, err := s.tls()
	if err != nil {
		return nil, err
	}
	if secured != nil {
		options = append(options, client.WithTLS(secured))
	}
	if s.cfg.Token != "" {
		options = append(options, client.WithTokenFile(s.cfg.Token))
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	waiting := time.AfterFunc(silence, func() {
		fmt.Fprintf(s.err, "no coordinator at %s answers yet; trying for %s\n", strings.Join(s.cfg.Servers, ", "), s.cfg.Timeout)
	})
	defer waiting.Stop()
	c, err := client.Dial(ctx, s.cfg.Servers, options...)
	if err != nil {
		return nil, s.unreachable(err)
	}
	s.client = c
	return c, nil
}

// tls returns what connections are secured with; nil: nothing.
func (s *session) tls() (*tls.Config, error) {
	if s.cfg.CA == "" {
		return nil, nil
	}
	source, err := pki.Open(pki.Files{Cert: s.cfg.Cert, Key: s.cfg.Key, CA: s.cfg.CA}, slog.New(slog.NewTextHandler(s.err, nil)))
	if err != nil {
		return nil, &helpError{fmt.Errorf("the certificates cannot be used: %w", err), certificateHelp(err)}
	}
	return source.AnyHost(pki.Nodes), nil
}

// certificateHelp says what to do about files of certificates that cannot be used.
func certificateHelp(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "Correct --tls-ca, --tls-cert or --tls-key (or ONCELOG_TLS_CA, _CERT, _KEY); `oncelog cert client` makes such files."
	case errors.Is(err, fs.ErrPermission):
		return "Give the file to the user that runs this command, or name another."
	default:
		return "`oncelog cert client` makes a certificate and its key, signed by a CA that `oncelog cert ca` made."
	}
}

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
		help:  s.connectionHelp(err),
	}
}

// connectionHelp says what to do about a connection that does not come up. What is
// wrong with certificates only the texts of crypto/tls and gRPC tell.
func (s *session) connectionHelp(err error) string {
	text := err.Error()
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
	}
	switch {
	case s.cfg.CA == "" && has("error reading server preface"):
		return "The cluster seems to speak TLS: give --tls-ca, and --tls-cert and --tls-key if it asks for certificates."
	case has("first record does not look like a TLS handshake"):
		return "The cluster speaks plain text: leave --tls-ca out."
	case has("certificate required"):
		return "The cluster asks for a certificate: give --tls-cert and --tls-key; `oncelog cert client` makes such files."
	case has("remote error: tls"):
		return "The node refuses this certificate: the node's tls_client_ca, or tls_ca, must have its CA. Peer addresses take nodes only."
	case s.cfg.CA != "" && has("broken pipe", "connection reset", "error reading server preface"):
		// Who is refused has ended its half of the handshake, and may find the connection closed before it reads why.
		return "The node closes the connection; most likely the node refuses this certificate: its tls_client_ca, or tls_ca, must have its CA. Peer addresses take nodes only."
	case has("expired or is not yet valid"):
		return "Its certificate, or a clock, is wrong: compare the times with this machine's clock; if that is right, make the node a new certificate (`oncelog cert node`)."
	case has("x509:", "no node's"):
		return "This program does not trust the node: --tls-ca must have the CA of its certificate, and that must name the host in --servers."
	default:
		return "Start a cluster with `oncelog dev`, or name its coordinators with --servers or ONCELOG_SERVERS."
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
	done := s.meanwhile(cmp.Or(what, "the cluster"))
	answer, err := call(ctx, c.Admin())
	done()
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
