package limits

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"

	"google.golang.org/grpc/credentials"
)

// counted checks what a limit has counted in a rig.
func (r *rig) counted(l limit, want uint64) {
	r.Helper()
	if n := r.meter.tally[l].Load(); n != want {
		r.Errorf("%v has refused %d, want %d", l, n, want)
	}
}

// stalled is a client that does not say who it is.
type stalled struct {
	credentials.TransportCredentials
	err error
}

func (s stalled) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, s.err
}

// TestReport: each limit counts what it has refused, and tells how much of it is used.
func TestReport(t *testing.T) {
	t.Parallel()
	l := Listen(nil, 3, 2, slog.New(slog.DiscardHandler))
	for _, host := range []string{"a", "a", "a", "b", "c", "c"} { // the third of a, and both of c, find no room
		l.take(host)
	}
	p := NewPrincipals(2, 100)
	for _, bytes := range []int64{90, 11, 1, 1} { // the second is too large, the last one too many
		_, _ = p.enter("shop", bytes)
	}
	_, _ = p.enter("billing", 5)
	m := NewMeter(Config{Bytes: 1000, MessageBytes: 10, Calls: 7, ConnectionsPerPrincipal: 4})
	m.of = map[string]int{"shop": 3, "billing": 1}
	m.calls.Store(6)
	m.received.Store(500)
	m.handed.Store(501)
	for _, err := range []error{context.DeadlineExceeded, errors.New("no certificate"), &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}} {
		if _, _, got := m.Credentials(stalled{err: err}).ServerHandshake(nil); !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
	r := NewReport(l, m, p)
	for name, want := range map[string]struct {
		refused   uint64
		used, max int64
	}{
		"max_connections": {2, 3, 3}, "max_connections_per_address": {1, 2, 2}, "max_connections_per_principal": {0, 3, 4},
		"max_calls": {0, 6, 7}, "max_calls_per_principal": {1, 2, 2}, "max_inflight_bytes": {0, 501, 1000},
		"max_request_bytes_per_principal": {1, 91, 100}, "receive_timeout": {}, "send_timeout": {}, "handshake_timeout": {refused: 2}, "small_pieces": {},
	} {
		n, there := r.Refused[name]
		if !there || n != want.refused || r.Used[name] != want.used || r.Max[name] != want.max {
			t.Errorf("%s: %d refused, %d of %d used; want %+v", name, n, r.Used[name], r.Max[name], want)
		}
	}
	if len(r.Refused) != limitCount || len(r.Used) != len(r.Max) || len(r.Used) != 7 {
		t.Errorf("%+v", r)
	}
}
