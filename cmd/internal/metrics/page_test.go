package metrics

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	clientmetrics "github.com/oncelog/oncelog/client/metrics"
)

// root is the top of the tree, seen from this package.
var root = filepath.Join("..", "..", "..")

// TestPage holds docs/METRICS.md to the table.
func TestPage(t *testing.T) {
	t.Parallel()
	golden(t, filepath.Join(root, "docs", "METRICS.md"), page())
}

const pageHead = `# Metrics

A node shows its metrics to Prometheus when it is told where: ` + "`metrics_listen`" + ` (` + "`--metrics-listen 10.0.0.1:7102`" + `,
` + "`ONCELOG_METRICS_LISTEN`" + `), and then at ` + "`/metrics`" + `: over HTTPS where the node has certificates, to the same
scrapers that may be its clients; over plain HTTP where it is insecure. ` + "`metrics_tls`" + ` says otherwise ([CONFIG.md](CONFIG.md)).
` + "`/healthz`" + ` says 200 while the process serves. ` + "`oncelog dev --metrics-listen 127.0.0.1:7300`" + ` shows all nodes at one address.

Every metric of a node has the labels ` + "`role`" + ` (coordinator or partition) and ` + "`node_id`" + ` besides its own. Figures are read off the
node when it is scraped; they are there while a disk or the network hangs. Nothing has a transactional id, a member or an
address for a label: ` + "`oncelog txn list`" + ` and ` + "`oncelog topic describe`" + ` name who is behind a figure.

Alerts and recording rules are in [deploy/monitoring](../deploy/monitoring), a dashboard for Grafana beside them; what to do about
an alert is in [RUNBOOK.md](../RUNBOOK.md). This page is generated from the code:
` + "`go test ./cmd/internal/metrics -rewrite`" + `.
`

const pageTail = `
## Calls

Every node, by grpc_type, grpc_service and grpc_method; the names are those of go-grpc-middleware:
` + "`grpc_server_started_total`, `grpc_server_handled_total`" + ` (with grpc_code), ` + "`grpc_server_msg_received_total`,\n`grpc_server_msg_sent_total`" + `, and the
histogram ` + "`grpc_server_handling_seconds`" + `. Streams (Append, Fetch, Raft) are handled for as long as they are open, so their time says
nothing.

## Process

` + "`go_*` and `process_*`" + ` are those of every Go program, without the labels of a node.
`

const pageClients = `
## Clients

Programs that use the Go SDK show what it does with package [client/metrics](../client/metrics): ` + "`client.Dial(ctx, seeds, m.Option())`" + `
with ` + "`m := metrics.New()`" + `, which is a collector for any registry. Other systems are fed by ` + "`client.Hooks`" + `, of which it is made. A
program's own labels say which instance it is. Lag is asked for at each scrape.

| metric | type | labels | what it is |
|---|---|---|---|
`

func page() string {
	var b strings.Builder
	b.WriteString(pageHead)
	for _, s := range sections() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n", s.title, s.about)
		for _, m := range s.metrics {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, strings.Join(m.labels, ", "), strings.ReplaceAll(m.help, "|", `\|`))
		}
	}
	b.WriteString(pageTail)
	b.WriteString(pageClients)
	for _, r := range clientmetrics.Table() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Name, r.Kind, strings.Join(r.Labels, ", "), strings.ReplaceAll(r.Help, "|", `\|`))
	}
	return b.String()
}
