package meddle

import (
	"context"
	"errors"
	"slices"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// handled is the SDK at work: what it is told it says in its own words.
type handled struct {
	*meddler
	c   *client.Client
	ctx context.Context
}

// withSDK performs an act through the SDK, on a ground of its own.
func (m *meddler) withSDK(fn func(h *handled, topic string)) {
	// Long enough for a consumer to believe that its topic is gone.
	ctx, cancel := m.Runtime.WithTimeout(m.ctx, 4*patience)
	defer cancel()
	c, err := m.Client(ctx)
	h := &handled{meddler: m, c: c, ctx: ctx}
	if !h.said("dial", err) {
		return
	}
	topic := m.name("t")
	_, err = c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: topic, Partitions: 2})
	if h.said("create topic", err, "TOPIC_EXISTS") { // of an attempt without an answer
		fn(h, topic)
	}
	if err := c.Admin().DeleteTopic(ctx, topic); codeOf(err) != "UNKNOWN_TOPIC" { // some acts have done that
		h.said("delete topic", err)
	}
	h.said("close", c.Close())
}

// said holds an error of the SDK against the codes that it may have, and reports
// whether there was none. After one the act is lost.
func (h *handled) said(what string, err error, may ...string) bool {
	if err == nil {
		return !h.lost
	}
	var e *client.Error
	code := ""
	if errors.As(err, &e) {
		code = e.Code
	}
	// What no time was left for, and what nobody could answer meanwhile.
	always := []string{"CONTEXT_ENDED", "UNAVAILABLE", "NOT_LEADER", "OVERLOADED", "UNKNOWN_RESULT", "DEADLINE", "CLOSED"}
	h.check(slices.Contains(always, code) || slices.Contains(may, code), "%s: %v; it may be %v", what, err, may)
	h.lost = true
	return false
}

// refused holds an error that must be there against the codes that it may have.
func (h *handled) refused(what string, err error, may ...string) {
	if err == nil {
		h.check(h.loose(), "%s: no error, and it must be %v", what, may)
		return
	}
	if h.said(what, err, may...); slices.Contains(may, codeOf(err)) {
		h.lost = false
	}
}

func codeOf(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// operatorBySDK looks at everything and sets what can be set.
func (m *meddler) operatorBySDK() {
	m.withSDK(func(h *handled, topic string) {
		a := h.c.Admin()
		at := client.TopicPartition{Topic: topic, Partition: 1}
		_, err := a.DescribeTopic(h.ctx, topic)
		h.said("describe topic", err, "UNKNOWN_TOPIC") // to a coordinator that is behind
		_, err = a.DescribeTopic(h.ctx, "meddle.nothing")
		h.refused("describe a topic that is not", err, "UNKNOWN_TOPIC")
		_, err = a.ListTopics(h.ctx, 3, "")
		h.said("list topics", err)
		parts, err := a.DescribePartitions(h.ctx, topic)
		h.said("describe partitions", err)
		h.check(err != nil || len(parts) == 2, "a topic of 2 partitions has %d", len(parts))
		_, err = a.DescribeProducers(h.ctx, at)
		h.said("describe producers", err)
		_, err = a.DescribeProducers(h.ctx, client.TopicPartition{Topic: topic, Partition: 9})
		h.refused("describe producers of no partition", err, "UNKNOWN_PARTITION")

		group := m.name("g")
		h.said("reset positions", a.ResetGroupOffsets(h.ctx, group, client.Offsets{at: 7}))
		offsets, err := a.GroupOffsets(h.ctx, group)
		h.said("positions", err)
		h.check(err != nil || offsets[at] == 7 || h.loose(), "position %d after it was set to 7", offsets[at])
		h.refused("a position that cannot be", a.ResetGroupOffsets(h.ctx, group, client.Offsets{at: -7}), "INVALID_ARGUMENT")
		_, err = a.DescribeGroup(h.ctx, group)
		h.said("describe group", err)
		_, err = a.ListGroups(h.ctx, 2, "")
		h.said("list groups", err)
		h.said("delete group", a.DeleteGroup(h.ctx, group), "UNKNOWN_GROUP")
		_, err = a.DescribeCluster(h.ctx)
		h.said("describe cluster", err)
		_, err = a.NodeStatus(h.ctx, pick(m, m.Coordinators...))
		h.said("node status", err)
	})
}

// transactionsBySDK has an operator meddle with a producer that works.
func (m *meddler) transactionsBySDK() {
	m.withSDK(func(h *handled, topic string) {
		a := h.c.Admin()
		id := m.name("id")
		p, err := h.c.InitTransactions(h.ctx, id)
		if !h.said("init transactions", err) {
			return
		}
		tx, err := p.Begin(h.ctx)
		if !h.said("begin", err) {
			return
		}
		h.said("send", tx.Send(h.ctx, &client.Record{Topic: topic, Value: []byte("1")}))
		h.said("flush", tx.Flush(h.ctx))
		d, err := a.DescribeTransaction(h.ctx, id)
		h.said("describe transaction", err)
		_, err = a.DescribeProducer(h.ctx, d.GetProducerId())
		h.said("describe producer", err)
		_, err = a.ListTransactions(h.ctx, &oncelogv1.ListTransactionsRequest{IdContains: id})
		h.said("list transactions", err)
		ended := pick(m, "abort", "fence", "delete", "nothing")
		switch ended {
		case "abort":
			_, err = a.AbortTransaction(h.ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: id, WaitApplied: true})
		case "fence":
			_, err = a.FenceProducer(h.ctx, id)
		case "delete":
			err = a.DeleteTransactionalID(h.ctx, id)
		default:
			err = nil
		}
		h.said(ended, err, "UNKNOWN_PRODUCER", "INVALID_TXN", "TRANSACTION_IN_PROGRESS")
		err = tx.Commit(h.ctx)
		if ended == "nothing" {
			h.said("commit", err, "CONFLICT", "TX_TIMEOUT", "OUTCOME_UNKNOWN")
		} else if err != nil { // an abort that found nothing open has aborted nothing
			h.refused("commit after "+ended, err, "CONFLICT", "FENCED", "UNKNOWN_PRODUCER", "TXN_ENDED", "FORGOTTEN", "TX_TIMEOUT", "OUTCOME_UNKNOWN")
		}
		_, err = h.c.Outcome(h.ctx, tx.ID())
		h.said("outcome", err)
		h.said("close producer", p.Close(), "CONFLICT", "FENCED", "UNKNOWN_PRODUCER", "FORGOTTEN")
	})
}

// groupBySDK has a member of a group read a topic that goes under it.
func (m *meddler) groupBySDK() {
	m.withSDK(func(h *handled, topic string) {
		p, err := h.c.IdempotentProducer(h.ctx)
		if !h.said("idempotent producer", err) {
			return
		}
		for range m.upTo(4) {
			h.said("send", p.Send(h.ctx, &client.Record{Topic: topic, Value: []byte("1")}))
		}
		h.said("flush", p.Flush(h.ctx))
		group := m.name("g")
		k, err := h.c.Consume(h.ctx, group, []string{topic}, client.WithManualAssignment())
		if !h.said("consume", err) {
			return
		}
		b, err := k.Poll(h.ctx)
		if h.said("poll", err) && m.chance(2) {
			h.said("commit positions", k.Commit(h.ctx, b), "STALE_MEMBER")
		}
		ends, err := k.EndOffsets(h.ctx)
		h.said("end offsets", err)
		_, err = k.Lag(h.ctx)
		h.said("lag", err)
		_, err = k.OffsetsAt(h.ctx, m.Runtime.Wall())
		h.said("offsets at a time", err)
		k.Seek(client.Offsets{{Topic: topic, Partition: 0}: 0, {Topic: topic, Partition: 1}: 0})
		h.said("read to the end", k.ReadToEnd(h.ctx, func(*client.Batch) error { return nil }))
		h.check(k.Reached(ends), "the end was read, and is not reached")
		h.said("delete topic", h.c.Admin().DeleteTopic(h.ctx, topic), "UNKNOWN_TOPIC")
		for range 3 {
			if _, err = k.Poll(h.ctx); err != nil {
				break
			}
		}
		h.refused("poll a topic that is gone", err, "UNKNOWN_PARTITION", "UNKNOWN_TOPIC")
		h.said("close consumer", k.Close(), "UNKNOWN_PARTITION", "UNKNOWN_TOPIC")
		h.said("close producer", p.Close(), "UNKNOWN_PARTITION", "UNKNOWN_TOPIC")
		h.said("delete group", h.c.Admin().DeleteGroup(h.ctx, group), "UNKNOWN_GROUP", "GROUP_NOT_EMPTY")
	})
}
