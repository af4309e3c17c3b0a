package arch

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dependencies are the modules that the product uses directly, tests included,
// each with its reason. A new one needs a line here, and a line needs a reason
// that a reviewer believes. Tools live in modules of their own (.ci/tools).
var dependencies = map[string]string{
	"github.com/cockroachdb/datadriven":                                           "scenarios of the cores in files that anybody can read and add to; tests only",
	"github.com/anishathalye/porcupine":                                           "searches an order of the coordinator's answers (linearizability); tests and simulator only",
	"github.com/cockroachdb/pebble/v2":                                            "storage engine of the log device: group commit, WAL recycling, torn-tail rules, memory and fault file systems for tests",
	"github.com/go-jose/go-jose/v4":                                               "bearer tokens: JWT and key sets, with the algorithms pinned by the caller",
	"github.com/grpc-ecosystem/go-grpc-middleware/v2":                             "server interceptors (logging, recovery) that everybody knows",
	"github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus":           "metrics of calls under the names that everybody's dashboards know",
	"github.com/hanwen/go-fuse/v2":                                                "disks that fail and lose what was not synced, under real processes; chaos runs and tests only",
	"github.com/jackc/pgx/v5":                                                     "the PostgreSQL driver, for the sinks; linked only by programs that import client/sink/postgres",
	"github.com/chromedp/cdproto":                                                 "the words that chromedp speaks; tests only",
	"github.com/chromedp/chromedp":                                                "a browser for the tests of the console; tests only",
	"github.com/klauspost/compress":                                               "zstd and snappy for record batches",
	"github.com/pierrec/lz4/v4":                                                   "lz4 for record batches, as Kafka clients expect it",
	"github.com/spf13/cobra":                                                      "command line with help and shell completion; two linked modules",
	"github.com/spf13/pflag":                                                      "cobra's flags, where configuration reads them",
	"github.com/prometheus/client_golang":                                         "metrics in Prometheus' format; the log device links it anyway",
	"go.etcd.io/raft/v3":                                                          "the Raft library: a core without I/O, used by etcd and others",
	"go.opentelemetry.io/otel":                                                    "spans, for programs that import client/otel, and the nodes' own",
	"go.opentelemetry.io/otel/trace":                                              "the same, the part without which there is no span",
	"go.opentelemetry.io/otel/sdk":                                                "nodes sample and batch their spans; tests look at them in memory",
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc":             "spans to a collector, over the gRPC that is there",
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc": "spans of calls, and their context in the metadata where others look for it",
	"go.opentelemetry.io/proto/otlp":                                              "a collector, in a test; the exporter links it anyway",
	"go.uber.org/goleak":                                                          "tests fail when they leave goroutines behind",
	"go.yaml.in/yaml/v3":                                                          "configuration files; maintained fork, one module",
	"golang.org/x/net":                                                            "a limit of connections for the metrics listener; gRPC links it anyway",
	"google.golang.org/genproto/googleapis/rpc":                                   "google.rpc.ErrorInfo, the standard carrier of error details",
	"google.golang.org/grpc":                                                      "the wire",
	"google.golang.org/protobuf":                                                  "the wire's messages",
}

// TestDirectDependencies compares the modules that the source imports with the
// list, in both directions.
func TestDirectDependencies(t *testing.T) {
	t.Parallel()
	required := requiredModules(t)
	used := map[string]string{} // module to the first file that imports it
	for _, f := range tree(t) {
		for _, imported := range f.imports() {
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") || covers(module+"/...", imported) {
				continue
			}
			m := moduleOf(required, imported)
			if m == "" {
				t.Errorf("%s imports %s, and go.mod requires no module that has it", f.path, imported)
			} else if used[m] == "" {
				used[m] = f.path
			}
		}
	}
	for _, m := range slices.Sorted(maps.Keys(used)) {
		if dependencies[m] == "" {
			t.Errorf("%s uses the module %s, which is not in the list of dependencies", used[m], m)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(dependencies)) {
		if used[m] == "" {
			t.Errorf("nothing uses the module %s any more: remove it from the list and run go mod tidy", m)
		}
	}
}

// moduleOf returns the required module with the longest path that covers a
// package.
func moduleOf(required []string, imported string) string {
	best := ""
	for _, m := range required {
		if covers(m+"/...", imported) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// requiredModules returns the paths of all modules that go.mod requires.
func requiredModules(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
			modules = append(modules, fields[0])
		}
	}
	return modules
}
