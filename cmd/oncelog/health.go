package main

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	apierrors "github.com/oncelog/oncelog/api/errors"
)

func newHealthCommand(a *app) *cobra.Command {
	var service string
	c := &cobra.Command{
		Use:   "health [ADDRESS]",
		Short: "Ask one node whether it serves (for health checks of containers)",
		Long: `Health asks a node's standard gRPC health service and exits with 0 only if it
answers SERVING. While its disk is below min_free_bytes a node serves as a whole,
but its oncelog.v1.LogService or oncelog.v1.TransactionService does not. The address is host:port, or :port on this machine; without one
the first of --servers is asked.`,
		Example: `  oncelog health :7200
  oncelog health 10.0.0.7:7100 --service oncelog.v1.TransactionService --timeout 2s`,
		Args: takes(0, 1),
	}
	c.Flags().StringVar(&service, "service", "", "one service of the node; empty: the node as a whole")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		address := s.cfg.Servers[0]
		if len(args) > 0 {
			address = args[0]
		}
		if host, port, err := net.SplitHostPort(address); err == nil && host == "" {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return health(ctx, s, address, service)
	})
}

func health(ctx context.Context, s *session, address, service string) error {
	secured, err := s.tls()
	if err != nil {
		return err
	}
	creds := insecure.NewCredentials()
	if secured != nil {
		creds = credentials.NewTLS(secured)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return &usageError{fmt.Errorf("%q is no address: %w", address, err)}
	}
	defer conn.Close()
	ctx, cancel := s.limit(ctx)
	defer cancel()
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	if status.Code(err) == codes.NotFound {
		return fmt.Errorf("%s: the node has no service %q; `grpcurl -plaintext %s list` shows what it has", address, service, address)
	}
	if err != nil {
		return about{address, apierrors.From(err)}
	}
	if err := s.print(resp, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, resp.GetStatus())
		return err
	}); err != nil {
		return err
	}
	if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return errNotWell
	}
	return nil
}
