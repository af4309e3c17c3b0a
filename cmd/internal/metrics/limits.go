package metrics

import "github.com/oncelog/oncelog/cmd/internal/limits"

var limitsSection = &section{title: "Limits", about: "Every node: what callers of its client address met. SECURITY.md has the limits."}

var (
	limitsRefused = limitsSection.counter("limits_refused_total",
		"Calls and connections that a limit has refused, closed or ended, by limit: a setting such as max_connections or max_inflight_bytes; receive_timeout (a message did "+
			"not come), send_timeout (an answer was not read), handshake_timeout, max_request_bytes_per_principal, small_pieces (a message in pieces that cost more than they hold).", "limit")
	limitsUsed = limitsSection.gauge("limits_used", "How much of the limit is used now; of those per address or principal by the one that uses most.", "limit")
	limitsMax  = limitsSection.gauge("limits_max", "The limit: connections, calls or bytes.", "limit")
)

// Limits adds what the limits of a node's client address have done.
func (n *Node) Limits(report func() limits.Report) {
	n.registerer.MustRegister(collector{of: []*section{limitsSection}, read: func(s *scrape) {
		r := report()
		s.setAll(limitsRefused, r.Refused)
		for name, used := range r.Used { // into series of their own: the order does not matter
			s.set(limitsUsed, float64(used), name)
			s.set(limitsMax, float64(r.Max[name]), name)
		}
	}})
}
