package deploy

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

// maxExposure is how exposed systemd may find a unit, of 10; one without any hardening
// has 9.6.
const maxExposure = 2.0

// unit returns a unit with a program that is there.
func unit(t *testing.T, kind string) (name, text string) {
	t.Helper()
	name = "oncelog-" + kind + ".service"
	text = readText(t, "deploy", "systemd", name)
	start := "ExecStart=/usr/local/bin/oncelog " + kind + " --config /etc/oncelog/oncelog.yaml\n"
	if !strings.Contains(text, start) {
		t.Fatalf("%s does not start a %s node", name, kind)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return name, strings.ReplaceAll(text, "/usr/local/bin/oncelog", self)
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"coordinator", "partition"} {
		_, text := unit(t, kind)
		for _, line := range []string{
			"User=oncelog", "Restart=always", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict",
			"StateDirectory=oncelog-" + kind, "Environment=ONCELOG_DATA_DIR=/var/lib/oncelog-" + kind,
		} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("%s: %s is missing", kind, line)
			}
		}
		// The file beside them is one that it starts with.
		err := config.Load(section(t, kind), config.Sources{
			File: filepath.Join(root, "deploy", "systemd", "oncelog.yaml"), Environ: []string{"ONCELOG_DATA_DIR=/var/lib/oncelog-" + kind},
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestUnitsAreVerified by systemd itself, which also says how exposed they are.
func TestUnitsAreVerified(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, kind := range []string{"coordinator", "partition"} {
		name, text := unit(t, kind)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// What is only a warning, such as a key that does not exist, is printed and is no failure.
		if out, err := exec.CommandContext(ctx, program, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		out, err := exec.CommandContext(ctx, program, "security", "--no-pager", "--offline=true", path).CombinedOutput()
		m := exposure.FindStringSubmatch(string(out))
		if err != nil || m == nil {
			t.Logf("%s: this systemd cannot judge files (it takes 250 or newer): %v", name, err)
			continue
		}
		if level, err := strconv.ParseFloat(m[1], 64); err != nil || level >= maxExposure {
			t.Errorf("%s: exposure %s, it has to be below %v:\n%s", name, m[1], maxExposure, out)
		}
	}
}

var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
