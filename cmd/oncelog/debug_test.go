package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDebugBundle: what a report needs is in it, and none of the secrets that the
// cluster has been told.
func TestDebugBundle(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "b.tar.gz")
	a := &app{
		in: strings.NewReader("payload-of-a-record\n"), out: io.Discard, err: io.Discard, now: func() time.Time { return time.UnixMilli(fakeTime) },
		environ: []string{"ONCELOG_SERVERS=" + f.address},
	}
	if code := a.run(t.Context(), []string{"produce", "orders"}); code != exitOK {
		t.Fatal(code)
	}
	if code := a.run(t.Context(), []string{"debug", "bundle", "--file", path}); code != exitOK {
		t.Fatal(code)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	files := untar(t, path)
	for _, name := range []string{
		"made.txt", "cluster.json", "coordinators.json", "transactions.json", "transaction-events.json", "partitions.json", "topics.json",
		"nodes/partition-1/settings.txt", "nodes/partition-1/metrics.txt", "nodes/partition-1/goroutines.txt", "nodes/coordinator-1/version.txt",
	} {
		if files["oncelog-debug/"+name] == "" {
			t.Errorf("there is no %s", name)
		}
	}
	if p := files["oncelog-debug/problems.txt"]; !strings.Contains(p, "partition node 2") || !strings.Contains(p, "cut off") {
		t.Errorf("problems: %q", p)
	}
	for name, content := range files {
		if strings.Contains(content, "payload-of-a-record") || strings.Contains(content, "PRIVATE KEY") {
			t.Errorf("%s has what nobody else may see", name)
		}
	}
	if code := a.run(t.Context(), []string{"debug", "bundle", "--file", path}); code != exitFailure {
		t.Errorf("a file that is there is overwritten: exit %d", code)
	}
}

func untar(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil || slices.Contains(strings.Split(h.Name, "/"), "..") {
			t.Fatal(h.Name, err)
		}
		files[h.Name] = string(text)
	}
}
