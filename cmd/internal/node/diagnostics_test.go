package node

import (
	"strings"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/metrics"
)

// TestDiagnostics: settings, stacks and metrics are told, one call at a time, and of
// keys only the files.
func TestDiagnostics(t *testing.T) {
	t.Parallel()
	cfg := config.DefaultPartition()
	cfg.NodeID, cfg.TLS.Key = 7, "keys/node.key"
	d := &diagnostics{settings: cfg, register: func(r *metrics.Registry) { r.Node(metrics.RolePartition, 7, "v") }}
	res, err := d.GetDiagnostics(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range res.GetSettings() {
		settings[s.GetName()] = s.GetValue()
	}
	if settings["node_id"] != "7" || settings["tls_key"] != "keys/node.key" || len(settings) != len(config.Keys(cfg)) {
		t.Errorf("settings: %v", settings)
	}
	if !strings.Contains(res.GetGoroutines(), "TestDiagnostics") || !strings.Contains(res.GetMetrics(), "go_goroutines") || res.GetTruncated() {
		t.Errorf("%.300s\n%.300s", res.GetGoroutines(), res.GetMetrics())
	}
	d.answering.Lock()
	if _, err := d.GetDiagnostics(t.Context(), nil); apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED {
		t.Error(err)
	}
}

func TestCutLines(t *testing.T) {
	t.Parallel()
	if text, cut := cutLines("a\nb\n"); text != "a\nb\n" || cut {
		t.Error(text, cut)
	}
	long := strings.Repeat("123456\n", maxDiagnostics/7+10)
	if text, cut := cutLines(long); !cut || len(text) > maxDiagnostics || !strings.HasSuffix(text, "6\n") || len(text) < maxDiagnostics-7 {
		t.Error(len(text), cut)
	}
}
