package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

// kit is a folder of files, and a CA.
type kit struct {
	*testing.T
	dir string
	ca  *Authority
	log bytes.Buffer
}

func newKit(t *testing.T) *kit {
	k := &kit{T: t, dir: t.TempDir()}
	k.ca = k.authority("ca")
	return k
}

func (k *kit) authority(file string) *Authority {
	k.Helper()
	a, p, err := NewAuthority("a CA", 365*day)
	if err != nil {
		k.Fatal(err)
	}
	k.write(file+".crt", p.Cert)
	return a
}

// write puts a file in the place of another, which then has another time.
func (k *kit) write(name string, content []byte) string {
	k.Helper()
	path := filepath.Join(k.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		k.Fatal(err)
	}
	return path
}

func (k *kit) pair(name string, p Pair, err error) Files {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
	return Files{k.write(name+".crt", p.Cert), k.write(name+".key", p.Key), filepath.Join(k.dir, "ca.crt")}
}

func (k *kit) node(ca *Authority, name string) Files {
	k.Helper()
	p, err := ca.Node(name, []string{"localhost", "127.0.0.1"}, 30*day)
	return k.pair(name, p, err)
}

func (k *kit) client(ca *Authority, name string) Files {
	k.Helper()
	p, err := ca.Client(name, 30*day)
	return k.pair(name, p, err)
}

// server is one that is no node of ours.
func (k *kit) server(ca *Authority, name string) Files {
	k.Helper()
	template, err := newTemplate(pkix.Name{CommonName: name}, 30*day)
	if err != nil {
		k.Fatal(err)
	}
	template.DNSNames, template.ExtKeyUsage = []string{"localhost"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	p, err := ca.issue(template)
	return k.pair(name, p, err)
}

func (k *kit) open(f Files) *Source {
	k.Helper()
	s, err := Open(f, slog.New(slog.NewTextHandler(&k.log, nil)))
	if err != nil {
		k.Fatal(err)
	}
	s.every = 0 // look at every handshake
	return s
}

// shake connects a client with a server, and returns what each of them says.
func (k *kit) shake(server *tls.Config, client func(host string) *tls.Config, name string) (serverErr, clientErr error) {
	k.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		a, err := l.Accept()
		if err == nil {
			defer func() { _ = a.Close() }()
			_ = a.SetDeadline(time.Now().Add(time.Minute))
			c := tls.Server(a, server)
			if err = c.Handshake(); err == nil {
				_, err = c.Write([]byte("x")) // a client learns by it that it was taken
			}
		}
		done <- err
	}()
	c, clientErr := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", l.Addr().String(), client(name))
	if clientErr == nil {
		_, clientErr = io.ReadFull(c, make([]byte, 1))
		_ = c.Close()
	}
	return <-done, clientErr
}

// anyHost is AnyHost with the name set as gRPC does.
func anyHost(s *Source, who Who) func(host string) *tls.Config {
	return func(host string) *tls.Config {
		cfg := s.AnyHost(who).Clone()
		cfg.ServerName = host
		return cfg
	}
}

func TestWhoIsTaken(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	other := k.authority("other")
	node, client := k.open(k.node(k.ca, "node")), k.open(k.client(k.ca, "alice"))
	stranger, foreign := k.open(k.client(other, "mallory")), k.open(k.node(other, "foreign"))
	bare := k.open(Files{CA: filepath.Join(k.dir, "ca.crt")})
	posing := k.open(k.node(k.ca, "node2"))
	for _, tt := range []struct {
		name       string
		server     *tls.Config
		client     func(host string) *tls.Config
		host       string
		wantServer string
		wantClient string
	}{
		{"a client at the client port", node.Server(Anybody), client.Client(Nodes), "localhost", "", ""},
		{"a node at the peer port", node.Server(Nodes), posing.Client(Nodes), "127.0.0.1", "", ""},
		{"a client at the peer port", node.Server(Nodes), client.Client(Nodes), "localhost", `the certificate of "alice" is no node's`, "bad certificate"},
		{"no certificate", node.Server(Anybody), bare.Client(Nodes), "localhost", "didn't provide a certificate", "certificate"},
		{"no certificate where none is asked for", node.OpenServer(), bare.Client(Anybody), "localhost", "", ""},
		{"a client of another CA", node.Server(Anybody), stranger.Client(Nodes), "localhost", "unknown authority", "certificate"},
		{"a server of another CA", foreign.OpenServer(), client.Client(Anybody), "localhost", "bad certificate", "unknown authority"},
		{"a server under another name", node.Server(Anybody), client.Client(Nodes), "example.com", "bad certificate", "not example.com"},
		// Of addresses a handshake tells nothing: every certificate was good for them.
		{"a server at another address", node.Server(Nodes), posing.Client(Nodes), "192.0.2.1", "bad certificate", "not 192.0.2.1"},
		{"a server at any address", node.Server(Nodes), posing.Client(Nodes), "", "bad certificate", "which host"},
		{"any host, by name", node.Server(Anybody), anyHost(client, Nodes), "localhost", "", ""},
		{"any host, by address", node.Server(Anybody), anyHost(client, Nodes), "127.0.0.1", "", ""},
		{"any host, under another name", node.Server(Anybody), anyHost(client, Nodes), "example.com", "bad certificate", "not example.com"},
		{"any host, at another address", node.Server(Anybody), anyHost(client, Nodes), "192.0.2.1", "bad certificate", "not 192.0.2.1"},
		{"any host of another CA", foreign.OpenServer(), anyHost(client, Anybody), "localhost", "bad certificate", "unknown authority"},
		{"any host that is no node", k.open(k.server(k.ca, "web")).OpenServer(), anyHost(client, Nodes), "localhost", "bad certificate", `the certificate of "web" is no node's`},
		{"a client that serves", client.OpenServer(), node.Client(Nodes), "localhost", "bad certificate", "not valid for any names"},
	} {
		serverErr, clientErr := k.shake(tt.server, tt.client, tt.host)
		for _, e := range []struct {
			side string
			err  error
			want string
		}{{"server", serverErr, tt.wantServer}, {"client", clientErr, tt.wantClient}} {
			switch {
			case e.want == "" && e.err == nil:
			case e.want == "" || e.err == nil || !strings.Contains(e.err.Error(), e.want):
				t.Errorf("%s: the %s says %v, want %q", tt.name, e.side, e.err, e.want)
			}
		}
	}
}

// TestRenewal: new files are used at the next handshake, without a restart; bad ones
// are not, and the ones before go on.
func TestRenewal(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	server, client := k.open(k.node(k.ca, "node")), k.open(k.client(k.ca, "alice"))
	if s, c := k.shake(server.Server(Anybody), client.Client(Nodes), "localhost"); s != nil || c != nil {
		t.Fatal(s, c)
	}
	listening, connecting := server.Server(Anybody), client.Client(Nodes)
	first := server.Certificate()

	k.node(k.ca, "node") // the same files
	if s, c := k.shake(listening, connecting, "localhost"); s != nil || c != nil {
		t.Fatal(s, c)
	}
	if server.Certificate().Equal(first) {
		t.Error("the first certificate is still in use")
	}

	second := server.Certificate()
	k.write("node.key", []byte("half a fi"))
	for range 3 {
		if s, c := k.shake(listening, connecting, "localhost"); s != nil || c != nil {
			t.Fatal(s, c)
		}
	}
	if !server.Certificate().Equal(second) {
		t.Error("a certificate without its key is in use")
	}
	if n := strings.Count(k.log.String(), "cannot be used"); n != 1 {
		t.Errorf("it was said %d times: %s", n, k.log.String())
	}
	k.node(k.ca, "node")
	if err := os.Remove(filepath.Join(k.dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if s, c := k.shake(listening, connecting, "localhost"); s != nil || c != nil {
		t.Fatal(s, c)
	}

	// Another CA takes over: whoever has only the old one is refused.
	next := k.authority("ca")
	k.node(next, "node")
	if s, _ := k.shake(listening, connecting, "localhost"); s == nil {
		t.Error("a certificate of the old CA was taken")
	}
	k.client(next, "alice")
	if s, c := k.shake(listening, connecting, "localhost"); s != nil || c != nil {
		t.Fatal(s, c)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	good, alice := k.node(k.ca, "node"), k.client(k.ca, "alice")
	soon, err := k.ca.Node("soon", []string{"localhost"}, time.Hour)
	k.open(k.pair("soon", soon, err))
	if !strings.Contains(k.log.String(), "ends soon") {
		t.Errorf("nothing was said of a certificate that ends in an hour: %s", k.log.String())
	}
	over := k.pair("over", expired(t, k.ca), nil)
	for name, tt := range map[string]struct {
		files Files
		want  string
	}{
		"no file":        {Files{good.Cert, good.Key, "nowhere"}, "nowhere"},
		"no certificate": {Files{good.Cert, good.Key, good.Key}, "there is no certificate in it"},
		"another's key":  {Files{good.Cert, alice.Key, good.CA}, "private key does not match"},
		"no key":         {Files{good.Cert, good.Cert, good.CA}, "node.crt with the key"},
		"over":           {over, "it is valid from"},
	} {
		if _, err := Open(tt.files, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// expired is a node's certificate that was valid yesterday.
func expired(t *testing.T, a *Authority) Pair {
	p, err := a.Node("over", []string{"localhost"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	old, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	template := *old.Leaf
	template.NotBefore, template.NotAfter = time.Now().Add(-2*day), time.Now().Add(-day)
	der, err := x509.CreateCertificate(nil, &template, a.cert, old.Leaf.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), p.Key}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	a, p, err := NewAuthority("test", 10*day)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadAuthority(p)
	if err != nil || !bytes.Equal(again.Cert(), a.Cert()) {
		t.Fatalf("read again: %v", err)
	}
	node, err := again.Node("n", []string{"10.0.0.1", "db.example"}, 20*day)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(node.Cert, node.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.Leaf
	if !IsNode(leaf) || leaf.VerifyHostname("db.example") != nil || leaf.VerifyHostname("10.0.0.1") != nil || leaf.NotAfter.After(a.cert.NotAfter) {
		t.Errorf("node %v of %v until %v", leaf.Subject, leaf.DNSNames, leaf.NotAfter)
	}
	if _, err := ReadAuthority(node); err == nil {
		t.Error("a node's certificate was taken for a CA's")
	}
	for name, issue := range map[string]func() (Pair, error){
		"no hosts":    func() (Pair, error) { return a.Node("n", nil, day) },
		"no name":     func() (Pair, error) { return a.Client("", day) },
		"a long name": func() (Pair, error) { return a.Client(strings.Repeat("x", 65), day) },
		"no time":     func() (Pair, error) { return a.Client("c", 0) },
		"too long":    func() (Pair, error) { return a.Client("c", MaxValid+1) },
	} {
		if _, err := issue(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ReadAuthority(Pair{[]byte("x"), []byte("y")}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("garbage: %v", err)
	}
}
