package chaos

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/oncelog/oncelog/cmd/internal/chaos/diskfault"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// childVariable makes the test binary the program of which everything is started.
// It has no ONCELOG_ prefix: the configuration refuses variables with it that it
// does not know.
const childVariable = "CHAOS_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := child(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is what the program's commands do.
func child(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	from := config.Sources{Environ: os.Environ()}
	switch args[0] {
	case "coordinator":
		cfg := config.DefaultCoordinator()
		if err := config.Load(cfg, from); err != nil {
			return err
		}
		return node.RunCoordinator(ctx, cfg, cfg.Log.Logger(os.Stderr))
	case "partition":
		cfg := config.DefaultPartition()
		if err := config.Load(cfg, from); err != nil {
			return err
		}
		return node.RunPartition(ctx, cfg, cfg.Log.Logger(os.Stderr))
	case "worker":
		return RunWorker(ctx, os.Stdin, os.Stdout)
	case "disk": // --dir DIR --mount DIR
		return diskfault.Serve(args[2], args[4], os.Stdin, os.Stdout)
	default:
		return fmt.Errorf("no such command: %q", args)
	}
}
