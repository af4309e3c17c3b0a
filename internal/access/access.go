// Package access decides who may do what, on coordinators and partition nodes alike:
// the principal of a call travels in its context, and an [Authority] asks the rules of
// package acl. Who a caller is was found out before, where calls arrive.
package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Principal is who calls.
type Principal struct {
	// Name is the common name of a certificate, the subject of a token, or
	// [acl.Anonymous].
	Name string
	// Until is when that ends to be proven; zero: with the connection. It ends
	// streams, which would otherwise outlive the token that opened them.
	Until time.Time
}

// Over reports whether the proof has ended at a time. Who serves a stream asks before
// everything that it sends.
func (p Principal) Over(now time.Time) bool { return !p.Until.IsZero() && now.After(p.Until) }

// TokenOver is the answer where the proof has ended.
func TokenOver() *apierrors.Error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, "the token that this stream was opened with has expired; open it anew")
}

// Authenticated reports whether the caller has shown who it is.
func (p Principal) Authenticated() bool { return p.Name != acl.Anonymous }

type contextKey struct{}

// With returns a context of a call of p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// From returns who calls.
func From(ctx context.Context) Principal {
	if p, ok := ctx.Value(contextKey{}).(Principal); ok {
		return p
	}
	return Principal{Name: acl.Anonymous}
}

// Authority answers what is allowed. Nil allows everything: permissions are off. It is
// safe for concurrent use.
type Authority struct {
	super []string
	table atomic.Pointer[table]
}

// table is a set of rules with its version.
type table struct {
	version uint64
	set     *acl.Set
}

// New returns an authority that allows the super users everything, and others nothing
// before [Authority.Set].
func New(superUsers []string) *Authority { return &Authority{super: slices.Clone(superUsers)} }

// Enabled reports whether permissions are asked for.
func (a *Authority) Enabled() bool { return a != nil }

// Set replaces the rules.
func (a *Authority) Set(version uint64, rules []acl.Rule) {
	if a != nil {
		a.table.Store(&table{version, acl.NewSet(rules)})
	}
}

// Version returns the version of the rules; false: none were set yet.
func (a *Authority) Version() (uint64, bool) {
	if a == nil {
		return 0, false
	}
	t := a.table.Load()
	if t == nil {
		return 0, false
	}
	return t.version, true
}

func (a *Authority) set() *acl.Set {
	if t := a.table.Load(); t != nil {
		return t.set
	}
	return nil
}

// IsSuper reports whether the principal may do everything.
func (a *Authority) IsSuper(p Principal) bool { return a == nil || slices.Contains(a.super, p.Name) }

// Allows reports whether the principal may do the operation to the resource.
func (a *Authority) Allows(p Principal, op acl.Operation, on acl.Resource) bool {
	return a.IsSuper(p) || a.set().Allows(p.Name, op, on)
}

// AllowsEvery reports whether it may do it to every resource of the kind.
func (a *Authority) AllowsEvery(p Principal, op acl.Operation, kind acl.Kind) bool {
	return a.IsSuper(p) || a.set().AllowsEvery(p.Name, op, kind)
}

// AllowsSome reports whether there is a resource of the kind to which it may do it.
func (a *Authority) AllowsSome(p Principal, op acl.Operation, kind acl.Kind) bool {
	return a.IsSuper(p) || a.set().AllowsSome(p.Name, op, kind)
}

// Denied is the answer to who may not do the operation to a resource, which is named as
// the caller named it: the answer is the same whether or not that exists.
func Denied(p Principal, op acl.Operation, kind acl.Kind, name string) *apierrors.Error {
	// It is judged before its length: what is said of it has to stay short.
	name = strings.ToValidUTF8(name[:min(len(name), acl.MaxNameBytes)], "")
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED,
		fmt.Sprintf("%s may not %s %s %q", p.Name, op, kind, name),
		apierrors.KeyPrincipal, p.Name, apierrors.KeyOperation, op.String(), apierrors.KeyResource, kind.String(), apierrors.KeyName, name)
}
