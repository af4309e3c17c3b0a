package metrics_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// figures are what a scrape shows, by name and labels; of a histogram its count.
func figures(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	must(t, reg.Register(m))
	families, err := reg.Gather()
	must(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "oncelog_client_")
			var labels []string
			for _, l := range x.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case x.GetCounter() != nil:
				out[name] = x.GetCounter().GetValue()
			case x.GetGauge() != nil:
				out[name] = x.GetGauge().GetValue()
			default:
				out[name] = float64(x.GetHistogram().GetSampleCount())
			}
		}
	}
	return out
}

func shows(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[name]; !ok || v != want[name] {
			t.Errorf("%s is %v (shown: %t), want %v", name, v, ok, want[name])
		}
	}
	if t.Failed() {
		t.Logf("all: %v", got)
	}
}

func send(ctx context.Context, t *testing.T, tx *client.Tx, values ...string) {
	t.Helper()
	for _, v := range values {
		must(t, tx.Send(ctx, (&client.Record{Topic: "t", Value: []byte(v)}).WithPartition(0)))
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		cluster := clienttest.Start(t)
		cluster.CreateTopic("t", 1)
		m := metrics.New()
		c := cluster.Client(m.Option())
		p, err := c.InitTransactions(ctx, "id")
		must(t, err)

		tx, err := p.Begin(ctx)
		must(t, err)
		send(ctx, t, tx, "1", "2")
		must(t, tx.Commit(ctx))
		must(t, tx.Abort(ctx)) // says nothing: it has ended

		tx, err = p.Begin(ctx)
		must(t, err)
		send(ctx, t, tx, "3")
		must(t, tx.Flush(ctx))
		shows(t, figures(t, m), map[string]float64{"open_transactions": 1, "producers": 1, "buffered_bytes": 0})
		must(t, tx.Abort(ctx))

		in, err := c.Consume(ctx, "g", []string{"t"})
		must(t, err)
		b, err := in.Poll(ctx)
		must(t, err)
		must(t, in.Commit(ctx, b))

		// Held back, and not read yet.
		late, err := cluster.Host("late").Client().InitTransactions(ctx, "late")
		must(t, err)
		open, err := late.Begin(ctx)
		must(t, err)
		send(ctx, t, open, "4", "5", "6")
		must(t, open.Flush(ctx))
		got := figures(t, m)
		shows(t, got, map[string]float64{
			"lag_records{group=g,partition=0,topic=t}": 0, "hidden_records{group=g,partition=0,topic=t}": 3,
		})
		must(t, open.Commit(ctx))

		// A takeover, noticed by a commit.
		tx, err = p.Begin(ctx)
		must(t, err)
		send(ctx, t, tx, "7")
		must(t, tx.Flush(ctx))
		_, err = cluster.Host("thief").Client().InitTransactions(ctx, "id")
		must(t, err)
		if err := tx.Commit(ctx); client.ClassOf(err) != client.ClassFatal {
			t.Fatalf("commit of a producer that was taken over: %v", err)
		}
		_ = tx.Abort(ctx)

		shows(t, figures(t, m), map[string]float64{
			"transactions_begun_total":                        3,
			"transactions_committed_total":                    1,
			"transactions_aborted_total{reason=CLIENT}":       1,
			"transactions_aborted_total{reason=FENCED}":       1,
			"producers_finished_total{reason=FENCED}":         1,
			"commit_seconds{result=committed}":                1,
			"commit_seconds{result=failed}":                   1,
			"transaction_open_seconds":                        3,
			"records_acked_total{topic=t}":                    4,
			"open_transactions":                               0,
			"sends_blocked_total":                             0,
			"records_polled_total{group=g}":                   2,
			"position_commits_total{code=OK,group=g}":         1,
			"partitions_moved_total{change=assigned,group=g}": 1,
			"assigned_partitions{group=g}":                    1,
			"consumers":                                       1,
			"buffer_limit_bytes":                              32 << 20,
		})
		must(t, in.Close())
		must(t, p.Close())
		shows(t, figures(t, m), map[string]float64{"consumers": 0, "producers": 0})
		must(t, c.Close())
	})
}

// A lost answer, a full buffer and a cluster that is gone.
func TestTroubleIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		cluster := clienttest.Start(t)
		cluster.CreateTopic("t", 1)
		m := metrics.New()
		c := cluster.Client(m.Option())
		in, err := c.Consume(ctx, "g", []string{"t"})
		must(t, err)
		p, err := c.IdempotentProducer(ctx, client.WithBufferMemory(100))
		must(t, err)
		must(t, p.Send(ctx, &client.Record{Topic: "t", Value: []byte("before")}))
		must(t, p.Flush(ctx))

		cluster.Nodes()[0].Pause()
		must(t, p.Send(ctx, &client.Record{Topic: "t", Value: []byte("1")}))
		blocked := make(chan error, 1)
		go func() { blocked <- p.Send(ctx, &client.Record{Topic: "t", Value: []byte("2")}) }()
		<-time.After(30 * time.Second)
		got := figures(t, m)
		shows(t, got, map[string]float64{"sends_waiting": 1, "lag_errors_total{group=g}": 1})
		if _, shown := got["lag_records{group=g,partition=0,topic=t}"]; shown {
			t.Error("a lag is shown that nobody can know")
		}
		if got["retries_total{code=UNAVAILABLE,op=append}"] == 0 {
			t.Errorf("no repeated append is shown: %v", got)
		}
		cluster.Nodes()[0].Resume()
		must(t, <-blocked)
		must(t, p.Flush(ctx))
		got = figures(t, m)
		shows(t, got, map[string]float64{"sends_waiting": 0, "sends_blocked_total": 1, "records_acked_total{topic=t}": 3})
		if got["sends_blocked_seconds_total"] < 30 {
			t.Errorf("the Send waited for %v s", got["sends_blocked_seconds_total"])
		}
		must(t, in.Close())
		must(t, c.Close())
	})
}

// Every metric is in the table, of its kind and with its labels, and Prometheus'
// linter likes the names.
func TestTable(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	described := make(chan *prometheus.Desc, 100)
	m.Describe(described)
	close(described)
	shown := map[string]bool{}
	for d := range described {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		shown[name] = true
	}
	for _, r := range metrics.Table() {
		if !shown[r.Name] {
			t.Errorf("%s is in the table only", r.Name)
		}
		delete(shown, r.Name)
	}
	for name := range shown {
		t.Errorf("%s is not in the table", name)
	}
	problems, err := testutil.CollectAndLint(m)
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
