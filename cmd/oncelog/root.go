package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// app is the program without its process: tests give it other streams.
type app struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ []string
	// interactive: err is a terminal on which progress can be drawn.
	interactive bool
	// typed: in is a terminal, where somebody types lines.
	typed bool
	now   func() time.Time
	look  time.Duration // between two looks at what is waited for; 0: defaultLook
	quiet time.Duration // how long a call may take without a word; 0: silence

	// nodes are options of the nodes that are run.
	nodes []node.Option

	configFile string // --config
	started    bool   // arguments and flags were understood
}

const rootLong = `oncelog: exactly-once transactions over partitioned, replicated logs.

A cluster has coordinator nodes, which decide transactions, and partition nodes,
which keep records. 'oncelog dev' starts all of it in one process; every other
command talks to a cluster through --servers or ONCELOG_SERVERS.

Settings come from flags, then from the environment (ONCELOG_...), then from a
YAML file (--config), then from defaults: 'oncelog config print-defaults' lists
them all.

Exit codes:
  0  done
  1  failed, or what was checked is not well
  2  the command line or the configuration is wrong
  3  what was named does not exist
  4  no answer in time: what was asked for may or may not have happened
  130  interrupted`

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRootCommand(a)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = &usageError{fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())}
	}
	return a.finish(ctx, err)
}

// newRootCommand returns the program's command with everything below it.
func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "oncelog",
		Short: "Exactly-once transactions over partitioned logs",
		Long:  rootLong,
		Args:  cobra.ArbitraryArgs,
		RunE:  onlyChildren,
		// Errors are printed by finish, in one form.
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.started = true
		},
		SuggestionsMinimumDistance: 2,
		Version:                    node.Version(),
	}
	root.SetVersionTemplate("oncelog {{.Version}}\n")
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "YAML file with settings (ONCELOG_CONFIG)")

	const servers, work, look, other = "servers", "work", "look", "other"
	root.AddGroup(
		&cobra.Group{ID: servers, Title: "Servers:"},
		&cobra.Group{ID: work, Title: "Topics and records:"},
		&cobra.Group{ID: look, Title: "What is going on:"},
		&cobra.Group{ID: other, Title: "Besides:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(servers, newDevCommand(a), newCoordinatorCommand(a), newPartitionCommand(a))
	add(servers, newNodeCommand(a), newShardCommand(a), newRebalanceCommand(a))
	add(servers, newBackupCommand(a), newRestoreCommand(a))
	add(work, newTopicCommand(a), newProduceCommand(a), newConsumeCommand(a))
	add(look, newTxnCommand(a), newProducerCommand(a), newGroupCommand(a), newClusterCommand(a), newHealthCommand(a), newDoctorCommand(a))
	add(look, newConsoleCommand(a), newDebugCommand(a))
	add(other, newDemoCommand(a), newBenchCommand(a), newSimCommand(a), newChaosCommand(a), newConfigCommand(a), newCertCommand(a), newACLCommand(a), newVersionCommand(a))
	root.SetFlagErrorFunc(wrongFlag)
	root.SetHelpCommandGroupID(other)
	root.SetCompletionCommandGroupID(other)
	// Made by cobra, which would call an unknown shell a success.
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = cobra.ArbitraryArgs, onlyChildren
	}
	return root
}

// parent returns a command that only has others below it.
func parent(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: onlyChildren, SuggestionsMinimumDistance: 2}
	c.AddCommand(children...)
	return c
}

// onlyChildren runs a command that does nothing by itself: cobra would print
// help and call it a success when there is no such command.
func onlyChildren(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf(", did you mean %s", strings.Join(near, " or "))
	}
	return &usageError{fmt.Errorf("%s; see '%s --help'", text, c.CommandPath())}
}

// load fills the section of a command from all sources.
func (a *app) load(c *cobra.Command, s config.Section) error {
	return config.Load(s, config.Sources{File: a.configFile, Environ: a.environ, Flags: c.Flags()})
}

// clusterCommand makes c a command that talks to a cluster: it gets the flags of
// the client's settings, and run a session that is closed afterwards.
func clusterCommand(a *app, c *cobra.Command, run func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	cfg := config.DefaultClient()
	config.AddFlags(c.Flags(), cfg)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.load(c, cfg); err != nil {
			return err
		}
		s := newSession(a, cfg)
		defer s.close()
		return run(c.Context(), s, args)
	}
	return c
}
