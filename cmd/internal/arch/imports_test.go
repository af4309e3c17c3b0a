package arch

import (
	"slices"
	"strings"
	"testing"
)

// importRule says what the packages of one folder may import. The most specific
// rule counts.
type importRule struct {
	// dir is a folder; "dir/..." also covers what is below it.
	dir string
	// may lists import paths; a trailing /... covers what is below. "std" is the
	// standard library, "all" is everything. Paths of this module begin with
	// "./".
	may []string
	// tests lists what test files may import besides. All of them may import
	// the standard library, ./api/..., ./internal/golden and goleak.
	tests []string
	// why is printed with every violation.
	why string
}

// pureImports is the standard library of a pure core. Nothing in it can reach a
// clock, a file, a socket or a goroutine.
var pureImports = []string{
	"cmp", "container/heap", "encoding/binary", "errors", "hash/crc32", "iter", "maps", "math", "math/bits", "slices", "strconv", "strings",
	"./api/codec",
}

// scenarioFiles is what the tests of a core read their stories with.
var scenarioFiles = []string{"github.com/cockroachdb/datadriven"}

const (
	whyPure = "a core is a pure function of its commands, so that every replica and every replay computes the same state; " +
		"a short list is the only way to keep clocks, files and goroutines out, for fmt alone imports os and time"
	whySides = "coordinator and partition meet on the wire and nowhere else; each can then be understood, tested and " +
		"upgraded without the other"
)

var importRules = []importRule{
	{
		dir: "api/codec", may: []string{"std"},
		why: "the cores build on it",
	},
	{
		dir: "api/acl", may: []string{"cmp", "slices", "strings"},
		why: "cores decide by it, so it is as pure as they are",
	},
	{
		dir: "api/oncelog/v1", may: []string{"std", "google.golang.org/grpc/...", "google.golang.org/protobuf/..."},
		why: "generated",
	},
	{
		dir: "api/batch", may: []string{"std", "./api/...", "github.com/klauspost/compress/...", "github.com/pierrec/lz4/v4"},
		why: "the batch format is shared by client and partition and knows neither; compression is its only need from outside",
	},
	{
		dir: "api/...", may: []string{
			"std", "./api/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/...",
			"google.golang.org/genproto/googleapis/rpc/...",
		},
		why: "api is the contract in Go: whoever speaks it must not get a server with it",
	},
	{dir: "coordinator/txn", may: pureImports, tests: scenarioFiles, why: whyPure},
	{dir: "coordinator/group", may: pureImports, tests: scenarioFiles, why: whyPure},
	{dir: "coordinator/catalog", may: slices.Concat(pureImports, []string{"./api/acl"}), why: whyPure},
	{dir: "coordinator/membership", may: pureImports, why: whyPure},
	{dir: "partition/pstate", may: pureImports, tests: scenarioFiles, why: whyPure},
	{
		dir: "partition/compact", may: []string{"std", "./api/batch"},
		why: "what is left of a batch follows from its records and the keys alone",
	},
	{
		dir: "coordinator/...", may: []string{
			"std", "./api/...", "./internal/access", "./internal/clock", "./internal/datafile", "./internal/task", "./internal/trace", "./coordinator/...", "./raftstore", "google.golang.org/grpc/...", "google.golang.org/protobuf/...",
		},
		tests: []string{"./raftstore/..."},
		why:   whySides,
	},
	{
		dir: "partition/...", may: []string{
			"std", "./api/...", "./internal/access", "./internal/clock", "./internal/datafile", "./internal/dial", "./internal/task", "./internal/trace", "./partition/...", "./raftstore", "google.golang.org/grpc/...", "google.golang.org/protobuf/...",
		},
		tests: []string{"./raftstore/..."},
		why:   whySides,
	},
	{
		dir: "raftstore", may: []string{"std", "./internal/task", "go.etcd.io/raft/v3/...", "google.golang.org/protobuf/..."},
		tests: []string{"./raftstore/...", "github.com/cockroachdb/pebble/v2/..."},
		why: "raftstore replicates bytes: it knows nothing of transactions, and log device and transport " +
			"are handed to it",
	},
	{
		dir: "raftstore/pebblelog", may: []string{
			"std", "./api/codec", "./internal/datafile", "./raftstore/...", "go.etcd.io/raft/v3/...", "google.golang.org/protobuf/...",
			"github.com/cockroachdb/pebble/v2/...",
		},
		why: "the only package that knows the storage engine, so that another can take its place",
	},
	{
		dir: "raftstore/rafttransport", may: []string{
			"std", "./api/...", "./internal/wire", "./raftstore/...", "go.etcd.io/raft/v3/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/...",
		},
		why: "the only package of raftstore that knows the wire",
	},
	{
		dir: "raftstore/...", may: []string{"std", "./raftstore/...", "go.etcd.io/raft/v3/...", "google.golang.org/protobuf/..."},
		tests: []string{"github.com/cockroachdb/pebble/v2/..."},
		why:   "raftstore replicates bytes and knows nothing of transactions",
	},
	{
		dir: "internal/task", may: []string{"std"},
		why: "everything that waits builds on it",
	},
	{
		dir: "internal/trace", may: []string{"std", "./api/..."},
		why: "nodes tell of spans and know no tracing system: cmd/internal/tracing does",
	},
	{
		dir: "internal/datafile", may: []string{"std", "./api/codec"},
		why: "both kinds of node keep their small files with it",
	},
	{
		dir: "internal/golden", may: []string{"std"},
		why: "the tests of every package build on it",
	},
	{
		dir: "internal/pki", may: []string{"std"},
		why: "nodes, commands and tests make and read certificates with it",
	},
	{
		dir: "internal/access", may: []string{"std", "./api/..."},
		why: "coordinator and partition decide by it, and neither may know the other",
	},
	{
		dir: "internal/clock", may: []string{"std", "./api/..."},
		why: "coordinator and partition compare clocks with it, and neither may know the other",
	},
	{
		dir: "internal/dial", may: []string{"std", "google.golang.org/grpc"},
		why: "the client, a partition node's client of the coordinator and the simulator meet in it",
	},
	{
		dir: "internal/wire", may: []string{"std", "./api/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/..."},
		why: "the SDK and nodes send and receive batches with it",
	},
	{
		dir: "internal/pgserver", may: []string{"std"},
		why: "tests of whatever writes to PostgreSQL start one with it",
	},
	{
		dir: "client/clienttest/...", may: []string{"all"},
		why: "a real cluster in memory",
	},
	{
		dir: "client/streams/internal/engine", may: slices.Concat(pureImports, []string{
			"bytes", "time", "./client", "./client/streams/state", "./client/streams/internal/sorted",
		}),
		tests: []string{"./internal/golden"},
		why: "a task is what its records and times make it, so that the test driver and the workers run the same code; of " +
			"the client it has the record, of package time the type",
	},
	{
		dir: "client/streams/internal/sorted", may: []string{"bytes", "slices"},
		why: "a map",
	},
	{
		dir: "client/streams/state", may: []string{"errors", "slices", "sync", "./client/streams/internal/sorted"},
		tests: []string{"./client/streams/state/statetest"},
		why:   "what a backend has to do, and the one in memory: users bring others",
	},
	{
		dir: "client/streams/state/pebblestate", may: []string{"std", "./client/streams/state", "github.com/cockroachdb/pebble/v2/..."},
		tests: []string{"./client/streams/state/statetest"},
		why:   "the only package of the client with a storage engine: who wants files imports it",
	},
	{
		dir: "client/metrics", may: []string{"std", "./client", "github.com/prometheus/client_golang/..."},
		tests: []string{"./client/clienttest"},
		why:   "the only package of the client that knows Prometheus, so that whoever does not import it does not link it",
	},
	{
		dir: "client/otel", may: []string{
			"std", "./api/oncelog/v1", "./client", "google.golang.org/grpc/...", "go.opentelemetry.io/otel/...",
			"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc",
		},
		tests: []string{"./client/clienttest"},
		why:   "the only package of the client that knows OpenTelemetry, so that whoever does not import it does not link it",
	},
	{
		dir: "client/sink/postgres", may: []string{
			"std", "./api/...", "./client", "./client/sink", "github.com/jackc/pgx/v5/...",
		},
		tests: []string{"./client/...", "./internal/pgserver"},
		why:   "the only package that knows the database, so that whoever does not import it does not link it",
	},
	{
		dir: "client/...", may: []string{
			"std", "./api/...", "./internal/...", "./client/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/...",
		},
		tests: []string{"./client/clienttest/...", "github.com/cockroachdb/pebble/v2/vfs"},
		why:   "users import the client: it brings them the contract and gRPC, never a server or a storage engine",
	},
	{
		dir: "cmd/internal/arch", may: []string{"std"},
		why: "it judges the others",
	},
	{
		dir: "cmd/internal/config", may: []string{"std", "go.yaml.in/yaml/v3", "github.com/spf13/pflag"},
		why: "configuration is values; what they start is wired elsewhere",
	},
	{dir: "cmd/...", may: []string{"all"}, why: "cmd starts everything"},
}

// forbidden are packages of the standard library that have a better successor.
// A program, such as an example, may take the short way.
var forbidden = map[string]string{
	"io/ioutil": "deprecated: use io and os",
	"log":       "logging takes a *slog.Logger that is handed in",
	"math/rand": "use math/rand/v2, with a seed that is printed",
}

func TestImportDirections(t *testing.T) {
	t.Parallel()
	for _, f := range tree(t) {
		rule, ok := ruleFor(f.dir)
		if !ok {
			t.Errorf("%s: no rule for its folder: add one with its reason to importRules", f.path)
			continue
		}
		for _, imported := range f.imports() {
			why, bad := forbidden[imported]
			if bad && !f.generated && f.syntax.Name.Name != "main" {
				t.Errorf("%s imports %s: %s", f.path, imported, why)
			}
			if !allowed(rule, f, imported) {
				t.Errorf("%s imports %s, which %s may not: %s", f.path, imported, rule.dir, rule.why)
			}
		}
	}
}

// ruleFor returns the most specific rule: the one that names the folder, else
// the one with the longest folder above it.
func ruleFor(dir string) (best importRule, found bool) {
	for _, r := range importRules {
		switch {
		case r.dir == dir:
			return r, true
		case covers(r.dir, dir) && len(r.dir) > len(best.dir):
			best, found = r, true
		}
	}
	return best, found
}

func allowed(r importRule, f *file, imported string) bool {
	if imported == module+"/"+f.dir {
		return true // an external test package of its own package
	}
	may := r.may
	if f.test {
		may = slices.Concat(r.may, r.tests, []string{"std", "./api/...", "./internal/golden", "go.uber.org/goleak"})
	}
	first, _, _ := strings.Cut(imported, "/")
	std := !strings.Contains(first, ".")
	name := imported
	if own, ok := strings.CutPrefix(imported, module+"/"); ok {
		name = "./" + own
	}
	return slices.ContainsFunc(may, func(m string) bool {
		return m == "all" || m == "std" && std || covers(m, name)
	})
}

// covers reports whether a pattern, a path or a path with /..., covers a path.
func covers(pattern, path string) bool {
	prefix, below := strings.CutSuffix(pattern, "/...")
	return path == prefix || below && strings.HasPrefix(path, prefix+"/")
}

func TestRuleForPrefersTheMostSpecific(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{
		"coordinator":           "coordinator/...",
		"coordinator/txn":       "coordinator/txn",
		"coordinator/other":     "coordinator/...",
		"raftstore":             "raftstore",
		"raftstore/memlog":      "raftstore/...",
		"client/clienttest":     "client/clienttest/...",
		"cmd/internal/arch":     "cmd/internal/arch",
		"cmd/oncelog":           "cmd/...",
		"elsewhere":             "",
		"coordinatorsomething":  "",
		"partition/pstate/deep": "partition/...",
	} {
		if got, _ := ruleFor(dir); got.dir != want {
			t.Errorf("%s: rule %q, want %q", dir, got.dir, want)
		}
	}
}
