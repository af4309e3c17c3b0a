package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oncelog/oncelog/cmd/internal/output"
)

// takes accepts from least to most arguments; most < 0: any number. Its errors
// name them as the usage line does, where cobra's only count.
func takes(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		_, names, _ := strings.Cut(c.Use, " ")
		switch {
		case len(args) < least:
			return fmt.Errorf("'%s' needs %s", c.CommandPath(), names)
		case most == 0 && len(args) > 0:
			return fmt.Errorf("'%s' takes no arguments, and was given %q", c.CommandPath(), args[0])
		case most >= 0 && len(args) > most:
			return fmt.Errorf("'%s' takes %s, and was given %q too", c.CommandPath(), names, args[most])
		}
		return nil
	}
}

// wrongFlag words what is wrong with a number, of which pflag hands on only how
// parsing it failed.
func wrongFlag(_ *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	if !errors.As(err, &invalid) || !errors.As(err, &number) {
		return err
	}
	what := "a whole number"
	if strings.HasPrefix(invalid.GetFlag().Value.Type(), "uint") {
		what += " from 0"
	}
	if errors.Is(number.Err, strconv.ErrRange) {
		what = "a smaller number"
	}
	return fmt.Errorf("--%s is %q: it must be %s", invalid.GetFlag().Name, invalid.GetValue(), what)
}

// counted writes a number of things: 1 record, 2,000 records.
func counted[N ~int | ~uint64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return output.Count(n) + " " + thing
}

// areStored says it of a number of things.
func areStored(n uint64, thing string) string {
	verb := "are"
	if n == 1 {
		verb = "is"
	}
	return fmt.Sprintf("%s %s stored", counted(n, thing), verb)
}
