package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oncelog/oncelog/api/acl"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
	"github.com/oncelog/oncelog/internal/access"
)

func newACLCommand(a *app) *cobra.Command {
	c := parent("acl", "Say who may do what",
		newACLAddCommand(a), newACLListCommand(a), newACLRemoveCommand(a))
	c.Long = `Acl keeps the rules that nodes with the setting authorization: acl ask. A principal is
the common name of a certificate, the subject of a token, or anonymous. What no rule
allows is denied, and a rule that denies wins over all that allow. Super users, who
are in the settings of the nodes, may do everything.`
	return c
}

// aclFlags are the flags that describe rules.
type aclFlags struct {
	principal                   string
	operations                  []string
	topic, group, transactional string
	prefix, cluster, deny       bool
}

func (f *aclFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.principal, "principal", "", "whose rule it is; * is everybody")
	flags.StringSliceVar(&f.operations, "operation", nil, "All, Read, Write, Create, Delete, Alter, Describe or AlterConfigs; may be repeated")
	flags.StringVar(&f.topic, "topic", "", "the rule is about this topic; * is every one")
	flags.StringVar(&f.group, "group", "", "the rule is about this consumer group; * is every one")
	flags.StringVar(&f.transactional, "transactional-id", "", "the rule is about this transactional id; * is every one")
	flags.BoolVar(&f.cluster, "cluster", false, "the rule is about the cluster")
	flags.BoolVar(&f.prefix, "prefix", false, "the name is a prefix: the rule is about every name that begins with it")
	flags.BoolVar(&f.deny, "deny", false, "the rule denies")
}

// filters returns what the flags say, once for each operation. Flags that are not given
// leave fields open.
func (f *aclFlags) filters() ([]*oncelogv1.AclFilter, error) {
	one := &oncelogv1.AclFilter{Principal: f.principal}
	for _, r := range []struct {
		name string
		kind oncelogv1.AclResource
	}{
		{f.topic, oncelogv1.AclResource_ACL_RESOURCE_TOPIC},
		{f.group, oncelogv1.AclResource_ACL_RESOURCE_GROUP},
		{f.transactional, oncelogv1.AclResource_ACL_RESOURCE_TRANSACTIONAL_ID},
		{map[bool]string{true: acl.ClusterName}[f.cluster], oncelogv1.AclResource_ACL_RESOURCE_CLUSTER},
	} {
		if r.name == "" {
			continue
		}
		if one.GetName() != "" {
			return nil, &usageError{fmt.Errorf("a rule is about one thing: give one of --topic, --group, --transactional-id and --cluster")}
		}
		one.Resource, one.Name = r.kind, r.name
	}
	if f.prefix {
		one.Pattern = oncelogv1.AclPattern_ACL_PATTERN_PREFIXED
	}
	if f.deny {
		one.Permission = oncelogv1.AclPermission_ACL_PERMISSION_DENY
	}
	if len(f.operations) == 0 {
		return []*oncelogv1.AclFilter{one}, nil
	}
	out := make([]*oncelogv1.AclFilter, 0, len(f.operations))
	for _, word := range f.operations {
		op := acl.ParseOperation(word)
		if op == 0 {
			return nil, &usageError{fmt.Errorf("%q is no operation: give All, Read, Write, Create, Delete, Alter, Describe or AlterConfigs", word)}
		}
		out = append(out, &oncelogv1.AclFilter{
			Principal: one.GetPrincipal(), Resource: one.GetResource(), Pattern: one.GetPattern(), Name: one.GetName(),
			Operation: oncelogv1.AclOperation(op), Permission: one.GetPermission(),
		})
	}
	return out, nil
}

func newACLAddCommand(a *app) *cobra.Command {
	var f aclFlags
	c := &cobra.Command{
		Use:   "add --principal NAME --operation OPERATION (--topic|--group|--transactional-id NAME | --cluster)",
		Short: "Allow, or deny, a principal something",
		Long: `Add makes a rule for each operation. Rules that are there already are a success. A
producer needs Write on its transactional id and its topics; a consumer Read on its
group and its topics; Read and Write include Describe.`,
		Example: `  oncelog acl add --principal shop --operation Write --transactional-id shop- --prefix
  oncelog acl add --principal shop --operation Write --topic orders
  oncelog acl add --principal billing --operation Read --group billing
  oncelog acl add --principal billing --operation Read --topic orders
  oncelog acl add --principal '*' --operation Read --topic secret. --prefix --deny`,
		Args: takes(0, 0),
	}
	f.add(c.Flags())
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		filters, err := f.filters()
		if err != nil {
			return err
		}
		rules := make([]*oncelogv1.AclRule, 0, len(filters))
		for _, one := range filters {
			rule := &oncelogv1.AclRule{
				Principal: one.GetPrincipal(), Resource: one.GetResource(), Pattern: one.GetPattern(), Name: one.GetName(),
				Operation: one.GetOperation(), Permission: one.GetPermission(),
			}
			if err := complete(rule); err != nil {
				return err
			}
			rules = append(rules, rule)
		}
		_, err = ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (struct{}, error) {
			return struct{}{}, a.AddAcls(ctx, rules...)
		})
		return err
	})
}

// complete finds what a new rule lacks, in the words of the command line.
func complete(rule *oncelogv1.AclRule) error {
	switch {
	case rule.GetPrincipal() == "":
		return &usageError{fmt.Errorf("whose rule is it? give --principal")}
	case rule.GetName() == "":
		return &usageError{fmt.Errorf("what is the rule about? give --topic, --group, --transactional-id or --cluster")}
	case rule.GetOperation() == 0:
		return &usageError{fmt.Errorf("what is it about? give --operation")}
	}
	r := access.RuleOf(rule)
	if field, problem := r.Problem(); field == "operation" {
		var words []string
		for _, op := range append(r.Kind.Operations(), acl.All) {
			words = append(words, op.String())
		}
		return &usageError{fmt.Errorf("%s is nothing that is done to a %s: give %s", r.Operation, r.Kind, strings.Join(words, ", "))}
	} else if field != "" {
		return &usageError{fmt.Errorf("%s %s", field, problem)}
	}
	return nil
}

func newACLListCommand(a *app) *cobra.Command {
	var f aclFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the rules, or those that flags name",
		Args:  takes(0, 0),
	}
	f.add(c.Flags())
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		filters, err := f.filters()
		if err != nil {
			return err
		}
		var rules []*oncelogv1.AclRule
		for _, one := range filters {
			some, err := pages(0, func(size uint32, token string) ([]*oncelogv1.AclRule, string, error) {
				resp, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListAclsResponse, error) {
					return a.ListAcls(ctx, one, size, token)
				})
				return resp.GetRules(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			rules = append(rules, some...)
		}
		return s.printRules(rules)
	})
}

func newACLRemoveCommand(a *app) *cobra.Command {
	var (
		f   aclFlags
		all bool
	)
	c := &cobra.Command{
		Use:   "remove",
		Short: "Remove the rules that flags name, and show them",
		Long: `Remove takes away every rule that has what the flags say: --principal alone removes
all rules of a principal. Super users are not among the rules; they are in the
settings of the nodes.`,
		Args: takes(0, 0),
	}
	f.add(c.Flags())
	c.Flags().BoolVar(&all, "all", false, "remove all rules, if nothing else says which")
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		filters, err := f.filters()
		if err != nil {
			return err
		}
		if !all && f.principal == "" && len(f.operations) == 0 && filters[0].GetName() == "" && !f.prefix && !f.deny {
			return &usageError{fmt.Errorf("which rules? give --principal or another flag, or --all")}
		}
		var rules []*oncelogv1.AclRule
		for _, one := range filters {
			some, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) ([]*oncelogv1.AclRule, error) {
				return a.RemoveAcls(ctx, one, all)
			})
			if err != nil {
				return err
			}
			rules = append(rules, some...)
		}
		return s.printRules(rules)
	})
}

func (s *session) printRules(rules []*oncelogv1.AclRule) error {
	return s.print(&oncelogv1.ListAclsResponse{Rules: rules}, func(w io.Writer) error {
		t := output.NewTable("principal", "permission", "operation", "resource", "pattern", "name")
		for _, p := range rules {
			r := access.RuleOf(p)
			t.Row(r.Principal, r.Permission.String(), r.Operation.String(), r.Kind.String(), r.Pattern.String(), r.Name)
		}
		return t.Write(w)
	})
}
