package config_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

var rewrite = flag.Bool("rewrite", false, "write docs/CONFIG.md; the difference is for review")

// TestReference holds docs/CONFIG.md to the tables of keys.
func TestReference(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "..", "docs", "CONFIG.md")
	got := reference()
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("%s is not what the tables of keys say: go test ./cmd/internal/config -run TestReference -rewrite writes it", path)
	}
}

// TestReferenceIsWhole: every key says what it means and which values it takes, and none
// breaks a row of the table.
func TestReferenceIsWhole(t *testing.T) {
	t.Parallel()
	page := reference()
	for _, s := range config.Sections() {
		for _, k := range config.Keys(s) {
			if k.Doc == "" || k.Unit() == "" || k.Required == (k.Example == "") {
				t.Errorf("%s.%s: %+v", s.Name(), k.Name, k)
			}
			if !strings.Contains(page, "| `"+k.Name+"` |") {
				t.Errorf("%s.%s is not on the page", s.Name(), k.Name)
			}
		}
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 6 {
			t.Errorf("a row has not five columns: %s", line)
		}
	}
}

const referenceHead = `# Settings

A setting is given by a flag, or by a variable of the environment, or in a YAML file (` + "`--config`, `ONCELOG_CONFIG`" + `), or is its
default; the first of these wins. The file has a section for each kind of process, and only those that are needed:

` + "```yaml\npartition:\n  node_id: 1\n  coordinators: [10.0.0.1:7101, 10.0.0.2:7101, 10.0.0.3:7101]\n```" + `

The flag is the key with dashes unless the table names another, the variable ` + "`ONCELOG_`" + ` and the key in capitals:
` + "`data_dir`, `--data-dir`, `ONCELOG_DATA_DIR`" + `. Lists are separated by commas in variables and flags; flags may be repeated. Keys and
variables that do not exist are refused, with the nearest one that does. ` + "`oncelog config check FILE`" + ` says everything that is wrong
with a file and the environment, ` + "`oncelog config print-defaults`" + ` prints this page as a file to begin with.

A file has at most 1 MiB, a host:port at most 255 bytes. Settings are read when a process starts. Read again while it runs are
only files that settings name: certificates, keys of tokens, tokens. ` + "`SIGUSR1`" + ` has a node log at debug, and the next one as before.
What belongs to a topic (partitions, retention, compaction) is no setting of a node: ` + "`oncelog topic create --help`" + `.

This page is generated from the code: ` + "`go test ./cmd/internal/config -run TestReference -rewrite`" + `.
`

var commands = map[string]string{
	"coordinator": "`oncelog coordinator`, a coordinator node.",
	"partition":   "`oncelog partition`, a partition node.",
	"dev":         "`oncelog dev`, a whole cluster in one process.",
	"client":      "Every command that talks to a cluster.",
}

// reference is the page.
func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, s := range config.Sections() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | values | default | what it is | flag |\n|---|---|---|---|---|\n", s.Name(), commands[s.Name()])
		for _, k := range config.Keys(s) {
			fallback := "`" + k.Value() + "`"
			switch {
			case k.Required:
				fallback = "**required**, such as `" + k.Example + "`"
			case k.Value() == "":
				fallback = "empty"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | `--%s` |\n", k.Name, cell(k.Unit()), cell(fallback), cell(k.Doc), k.Flag())
		}
	}
	return b.String()
}

// cell is a text that does not end a column.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
