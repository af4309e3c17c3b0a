package client

import (
	"context"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// AddAcls adds rules about who may do what, all or none; those that are there already are
// a success. They are in force on the coordinator when it returns, and on partition nodes
// as soon as these have heard of them.
func (a *Admin) AddAcls(ctx context.Context, rules ...*oncelogv1.AclRule) error {
	_, err := adminCall(ctx, a, "add acls", call{}, &oncelogv1.AddAclsRequest{Rules: rules},
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.AddAclsRequest) (*oncelogv1.AddAclsResponse, error) {
			return oncelogv1.NewAclServiceClient(cc).AddAcls(ctx, req)
		})
	return err
}

// RemoveAcls removes the rules that a filter matches and returns them; all of them for an
// empty filter with all set. If an answer was lost and the call repeated, those that the
// first one removed are not among them.
func (a *Admin) RemoveAcls(ctx context.Context, filter *oncelogv1.AclFilter, all bool) ([]*oncelogv1.AclRule, error) {
	var out []*oncelogv1.AclRule
	for {
		resp, err := adminCall(ctx, a, "remove acls", call{}, &oncelogv1.RemoveAclsRequest{Filter: filter, All: all},
			func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.RemoveAclsRequest) (*oncelogv1.RemoveAclsResponse, error) {
				return oncelogv1.NewAclServiceClient(cc).RemoveAcls(ctx, req)
			})
		out = append(out, resp.GetRules()...)
		if err != nil || !resp.GetMore() {
			return out, err
		}
	}
}

// ListAcls returns one page of the rules that a filter matches; pageToken is "" for the
// first and the answer's NextPageToken for the next.
func (a *Admin) ListAcls(ctx context.Context, filter *oncelogv1.AclFilter, pageSize uint32, pageToken string) (*oncelogv1.ListAclsResponse, error) {
	return adminCall(ctx, a, "list acls", call{}, &oncelogv1.ListAclsRequest{Filter: filter, PageSize: pageSize, PageToken: pageToken},
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.ListAclsRequest) (*oncelogv1.ListAclsResponse, error) {
			return oncelogv1.NewAclServiceClient(cc).ListAcls(ctx, req)
		})
}
