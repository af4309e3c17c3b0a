package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/wire"
)

// Limits of a listener. grpc-go's own defaults leave streams, headers and
// handshakes practically unbounded.
const (
	maxMessageBytes   = 17 << 20 // a request of 16 MiB and its envelope
	maxHeaderBytes    = 16 << 10
	maxStreams        = 4096 // per connection; a consumer has one per partition
	handshakeTimeout  = 10 * time.Second
	idleTimeout       = 15 * time.Minute // of a connection without a call
	streamWindow      = 4 << 20
	connectionWindow  = 16 << 20
	keepalivePing     = 20 * time.Second
	keepaliveTimeout  = 10 * time.Second
	minClientPing     = 5 * time.Second
	gracefulStopLimit = 500 * time.Millisecond
)

// listener is one gRPC server on one address.
type listener struct {
	name   string
	net    net.Listener
	server *grpc.Server
	health *health.Server
}

// listen opens an address and makes a server for it; services are registered
// before serve is called. Port 0 takes a free one. What bounds its callers may be nil: they
// are nodes.
func listen(name, address string, creds credentials.TransportCredentials, log *slog.Logger, watched monitoring, b *bounds, more ...grpc.ServerOption) (*listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, cannotListen(name+"_listen", address, err)
	}
	unary, stream := watched.interceptors()
	unary, stream = append(unary, unaryInterceptors(log)...), append(stream, streamInterceptors(log)...)
	if b != nil {
		creds, more = b.meter.Credentials(creds), append(more, b.meter.ServerOptions()...)
		unary, stream = append(unary, b.gate.Unary, b.principals.Unary), append(stream, b.gate.Stream, b.principals.Stream)
	}
	s := grpc.NewServer(append(more,
		grpc.Creds(creds),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: keepalivePing, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
	)...)
	h := health.NewServer()
	healthv1.RegisterHealthServer(s, h)
	reflection.Register(s)
	channelz.RegisterChannelzServiceToServer(s)
	return &listener{name: name, net: l, server: s, health: h}, nil
}

// address is where the listener is reached, with the real port.
func (l *listener) address() string { return l.net.Addr().String() }

// serve accepts connections until stop; failed is told when it ends by itself.
func (l *listener) serve(failed func(error)) {
	l.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	for service := range l.server.GetServiceInfo() {
		l.health.SetServingStatus(service, healthv1.HealthCheckResponse_SERVING)
	}
	go func() {
		if err := l.server.Serve(l.net); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			failed(fmt.Errorf("%s listener %s ended: %w", l.name, l.address(), err))
		}
	}()
}

// writable tells health checks of one service whether it takes writes. The node as
// a whole serves in any case: to start it again would help nothing.
func (l *listener) writable(service string, yes bool) {
	status := healthv1.HealthCheckResponse_SERVING
	if !yes {
		status = healthv1.HealthCheckResponse_NOT_SERVING
	}
	l.health.SetServingStatus(service, status) // ignored once the node goes away
}

// drain tells health checks that the node is going away.
func (l *listener) drain() { l.health.Shutdown() }

// kill ends everything at once. A server closes only what it has served.
func (l *listener) kill() {
	l.server.Stop()
	_ = l.net.Close() // closed before, as a rule
}

// stop waits for the calls that are under way, but not long: streams do not end
// by themselves.
func (l *listener) stop(ctx context.Context) {
	defer l.kill()
	ctx, cancel := context.WithTimeout(ctx, gracefulStopLimit)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		l.server.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
		l.kill()
		<-stopped
	}
}

// Interceptors run in this order, behind the one that counts and measures: logging sees the error that recovery makes of
// a panic. What a health check or a Raft stream does is not logged.
func unaryInterceptors(log *slog.Logger) []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{
		quietUnary(log, logging.UnaryServerInterceptor(callLogger(log), loggingOptions()...)),
		endedUnary,
		recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(recovered(log))),
	}
}

func streamInterceptors(log *slog.Logger) []grpc.StreamServerInterceptor {
	return []grpc.StreamServerInterceptor{
		quietStream(log, logging.StreamServerInterceptor(callLogger(log), loggingOptions()...)),
		endedStream,
		recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(recovered(log))),
	}
}

func loggingOptions() []logging.Option {
	return []logging.Option{
		// One line per call, and only at debug unless the server failed: what a
		// client did wrong, or a move of leadership, is not the operator's error.
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(levelOf),
	}
}

func levelOf(c codes.Code) logging.Level {
	switch c {
	case codes.Internal, codes.DataLoss, codes.Unknown:
		return logging.LevelError
	default:
		return logging.LevelDebug
	}
}

func callLogger(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		log.Log(ctx, slog.Level(level), msg, fields...)
	})
}

func recovered(log *slog.Logger) recovery.RecoveryHandlerFuncContext {
	return func(ctx context.Context, p any) error {
		log.ErrorContext(ctx, "a call panicked", "panic", p, "stack", string(debug.Stack()))
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "the call failed inside the server; its log has the trace")
	}
}

// ended names a call that its caller gave up by the status of that, instead of
// Unknown, which would be logged as the server's failure.
func ended(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		if _, named := status.FromError(err); !named {
			return status.FromContextError(err).Err()
		}
	}
	return err
}

func endedUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	res, err := handler(ctx, req)
	return res, ended(err)
}

func endedStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return ended(handler(srv, ss))
}

// quiet reports whether a call is never logged.
func quiet(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/oncelog.v1.RaftService/")
}

// quietUnary leaves out calls that are never logged, and at levels above debug
// all that did not fail: the logging interceptor costs as much as the rest of a
// small call before it finds that out.
func quietUnary(log *slog.Logger, next grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		switch {
		case quiet(info.FullMethod):
			return handler(ctx, req)
		case log.Enabled(ctx, slog.LevelDebug):
			return next(ctx, req, info, handler)
		}
		res, err := handler(ctx, req)
		logFailure(ctx, log, info.FullMethod, err)
		return res, err
	}
}

func quietStream(log *slog.Logger, next grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		switch {
		case quiet(info.FullMethod):
			return handler(srv, ss)
		case log.Enabled(ss.Context(), slog.LevelDebug):
			return next(srv, ss, info, handler)
		}
		err := handler(srv, ss)
		logFailure(ss.Context(), log, info.FullMethod, err)
		return err
	}
}

// logFailure logs what is the server's fault: what a handler calls INTERNAL, and
// what has no name at all. What gRPC itself answers to bytes that are no message
// is not: a client could fill the log with it.
func logFailure(ctx context.Context, log *slog.Logger, method string, err error) {
	if err == nil {
		return
	}
	var named *apierrors.Error
	code := status.Code(err)
	if errors.As(err, &named) && levelOf(code) == logging.LevelError || code == codes.Unknown || code == codes.DataLoss {
		log.ErrorContext(ctx, "a call failed", "method", method, "code", code.String(), "error", err)
	}
}
