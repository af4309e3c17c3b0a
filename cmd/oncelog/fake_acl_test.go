package main

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// fakeACLs keeps rules in the order in which they came.
type fakeACLs struct {
	oncelogv1.UnimplementedAclServiceServer
	f     *fakeCluster
	rules []*oncelogv1.AclRule
}

// AddAcls implements the contract.
func (s *fakeACLs) AddAcls(_ context.Context, req *oncelogv1.AddAclsRequest) (*oncelogv1.AddAclsResponse, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	for _, r := range req.GetRules() {
		if !slices.ContainsFunc(s.rules, func(have *oncelogv1.AclRule) bool { return proto.Equal(have, r) }) {
			s.rules = append(s.rules, proto.CloneOf(r))
		}
	}
	return &oncelogv1.AddAclsResponse{}, nil
}

// ListAcls implements the contract.
func (s *fakeACLs) ListAcls(_ context.Context, req *oncelogv1.ListAclsRequest) (*oncelogv1.ListAclsResponse, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	out := &oncelogv1.ListAclsResponse{}
	for _, r := range s.rules {
		if fakeMatch(req.GetFilter(), r) {
			out.Rules = append(out.Rules, r)
		}
	}
	return out, nil
}

// RemoveAcls implements the contract.
func (s *fakeACLs) RemoveAcls(_ context.Context, req *oncelogv1.RemoveAclsRequest) (*oncelogv1.RemoveAclsResponse, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	out := &oncelogv1.RemoveAclsResponse{}
	s.rules = slices.DeleteFunc(s.rules, func(r *oncelogv1.AclRule) bool {
		if fakeMatch(req.GetFilter(), r) {
			out.Rules = append(out.Rules, r)
			return true
		}
		return false
	})
	return out, nil
}

func fakeMatch(f *oncelogv1.AclFilter, r *oncelogv1.AclRule) bool {
	return (f.GetPrincipal() == "" || f.GetPrincipal() == r.GetPrincipal()) && (f.GetResource() == 0 || f.GetResource() == r.GetResource()) &&
		(f.GetName() == "" || f.GetName() == r.GetName()) && (f.GetPattern() == 0 || f.GetPattern() == r.GetPattern()) &&
		(f.GetOperation() == 0 || f.GetOperation() == r.GetOperation()) && (f.GetPermission() == 0 || f.GetPermission() == r.GetPermission())
}
