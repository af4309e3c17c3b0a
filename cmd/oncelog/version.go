package main

import (
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// build says what this program was built from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"` // with changes that are not in the commit
	Built    string `json:"commit_time"`
	Contract string `json:"contract"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// contract is the wire contract that this program speaks.
const contract = "oncelog.v1"

func readBuild() build {
	b := build{
		Version: node.Version(), Contract: contract,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Built = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func newVersionCommand(a *app) *cobra.Command {
	cfg := config.DefaultClient()
	c := &cobra.Command{
		Use:   "version",
		Short: "Show what this program was built from",
		Args:  takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.load(c, cfg); err != nil {
				return err
			}
			s, b := newSession(a, cfg), readBuild()
			return s.print(b, func(w io.Writer) error {
				commit := b.Commit
				if b.Modified {
					commit += " with changes"
				}
				return output.Fields(w, "oncelog", b.Version, "commit", commit, "commit_time", b.Built,
					"contract", b.Contract, "go", b.Go, "platform", b.Platform)
			})
		},
	}
	config.AddFlags(c.Flags(), cfg, "output")
	return c
}
