// Package dial hands connections to code that would otherwise make its own.
package dial

import (
	"context"

	"google.golang.org/grpc"
)

// Conn is a connection to one node; *grpc.ClientConn is one.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// Func returns a connection to an address at once and connects in the
// background.
type Func func(address string) (Conn, error)

type key struct{}

// With returns a context that has the client's Dial make its connections with f.
func With(ctx context.Context, f Func) context.Context { return context.WithValue(ctx, key{}, f) }

// From returns what a context carries; nil: nothing.
func From(ctx context.Context) Func {
	f, _ := ctx.Value(key{}).(Func)
	return f
}
