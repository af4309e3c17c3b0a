package access

import (
	"github.com/oncelog/oncelog/api/acl"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// RuleOf returns a rule of the wire. What it leaves open is a literal name, allowed. A
// number that is not known becomes one that no rule may have.
func RuleOf(p *oncelogv1.AclRule) acl.Rule {
	r := acl.Rule{
		Principal: p.GetPrincipal(), Kind: small[acl.Kind](p.GetResource()), Pattern: small[acl.Pattern](p.GetPattern()), Name: p.GetName(),
		Operation: small[acl.Operation](p.GetOperation()), Permission: small[acl.Permission](p.GetPermission()),
	}
	if p.GetPattern() == oncelogv1.AclPattern_ACL_PATTERN_UNSPECIFIED {
		r.Pattern = acl.Literal
	}
	if p.GetPermission() == oncelogv1.AclPermission_ACL_PERMISSION_UNSPECIFIED {
		r.Permission = acl.Allow
	}
	return r
}

// small keeps a number that fits, and makes one that does not the highest.
func small[To, From ~uint8 | ~int32](n From) To {
	const highest = 255
	if n < 0 || int64(n) > highest {
		return To(highest)
	}
	return To(n)
}

// RulesOf returns rules of the wire.
func RulesOf(p []*oncelogv1.AclRule) []acl.Rule {
	out := make([]acl.Rule, 0, len(p))
	for _, r := range p {
		out = append(out, RuleOf(r))
	}
	return out
}

// RulesProto returns rules as they travel.
func RulesProto(rules []acl.Rule) []*oncelogv1.AclRule {
	out := make([]*oncelogv1.AclRule, 0, len(rules))
	for _, r := range rules {
		out = append(out, &oncelogv1.AclRule{
			Principal: r.Principal, Resource: oncelogv1.AclResource(r.Kind), Pattern: oncelogv1.AclPattern(r.Pattern), Name: r.Name,
			Operation: oncelogv1.AclOperation(r.Operation), Permission: oncelogv1.AclPermission(r.Permission),
		})
	}
	return out
}
