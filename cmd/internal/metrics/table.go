package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace begins every name.
const namespace = "oncelog"

// nodeLabels are on every metric of a node, besides its own.
var nodeLabels = []string{"role", "node_id"}

// kind is the type of a metric.
type kind uint8

const (
	gauge kind = iota
	counter
	histogram
)

// String returns Prometheus' word for it.
func (k kind) String() string {
	switch k {
	case counter:
		return "counter"
	case histogram:
		return "histogram"
	default:
		return "gauge"
	}
}

// metric is one row of the table.
type metric struct {
	name   string
	help   string
	labels []string
	kind   kind
	desc   *prometheus.Desc
}

// section is a part of the table: the metrics that one collector gives.
type section struct {
	title string
	// about says which nodes have them.
	about   string
	metrics []*metric
}

func (s *section) add(k kind, name, help string, labels []string) *metric {
	full := namespace + "_" + name
	m := &metric{name: full, help: help, labels: labels, kind: k, desc: prometheus.NewDesc(full, help, labels, nil)}
	s.metrics = append(s.metrics, m)
	return m
}

func (s *section) gauge(name, help string, labels ...string) *metric {
	return s.add(gauge, name, help, labels)
}

func (s *section) counter(name, help string, labels ...string) *metric {
	return s.add(counter, name, help, labels)
}

func (s *section) histogram(name, help string, labels ...string) *metric {
	return s.add(histogram, name, help, labels)
}

// sections are the table in the order of the page.
func sections() []*section {
	return []*section{nodeSection, raftSection, limitsSection, coordinatorSection, partitionSection}
}

// collector gives the metrics of a section at a scrape. It implements
// [prometheus.Collector].
type collector struct {
	of   []*section
	read func(*scrape)
}

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range c.of {
		for _, m := range s.metrics {
			ch <- m.desc
		}
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) { c.read(&scrape{ch}) }

// scrape takes the figures of one scrape.
type scrape struct{ ch chan<- prometheus.Metric }

// set gives a gauge or a counter its value.
func (s *scrape) set(m *metric, v float64, labels ...string) {
	t := prometheus.GaugeValue
	if m.kind == counter {
		t = prometheus.CounterValue
	}
	s.ch <- prometheus.MustNewConstMetric(m.desc, t, v, labels...)
}

// setAll gives one with a label its values by that.
func (s *scrape) setAll(m *metric, values map[string]uint64) {
	for label, v := range values {
		s.set(m, float64(v), label)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// find returns the row of a name.
func find(name string) (*metric, bool) {
	for _, s := range sections() {
		if i := slices.IndexFunc(s.metrics, func(m *metric) bool { return m.name == name }); i >= 0 {
			return s.metrics[i], true
		}
	}
	return nil, false
}
