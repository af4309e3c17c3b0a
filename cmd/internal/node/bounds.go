package node

import (
	"context"
	"log/slog"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/authn"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/limits"
)

// bounds is what stands between the callers of a client address and its services: who they
// are, and how much they may use.
type bounds struct {
	gate       *authn.Gate
	meter      *limits.Meter
	principals *limits.Principals
	// connections is set when the address is open.
	connections *limits.Listener
}

// report is what the bounds have done, for metrics.
func (b *bounds) report() limits.Report {
	return limits.NewReport(b.connections, b.meter, b.principals)
}

// requestStreams are the methods of a client address whose clients send any number of messages.
var requestStreams = map[string]bool{
	oncelogv1.LogService_AppendStream_FullMethodName:                 true,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      true,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": true,
}

func newBounds(l config.Limits, g *authn.Gate, log *slog.Logger) *bounds {
	bytes := inflightBytes(l)
	return &bounds{
		gate: g,
		meter: limits.NewMeter(limits.Config{
			Bytes: bytes, MessageBytes: maxMessageBytes, Calls: int64(l.MaxCalls), ConnectionsPerPrincipal: l.MaxConnectionsPerPrincipal,
			ReceiveTimeout: l.ReceiveTimeout, SendTimeout: l.SendTimeout,
			Who: func(info credentials.AuthInfo) string {
				p, err := g.Principal(peer.NewContext(context.Background(), &peer.Peer{AuthInfo: info}))
				if err != nil || !p.Authenticated() {
					return ""
				}
				return p.Name
			},
			RequestStreams: func(method string) bool { return requestStreams[method] },
			Log:            log,
		}),
		principals: limits.NewPrincipals(int64(l.MaxCallsPerPrincipal), bytes/2),
	}
}

// inflightBytes is max_inflight_bytes, with its default.
func inflightBytes(l config.Limits) int64 {
	if l.MaxInflightBytes != 0 {
		return int64(l.MaxInflightBytes)
	}
	return min(max(limits.Memory()/8, 128<<20), 2<<30)
}
