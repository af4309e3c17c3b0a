package authn

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/oncelog/oncelog/internal/access"
)

// Limits of tokens and key sets.
const (
	maxTokenBytes = 8 << 10
	maxKeyFile    = 1 << 20
	maxKeys       = 100
	minRSABits    = 2048
	// leeway is how far clocks may be apart.
	leeway = 30 * time.Second
	// maxCached bounds the tokens that are remembered as checked.
	maxCached = 4096
	// lookEvery is how often the file of keys is looked at, at most.
	lookEvery = time.Second
)

// algorithms that a token may be signed with: asymmetric ones only. What the token
// itself says about it picks one of them and nothing else.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.ES384, jose.EdDSA}

// TokenConfig says which tokens are good.
type TokenConfig struct {
	// Keys is a file with public keys, as a JSON Web Key Set (RFC 7517).
	Keys string
	// Issuer must be the claim iss, and Audience one of the claim aud.
	Issuer, Audience string
	// Now is the time of day. Nil: time.Now.
	Now func() time.Time
}

// Tokens checks bearer tokens: JWTs (RFC 7519). Issuer, audience, subject and expiry are
// required, not-before is kept where it is there. It is safe for concurrent use.
type Tokens struct {
	cfg TokenConfig
	log *slog.Logger

	mu     sync.Mutex
	looked time.Time
	seen   stamp
	keys   []jose.JSONWebKey
	reads  int // how often the keys were read again
	cached map[[sha256.Size]byte]access.Principal
}

type stamp struct {
	modified time.Time
	size     int64
}

// OpenTokens reads the keys.
func OpenTokens(cfg TokenConfig, log *slog.Logger) (*Tokens, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Tokens{cfg: cfg, log: log, looked: cfg.Now(), cached: map[[sha256.Size]byte]access.Principal{}}
	var err error
	if t.seen, err = look(cfg.Keys); err != nil {
		return nil, err
	}
	if t.keys, err = loadKeys(cfg.Keys); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Keys, err)
	}
	return t, nil
}

func look(file string) (stamp, error) {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// loadKeys reads public keys. A key that is secret does not belong into the file of a
// node, and one that could be used otherwise than to sign is a mistake.
func loadKeys(file string) ([]jose.JSONWebKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxKeyFile)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("it is no JSON Web Key Set: %w", err)
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, not 1 to %d", len(set.Keys), maxKeys)
	}
	for i, k := range set.Keys {
		if err := checkKey(k); err != nil {
			return nil, fmt.Errorf("key %d (kid %q): %w", i+1, k.KeyID, err)
		}
	}
	return set.Keys, nil
}

func checkKey(k jose.JSONWebKey) error {
	if !k.Valid() {
		return errors.New("it is not valid")
	}
	if k.Use != "" && k.Use != "sig" {
		return fmt.Errorf("its use is %q, not sig", k.Use)
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return fmt.Errorf("%d bits are too short, at least %d are needed", key.N.BitLen(), minRSABits)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return errors.New("it is no public key: secret keys do not belong to a node")
	}
	return nil
}

// Check returns whose token it is.
func (t *Tokens) Check(token string) (access.Principal, error) {
	if len(token) > maxTokenBytes {
		return access.Principal{}, fmt.Errorf("it is longer than %d bytes", maxTokenBytes)
	}
	id, now := sha256.Sum256([]byte(token)), t.cfg.Now()
	keys, reads, known, ok := t.current(id, now)
	if ok {
		if now.After(known.Until) {
			return access.Principal{}, jwt.ErrExpired
		}
		return known, nil
	}
	p, err := t.verify(token, keys, now)
	if err != nil {
		return access.Principal{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.cached) >= maxCached {
		clear(t.cached)
	}
	if reads == t.reads {
		t.cached[id] = p
	}
	return p, nil
}

// current returns the keys of the file as it is, and what is known of a token that was
// checked with them. Keys that cannot be read do not count: those before stay.
func (t *Tokens) current(id [sha256.Size]byte, now time.Time) (keys []jose.JSONWebKey, reads int, known access.Principal, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.looked) >= lookEvery {
		t.looked = now
		t.reload()
	}
	known, ok = t.cached[id]
	return t.keys, t.reads, known, ok
}

// reload reads the file again if it is another one. The caller holds the lock.
func (t *Tokens) reload() {
	seen, err := look(t.cfg.Keys)
	if err == nil && seen == t.seen {
		return
	}
	changed := seen != t.seen
	t.seen = seen
	var keys []jose.JSONWebKey
	if err == nil {
		keys, err = loadKeys(t.cfg.Keys)
	}
	switch {
	case err == nil:
		t.keys = keys
		t.reads++
		clear(t.cached) // a key that is gone must not vouch any more
		t.log.Info("the keys of tokens were read again", "file", t.cfg.Keys, "keys", len(keys))
	case changed: // said once
		t.log.Error("changed keys of tokens cannot be used; the ones before stay in use", "file", t.cfg.Keys, "error", err)
	}
}

func (t *Tokens) verify(token string, keys []jose.JSONWebKey, now time.Time) (access.Principal, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return access.Principal{}, fmt.Errorf("it is no JWT that is signed as it must be: %w", err)
	}
	if len(parsed.Headers) != 1 {
		return access.Principal{}, errors.New("it must have one signature")
	}
	head := parsed.Headers[0]
	var claims jwt.Claims
	verified := false
	for _, k := range keys {
		if head.KeyID != "" && k.KeyID != head.KeyID || k.Algorithm != "" && k.Algorithm != head.Algorithm {
			continue
		}
		if parsed.Claims(k.Key, &claims) == nil {
			verified = true
			break
		}
	}
	if !verified {
		return access.Principal{}, errors.New("no key of this node has signed it")
	}
	if claims.Expiry == nil {
		return access.Principal{}, errors.New("it never expires: exp is missing")
	}
	if err := claims.ValidateWithLeeway(jwt.Expected{Issuer: t.cfg.Issuer, AnyAudience: jwt.Audience{t.cfg.Audience}, Time: now}, leeway); err != nil {
		return access.Principal{}, err
	}
	if !validName(claims.Subject) {
		return access.Principal{}, errors.New("its subject is not the name of anybody")
	}
	return access.Principal{Name: claims.Subject, Until: claims.Expiry.Time().Add(leeway)}, nil
}
