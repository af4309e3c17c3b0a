package node_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/internal/pki"
)

// secured is a folder of certificates, and a cluster of one coordinator and one
// partition node that uses them.
type secured struct {
	*testing.T
	dir         string
	ca          *pki.Authority
	coordinator *node.Coordinator
	partition   *node.Partition
}

func newSecured(t *testing.T, clientAuth string) *secured {
	return newSecuredWith(t, clientAuth, config.Access{Authorization: config.AuthorizationNone})
}

// newSecuredWith is newSecured with permissions. The file of keys of tokens, if any, is
// there already.
func newSecuredWith(t *testing.T, clientAuth string, who config.Access) *secured {
	s := &secured{T: t, dir: t.TempDir()}
	s.ca = s.authority()
	s.trust(s.ca)
	s.issueNode()
	tls := config.TLS{Cert: s.file("node.crt"), Key: s.file("node.key"), CA: s.file("ca.crt"), ClientAuth: clientAuth}

	c := config.DefaultCoordinator()
	c.NodeID, c.DataDir, c.TLS, c.Access = 1, s.file("c"), tls, who
	c.ClientListen, c.PeerListen = s.freeAddresses()
	c.MetricsListen = "127.0.0.1:0"
	c.Members = []config.Member{{ID: 1, ClientAddress: c.ClientListen, PeerAddress: c.PeerListen}}
	var err error
	if s.coordinator, err = node.StartCoordinator(c, testLog()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.coordinator.Close(context.Background()) })
	p := config.DefaultPartition()
	p.NodeID, p.DataDir, p.TLS, p.Access = 1, s.file("p"), tls, who
	p.Coordinators = []string{c.PeerListen}
	p.ClientListen, p.PeerListen = s.freeAddresses()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.partition, err = node.StartPartition(ctx, p, testLog()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.partition.Close(context.Background()) })
	return s
}

// freeAddresses returns two addresses that nobody listens on.
func (s *secured) freeAddresses() (client, peer string) {
	s.Helper()
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	b, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	return a.Addr().String(), b.Addr().String()
}

func (s *secured) file(name string) string { return filepath.Join(s.dir, name) }

func (s *secured) write(name string, content []byte) {
	s.Helper()
	if err := os.WriteFile(s.file(name), content, 0o600); err != nil {
		s.Fatal(err)
	}
}

func (s *secured) authority() *pki.Authority {
	s.Helper()
	a, _, err := pki.NewAuthority("test", 100*24*time.Hour)
	if err != nil {
		s.Fatal(err)
	}
	return a
}

// trust has everybody trust these CAs.
func (s *secured) trust(all ...*pki.Authority) {
	s.Helper()
	var pem []byte
	for _, a := range all {
		pem = append(pem, a.Cert()...)
	}
	s.write("ca.crt", pem)
}

func (s *secured) issueNode() {
	s.Helper()
	p, err := s.ca.Node("node", []string{"127.0.0.1"}, 20*24*time.Hour)
	s.pair("node", p, err)
}

func (s *secured) pair(name string, p pki.Pair, err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
	s.write(name+".key", p.Key)
	s.write(name+".crt", p.Cert)
}

// client returns the source of a client's certificate that ca has signed.
func (s *secured) client(name string, ca *pki.Authority) *pki.Source {
	s.Helper()
	p, err := ca.Client(name, 20*24*time.Hour)
	s.pair(name, p, err)
	return s.open(pki.Files{Cert: s.file(name + ".crt"), Key: s.file(name + ".key"), CA: s.file("ca.crt")})
}

func (s *secured) open(f pki.Files) *pki.Source {
	s.Helper()
	source, err := pki.Open(f, testLog())
	if err != nil {
		s.Fatal(err)
	}
	return source
}

// ping asks a listener over a new connection; "" if it answers, else why not.
func (s *secured) ping(address string, creds credentials.TransportCredentials) string {
	s.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); err != nil {
		if status.Code(err) != codes.Unavailable {
			s.Errorf("a refused connection is %v", err)
		}
		return err.Error()
	}
	return ""
}

func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	s := newSecured(t, config.ClientAuthRequire)
	alice := credentials.NewTLS(s.client("alice", s.ca).AnyHost(pki.Nodes))
	mallory := credentials.NewTLS(s.client("mallory", s.authority()).AnyHost(pki.Nodes))
	nobody := credentials.NewTLS(s.open(pki.Files{CA: s.file("ca.crt")}).AnyHost(pki.Nodes))
	peer := credentials.NewTLS(s.open(pki.Files{Cert: s.file("node.crt"), Key: s.file("node.key"), CA: s.file("ca.crt")}).AnyHost(pki.Nodes))
	for _, n := range []struct{ kind, client, peer string }{
		{"coordinator", s.coordinator.ClientAddress(), s.coordinator.PeerAddress()},
		{"partition node", s.partition.ClientAddress(), s.partition.PeerAddress()},
	} {
		for _, tt := range []struct {
			who     string
			address string
			creds   credentials.TransportCredentials
			served  bool
		}{
			{"a client at the client port", n.client, alice, true},
			{"a client at the peer port", n.peer, alice, false},
			{"a node at the peer port", n.peer, peer, true},
			{"a stranger at the client port", n.client, mallory, false},
			{"a stranger at the peer port", n.peer, mallory, false},
			{"nobody at the client port", n.client, nobody, false},
			{"plain text at the client port", n.client, insecure.NewCredentials(), false},
			{"plain text at the peer port", n.peer, insecure.NewCredentials(), false},
		} {
			// What a client is told depends on who closes first.
			if said := s.ping(tt.address, tt.creds); (said == "") != tt.served {
				t.Errorf("%s, %s: %q, served is to be %v", n.kind, tt.who, said, tt.served)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	commitAndAbort(ctx, t, s.coordinator.ClientAddress(), client.WithTLS(s.client("alice", s.ca).AnyHost(pki.Nodes)))
	for _, tt := range []struct {
		who     string
		scraper *tls.Config // nil: plain HTTP
		served  bool
	}{
		{"a client", s.client("prometheus", s.ca).AnyHost(pki.Nodes), true},
		{"a stranger", s.client("mallory", s.authority()).AnyHost(pki.Nodes), false},
		{"nobody", s.open(pki.Files{CA: s.file("ca.crt")}).AnyHost(pki.Nodes), false},
		{"plain text", nil, false},
	} {
		if said := s.scrapes(ctx, tt.scraper); (said == "") != tt.served {
			t.Errorf("metrics for %s: %q, served is to be %v", tt.who, said, tt.served)
		}
	}
}

// scrapes reads the coordinator's metrics; "" if they are shown, else why not.
func (s *secured) scrapes(ctx context.Context, secured *tls.Config) string {
	s.Helper()
	scheme := "https"
	if secured == nil {
		scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+s.coordinator.MetricsAddress()+"/metrics", http.NoBody)
	if err != nil {
		s.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: secured}}).Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), "oncelog_raft_is_leader") {
		return fmt.Sprintf("%s, %v", res.Status, err)
	}
	return ""
}

func TestClientsWithoutCertificates(t *testing.T) {
	t.Parallel()
	s := newSecured(t, config.ClientAuthNone)
	nobody := credentials.NewTLS(s.open(pki.Files{CA: s.file("ca.crt")}).AnyHost(pki.Nodes))
	if said := s.ping(s.partition.ClientAddress(), nobody); said != "" {
		t.Error(said)
	}
	if said := s.ping(s.partition.PeerAddress(), nobody); said == "" {
		t.Error("the peer port serves whoever asks")
	}
}

// TestAnotherCA: a cluster goes from one CA to another without a restart, and a
// producer that works all the while loses nothing.
func TestAnotherCA(t *testing.T) {
	t.Parallel()
	s := newSecured(t, config.ClientAuthRequire)
	old := s.client("alice", s.ca)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server := s.coordinator.ClientAddress()
	commitAndAbort(ctx, t, server, client.WithTLS(old.AnyHost(pki.Nodes)))
	c, err := client.Dial(ctx, []string{server}, client.WithTLS(old.AnyHost(pki.Nodes)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	p, err := c.InitTransactions(ctx, "through")
	if err != nil {
		t.Fatal(err)
	}
	commit := func(when string) {
		t.Helper()
		if err := p.Transact(ctx, func(tx *client.Tx) error {
			return tx.Send(ctx, &client.Record{Topic: "orders", Value: []byte(when)})
		}); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	// A handshake looks at the files once a second.
	until := func(what string, served bool, source *pki.Source) {
		t.Helper()
		for ctx.Err() == nil {
			if (s.ping(server, credentials.NewTLS(source.AnyHost(pki.Nodes))) == "") == served {
				return
			}
		}
		t.Fatalf("%s: served is never %v", what, served)
	}
	commit("before")
	next := s.authority()
	s.trust(s.ca, next)
	bob := s.client("bob", next)
	until("a client of the new CA", true, bob)
	commit("both are trusted")
	before := s.ca
	s.ca = next
	s.issueNode()
	s.trust(next)
	late := s.client("late", before)
	until("a client of the old CA", false, late)
	until("a client of the new CA", true, bob)
	commit("over the connection from before")
}

func TestNodesRefuseWrongCertificates(t *testing.T) {
	t.Parallel()
	s := &secured{T: t, dir: t.TempDir()}
	s.ca = s.authority()
	s.trust(s.ca)
	s.client("alice", s.ca)
	for name, tt := range map[string]struct {
		tls  config.TLS
		want string
	}{
		"a client's":     {config.TLS{Cert: s.file("alice.crt"), Key: s.file("alice.key"), CA: s.file("ca.crt")}, "is no node's certificate"},
		"none":           {config.TLS{Cert: s.file("none.crt"), Key: s.file("alice.key"), CA: s.file("ca.crt")}, "none.crt"},
		"no CA's inside": {config.TLS{Cert: s.file("alice.crt"), Key: s.file("alice.key"), CA: s.file("alice.key")}, "there is no certificate in it"},
	} {
		c := config.DefaultCoordinator()
		c.NodeID, c.DataDir, c.TLS = 1, s.file("c"), tt.tls
		if _, err := node.StartCoordinator(c, testLog()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
