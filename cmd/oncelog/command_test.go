package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/internal/task"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands print into testdata; the difference is for review")

// programVariable makes the test binary the program. It has no ONCELOG_ prefix: those are
// settings.
const programVariable = "RUN_AS_PROGRAM"

// clockVariable is by how much the clock of a node that the program runs is ahead.
const clockVariable = "RUN_AHEAD"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		if ahead, err := time.ParseDuration(os.Getenv(clockVariable)); err == nil {
			run(node.WithRuntime(task.Ahead(ahead)))
		}
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// TestScenarios runs the command lines of testdata/*.txt, one cluster per file,
// and compares everything that they print with what is written below them.
// Covers AD-01 of CONFORMANCE.md.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := playScenario(t, string(text))
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s differs; run the test with -rewrite and look at the difference. Got:\n%s", path, got)
			}
		})
	}
}

// playScenario executes the lines of a scenario:
//
//	# a comment
//	! setting         of the fake cluster, see set
//	< text            the next command's standard input, \n for a line feed
//	$ oncelog ...     a command line; what it prints follows, indented
func playScenario(t *testing.T, text string) string {
	t.Helper()
	s := &scenario{t: t, fake: startFake(t), dir: t.TempDir()}
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		case strings.HasPrefix(line, "! "):
			fmt.Fprintln(&out, line)
			s.set(line[2:])
		case strings.HasPrefix(line, "< "):
			fmt.Fprintln(&out, line)
			s.input = strings.ReplaceAll(line[2:], `\n`, "\n")
		case strings.HasPrefix(line, "$ oncelog"):
			fmt.Fprintln(&out, line)
			for printed := range strings.Lines(s.run(strings.Fields(line[len("$ oncelog"):]))) {
				out.WriteString("    " + printed)
			}
			fmt.Fprintln(&out)
		}
	}
	return out.String()
}

type scenario struct {
	t       *testing.T
	fake    *fakeCluster
	dir     string
	input   string
	environ []string
}

// set changes the fake cluster.
func (s *scenario) set(what string) {
	name, value, _ := strings.Cut(what, " ")
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	switch name {
	case "hidden":
		_, err := fmt.Sscan(value, &s.fake.hidden)
		if err != nil {
			s.t.Fatal(err)
		}
	case "refuse":
		s.fake.refuse = apierrors.New(oncelogv1.ErrorCode(oncelogv1.ErrorCode_value["ERROR_CODE_"+value]), "")
	case "lowdisk":
		s.fake.disk = &oncelogv1.DiskStatus{FreeBytes: 12 << 20, MinFreeBytes: 256 << 20, Low: true}
	case "duel":
		s.fake.duel = true
	case "prepared":
		s.fake.prepared = &fakePrepared{}
	case "stuck":
		s.fake.placement.stuck, s.fake.stuck = true, true
	case "denied":
		s.fake.denied = true
	case "leaderless":
		s.fake.leaderless = true
	case "env":
		s.environ = append(s.environ, value)
	case "file":
		name, content, _ := strings.Cut(value, " ")
		content = strings.ReplaceAll(content, `\n`, "\n")
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			s.t.Fatal(err)
		}
	default:
		s.t.Fatalf("no setting %q", what)
	}
}

// volatile is what differs from run to run.
var volatile = regexp.MustCompile(`(; )[0-9.]+[µm]?s, [0-9,]+/s|("seconds": )[0-9.e-]+|("timestamp_ms":")[0-9]+|(the last answer was ).*`)

// run executes a command line and returns what it prints: standard output, then
// standard error with a mark, then the exit code if it is not 0.
func (s *scenario) run(args []string) string {
	for i, arg := range args {
		args[i] = strings.NewReplacer("DIR", s.dir, "UNREACHABLE", unreachable).Replace(arg)
	}
	var out, errs bytes.Buffer
	a := &app{
		in: strings.NewReader(s.input), out: &out, err: &errs, now: func() time.Time { return time.UnixMilli(fakeTime) }, look: time.Millisecond, quiet: time.Hour,
		environ: append([]string{"ONCELOG_SERVERS=" + s.fake.address}, s.environ...),
	}
	s.input = ""
	code := a.run(context.Background(), args)
	text := out.String()
	for line := range strings.Lines(errs.String()) {
		text += "2> " + line
	}
	if code != 0 {
		text += fmt.Sprintf("exit %d\n", code)
	}
	text = volatile.ReplaceAllString(text, "${1}${2}${3}${4}...")
	return strings.NewReplacer(s.fake.address, "ADDRESS", s.dir, "DIR").Replace(text)
}
