package metrics

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	clientmetrics "github.com/oncelog/oncelog/client/metrics"
)

// What is offered beside the program (rules, dashboard, runbook) is held here to the
// table of metrics and to each other. That the rules do what they say is tested with
// promtool: make alerts.

// rule is one alert or recording rule.
type rule struct {
	Alert       string
	Record      string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func monitoringFile(name string) string { return filepath.Join(root, "deploy", "monitoring", name) }

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func rules(t *testing.T, name string) (list []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(readText(t, monitoringFile(name))), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) == 0 {
		t.Fatalf("%s has no rules", name)
	}
	return list
}

// ofOthers are the metrics that are not in the table: of go-grpc-middleware, of the
// collectors for Go programs, and of Prometheus itself.
var ofOthers = []string{
	"grpc_server_started_total", "grpc_server_handled_total", "grpc_server_msg_received_total", "grpc_server_msg_sent_total",
	"grpc_server_handling_seconds_bucket", "process_cpu_seconds_total", "process_resident_memory_bytes", "go_goroutines", "up",
}

// promQL finds the names in an expression. Function names are followed by a
// parenthesis; label names stand in braces or behind by, on and the like.
var (
	promQLName   = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	promQLLabels = regexp.MustCompile(`\{[^}]*\}|\b(by|on|ignoring|without|group_left|group_right) *\([^)]*\)|"[^"]*"|\[[^\]]*\]`)
	promQLCall   = regexp.MustCompile(`[a-z_]+ *\(`)
	promQLWords  = []string{"by", "on", "ignoring", "and", "or", "unless", "group_left", "group_right"}
)

// metricsIn returns the names of metrics in an expression: those that the table or a
// recording rule has, and those that nobody has.
func metricsIn(expr string, recorded []string) (there, missing []string) {
	plain := promQLCall.ReplaceAllString(promQLLabels.ReplaceAllString(expr, " "), " ( ")
	for _, name := range promQLName.FindAllString(plain, -1) {
		switch {
		case slices.Contains(promQLWords, name):
		case slices.Contains(recorded, name), slices.Contains(ofOthers, name), known(name):
			there = append(there, name)
		default:
			missing = append(missing, name)
		}
	}
	return there, missing
}

func checkExpr(t *testing.T, where, expr string, recorded []string) {
	t.Helper()
	there, missing := metricsIn(expr, recorded)
	if len(missing) > 0 || len(there) == 0 {
		t.Errorf("%s: %q has the metrics %v; there is none named %v", where, expr, there, missing)
	}
}

func TestMetricsInAnExpression(t *testing.T) {
	t.Parallel()
	there, missing := metricsIn(`histogram_quantile(0.9, sum by (le, job) (rate(oncelog_log_fsync_duration_seconds_bucket{role="x"}[5m])))
		/ on (job) group_left () job:known:rate5m > oncelog_nonsense and up == 0 or oncelog_log_fsync_duration_seconds`, []string{"job:known:rate5m"})
	if want := []string{"oncelog_log_fsync_duration_seconds_bucket", "job:known:rate5m", "up"}; !slices.Equal(there, want) {
		t.Errorf("%v, want %v", there, want)
	}
	// A histogram has no series of its own name.
	if want := []string{"oncelog_nonsense", "oncelog_log_fsync_duration_seconds"}; !slices.Equal(missing, want) {
		t.Errorf("missing %v, want %v", missing, want)
	}
}

// known reports whether a name is that of a metric, or of a part of a histogram.
func known(name string) bool {
	if m, ok := find(name); ok {
		return m.kind != histogram // it has no series of its own name
	}
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, part); cut {
			m, ok := find(base)
			return ok && m.kind == histogram
		}
	}
	return false
}

func recordedNames(t *testing.T) (names []string) {
	for _, r := range rules(t, "recording.rules.yaml") {
		names = append(names, r.Record)
	}
	return names
}

func TestRulesUseMetricsThatExist(t *testing.T) {
	t.Parallel()
	recorded := recordedNames(t)
	tests := readText(t, monitoringFile("recording.test.yaml"))
	for _, r := range rules(t, "recording.rules.yaml") {
		checkExpr(t, r.Record, r.Expr, recorded)
		if !strings.Contains(tests, "expr: "+r.Record) {
			t.Errorf("%s has no test", r.Record)
		}
	}
	for _, r := range rules(t, "alerts.rules.yaml") {
		checkExpr(t, r.Alert, r.Expr, recorded)
	}
}

// TestRunbook: somebody who is woken up finds what to do under the name of the alert.
func TestRunbook(t *testing.T) {
	t.Parallel()
	sections := strings.Split(readText(t, filepath.Join(root, "RUNBOOK.md")), "\n## ")
	bodies := map[string]string{}
	for _, s := range sections[1:] {
		title, body, _ := strings.Cut(s, "\n")
		bodies[title] = body
	}
	tests := readText(t, monitoringFile("alerts.test.yaml"))
	var alerts []string
	for _, r := range rules(t, "alerts.rules.yaml") {
		alerts = append(alerts, r.Alert)
		for _, part := range []string{"**Meaning.**", "**Where to look.**", "**What to do.**"} {
			if !strings.Contains(bodies[r.Alert], part) {
				t.Errorf("RUNBOOK.md: the section of %s has no %s", r.Alert, part)
			}
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" {
			t.Errorf("%s has severity %q and summary %q", r.Alert, r.Labels["severity"], r.Annotations["summary"])
		}
		if !strings.HasSuffix(r.Annotations["runbook_url"], "/RUNBOOK.md#"+strings.ToLower(r.Alert)) {
			t.Errorf("%s: runbook_url %q is not its section", r.Alert, r.Annotations["runbook_url"])
		}
		if n := strings.Count(tests, "alertname: "+r.Alert+"\n"); n < 2 {
			t.Errorf("%s has %d tests: one in which it comes, and one in which it does not", r.Alert, n)
		}
	}
	for _, title := range slices.Sorted(maps.Keys(bodies)) {
		if !slices.Contains(alerts, title) {
			t.Errorf("RUNBOOK.md: there is no alert %s", title)
		}
	}
	if len(alerts) != len(bodies) {
		t.Errorf("%d alerts and %d sections", len(alerts), len(bodies))
	}
}

// ourNames finds the names of our own metrics, and of recording rules, in prose.
var ourNames = regexp.MustCompile(`[a-z0-9_:]*oncelog_[a-z0-9_:]*[a-z0-9]`)

func TestPagesNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	recorded := recordedNames(t)
	for _, r := range clientmetrics.Table() {
		recorded = append(recorded, r.Name)
	}
	for _, page := range []string{"RUNBOOK.md", "docs/METRICS.md"} {
		for _, name := range ourNames.FindAllString(readText(t, filepath.Join(root, page)), -1) {
			if _, ok := find(name); !ok && !known(name) && !slices.Contains(recorded, name) {
				t.Errorf("%s: there is no metric %s", page, name)
			}
		}
	}
}

// dashboardPanel is what a test has to know of Grafana's panels.
type dashboardPanel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	var board struct {
		UID    string
		Title  string
		Panels []dashboardPanel
	}
	if err := json.Unmarshal([]byte(readText(t, monitoringFile("dashboard.json"))), &board); err != nil {
		t.Fatal(err)
	}
	recorded := recordedNames(t)
	ids := map[int]bool{}
	for i, p := range board.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d, %q: an id twice, or no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkExpr(t, p.Title, strings.ReplaceAll(target.Expr, "or vector(0)", ""), recorded)
			if !strings.Contains(target.Expr, `job="$job"`) {
				t.Errorf("panel %q mixes clusters: %s", p.Title, target.Expr)
			}
		}
		for _, q := range board.Panels[:i] {
			a, b := p.GridPos, q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %q and %q lie on each other", p.Title, q.Title)
			}
		}
	}
}

// TestConfigurationToBeginWith: the nodes of the compose file, and the rules beside it.
func TestConfigurationToBeginWith(t *testing.T) {
	t.Parallel()
	var prometheus struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			StaticConfigs []struct {
				Targets []string
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(readText(t, monitoringFile("prometheus.yaml"))), &prometheus); err != nil {
		t.Fatal(err)
	}
	for _, name := range prometheus.RuleFiles {
		rules(t, name)
	}
	compose := readText(t, filepath.Join(root, "deploy", "compose.yaml"))
	var services struct {
		Services map[string]struct{ Profiles []string }
	}
	if err := yaml.Unmarshal([]byte(compose), &services); err != nil {
		t.Fatal(err)
	}
	job := prometheus.ScrapeConfigs[0]
	var want []string
	for _, service := range slices.Sorted(maps.Keys(services.Services)) {
		if len(services.Services[service].Profiles) == 0 { // those of the profile are no nodes
			want = append(want, service+":7102")
		}
	}
	if targets := job.StaticConfigs[0].Targets; job.JobName != "oncelog" || !slices.Equal(targets, want) {
		t.Errorf("job %s has the targets %v, compose has %v", job.JobName, targets, want)
	}
	if n := strings.Count(compose, "ONCELOG_METRICS_LISTEN: 0.0.0.0:7102"); n != 2 {
		t.Errorf("%d kinds of nodes show metrics in compose", n)
	}
}
