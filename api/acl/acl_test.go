package acl_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/acl"
)

func topic(name string) acl.Resource { return acl.Resource{Kind: acl.Topic, Name: name} }

func rule(who string, p acl.Permission, o acl.Operation, pattern acl.Pattern, name string) acl.Rule {
	return acl.Rule{Principal: who, Kind: acl.Topic, Pattern: pattern, Name: name, Operation: o, Permission: p}
}

func TestWhatRulesAllow(t *testing.T) {
	t.Parallel()
	allow, deny, literal, prefixed := acl.Allow, acl.Deny, acl.Literal, acl.Prefixed
	for name, tt := range map[string]struct {
		rules []acl.Rule
		op    acl.Operation
		topic string
		want  bool
	}{
		"nothing is allowed by default":          {nil, acl.Read, "a", false},
		"a literal rule":                         {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a")}, acl.Read, "a", true},
		"another name":                           {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a")}, acl.Read, "ab", false},
		"another operation":                      {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a")}, acl.Write, "a", false},
		"another principal":                      {[]acl.Rule{rule("bob", allow, acl.Read, literal, "a")}, acl.Read, "a", false},
		"everybody":                              {[]acl.Rule{rule("*", allow, acl.Read, literal, "a")}, acl.Read, "a", true},
		"a prefix":                               {[]acl.Rule{rule("alice", allow, acl.Read, prefixed, "a")}, acl.Read, "ab", true},
		"not the prefix":                         {[]acl.Rule{rule("alice", allow, acl.Read, prefixed, "ab")}, acl.Read, "a", false},
		"a prefix is no wildcard":                {[]acl.Rule{rule("alice", allow, acl.Read, prefixed, "*")}, acl.Read, "a", false},
		"every name":                             {[]acl.Rule{rule("alice", allow, acl.Read, literal, "*")}, acl.Read, "a", true},
		"all operations":                         {[]acl.Rule{rule("alice", allow, acl.All, literal, "a")}, acl.Delete, "a", true},
		"deny wins over a more exact rule":       {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a"), rule("*", deny, acl.All, literal, "*")}, acl.Read, "a", false},
		"deny by prefix":                         {[]acl.Rule{rule("alice", allow, acl.Read, literal, "*"), rule("alice", deny, acl.Read, prefixed, "secret.")}, acl.Read, "secret.x", false},
		"deny of others":                         {[]acl.Rule{rule("alice", allow, acl.Read, literal, "*"), rule("bob", deny, acl.Read, literal, "*")}, acl.Read, "a", true},
		"read shows that it is there":            {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a")}, acl.Describe, "a", true},
		"create does not":                        {[]acl.Rule{rule("alice", allow, acl.Create, literal, "a")}, acl.Describe, "a", false},
		"to deny read leaves describe":           {[]acl.Rule{rule("alice", allow, acl.Write, literal, "a"), rule("alice", deny, acl.Read, literal, "a")}, acl.Describe, "a", true},
		"to deny describe leaves read":           {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a"), rule("alice", deny, acl.Describe, literal, "a")}, acl.Read, "a", true},
		"to deny all denies describe":            {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a"), rule("alice", deny, acl.All, literal, "a")}, acl.Describe, "a", false},
		"who is called * gets what everybody is": {[]acl.Rule{rule("alice", allow, acl.Read, literal, "a")}, acl.Read, "b", false},
	} {
		if got := acl.NewSet(tt.rules).Allows("alice", tt.op, topic(tt.topic)); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	var none *acl.Set
	if none.Allows("alice", acl.Read, topic("a")) || none.AllowsEvery("alice", acl.Read, acl.Topic) || none.AllowsSome("alice", acl.Read, acl.Topic) {
		t.Error("no set allows something")
	}
	if other := acl.NewSet([]acl.Rule{rule("alice", acl.Allow, acl.All, acl.Literal, "*")}); other.Allows("alice", acl.Read, acl.Resource{Kind: acl.Group, Name: "a"}) {
		t.Error("a rule about topics is one about groups")
	}
}

// TestSetAgainstTheDefinition compares a set with the words of its definition, for
// random rules and every name of a small alphabet.
func TestSetAgainstTheDefinition(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "aa", "ab", "ba", "bb", "aaa", "abb"}
	ops := acl.Topic.Operations()
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	for range 2000 {
		var rules []acl.Rule
		for range rng.IntN(6) {
			r := rule(pick("alice", "bob", "*"), acl.Permission(1+rng.IntN(2)), acl.All, acl.Pattern(1+rng.IntN(2)), pick(append(names, "*")...))
			if rng.IntN(3) > 0 {
				r.Operation = ops[rng.IntN(len(ops))]
			}
			rules = append(rules, r)
		}
		set := acl.NewSet(rules)
		for _, op := range ops {
			every, some := true, false
			for _, name := range names {
				want := defined(rules, "alice", op, name)
				if got := set.Allows("alice", op, topic(name)); got != want {
					t.Fatalf("%s %q: %v\n%v", op, name, got, rules)
				}
				every, some = every && want, some || want
			}
			if set.AllowsEvery("alice", op, acl.Topic) && !every {
				t.Fatalf("%s on every topic, but not on some\n%v", op, rules)
			}
			// Rules may together deny what none denies alone: AllowsSome may say yes then.
			if some && !set.AllowsSome("alice", op, acl.Topic) {
				t.Fatalf("%s on some topic is not found\n%v", op, rules)
			}
		}
	}
}

func defined(rules []acl.Rule, who string, op acl.Operation, name string) bool {
	allowed := false
	for _, r := range rules {
		matches := r.Name == name || r.Pattern == acl.Literal && r.Name == "*" || r.Pattern == acl.Prefixed && strings.HasPrefix(name, r.Name)
		if !matches || r.Principal != who && r.Principal != "*" {
			continue
		}
		if r.Permission == acl.Deny && (r.Operation == op || r.Operation == acl.All) {
			return false
		}
		implied := op == acl.Describe && r.Operation != acl.Create
		if r.Permission == acl.Allow && (r.Operation == op || r.Operation == acl.All || implied) {
			allowed = true
		}
	}
	return allowed
}

func TestProblemsOfRules(t *testing.T) {
	t.Parallel()
	good := rule("alice", acl.Allow, acl.Read, acl.Literal, "a")
	long := strings.Repeat("x", 256)
	for field, change := range map[string]func(*acl.Rule){
		"":           func(*acl.Rule) {},
		"principal":  func(r *acl.Rule) { r.Principal = long },
		"name":       func(r *acl.Rule) { r.Name = long[:250] },
		"resource":   func(r *acl.Rule) { r.Kind = 5 },
		"pattern":    func(r *acl.Rule) { r.Pattern = 3 },
		"permission": func(r *acl.Rule) { r.Permission = 0 },
		"operation":  func(r *acl.Rule) { r.Kind = acl.Group; r.Operation = acl.Write },
	} {
		r := good
		change(&r)
		if got, why := r.Problem(); got != field || (why == "") != (field == "") {
			t.Errorf("%s: %q %q", field, got, why)
		}
	}
	cluster := acl.Rule{Principal: "*", Kind: acl.Cluster, Pattern: acl.Literal, Name: "another", Operation: acl.Alter, Permission: acl.Allow}
	if field, _ := cluster.Problem(); field != "name" {
		t.Error("there is another cluster")
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for _, k := range []acl.Kind{acl.Topic, acl.Group, acl.TransactionalID, acl.Cluster} {
		if acl.ParseKind(strings.ToUpper(k.String())) != k {
			t.Errorf("%s is read as another kind", k)
		}
		for _, o := range append(k.Operations(), acl.All) {
			if acl.ParseOperation(strings.ToLower(o.String())) != o {
				t.Errorf("%s is read as another operation", o)
			}
		}
	}
	if acl.ParseKind("unknown") != 0 || acl.ParseOperation("") != 0 || fmt.Sprint(acl.Kind(99), acl.Operation(0), acl.Pattern(9), acl.Permission(9)) != "unknown unknown unknown unknown" {
		t.Error("unknown words")
	}
}
