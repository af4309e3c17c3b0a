package console

import (
	"context"
	"net/http"
	"net/url"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/lag"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

type groupsData struct {
	Groups []*oncelogv1.GroupListing
	Next   string
}

// groups lists consumer groups.
func (h *Handler) groups(ctx context.Context, r *http.Request) (*view, error) {
	p := &params{values: r.URL.Query()}
	token := p.text("page", maxToken, false)
	if p.err != nil {
		return nil, p.err
	}
	resp, err := h.admin.ListGroups(ctx, pageLines, token)
	if err != nil {
		return nil, err
	}
	data := groupsData{Groups: resp.GetGroups()}
	if resp.GetNextPageToken() != "" {
		data.Next = "/groups?" + url.Values{"page": {resp.GetNextPageToken()}}.Encode()
	}
	req := &oncelogv1.ListGroupsRequest{PageSize: pageLines, PageToken: token}
	return &view{
		Title: "Groups", Section: "groups", Template: "groups", Data: data,
		Commands: commands{h.cli("group", "list"), h.grpcurl(h.coordinatorAddress(ctx), "GroupService/ListGroups", req)},
	}, nil
}

// groupData is a group and how far it is behind.
type groupData struct {
	*oncelogv1.DescribeGroupResponse
	Lag *lag.Group
}

// group shows the members of a group, and its lag.
func (h *Handler) group(ctx context.Context, r *http.Request) (*view, error) {
	p := &params{values: r.URL.Query()}
	id := p.text("id", maxName, true)
	if p.err != nil {
		return nil, p.err
	}
	g, err := h.admin.DescribeGroup(ctx, id)
	if err != nil {
		return nil, err
	}
	behind, err := lag.Of(g, func(topic string) ([]*oncelogv1.PartitionStatus, error) {
		return h.admin.DescribePartitions(ctx, topic)
	})
	if err != nil {
		return nil, err
	}
	return &view{
		Title: "Group " + output.Printable(id), Section: "groups", Template: "group", Data: groupData{g, behind},
		Commands: commands{
			h.cli("group", "describe", "--", id) + "\n" + h.cli("group", "lag", "--", id),
			h.grpcurl(h.coordinatorAddress(ctx), "GroupService/DescribeGroup", &oncelogv1.DescribeGroupRequest{GroupId: id}),
		},
	}, nil
}
