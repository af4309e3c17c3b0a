package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/access"
)

// aclService is the part of the gRPC edge that keeps the rules about permissions.
type aclService struct {
	oncelogv1.UnimplementedAclServiceServer
	*Coordinator
}

// AddAcls implements the contract.
func (s *aclService) AddAcls(ctx context.Context, req *oncelogv1.AddAclsRequest) (*oncelogv1.AddAclsResponse, error) {
	if len(req.GetRules()) == 0 {
		return nil, apierrors.InvalidArgument("rules", "is empty")
	}
	if err := checkCount("rules", len(req.GetRules()), catalog.MaxRulesPerCommand); err != nil {
		return nil, err
	}
	rules := access.RulesOf(req.GetRules())
	for i, r := range rules {
		if len(r.Principal) > acl.MaxPrincipalBytes {
			return nil, tooLong(fmt.Sprintf("rules[%d].principal", i), acl.MaxPrincipalBytes)
		}
		if err := checkName(fmt.Sprintf("rules[%d].name", i), r.Name, false); err != nil {
			return nil, err
		}
		if field, problem := r.Problem(); field != "" {
			return nil, apierrors.InvalidArgument(fmt.Sprintf("rules[%d].%s", i, field), problem)
		}
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.AddACLs{At: s.now(), Rules: rules})
	if err != nil {
		return nil, err
	}
	switch res.Code {
	case catalog.CodeLimitExceeded:
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
			fmt.Sprintf("there would be %d rules, a cluster may have %d: use prefixes", res.Need, res.Have),
			apierrors.KeyField, "rules", apierrors.KeyLimit, strconv.FormatUint(res.Have, 10))
	case catalog.CodeInvalidACL:
		return nil, apierrors.InvalidArgument("rules", "a rule breaks its limits")
	default:
	}
	if err := s.catalogError(res, ""); err != nil {
		return nil, err
	}
	if res.Changed {
		s.audit(ctx, "added", rules)
	}
	return &oncelogv1.AddAclsResponse{}, nil
}

// RemoveAcls implements the contract. What matches is looked up here; the command names
// the rules, so that one which comes late removes nothing else.
func (s *aclService) RemoveAcls(ctx context.Context, req *oncelogv1.RemoveAclsRequest) (*oncelogv1.RemoveAclsResponse, error) {
	f, err := filterOf(req.GetFilter())
	if err != nil {
		return nil, err
	}
	if f == (acl.Rule{}) && !req.GetAll() {
		return nil, apierrors.InvalidArgument("filter", "is empty; set all to remove all rules")
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var rules []acl.Rule
	s.state.read(func() { rules, _ = s.state.catalog.ACLs() })
	rules = slices.DeleteFunc(slices.Clone(rules), func(r acl.Rule) bool { return !matches(f, r) })
	out := &oncelogv1.RemoveAclsResponse{More: len(rules) > catalog.MaxRulesPerCommand}
	rules = rules[:min(len(rules), catalog.MaxRulesPerCommand)]
	if len(rules) == 0 {
		return out, nil
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.RemoveACLs{At: s.now(), Rules: rules})
	if err != nil {
		return nil, err
	}
	if err := s.catalogError(res, ""); err != nil {
		return nil, err
	}
	s.audit(ctx, "removed", rules)
	out.Rules = access.RulesProto(rules)
	return out, nil
}

// audit logs who changed which rules.
func (s *aclService) audit(ctx context.Context, what string, rules []acl.Rule) {
	by := access.From(ctx).Name
	for _, r := range rules {
		s.log.Info("permission "+what, "by", by, "principal", r.Principal, "permission", r.Permission.String(), "operation", r.Operation.String(),
			"resource", r.Kind.String(), "pattern", r.Pattern.String(), "name", r.Name)
	}
}

// ListAcls implements the contract. A page token is where in the order of rules a page
// begins, counted: one that is added meanwhile may be shown twice or not at all.
func (s *aclService) ListAcls(ctx context.Context, req *oncelogv1.ListAclsRequest) (*oncelogv1.ListAclsResponse, error) {
	f, err := filterOf(req.GetFilter())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	at := uint64(0)
	if after != "" {
		if at, err = strconv.ParseUint(after, 10, 32); err != nil {
			return nil, apierrors.InvalidArgument("page_token", "must be the next_page_token of an earlier page")
		}
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var rules []acl.Rule
	s.state.read(func() { rules, _ = s.state.catalog.ACLs() })
	out := &oncelogv1.ListAclsResponse{}
	var page []acl.Rule
	for i := int(at); i < len(rules); i++ {
		if !matches(f, rules[i]) {
			continue
		}
		if len(page) == limit {
			out.NextPageToken = pageToken(strconv.Itoa(i))
			break
		}
		page = append(page, rules[i])
	}
	out.Rules = access.RulesProto(page)
	return out, nil
}

// filterOf returns the fields of rules that a filter sets.
func filterOf(p *oncelogv1.AclFilter) (acl.Rule, error) {
	if len(p.GetPrincipal()) > acl.MaxPrincipalBytes {
		return acl.Rule{}, tooLong("filter.principal", acl.MaxPrincipalBytes)
	}
	if err := checkName("filter.name", p.GetName(), false); err != nil {
		return acl.Rule{}, err
	}
	for _, e := range []struct {
		field string
		n     int32
		names map[int32]string
	}{
		{"filter.resource", int32(p.GetResource()), oncelogv1.AclResource_name},
		{"filter.pattern", int32(p.GetPattern()), oncelogv1.AclPattern_name},
		{"filter.operation", int32(p.GetOperation()), oncelogv1.AclOperation_name},
		{"filter.permission", int32(p.GetPermission()), oncelogv1.AclPermission_name},
	} {
		if _, known := e.names[e.n]; !known {
			return acl.Rule{}, apierrors.InvalidArgument(e.field, "is none that there is")
		}
	}
	return acl.Rule{
		Principal: p.GetPrincipal(), Kind: acl.Kind(p.GetResource()), Pattern: acl.Pattern(p.GetPattern()), Name: p.GetName(),
		Operation: acl.Operation(p.GetOperation()), Permission: acl.Permission(p.GetPermission()),
	}, nil
}

// matches reports whether a rule has the fields that the filter sets.
func matches(f, r acl.Rule) bool {
	return (f.Principal == "" || f.Principal == r.Principal) && (f.Kind == 0 || f.Kind == r.Kind) &&
		(f.Pattern == 0 || f.Pattern == r.Pattern) && (f.Name == "" || f.Name == r.Name) &&
		(f.Operation == 0 || f.Operation == r.Operation) && (f.Permission == 0 || f.Permission == r.Permission)
}
