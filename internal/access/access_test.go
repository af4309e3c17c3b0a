package access_test

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

func TestAuthority(t *testing.T) {
	t.Parallel()
	alice, root := access.Principal{Name: "alice"}, access.Principal{Name: "root"}
	orders := acl.Resource{Kind: acl.Topic, Name: "orders"}
	var off *access.Authority
	off.Set(1, nil)
	if off.Enabled() || !off.Allows(alice, acl.Write, orders) || !off.AllowsEvery(alice, acl.Write, acl.Topic) {
		t.Error("without permissions something is denied")
	}
	a := access.New([]string{"root"})
	if _, set := a.Version(); set || a.Allows(alice, acl.Write, orders) {
		t.Error("before there are rules something is allowed")
	}
	if !a.Allows(root, acl.Alter, acl.TheCluster) || !a.AllowsSome(root, acl.Write, acl.Topic) {
		t.Error("a super user is locked out")
	}
	a.Set(7, []acl.Rule{
		{Principal: "alice", Kind: acl.Topic, Pattern: acl.Literal, Name: "orders", Operation: acl.Write, Permission: acl.Allow},
		{Principal: "*", Kind: acl.Topic, Pattern: acl.Literal, Name: "*", Operation: acl.All, Permission: acl.Deny},
	})
	if v, set := a.Version(); v != 7 || !set {
		t.Error(v, set)
	}
	if a.Allows(alice, acl.Write, orders) || !a.Allows(root, acl.Write, orders) {
		t.Error("a rule that denies everybody denies alice, and not super users")
	}
}

func TestPrincipalOfACall(t *testing.T) {
	t.Parallel()
	if p := access.From(context.Background()); p.Name != acl.Anonymous || p.Authenticated() {
		t.Errorf("%+v", p)
	}
	if p := access.From(access.With(context.Background(), access.Principal{Name: "alice"})); p.Name != "alice" || !p.Authenticated() {
		t.Errorf("%+v", p)
	}
}

// What is refused may be of any length; the answer is not.
func TestDeniedIsShort(t *testing.T) {
	t.Parallel()
	err := access.Denied(access.Principal{Name: "alice"}, acl.Write, acl.Topic, strings.Repeat("\u00e4", 1<<20))
	if name := err.Metadata["name"]; len(name) > acl.MaxNameBytes || !utf8.ValidString(name) || len(err.Message) > 1000 {
		t.Errorf("%d bytes of the name, %d of the message", len(name), len(err.Message))
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	err := access.Denied(access.Principal{Name: "alice"}, acl.Write, acl.Topic, "orders")
	want := map[string]string{"principal": "alice", "operation": "Write", "resource": "Topic", "name": "orders"}
	for k, v := range want {
		if err.Metadata[k] != v {
			t.Errorf("%s is %q", k, err.Metadata[k])
		}
	}
	if err.Code != oncelogv1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED || err.Class() != apierrors.Fatal {
		t.Error(err)
	}
}
