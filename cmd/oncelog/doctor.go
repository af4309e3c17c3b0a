package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/oncelog/oncelog/client"
)

// maxAppFile is the longest description of an application, in bytes.
const maxAppFile = 1 << 20

// unknowable is what no cluster can tell about its clients.
var unknowable = []string{
	"which isolation level a consumer reads with, and what it does with what it reads",
	"whether positions were committed in a transaction or beside one",
	"delivery and request timeouts, and how long the work on a batch takes",
	"what an application does outside of topics",
}

func newDoctorCommand(a *app) *cobra.Command {
	var apps []string
	var offline bool
	d := &doctor{}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find what keeps applications from being exactly once",
		Long: `Doctor looks at the transactional ids, groups and partitions of a running cluster
and says what is wrong with them: transactions that stay open, ids that producers
take from each other, partitions whose readers wait, consumers that never commit.

With --app it also goes through the checklist of exactly-once with a description
of an application (scope, ids, isolation, where positions are kept, the order of
timeouts, effects outside of topics), and compares it with what the cluster knows.
The file is YAML:

  name: billing
  instances: 3
  producers:
    - name: out
      transactional_id: billing-{instance}   # {instance} stays over restarts, {random} does not
      transaction_timeout: 1m
  consumers:
    - group: billing
      topics: [orders]
      offsets: transaction                    # or commit, store, none
      producer: out
      processing: 10s                         # the longest that a batch takes
  effects:
    - name: mails
      kind: plain                             # or idempotent, store

'go doc github.com/oncelog/oncelog/client.Application' has all fields. What a
cluster cannot know is listed at the end. The exit code is 1 if anything worse than
a notice was found.`,
		Example: `  oncelog doctor
  oncelog doctor --app billing.yaml
  oncelog doctor --app billing.yaml --offline -o json`,
		Args: takes(0, 0),
	}
	c.Flags().StringSliceVar(&apps, "app", nil, "file with the description of an application; more than one may be given")
	c.Flags().BoolVar(&offline, "offline", false, "only look at the descriptions; needs --app")
	c.Flags().DurationVar(&d.olderThan, "older-than", time.Minute, "how long a transaction may be open or a partition wait")
	c.Flags().IntVar(&d.limit, "limit", 1000, "look at so many transactional ids, groups and topics at most; 0: all")
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		switch {
		case offline && len(apps) == 0:
			return &usageError{errors.New("--offline needs --app: there is nothing else to look at")}
		case d.olderThan <= 0:
			return &usageError{fmt.Errorf("--older-than is %v: it must be more than 0", d.olderThan)}
		}
		view := doctorView{Findings: []client.Finding{}, NotKnown: unknowable}
		d.session, d.view = s, &view
		for _, path := range apps {
			described, err := readApplication(path)
			if err != nil {
				return &usageError{err}
			}
			d.apps = append(d.apps, described)
			view.Findings = append(view.Findings, client.CheckConfig(described)...)
		}
		view.Examined.Applications = len(d.apps)
		if offline {
			view.NotKnown = nil
		} else if err := d.examine(ctx); err != nil {
			return err
		}
		slices.SortStableFunc(view.Findings, func(x, y client.Finding) int { return cmp.Compare(y.Severity, x.Severity) })
		if err := s.print(view, view.write); err != nil {
			return err
		}
		if len(view.Findings) > 0 && view.Findings[0].Severity > client.Notice {
			return errNotWell
		}
		return nil
	})
}

// unknownField is what the decoder says of a key that it does not know.
var unknownField = regexp.MustCompile(`\s*line (\d+): field (.+) not found in type \S+`)

func readApplication(path string) (client.Application, error) {
	var described client.Application
	f, err := os.Open(path)
	if err != nil {
		return described, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAppFile+1))
	switch {
	case err != nil:
		return described, err
	case len(text) > maxAppFile:
		return described, fmt.Errorf("%s has more than %d bytes", path, maxAppFile)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&described); err != nil {
		return described, fmt.Errorf("%s: %s", path, unknownField.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n"),
			`line $1: there is no key "$2"; 'oncelog doctor --help' shows those that there are`))
	}
	return described, nil
}

// doctorView is what was found.
type doctorView struct {
	Examined examinedView     `json:"examined"`
	Findings []client.Finding `json:"findings"`
	// NotKnown says what a cluster cannot tell.
	NotKnown []string `json:"not_known,omitempty"`
}

type examinedView struct {
	TransactionalIDs int `json:"transactional_ids"`
	Groups           int `json:"groups"`
	Partitions       int `json:"partitions"`
	Applications     int `json:"applications"`
}

func (v doctorView) write(w io.Writer) error {
	counts := map[client.Severity]int{}
	for _, f := range v.Findings {
		counts[f.Severity]++
		fmt.Fprintf(w, "%s %s: %s\n  breaks: %s\n  why:    %s\n  mend:   %s\n\n", f.Severity, f.Code, f.Subject, f.Breaks, f.Why, f.Mend)
	}
	if len(v.NotKnown) > 0 {
		fmt.Fprintln(w, "A cluster cannot know (describe the application with --app):")
		for _, what := range v.NotKnown {
			fmt.Fprintf(w, "  - %s\n", what)
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "examined: %s, %s, %s, %s; found: %d broken, %s, %s\n",
		counted(v.Examined.TransactionalIDs, "transactional id"), counted(v.Examined.Groups, "group"),
		counted(v.Examined.Partitions, "partition"), counted(v.Examined.Applications, "application"),
		counts[client.Broken], counted(counts[client.Warning], "warning"), counted(counts[client.Notice], "notice"))
	return err
}
