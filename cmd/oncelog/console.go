package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/console"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// consoleStop bounds how long pages that are under way are waited for.
const consoleStop = 3 * time.Second

func newConsoleCommand(a *app) *cobra.Command {
	var listen string
	var hosts []string
	c := &cobra.Command{
		Use:   "console",
		Short: "Serve a web page that shows the cluster",
		Long: `Console serves web pages that show nodes and leaders, transactions as they happen,
partitions and who holds them back, groups and records. It talks to the cluster as
any client, with the certificate of --tls-cert: whoever reaches the pages can do what
that may, such as to abort transactions, and reads records. So it listens on loopback
unless another address is given, and asks nobody who they are; put a proxy that does
in front of it before you let others in, and name the host with --host.

What was asked to change is written to standard error: what, by whom, from where.`,
		Example: `  oncelog console
  oncelog console --listen 127.0.0.1:8080 --servers 10.0.0.1:7100`,
		Args: takes(0, 0),
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:7400", "address of the pages")
	c.Flags().StringSliceVar(&hosts, "host", nil, "names under which browsers reach the pages, besides localhost and addresses")
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		log := slog.New(slog.NewTextHandler(s.err, nil))
		cluster, err := s.dial(ctx)
		if err != nil {
			return err
		}
		h, err := console.New(console.Config{
			Client: cluster, Flags: s.consoleFlags(), GRPCFlags: s.grpcurlFlags(), Principal: s.principal(), Hosts: hosts, Logger: log, Now: s.now,
		})
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return &helpError{fmt.Errorf("--listen %s cannot be opened: %w", listen, err), "Another program may have it: give --listen another address, or 127.0.0.1:0 for a free port."}
		}
		fmt.Fprintf(s.out, "http://%s/\n", l.Addr())
		if ip, ok := l.Addr().(*net.TCPAddr); ok && !ip.IP.IsLoopback() {
			fmt.Fprintln(s.err, "warning: these pages are reached from other machines, in plain text, and nobody is asked who they are: whoever reaches them acts as "+s.principal())
		}
		return serveConsole(ctx, h, l)
	})
}

// serveConsole serves until ctx ends.
func serveConsole(ctx context.Context, h *console.Handler, l net.Listener) error {
	server := h.Server()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	h.Close()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), consoleStop)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close() // what is still under way is given up
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// consoleFlags are what commands need to reach the same cluster.
func (s *session) consoleFlags() []string {
	flags := []string{"--servers", strings.Join(s.cfg.Servers, ",")}
	for _, f := range [][2]string{{"--tls-ca", s.cfg.CA}, {"--tls-cert", s.cfg.Cert}, {"--tls-key", s.cfg.Key}} {
		if f[1] != "" {
			flags = append(flags, f[0], f[1])
		}
	}
	return flags
}

func (s *session) grpcurlFlags() []string {
	if s.cfg.CA == "" {
		return []string{"-plaintext"}
	}
	flags := []string{"-cacert", s.cfg.CA}
	if s.cfg.Cert != "" {
		flags = append(flags, "-cert", s.cfg.Cert, "-key", s.cfg.Key)
	}
	return flags
}

// principal is who the cluster takes this program for: the common name of its
// certificate.
func (s *session) principal() string {
	if s.cfg.Cert == "" {
		return "anybody"
	}
	text, err := os.ReadFile(s.cfg.Cert)
	if err != nil {
		return "not known"
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "not known"
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "not known"
	}
	return output.Printable(cert.Subject.CommonName)
}
