package authn

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

// Gate stands before the services of a client address.
type Gate struct {
	// Tokens checks bearer tokens; nil: none are taken.
	Tokens *Tokens
	// Strict says that who a caller claims to be matters: a certificate or token that
	// names nobody is refused. Without it, the caller is anonymous.
	Strict bool
	// Authorize decides whether a call may be made; req is nil where it comes in parts,
	// which the service decides about.
	Authorize func(ctx context.Context, method string, req any) error
}

// open reports whether a method is for whoever connects: what tells whether the node is
// well, and what there is to be called.
func open(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.Health/") || strings.HasPrefix(method, "/grpc.reflection.")
}

// Unary is the gate for calls with one request.
func (g *Gate) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if open(info.FullMethod) {
		return handler(ctx, req)
	}
	who, err := g.Principal(ctx)
	if err != nil {
		return nil, err
	}
	ctx = access.With(ctx, who)
	if err := g.Authorize(ctx, info.FullMethod, req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// Stream is the gate for streams.
func (g *Gate) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if open(info.FullMethod) {
		return handler(srv, ss)
	}
	who, err := g.Principal(ss.Context())
	if err != nil {
		return err
	}
	ctx := access.With(ss.Context(), who)
	if err := g.Authorize(ctx, info.FullMethod, nil); err != nil {
		return err
	}
	return handler(srv, &stream{ServerStream: ss, ctx: ctx})
}

// stream is one whose context knows who calls.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }

// Principal finds out who calls: whom a token names, or else the common name of the
// certificate, or else nobody. A token that is sent must be good, whatever certificate
// there is.
func (g *Gate) Principal(ctx context.Context) (access.Principal, error) {
	nobody := access.Principal{Name: acl.Anonymous}
	secured, overTLS := tlsOf(ctx)
	if token, sent := bearer(ctx); sent && (g.Tokens != nil || g.Strict) {
		switch {
		case g.Tokens == nil:
			return nobody, failed("this node takes no tokens")
		case !overTLS:
			return nobody, failed("a token is taken over TLS only")
		}
		p, err := g.Tokens.Check(token)
		if err != nil {
			return nobody, failed("the token is refused: " + err.Error())
		}
		return p, nil
	}
	if !overTLS || len(secured.State.PeerCertificates) == 0 {
		return nobody, nil
	}
	name := secured.State.PeerCertificates[0].Subject.CommonName
	switch {
	case validName(name):
		return access.Principal{Name: name}, nil
	case g.Strict:
		return nobody, failed("the common name of the certificate is not the name of anybody")
	}
	return nobody, nil
}

func tlsOf(ctx context.Context) (credentials.TLSInfo, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return credentials.TLSInfo{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return info, ok
}

// bearer returns the token of a call. Several are none that is good.
func bearer(ctx context.Context) (token string, sent bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) == 0 {
		return "", false
	}
	const scheme = "bearer "
	if len(values) > 1 || len(values[0]) < len(scheme) || !strings.EqualFold(values[0][:len(scheme)], scheme) {
		return "", true
	}
	return strings.TrimSpace(values[0][len(scheme):]), true
}

// validName reports whether a name is one that a rule may speak of, and stands for
// nobody else.
func validName(name string) bool {
	return name != "" && len(name) <= acl.MaxPrincipalBytes && name != acl.Any && name != acl.Anonymous
}

func failed(why string) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_AUTHENTICATION_FAILED, why, apierrors.KeyWhy, why)
}
