package scale

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// How a cluster is filled: without the SDK, as a hundred thousand of its producers
// would not fit into one process.
const (
	connections = 4
	workers     = 256
	// patience bounds the repetitions of one call.
	patience = 2 * time.Minute
	// longest is the longest timeout of a transaction that a cluster allows.
	longest = 15 * time.Minute
	// tellEvery is how often it is told how far the filling is.
	tellEvery = 10 * time.Second
)

// filler fills one cluster.
type filler struct {
	cfg   *Config
	c     *cluster.Cluster
	topic *oncelogv1.Topic

	mu    sync.Mutex
	conns map[string][]*grpc.ClientConn
	// leaders holds the address of the leader of the coordinators, under their group,
	// and of shards.
	leaders map[uint64]string
	next    atomic.Uint64
}

// coordinators is the group of the coordinators.
const coordinators = 1

func newFiller(cfg *Config, c *cluster.Cluster, topic *oncelogv1.Topic) *filler {
	return &filler{cfg: cfg, c: c, topic: topic, conns: map[string][]*grpc.ClientConn{}, leaders: map[uint64]string{}}
}

func (f *filler) close() {
	for _, list := range f.conns {
		for _, cc := range list {
			_ = cc.Close()
		}
	}
}

// leader returns one of the connections to the leader of a group.
func (f *filler) leader(ctx context.Context, group uint64) (*grpc.ClientConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	address, ok := f.leaders[group]
	if !ok {
		find := f.c.ShardLeader
		if group == coordinators {
			find = func(ctx context.Context, _ uint64) (*cluster.Node, error) { return f.c.CoordinatorLeader(ctx) }
		}
		n, err := find(ctx, group)
		if err != nil {
			return nil, err
		}
		address = n.Client
		f.leaders[group] = address
	}
	list := f.conns[address]
	if list == nil {
		for range connections {
			cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			list = append(list, cc)
		}
		f.conns[address] = list
	}
	return list[f.next.Add(1)%connections], nil
}

// call repeats a call until it is answered: what is filled in may be asked for twice.
func (f *filler) call(ctx context.Context, group uint64, fn func(ctx context.Context, cc *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		cc, err := f.leader(ctx, group)
		if err != nil {
			return err
		}
		if err = fn(ctx, cc); err == nil {
			return nil
		}
		if sleep(ctx, 10*pace) != nil {
			return err
		}
		f.mu.Lock()
		delete(f.leaders, group) // it may be another one by now
		f.mu.Unlock()
	}
}

// each runs fn for 0 to n-1, many at a time, and tells how far it is.
func (f *filler) each(ctx context.Context, what string, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done, taken atomic.Int64
	begin := time.Now()
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(taken.Add(1)) - 1
				if i >= n {
					return
				}
				if err := fn(ctx, i); err != nil {
					cancel(fmt.Errorf("%s %d: %w", what, i, err))
					return
				}
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-finished:
			if err := context.Cause(ctx); err != nil {
				return err
			}
			f.cfg.tell("%s: %d in %.1f s", what, n, time.Since(begin).Seconds())
			return nil
		case <-tick.C:
			f.cfg.tell("%s: %d of %d", what, done.Load(), n)
		}
	}
}

// initProducer makes a producer; an empty id makes an idempotent one.
func (f *filler) initProducer(ctx context.Context, id string) (p *oncelogv1.InitProducerResponse, err error) {
	req := &oncelogv1.InitProducerRequest{TransactionalId: id, RequestId: id, TimeoutMs: longest.Milliseconds(), NoWait: true, ClientId: "scale"}
	err = f.call(ctx, coordinators, func(ctx context.Context, cc *grpc.ClientConn) (err error) {
		p, err = oncelogv1.NewTransactionServiceClient(cc).InitProducer(ctx, req)
		return err
	})
	return p, err
}

// append sends one record of a producer, the first of its n-th transaction; 0: of none.
func (f *filler) append(ctx context.Context, p *oncelogv1.InitProducerResponse, n uint64, i int) error {
	to := f.topic.GetPartitions()[i%len(f.topic.GetPartitions())]
	req := &oncelogv1.AppendRequest{
		Txn:           &oncelogv1.TxnRef{ProducerId: p.GetProducerId(), Epoch: p.GetEpoch(), TxnNumber: n},
		ProducerToken: p.GetProducerToken(),
		Partitions: []*oncelogv1.PartitionAppend{{
			Partition: &oncelogv1.PartitionRef{PartitionId: to.GetPartitionId()},
			Payload:   &oncelogv1.PartitionAppend_Records{Records: &oncelogv1.RecordList{Records: []*oncelogv1.Record{{Value: []byte("scale")}}}},
		}},
	}
	return f.call(ctx, to.GetShardId(), func(ctx context.Context, cc *grpc.ClientConn) error {
		res, err := oncelogv1.NewLogServiceClient(cc).Append(ctx, req)
		if err != nil {
			return err
		}
		if e := res.GetResults()[0].GetError(); e != nil {
			return fmt.Errorf("the record was refused: %s", e.GetMessage())
		}
		return nil
	})
}

// fillProducers has idempotent producers write one record each.
func (f *filler) fillProducers(ctx context.Context) error {
	return f.each(ctx, "idle producers", f.cfg.Producers, func(ctx context.Context, i int) error {
		p, err := f.initProducer(ctx, "")
		if err != nil {
			return err
		}
		return f.append(ctx, p, 0, i)
	})
}

// fillIDs makes the ids, and returns the producers of those that are to have an open
// transaction.
func (f *filler) fillIDs(ctx context.Context) ([]*oncelogv1.InitProducerResponse, error) {
	producers := make([]*oncelogv1.InitProducerResponse, f.cfg.Open)
	err := f.each(ctx, "transactional ids", f.cfg.IDs, func(ctx context.Context, i int) error {
		p, err := f.initProducer(ctx, "scale-"+strconv.Itoa(i))
		if i < len(producers) {
			producers[i] = p
		}
		return err
	})
	return producers, err
}

// fillOpen opens the transactions, and returns when the coordinator knows of all.
func (f *filler) fillOpen(ctx context.Context, a *client.Admin, producers []*oncelogv1.InitProducerResponse) error {
	err := f.each(ctx, "open transactions", len(producers), func(ctx context.Context, i int) error {
		return f.append(ctx, producers[i], 1, i)
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var open uint64
	err = until(ctx, func() (bool, error) {
		d, err := a.DescribeCluster(ctx)
		open = d.GetOpenTransactions()
		return open >= uint64(len(producers)), err
	})
	if err != nil {
		return fmt.Errorf("the coordinator knows of %d of %d open transactions: %w", open, len(producers), err)
	}
	return nil
}
