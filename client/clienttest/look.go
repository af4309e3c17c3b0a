package clienttest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/raftstore"
)

// Pauses between two looks at something that takes time: the first, and the
// longest.
const (
	look        = 5 * time.Millisecond
	longestLook = 250 * time.Millisecond
)

// pauses are those between looks; each is twice as long as the one before.
type pauses struct{ next time.Duration }

// pause waits; false: ctx has ended.
func (p *pauses) pause(ctx context.Context) bool {
	p.next = min(max(2*p.next, look), longestLook)
	t := time.NewTimer(p.next)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// until waits until cond holds, else it fails the test.
func (c *Cluster) until(what string, cond func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var looks pauses
	for !cond() {
		if !looks.pause(ctx) {
			c.t.Fatalf("clienttest: did not happen within %v: %s", patience, what)
		}
	}
}

// wait waits for a channel to be closed, else it fails the test.
func (c *Cluster) wait(what string, done <-chan struct{}) {
	c.t.Helper()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		c.t.Fatalf("clienttest: did not happen within %v: %s", patience, what)
	}
}

// CreateTopic creates a topic and returns when its partitions accept records.
func (c *Cluster) CreateTopic(name string, partitions int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.own.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: name, Partitions: uint32(partitions)}); err != nil {
		c.t.Fatalf("clienttest: create topic %s: %v", name, err)
	}
}

// CoordinatorLeader waits until a coordinator node leads, and returns it. Of
// several that believe so it is the one of the highest term; paused ones do not
// count.
func (c *Cluster) CoordinatorLeader() *Node {
	c.t.Helper()
	return c.leader("a coordinator leads", c.coordinators, coordinator.GroupID)
}

// Leader waits until a partition node leads a partition, and returns it, as
// CoordinatorLeader does.
func (c *Cluster) Leader(topic string, partition int32) *Node {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	t, err := c.own.Admin().DescribeTopic(ctx, topic)
	if err != nil {
		c.t.Fatalf("clienttest: find topic %s: %v", topic, err)
	}
	if partition < 0 || int(partition) >= len(t.GetPartitions()) {
		c.t.Fatalf("clienttest: topic %s has no partition %d", topic, partition)
	}
	shard := t.GetPartitions()[partition].GetShardId()
	return c.leader("somebody leads the partition", c.Nodes(), raftstore.GroupID(shard))
}

func (c *Cluster) leader(what string, among []*Node, group raftstore.GroupID) (leader *Node) {
	c.t.Helper()
	c.until(what, func() bool {
		best := uint64(0)
		for _, n := range among {
			if term, ok := n.leads(group); ok && term > best {
				best, leader = term, n
			}
		}
		return leader != nil
	})
	return leader
}

// ExpireTransactions waits until no transaction is open on any partition: whoever
// does not end one loses it to its timeout. In a bubble the clock moves on, else it
// takes as long as it takes; give producers a short client.WithTransactionTimeout
// then. A coordinator that has just begun to lead lets nothing expire for 5 s.
func (c *Cluster) ExpireTransactions() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longestTimeout+patience)
	defer cancel()
	var looks pauses
	for {
		open, err := c.openTransactions(ctx)
		if err != nil {
			c.t.Fatalf("clienttest: look for open transactions: %v", err)
		}
		if open == 0 {
			return
		}
		if !looks.pause(ctx) {
			c.t.Fatalf("clienttest: %d transactions do not expire", open)
		}
	}
}

// longestTimeout is the longest that a transaction may be open.
const longestTimeout = 15 * time.Minute

// openTransactions counts transactions per partition.
func (c *Cluster) openTransactions(ctx context.Context) (open uint32, err error) {
	admin := c.own.Admin()
	for token := ""; ; {
		page, err := admin.ListTopics(ctx, 0, token)
		if err != nil {
			return 0, err
		}
		for _, t := range page.GetTopics() {
			ps, err := admin.DescribePartitions(ctx, t.GetName())
			if err != nil {
				return 0, err
			}
			for _, p := range ps {
				open += p.GetOpenTransactions()
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return open, nil
		}
	}
}

// Records returns the records of a topic that are committed, by partition and
// offset: what a consumer sees now. A transaction whose commit has been decided
// counts, even if the partition has yet to learn of it; what is written behind a
// transaction that is open does not.
func (c *Cluster) Records(topic string) []*client.Record {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := c.stableEnds(ctx, topic)
	if err != nil {
		c.t.Fatalf("clienttest: find the end of topic %s: %v", topic, err)
	}
	in, err := c.own.Consume(ctx, "", []string{topic})
	if err != nil {
		c.t.Fatalf("clienttest: read topic %s: %v", topic, err)
	}
	defer func() { _ = in.Close() }()
	var all []*client.Record
	for !reached(in.Position(), ends) {
		// The rest may be hidden, so a poll must not wait for ever.
		b, err := poll(ctx, in)
		if err != nil {
			c.t.Fatalf("clienttest: read topic %s: %v", topic, err)
		}
		if b == nil {
			continue
		}
		for r := range b.Records() {
			if r.Offset < ends[client.TopicPartition{Topic: topic, Partition: r.Partition}] {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b *client.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}

// poll is Poll for a moment; a nil batch: nothing came.
func poll(ctx context.Context, in *client.Consumer) (*client.Batch, error) {
	short, cancel := context.WithTimeout(ctx, look)
	defer cancel()
	b, err := in.Poll(short)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil
	}
	return b, err
}

func reached(position, ends client.Offsets) bool {
	for tp, end := range ends {
		if position[tp] < end {
			return false
		}
	}
	return true
}

// stableEnds returns where read_committed ends, once everything that is decided
// has taken effect.
func (c *Cluster) stableEnds(ctx context.Context, topic string) (client.Offsets, error) {
	var looks pauses
	for {
		ps, err := c.own.Admin().DescribePartitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		ends := make(client.Offsets, len(ps))
		settled := true
		for i, p := range ps {
			ends[client.TopicPartition{Topic: topic, Partition: int32(i)}] = int64(p.GetStableEnd())
			open, err := c.isOpen(ctx, p.GetBlockedBy())
			if err != nil {
				return nil, err
			}
			settled = settled && (p.GetBlockedBy() == nil || open)
		}
		if settled {
			return ends, nil
		}
		if !looks.pause(ctx) {
			return nil, ctx.Err()
		}
	}
}

// isOpen reports whether a transaction has not been decided.
func (c *Cluster) isOpen(ctx context.Context, txn *oncelogv1.TxnRef) (bool, error) {
	if txn == nil {
		return false, nil
	}
	o, err := c.own.Outcome(ctx, client.TxID{ProducerID: txn.GetProducerId(), Epoch: txn.GetEpoch(), Number: txn.GetTxnNumber()})
	return o == client.OutcomeOpen, err
}
