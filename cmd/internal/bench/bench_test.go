package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func good() Config {
	return Config{Duration: time.Second, Rounds: 1, Producers: 1, Partitions: 1}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	c := good()
	c.Workloads = WorkloadNames()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no time":          func(c *Config) { c.Duration = 0 },
		"no rounds":        func(c *Config) { c.Rounds = 0 },
		"many rounds":      func(c *Config) { c.Rounds = maxRounds + 1 },
		"no producers":     func(c *Config) { c.Producers = 0 },
		"many producers":   func(c *Config) { c.Producers = maxProducers + 1 },
		"no partitions":    func(c *Config) { c.Partitions = 0 },
		"many partitions":  func(c *Config) { c.Partitions = maxPartitions + 1 },
		"unknown workload": func(c *Config) { c.Workloads = []string{"one", "two"} },
	} {
		c := good()
		spoil(&c)
		if err := c.Check(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestChosen(t *testing.T) {
	t.Parallel()
	c := good()
	if got := len(c.chosen()); got != len(WorkloadNames()) {
		t.Errorf("%d workloads by default", got)
	}
	c.Workloads = []string{"bulk", "one"}
	if got := c.chosen(); len(got) != 2 || got[0].name != "one" || got[1].name != "bulk" {
		t.Errorf("chosen: %d", len(got))
	}
}

// TestBench measures everything, for a moment, and checks what does not depend on
// the machine: the cost.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	t.Parallel()
	binary, dir := filepath.Join(t.TempDir(), "oncelog"), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/oncelog/oncelog/cmd/oncelog").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	var told bytes.Buffer
	r, err := Run(t.Context(), Config{
		Binary: binary, Dir: dir, Duration: 200 * time.Millisecond, Rounds: 2, Producers: 4, Partitions: 3, Progress: &told,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	for _, w := range r.Workloads {
		if len(w.Rounds) != 2 || w.Min.Throughput <= 0 {
			t.Errorf("%s: %+v", w.Name, w)
		}
		if w.Latency != "" && (w.Min.Times.P50 <= 0 || w.Min.Times.P999 < w.Min.Times.P50) {
			t.Errorf("%s: times %+v", w.Name, w.Min.Times)
		}
	}
	// One producer, one record: its append and its marker are a command each, the
	// decision one, the acknowledgement of the marker at most one more. On a slow
	// machine some transactions are enlisted, too.
	cost := r.Workloads[0].Median.Cost
	if p := cost.Partitions.Commands; p < 1.9 || p > 3 {
		t.Errorf("%v commands on partition nodes per transaction", p)
	}
	if c := cost.Coordinators.Commands; c < 1 || c > 4 {
		t.Errorf("%v commands on coordinators per transaction", c)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v %v", left, err)
	}
}
