package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// NodeOrganization is the organization in the certificates of nodes.
const NodeOrganization = "oncelog:nodes"

const (
	// lookEvery is how often files are looked at, at most: at a handshake.
	lookEvery = time.Second
	// expiresSoon is when a certificate's end begins to be warned of.
	expiresSoon = 14 * 24 * time.Hour
)

// Files are where certificates are. Cert and Key go together; a client may have
// none.
type Files struct {
	// Cert is a PEM file: the certificate, and intermediate ones behind it.
	Cert string
	// Key is its key, in PEM.
	Key string
	// CA is a PEM file with the certificates that are trusted.
	CA string
}

// Who is trusted, of those whose certificate a CA of the source has signed.
type Who int

// The kinds of peers.
const (
	// Anybody with a certificate.
	Anybody Who = iota
	// Nodes only.
	Nodes
)

// Source is the present content of files. It is safe for concurrent use.
type Source struct {
	files Files
	log   *slog.Logger
	every time.Duration

	mu     sync.Mutex
	looked time.Time
	seen   [3]stamp // what was read, or could not be
	now    *material
}

// material is what was read.
type material struct {
	certificate *tls.Certificate // nil: none
	roots       *x509.CertPool
}

// stamp tells one content of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// Open reads the files. An error names the file and what is wrong with it.
func Open(files Files, log *slog.Logger) (*Source, error) {
	s := &Source{files: files, log: log, every: lookEvery, looked: time.Now()}
	var err error
	if s.seen, err = s.stamps(); err != nil {
		return nil, err
	}
	if s.now, err = load(files); err != nil {
		return nil, err
	}
	s.warn()
	return s, nil
}

// Server returns a configuration for a listener that asks every client for a
// certificate and takes those of who.
func (s *Source) Server(who Who) *tls.Config {
	cfg := s.OpenServer()
	// Which CAs are trusted may change, so checking is not left to crypto/tls.
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = func(c tls.ConnectionState) error {
		return s.verify(c, x509.ExtKeyUsageClientAuth, "", who)
	}
	return cfg
}

// RequestServer is Server, but a client may show no certificate. One that it does show
// must be good.
func (s *Source) RequestServer(who Who) *tls.Config {
	cfg := s.OpenServer()
	cfg.ClientAuth = tls.RequestClientCert
	cfg.VerifyConnection = func(c tls.ConnectionState) error {
		if len(c.PeerCertificates) == 0 {
			return nil
		}
		return s.verify(c, x509.ExtKeyUsageClientAuth, "", who)
	}
	return cfg
}

// OpenServer returns a configuration for a listener that asks nobody who it is.
func (s *Source) OpenServer() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := s.current().certificate; c != nil {
				return c, nil
			}
			return nil, errors.New("this listener has no certificate")
		},
		// A ticket would outlive the trust in a certificate.
		SessionTicketsDisabled: true,
	}
}

// Client returns what makes the configuration for connections to a host, a name or an
// address, where servers of who are expected. It is made for each host: what a handshake
// tells of it has no addresses, and a certificate would be taken for any.
func (s *Source) Client(who Who) func(host string) *tls.Config {
	return func(host string) *tls.Config {
		cfg := s.client()
		cfg.ServerName = host
		// VerifyConnection checks as crypto/tls does, against the CAs of now.
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(c tls.ConnectionState) error {
			if host == "" {
				return errors.New("nobody has said which host this is")
			}
			return s.verify(c, x509.ExtKeyUsageServerAuth, host, who)
		}
		return cfg
	}
}

// AnyHost returns a configuration for connections to any host, whose name whoever
// connects sets. The CAs that are trusted are those of now, for as long as it is used.
func (s *Source) AnyHost(who Who) *tls.Config {
	cfg := s.client()
	cfg.RootCAs = s.current().roots
	cfg.VerifyConnection = func(c tls.ConnectionState) error { // behind the checks of crypto/tls
		return expect(c, who)
	}
	return cfg
}

func (s *Source) client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := s.current().certificate; c != nil {
				return c, nil
			}
			return &tls.Certificate{}, nil // the server says what it thinks of that
		},
	}
}

// verify checks the other side's certificate; name is the host that it must be
// for, empty for clients.
func (s *Source) verify(c tls.ConnectionState, usage x509.ExtKeyUsage, name string, who Who) error {
	if len(c.PeerCertificates) == 0 {
		return errors.New("no certificate was shown")
	}
	leaf, between := c.PeerCertificates[0], x509.NewCertPool()
	for _, cert := range c.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.current().roots, Intermediates: between, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage},
	}); err != nil {
		return err
	}
	return expect(c, who)
}

// expect refuses a certificate that is good, and not one of who.
func expect(c tls.ConnectionState, who Who) error {
	if leaf := c.PeerCertificates[0]; who == Nodes && !IsNode(leaf) {
		return fmt.Errorf("the certificate of %q is no node's: its organization is not %s", leaf.Subject.CommonName, NodeOrganization)
	}
	return nil
}

// IsNode reports whether a certificate is a node's.
func IsNode(c *x509.Certificate) bool {
	return slices.Contains(c.Subject.Organization, NodeOrganization)
}

// current returns the content of the files. What cannot be read does not count: the
// one before goes on.
func (s *Source) current() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) < s.every {
		return s.now
	}
	s.looked = time.Now()
	seen, err := s.stamps()
	if err == nil && seen == s.seen {
		return s.now
	}
	var m *material
	if err == nil {
		m, err = load(s.files)
	}
	changed := seen != s.seen
	s.seen = seen
	switch {
	case err == nil:
		s.now = m
		s.log.Info("certificates were read again", "cert", s.files.Cert, "ca", s.files.CA)
		s.warn()
	case changed: // said once
		s.log.Error("changed certificates cannot be used; the ones before stay in use", "error", err)
	}
	return s.now
}

// warn tells of a certificate that ends soon.
func (s *Source) warn() {
	if c := s.now.certificate; c != nil && time.Until(c.Leaf.NotAfter) < expiresSoon {
		s.log.Warn("a certificate ends soon", "cert", s.files.Cert, "not_after", c.Leaf.NotAfter)
	}
}

func (s *Source) stamps() (out [3]stamp, err error) {
	for i, name := range []string{s.files.Cert, s.files.Key, s.files.CA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return out, err
		}
		out[i] = stamp{info.ModTime(), info.Size()}
	}
	return out, nil
}

func load(files Files) (*material, error) {
	m := &material{roots: x509.NewCertPool()}
	pem, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, err
	}
	if !m.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: there is no certificate in it (PEM, BEGIN CERTIFICATE)", files.CA)
	}
	if files.Cert == "" {
		return m, nil
	}
	certificate, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("%s with the key %s: %w", files.Cert, files.Key, err)
	}
	if now := time.Now(); now.After(certificate.Leaf.NotAfter) || now.Before(certificate.Leaf.NotBefore) {
		return nil, fmt.Errorf("%s: it is valid from %s to %s, and by this machine's clock it is %s: set the clock, or make a new certificate", files.Cert,
			certificate.Leaf.NotBefore.Format(time.RFC3339), certificate.Leaf.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	m.certificate = &certificate
	return m, nil
}

// Certificate returns the source's own certificate; nil: it has none.
func (s *Source) Certificate() *x509.Certificate {
	if c := s.current().certificate; c != nil {
		return c.Leaf
	}
	return nil
}
