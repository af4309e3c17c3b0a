//go:build unix

package main

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

// TestSignalSwitchesTheLogLevel sends this process what an operator sends a server.
func TestSignalSwitchesTheLogLevel(t *testing.T) {
	read, write := io.Pipe()
	lines := bufio.NewScanner(read)
	log, level := config.Log{Level: slog.LevelWarn, Format: config.FormatText}.Adjustable(write)
	derived := log.With("node_id", 1) // as nodes have them, made before
	stop := followSignals(level, log)
	defer stop()
	for _, want := range []struct {
		to    slog.Level
		debug bool
	}{{slog.LevelDebug, true}, {slog.LevelWarn, false}, {slog.LevelDebug, true}} {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), "to="+want.to.String()) {
			t.Fatalf("it says %q", lines.Text())
		}
		if derived.Enabled(t.Context(), slog.LevelDebug) != want.debug {
			t.Errorf("at %v debug is shown: %v", level.Level(), !want.debug)
		}
	}
}

func TestOtherLevel(t *testing.T) {
	t.Parallel()
	for configured, want := range map[slog.Level]slog.Level{
		slog.LevelDebug: slog.LevelInfo, slog.LevelInfo: slog.LevelDebug, slog.LevelError: slog.LevelDebug,
	} {
		if got := otherLevel(configured); got != want {
			t.Errorf("%v switches with %v, want %v", configured, got, want)
		}
	}
}
