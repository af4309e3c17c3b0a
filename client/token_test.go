package client

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokenFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	f := &tokenFile{path: path}
	write := func(text string, at int64) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
	}
	sent := func() string {
		t.Helper()
		md, err := f.GetRequestMetadata(context.Background())
		if err != nil {
			return err.Error()
		}
		return md["authorization"]
	}
	if err := f.check(true); err == nil {
		t.Error("there is no file, and that is well")
	}
	for text, why := range map[string]string{
		" \n": "no token", strings.Repeat("x", maxTokenBytes+1): "longer than", "a b": "more in it", "a\nb": "more in it", "\u00e4": "more in it",
	} {
		write(text, 1)
		if err := f.check(true); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.10q: %v", text, err)
		}
	}
	write("one\n", 2)
	if err := f.check(false); err == nil {
		t.Error("a token is sent in plain text")
	}
	if err := f.check(true); err != nil || sent() != "Bearer one" {
		t.Error(err, sent())
	}
	write("two", 3)
	if got := sent(); got != "Bearer two" {
		t.Errorf("after a renewal: %s", got)
	}
	write("", 4)
	if got := sent(); got != "Bearer two" {
		t.Errorf("with an empty file: %s", got)
	}
	if !f.RequireTransportSecurity() {
		t.Error("plain text would do")
	}
}
