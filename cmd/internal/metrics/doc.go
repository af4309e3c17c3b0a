// Package metrics shows the figures of a node to Prometheus.
//
// What a node counts it counts in its own packages, which know no metrics system:
// raftstore, coordinator and partition give plain structs. This package reads them
// when it is scraped, gives the figures their names, and serves them:
//
//	raftstore.Metrics ──┐
//	coordinator.Stats ──┼─► collector ─► registry ─► GET /metrics
//	partition.Stats ────┘       ▲
//	                    table of names, labels and help ─► docs/METRICS.md
//
// Every metric is a row of the table and appears nowhere else under another name.
// Tests hold the page, the alerts, the recording rules and the dashboard to it.
//
// Labels have few values, and known ones: codes, reasons, Raft groups, and at most
// partition.MaxListedPartitions partitions at a time. Transactional ids, members and
// addresses are no labels: there is no limit to them. What names them are the
// commands that RUNBOOK.md gives for each alert.
package metrics
