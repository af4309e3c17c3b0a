package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/oncelog/oncelog/cmd/internal/authn"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/pki"
)

// security is what a node's listeners and connections are secured with.
type security struct {
	// clients and peers are of the two listeners. Peers are nodes, by their
	// certificates; markers, enlistments and Raft are served to nobody else.
	clients, peers credentials.TransportCredentials
	// dial is of connections to other nodes.
	dial credentials.TransportCredentials
	// metrics is of the listener for metrics; nil: plain HTTP.
	metrics *tls.Config
}

// gate makes what stands before the services of the client address, without Authorize,
// and what decides there; nil: permissions are off.
func gate(a *config.Access, log *slog.Logger) (*authn.Gate, *access.Authority, error) {
	g := &authn.Gate{}
	if a.TokenKeys != "" {
		tokens, err := authn.OpenTokens(authn.TokenConfig{Keys: a.TokenKeys, Issuer: a.TokenIssuer, Audience: a.TokenAudience}, log)
		if err != nil {
			return nil, nil, fmt.Errorf("the keys of tokens cannot be used: %w", err)
		}
		g.Tokens = tokens
	}
	if a.Authorization != config.AuthorizationACL {
		return g, nil, nil
	}
	g.Strict = true
	return g, access.New(a.SuperUsers), nil
}

// secure reads a node's certificates. forMetrics says how metrics are served.
func secure(t *config.TLS, forMetrics string, log *slog.Logger) (security, error) {
	if !t.Enabled() {
		plain := insecure.NewCredentials()
		return security{clients: plain, peers: plain, dial: plain}, nil
	}
	own, err := pki.Open(pki.Files{Cert: t.Cert, Key: t.Key, CA: t.CA}, log)
	if err != nil {
		return security{}, fmt.Errorf("the node's certificate cannot be used, see tls_cert, tls_key and tls_ca; `oncelog cert node` makes one: %w", err)
	}
	if !pki.IsNode(own.Certificate()) {
		return security{}, fmt.Errorf("%s is no node's certificate, other nodes would refuse it: its organization is not %s; "+
			"`oncelog cert node` makes one", t.Cert, pki.NodeOrganization)
	}
	clients := own
	if t.ClientCA != "" {
		if clients, err = pki.Open(pki.Files{Cert: t.Cert, Key: t.Key, CA: t.ClientCA}, log); err != nil {
			return security{}, fmt.Errorf("the certificates of clients cannot be checked: %w", err)
		}
	}
	return security{
		clients: credentials.NewTLS(forClients(clients, t.ClientAuth)),
		peers:   credentials.NewTLS(own.Server(pki.Nodes)),
		dial:    dialing{credentials.NewTLS(own.AnyHost(pki.Nodes)), own.Client(pki.Nodes)},
		metrics: forScrapers(clients, forMetrics, t.ClientAuth),
	}, nil
}

// forClients is what a listener for clients is secured with.
func forClients(source *pki.Source, auth string) *tls.Config {
	switch auth {
	case config.ClientAuthNone:
		return source.OpenServer()
	case config.ClientAuthRequest:
		return source.RequestServer(pki.Anybody)
	default:
		return source.Server(pki.Anybody)
	}
}

// forScrapers is what the listener for metrics is secured with; nil: nothing. A scraper
// has no token to show, so to request a certificate is to require it.
func forScrapers(source *pki.Source, how, auth string) *tls.Config {
	switch {
	case how == config.MetricsTLSOff:
		return nil
	case how == config.MetricsTLSServer, how == config.MetricsTLSAuto && auth == config.ClientAuthNone:
		return source.OpenServer()
	default:
		return source.Server(pki.Anybody)
	}
}

// dialing secures connections to other nodes, each by the host that it is to.
type dialing struct {
	credentials.TransportCredentials
	to func(host string) *tls.Config
}

// ClientHandshake implements credentials.TransportCredentials.
func (d dialing) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	return credentials.NewTLS(d.to(host)).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (d dialing) Clone() credentials.TransportCredentials {
	return dialing{d.TransportCredentials.Clone(), d.to}
}
