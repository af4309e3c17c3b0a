package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/acl"
)

func rule(who string, k acl.Kind, p acl.Pattern, name string, o acl.Operation, does acl.Permission) acl.Rule {
	return acl.Rule{Principal: who, Kind: k, Pattern: p, Name: name, Operation: o, Permission: does}
}

// randomRules are mostly right.
func randomRules(rng *rand.Rand) []acl.Rule {
	var out []acl.Rule
	for range rng.IntN(4) {
		k := acl.Kind(1 + rng.IntN(3))
		r := rule(fmt.Sprint("p", rng.IntN(3)), k, acl.Pattern(1+rng.IntN(2)), fmt.Sprint("t", rng.IntN(3)), acl.All, acl.Permission(1+rng.IntN(2)))
		if rng.IntN(20) == 0 {
			r.Operation = 0
		}
		out = append(out, r)
	}
	return out
}

func TestRulesComeAndGo(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	a := rule("alice", acl.Topic, acl.Literal, "a", acl.Read, acl.Allow)
	b := rule("bob", acl.Topic, acl.Prefixed, "b", acl.All, acl.Deny)
	if _, version := c.ACLs(); version != 0 {
		t.Errorf("no rules since version %d", version)
	}
	added := must(t, c, AddACLs{At: 2, Rules: []acl.Rule{b, a, b}})
	rules, version := c.ACLs()
	if !slices.Equal(rules, []acl.Rule{a, b}) || version != added.Version || !added.Changed {
		t.Errorf("%+v since version %d, %+v", rules, version, added)
	}
	for _, cmd := range []Command{AddACLs{Rules: []acl.Rule{a}}, AddACLs{}, RemoveACLs{Rules: []acl.Rule{rule("carol", acl.Group, acl.Literal, "g", acl.Read, acl.Allow)}}} {
		if r := must(t, c, cmd); r.Changed {
			t.Errorf("%+v changes something", cmd)
		}
	}
	held := rules
	must(t, c, RemoveACLs{At: 3, Rules: []acl.Rule{a}})
	if rules, _ := c.ACLs(); !slices.Equal(rules, []acl.Rule{b}) || !slices.Equal(held, []acl.Rule{a, b}) {
		t.Errorf("%+v are left, %+v were there", rules, held)
	}
	must(t, c, RemoveACLs{At: 4, Rules: []acl.Rule{b}})
	// That there are none is news as well.
	if rules, version := c.ACLs(); len(rules) != 0 || version != c.Version() {
		t.Errorf("%+v are left since version %d", rules, version)
	}
}

func TestRulesAreRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	good := rule("alice", acl.Topic, acl.Literal, "a", acl.Read, acl.Allow)
	bad := good
	bad.Principal = strings.Repeat("x", acl.MaxPrincipalBytes+1)
	refused(t, c, AddACLs{Rules: []acl.Rule{good, bad}}, CodeInvalidACL)
	many := make([]acl.Rule, MaxRulesPerCommand+1)
	for i := range many {
		many[i] = good
		many[i].Name = fmt.Sprint(i)
	}
	refused(t, c, AddACLs{Rules: many}, CodeLimitExceeded)
	refused(t, c, RemoveACLs{Rules: many}, CodeLimitExceeded)
	for n := range acl.MaxRules / MaxRulesPerCommand {
		for i := range many {
			many[i].Name = fmt.Sprint(n, "-", i)
		}
		must(t, c, AddACLs{Rules: many[:MaxRulesPerCommand]})
	}
	if r := refused(t, c, AddACLs{Rules: []acl.Rule{good}}, CodeLimitExceeded); r.Need != acl.MaxRules+1 || r.Have != acl.MaxRules {
		t.Errorf("%+v", r)
	}
	must(t, c, AddACLs{Rules: many[:1]})
}

// The longest rules fit into a command, and so into the log.
func TestTheLongestRulesFitIntoACommand(t *testing.T) {
	t.Parallel()
	long := make([]acl.Rule, MaxRulesPerCommand)
	for i := range long {
		long[i] = rule(strings.Repeat("p", acl.MaxPrincipalBytes), acl.Topic, acl.Literal, strings.Repeat("n", acl.MaxNameBytes), acl.Read, acl.Allow)
	}
	if n := len(AppendCommand(nil, AddACLs{At: 1 << 60, Rules: long})); n > MaxCommandBytes {
		t.Errorf("%d bytes, a command may have %d", n, MaxCommandBytes)
	}
}
