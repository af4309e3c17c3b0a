package authn

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// noon is the time of these tests.
var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

type bench struct {
	*testing.T
	file string
	now  time.Time
}

func newBench(t *testing.T) *bench {
	return &bench{T: t, file: filepath.Join(t.TempDir(), "keys.json"), now: noon}
}

func (b *bench) keys(keys ...jose.JSONWebKey) {
	b.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(b.file, text, 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) open() *Tokens {
	b.Helper()
	t, err := OpenTokens(TokenConfig{Keys: b.file, Issuer: "us", Audience: "oncelog", Now: func() time.Time { return b.now }}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func (b *bench) ed25519(id string) (ed25519.PrivateKey, jose.JSONWebKey) {
	b.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	return private, jose.JSONWebKey{Key: public, KeyID: id}
}

func (b *bench) sign(alg jose.SignatureAlgorithm, key any, id string, c jwt.Claims) string {
	b.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		b.Fatal(err)
	}
	return text
}

func good() jwt.Claims {
	return jwt.Claims{
		Issuer: "us", Audience: jwt.Audience{"others", "oncelog"}, Subject: "alice", Expiry: jwt.NewNumericDate(noon.Add(time.Hour)),
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	private, public := b.ed25519("k")
	b.keys(public)
	tokens := b.open()
	at := jwt.NewNumericDate
	for name, tt := range map[string]struct {
		change func(*jwt.Claims)
		ok     bool
	}{
		"good":                    {func(*jwt.Claims) {}, true},
		"no issuer":               {func(c *jwt.Claims) { c.Issuer = "" }, false},
		"another issuer":          {func(c *jwt.Claims) { c.Issuer = "them" }, false},
		"for nobody":              {func(c *jwt.Claims) { c.Audience = nil }, false},
		"for others":              {func(c *jwt.Claims) { c.Audience = jwt.Audience{"others"} }, false},
		"no subject":              {func(c *jwt.Claims) { c.Subject = "" }, false},
		"a long subject":          {func(c *jwt.Claims) { c.Subject = strings.Repeat("x", 256) }, false},
		"everybody":               {func(c *jwt.Claims) { c.Subject = "*" }, false},
		"anonymous":               {func(c *jwt.Claims) { c.Subject = "anonymous" }, false},
		"without an end":          {func(c *jwt.Claims) { c.Expiry = nil }, false},
		"ended":                   {func(c *jwt.Claims) { c.Expiry = at(noon.Add(-time.Minute)) }, false},
		"ended by another clock":  {func(c *jwt.Claims) { c.Expiry = at(noon.Add(-leeway / 2)) }, true},
		"not yet":                 {func(c *jwt.Claims) { c.NotBefore = at(noon.Add(time.Minute)) }, false},
		"begun":                   {func(c *jwt.Claims) { c.NotBefore = at(noon.Add(-time.Minute)) }, true},
		"issued in the future":    {func(c *jwt.Claims) { c.IssuedAt = at(noon.Add(time.Minute)) }, false},
		"issued by another clock": {func(c *jwt.Claims) { c.IssuedAt = at(noon.Add(leeway / 2)) }, true},
	} {
		c := good()
		tt.change(&c)
		p, err := tokens.Check(b.sign(jose.EdDSA, private, "k", c))
		if (err == nil) != tt.ok || tt.ok && p.Name != "alice" {
			t.Errorf("%s: %+v %v", name, p, err)
		}
	}
}

// TestSignatures: the algorithm is fixed by the key, never chosen by the token.
func TestSignatures(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	private, public := b.ed25519("ed")
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		t.Fatal(err)
	}
	b.keys(public, jose.JSONWebKey{Key: &curve.PublicKey, KeyID: "ec"}, jose.JSONWebKey{Key: &long.PublicKey, KeyID: "rsa", Algorithm: "PS256"})
	tokens := b.open()
	stranger, _ := b.ed25519("ed")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	ours := b.sign(jose.EdDSA, private, "ed", good())
	claims := strings.Split(ours, ".")[1]
	publicBytes := []byte(public.Key.(ed25519.PublicKey))
	for name, tt := range map[string]struct {
		token string
		ok    bool
	}{
		"Ed25519":                      {ours, true},
		"no key id":                    {b.sign(jose.EdDSA, private, "", good()), true},
		"ES256":                        {b.sign(jose.ES256, curve, "ec", good()), true},
		"PS256":                        {b.sign(jose.PS256, long, "rsa", good()), true},
		"RS256 with a key for PS256":   {b.sign(jose.RS256, long, "rsa", good()), false},
		"another key under the id":     {b.sign(jose.EdDSA, stranger, "ed", good()), false},
		"an unknown id":                {b.sign(jose.EdDSA, private, "new", good()), false},
		"the public key as a secret":   {b.sign(jose.HS256, publicBytes, "ed", good()), false},
		"none":                         {none + "." + claims + ".", false},
		"another's claims":             {strings.Replace(ours, claims, strings.Split(b.sign(jose.EdDSA, stranger, "ed", jwt.Claims{Subject: "root"}), ".")[1], 1), false},
		"nothing":                      {"", false},
		"too long":                     {ours + strings.Repeat("x", maxTokenBytes), false},
		"what is encrypted, or is not": {"a.b.c.d.e", false},
	} {
		for range 2 { // the second time from memory
			if _, err := tokens.Check(tt.token); (err == nil) != tt.ok {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestKeysChange: a key that is gone vouches for nobody, also for whom it has before, and
// a file that cannot be read changes nothing.
func TestKeysChange(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first, firstPublic := b.ed25519("1")
	second, secondPublic := b.ed25519("2")
	b.keys(firstPublic)
	tokens := b.open()
	old, next := b.sign(jose.EdDSA, first, "1", good()), b.sign(jose.EdDSA, second, "2", good())
	check := func(when string, oldOK, nextOK bool) {
		t.Helper()
		if _, err := tokens.Check(old); (err == nil) != oldOK {
			t.Errorf("%s: the old one: %v", when, err)
		}
		if _, err := tokens.Check(next); (err == nil) != nextOK {
			t.Errorf("%s: the next one: %v", when, err)
		}
	}
	check("at first", true, false)
	b.keys(firstPublic, secondPublic)
	check("within a second", true, false)
	b.now = b.now.Add(lookEvery)
	check("with both", true, true)
	if err := os.WriteFile(b.file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(lookEvery)
	check("with a broken file", true, true)
	b.keys(secondPublic)
	b.now = b.now.Add(lookEvery)
	check("with the second only", false, true)
	b.now = noon.Add(2 * time.Hour)
	check("after the end", false, false)
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	private, public := b.ed25519("k")
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is to be refused
	if err != nil {
		t.Skip("this Go makes no short keys: ", err)
	}
	encryption := public
	encryption.Use = "enc"
	many := make([]jose.JSONWebKey, maxKeys+1)
	for i := range many {
		many[i] = public
	}
	for name, keys := range map[string][]jose.JSONWebKey{
		"none": {}, "too many": many, "a secret": {{Key: []byte(strings.Repeat("s", 32)), KeyID: "s"}},
		"a private one": {{Key: private, KeyID: "p"}}, "a short one": {{Key: &short.PublicKey, KeyID: "r"}}, "one to encrypt": {encryption},
	} {
		b.keys(keys...)
		if _, err := OpenTokens(TokenConfig{Keys: b.file}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := OpenTokens(TokenConfig{Keys: b.file + "-none"}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is not there is taken")
	}
}
