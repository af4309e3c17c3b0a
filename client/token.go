package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// maxTokenBytes is the longest token that a node takes.
const maxTokenBytes = 8 << 10

// WithTokenFile says who this program is by a bearer token (a JWT) that is in a file, with
// every call. The file is read again when it changes, so whoever renews the token replaces
// it, by renaming. It needs WithTLS: a token is never sent in plain text. Default: the
// certificate of WithTLS says who this is.
func WithTokenFile(path string) Option {
	return func(c *config) { c.token = &tokenFile{path: path} }
}

// tokenFile gives gRPC the token of a file.
type tokenFile struct {
	path string

	mu       sync.Mutex
	modified time.Time
	size     int64
	token    string
}

// GetRequestMetadata implements credentials.PerRPCCredentials. A file that cannot be read
// any more does not count: the token before is sent until a node refuses it.
func (f *tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.read(); err != nil && f.token == "" {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + f.token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (*tokenFile) RequireTransportSecurity() bool { return true }

// read reads the file if it is another one than before. The caller holds the lock.
func (f *tokenFile) read() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if f.token != "" && info.ModTime().Equal(f.modified) && info.Size() == f.size {
		return nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+2))
	if err != nil {
		return err
	}
	token := strings.TrimSpace(string(b))
	switch {
	case token == "":
		return errors.New(f.path + ": there is no token in it")
	case len(token) > maxTokenBytes:
		return fmt.Errorf("%s: the token is longer than %d bytes", f.path, maxTokenBytes)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New(f.path + ": it has more in it than a token")
	}
	f.token, f.modified, f.size = token, info.ModTime(), info.Size()
	return nil
}

// check reads the file for the first time.
func (f *tokenFile) check(secured bool) error {
	if !secured {
		return errors.New("WithTokenFile needs WithTLS: a token is not sent in plain text")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read()
}
