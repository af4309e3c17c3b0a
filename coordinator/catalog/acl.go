package catalog

import (
	"slices"

	"github.com/oncelog/oncelog/api/acl"
)

// MaxRulesPerCommand bounds the rules of one AddACLs or RemoveACLs: the longest ones fit
// in MaxCommandBytes.
const MaxRulesPerCommand = 1_000

// AddACLs adds rules about permissions, all or none. Those that are there already are OK.
type AddACLs struct {
	At    int64
	Rules []acl.Rule // at most MaxRulesPerCommand
}

// RemoveACLs removes rules. Those that are not there are gone already, and OK.
type RemoveACLs struct {
	At    int64
	Rules []acl.Rule // at most MaxRulesPerCommand
}

func (c AddACLs) time() int64    { return c.At }
func (c RemoveACLs) time() int64 { return c.At }

// ACLs returns the rules, in their order, and the version of the catalogue at which
// they last changed; 0: there never were any.
func (c *Catalog) ACLs() (rules []acl.Rule, version uint64) { return c.acls, c.aclVersion }

// addACLs checks every rule before it adds one.
func (c *Catalog) addACLs(cmd AddACLs) Result {
	if len(cmd.Rules) > MaxRulesPerCommand {
		return refuseNumbers(CodeLimitExceeded, len(cmd.Rules), MaxRulesPerCommand)
	}
	next := slices.Clone(c.acls)
	for _, r := range cmd.Rules {
		if field, _ := r.Problem(); field != "" {
			return refuse(CodeInvalidACL)
		}
		if i, found := slices.BinarySearchFunc(next, r, acl.Compare); !found {
			next = slices.Insert(next, i, r)
		}
	}
	if len(next) > acl.MaxRules {
		return refuseNumbers(CodeLimitExceeded, len(next), acl.MaxRules)
	}
	return c.setACLs(next)
}

func (c *Catalog) removeACLs(cmd RemoveACLs) Result {
	if len(cmd.Rules) > MaxRulesPerCommand {
		return refuseNumbers(CodeLimitExceeded, len(cmd.Rules), MaxRulesPerCommand)
	}
	next := slices.Clone(c.acls)
	for _, r := range cmd.Rules {
		if i, found := slices.BinarySearchFunc(next, r, acl.Compare); found {
			next = slices.Delete(next, i, i+1)
		}
	}
	return c.setACLs(next)
}

func (c *Catalog) setACLs(next []acl.Rule) Result {
	if len(next) == len(c.acls) {
		return Result{} // rules are only added, or only removed
	}
	c.acls, c.aclVersion = next, c.version+1
	return Result{Changed: true}
}

func (c *Catalog) checkACLs() error {
	if c.aclVersion > c.version || len(c.acls) > 0 && c.aclVersion == 0 {
		return broken("rules about permissions changed at no version of the past", c.aclVersion)
	}
	if len(c.acls) > acl.MaxRules {
		return broken("too many rules about permissions", uint64(len(c.acls)))
	}
	for i, r := range c.acls {
		if field, _ := r.Problem(); field != "" {
			return broken("rule about permissions breaks its limits: "+field, uint64(i))
		}
		if i > 0 && acl.Compare(c.acls[i-1], r) >= 0 {
			return broken("rules about permissions unsorted", uint64(i))
		}
	}
	return nil
}
