package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// MaxValid bounds how long a certificate is valid.
const MaxValid = 100 * 365 * 24 * time.Hour

// backdate is how far clocks of a cluster may be apart when a certificate is new.
const backdate = 5 * time.Minute

// Pair is a certificate and its key, in PEM.
type Pair struct{ Cert, Key []byte }

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// NewAuthority makes a CA.
func NewAuthority(name string, valid time.Duration) (*Authority, Pair, error) {
	template, err := newTemplate(pkix.Name{CommonName: name}, valid)
	if err != nil {
		return nil, Pair{}, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, Pair{}, err
	}
	p, err := sign(template, template, key, key)
	if err != nil {
		return nil, Pair{}, err
	}
	a, err := ReadAuthority(p)
	return a, p, err
}

// ReadAuthority returns the CA of a pair.
func ReadAuthority(p Pair) (*Authority, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("the certificate is not a CA's")
	}
	return &Authority{cert: pair.Leaf, key: key, pem: p.Cert}, nil
}

// Node issues the certificate of a node that is reached under these names: DNS names
// or IP addresses. It serves and connects with it.
func (a *Authority) Node(name string, hosts []string, valid time.Duration) (Pair, error) {
	if len(hosts) == 0 {
		return Pair{}, errors.New("a node's certificate needs at least one host name or address")
	}
	template, err := newTemplate(pkix.Name{CommonName: name, Organization: []string{NodeOrganization}}, valid)
	if err != nil {
		return Pair{}, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return a.issue(template)
}

// Client issues the certificate of a client; name is its principal.
func (a *Authority) Client(name string, valid time.Duration) (Pair, error) {
	template, err := newTemplate(pkix.Name{CommonName: name}, valid)
	if err != nil {
		return Pair{}, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

func (a *Authority) issue(template *x509.Certificate) (Pair, error) {
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	return sign(template, a.cert, key, a.key)
}

func newTemplate(name pkix.Name, valid time.Duration) (*x509.Certificate, error) {
	switch {
	case name.CommonName == "" || len(name.CommonName) > 64: // X.520's upper bound
		return nil, fmt.Errorf("a name of %d bytes: 1 to 64", len(name.CommonName))
	case valid <= 0 || valid > MaxValid:
		return nil, fmt.Errorf("valid for %s: up to %s", valid, MaxValid)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: name, NotBefore: now.Add(-backdate), NotAfter: now.Add(valid),
	}, nil
}

func sign(template, parent *x509.Certificate, key, signer crypto.Signer) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{block("CERTIFICATE", der), block("PRIVATE KEY", private)}, nil
}

func block(kind string, der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}) // a buffer does not fail
	return b.Bytes()
}

// Cert returns the CA's own certificate, in PEM.
func (a *Authority) Cert() []byte { return a.pem }
