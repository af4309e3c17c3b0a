package node

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/internal/pki"
)

// TestHowMetricsAreServed: nobody reads metrics in plain text, or without a certificate,
// unless the settings say so.
func TestHowMetricsAreServed(t *testing.T) {
	t.Parallel()
	ca, _, err := pki.NewAuthority("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, ca.Cert(), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := pki.Open(pki.Files{CA: file}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const plain = tls.ClientAuthType(-1)
	for _, c := range []struct {
		how, clients string
		want         tls.ClientAuthType
	}{
		{config.MetricsTLSAuto, config.ClientAuthRequire, tls.RequireAnyClientCert},
		{config.MetricsTLSAuto, config.ClientAuthRequest, tls.RequireAnyClientCert},
		{config.MetricsTLSAuto, config.ClientAuthNone, tls.NoClientCert},
		{config.MetricsTLSMutual, config.ClientAuthNone, tls.RequireAnyClientCert},
		{config.MetricsTLSServer, config.ClientAuthRequire, tls.NoClientCert},
		{config.MetricsTLSOff, config.ClientAuthRequire, plain},
	} {
		got := plain
		if secured := forScrapers(source, c.how, c.clients); secured != nil {
			got = secured.ClientAuth
			if (got != tls.NoClientCert) != (secured.VerifyConnection != nil) {
				t.Errorf("%s with %s: certificates that are asked for are not looked at", c.how, c.clients)
			}
		}
		if got != c.want {
			t.Errorf("%s with %s: %v, want %v", c.how, c.clients, got, c.want)
		}
	}
}
