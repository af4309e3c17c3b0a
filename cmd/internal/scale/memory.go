package scale

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// collection is what a node says of its last garbage collection.
type collection struct {
	count float64
	// live is what it left, in bytes.
	live float64
}

// lastCollection asks a node. A Go program aims at a next collection when its heap is
// larger than what the last one left by GOGC percent; so the aim tells what was left.
func lastCollection(ctx context.Context, a *client.Admin, n *cluster.Node) (c collection, err error) {
	d, err := a.Diagnostics(ctx, n.Client)
	if err != nil {
		return c, err
	}
	var aim, percent float64
	for _, f := range []struct {
		name string
		to   *float64
	}{{"go_gc_duration_seconds_count", &c.count}, {"go_memstats_next_gc_bytes", &aim}, {"go_gc_gogc_percent", &percent}} {
		if *f.to, err = metric(d.GetMetrics(), f.name); err != nil {
			return c, fmt.Errorf("%s: %w", n, err)
		}
	}
	c.live = aim / (1 + percent/100)
	return c, nil
}

// metric finds a metric without labels in the text that Prometheus reads.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// liveHeaps returns what is live in nodes after one more garbage collection in each,
// or, if settle comes first, after the last one.
func liveHeaps(ctx context.Context, a *client.Admin, nodes []*cluster.Node, settle time.Duration) ([]float64, error) {
	deadline := time.Now().Add(settle)
	out := make([]float64, len(nodes))
	for i, n := range nodes {
		before, err := lastCollection(ctx, a, n)
		if err != nil {
			return nil, err
		}
		out[i] = before.live
		for time.Now().Before(deadline) {
			if err := sleep(ctx, 200*pace); err != nil {
				return nil, err
			}
			now, err := lastCollection(ctx, a, n)
			if err != nil {
				return nil, err
			}
			if out[i] = now.live; now.count > before.count {
				break
			}
		}
	}
	return out, nil
}
