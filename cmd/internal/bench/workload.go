package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/oncelog/oncelog/client"
)

// What is written.
const (
	// smallValue is the value of the records of one-record transactions, largeValue
	// that of the others, in bytes.
	smallValue = 100
	largeValue = 1024
	// transactionTime is how long a transaction of large records is filled.
	transactionTime = 100 * time.Millisecond
	// bulkBuffer bounds what a producer of large records has under way. Without it
	// Send takes more in 100 ms than the cluster in a second, and transactions would
	// be long.
	bulkBuffer = 4 << 20
	// recordsPerUnit: costs of what has no transactions are told per so many records.
	recordsPerUnit = 1000
)

// workload is something that is measured.
type workload struct {
	// name is short, for programs; title is for people.
	name, title string
	// unit is what throughput counts.
	unit string
	// transactional: costs are per transaction, else per recordsPerUnit records.
	transactional bool
	// latency says what is timed; empty: nothing. second is another time that is
	// taken of the same transactions.
	latency, second string
	// prepare makes producers and consumers, once. The function that it returns
	// runs until the deadline, and may be called again.
	prepare func(ctx context.Context, b *bench) (func(ctx context.Context, until time.Time) (*measurement, error), error)
}

// measurement is what a run of a workload brought.
type measurement struct {
	units        int // as workload.unit says
	transactions int
	bytes        int // of values
	took         time.Duration
	latency      Histogram
	second       Histogram
}

func (m *measurement) add(o *measurement) {
	m.units += o.units
	m.transactions += o.transactions
	m.bytes += o.bytes
	m.took = max(m.took, o.took)
	m.latency.Add(&o.latency)
	m.second.Add(&o.second)
}

// workloads returns what is measured, in the order in which it takes turns.
func workloads(producers int) []workload {
	return []workload{
		{
			name: "one", title: "one-record transactions, 1 producer", unit: "transactions", transactional: true,
			latency: "Begin to Commit's answer", prepare: oneRecord("one", 1),
		},
		{
			name: "many", title: fmt.Sprintf("one-record transactions, %d producers", producers), unit: "transactions",
			transactional: true, latency: "Begin to Commit's answer", prepare: oneRecord("many", producers),
		},
		{
			name: "bulk-transactions", title: "1 KiB records, 100 ms transactions", unit: "records", transactional: true,
			latency: "Commit, with its flush", prepare: bulkTransactions,
		},
		{
			name: "bulk", title: "1 KiB records, idempotent only", unit: "records", prepare: bulkIdempotent,
		},
		{
			name: "end-to-end", title: "one-record transactions to a reader", unit: "transactions", transactional: true,
			latency: "Send to a read_committed reader", second: "Commit's answer to the reader", prepare: endToEnd,
		},
	}
}

// WorkloadNames returns the names of all workloads.
func WorkloadNames() []string {
	var names []string
	for _, w := range workloads(1) {
		names = append(names, w.name)
	}
	return names
}

// values returns n values with bytes that no codec makes smaller, the same in
// every run.
func values(n, size int) [][]byte {
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, size)
		for j := range out[i] {
			out[i][j] = byte(rng.Uint32())
		}
	}
	return out
}

// oneRecord is back-to-back transactions of one small record, from some producers
// at the same time.
func oneRecord(name string, producers int) func(context.Context, *bench) (func(context.Context, time.Time) (*measurement, error), error) {
	return func(ctx context.Context, b *bench) (func(context.Context, time.Time) (*measurement, error), error) {
		var all []*client.Producer
		for i := range producers {
			p, err := b.client.InitTransactions(ctx, b.name(name+"-"+strconv.Itoa(i)))
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
		small := values(64, smallValue)
		return func(ctx context.Context, until time.Time) (*measurement, error) {
			parts := make([]measurement, producers)
			failures := make([]error, producers)
			var wg sync.WaitGroup
			for i, p := range all {
				wg.Go(func() { failures[i] = oneRecordEach(ctx, b, p, small, i, until, &parts[i]) })
			}
			wg.Wait()
			total := &measurement{}
			for i := range parts {
				if failures[i] != nil {
					return nil, failures[i]
				}
				total.add(&parts[i])
			}
			return total, nil
		}, nil
	}
}

func oneRecordEach(ctx context.Context, b *bench, p *client.Producer, small [][]byte, first int, until time.Time, m *measurement) error {
	begin := time.Now()
	now := begin
	for n := first; now.Before(until); n++ {
		tx, err := p.Begin(ctx)
		if err != nil {
			return err
		}
		r := &client.Record{Topic: b.topic, Value: small[n%len(small)]}
		if err := tx.Send(ctx, r.WithPartition(int32(n%b.cfg.Partitions))); err != nil {
			return err
		}
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		end := time.Now()
		m.latency.Record(end.Sub(now))
		m.units++
		m.transactions++
		m.bytes += smallValue
		now = end
	}
	m.took = now.Sub(begin)
	return nil
}

// bulkTransactions fills transactions for 100 ms each, as fast as Send takes
// records.
func bulkTransactions(ctx context.Context, b *bench) (func(context.Context, time.Time) (*measurement, error), error) {
	p, err := b.client.InitTransactions(ctx, b.name("bulk"), client.WithBufferMemory(bulkBuffer))
	if err != nil {
		return nil, err
	}
	large := values(64, largeValue)
	return func(ctx context.Context, until time.Time) (*measurement, error) {
		m := &measurement{}
		begin := time.Now()
		for now := begin; now.Before(until); now = time.Now() {
			tx, err := p.Begin(ctx)
			if err != nil {
				return nil, err
			}
			if err := m.send(ctx, b, large, earlier(until, now.Add(transactionTime)), tx.Send); err != nil {
				return nil, err
			}
			commit := time.Now()
			if err := tx.Commit(ctx); err != nil {
				return nil, err
			}
			m.latency.Record(time.Since(commit))
			m.transactions++
		}
		m.took = time.Since(begin)
		return m, nil
	}, nil
}

// bulkIdempotent sends the same records without transactions, and flushes at the
// end.
func bulkIdempotent(ctx context.Context, b *bench) (func(context.Context, time.Time) (*measurement, error), error) {
	p, err := b.client.IdempotentProducer(ctx, client.WithBufferMemory(bulkBuffer))
	if err != nil {
		return nil, err
	}
	large := values(64, largeValue)
	return func(ctx context.Context, until time.Time) (*measurement, error) {
		m := &measurement{}
		begin := time.Now()
		if err := m.send(ctx, b, large, until, p.Send); err != nil {
			return nil, err
		}
		if err := p.Flush(ctx); err != nil {
			return nil, err
		}
		m.took = time.Since(begin)
		return m, nil
	}, nil
}

// send sends large records, over all partitions in turn, until the deadline.
func (m *measurement) send(ctx context.Context, b *bench, large [][]byte, until time.Time,
	send func(context.Context, ...*client.Record) error) error {
	for {
		r := &client.Record{Topic: b.topic, Value: large[m.units%len(large)]}
		if err := send(ctx, r.WithPartition(int32(m.units%b.cfg.Partitions))); err != nil {
			return err
		}
		m.units++
		m.bytes += largeValue
		if !time.Now().Before(until) {
			return nil
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// endToEnd sends one record per transaction, and the next when a reader of
// committed data has it.
func endToEnd(ctx context.Context, b *bench) (func(context.Context, time.Time) (*measurement, error), error) {
	p, err := b.client.InitTransactions(ctx, b.name("end-to-end"))
	if err != nil {
		return nil, err
	}
	reader, err := b.client.Consume(ctx, "", []string{b.ownTopic}, client.WithStart(client.StartLatest))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, until time.Time) (*measurement, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		arrived := make(chan arrival, 1)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { readAll(ctx, reader, arrived) })
		m := &measurement{}
		begin := time.Now()
		for n := 0; ; n++ {
			sent := time.Now()
			if !sent.Before(until) {
				m.took = sent.Sub(begin)
				return m, nil
			}
			value := binary.BigEndian.AppendUint64(make([]byte, 0, smallValue), uint64(sent.UnixNano()))
			r := &client.Record{Topic: b.ownTopic, Value: value[:smallValue]}
			answered, err := commitOne(ctx, p, r.WithPartition(int32(n%b.cfg.Partitions)))
			if err != nil {
				return nil, err
			}
			a, err := await(ctx, arrived, uint64(sent.UnixNano()))
			if err != nil {
				return nil, err
			}
			m.latency.Record(a.at.Sub(sent))
			m.second.Record(a.at.Sub(answered))
			m.units++
			m.transactions++
			m.bytes += smallValue
		}
	}, nil
}

func commitOne(ctx context.Context, p *client.Producer, r *client.Record) (answered time.Time, err error) {
	tx, err := p.Begin(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if err := tx.Send(ctx, r); err != nil {
		return time.Time{}, err
	}
	err = tx.Commit(ctx)
	return time.Now(), err
}

// arrival is a record that the reader got.
type arrival struct {
	stamp uint64
	at    time.Time
	err   error
}

// readAll reads until ctx ends.
func readAll(ctx context.Context, reader *client.Consumer, arrived chan<- arrival) {
	for {
		batch, err := reader.Poll(ctx)
		at := time.Now()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			arrived <- arrival{err: err}
			return
		}
		for r := range batch.Records() {
			select {
			case arrived <- arrival{stamp: binary.BigEndian.Uint64(r.Value), at: at}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// await returns the arrival of the record with a stamp, leaving out those of an
// earlier run.
func await(ctx context.Context, arrived <-chan arrival, stamp uint64) (arrival, error) {
	for {
		select {
		case a := <-arrived:
			if a.err != nil || a.stamp == stamp {
				return a, a.err
			}
		case <-ctx.Done():
			return arrival{}, ctx.Err()
		}
	}
}
