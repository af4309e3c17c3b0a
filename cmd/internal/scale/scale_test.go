package scale

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/cluster"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// nodeVariable makes the test binary a node. It has no ONCELOG_ prefix: the
// configuration refuses variables with it that it does not know.
const nodeVariable = "SCALE_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(nodeVariable) != "" {
		if err := runNode(cluster.Role(os.Args[1])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runNode is what `oncelog coordinator` and `oncelog partition` do.
func runNode(role cluster.Role) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	from := config.Sources{Environ: os.Environ()}
	if role == cluster.Coordinator {
		cfg := config.DefaultCoordinator()
		if err := config.Load(cfg, from); err != nil {
			return err
		}
		return node.RunCoordinator(ctx, cfg, cfg.Log.Logger(os.Stderr))
	}
	cfg := config.DefaultPartition()
	if err := config.Load(cfg, from); err != nil {
		return err
	}
	return node.RunPartition(ctx, cfg, cfg.Log.Logger(os.Stderr))
}

func good() Config {
	return Config{
		IDs: 2000, Open: 40, Producers: 40, Partitions: 12, LogBytes: 4 << 20, Duration: 50 * time.Millisecond, Rounds: 1,
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	c := good()
	c.Figures = Figures()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no ids":                  func(c *Config) { c.IDs = 0 },
		"many ids":                func(c *Config) { c.IDs = maxIDs + 1 },
		"more open than ids":      func(c *Config) { c.Open = c.IDs + 1 },
		"fewer than none open":    func(c *Config) { c.Open = -1 },
		"many producers":          func(c *Config) { c.Producers = maxIDs + 1 },
		"fewer than no producers": func(c *Config) { c.Producers = -1 },
		"no partitions":           func(c *Config) { c.Partitions = 0 },
		"many partitions":         func(c *Config) { c.Partitions = maxPartitions + 1 },
		"a short log":             func(c *Config) { c.LogBytes = 1<<20 - 1 },
		"a long log":              func(c *Config) { c.LogBytes = maxLogBytes + 1 },
		"no time":                 func(c *Config) { c.Duration = 0 },
		"no rounds":               func(c *Config) { c.Rounds = 0 },
		"many rounds":             func(c *Config) { c.Rounds = maxRounds + 1 },
		"a wait below nothing":    func(c *Config) { c.Settle = -1 },
		"an unknown figure":       func(c *Config) { c.Figures = []string{Log, "speed"} },
	} {
		c := good()
		spoil(&c)
		if err := c.Check(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMetricIsFound(t *testing.T) {
	t.Parallel()
	text := "# HELP go_x_y a thing\ngo_x_y_total 3\ngo_x_y 1.5e+06\n"
	if v, err := metric(text, "go_x_y"); err != nil || v != 1.5e6 {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := metric(text, "go_x"); err == nil {
		t.Errorf("a metric that is not there is %v", v)
	}
}

// measured runs one figure in small, and checks that it leaves nothing behind.
func measured(t *testing.T, figure string) *Result {
	t.Helper()
	if testing.Short() {
		t.Skip("starts clusters of processes")
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	cfg := good()
	cfg.Figures, cfg.Binary, cfg.Dir, cfg.Env, cfg.Progress = []string{figure}, binary, t.TempDir(), []string{nodeVariable + "=1"}, &told
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v %v", left, err)
	}
	return r
}

// What does not depend on the machine: everything was there, and was measured.
func TestState(t *testing.T) {
	t.Parallel()
	r := measured(t, State)
	s := r.State
	if s == nil || r.Log != nil {
		t.Fatalf("measured %+v", r)
	}
	if s.Large.IDs != 2000 || s.Small.IDs != 2 || s.Small.Open != 1 || s.Small.Partitions != 1 {
		t.Errorf("sizes %+v and %+v", s.Small, s.Large)
	}
	if len(s.Ratios) != 1 || len(s.SmallKills) != 1 || len(s.LargeKills) != 1 {
		t.Errorf("%d ratios, %d and %d kills", len(s.Ratios), len(s.SmallKills), len(s.LargeKills))
	}
	for _, c := range []Times{s.SmallCommits, s.LargeCommits} {
		if c.P50 <= 0 || c.Max < c.P99 || c.P99 < c.P50 {
			t.Errorf("commits %+v", c)
		}
	}
	for _, k := range append(s.SmallKills, s.LargeKills...) {
		if k.Commit <= 0 || k.Restart <= 0 || k.CaughtUp < k.Restart {
			t.Errorf("kill %+v", k)
		}
	}
	var table strings.Builder
	if err := r.Write(&table); err != nil || !strings.Contains(table.String(), "p50 of a commit, large to small") {
		t.Errorf("%v\n%s", err, table.String())
	}
}

// It takes ten seconds, in which a coordinator believes that a killed node is alive.
func TestLog(t *testing.T) {
	t.Parallel()
	r := measured(t, Log)
	if l := r.Log; l == nil || r.State != nil || l.DiskBytes < l.LogBytes || l.Serving <= 0 || l.Recovered < l.Serving || l.Wiped <= 0 {
		t.Errorf("log %+v", l)
	}
	var table strings.Builder
	if err := r.Write(&table); err != nil || !strings.Contains(table.String(), "start of a wiped node") {
		t.Errorf("%v\n%s", err, table.String())
	}
}
