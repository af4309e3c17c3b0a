package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

// says fails unless the error is one line that has all of this.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("there is no error that says %q", parts)
		return
	}
	for _, part := range append(parts, " (") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
}

func TestDirectoryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := usableDir(filepath.Join(dir, "missing", "too")); err != nil {
		t.Errorf("a directory that is missing: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "missing", "too")); err != nil || len(left) > 0 {
		t.Errorf("something was left there: %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, usableDir(file), "data_dir", file, "a file where a directory is to be", "--data-dir")
	says(t, usableDir(filepath.Join(file, "below")), "a file where a directory is to be")
	for err, want := range map[error]string{
		syscall.EACCES: "may not write there", syscall.EROFS: "read-only", syscall.ENOSPC: "its disk is full", syscall.ENOENT: "takes no directories",
		syscall.EIO: "mend the disk",
	} {
		if got := mendDir(dir, &os.PathError{Op: "open", Path: dir, Err: err}); !strings.Contains(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
	if os.Getuid() != 0 {
		locked := filepath.Join(dir, "locked")
		if err := os.Mkdir(locked, 0o500); err != nil {
			t.Fatal(err)
		}
		says(t, usableDir(locked), "may not write there")
	}
}

// TestNodesSayWhatKeepsThemFromStarting: an address that another program has, and a
// directory that is none, through all of a node's start.
func TestNodesSayWhatKeepsThemFromStarting(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	log := slog.New(slog.DiscardHandler)
	coordinator := func(change func(c *config.Coordinator)) error {
		c := config.DefaultCoordinator()
		c.NodeID, c.DataDir, c.TLS.Insecure = 1, t.TempDir(), true
		c.ClientListen, c.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
		c.Members = []config.Member{{ID: 1, ClientAddress: "127.0.0.1:1", PeerAddress: "127.0.0.1:2"}}
		change(c)
		n, err := StartCoordinator(c, log)
		if err == nil {
			n.Close(context.Background())
		}
		return err
	}
	partition := func(change func(p *config.Partition)) error {
		p := config.DefaultPartition()
		p.NodeID, p.DataDir, p.TLS.Insecure, p.Coordinators = 1, t.TempDir(), true, []string{"127.0.0.1:1"}
		p.ClientListen, p.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
		change(p)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it must not get as far as asking coordinators
		_, err := StartPartition(ctx, p, log)
		return err
	}
	address := taken.Addr().String()
	for setting, err := range map[string]error{
		"client_listen":  coordinator(func(c *config.Coordinator) { c.ClientListen = address }),
		"peer_listen":    partition(func(p *config.Partition) { p.PeerListen = address }),
		"metrics_listen": partition(func(p *config.Partition) { p.MetricsListen = address }),
	} {
		says(t, err, setting, address, "another program has it", "--"+strings.ReplaceAll(setting, "_", "-"))
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: the cause is lost: %v", setting, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, coordinator(func(c *config.Coordinator) { c.DataDir = file }), "data_dir", "a file where a directory is to be")
	says(t, partition(func(p *config.Partition) { p.DataDir = file }), "data_dir", "a file where a directory is to be")
	says(t, cannotListen("peer_listen", "192.0.2.1:7101", syscall.EADDRNOTAVAIL), "this machine has no such address")
	says(t, cannotListen("client_listen", "127.0.0.1:80", syscall.EACCES), "ports below 1024")
}
