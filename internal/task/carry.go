package task

import "context"

type runtimeKey struct{}

// With returns a context that carries a runtime to code that takes none, such
// as the client's Dial.
func With(ctx context.Context, r *Runtime) context.Context {
	return context.WithValue(ctx, runtimeKey{}, r)
}

// From returns the runtime that a context carries; nil, the machine, if none.
func From(ctx context.Context) *Runtime {
	r, _ := ctx.Value(runtimeKey{}).(*Runtime)
	return r
}
