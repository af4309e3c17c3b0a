// Package metrics shows what a client does to Prometheus.
//
//	m := metrics.New()
//	c, err := client.Dial(ctx, seeds, m.Option())
//	...
//	prometheus.MustRegister(m)
//
// One [Metrics] may serve several clients, whose figures are summed up. Labels are
// topics, partitions, groups, codes and reasons, never transactional ids or members:
// the program that shows them is one instance. What they are is listed in
// docs/METRICS.md.
//
// Lag is asked for when it is scraped, from the nodes that lead the partitions, so that
// it is true while a consumer hangs; it is missing while they do not answer.
package metrics
