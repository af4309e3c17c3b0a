package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/cluster"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// nodeVariable makes the test binary a node. It has no ONCELOG_ prefix: the
// configuration refuses variables with it that it does not know.
const nodeVariable = "E2E_NODE"

var keep = flag.Bool("keep", false, "keep the data directories and logs of the clusters, and say where they are")

func TestMain(m *testing.M) {
	if os.Getenv(nodeVariable) != "" {
		if err := runNode(cluster.Role(os.Args[1])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if job := os.Getenv(sinkVariable); job != "" {
		if err := runSink(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if task := os.Getenv(memberVariable); task != "" {
		if err := runMember(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runNode is what `oncelog coordinator` and `oncelog partition` do.
func runNode(role cluster.Role) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	from := config.Sources{Environ: os.Environ()}
	switch role {
	case cluster.Coordinator:
		cfg := config.DefaultCoordinator()
		if err := config.Load(cfg, from); err != nil {
			return err
		}
		return node.RunCoordinator(ctx, cfg, cfg.Log.Logger(os.Stderr))
	case cluster.Partition:
		cfg := config.DefaultPartition()
		if err := config.Load(cfg, from); err != nil {
			return err
		}
		return node.RunPartition(ctx, cfg, cfg.Log.Logger(os.Stderr))
	default:
		return fmt.Errorf("no such role: %q", role)
	}
}

// startTimeout bounds the start of a cluster.
const startTimeout = time.Minute

// startCluster starts nodes that are this very program, unless cfg names another.
func startCluster(ctx context.Context, cfg cluster.Config) (*cluster.Cluster, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if cfg.Binary == "" {
		cfg.Binary = binary
	}
	cfg.Env = append(cfg.Env, nodeVariable+"=1")
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return cluster.Start(ctx, cfg)
}

// shared is the cluster of the tests that do no harm.
var shared sharedWorld

type sharedWorld struct {
	once sync.Once
	w    *world
	dir  string
	err  error
}

// sharedCluster returns the cluster that is shared by all tests that leave it as
// it is.
func sharedCluster(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "oncelog-e2e-"); shared.err != nil {
			return
		}
		var c *cluster.Cluster
		if c, shared.err = startCluster(context.Background(), cluster.Config{Dir: shared.dir}); shared.err == nil {
			shared.w = newWorld(c)
		}
	})
	if shared.err != nil {
		t.Fatalf("the shared cluster did not start: %v", shared.err)
	}
	return shared.w
}

// stop ends the shared cluster and reports what its nodes have to complain of.
func (s *sharedWorld) stop() error {
	var err error
	if s.w != nil {
		s.w.close()
		err = complaints(s.w.Cluster)
	}
	if *keep && s.dir != "" {
		fmt.Fprintln(os.Stderr, "shared cluster kept in", s.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// ownCluster starts a cluster for one test and ends it after the test. Zero
// values of cfg take the defaults, three nodes of each kind.
func ownCluster(t *testing.T, cfg cluster.Config) *world {
	t.Helper()
	switch {
	case cfg.Dir != "": // with data that a test has made
	case !*keep:
		cfg.Dir = t.TempDir()
	default:
		var err error
		if cfg.Dir, err = os.MkdirTemp("", "oncelog-e2e-"); err != nil {
			t.Fatal(err)
		}
		t.Logf("cluster kept in %s", cfg.Dir)
	}
	c, err := startCluster(t.Context(), cfg)
	if err != nil {
		t.Fatalf("the cluster did not start: %v", err)
	}
	w := newWorld(c)
	t.Cleanup(func() {
		// Not politely: how a node stops is tested where that is the question.
		for _, n := range c.Nodes() {
			_ = n.Kill()
		}
		w.close()
		if err := complaints(c); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, n := range c.Nodes() {
				t.Logf("end of the log of %s:\n%s", n, n.LogTail())
			}
		}
	})
	return w
}

// complaints returns what no node may ever log, whatever a test does to it: a
// data race, a panic, a call that failed inside the server.
func complaints(c *cluster.Cluster) error {
	var errs []error
	for _, n := range c.Nodes() {
		log, err := os.ReadFile(n.LogFile())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for line := range strings.Lines(string(log)) {
			if bad(line) {
				errs = append(errs, fmt.Errorf("%s: %s", n, strings.TrimSpace(line)))
				if len(errs) >= 10 {
					return errors.Join(errs...)
				}
			}
		}
	}
	return errors.Join(errs...)
}

func bad(line string) bool {
	for _, sign := range []string{"WARNING: DATA RACE", "panic:", "a call panicked", "fatal error:", "damaged=true"} {
		if strings.Contains(line, sign) {
			return true
		}
	}
	// gRPC's own word for bytes that do not decode, which are the client's fault.
	return strings.Contains(line, "grpc.code=Internal") && !strings.Contains(line, "unmarshal")
}
