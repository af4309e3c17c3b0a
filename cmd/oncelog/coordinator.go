package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// coordinatorCommands are below the command that runs a coordinator.
func coordinatorCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newCoordinatorListCommand(a), newCoordinatorAddCommand(a), newCoordinatorReplaceCommand(a), newCoordinatorRemoveCommand(a),
	}
}

func newCoordinatorListCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the coordinators and what is under way with them",
		Long: `List shows the members as the leader knows them. STATE is added while the process
of a new one has not been heard of, learner while it receives the log, voter, or
leaving; BEHIND is how many log entries it is known to lack.`,
		Args: takes(0, 0),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		list, err := s.coordinators(ctx)
		if err != nil {
			return err
		}
		return s.printCoordinators(list)
	})
}

const addressUsage = "[ID=]CLIENT_ADDRESS/PEER_ADDRESS"

func newCoordinatorAddCommand(a *app) *cobra.Command {
	var noWait bool
	c := &cobra.Command{
		Use:   "add " + addressUsage,
		Short: "Add a coordinator, and wait until it votes",
		Long: `Add writes down that there is to be one more coordinator; then its process is to
be started on an empty directory, with --join. It receives the log first and votes
once it has it. Its number must be above every number that a coordinator ever had;
without one it gets the next. There is one change at a time: remove calls it off.

It is refused while so many members are down that the new one could cost the
majority if it failed: replace the dead one instead.`,
		Example: `  oncelog coordinator add 4=10.0.0.4:7100/10.0.0.4:7101
  oncelog coordinator --node-id 4 --join --data-dir /var/lib/oncelog \
      --member 4=10.0.0.4:7100/10.0.0.4:7101 \
      --member 1=10.0.0.1:7100/10.0.0.1:7101 \
      --client-listen 10.0.0.4:7100 --peer-listen 10.0.0.4:7101`,
		Args: takes(1, 1),
	}
	addNoWait(c, &noWait)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		req, err := newMember(args[0])
		if err != nil {
			return err
		}
		return s.addCoordinator(ctx, req, noWait)
	})
}

func newCoordinatorReplaceCommand(a *app) *cobra.Command {
	var noWait bool
	c := &cobra.Command{
		Use:   "replace ID [" + addressUsage + "]",
		Short: "Replace a coordinator by a new one, and wait until that votes",
		Long: `Replace is add and remove as one step: at no moment is there a voter more or less.
It is for a machine that goes, and for a coordinator that lost its disk, which must
not come back under its number, for it has forgotten its votes. Without addresses
the new one has those of the old one. Its process is to be started on an empty
directory, with the new number and --join; the old one stops.`,
		Example: `  oncelog coordinator replace 2
  oncelog coordinator replace 2 4=10.0.0.4:7100/10.0.0.4:7101`,
		Args: takes(1, 2),
	}
	addNoWait(c, &noWait)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := coordinatorID(args[0])
		if err != nil {
			return err
		}
		req := &oncelogv1.AddCoordinatorRequest{}
		if len(args) > 1 {
			if req, err = newMember(args[1]); err != nil {
				return err
			}
		}
		old, err := s.coordinator(ctx, id)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			req.ClientAddress, req.PeerAddress = old.GetClientAddress(), old.GetPeerAddress()
		}
		req.Replaces = id
		return s.addCoordinator(ctx, req, noWait)
	})
}

func newCoordinatorRemoveCommand(a *app) *cobra.Command {
	var noWait bool
	c := &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a coordinator, or call off that it joins, and wait until it has left",
		Long: `Remove has a coordinator leave: it votes no more, stops, and does not start again
from its directory. It is refused if no majority of those that stay is up.`,
		Args: takes(1, 1),
	}
	addNoWait(c, &noWait)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := coordinatorID(args[0])
		if err != nil {
			return err
		}
		if _, err := s.coordinator(ctx, id); err != nil {
			return err
		}
		if _, err := ask(ctx, s, "coordinator "+args[0], func(ctx context.Context, a *client.Admin) (struct{}, error) {
			return struct{}{}, a.RemoveCoordinator(ctx, id)
		}); err != nil {
			return err
		}
		return s.awaitCoordinator(ctx, id, noWait, func(m *oncelogv1.CoordinatorMember) (bool, error) {
			if m.GetState() == oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER {
				return false, fmt.Errorf("coordinator %d was kept, for without it no majority would be up", id)
			}
			return m == nil, nil
		})
	})
}

func addNoWait(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "no-wait", false, "return as soon as the change is written down")
}

func coordinatorID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, &usageError{fmt.Errorf("%q is no coordinator: give its number, as `oncelog coordinator list` shows it", text)}
	}
	return id, nil
}

// newMember reads a number, which may be missing, and two addresses.
func newMember(text string) (*oncelogv1.AddCoordinatorRequest, error) {
	whole := text
	if !strings.Contains(text, "=") {
		whole = "1=" + text
	}
	m, err := config.ParseMember(whole)
	if err != nil {
		return nil, &usageError{fmt.Errorf("%q is no new coordinator: %w", text, err)}
	}
	if whole != text {
		m.ID = 0
	}
	return &oncelogv1.AddCoordinatorRequest{NodeId: m.ID, ClientAddress: m.ClientAddress, PeerAddress: m.PeerAddress}, nil
}

func (s *session) coordinators(ctx context.Context) (*oncelogv1.ListCoordinatorsResponse, error) {
	return ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListCoordinatorsResponse, error) {
		return a.ListCoordinators(ctx)
	})
}

// coordinator returns one member.
func (s *session) coordinator(ctx context.Context, id uint64) (*oncelogv1.CoordinatorMember, error) {
	list, err := s.coordinators(ctx)
	if err != nil {
		return nil, err
	}
	if m := memberOf(list, id); m != nil {
		return m, nil
	}
	return nil, &helpError{
		error: apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, fmt.Sprintf("coordinator %d is no member", id)),
		help:  "`oncelog coordinator list` shows the members.",
	}
}

func memberOf(list *oncelogv1.ListCoordinatorsResponse, id uint64) *oncelogv1.CoordinatorMember {
	for _, m := range list.GetMembers() {
		if m.GetNodeId() == id {
			return m
		}
	}
	return nil
}

func (s *session) addCoordinator(ctx context.Context, req *oncelogv1.AddCoordinatorRequest, noWait bool) error {
	added, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.CoordinatorMember, error) {
		return a.AddCoordinator(ctx, req)
	})
	if err != nil {
		return err
	}
	id := added.GetNodeId()
	fmt.Fprintf(s.err, "coordinator %d is added; start its process on an empty directory with --node-id %d --join --member %d=%s/%s and a --member that is there\n",
		id, id, id, added.GetClientAddress(), added.GetPeerAddress())
	return s.awaitCoordinator(ctx, id, noWait, func(m *oncelogv1.CoordinatorMember) (bool, error) {
		if m == nil || m.GetState() == oncelogv1.CoordinatorState_COORDINATOR_STATE_LEAVING {
			return false, fmt.Errorf("somebody has called off that coordinator %d joins", id)
		}
		return m.GetState() == oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER, nil
	})
}

// watchInterval is how often a change is looked at.
const watchInterval = 200 * time.Millisecond

// awaitCoordinator tells how a change goes until it is done, and prints the members.
// done is given the member, or nil when there is none any more. The session's timeout
// counts from the last progress.
func (s *session) awaitCoordinator(ctx context.Context, id uint64, noWait bool, done func(*oncelogv1.CoordinatorMember) (bool, error)) error {
	ctx, progress, stop := s.stall(ctx)
	defer stop()
	for told := ""; ; {
		list, err := s.coordinators(ctx)
		if err != nil {
			return err
		}
		m := memberOf(list, id)
		ended, err := done(m)
		switch {
		case err != nil:
			return err
		case ended, noWait:
			return s.printCoordinators(list)
		}
		if text := situation(m, list.GetCommit()); text != told {
			told = text
			fmt.Fprintf(s.err, "coordinator %d %s\n", id, text)
			progress()
		}
		select {
		case <-time.After(watchInterval):
		case <-ctx.Done():
			return &helpError{
				error: apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_DEADLINE,
					fmt.Sprintf("no progress within %s: coordinator %d %s", s.cfg.Timeout, id, situation(m, list.GetCommit()))),
				help: fmt.Sprintf("The change goes on: `oncelog coordinator list` shows it, and `oncelog coordinator remove %d` calls off that one joins.", id),
			}
		}
	}
}

// situation says what a change waits for.
func situation(m *oncelogv1.CoordinatorMember, commit uint64) string {
	switch m.GetState() {
	case oncelogv1.CoordinatorState_COORDINATOR_STATE_ADDED:
		return "has not been heard of yet"
	case oncelogv1.CoordinatorState_COORDINATOR_STATE_LEARNER:
		switch {
		case m.GetSnapshot():
			return "receives a snapshot"
		case !m.GetAlive():
			return "is to receive the log, and does not answer"
		default:
			return fmt.Sprintf("receives the log, and has entries up to %d of %d", m.GetMatch(), commit)
		}
	case oncelogv1.CoordinatorState_COORDINATOR_STATE_LEAVING:
		return "is leaving"
	default:
		return "votes"
	}
}

func (s *session) printCoordinators(list *oncelogv1.ListCoordinatorsResponse) error {
	return s.print(list, func(w io.Writer) error {
		t := output.NewTable("node_id", "client_address", "peer_address", "state", "leads", "alive", "behind", "replaces")
		for _, m := range list.GetMembers() {
			behind, replaces := any("-"), any("-")
			if m.GetAlive() {
				behind = output.Count(list.GetCommit() - min(m.GetMatch(), list.GetCommit()))
			}
			if m.GetReplaces() != 0 {
				replaces = m.GetReplaces()
			}
			t.Row(m.GetNodeId(), m.GetClientAddress(), m.GetPeerAddress(), output.Enum(m.GetState(), "COORDINATOR_STATE"),
				yesNo(m.GetLeader()), yesNo(m.GetAlive()), behind, replaces)
		}
		return t.Write(w)
	})
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
