package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

func newConfigCommand(a *app) *cobra.Command {
	return parent("config", "Print and check settings",
		newConfigPrintDefaultsCommand(), newConfigCheckCommand(a))
}

func newConfigPrintDefaultsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "print-defaults [SECTION...]",
		Short: "Print every setting with its meaning, as a file that can be used",
		Example: `  oncelog config print-defaults > oncelog.yaml
  oncelog config print-defaults partition`,
		ValidArgs: sectionNames(),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range args {
				if !slices.Contains(sectionNames(), name) {
					return &usageError{fmt.Errorf("no section %q: there are %v", name, sectionNames())}
				}
			}
			sections := slices.DeleteFunc(config.Sections(), func(s config.Section) bool {
				return len(args) > 0 && !slices.Contains(args, s.Name())
			})
			return config.WriteDefaults(c.OutOrStdout(), sections)
		},
	}
}

func sectionNames() []string {
	var names []string
	for _, s := range config.Sections() {
		names = append(names, s.Name())
	}
	return names
}

func newConfigCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file, together with the environment",
		Long: `Check reads a file as a server would, with the ONCELOG_ variables of this
environment over it, and says everything that is wrong. What a section needs and
leaves to flags or variables is only noted.`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			sections, notes, err := config.CheckFile(args[0], a.environ)
			if err != nil {
				return err
			}
			if len(sections) == 0 {
				return &usageError{errors.New(args[0] + " has no section: it sets nothing")}
			}
			for _, n := range notes {
				fmt.Fprintf(c.ErrOrStderr(), "note: %s\n", n)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %v ok\n", args[0], sections)
			return nil
		},
	}
}
