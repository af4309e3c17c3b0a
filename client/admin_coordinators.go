package client

import (
	"context"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// ListCoordinators returns the members of the coordinator, as its leader knows them,
// and what is under way.
func (a *Admin) ListCoordinators(ctx context.Context) (*oncelogv1.ListCoordinatorsResponse, error) {
	resp, err := adminCall(ctx, a, "list coordinators", call{}, &oncelogv1.ListCoordinatorsRequest{},
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.ListCoordinatorsRequest) (*oncelogv1.ListCoordinatorsResponse, error) {
			return oncelogv1.NewCoordinatorServiceClient(cc).ListCoordinators(ctx, req)
		})
	if err == nil {
		// Who watches all of them being replaced must not be left without any.
		var addresses []string
		for _, m := range resp.GetMembers() {
			addresses = append(addresses, m.GetClientAddress())
		}
		a.c.coord.suggest("", addresses, resp.GetVersion())
	}
	return resp, err
}

// AddCoordinator has a new coordinator join, or take the place of another one. It
// returns when that is written down; the new process has to be started with the
// setting join, and ListCoordinators tells when it votes. Errors: NODE_ID_IN_USE,
// CHANGE_IN_PROGRESS, NO_MAJORITY, UNKNOWN_NODE.
func (a *Admin) AddCoordinator(ctx context.Context, req *oncelogv1.AddCoordinatorRequest) (*oncelogv1.CoordinatorMember, error) {
	resp, err := adminCall(ctx, a, "add coordinator", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.AddCoordinatorRequest) (*oncelogv1.AddCoordinatorResponse, error) {
			return oncelogv1.NewCoordinatorServiceClient(cc).AddCoordinator(ctx, req)
		})
	return resp.GetMember(), err
}

// RemoveCoordinator has a coordinator leave, or calls off that it joins. It returns
// when that is written down; ListCoordinators tells when it has left. A coordinator
// that was removed before is a success. Errors: CHANGE_IN_PROGRESS, NO_MAJORITY,
// UNKNOWN_NODE.
func (a *Admin) RemoveCoordinator(ctx context.Context, id uint64) error {
	_, err := adminCall(ctx, a, "remove coordinator", call{}, &oncelogv1.RemoveCoordinatorRequest{NodeId: id},
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.RemoveCoordinatorRequest) (*oncelogv1.RemoveCoordinatorResponse, error) {
			return oncelogv1.NewCoordinatorServiceClient(cc).RemoveCoordinator(ctx, req)
		})
	return err
}
