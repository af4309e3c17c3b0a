package metrics

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncelog/oncelog/client"
)

// lagLimit bounds what a scrape waits for lags, of all consumers together.
const lagLimit = 2 * time.Second

// Metrics are the figures of clients. It implements [prometheus.Collector], and is safe
// for concurrent use.
type Metrics struct {
	counters   map[*Row]*prometheus.CounterVec
	histograms map[*Row]*prometheus.HistogramVec
	gauges     map[*Row]*prometheus.Desc

	mu      sync.Mutex
	clients map[*client.Client]bool
}

// New returns metrics without clients.
func New() *Metrics {
	m := &Metrics{
		counters:   map[*Row]*prometheus.CounterVec{},
		histograms: map[*Row]*prometheus.HistogramVec{},
		gauges:     map[*Row]*prometheus.Desc{},
		clients:    map[*client.Client]bool{},
	}
	for _, r := range counters {
		m.counters[r] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: r.Name, Help: r.Help}, r.Labels)
	}
	for _, r := range histograms {
		m.histograms[r] = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: r.Name, Help: r.Help, Buckets: buckets}, r.Labels)
	}
	for _, r := range gauges {
		m.gauges[r] = r.desc()
	}
	for _, r := range []*Row{&rowBlocked, &rowBlockedTime, &rowBegun, &rowCommitted} {
		m.counters[r].WithLabelValues() // 0 until it happens
	}
	return m
}

// Option is the option of [client.Dial] that has the client counted.
func (m *Metrics) Option() client.Option {
	return client.WithHooks(client.Hooks{
		Dialed: func(c *client.Client) { m.watch(c, true) },
		Closed: func(c *client.Client) { m.watch(c, false) },

		BatchAcked:  m.batchAcked,
		Retried:     func(e client.RetryEvent) { m.count(&rowRetries, 1, string(e.Op), e.Code) },
		SendBlocked: m.sendBlocked,

		TxBegun:          func(client.TxID) { m.count(&rowBegun, 1) },
		CommitReturned:   func(e client.CommitEvent) { m.observe(&rowCommitLatency, e.Took, resultOf(e.Err)) },
		TxEnded:          m.txEnded,
		ProducerFinished: func(e client.ProducerEvent) { m.count(&rowFinished, 1, e.Code) },

		Fetched:            m.fetched,
		Polled:             m.polled,
		PositionsCommitted: func(e client.PositionsEvent) { m.count(&rowPositions, 1, e.Group, codeOf(e.Err)) },
		Rebalanced:         m.rebalanced,
	})
}

func (m *Metrics) watch(c *client.Client, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on {
		m.clients[c] = true
	} else {
		delete(m.clients, c)
	}
}

func (m *Metrics) watched() []*client.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.clients))
}

func (m *Metrics) count(r *Row, n float64, labels ...string) {
	m.counters[r].WithLabelValues(labels...).Add(n)
}

func (m *Metrics) observe(r *Row, d time.Duration, labels ...string) {
	m.histograms[r].WithLabelValues(labels...).Observe(d.Seconds())
}

func (m *Metrics) batchAcked(e client.BatchEvent) {
	m.count(&rowBatches, 1, e.Topic)
	m.count(&rowRecords, float64(e.Records), e.Topic)
	m.count(&rowBytes, float64(e.Bytes), e.Topic)
	if e.Duplicate {
		m.count(&rowDuplicates, 1, e.Topic)
	}
	m.observe(&rowSendLatency, e.Latency)
}

func (m *Metrics) sendBlocked(e client.BlockEvent) {
	m.count(&rowBlocked, 1)
	m.count(&rowBlockedTime, e.Waited.Seconds())
}

func (m *Metrics) txEnded(e client.TxEvent) {
	if e.Outcome == client.OutcomeCommitted {
		m.count(&rowCommitted, 1)
	} else {
		m.count(&rowAborted, 1, e.Reason)
	}
	m.observe(&rowOpenTime, e.Open)
}

func (m *Metrics) fetched(e client.FetchEvent) {
	m.count(&rowFetched, float64(e.Records), e.Group, e.Topic)
	m.count(&rowFetchedBytes, float64(e.Bytes), e.Group, e.Topic)
}

func (m *Metrics) polled(e client.PollEvent) {
	m.count(&rowPolled, float64(e.Records), e.Group)
	m.observe(&rowPollWait, e.Waited, e.Group)
}

func (m *Metrics) rebalanced(e client.RebalanceEvent) {
	for change, partitions := range map[string][]client.TopicPartition{
		"assigned": e.Assigned, "revoked": e.Revoked, "lost": e.Lost,
	} {
		if len(partitions) > 0 {
			m.count(&rowRebalances, float64(len(partitions)), e.Group, change)
		}
	}
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return "committed"
	case errors.Is(err, client.ErrOutcomeUnknown):
		return "unknown"
	default:
		return "failed"
	}
}

func codeOf(err error) string {
	var e *client.Error
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &e):
		return e.Code
	default:
		return "UNKNOWN"
	}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range counters {
		m.counters[r].Describe(ch)
	}
	for _, r := range histograms {
		m.histograms[r].Describe(ch)
	}
	for _, r := range gauges {
		ch <- m.gauges[r]
	}
}

// Collect implements [prometheus.Collector]. It asks the cluster for the lags, for 2 s
// at most.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.collectGauges(ch)
	for _, r := range counters {
		m.counters[r].Collect(ch)
	}
	for _, r := range histograms {
		m.histograms[r].Collect(ch)
	}
}

func (m *Metrics) collectGauges(ch chan<- prometheus.Metric) {
	var sum client.Stats
	var consumers []*client.Consumer
	for _, c := range m.watched() {
		s := c.Stats()
		sum.Producers += s.Producers
		sum.Consumers += s.Consumers
		sum.OpenTransactions += s.OpenTransactions
		sum.BufferedBytes += s.BufferedBytes
		sum.BufferBytes += s.BufferBytes
		sum.BlockedSends += s.BlockedSends
		sum.PrefetchedBytes += s.PrefetchedBytes
		consumers = append(consumers, c.Consumers()...)
	}
	m.gauge(ch, &rowProducers, sum.Producers)
	m.gauge(ch, &rowConsumers, sum.Consumers)
	m.gauge(ch, &rowOpen, sum.OpenTransactions)
	m.gauge(ch, &rowBuffered, sum.BufferedBytes)
	m.gauge(ch, &rowBuffer, sum.BufferBytes)
	m.gauge(ch, &rowWaiting, sum.BlockedSends)
	m.gauge(ch, &rowPrefetched, sum.PrefetchedBytes)
	m.collectConsumers(ch, consumers)
}

func (m *Metrics) gauge(ch chan<- prometheus.Metric, r *Row, value int, labels ...string) {
	ch <- prometheus.MustNewConstMetric(m.gauges[r], prometheus.GaugeValue, float64(value), labels...)
}

// place is a partition in a group: two consumers of one program may read the same, if
// they have no group.
type place struct {
	group string
	tp    client.TopicPartition
}

// collectConsumers asks for the lags of all consumers at the same time.
func (m *Metrics) collectConsumers(ch chan<- prometheus.Metric, consumers []*client.Consumer) {
	ctx, cancel := context.WithTimeout(context.Background(), lagLimit)
	defer cancel()
	var mu sync.Mutex
	lag, hidden, assigned := map[place]int64{}, map[place]int64{}, map[string]int{}
	var wg sync.WaitGroup
	for _, k := range consumers {
		assigned[k.Group()] += len(k.Partitions())
		wg.Go(func() {
			behind, err := k.Lag(ctx)
			held, err2 := k.HiddenLag(ctx)
			if errors.Join(err, err2) != nil {
				m.count(&rowLagErrors, 1, k.Group())
				return
			}
			mu.Lock()
			defer mu.Unlock()
			most(lag, k.Group(), behind)
			most(hidden, k.Group(), held)
		})
	}
	wg.Wait()
	for group, n := range assigned {
		m.gauge(ch, &rowAssigned, n, group)
	}
	m.places(ch, &rowLag, lag)
	m.places(ch, &rowHidden, hidden)
}

func most(to map[place]int64, group string, offsets client.Offsets) {
	for tp, n := range offsets {
		at := place{group, tp}
		to[at] = max(to[at], n)
	}
}

func (m *Metrics) places(ch chan<- prometheus.Metric, r *Row, values map[place]int64) {
	for at, n := range values {
		m.gauge(ch, r, int(n), at.group, at.tp.Topic, strconv.Itoa(int(at.tp.Partition)))
	}
}
